"""Tile lists and block masks against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")

from dyngs_plugins.raster import numba_backend
from dyngs_plugins.raster.kernels import binning, forward, tile
from dyngs_plugins.raster.kernels.threads import current_team

WIDTH, HEIGHT = 70, 37


def _splats(n: int, cameras: int, seed: int, elongated: float = 1.0) -> dict[str, Tensor]:
    """Gaussians on the image plane, some of them partly or wholly outside, some too faint or of radius 0."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    means = (uniform(cameras, n, 2) * 1.4 - 0.2) * torch.tensor([WIDTH, HEIGHT])
    angle, major = 3.1416 * uniform(cameras, n), 1 + 8 * elongated * uniform(cameras, n)
    minor = 0.6 + 2 * uniform(cameras, n)
    cos, sin = torch.cos(angle), torch.sin(angle)
    conics = torch.stack(
        [
            (cos / major) ** 2 + (sin / minor) ** 2,
            cos * sin * (major**-2 - minor**-2),
            (sin / major) ** 2 + (cos / minor) ** 2,
        ],
        dim=-1,
    )
    radii = torch.ceil(3 * torch.maximum(major, minor)).int()
    radii[uniform(cameras, n) < 0.1] = 0
    depths = torch.round(uniform(cameras, n) * n * 0.7) / n - 0.2  # ties, and some negative
    return {
        "means2d": means,
        "conics": conics,
        "opacities": uniform(cameras, n) ** 3,
        "radii": radii,
        "depths": depths,
    }


def _alphas(splats: dict[str, Tensor], camera: int) -> Tensor:
    """[n, height, width] in float64, before anything is skipped."""
    means, conics, opacities = (splats[name][camera].double() for name in ("means2d", "conics", "opacities"))
    x, y = torch.arange(WIDTH).double() + 0.5, torch.arange(HEIGHT).double() + 0.5
    dx, dy = means[:, 0, None, None] - x, means[:, 1, None, None] - y[:, None]
    a, b, c = conics.T[..., None, None]
    return opacities[:, None, None] * torch.exp(-0.5 * (a * dx**2 + c * dy**2) - b * dx * dy)


def _bin(splats: dict[str, Tensor]) -> tuple[binning.Lists, np.ndarray, np.ndarray]:
    cameras, n = splats["radii"].shape
    packed = binning.Splats(
        count=n,
        means2d=splats["means2d"].reshape(-1).numpy(),
        conics=splats["conics"].reshape(-1).numpy(),
        depths=splats["depths"].reshape(-1).numpy().view(np.uint32),
        opacities=splats["opacities"].reshape(-1).numpy(),
        radii=splats["radii"].reshape(-1).numpy(),
        opacities_per_camera=True,
    )
    return numba_backend._bin(current_team(), packed, cameras, WIDTH, HEIGHT)


@pytest.mark.parametrize(("n", "cameras"), [(1, 1), (90, 1), (500, 3), (9000, 2)])
def test_lists_hold_whoever_is_seen_nearest_first(n: int, cameras: int):
    splats = _splats(n, cameras, seed=n)
    lists, entries, rows = _bin(splats)
    columns, starts = lists.columns, lists.tile_starts
    assert sorted(rows.tolist()) == list(range(len(entries)))
    for camera in range(cameras):
        alphas = _alphas(splats, camera) if n <= 500 else None
        for number in range(lists.tiles_per_camera):
            at = camera * lists.tiles_per_camera + number
            ids = entries[starts[at] : starts[at + 1]] - camera * n
            depths = splats["depths"][camera, ids].numpy()
            keys = list(zip(depths.tolist(), ids.tolist(), strict=True))
            assert keys == sorted(keys), "nearest first, ties by index"
            left, top = 16 * (number % columns), 16 * (number // columns)
            if alphas is not None:
                seen = (alphas[:, top : top + 16, left : left + 16] >= 1 / 255).flatten(1).any(1)
                touched = _square_touches(splats, camera, left, top)
                needed = torch.nonzero(seen & touched & (splats["radii"][camera] > 0)).flatten().tolist()
                assert set(needed) <= set(ids.tolist())
                assert touched[ids].all(), "beyond its square a Gaussian is not drawn"
    # The rows of one Gaussian are neighbours.
    for splat in np.unique(entries):
        own = np.sort(rows[entries == splat])
        first, number = lists.row_starts[splat], lists.tiles[splat]
        np.testing.assert_array_equal(own, np.arange(first, first + number))


def _square_touches(splats: dict[str, Tensor], camera: int, left: int, top: int) -> Tensor:
    """gsplat's rule: the square of half side `radius` reaches into the tile."""
    mean, radius = splats["means2d"][camera], splats["radii"][camera][:, None]
    corner = torch.tensor([left, top])
    first, last = torch.floor((mean - radius) / 16), torch.ceil((mean + radius) / 16)
    return ((first <= corner / 16) & (corner / 16 < last)).all(dim=-1)


@pytest.mark.parametrize("elongated", [0.2, 1.0, 12.0])
def test_masks_hold_every_block_that_is_seen_and_few_others(elongated: float):
    splats = _splats(400, 1, seed=3, elongated=elongated)
    lists, entries, rows = _bin(splats)
    source = tile.Source(
        count=400,
        channels=1,
        columns=lists.columns,
        tiles_per_camera=lists.tiles_per_camera,
        roots=lists.roots,
        tile_starts=lists.tile_starts,
        entries=entries,
        entry_rows=rows,
        masks=np.empty(len(entries), np.int32),
        colors=np.ones(400, np.float32),
        colors_per_camera=False,
    )
    pixels = WIDTH * HEIGHT
    picture = forward.Picture(
        1, WIDTH, HEIGHT, np.float32(0.999), np.float32(1e-4), *(np.empty(pixels, np.float32) for _ in range(3))
    )
    forward.composite_forward(current_team(), source, picture, np.zeros(4, np.float32), None)
    padded = torch.zeros(400, 48, 80, dtype=torch.float64)
    padded[:, :HEIGHT, :WIDTH] = _alphas(splats, 0)
    blocks = padded.reshape(400, 12, 4, 20, 4).amax(dim=(2, 4))
    wasted = reached = 0
    for number in range(lists.tiles_per_camera):
        row, column = number // lists.columns, number % lists.columns
        for entry in range(lists.tile_starts[number], lists.tile_starts[number + 1]):
            for block in range(16):
                best = blocks[entries[entry], 4 * row + block // 4, 4 * column + block % 4]
                hit = bool(source.masks[entry] & (1 << block))
                assert hit or best < 1 / 255
                reached += hit
                # Blocks outside the image have no pixels to be seen at.
                outside = 16 * row + 4 * (block // 4) >= HEIGHT or 16 * column + 4 * (block % 4) >= WIDTH
                wasted += hit and best < 0.995 / 255 and not outside
    # Left over are ellipses that pass between pixel centres.
    assert wasted <= 0.05 * reached
