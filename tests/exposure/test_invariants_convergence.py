"""More instants of an exposure, or more points of a lens, converge to one image, and as fast as they should."""

from dataclasses import replace
from itertools import pairwise

import torch.nn.functional as F
from exposure_motions import stirred
from exposure_pairs import (
    each_pair,
    exposure_model,
    has_points_of_a_lens,
    has_several_instants,
    rendered,
    scene_with,
    stirred_model,
)
from exposure_scenes import make_views
from torch import Tensor

from dyngs_plugins.exposure.base import ExposureModel

TWO_VIEWS = make_views(width=16, height=12)
ONE_VIEW = replace(
    TWO_VIEWS, **{name: getattr(TWO_VIEWS, name)[:1] for name in ("camera_T_world", "K", "time", "index")}
)


def with_more_instants(exposure: str, model: ExposureModel, instants: int) -> ExposureModel:
    """The same exposure in more instants; parameters that are one per instant are interpolated."""
    finer = exposure_model(exposure, instants=instants)
    coarse, fine = model.state_dict(), finer.state_dict()
    for name, tensor in coarse.items():
        for axis, (count, more) in enumerate(zip(tensor.shape, fine[name].shape, strict=True)):
            if count != more:
                lines = tensor.movedim(axis, -1)
                found = F.interpolate(lines.reshape(1, -1, count), size=more, mode="linear", align_corners=True)
                coarse[name] = found.reshape(*lines.shape[:-1], more).movedim(-1, axis)
    finer.load_state_dict(coarse)
    return finer


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean().detach())


@each_pair(has_several_instants)
def test_the_difference_to_twice_as_many_instants_falls_as_their_number_grows(motion: str, exposure: str):
    """``|B_K - B_2K|`` as 1 / K, or faster: nearly halved by twice as many."""
    model = stirred_model(exposure, instants=9)
    images = [
        rendered(scene_with(stirred(motion), with_more_instants(exposure, model, count)), ONE_VIEW)
        for count in (9, 17, 33)
    ]
    first, second = (distance(a, b) for a, b in pairwise(images))
    assert first > 5e-5  # far above rounding
    assert first > 1.7 * second


@each_pair(has_points_of_a_lens)
def test_the_difference_to_twice_as_many_points_of_a_lens_falls_as_their_number_grows(motion: str, exposure: str):
    """Nearly as 1 / M: points on a spiral are not as even as those on a line."""
    images = [
        rendered(scene_with(stirred(motion), stirred_model(exposure, points=count)), ONE_VIEW)
        for count in (4, 8, 16, 32, 64, 128)
    ]
    differences = [distance(a, b) for a, b in pairwise(images)]
    assert differences[0] > 5e-5
    assert all(more > 1.2 * fewer for more, fewer in pairwise(differences))
    assert differences[0] > 6 * differences[-1]
