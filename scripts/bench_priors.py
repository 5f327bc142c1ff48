"""How good and how fast the prior providers are, against the exact truth of a sample scene (or of given masks).

    python scripts/bench_priors.py make TRUTH                        # a folder that `dyngs sample TRUTH` made
    python scripts/bench_priors.py make TRUTH --cameras perturbed    # poses off by 1 % of the path, focal by 1 %
    python scripts/bench_priors.py make TRUTH --only masks           # the other kinds are the truth's
    python scripts/bench_priors.py score TRUTH CLIP                  # a folder that `dyngs process` made from its images
    python scripts/bench_priors.py score MASKS CLIP                  # MASKS: a folder of true masks, nothing else known

`make` runs the providers in memory and writes pictures to --out if asked to. Seconds per frame are
wall-clock time and, in brackets, time of the processor.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import tyro

from dyngs_plugins.hooks import find_provider
from dyngs_plugins.priors.cameras.rotation import align_sim3, nearest_rotation, trajectory_error
from dyngs_plugins.priors.clip_files import read_json
from dyngs_plugins.priors.previews import write_previews
from dyngs_plugins.priors.prior_kinds import KINDS
from dyngs_plugins.priors.process_options import DEFAULTS
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.som_files import read_cameras, read_mask, read_track_pair
from dyngs_plugins.priors.sources import read_clip
from dyngs_plugins.priors.tracks import parse_track_logits

Figures = dict[str, float]
ORDER = ("flow", "masks", "depth", "tracks")


@dataclass
class Truth:
    """What is known for sure about a clip; None where it is not."""

    stems: tuple[str, ...]
    masks: dict[str, np.ndarray]
    disparity: dict[str, np.ndarray] = field(default_factory=dict)
    world_T_camera: np.ndarray | None = None
    folder: Path | None = None

    def tracks(self, query: str, target: str) -> np.ndarray | None:
        path = (self.folder or Path()) / "bootstapir" / "camera0" / f"{query}_{target}.npy"
        return read_track_pair(path) if path.is_file() else None


def read_truth(root: Path) -> Truth:
    """A sample's ground truth, or a folder of masks."""
    if not (root / "masks" / "camera0").is_dir():
        files = sorted(root.glob("*.png"))
        if not files:
            raise ValueError(f"{root}: neither a sample (masks/camera0/) nor a folder of masks (*.png).")
        return Truth(tuple(f.stem for f in files), {f.stem: read_mask(f) for f in files})
    stems = tuple(sorted(f.stem for f in (root / "images" / "camera0").glob("*.png")))
    masks = {s: read_mask(root / "masks" / "camera0" / f"{s}.png") for s in stems}
    disparity = {s: np.load(root / "aligned_depth_anything" / "camera0" / f"{s}.npy") for s in stems}
    poses = read_cameras(root / "droid_recon" / "camera0.npy").world_T_camera.astype(np.float64)
    return Truth(stems, masks, disparity, poses, root)


# What is measured ------------------------------------------------------------------------------------------------------


def score_masks(truth: Truth, masks: dict[str, np.ndarray]) -> Figures:
    """Intersection over union, averaged over frames in which something moves."""
    values = []
    for stem, mask in masks.items():
        true = truth.masks[stem]
        mine = mask if mask.shape == true.shape else resize_mask(mask, true.shape)
        union = (mine | true).sum()
        values.append((mine & true).sum() / union if union else 1.0)
    return {"IoU": float(np.mean(values)), "worst IoU": float(np.min(values))}


def score_depth(truth: Truth, disparity: dict[str, np.ndarray], scale: float) -> Figures:
    """AbsRel: mean of |z / z_true - 1| after the cameras' scale, on still and on moving pixels."""
    error: dict[str, list[np.ndarray]] = {"still": [], "moving": []}
    unknown = []
    for stem, mine in disparity.items():
        known = mine > 0
        unknown.append(1.0 - known.mean())
        relative = np.abs(scale / np.maximum(mine, 1e-9) * truth.disparity[stem] - 1.0)
        error["still"].append(relative[known & ~truth.masks[stem]])
        error["moving"].append(relative[known & truth.masks[stem]])
    figures = {f"AbsRel {k}": float(np.concatenate(v).mean()) for k, v in error.items()}
    figures["median moving"] = float(np.median(np.concatenate(error["moving"])))
    return figures | {"unknown": float(np.mean(unknown))}


