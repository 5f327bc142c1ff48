"""Track metrics: worked examples, empty sets, and real key-points."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dyngs_plugins.metrics.tracks import (
    after_query,
    end_point_error,
    except_query,
    fraction_within,
    pck_t,
    tapvid_scores,
)

KEYPOINTS = Path(__file__).parents[3] / "shared" / "data" / "dycheck-keypoints"


def test_end_point_error_of_known_offsets():
    target = torch.zeros(2, 2, 3)
    prediction = target.clone()
    prediction[0, 0] = torch.tensor([3.0, 4.0, 0.0])
    prediction[0, 1, 2] = 1.0
    prediction[1, 1] = float("inf")
    mask = torch.tensor([[True, True], [True, False]])
    error = end_point_error(prediction, target, mask)
    assert (error.mean, error.median, error.count) == (pytest.approx(2.0), pytest.approx(1.0), 3)
    # An even number of entries: the median lies between the two middle ones.
    assert end_point_error(prediction[0], target[0]).median == pytest.approx(3.0)
    assert fraction_within(prediction, target, 1.0, mask) == pytest.approx(1 / 3)
    assert fraction_within(prediction, target, 1.1, mask) == pytest.approx(2 / 3)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 500))
def test_end_point_error_does_not_depend_on_the_frame(seed: int):
    generator = torch.Generator().manual_seed(seed)
    prediction, target = torch.randn(2, 20, 3, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    before = end_point_error(prediction, target)
    after = end_point_error(prediction @ rotation.T + 5, target @ rotation.T + 5)
    assert after.mean == pytest.approx(before.mean)
    assert after.median == pytest.approx(before.median)


def test_pck_uses_five_percent_of_the_longer_side():
    target = torch.zeros(4, 2)
    prediction = torch.tensor([[0.0, 0.0], [23.9, 0.0], [0.0, 24.1], [100.0, 0.0]])
    assert pck_t(prediction, target, (360, 480)) == 0.5
    assert pck_t(prediction, target, (480, 360)) == 0.5
    assert pck_t(prediction, target, (360, 480), torch.tensor([True, True, False, False])) == 1.0


def test_perfect_tracks_score_one():
    target = torch.rand(5, 7, 2) * 100
    visible = torch.rand(5, 7, generator=torch.Generator().manual_seed(0)) > 0.4
    scores = tapvid_scores(target, visible, target, visible)
    assert (scores.average_jaccard, scores.position_accuracy, scores.occlusion_accuracy) == (1.0, 1.0, 1.0)


def test_tapvid_scores_of_a_worked_example():
    """Four entries, one threshold of 2 px: a hit, a miss, one wrongly called occluded, one wrongly called visible."""
    target = torch.zeros(1, 4, 2)
    prediction = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [1.0, 0.0], [0.0, 0.0]]])
    visible = torch.tensor([[True, True, True, False]])
    claimed = torch.tensor([[True, True, False, True]])
    scores = tapvid_scores(prediction, claimed, target, visible, thresholds=[2.0])
    # TP 1, FP 2 (the miss and the wrongly visible one), visible 3.
    assert scores.average_jaccard == pytest.approx(1 / 5)
    assert scores.position_accuracy == pytest.approx(2 / 3)
    assert scores.occlusion_accuracy == pytest.approx(2 / 4)
    both = tapvid_scores(prediction, claimed, target, visible, thresholds=[2.0, 4.0])
    # At 4 px: TP 2, FP 1, visible 3.
    assert both.average_jaccard == pytest.approx((1 / 5 + 2 / 4) / 2)
    assert both.position_accuracy == pytest.approx((2 / 3 + 1) / 2)


def test_query_frames_can_be_left_out():
    queries = torch.tensor([0, 2])
    assert except_query(queries, 3).tolist() == [[False, True, True], [True, True, False]]
    assert after_query(queries, 3).tolist() == [[False, True, True], [False, False, False]]
    target = torch.zeros(2, 3, 2)
    prediction = target.clone()
    prediction[0, 0] = prediction[1, 2] = 50.0
    visible = torch.ones(2, 3, dtype=torch.bool)
    assert tapvid_scores(prediction, visible, target, visible).position_accuracy == pytest.approx(4 / 6)
    kept = except_query(queries, 3)
    assert tapvid_scores(prediction, visible, target, visible, kept).position_accuracy == 1.0


def test_nothing_observed_is_undefined():
    none = torch.zeros(0, 3)
    error = end_point_error(none, none)
    assert math.isnan(error.mean)
    assert math.isnan(error.median)
    assert error.count == 0
    assert math.isnan(pck_t(torch.zeros(3, 2), torch.zeros(3, 2), (10, 10), torch.zeros(3, dtype=torch.bool)))
    empty = torch.zeros(0, 4, dtype=torch.bool)
    scores = tapvid_scores(torch.zeros(0, 4, 2), empty, torch.zeros(0, 4, 2), empty)
    assert all(math.isnan(value) for value in vars(scores).values())
    # Nothing truly visible, nothing claimed: occlusion is defined, the rest is not.
    hidden = torch.zeros(1, 4, dtype=torch.bool)
    scores = tapvid_scores(torch.zeros(1, 4, 2), hidden, torch.zeros(1, 4, 2), hidden)
    assert math.isnan(scores.average_jaccard)
    assert math.isnan(scores.position_accuracy)
    assert scores.occlusion_accuracy == 1.0


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match=r"same shape.*\(2, 3\) and \(3, 3\)"):
        end_point_error(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"one entry a point"):
        end_point_error(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(3, dtype=torch.bool))
    one = torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="at least one threshold"):
        tapvid_scores(torch.zeros(1, 1, 2), one, torch.zeros(1, 1, 2), one, thresholds=[])


class ArraysOnly(pickle.Unpickler):
    """The key-point files hold object arrays; nothing but numpy arrays may be built from them."""

    def find_class(self, module: str, name: str):
        if name in ("_reconstruct", "ndarray", "dtype") and module.split(".")[0] == "numpy":
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} in a file of arrays")


def read_pairs(path: Path) -> list[dict]:
    with zipfile.ZipFile(path) as archive:
        stream = io.BytesIO(archive.read("arr_0.npy"))
    np.lib.format.read_magic(stream)
    np.lib.format.read_array_header_1_0(stream)
    return list(ArraysOnly(stream).load())


# Share of the 90 (or fewer) frame pairs' key-points within 5 % of 480 px, mean over pairs as DyCheck averages,
# computed once from the files with numpy alone.
PCK_OF_THE_FILES = {
    "apple": 0.593333,
    "block": 0.273068,
    "paper-windmill": 0.112963,
    "space-out": 0.810666,
    "spin": 0.176606,
    "teddy": 0.801481,
    "wheel": 0.394471,
}


@pytest.mark.parametrize("scene", list(PCK_OF_THE_FILES))
def test_pck_on_real_key_points(scene: str):
    path = KEYPOINTS / f"{scene}_train_pck.npz"
    if not path.is_file():
        pytest.skip(f"{path} is absent: the key-point files are not part of the repository")
    values = []
    for pair in read_pairs(path):
        width, height = (int(side) for side in pair["img_wh"])
        prediction, target = (torch.from_numpy(pair[key]) for key in ("dst_pixel_pred", "dst_pixel_gt"))
        values.append(pck_t(prediction, target, (width, height), ratio=float(pair["ratio"])))
    assert sum(values) / len(values) == pytest.approx(PCK_OF_THE_FILES[scene], abs=1e-5)
