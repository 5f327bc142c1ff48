"""SAM 2 and SAM 3 for videos: the real loading, prompting and following code on tiny random networks."""

from __future__ import annotations

import types

import numpy as np
import pytest

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'dyngs-plugins[learned]'")

import tiny_networks

from dyngs_plugins.priors.providers import masks_sam
from dyngs_plugins.priors.providers.mask_prompts import parse_prompts
from dyngs_plugins.priors.providers.masks_sam import SamMasks
from dyngs_plugins.priors.providers.sam_video import SamVideo

SIZE, COUNT = (48, 64), 7


@pytest.fixture(scope="module")
def sam2(tmp_path_factory) -> str:
    return str(tiny_networks.sam2(tmp_path_factory.mktemp("sam2")))


@pytest.fixture(scope="module")
def sam3(tmp_path_factory) -> str:
    return str(tiny_networks.sam3(tmp_path_factory.mktemp("sam3")))


def image(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 255, (*SIZE, 3), dtype=np.uint8)


def click(frame: int = 3):
    return parse_prompts(((20, 10), (40, 30)), (5, 5), (), frame, SIZE, COUNT)


@pytest.mark.parametrize("window", [100, 3])
@pytest.mark.parametrize("frame", [0, 3, COUNT - 1])
def test_every_frame_comes_once_whatever_the_window(sam2, window, frame):
    found = list(SamVideo(sam2, "cpu", window).follow(image, COUNT, click(frame)))
    assert sorted(i for i, _ in found) == list(range(COUNT))
    assert all(mask.shape == SIZE and mask.dtype == bool for _, mask in found)
    assert found[0][0] >= frame - window // 2


def test_what_was_clicked_decides(sam2):
    video = SamVideo(sam2, "cpu")
    (_, first), *_ = video.follow(image, 1, parse_prompts((3, 3), (), (), 0, SIZE, 1))
    (_, box), *_ = video.follow(image, 1, parse_prompts((), (), (20, 10, 50, 40), 0, SIZE, 1))
    (_, again), *_ = SamVideo(sam2, "cpu").follow(image, 1, parse_prompts((3, 3), (), (), 0, SIZE, 1))
    assert (first != box).any()
    np.testing.assert_array_equal(first, again)


def test_a_window_starts_from_the_masks_it_is_given(sam2):
    """SAM takes a mask as it is: with it a new window goes on where the one before ended."""
    given = np.zeros(SIZE, bool)
    given[8:32, 12:40] = True
    (i, masks), *_ = SamVideo(sam2, "cpu")._window(image, range(2, 5), 2, {7: given})
    assert i == 2
    assert set(masks) == {7}
    assert (masks[7] & given).sum() / (masks[7] | given).sum() > 0.85


def test_when_every_object_has_left_the_rest_is_empty(sam2):
    video = SamVideo(sam2, "cpu", window=3)
    rest = dict(video._onward(image, COUNT, 2, 1, {0: np.zeros(SIZE, bool)}))
    assert sorted(rest) == [3, 4, 5, 6]
    assert not any(mask.any() for mask in rest.values())


def test_sam3_finds_what_a_text_names(sam3):
    found = dict(SamVideo(sam3, "cpu", window=4).find(image, COUNT, ("a dog", "cat")))
    assert sorted(found) == list(range(COUNT))
    assert all(mask.shape == SIZE for mask in found.values())
    assert any(mask.any() for mask in found.values()), "its threshold is zero here"


def test_sam3_follows_clicks_too(sam3):
    assert len(dict(SamVideo(sam3, "cpu").follow(image, COUNT, click()))) == COUNT


def test_sam2_takes_no_text(sam2):
    with pytest.raises(ValueError, match="takes no text"):
        list(SamVideo(sam2, "cpu").find(image, COUNT, ("dog",)))


def test_another_network_is_refused(tmp_path):
    tiny_networks.depth_anything(tmp_path)
    with pytest.raises(ValueError, match="not a SAM for videos"):
        list(SamVideo(str(tmp_path), "cpu").follow(image, COUNT, click()))


def inputs() -> types.SimpleNamespace:
    class Frames(types.SimpleNamespace):
        def __len__(self) -> int:
            return COUNT

    frames = Frames(size=SIZE, name="camera0", stems=[f"{i:05d}" for i in range(COUNT)])
    return types.SimpleNamespace(frames=frames, image=image)


def test_the_provider_gives_the_frames_that_are_asked_for(sam2):
    whole = {i: a["mask"] for i, a in SamMasks(model=sam2, click=(20, 10), frame=3).compute(inputs(), range(COUNT))}
    part = {i: a["mask"] for i, a in SamMasks(model=sam2, click=(20, 10), frame=3).compute(inputs(), [1, 5])}
    assert sorted(part) == [1, 5]
    for i, mask in part.items():
        np.testing.assert_array_equal(mask, whole[i])


def test_objects_of_different_images_are_joined(sam2):
    def masks(**settings):
        return {i: a["mask"] for i, a in SamMasks(model=sam2, **settings).compute(inputs(), range(COUNT))}

    first, second = masks(click=(20, 10), frame=0), masks(click=(40, 30), frame=5)
    both = masks(click=((20, 10), (40, 30)), frame=(0, 5))
    for i in range(COUNT):
        np.testing.assert_array_equal(both[i], first[i] | second[i])


def test_without_a_prompt_the_strongest_weight_free_mask_is_followed(sam2, monkeypatch):
    def weak_and_strong(self, inputs, indices):
        for i in indices:
            mask = np.zeros(SIZE, bool)
            mask[10 : 20 + i, 10:30] = True
            yield i, {"mask": mask}

    monkeypatch.setattr(masks_sam.EpipolarMasks, "compute", weak_and_strong)
    misfit = {i: np.full(SIZE, 3.0 if i == 2 else 0.1) for i in range(COUNT)}
    monkeypatch.setattr(masks_sam, "still_fit", lambda inputs, i, settings: types.SimpleNamespace(misfit=misfit[i]))
    provider = SamMasks(model=sam2)
    assert len(list(provider.compute(inputs(), range(COUNT)))) == COUNT
    assert "1 object(s) that move in image 00002" in provider.notes()[0]


def test_nothing_to_follow_says_how_to_point(sam2, monkeypatch):
    empty = [(i, {"mask": np.zeros(SIZE, bool)}) for i in range(COUNT)]
    monkeypatch.setattr(masks_sam.EpipolarMasks, "compute", lambda self, inputs, indices: iter(empty))
    monkeypatch.setattr(masks_sam, "still_fit", lambda inputs, i, settings: types.SimpleNamespace(misfit=np.ones(SIZE)))
    with pytest.raises(ValueError, match="masks.click"):
        list(SamMasks(model=sam2).compute(inputs(), [0]))


def test_settings_that_contradict_each_other():
    with pytest.raises(ValueError, match="two ways"):
        SamMasks(text="dog", click=(1, 2))
    with pytest.raises(ValueError, match="masks.window=1"):
        SamMasks(window=1)
    assert SamMasks(text="dog").settings["model"] == "facebook/sam3"
    assert "device" not in SamMasks().settings
