"""Batches that are read while a step computes are those that would be read when they are asked for."""

from __future__ import annotations

import threading

import pytest
import torch
from data_splits import manager_of, outputs_of, write_images
from simulated_cuda import SimulatedCuda

from dataparsers.som import SomDataParserConfig
from dyngs_plugins.data import DynamicDataManager, DynamicDataManagerConfig
from dyngs_plugins.packed import Packed, each_tensor
from dyngs_plugins.priors import views as views_module


def manager(rig, **options) -> DynamicDataManager:
    config = DynamicDataManagerConfig(
        data=rig, dataparser=SomDataParserConfig(data=rig), frames_per_batch=3, targets_per_frame=2, **options
    )
    return DynamicDataManager(config)


def numbers(batch: dict) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    each_tensor(lambda tensor: found.append(tensor) or tensor, batch)
    return found


def assert_same_batches(one: DynamicDataManager, other: DynamicDataManager, steps: int) -> None:
    for step in range(steps):
        (cameras, a), (others, b) = one.next_train(step), other.next_train(step)
        assert a.keys() == b.keys()
        assert torch.equal(cameras.camera_to_worlds, others.camera_to_worlds)
        assert len(numbers(a)) == len(numbers(b)) > 10
        assert all(torch.equal(x, y) for x, y in zip(numbers(a), numbers(b), strict=True))


def test_the_batches_are_the_same(rig):
    assert_same_batches(manager(rig, read_ahead=True), manager(rig, read_ahead=False), 8)


def test_a_checkpoint_knows_what_was_handed_out(rig):
    whole, first, second = manager(rig), manager(rig, read_ahead=True), manager(rig, read_ahead=True)
    for step in range(5):
        whole.next_train(step)
        first.next_train(step)
    second.next_train(0)  # something is on its way when the state comes
    second.set_extra_state(first.get_extra_state())
    again = second.get_extra_state()  # of a training that was resumed and has drawn nothing
    assert torch.equal(again["sampler"], first.get_extra_state()["sampler"])
    assert_same_batches(second, whole, 6)


def test_what_is_wanted_counts_for_the_next_batch(rig):
    ahead, plain = manager(rig, read_ahead=True), manager(rig, read_ahead=False)
    assert_same_batches(ahead, plain, 2)
    for data in (ahead, plain):
        data.want({"flow", "normals"})
    assert_same_batches(ahead, plain, 2)
    assert "flow_fwd" in ahead.next_train(0)[1]
    ahead.want(())
    assert "flow_fwd" not in ahead.next_train(0)[1]


def test_an_error_is_raised_in_the_step_that_needs_the_batch(tmp_path, monkeypatch):
    data = manager_of(outputs_of(write_images(tmp_path, 4)), frames_per_batch=2, memory_gb=0, read_ahead=True)
    data.next_train(0)
    coming = data._batches._coming
    assert coming is not None
    coming.result()

    def damaged(path, size):
        raise ValueError(f"{path}: is damaged")

    monkeypatch.setattr(views_module, "read_pixels", damaged)
    data.next_train(1)  # was read before
    with pytest.raises(ValueError, match="is damaged"):
        data.next_train(2)


def test_one_thread_reads_and_only_on_a_gpu(tmp_path, monkeypatch):
    threads = []
    read = views_module.read_pixels
    monkeypatch.setattr(
        views_module, "read_pixels", lambda *args: threads.append(threading.current_thread().name) or read(*args)
    )
    outputs = outputs_of(write_images(tmp_path, 6))
    on_cpu = manager_of(outputs, frames_per_batch=2, memory_gb=0)
    for step in range(3):
        on_cpu.next_train(step)
    assert set(threads) == {threading.current_thread().name}
    threads.clear()
    with SimulatedCuda():
        on_gpu = manager_of(outputs, "cuda", frames_per_batch=2, memory_gb=0)
        for step in range(3):
            assert on_gpu.next_train(step)[1]["image"].device.type == "cuda"
        coming = on_gpu._batches._coming
        assert coming is not None
        packed = coming.result()
        assert isinstance(packed, Packed)
        assert packed.contents["image"].device.type == "cpu"  # what is not in use takes no memory of the device
    assert threads[2:] == ["read-ahead_0"] * 6
