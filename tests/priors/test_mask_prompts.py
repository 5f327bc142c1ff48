"""Clicks and boxes as they are written on the command line."""

from __future__ import annotations

import numpy as np
import pytest

from dyngs_plugins.priors.command import parse_settings
from dyngs_plugins.priors.providers.mask_prompts import ObjectPrompt, groups, parse_prompts, prompts_from_mask

SIZE, COUNT = (60, 80), 10


def parsed(click=(), exclude=(), box=(), frame=0):
    return parse_prompts(click, exclude, box, frame, SIZE, COUNT)


def test_one_click_from_the_command_line():
    values = parse_settings(["masks.click=(12,30)", "masks.frame=3"])["masks"]
    assert parsed(**values) == (ObjectPrompt(3, ((12.0, 30.0),), (1,)),)


def test_two_clicks_are_two_objects():
    first, second = parsed(click=((12, 30), (40, 5)))
    assert (first.points, second.points) == (((12.0, 30.0),), ((40.0, 5.0),))


def test_several_clicks_on_one_object_and_frames_of_their_own():
    first, second = parsed(click=(((12, 30), (14, 31)), (40, 5)), frame=(2, -1))
    assert first == ObjectPrompt(2, ((12.0, 30.0), (14.0, 31.0)), (1, 1))
    assert second.frame == COUNT - 1


def test_excluded_pixels_are_negative_for_every_object():
    for prompt in parsed(click=((12, 30), (40, 5)), exclude=((1, 2), (3, 4))):
        assert prompt.labels == (1, 0, 0)
        assert prompt.points[1:] == ((1.0, 2.0), (3.0, 4.0))


def test_boxes_alone_and_with_clicks():
    assert parsed(box=(1, 2, 30, 40))[0].box == (1.0, 2.0, 30.0, 40.0)
    both = parsed(box=((1, 2, 30, 40), (5, 6, 7, 8)), click=((3, 4), (6, 7)))
    assert [(p.box is not None, p.points) for p in both] == [(True, ((3.0, 4.0),)), (True, ((6.0, 7.0),))]


def test_nothing_given_is_nothing():
    assert parsed() == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"click": (80, 5)}, "outside of the images of 80x60"),
        ({"click": (-1, 5)}, "outside of the images"),
        ({"click": "left"}, "is not understood"),
        ({"click": (1, 2, 3)}, "is not understood"),
        ({"click": 7}, "is not understood"),
        ({"box": (1, 2, 3)}, "is not understood"),
        ({"box": (10, 2, 3, 5)}, "is empty"),
        ({"box": (1, 2, 300, 5)}, "outside of the images"),
        ({"exclude": (1, 2)}, "alone names no object"),
        ({"click": ((1, 2), (3, 4)), "box": (1, 2, 3, 4)}, "the same number"),
        ({"click": (1, 2), "frame": 10}, "the index of an image, 0 to 9"),
        ({"click": (1, 2), "frame": (0, 1)}, "names 2 images for 1 objects"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        parsed(**settings)


def test_groups_share_an_image_and_a_kind():
    prompts = (*parsed(click=((1, 2), (3, 4)), frame=(0, 5)), *parsed(box=(1, 2, 3, 4)), *parsed(click=(9, 9)))
    assert [len(group) for group in groups(prompts)] == [1, 2, 1]


def test_boxes_around_the_parts_of_a_mask():
    mask = np.zeros(SIZE, bool)
    mask[10:30, 5:25] = True
    mask[40:50, 60:70] = True
    mask[55, 2] = True  # a speck
    assert [p.box for p in prompts_from_mask(mask, 4)] == [(5.0, 10.0, 24.0, 29.0), (60.0, 40.0, 69.0, 49.0)]
    assert prompts_from_mask(np.zeros(SIZE, bool), 4) == ()
