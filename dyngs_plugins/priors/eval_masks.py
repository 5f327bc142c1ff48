"""Masks of held-out frames, so that metrics can be taken on the moving region. Made last, kept under eval/.

A held-out image is compared with its nearest training frames by flow; their masks are carried along it and cut along
the held-out image's edges. Nothing of this reaches training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool

from dyngs_plugins.priors.clip_files import read_json, write_json
from dyngs_plugins.priors.prepared import PreparedClip
from dyngs_plugins.priors.prior_kinds import KINDS
from dyngs_plugins.priors.process import prior_inputs
from dyngs_plugins.priors.progress import Track
from dyngs_plugins.priors.providers.base import PriorProvider
from dyngs_plugins.priors.providers.flow_math import warp
from dyngs_plugins.priors.providers.inputs import PriorInputs
from dyngs_plugins.priors.providers.masks_epipolar import clean, grab_cut
from dyngs_plugins.priors.som_files import read_mask, write_mask

LABEL = "made by dyngs process: masks of the nearest training frames carried along flow; not ground truth"


def make_eval_masks(clip: PreparedClip, providers: Mapping[str, PriorProvider], track: Track, memory_gb: float) -> int:
    """Write eval/masks/NAME.png for held-out frames of our own making that lack one, and name them in eval.json.

    Returns:
        how many were made. Views with a mask, and views of other cameras, are left alone.
    """
    record_file = clip.root / "eval" / "eval.json"
    if not record_file.is_file():
        return 0
    record = read_json(record_file, "evaluation list")
    lacking = {view["image"]: view for view in record["views"] if not view.get("mask")}
    made = 0
    for training, everything in zip(clip.training, clip.everything, strict=True):
        names = [_relative(clip.root, file) for file in everything.image_files]
        held = [i for i, name in enumerate(names) if name in lacking]
        if not held:
            continue
        kinds = {
            name: kind(clip.root, everything.name, everything.stems, everything.size) for name, kind in KINDS.items()
        }
        inputs = prior_inputs(everything, kinds, providers, memory_gb, readable=())
        masks = clip.root / KINDS["masks"].folder_name / training.name
        known = {i: masks / f"{file.stem}.png" for i, file in enumerate(everything.image_files)}
        known = {i: path for i, path in known.items() if everything.image_files[i] in training.image_files}
        for i in track(held, f"{everything.name}: masks of held-out frames"):
            name = f"masks/{Path(names[i]).stem}.png"
            if not (clip.root / "eval" / name).is_file():
                write_mask(clip.root / "eval" / name, carried_mask(inputs, i, known))
                made += 1
            lacking[names[i]]["mask"] = name
    if any(view.get("mask") for view in lacking.values()):
        write_json(record_file, {**record, "masks": LABEL})
    return made


def carried_mask(inputs: PriorInputs, i: int, masks: Mapping[int, Path], count: int = 4) -> Bool[np.ndarray, "h w"]:
    """The moving pixels of frame i from the mask files of the `count` nearest frames that have one."""
    nearest = sorted(masks, key=lambda j: (abs(j - i), j))[:count]
    total = np.zeros(inputs.frames.size, np.float32)
    weight = np.full(inputs.frames.size, 1e-3, np.float32)
    for j in nearest:
        mask = read_mask(masks[j], inputs.frames.size).astype(np.float32)
        w = np.where(inputs.flow_error(i, j) < 1.5, 1.0, 0.05).astype(np.float32) / abs(i - j)
        total += w * warp(mask, inputs.flow(i, j))
        weight += w
    share = total / weight
    moving = share > 0.5
    if not moving.any():
        return moving
    band = np.ones((9, 9), np.uint8)
    sure = cv2.erode((share > 0.8).astype(np.uint8), band) > 0
    outside = cv2.dilate((share > 0.3).astype(np.uint8), band) == 0
    labels = np.where(moving, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[sure], labels[outside] = cv2.GC_FGD, cv2.GC_BGD
    return clean(grab_cut(inputs.image(i), labels, iterations=2), min_area=0.0025)


def _relative(root: Path, file: Path) -> str:
    """The image's name as eval.json has it, or an empty text for training images."""
    base = root / "eval"
    return file.relative_to(base).as_posix() if base in file.parents else ""
