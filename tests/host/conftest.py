"""One small training through the host's own command, shared by every test of a host command."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest


@dataclass(frozen=True)
class TrainedRun:
    """A finished run of ``ns-train`` on a tiny sample clip. Read from it; write elsewhere."""

    config: Path
    """config.yml."""
    clip: Path
    method: str
    steps: int
    num_frames: int
    size: tuple[int, int]
    """Width and height of the images."""

    @property
    def folder(self) -> Path:
        return self.config.parent

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        return max((self.folder / "nerfstudio_models").glob("*.ckpt"))


def run_command(command: str, *arguments: object) -> None:
    """Run an installed command (``ns-train``, ``ns-eval``, ``dyngs``, ...) in this process, as its script would.

    Saves the 10 to 20 seconds that every fresh process spends on imports. A command that exits with an error raises
    SystemExit.
    """
    (script,) = importlib.metadata.entry_points(group="console_scripts", name=command)
    main = script.load()
    from nerfstudio.utils import writer  # after the script: on its own, this module imports itself in a circle

    # Writers and events of an earlier run in this process would be written to again.
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()
    with mock.patch.object(sys, "argv", [command, *map(str, arguments)]):
        main()


@pytest.fixture(scope="session")
def host() -> Callable[..., None]:
    """``host("ns-eval", "--load-config", path, ...)``: see ``run_command``."""
    return run_command


@pytest.fixture(scope="session")
def trained_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """dyn-som-small after 30 steps on 8 frames of 64x48, through ``ns-train`` and its command line.

    The sample's held-out camera and its ground-truth tracks are there. The picture is rough, but the objects move.
    """
    from dyngs_plugins.cli.sample import SampleOptions, sample

    folder = tmp_path_factory.mktemp("trained")
    method, steps, num_frames, size = "dyn-som-small", 30, 8, (64, 48)
    clip = folder / "clip"
    sample(clip, SampleOptions(frames=num_frames, width=size[0], height=size[1], supersample=2))
    run_command(
        "ns-train",
        method,
        *("--data", clip),
        *("--output-dir", folder / "outputs", "--experiment-name", "tiny", "--timestamp", "run"),
        *("--vis", "tensorboard"),
        *("--max-num-iterations", steps, "--steps-per-eval-image", 0),
        *("--pipeline.datamanager.frames-per-batch", 2, "--pipeline.datamanager.targets-per-frame", 2),
        *("--pipeline.model.initialise.num-dynamic", 300, "--pipeline.model.initialise.num-static", 600),
        *("--pipeline.model.prefit-steps", 20),
    )
    run = TrainedRun(folder / "outputs" / "tiny" / method / "run" / "config.yml", clip, method, steps, num_frames, size)
    assert run.config.is_file(), f"ns-train left no {run.config}"
    return run
