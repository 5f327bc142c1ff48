"""Depth, masks and images of a view: units, unknowns and edges."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import median_filter as scipy_median

from dyngs_plugins.priors.som_files import write_depth, write_disparity, write_mask
from dyngs_plugins.priors.trimask import tri_mask
from dyngs_plugins.priors.views import Priors, median_filter

SIZE = (20, 30)


def test_tri_mask_of_a_square():
    """A filled square loses 3 px a side to a 7 px box, and so does its outside: the unknown band is 6 px wide."""
    foreground = torch.zeros(40, 50, dtype=torch.bool)
    foreground[10:30, 12:37] = True
    mask = tri_mask(foreground, 7)
    assert torch.equal(mask == 1, grown(13, 27, 15, 34))
    assert torch.equal(mask == -1, ~grown(7, 33, 9, 40))
    row = mask[20]
    assert int((row[:25] == 0).sum()) == 6
    assert int((row[25:] == 0).sum()) == 6


def grown(top, bottom, left, right):
    region = torch.zeros(40, 50, dtype=torch.bool)
    region[top:bottom, left:right] = True
    return region


def test_tri_mask_at_the_border_and_without_erosion():
    full = torch.ones(5, 6, dtype=torch.bool)
    assert (tri_mask(full, 7) == 1).all()  # the image's border erodes nothing
    assert (tri_mask(~full, 7) == -1).all()
    speckle = torch.rand(5, 6) > 0.5
    assert torch.equal(tri_mask(speckle, 1) == 1, speckle)
    with pytest.raises(ValueError, match="odd number of pixels, found 4"):
        tri_mask(full, 4)


def test_median_of_known_depths():
    depth = torch.rand(SIZE) + 1
    expected = scipy_median(depth.numpy(), 11, mode="mirror")
    torch.testing.assert_close(median_filter(depth, 11), torch.from_numpy(expected))
    assert median_filter(depth, 1) is depth


def test_unknown_depths_stay_unknown_and_count_in_no_median():
    depth = torch.full(SIZE, 2.0)
    depth[:, :15] = 0.0
    depth[5, 5] = 7.0  # alone among unknown ones
    filtered = median_filter(depth, 11)
    assert torch.equal(filtered == 0, depth == 0)
    assert filtered[5, 5] == 7.0
    assert (filtered[:, 15:] == 2.0).all()


@pytest.fixture
def files(tmp_path):
    disparity = np.full(SIZE, 0.5, np.float32)
    disparity[0], disparity[1] = 0.0, 1e-9
    write_disparity(tmp_path / "disparity.npy", disparity)
    depth = np.full(SIZE, 2.0, np.float32)
    depth[0], depth[2] = 0.0, 50.0
    write_depth(tmp_path / "depth.npy", depth)
    mask = np.zeros(SIZE, bool)
    mask[5:15, 5:15] = True
    write_mask(tmp_path / "mask.png", mask)
    rgba = np.full((*SIZE, 4), 255, np.uint8)
    rgba[:, 20:, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "image.png")
    return tmp_path


def test_disparity_zero_is_unknown_and_never_far(files):
    depth = Priors(depth_files=(files / "disparity.npy",), depth_median=1).load_depth(0, SIZE)
    assert (depth[0] == 0).all()
    assert (depth[1] == 1e6).all()  # tiny is far
    assert (depth[2:] == 2).all()
    floored = Priors(depth_files=(files / "disparity.npy",), depth_median=1, disparity_floor=1e-3, depth_max=90.0)
    depth = floored.load_depth(0, SIZE)
    assert depth[0].max() == 0
    assert depth[1].min() == 90


def test_depth_in_scene_units(files):
    disparity = Priors(depth_files=(files / "disparity.npy",), depth_scale=0.25)
    assert disparity.load_depth(0, SIZE)[10, 10] == 0.5
    metric = Priors(
        depth_files=(files / "depth.npy",), depth_kind="depth", depth_median=1, depth_scale=3.0, depth_max=5
    )
    depth = metric.load_depth(0, SIZE)
    assert (depth[0, 0], depth[2, 0], depth[3, 0]) == (0.0, 15.0, 6.0)  # the bound is in file units


def test_alpha_makes_pixels_unknown(files):
    priors = Priors(mask_files=(files / "mask.png",), mask_erosion=1)
    assert (priors.load_dynamic(0, SIZE) == 1).sum() == 100
    assert priors.load_valid(0, SIZE).all()
    assert priors.load_covisible(0, SIZE).all()
    priors = replace(priors, valid_files=(files / "image.png",), covisible_files=(files / "mask.png",))
    dynamic = priors.load_dynamic(0, SIZE)
    assert (dynamic[:, 20:] == 0).all()
    assert (dynamic[:, :20] != 0).all()
    assert priors.load_covisible(0, SIZE).sum() == 100


def test_kinds_that_are_absent(files):
    with pytest.raises(ValueError, match="no depth.*dyngs process"):
        Priors().load_depth(0, SIZE)
    with pytest.raises(ValueError, match="no masks"):
        Priors().load_dynamic(0, SIZE)
    one_without = Priors(depth_files=(None,), mask_files=(None,))
    assert not one_without.load_depth(0, SIZE).any()
    assert not one_without.load_dynamic(0, SIZE).any()


def test_views_read_once_and_copies_start_empty(sliding_square):
    scene, root = sliding_square
    views = scene.views(root)
    image, depth, mask = scene.render(3)
    torch.testing.assert_close(views.image(3), torch.from_numpy(image).float() / 255)
    torch.testing.assert_close(views.depth(3), torch.from_numpy(depth).float(), rtol=1e-5, atol=1e-5)
    assert torch.equal(views.dynamic(3) == 1, torch.from_numpy(mask))
    assert views.depth(3) is views.depth(3)
    for other in (copy.deepcopy(views), pickle.loads(pickle.dumps(views))):
        assert not other.cache._entries
        torch.testing.assert_close(other.depth(3), views.depth(3))


def test_rescaled_views_rescale_their_priors(sliding_square):
    scene, root = sliding_square
    views = scene.views(root)
    views.depth(0)
    half = views.rescaled(views.camera_T_world, 0.5)
    torch.testing.assert_close(half.depth(0), views.depth(0) * 0.5)


def test_replaced_priors_are_read_anew(sliding_square):
    scene, root = sliding_square
    views = scene.views(root)
    assert views.depth(0).any()
    files = views.priors.depth_files
    swapped = replace(views, priors=replace(views.priors, depth_files=files[::-1]))
    torch.testing.assert_close(swapped.depth(0), views.depth(len(views) - 1))
