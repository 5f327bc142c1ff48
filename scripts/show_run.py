"""Prints what a run of ``scripts/demo`` left behind: its metrics, and where its files lie."""

import json
import sys
from pathlib import Path


def show(scores: dict) -> None:
    """Print the numbers among scores, without their spread."""
    for name, value in scores.items():
        if isinstance(value, (int, float)) and not name.endswith("_std"):
            print(f"  {name:38} {value:.4g}")


def main(run: Path) -> None:
    results = json.loads((run / "metrics.json").read_text())["results"]
    print(results.pop("protocol", "protocol unknown"))
    notes = results.pop("notes", "")
    modes = results.pop("modes", {})
    show(results)
    for name, scores in modes.items():
        if scores["poses"] != "given":  # those are the numbers above
            print(f"{name}: poses {scores['poses']}")
            show(scores)
    if notes:
        print(notes)
    checkpoints = sorted((run / "nerfstudio_models").glob("*.ckpt"))
    print(f"\nvideo       {run / 'video.mp4'}")
    print(f"pictures    {run / 'pictures'}")
    print(f"checkpoint  {checkpoints[-1] if checkpoints else 'none'}")
    print(f"\nlook at it  .venv/bin/ns-viewer --load-config {run / 'config.yml'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
