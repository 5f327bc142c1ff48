"""Sharing items among threads: each exactly once, whoever forks, and whatever interrupts."""

from __future__ import annotations

import ctypes
import sys
import threading

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from dyngs_plugins.raster.kernels import compiling, threads
from dyngs_plugins.raster.kernels.buffers import view
from dyngs_plugins.raster.kernels.compiling import kernel
from dyngs_plugins.raster.kernels.threads import Team, current_team, share, take


@kernel
def count_visits(team, visit_array, work):
    visits = view(visit_array)
    loop = share(team, visit_array.shape[0])
    item = take(loop)
    while item >= 0:
        total = 0.0
        for k in range(work):
            total += k * 1e-9
        visits[item] += 1 + int(total * 0)
        item = take(loop)


@kernel
def fail_at(team, visit_array, bad):
    visits = view(visit_array)
    loop = share(team, visit_array.shape[0])
    item = take(loop)
    while item >= 0:
        visits[item] += 1
        if item == bad:
            raise ValueError("any error")
        item = take(loop)


def _pool_team(number: int) -> Team:
    return number, ctypes.cast(threads._fork_to_pool, ctypes.c_void_p).value or 0, True, 0


def _gomp_team(number: int) -> Team:
    address = threads._address_of_gomp_parallel()
    if not address:
        pytest.skip("torch comes without GNU OpenMP here")
    return number, address, False, 0


@pytest.mark.parametrize("make_team", [_gomp_team, _pool_team])
@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("items", [0, 1, 2, 1000])
def test_every_item_is_done_once(make_team, number: int, items: int):
    visits = np.zeros(items, np.int64)
    for repeat in range(1, 6):
        count_visits(make_team(number), visits, 200)
        assert (visits == repeat).all()


def test_the_team_follows_torch():
    before = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            assert current_team()[0] == number
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("make_team", [_gomp_team, _pool_team])
@pytest.mark.parametrize("number", [1, 3])
def test_an_error_in_an_item_is_raised(make_team, number: int):
    visits = np.zeros(100, np.int64)
    with pytest.raises(RuntimeError, match="memory"):
        fail_at(make_team(number), visits, 50)
    assert visits.max() == 1


@pytest.mark.parametrize("make_team", [_gomp_team, _pool_team])
def test_threads_may_share_at_the_same_time(make_team):
    arrays = [np.zeros(300, np.int64) for _ in range(4)]

    def visit(array: np.ndarray) -> None:
        for _ in range(20):
            count_visits(make_team(2), array, 100)

    workers = [threading.Thread(target=visit, args=(array,)) for array in arrays]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all((array == 20).all() for array in arrays)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("make_team", [_gomp_team, _pool_team])
def test_a_trace_function_that_raises_leaves_nothing_half_done(make_team):
    """As nerfstudio's viewer does when a render has become stale."""
    visits = np.zeros(500, np.int64)
    team = make_team(2)
    interrupted = 0

    def interrupt(frame, event, argument):
        nonlocal interrupted
        if frame.f_code.co_filename == threads.__file__:
            interrupted += 1
            raise InterruptedError
        return interrupt

    previous = sys.gettrace()
    for repeat in range(1, 21):
        sys.settrace(interrupt)
        try:
            count_visits(team, visits, 10)
        finally:
            sys.settrace(previous)
        assert (visits == repeat).all()
    # The OpenMP pool runs no Python at all. The other one does, when it forks; then the caller works alone.
    assert interrupted == (20 if make_team is _pool_team else 0)


def test_kernels_work_where_nothing_can_be_cached(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    real = compiling.numba.njit

    def without_cache(function, **options):
        if options.get("cache"):
            raise RuntimeError("no locator available")
        return real(function, **options)

    monkeypatch.setattr(compiling.numba, "njit", without_cache)

    def double(x):
        return 2 * x

    assert kernel(double)(4) == 8
    assert "NUMBA_CACHE_DIR" in caplog.text


def test_changing_any_kernel_file_invalidates_the_cache(tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "one.py").write_text("a = 1")
    monkeypatch.setattr(compiling, "_here", tmp_path)

    def identity(x):
        return x

    before = kernel(identity)._cache._cache_file._source_stamp
    assert kernel(identity)._cache._cache_file._source_stamp == before
    (tmp_path / "one.py").write_text("a = 1 + 1")
    assert kernel(identity)._cache._cache_file._source_stamp != before
