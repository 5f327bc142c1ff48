"""What a tracker's logits mean, and which observations a view may see."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dyngs_plugins.priors.cache import MemoryCache
from dyngs_plugins.priors.som_files import write_track_pair
from dyngs_plugins.priors.tracks import SomTrackFiles, parse_track_logits


def parse(occlusion: float, distance: float):
    return parse_track_logits(np.array([[3.0, 4.0, occlusion, distance]], np.float32))


def test_logits_of_the_sheet():
    seen, hidden, unsure = parse(-10, -10), parse(10, -10), parse(-10, 10)
    assert (bool(seen.visible), bool(seen.invisible)) == (True, False)
    assert (bool(hidden.visible), bool(hidden.invisible)) == (False, True)
    assert (bool(unsure.visible), bool(unsure.invisible)) == (False, False)
    assert (bool(parse(10, 10).visible), bool(parse(10, 10).invisible)) == (False, False)
    torch.testing.assert_close(torch.cat([seen.confidence, hidden.confidence]), torch.ones(2), atol=1e-4, rtol=0)
    assert unsure.confidence.item() == 0
    assert seen.xy.tolist() == [[3, 4]]


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_a_point_is_never_visible_and_invisible(occlusion, distance):
    observed = parse(occlusion, distance)
    assert not (observed.visible & observed.invisible).any()
    assert bool(observed.confidence > 0) == bool(observed.visible | observed.invisible)
    assert 0 <= observed.confidence <= 1


def test_parsing_no_rows():
    assert len(parse_track_logits(np.zeros((0, 4), np.float32))) == 0


def write_pairs(folder, names, rows):
    for query in names:
        for target in names:
            table = np.zeros((rows[query], 4), np.float32)
            table[:, 0] = np.arange(rows[query])
            table[:, 1] = 10 * int(query) + int(target)
            write_track_pair(folder / f"{query}_{target}.npy", table)


@pytest.fixture
def store(tmp_path):
    write_pairs(tmp_path / "left", ["0", "1", "2"], {"0": 3, "1": 0, "2": 5})
    write_pairs(tmp_path / "right", ["0", "2"], {"0": 2, "2": 4})
    folders = (tmp_path / "left",) * 2 + (tmp_path / "right",) * 2
    return SomTrackFiles(folders, ("0", "2", "0", "2"))  # frame 1 of the left camera is held out


def test_targets_are_the_training_views_of_the_same_camera(store):
    assert [store.targets(i).tolist() for i in range(4)] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    with pytest.raises(ValueError, match="different cameras"):
        store.observe(0, 2)


def test_observations_come_from_their_file(store):
    assert store.observe(1, 0).xy[:, 1].tolist() == [20] * 5  # query "2" in target "0"
    assert store.observe(2, 3).xy[:, 1].tolist() == [2] * 2
    assert len(store.query_points(3)) == 4
    rows = torch.tensor([4, 0, 2])
    torch.testing.assert_close(store.observe(1, 0, rows).xy, store.observe(1, 0).xy[rows])
    torch.testing.assert_close(store.observe(1, 0, rows).confidence, store.observe(1, 0).confidence[rows])


def test_a_frame_without_queries(tmp_path):
    write_pairs(tmp_path, ["0", "1"], {"0": 0, "1": 2})
    store = SomTrackFiles((tmp_path,) * 2, ("0", "1"))
    assert store.query_points(0).shape == (0, 2)
    assert len(store.observe(0, 1)) == 0
    assert len(store.observe(0, 1, torch.zeros(0, dtype=torch.long))) == 0


@pytest.mark.parametrize("rows", [None, torch.tensor([0])])
def test_a_truncated_pair_is_explained_when_it_is_read(store, rows):
    write_track_pair(store.file(1, 0), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="2_0.npy: 2 rows. Expected 5"):
        store.observe(1, 0, rows)


def test_copies_are_paths_without_contents(store):
    store.observe(1, 0)
    for other in (copy.deepcopy(store), pickle.loads(pickle.dumps(store))):
        assert not other._cache._entries
        torch.testing.assert_close(other.observe(1, 0).xy, store.observe(1, 0).xy)


def test_many_threads_read_the_same(store):
    pairs = [(q, t) for q in range(2) for t in range(2)] * 20
    with ThreadPoolExecutor(8) as pool:
        observed = list(pool.map(lambda pair: store.observe(*pair).xy, pairs))
    for pair, xy in zip(pairs, observed, strict=True):
        torch.testing.assert_close(xy, store.observe(*pair).xy)


def test_the_cache_keeps_to_its_budget():
    reads = []

    def read(key):
        reads.append(key)
        return torch.zeros(100)  # 400 bytes

    cache = MemoryCache(budget=1000)
    for key in ("a", "b", "a", "c", "a", "b"):  # c pushes out b, which was used longest ago
        cache.get(key, lambda key=key: read(key))
    assert reads == ["a", "b", "c", "b"]
    assert cache.held == 800
    for _ in range(2):  # larger than the budget: passed through
        cache.get("huge", lambda: read("huge").repeat(10))
    assert reads[-2:] == ["huge", "huge"]
    assert cache.held == 800


def test_parts_of_a_cache_share_its_budget_and_not_its_keys():
    cache = MemoryCache(budget=1000)
    left, right = cache.part("left"), cache.part("right")
    first = left.get("a", lambda: torch.zeros(100))
    second = right.get("a", lambda: torch.ones(100))
    assert (int(first.sum()), int(second.sum())) == (0, 100)
    assert left.get("a", lambda: torch.ones(100)) is first
    assert cache.held == left.held == right.held == 800
    right.get("b", lambda: torch.zeros(100))  # pushes out right's first, which was used longest ago
    assert cache.held == 800
    assert left.get("a", lambda: torch.ones(100)) is first
    assert right.get("a", lambda: torch.zeros(100)) is not second