def score_tracks(truth: Truth, stems: tuple[str, ...], read: Callable[[int, int], np.ndarray | None]) -> Figures:
    """Share of truly visible points within 2 px; how many of those are called visible; how many calls are wrong."""
    total = dict.fromkeys(("visible", "near", "called", "claims", "false"), 0)
    for q, query in enumerate(stems):
        own, true_own = read(q, q), truth.tracks(query, query)
        if own is None or true_own is None or not len(own):
            continue
        # Both are grids of moving pixels; where mine has no point at a true one's pixel, that one is not counted.
        place = {(int(x), int(y)): k for k, (x, y) in enumerate(own[:, :2].round())}
        pairs = [(place[xy], k) for k, xy in enumerate(map(tuple, true_own[:, :2].astype(int))) if xy in place]
        if not pairs:
            continue
        a, b = np.array(pairs).T
        for t, target in enumerate(stems):
            rows, true = read(q, t), truth.tracks(query, target)
            if t == q or rows is None or true is None:
                continue
            seen, claimed = true[b, 2] < 0, parse_track_logits(rows[a]).visible.numpy()
            seen &= true[b, 3] < 0
            near = np.linalg.norm(rows[a, :2] - true[b, :2], axis=-1) < 2.0
            counts = (seen, seen & near, seen & claimed, claimed, claimed & ~(seen & near))
            for key, flags in zip(total, counts, strict=True):
                total[key] += int(flags.sum())
    return {
        "within 2 px": total["near"] / max(total["visible"], 1),
        "called": total["called"] / max(total["visible"], 1),
        "wrong claims": total["false"] / max(total["claims"], 1),
    }


def score_poses(truth: Truth, stems: tuple[str, ...], world_T_camera: np.ndarray) -> tuple[Figures, float]:
    """ATE after the best similarity as a share of the path length, and true lengths per length of ours."""
    if truth.world_T_camera is None:
        return {}, 1.0
    index = [truth.stems.index(stem) for stem in stems]
    true = truth.world_T_camera[index]
    error, length = trajectory_error(world_T_camera, true)
    scale, _, _ = align_sim3(world_T_camera[:, :3, 3], true[:, :3, 3])
    return {"ATE / path": error / max(length, 1e-12)}, scale


