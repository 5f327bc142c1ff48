"""Geometry of a pair of views from positions of which some are wrong, whatever OpenCV makes of them."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest

from dyngs_plugins.priors.cameras.moving import sampson_error, transfer_error
from dyngs_plugins.priors.two_views import fundamental_matrix, homography

WRONG = 15
"""Pairs, at the end, that agree with nothing."""


def pairs(planar: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    points = rng.uniform([-1, -1, 3], [1, 1, 6], (100, 3))
    if planar:
        points[:, 2] = 4 + 0.3 * points[:, 0]
    moved = points + [0.4, 0.05, 0.1]
    source, target = (200 * xyz[:, :2] / xyz[:, 2:] + [160, 90] for xyz in (points, moved))
    target[-WRONG:] += rng.uniform(20, 40, (WRONG, 2))
    return source, target


@pytest.fixture(params=[False, True], ids=["magsac", "magsac stops"])
def opencv(request, monkeypatch):
    """OpenCV as it is, and as it is on some real pairs: its MAGSAC ends in a failed assertion."""
    if not request.param:
        return
    for name in ("findFundamentalMat", "findHomography"):
        monkeypatch.setattr(cv2, name, functools.partial(without_magsac, getattr(cv2, name)))


def without_magsac(whole, source, target, method, *rest, **named):
    if method == cv2.USAC_MAGSAC:
        raise cv2.error("(-215:Assertion failed) !model.empty() in function 'setModelParameters'")
    return whole(source, target, method, *rest, **named)


@pytest.mark.usefixtures("opencv")
def test_what_most_pairs_agree_on_is_found():
    source, target = pairs(planar=False)
    found = fundamental_matrix(source, target, 1.0)
    assert found is not None
    matrix, explained = found
    assert sampson_error(matrix, source, target)[:-WRONG].max() < 0.1
    assert explained[:-WRONG].all()
    source, target = pairs(planar=True)
    found = homography(source, target, 1.0)
    assert found is not None
    matrix, explained = found
    assert transfer_error(matrix, source, target)[:-WRONG].max() < 0.1
    assert explained.tolist() == [True] * (100 - WRONG) + [False] * WRONG


@pytest.mark.usefixtures("opencv")
def test_pairs_without_a_geometry_have_none():
    same = np.tile([[10.0, 20.0]], (30, 1))
    assert homography(same, same, 1.0) is None
    assert fundamental_matrix(same, same, 1.0) is None
