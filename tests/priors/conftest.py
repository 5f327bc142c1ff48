"""A clip whose every number is known: a square slides before a wall, a turning camera looks on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from dyngs_plugins.priors import som_files
from dyngs_plugins.priors.tracks import SomTrackFiles
from dyngs_plugins.priors.views import ClipViews, Priors

sys.path.insert(0, str(Path(__file__).parent))  # for tiny_networks, which the tests of learned providers share

WALL, SQUARE, HALF = 4.0, 2.5, 0.6


@dataclass(frozen=True)
class SlidingSquare:
    """World axes are OpenCV's. The wall is z = 4, the square z = 2.5; its centre moves along x."""

    frames: int = 12
    width: int = 48
    height: int = 36
    focal: float = 40.0
    hidden: tuple[int, ...] = ()
    """Frames without the square."""

    @property
    def K(self) -> np.ndarray:
        return np.array([[self.focal, 0, self.width / 2], [0, self.focal, self.height / 2], [0, 0, 1.0]])

    def world_T_camera(self, t: int) -> np.ndarray:
        angle = 0.15 * np.sin(t)
        c, s = np.cos(angle), np.sin(angle)
        pose = np.eye(4)
        pose[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        pose[:3, 3] = 0.05 * t, 0.02 * t, 0.0
        return pose

    def center(self, t: int) -> np.ndarray:
        return np.array([0.08 * t - 0.3, 0.05, SQUARE])

    def render(self, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image [h, w, 3] uint8, z-depth [h, w] and moving mask [h, w]."""
        y, x = np.mgrid[: self.height, : self.width]
        local = np.stack([(x + 0.5 - self.width / 2) / self.focal, (y + 0.5 - self.height / 2) / self.focal,
                          np.ones(x.shape)], -1)  # fmt: skip
        pose = self.world_T_camera(t)
        directions, origin = local @ pose[:3, :3].T, pose[:3, 3]
        wall, square = ((z - origin[2]) / directions[..., 2] for z in (WALL, SQUARE))
        offset = origin + square[..., None] * directions - self.center(t)
        mask = (np.abs(offset[..., :2]) < HALF).all(-1) & (t not in self.hidden)
        depth = np.where(mask, square, wall)
        points = np.where(mask[..., None], offset, origin + wall[..., None] * directions)
        colors = np.stack(
            [mask * 155 + 50, 127 + 80 * np.sin(3 * points[..., 0]), 127 + 80 * np.cos(4 * points[..., 1])], -1
        )
        return colors.astype(np.uint8), depth, mask

    def project(self, points: np.ndarray, t: int) -> np.ndarray:
        pose = self.world_T_camera(t)
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        return local[:, :2] / local[:, 2:] * self.focal + [self.width / 2, self.height / 2] - 0.5

    def queries(self, t: int, step: int = 2) -> tuple[np.ndarray, np.ndarray]:
        """Query pixels (x, y) of a frame, and the world points under them."""
        _, depth, mask = self.render(t)
        y, x = np.nonzero(mask)
        keep = (x % step == 0) & (y % step == 0)
        x, y = x[keep], y[keep]
        local = np.stack([(x + 0.5 - self.width / 2) / self.focal, (y + 0.5 - self.height / 2) / self.focal,
                          np.ones(len(x))], -1)  # fmt: skip
        pose = self.world_T_camera(t)
        return np.stack([x, y], -1).astype(float), (local * depth[y, x, None]) @ pose[:3, :3].T + pose[:3, 3]

    def tracks(self, query: int, target: int) -> np.ndarray:
        """Rows [x, y, o, d] of one pair file."""
        _, points = self.queries(query)
        xy = self.project(points + self.center(target) - self.center(query), target)
        inside = ((xy >= 0) & (xy <= [self.width - 1, self.height - 1])).all(1)
        hidden = target in self.hidden
        return np.column_stack([xy, np.full(len(xy), 10.0 if hidden else -10.0), np.where(inside, -10.0, 10.0)])

    def write(self, root: Path, sequence: str = "camera0") -> Path:
        """Write the clip in Shape of Motion's custom layout."""
        for t in range(self.frames):
            image, depth, mask = self.render(t)
            som_files.write_image(root / "images" / sequence / f"{t:05d}.png", image)
            som_files.write_mask(root / "masks" / sequence / f"{t:05d}.png", mask)
            som_files.write_disparity(root / "aligned_depth_anything" / sequence / f"{t:05d}.npy", 1.0 / depth)
            for target in range(self.frames):
                name = f"{t:05d}_{target:05d}.npy"
                som_files.write_track_pair(root / "bootstapir" / sequence / name, self.tracks(t, target))
        poses = np.stack([self.world_T_camera(t) for t in range(self.frames)])
        intrinsics = (self.focal, self.focal, self.width / 2, self.height / 2)
        shape = (self.height, self.width)
        som_files.write_cameras(
            root / "droid_recon" / f"{sequence}.npy", poses, intrinsics, shape, range(0, self.frames, 3)
        )
        return root

    def views(self, root: Path, sequence: str = "camera0", keep: tuple[int, ...] | None = None, **priors) -> ClipViews:
        """Views of (some frames of) the written clip, in the world of its files."""
        kept = tuple(range(self.frames)) if keep is None else keep
        names = tuple(f"{t:05d}" for t in kept)
        settings = {"depth_median": 1, "mask_erosion": 1} | priors
        return ClipViews(
            camera_T_world=torch.from_numpy(np.stack([np.linalg.inv(self.world_T_camera(t)) for t in kept])).float(),
            K=torch.from_numpy(self.K).float().expand(len(kept), 3, 3),
            width=self.width,
            height=self.height,
            frame_index=torch.tensor(kept),
            camera_index=torch.zeros(len(kept), dtype=torch.long),
            num_frames=self.frames,
            image_files=tuple(root / "images" / sequence / f"{name}.png" for name in names),
            priors=Priors(
                depth_files=tuple(root / "aligned_depth_anything" / sequence / f"{name}.npy" for name in names),
                mask_files=tuple(root / "masks" / sequence / f"{name}.png" for name in names),
                tracks=SomTrackFiles((root / "bootstapir" / sequence,) * len(kept), names),
                **settings,
            ),
            keyframes=tuple(range(0, len(kept), 3)),
        )


@pytest.fixture(scope="session")
def sliding_square(tmp_path_factory) -> tuple[SlidingSquare, Path]:
    """The scene and the folder it is written in; do not write there."""
    scene = SlidingSquare()
    return scene, scene.write(tmp_path_factory.mktemp("sliding_square"))


@pytest.fixture(scope="session")
def square_with_gap(tmp_path_factory) -> tuple[SlidingSquare, Path]:
    """Six frames, in the third of which the square is gone: an empty mask, no query pixels, no depth of it."""
    scene = SlidingSquare(frames=6, hidden=(2,))
    return scene, scene.write(tmp_path_factory.mktemp("square_with_gap"))
