"""Frames in which a track is not seen."""

import torch

from dyngs_plugins.motion.track_gaps import best_seen, interpolate_tracks, seen_span

VISIBLE = torch.tensor([[False, True, False, False, True, False], [False] * 6])


def test_interpolation_is_linear_inside_and_held_at_the_ends():
    points = torch.arange(6.0)[None, :, None].repeat(1, 1, 3) ** 2
    filled = interpolate_tracks(points, VISIBLE[:1])[0, :, 0]
    torch.testing.assert_close(filled, torch.tensor([1.0, 1.0, 6.0, 11.0, 16.0, 16.0]))


def test_a_span_reaches_from_the_first_to_the_last_frame_that_shows_a_track():
    assert seen_span(VISIBLE).tolist() == [[False, True, True, True, True, False], [False] * 6]


def test_the_best_frame_sees_the_most_tracks():
    assert best_seen(torch.tensor([[True, True, False], [False, True, True]])) == 1
