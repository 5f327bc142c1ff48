"""The weight-free providers against exact ground truth, on a small sample scene with two moving objects."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dyngs_plugins.priors.prior_kinds import KINDS
from dyngs_plugins.priors.providers.depth_multiview import MultiViewDepth
from dyngs_plugins.priors.providers.flow_dis import DISFlow
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.providers.masks_epipolar import EpipolarMasks
from dyngs_plugins.priors.providers.tracks_chained import ChainedTracks
from dyngs_plugins.priors.providers.tracks_klt import KLTTracks
from dyngs_plugins.priors.sources import read_source
from dyngs_plugins.priors.tracks import parse_track_logits
from dyngs_plugins.sample.clip import SampleSettings, build_clip
from dyngs_plugins.sample.som_writer import write_som

FRAMES = 12


@dataclass
class Truth:
    """The sample's frames, and its ground truth read from its files."""

    frames: FrameSequence
    flow: list[np.ndarray]
    flow_visible: list[np.ndarray]
    masks: np.ndarray
    disparity: np.ndarray
    tracks: dict[tuple[int, int], np.ndarray]
    estimated: PriorInputs
    """Where flow was estimated once for all tests."""

    def inputs(self, **read) -> PriorInputs:
        """Fresh inputs that remember nothing but flow."""
        return PriorInputs(self.frames, DISFlow(), {"flow": self.estimated.flow, **read})


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> Truth:
    root: Path = tmp_path_factory.mktemp("sample")
    write_som(build_clip(SampleSettings(frames=FRAMES, width=112, height=84, supersample=2, track_step=4)), root)
    frames = read_source(root).sequences[0]
    kinds = {name: kind(root, "camera0", frames.stems, frames.size) for name, kind in KINDS.items()}

    def stack(kind: str) -> np.ndarray:
        return np.stack([kinds[kind].read(i, i) for i in range(FRAMES)])

    flow_folder = root / "flow" / "camera0"
    return Truth(
        frames=frames,
        flow=[kinds["flow"].read(i, i + 1) for i in range(FRAMES - 1)],  # type: ignore[misc]
        flow_visible=[np.load(flow_folder / f"{frames.stems[i]}_fwd_visible.npy") for i in range(FRAMES - 1)],
        masks=stack("masks"),
        disparity=stack("depth"),
        tracks={(q, t): kinds["tracks"].read(q, t) for q in range(FRAMES) for t in range(FRAMES)},  # type: ignore[misc]
        estimated=PriorInputs(frames, DISFlow(), {}),
    )


def test_flow_end_point_error(truth):
    results = dict(DISFlow().compute(truth.inputs(), range(FRAMES)))
    assert set(results[0]) == {"fwd", "fwd_visible"}
    assert set(results[FRAMES - 1]) == {"bwd", "bwd_visible"}
    errors = [np.linalg.norm(results[i]["fwd"] - truth.flow[i], axis=-1) for i in range(FRAMES - 1)]
    visible = np.concatenate([e[v] for e, v in zip(errors, truth.flow_visible, strict=True)])
    assert visible.mean() < 0.3
    claimed = np.concatenate([e[results[i]["fwd_visible"]] for i, e in enumerate(errors)])
    assert np.quantile(claimed, 0.95) < 1.0, "what passes the round trip is right"


def test_long_flow_starts_from_composed_short_flows(truth):
    """Flow over four frames follows tracks that a direct search loses."""
    inputs = truth.inputs()
    queries, found = truth.tracks[1, 1], truth.tracks[1, 5]
    seen = found[:, 2] < 0
    x, y = queries[seen, :2].round().astype(int).T
    error = np.linalg.norm(queries[seen, :2] + inputs.flow(1, 5)[y, x] - found[seen, :2], axis=-1)
    direct = DISFlow().estimate(inputs.image(1), inputs.image(5))
    direct_error = np.linalg.norm(queries[seen, :2] + direct[y, x] - found[seen, :2], axis=-1)
    assert np.median(error) < 1.0
    assert (error < 2).mean() > (direct_error < 2).mean()


def test_masks_cover_both_moving_objects(truth):
    inputs = truth.inputs()
    masks = np.stack([arrays["mask"] for _, arrays in EpipolarMasks().compute(inputs, range(FRAMES))])
    assert masks.dtype == bool
    iou = [(m & g).sum() / (m | g).sum() for m, g in zip(masks, truth.masks, strict=True)]
    assert np.mean(iou) > 0.8
    assert min(iou) > 0.5


