"""Trails of moving points drawn over a render: the quickest way to see whether the motion is right."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.losses.tracks import project
from dyngs_plugins.scene import Scene, Views

TRAIL_FRAMES = 8


@torch.no_grad()
def draw_tracks(
    rgb: Float[Tensor, "h w 3"], scene: Scene, views: Views, num_frames: int, points: int
) -> Float[Tensor, "h w 3"]:
    """The render with the paths of up to ``points`` dynamic Gaussians over the last frames, seen by this camera.

    Which Gaussians are drawn depends on their order alone, so that trails do not flicker from frame to frame.
    """
    dynamic = scene.dynamic
    if dynamic is None or len(dynamic) == 0 or points <= 0:
        return rgb
    opaque = (dynamic.raw["opacities"] > 0).nonzero().flatten()
    if opaque.numel() == 0:
        return rgb
    chosen = opaque[:: max(1, opaque.numel() // points)][:points]
    activated = dynamic.activated()
    subset = activated.select(chosen)
    step = 1.0 / max(num_frames - 1, 1)
    times = (views.time[0] - step * torch.arange(TRAIL_FRAMES - 1, -1, -1, device=views.time.device)).clamp(0, 1)
    world = scene.positions(subset, times)  # [trail, n, 3]
    camera_T_world, K = views.camera_T_world[0], views.K[0]
    camera = world @ camera_T_world[:3, :3].T + camera_T_world[:3, 3]
    pixels = (project(camera, K) - 0.5).cpu().numpy()
    in_front = (camera[..., 2] > 1e-3).all(0).cpu().numpy()
    canvas = np.ascontiguousarray((rgb.cpu().numpy() * 255).astype(np.uint8))
    limit = 4 * max(canvas.shape)
    for i in np.flatnonzero(in_front & (np.abs(pixels) < limit).all((0, 2))):
        color = tuple(255 * c for c in colorsys.hsv_to_rgb(i / len(chosen), 0.9, 1.0))
        line = np.round(pixels[:, i] * 8).astype(np.int32)[:, None]
        cv2.polylines(canvas, [line], False, color, 1, cv2.LINE_AA, shift=3)
        cv2.circle(canvas, tuple(int(c) for c in line[-1, 0]), 8, color, -1, cv2.LINE_AA, shift=3)
    return torch.from_numpy(canvas.astype(np.float32) / 255.0).to(rgb.device)
