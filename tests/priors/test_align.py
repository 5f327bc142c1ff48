"""Aligning a network's depth: exact for affine data, robust to outliers, honest about what it lost."""

from __future__ import annotations

import numpy as np
import pytest

from dyngs_plugins.priors.align import OWN_SCALE, Alignment, align_disparity, apply_alignment


@pytest.fixture
def disparity(rng) -> np.ndarray:
    return rng.uniform(0.1, 1.0, (24, 32))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


EVERYWHERE = np.ones((24, 32), bool)


def test_an_affine_map_is_found_exactly(disparity):
    found = align_disparity((disparity - 0.3) / 2.5, disparity, EVERYWHERE, "affine")
    assert found.scale == pytest.approx(2.5, abs=1e-5)
    assert found.shift == pytest.approx(0.3, abs=1e-5)
    assert found.residual < 1e-5
    assert found.points == disparity.size
    assert found.sound


def test_a_factor_is_found_exactly(disparity):
    found = align_disparity(disparity / 7.0, disparity, EVERYWHERE, "scale")
    assert (found.scale, found.shift) == (pytest.approx(7.0), 0.0)


@pytest.mark.parametrize("freedom", ["affine", "scale"])
def test_forty_percent_outliers_do_not_matter(disparity, rng, freedom):
    reference = np.where(rng.random(disparity.shape) < 0.4, rng.uniform(0, 5, disparity.shape), disparity)
    model = disparity / 3.0 - (0.05 if freedom == "affine" else 0.0)
    found = align_disparity(model, reference, EVERYWHERE, freedom)
    aligned, _ = apply_alignment(model, found)
    assert np.median(np.abs(aligned / disparity - 1)) < 0.03


def test_only_good_points_count(disparity):
    good = EVERYWHERE.copy()
    good[:, :16] = False
    reference = np.where(good, disparity, 100.0)
    assert align_disparity(disparity / 2, reference, good, "affine").scale == pytest.approx(2.0, abs=1e-5)
    assert align_disparity(disparity / 2, reference, good, "scale").points == good.sum()


def test_points_that_are_not_finite_do_not_count(disparity):
    model = disparity.copy()
    model[3, 4], model[5, 6] = np.nan, np.inf
    found = align_disparity(model, disparity, EVERYWHERE, "affine")
    assert found.points == disparity.size - 2
    assert found.scale == pytest.approx(1.0, abs=1e-5)


def test_without_a_point_it_says_so(disparity):
    with pytest.raises(ValueError, match="no pixel has both"):
        align_disparity(disparity, disparity, ~EVERYWHERE, "affine")


def test_a_model_that_contradicts_the_cameras_is_not_sound(disparity):
    assert not align_disparity(-disparity, disparity, EVERYWHERE, "affine").sound
    assert not Alignment(1.0, float("nan"), 0.0, 1).sound


def test_a_flat_prediction_becomes_the_median(disparity):
    """Every ratio is huge for a model that sees nothing; the shift brings the middle back."""
    flat = np.full_like(disparity, 0.7)
    found = align_disparity(flat, disparity, EVERYWHERE, "affine")
    assert found.scale * 0.7 + found.shift == pytest.approx(np.median(disparity), rel=1e-6)


def test_zero_negative_and_infinite_become_unknown_and_are_counted():
    model = np.array([[0.5, 0.2, 0.1, np.nan], [1.0, 0.05, np.inf, 2.0]])
    aligned, unknown = apply_alignment(model, Alignment(1.0, -0.1, 0.0, 1))
    assert unknown == 4
    np.testing.assert_allclose(aligned, [[0.4, 0.1, 0, 0], [0.9, 0, 0, 1.9]], atol=1e-7)
    assert aligned.dtype == np.float32


def test_the_own_scale_changes_nothing_but_bad_values():
    model = np.array([[0.5, -1.0]])
    aligned, unknown = apply_alignment(model, OWN_SCALE, largest=0.4)
    np.testing.assert_allclose(aligned, [[0.4, 0.0]])
    assert unknown == 1