def test_masks_need_no_poses(truth):
    frames = dataclasses.replace(truth.frames, world_T_camera=np.tile(np.eye(4), (FRAMES, 1, 1)))
    inputs = PriorInputs(frames, DISFlow(), {"flow": truth.estimated.flow})
    provider = EpipolarMasks(vote_frames=3, mask_vote_frames=1)
    iou = [(a["mask"] & truth.masks[i]).sum() / (a["mask"] | truth.masks[i]).sum()
           for i, a in provider.compute(inputs, [4, 7])]  # fmt: skip
    assert np.mean(iou) > 0.6
    assert "pairs of images" in provider.notes()[0]


def test_mask_of_a_frame_does_not_depend_on_which_others_are_asked_for(truth):
    provider = EpipolarMasks(vote_frames=2, mask_vote_frames=1)
    together = dict(provider.compute(truth.inputs(), [5, 6]))
    ((_, alone),) = provider.compute(truth.inputs(), [6])
    np.testing.assert_array_equal(alone["mask"], together[6]["mask"])


def test_still_depth_is_right_and_moving_regions_stand_near_their_place(truth):
    inputs = truth.inputs(masks=lambda i, j: truth.masks[i])
    disparity = np.stack([arrays["disparity"] for _, arrays in MultiViewDepth().compute(inputs, range(FRAMES))])
    error = np.abs(truth.disparity / disparity - 1)
    assert error[~truth.masks].mean() < 0.05
    assert np.median(error[truth.masks]) < 0.2
    assert disparity.min() > 0


def test_depth_says_how_much_of_it_is_measured(truth):
    provider = MultiViewDepth(smooth_frames=0)
    assert provider.notes() == ()
    next(provider.compute(truth.inputs(masks=lambda i, j: truth.masks[i]), [5]))
    assert "% of the pixels that stand still are triangulated" in provider.notes()[0]
    assert set(provider.settings) == {field.name for field in dataclasses.fields(provider)}


def test_depth_for_a_camera_that_stands_still_is_refused_with_what_to_do(truth):
    frames = dataclasses.replace(truth.frames, world_T_camera=np.tile(np.eye(4), (FRAMES, 1, 1)))
    inputs = PriorInputs(frames, DISFlow(), {"flow": truth.estimated.flow})
    with pytest.raises(ValueError, match="stands still or only turns.*--depth"):
        next(MultiViewDepth().compute(inputs, [3]))


def test_masks_and_depth_of_large_frames_are_found_on_small_ones(truth):
    """At half the size in both directions; results have the frames' size and are nearly as good."""
    inputs = truth.inputs(masks=lambda i, j: truth.masks[i])
    ((i, mask),) = EpipolarMasks(working_side=64, vote_frames=2, mask_vote_frames=1).compute(inputs, [6])
    ((_, depth),) = MultiViewDepth(working_side=64).compute(inputs, [6])
    assert mask["mask"].shape == depth["disparity"].shape == truth.frames.size
    true = truth.masks[i]
    assert (mask["mask"] & true).sum() / (mask["mask"] | true).sum() > 0.65
    assert np.abs(truth.disparity[i] / depth["disparity"] - 1)[~true].mean() < 0.08


def test_depth_of_a_fully_masked_frame_is_refused(truth):
    inputs = truth.inputs(masks=lambda i, j: np.ones_like(truth.masks[i]))
    with pytest.raises(ValueError, match="Frame 00003: the whole image is masked"):
        next(MultiViewDepth().compute(inputs, [3]))


def test_a_fully_masked_frame_stops_only_itself(truth):
    """With its depth given, or another mask, its neighbours are made; they are smoothed without it."""
    whole = np.ones_like(truth.masks[3])
    inputs = truth.inputs(masks=lambda i, j: whole if i == 3 else truth.masks[i])
    results = dict(MultiViewDepth().compute(inputs, [1, 2, 4, 5]))
    assert sorted(results) == [1, 2, 4, 5]
    for i, arrays in results.items():
        error = np.abs(arrays["disparity"] / truth.disparity[i] - 1)[~truth.masks[i]]
        assert error.mean() < 0.1


def gather(results) -> dict[int, dict[int, np.ndarray]]:
    return {q: {t: part["tracks"].rows_in(t) for t in part["tracks"].frames} for q, part in results}


