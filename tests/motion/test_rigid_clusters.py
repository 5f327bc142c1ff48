"""Rigid motions of clusters: reference frames, frames without support, what was not seen."""

import math

import pytest
import torch

from dyngs_plugins.motion.rigid_clusters import (
    RigidMotion,
    best_guide,
    canonical_places,
    carry_ends,
    misfit,
    rigid_motions,
)
from dyngs_plugins.motion.rotations import matrix_to_6d

T, HALF = 9, 5
EVERY, LATE = torch.ones(T, dtype=torch.bool), torch.arange(T) >= HALF
POINTS = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


def turning(speed: float = 0.2, solved: torch.Tensor = EVERY) -> RigidMotion:
    """A turn about z while going along x, relative to frame 0."""
    angles = speed * torch.arange(T)
    rotation = torch.zeros(T, 3, 3)
    for t, angle in enumerate(angles.tolist()):
        c, s = math.cos(angle), math.sin(angle)
        rotation[t] = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    return RigidMotion(matrix_to_6d(rotation), angles[:, None] * torch.tensor([1.0, 0, 0]), solved)


def waiting() -> RigidMotion:
    """The same from the middle on, and standing still before: what a late cluster knows of itself."""
    whole = turning(solved=LATE)
    rotation, translation = whole.rotation.clone(), whole.translation.clone()
    rotation[:HALF], translation[:HALF] = rotation[HALF], translation[HALF]
    return RigidMotion(matrix_to_6d(rotation), translation, LATE)


def assert_same(a: RigidMotion, b: RigidMotion) -> None:
    torch.testing.assert_close(a.rotation, b.rotation, atol=1e-5, rtol=0)
    torch.testing.assert_close(a.translation, b.translation, atol=1e-5, rtol=0)


def test_another_reference_frame_is_the_same_motion():
    motion = turning()
    path = motion.path(POINTS)
    torch.testing.assert_close(motion.relative_to(4).path(path[:, 4]), path, atol=1e-5, rtol=0)
    assert_same(motion.relative_to(4).relative_to(0), motion)


def test_going_back_undoes_the_motion():
    motion, frames = turning(), torch.arange(40) % T
    places = motion.path(POINTS)[torch.arange(40), frames]
    torch.testing.assert_close(motion.back(places, frames), POINTS, atol=1e-5, rtol=0)


def test_rigid_motions_are_recovered_and_frames_without_support_lie_between_their_neighbours():
    path, weights = turning().path(POINTS), torch.ones(40, T)
    assert_same(rigid_motions(path, weights, weights, 0), turning())
    weights[:, 5] = 0
    found = rigid_motions(path, weights, torch.ones(40, T), 3)
    torch.testing.assert_close(found.translation[5], (found.translation[4] + found.translation[6]) / 2)
    assert found.solved.tolist() == [t != 5 for t in range(T)]


def test_misfit_is_zero_for_the_true_motion_and_a_length_otherwise():
    path, seen, start = turning().path(POINTS), torch.ones(40, T, dtype=torch.bool), torch.arange(40) % T
    assert float(misfit(turning(), path, seen, start).max()) < 1e-5
    shifted = path + torch.arange(T)[:, None] * torch.tensor([0, 0, 0.5])
    still = misfit(None, POINTS[:, None] + shifted[:1] - path[:1], seen, torch.zeros(40, dtype=torch.long))
    torch.testing.assert_close(still, torch.full((40,), 0.5 * (T - 1) / 2))


def test_a_cluster_that_is_seen_late_was_carried_by_its_body_before():
    path, visible = turning().path(POINTS), LATE.expand(40, T)
    carried = carry_ends(waiting(), [turning(-0.3), turning()], path, visible)
    assert_same(carried, turning())
    rotation, translation = turning().rotation, turning().translation
    rotation[HALF:], translation[HALF:] = rotation[HALF - 1].clone(), translation[HALF - 1].clone()
    early = RigidMotion(matrix_to_6d(rotation), translation, ~LATE)
    assert_same(carry_ends(early, [turning()], path, ~visible), turning())


def test_what_moves_unlike_everything_else_waits():
    path, visible = turning().path(POINTS), LATE.expand(40, T)
    assert best_guide([turning(-0.3)], path, visible) is None
    assert_same(carry_ends(waiting(), [turning(-0.3)], path, visible), waiting())


def test_a_guide_must_have_been_seen_together_with_the_tracks():
    """With half of them at least."""
    early, path, visible = turning(solved=~LATE), turning().path(POINTS), LATE.repeat(40, 1)
    assert best_guide([early], path, visible) is None
    visible[:19] = True
    assert best_guide([early], path, visible) is None
    visible[:20] = True
    assert best_guide([early], path, visible) is early


@pytest.mark.parametrize("frames", [LATE, ~LATE, torch.arange(T) == 7])
def test_tracks_are_carried_to_a_frame_that_does_not_show_them(frames):
    """By the motion that fits; one frame alone fits any, and the nearer cluster decides."""
    other = POINTS + torch.tensor([30.0, 0, 0])
    points = torch.cat([turning().path(POINTS), turning(-0.3).path(other)])
    visible = torch.ones(80, T, dtype=torch.bool)
    hidden = torch.arange(80) % 4 == 0
    visible[hidden] = frames
    canonical = 0 if bool(frames[-1]) or bool(frames[7]) else T - 1
    motions = [turning().relative_to(canonical), turning(-0.3).relative_to(canonical)]
    clusters = [(torch.arange(80) < 40) & ~hidden, (torch.arange(80) >= 40) & ~hidden]
    truth = points[:, canonical].clone()
    points[~visible] = 0.0
    found = canonical_places(points, visible, motions, clusters, canonical)
    torch.testing.assert_close(found, truth, atol=1e-4, rtol=0)
