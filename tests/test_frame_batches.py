"""Tracks of a batch: every row of theirs belongs to one query pixel, one target frame and one camera."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dyngs_plugins.frame_batches import FrameBatches, TrackBatch
from dyngs_plugins.loss_context import gather_tracks
from dyngs_plugins.priors.cache import MemoryCache
from dyngs_plugins.priors.tracks import TrackObservations, TrackStore

PIXELS = {0: [(0, 0), (4, 2)], 1: [], 2: [(1, 3)], 3: [(2, 1), (3, 0), (0, 3)]}
REACHED = {0: [0, 1, 2, 3], 1: [1], 2: [0, 2, 3], 3: [0, 1, 3]}
HEIGHT, WIDTH = 4, 5


class Tracks(TrackStore):
    """What is known of a pixel says where it is from: see `told`."""

    def targets(self, query: int) -> Tensor:
        return torch.tensor(REACHED[query])

    def query_points(self, query: int) -> Tensor:
        return torch.tensor(PIXELS[query], dtype=torch.float32).reshape(-1, 2)

    def observe(self, query: int, target: int, rows: Tensor | None = None) -> TrackObservations:
        pixels = self.query_points(query)
        told = torch.tensor([100.0 * query + 10 * x + y for x, y in pixels.tolist()])
        visible = torch.full((len(told),), (query + target) % 2 == 0)
        xy = torch.stack([told, torch.full_like(told, target)], dim=1)
        return TrackObservations(xy, visible, ~visible, torch.full_like(told, 0.5))


def batch_of(chosen: list[int], targets_per_frame: int) -> dict[str, Any]:
    views = SimpleNamespace(
        tracks=Tracks(),
        cache=MemoryCache(0),
        priors=SimpleNamespace(depth_files=None),
        frame_index=10 * torch.arange(4),
        times=torch.arange(4) / 4,
        camera_T_world=torch.eye(4) * torch.arange(4.0)[:, None, None],
        K=torch.eye(3) * torch.arange(4.0)[:, None, None],
    )
    dataset: Any = SimpleNamespace(views=views)
    batches = FrameBatches(dataset, len(chosen), targets_per_frame, seed=0)
    return {"tracks": batches._tracks_of(chosen), "frame_index": views.frame_index[chosen]}


def rendered(batch: int, targets: int) -> Tensor:
    """An image of which every number says where it is: batch, y, x, target, component."""
    return torch.arange(batch * HEIGHT * WIDTH * targets * 3.0).reshape(batch, HEIGHT, WIDTH, targets * 3)


def test_every_track_is_looked_up_at_its_own_pixel_target_and_camera():
    chosen = [3, 0, 2]
    batch = batch_of(chosen, 3)
    tracks: TrackBatch = batch["tracks"]
    images = rendered(3, 3)
    found = gather_tracks(images, batch, num_frames=40)
    assert found is not None
    row = 0
    for place, view in enumerate(chosen):
        for x, y in PIXELS[view]:
            for n, target in enumerate(tracks.target_views[place].tolist()):
                assert target in REACHED[view]
                assert found.points[row].tolist() == images[place, y, x, 3 * n : 3 * n + 3].tolist()
                assert found.xy[row].tolist() == [100 * view + 10 * x + y, target]
                assert float(found.K[row, 0, 0]) == target
                gap = torch.tensor(-2 * 10 * abs(target - view) / 40).exp()
                assert float(found.weight[row]) == pytest.approx(0.5 * float(gap) * ((view + target) % 2 == 0))
                row += 1
    assert len(found.points) == row == 18
    assert torch.equal(tracks.target_times, tracks.target_frames / 40)
    assert torch.equal(tracks.target_camera_T_world[..., 0, 0], tracks.target_views.float())


@pytest.mark.parametrize(("chosen", "targets"), [([0, 3, 2], 3), ([0, 1, 3], 1), ([1], 1)])
def test_frames_with_fewer_targets_or_without_pixels(chosen, targets):
    """All frames of a batch have as many targets as the one with the fewest, without one of them twice."""
    batch = batch_of(chosen, 4)
    tracks: TrackBatch = batch["tracks"]
    pixels = sum(len(PIXELS[view]) for view in chosen)
    assert tracks.target_views.shape == (len(chosen), targets)
    assert all(len(set(row)) == targets for row in tracks.target_views.tolist())
    assert tracks.xy.shape == (pixels, targets, 2)
    found = gather_tracks(rendered(len(chosen), targets), batch, num_frames=40)
    assert (found is None) == (pixels == 0)
    assert found is None or len(found.points) == pixels * targets