@pytest.mark.parametrize(
    ("provider", "within", "seen", "wrong"),
    [(ChainedTracks(stride=4), 0.75, 0.8, 0.08), (KLTTracks(stride=4, window=9, levels=3), 0.7, 0.6, 0.15)],
    ids=["chained", "klt"],
)
def test_tracks_stay_within_two_pixels(truth, provider, within, seen, wrong):
    inputs = truth.inputs(masks=lambda i, j: truth.masks[i])
    rows = gather(provider.compute(inputs, range(FRAMES)))
    near = called = false = claims = visible = 0
    for (q, t), found in truth.tracks.items():
        mine = rows[q][t]
        assert mine.dtype == np.float32
        lookup = {(int(x), int(y)): k for k, (x, y) in enumerate(rows[q][q][:, :2])}
        starts = map(tuple, truth.tracks[q, q][:, :2].astype(int))
        pairs = [(lookup[start], k) for k, start in enumerate(starts) if start in lookup]
        if q == t or not pairs:
            continue
        a, b = np.array(pairs).T
        observed = parse_track_logits(mine[a])
        there, claimed = found[b, 2] < 0, observed.visible.numpy()
        error = np.linalg.norm(mine[a, :2] - found[b, :2], axis=-1)
        visible, near = visible + there.sum(), near + (there & (error < 2)).sum()
        called, claims = called + (there & claimed).sum(), claims + claimed.sum()
        false += (claimed & ~there).sum()
    assert near / visible > within
    assert called / visible > seen
    assert false / claims < wrong


def test_self_tracks_are_the_query_pixels_themselves(truth):
    inputs = truth.inputs(masks=lambda i, j: truth.masks[i])
    rows = gather(ChainedTracks(stride=4).compute(inputs, [5]))
    assert set(rows[5]) == set(range(FRAMES))
    own = rows[5][5]
    x, y = own[:, :2].astype(int).T
    assert truth.masks[5][y, x].all()
    assert (np.diff(y * 1000 + x) > 0).all(), "raster order"
    assert parse_track_logits(own).visible.all()


def test_sweeping_all_frames_at_once_gives_the_same_tracks(truth):
    inputs = truth.inputs(masks=lambda i, j: truth.masks[i])
    one_by_one = gather(ChainedTracks().compute(inputs, [2, 3, 9]))
    inputs.flow_budget = 0
    swept = gather(ChainedTracks().compute(inputs, [2, 3, 9]))
    for q, targets in one_by_one.items():
        for t, rows in targets.items():
            np.testing.assert_array_equal(rows, swept[q][t])


def test_a_window_is_a_part_of_the_whole(truth):
    inputs = truth.inputs(masks=lambda i, j: truth.masks[i])
    whole = gather(ChainedTracks(reach=None).compute(inputs, [1, 6]))
    part = gather(ChainedTracks(reach=3).compute(inputs, [1, 6]))
    assert sorted(whole[6]) == list(range(FRAMES))
    assert sorted(part[1]) == [0, 1, 2, 3, 4]
    assert sorted(part[6]) == [3, 4, 5, 6, 7, 8, 9]
    for q, targets in part.items():
        for t, rows in targets.items():
            np.testing.assert_array_equal(rows, whole[q][t])


def test_klt_finds_a_point_again_after_it_was_hidden(truth):
    """The image of one frame is black: nothing is visible there, and the frames after it are not lost."""
    inputs = truth.inputs(masks=lambda i, j: truth.masks[i])
    image = inputs.image
    inputs.image = lambda i: image(i) * np.uint8(i != 5)  # type: ignore[method-assign]
    ((_, part),) = KLTTracks(stride=4, window=9, levels=3).compute(inputs, [3])
    shares = [parse_track_logits(rows).visible.float().mean() for rows in part["tracks"].rows]
    assert shares[3] == 1.0
    assert shares[5] < 0.05
    assert shares[6] > 0.4


@pytest.mark.parametrize("provider", [ChainedTracks(), KLTTracks()], ids=["chained", "klt"])
def test_frames_without_moving_pixels_have_empty_tracks(truth, provider):
    inputs = truth.inputs(masks=lambda i, j: truth.masks[i] & (i != 4))
    rows = gather(provider.compute(inputs, [4, 5]))
    assert all(part.shape == (0, 4) for part in rows[4].values())
    assert len(rows[5][4]) > 0
    assert not parse_track_logits(rows[5][4]).visible.any(), "where nothing moves, nothing that moves is seen"
