"""Images of a training are read lazily, and kept within a budget of memory."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from data_splits import HEIGHT, IMAGE_BYTES, WIDTH, ParserConfig, manager_of, outputs_of, write_images
from PIL import Image

from dyngs_plugins.data import DynamicDataManager, DynamicDataManagerConfig
from dyngs_plugins.dataset import DynamicDataset
from dyngs_plugins.priors import views as views_module
from dyngs_plugins.priors.cache import MemoryCache


def test_a_long_clip_keeps_to_its_budget(tmp_path, monkeypatch):
    """Sixty images with room for ten: memory stays within it, and what was just used is not decoded again."""
    decoded = []
    read = views_module.read_pixels
    monkeypatch.setattr(views_module, "read_pixels", lambda path, size: decoded.append(path) or read(path, size))
    budget = 10 * IMAGE_BYTES
    data = manager_of(outputs_of(write_images(tmp_path, 60)), frames_per_batch=4, memory_gb=budget / 2**30)
    assert decoded == []  # nothing is read before it is asked for
    for step in range(30):
        _, batch = data.next_train(step)
        assert batch["image"].shape == (4, HEIGHT, WIDTH, 3)
        assert data._cache.held <= budget
        assert len(decoded) <= 4 * (step + 1)
    data.next_eval_image(0)
    assert data._cache.held <= budget
    assert data._cache.held > budget // 2
    assert len(decoded) > 60  # some were read again: there is no second copy anywhere
    last = decoded[-1]
    before = len(decoded)
    index = data.eval_dataset.views.image_files.index(last)
    assert data.eval_dataset[index]["image"].shape == (HEIGHT, WIDTH, 3)
    assert len(decoded) == before


def test_another_device_holds_one_batch_and_no_clip(tmp_path):
    """As on a GPU, which need not be there for it; the host caches more than 500 images in ways of its own."""
    budget = 10 * IMAGE_BYTES
    config = DynamicDataManagerConfig(
        dataparser=ParserConfig(outputs_of(write_images(tmp_path, 501))),  # type: ignore[arg-type]
        frames_per_batch=4,
        memory_gb=budget / 2**30,
        cache_images="gpu",
    )
    data = DynamicDataManager(config, device="meta")
    for step in range(10):
        _, batch = data.next_train(step)
        assert batch["image"].device.type == "meta"
        kept = [value for value, _ in data._cache._entries.values() if isinstance(value, torch.Tensor)]
        assert kept
        assert all(value.device.type == "cpu" for value in kept)
        assert data._cache.held <= budget


def test_a_small_clip_is_decoded_once(tmp_path, monkeypatch):
    decoded = []
    read = views_module.read_pixels
    monkeypatch.setattr(views_module, "read_pixels", lambda path, size: decoded.append(path) or read(path, size))
    data = manager_of(outputs_of(write_images(tmp_path, 6)), frames_per_batch=4)
    for step in range(12):
        data.next_train(step)
    for i in range(6):
        data.views.image(i)  # the clip that a scene starts from, and the dataset, share one copy
        assert data.train_dataset[i]["image"].dtype == torch.float32
    assert len(decoded) == 6
    assert data._cache.held == 6 * IMAGE_BYTES


def test_batches_do_not_depend_on_the_budget(tmp_path):
    files = write_images(tmp_path, 12)
    large, none = (manager_of(outputs_of(files), frames_per_batch=3, memory_gb=gb) for gb in (1.0, 0.0))
    for step in range(8):
        (_, a), (_, b) = large.next_train(step), none.next_train(step)
        assert torch.equal(a["view_index"], b["view_index"])
        assert torch.equal(a["image"], b["image"])
    assert none._cache.held == 0


def test_evaluation_reads_one_image_at_a_time(tmp_path):
    data = manager_of(outputs_of(write_images(tmp_path, 8)), memory_gb=2 * IMAGE_BYTES / 2**30)
    loader = data.fixed_indices_eval_dataloader
    assert len(loader) == 8
    for index, (camera, batch) in enumerate(loader):
        assert len(camera) == 1
        assert batch["frame_index"] == index
        assert data._cache.held <= 2 * IMAGE_BYTES
    assert index == 7
    assert len(data.cached_eval[2:5]) == 3


def test_a_negative_budget_is_refused(tmp_path):
    with pytest.raises(ValueError, match="memory_gb is -1.0; expected a number of GiB"):
        manager_of(outputs_of(write_images(tmp_path, 2)), memory_gb=-1.0)


def test_copies_of_a_dataset_start_empty(tmp_path):
    dataset = DynamicDataset(outputs_of(write_images(tmp_path, 2)), cache=MemoryCache(1 << 20).part("train"))
    before = dataset[1]["image"]
    other = copy.deepcopy(dataset)
    assert other.views.cache.held == 0
    assert torch.equal(other[1]["image"], before)


def test_an_image_that_went_missing_or_bad_is_named(tmp_path):
    files = write_images(tmp_path, 4)
    data = manager_of(outputs_of(files))
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:60])
    Image.new("RGB", (WIDTH + 1, HEIGHT)).save(files[2])
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(files[3])
    with pytest.raises(FileNotFoundError, match="000.png: no such image"):
        data.views.image(0)
    with pytest.raises(ValueError, match="001.png: cannot be read as an image"):
        data.views.image(1)
    with pytest.raises(ValueError, match="002.png: 41x30 pixels; expected 40x30"):
        data.views.image(2)
    with pytest.raises(ValueError, match="003.png: .*mode I;16; expected 8 bits a channel"):
        data.views.image(3)
