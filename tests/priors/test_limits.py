"""Running out of memory or disk is told as what to change, and other errors are left alone."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple

import cv2
import pytest
import torch

from dyngs_plugins.priors.kind_report import KindReport
from dyngs_plugins.priors.limits import clip_advice, clip_bytes, memory_advice, space_advice, space_warning
from dyngs_plugins.priors.prepared import remove_leftovers
from dyngs_plugins.priors.timings import add_timing, read_timings

Usage = namedtuple("Usage", "total used free")


def test_disk_full_says_where_and_how_much(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 12e6))
    with (
        pytest.raises(
            OSError, match="new/flow: the disk is full .12 MB free.; about 3.5 GB more are needed here"
        ) as raised,
        space_advice(tmp_path / "new" / "flow", 3.5e9),
        space_advice(tmp_path / "new" / "flow", 3.5e9),  # told once, by the innermost
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="the disk is full") as raised, space_advice(tmp_path, 1.0):
        raise OSError("153600 requested and 115680 written")  # numpy's
    assert raised.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="^strange$"), space_advice(tmp_path, 1.0):
        raise OSError("strange")
    with pytest.raises(PermissionError), space_advice(tmp_path, 1.0):
        raise PermissionError(errno.EACCES, "no")
    assert "about 3.5 GB will be needed here, and 12 MB are free" in str(space_warning(tmp_path, 3.5e9))
    assert space_warning(tmp_path, 1e6) is None


def test_the_size_of_a_clip_is_known_roughly():
    """Flow: two fields of two floats and a flag; depth: a float. What varies is at most as much again."""
    pixels = 90 * 480 * 853
    assert 22 * pixels < clip_bytes(90, (480, 853)) < 44 * pixels


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_out_of_memory_names_the_settings(error):
    with (
        pytest.raises(
            MemoryError, match=r"^The masks provider 'sam' ran out of memory \(.*\). Lower masks.window. Then run"
        ),
        memory_advice("The masks provider 'sam'", "Lower masks.window."),
    ):
        raise error


def test_of_nested_advice_the_innermost_is_given():
    """Flow is made while masks are: what runs out of memory says what to lower of its own."""
    with (
        pytest.raises(
            MemoryError, match=r"^The flow provider 'raft' ran out of memory \(MemoryError\). Lower flow.max_size."
        ),
        memory_advice("The masks provider 'epipolar'", clip_advice((480, 853), 2.0)),
        memory_advice("The flow provider 'raft'", "Lower flow.max_size."),
    ):
        raise MemoryError


def test_a_clip_needs_less_memory_with_smaller_images():
    assert clip_advice((480, 853), 2.0).startswith("Lower --memory-gb (now 2) or the size of the images (now 853x480")


def test_opencvs_way_of_running_out():
    with pytest.raises(MemoryError, match="Flow ran out of memory"), memory_advice("Flow", "Lower it."):
        raise cv2.error(
            "OpenCV(4.8) error: (-4:Insufficient memory) Failed to allocate 9 bytes in function 'OutOfMemoryError'"
        )


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), memory_advice("Flow", "Lower it."):
        raise RuntimeError("shapes do not fit")


def test_timings_add_up_over_runs(tmp_path):
    add_timing(tmp_path, KindReport("camera0", "flow", "dis", made=1, seconds=1.5))
    add_timing(tmp_path, KindReport("camera0", "flow", "dis", made=1, seconds=2.0))
    add_timing(tmp_path, KindReport("camera0", "depth", "multiview", kept=1))
    assert read_timings(tmp_path) == {"camera0/flow": 3.5, "camera0/depth": 0.0}
    (tmp_path / "summary" / "timings.js").write_text("const timings = [broken")
    assert read_timings(tmp_path) == {}


def test_only_our_own_leftovers_are_removed(tmp_path):
    (tmp_path / "a").mkdir()
    for name in (".x.png.12.34.tmp", ".mine.tmp", "x.12.34.tmp"):
        (tmp_path / "a" / name).write_text("")
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [".mine.tmp", "x.12.34.tmp"]