def resize_mask(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Nearest pixels."""
    return cv2.resize(mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0


# Cameras ---------------------------------------------------------------------------------------------------------------


def perturbed(frames: FrameSequence, truth: Truth, share: float, seed: int = 0) -> FrameSequence:
    """Cameras as a solver would leave them.

    Positions are off by a slow drift of `share` of the path (root mean square), turned so that what they look at stays
    where it is in the image, and the focal length is off by `share`.
    """
    rng, count = np.random.default_rng(seed), len(frames)
    poses = frames.world_T_camera.copy()
    path = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum()
    t = np.linspace(0.0, 1.0, count)[:, None]
    drift = sum(rng.normal(size=3) * np.sin(2 * np.pi * (k * t + rng.random(3))) / k for k in (0.5, 1, 2, 4))
    drift = drift + 0.1 * rng.normal(size=(count, 3))
    drift *= share * path / np.sqrt((drift**2).sum(1).mean())
    height, width = frames.size
    xy = np.stack(np.meshgrid(np.linspace(1, width - 1, 9), np.linspace(1, height - 1, 7)), -1).reshape(-1, 2)
    for i, stem in enumerate(frames.stems):
        rays = np.c_[xy, np.ones(len(xy))] @ frames.inverse_K[i].T
        z = 1.0 / truth.disparity[stem][xy[:, 1].astype(int), xy[:, 0].astype(int)]
        world = (rays * z[:, None]) @ poses[i, :3, :3].T + poses[i, :3, 3]
        towards = world - (poses[i, :3, 3] + drift[i])
        towards, rays = (v / np.linalg.norm(v, axis=1)[:, None] for v in (towards, rays))
        poses[i, :3, :3] = nearest_rotation(towards.T @ rays)
        poses[i, :3, 3] += drift[i]
    K = frames.K.copy()
    K[:, 0, 0] *= 1 + share
    K[:, 1, 1] *= 1 + share
    return dataclasses.replace(frames, world_T_camera=poses, K=K)


# Commands --------------------------------------------------------------------------------------------------------------


def make(
    truth: tyro.conf.Positional[Path],
    cameras: Literal["exact", "perturbed"] = "exact",
    share: float = 0.01,
    only: tuple[str, ...] = ORDER,
    masks: str = DEFAULTS.masks,
    depth: str = DEFAULTS.depth,
    tracks: str = DEFAULTS.tracks,
    flow: str = DEFAULTS.flow,
    out: Path | None = None,
    memory_gb: float = 2.0,
) -> None:
    """Run providers on a sample's images and print their figures against its truth."""
    names = {"flow": flow, "masks": masks, "depth": depth, "tracks": tracks}
    known, frames = read_truth(truth), read_clip(truth).sequences[0]
    if cameras == "perturbed":
        frames = perturbed(frames, known, share)
    poses, scale = score_poses(known, frames.stems, frames.world_T_camera)
    report("cameras", cameras, poses)
    kinds = {name: KINDS[name](truth, frames.name, frames.stems, frames.size) for name in ORDER}
    made: dict[str, dict[int, dict[Any, Any]]] = {}

    def read(name: str) -> Callable[[int, int], np.ndarray | None]:
        def from_result(i: int, j: int) -> np.ndarray | None:
            if name not in made:
                return kinds[name].read(i, j) if name not in only else None
            return picked(name, made[name].get(i, {}), i, j)

        return from_result

    inputs = PriorInputs(frames, find_provider("flow", flow)(), {n: read(n) for n in ORDER}, memory_gb)  # type: ignore
    for name in ORDER:
        if name not in only:
            continue
        provider, start, spent = find_provider(name, names[name])(), time.perf_counter(), time.process_time()
        results: dict[int, dict[Any, Any]] = {}
        for i, arrays in provider.compute(inputs, range(len(frames))):
            results.setdefault(i, {}).update(arrays)
            if sys.stderr.isatty():
                print(f"\r{name} {len(results)}/{len(frames)}\r", end="", file=sys.stderr)
        seconds = (time.perf_counter() - start) / len(frames), (time.process_time() - spent) / len(frames)
        made[name] = results
        report(name, names[name], score(known, frames.stems, name, inputs, scale), *seconds)
    if out is not None:
        write_previews(out, inputs)


def picked(name: str, arrays: dict[Any, Any], i: int, j: int) -> np.ndarray | None:
    """Of a provider's result for frame i, what a reader of its files would get about frame i (and j)."""
    if name == "flow":
        return arrays.get("fwd" if j > i else "bwd") if abs(i - j) == 1 else None
    if name == "tracks":
        return arrays["tracks"].rows_in(j) if "tracks" in arrays else None
    return arrays.get({"masks": "mask", "depth": "disparity"}[name])


def score(truth: Truth, stems: tuple[str, ...], name: str, inputs: PriorInputs, scale: float) -> Figures:
    """The figures of one kind of prior."""
    if name == "masks":
        return score_masks(truth, {stem: inputs.mask(i) for i, stem in enumerate(stems)})
    if name == "depth" and truth.disparity:
        return score_depth(truth, {stem: inputs.disparity(i) for i, stem in enumerate(stems)}, scale)
    if name == "tracks" and truth.folder is not None:
        return score_tracks(truth, stems, lambda q, t: inputs.tracks(q, t))
    return {}


def score_clip(truth: tyro.conf.Positional[Path], clip: tyro.conf.Positional[Path]) -> None:
    """Print the figures of a clip folder's files against a sample's truth, or against a folder of true masks."""
    known, frames = read_truth(truth), read_clip(clip).sequences[0]
    kinds = {name: KINDS[name](clip, frames.name, frames.stems, frames.size) for name in ORDER}
    inputs = PriorInputs(frames, find_provider("flow", "dis")(), {n: k.read for n, k in kinds.items()})  # type: ignore
    poses, scale = score_poses(known, frames.stems, frames.world_T_camera)
    spent = stage_seconds(clip, frames.name)
    for name in ("cameras", *ORDER):
        record = (kinds[name].folder if name in kinds else Path()) / "provider.json"
        provider = read_json(record, "provider record")["provider"] if record.is_file() else ""
        figures = poses if name == "cameras" else score(known, frames.stems, name, inputs, scale)
        report(name, provider, figures, spent.get(name, 0.0) / len(frames))


def stage_seconds(clip: Path, sequence: str) -> dict[str, float]:
    """How long `dyngs process` took for each kind, from its summary; empty without one."""
    path = clip / "summary" / "timings.js"
    if not path.is_file():
        return {}
    times = json.loads(path.read_text().split("=", 1)[1].strip().rstrip(";"))
    return {key.split("/", 1)[1]: value for key, value in times.items() if key.startswith(f"{sequence}/")}


def report(kind: str, provider: str, figures: Figures, wall: float = 0.0, processor: float = 0.0) -> None:
    """One line; times are seconds per frame, 0 if unknown."""
    spent = f"{wall:.2f} s/frame" if wall else ""
    spent += f" ({processor:.2f})" if processor else ""
    words = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
    print(f"{kind:8s} {provider:12s} {spent:22s} {words}", flush=True)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"make": make, "score": score_clip})
