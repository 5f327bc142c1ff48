"""Tracks in one file per query frame: what is written is read, by every reader, and pair files say the same."""

from __future__ import annotations

import copy
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from dyngs_plugins.priors.lifting import lift_tracks
from dyngs_plugins.priors.prior_kinds import TrackKind
from dyngs_plugins.priors.som_files import read_track_pair, write_track_pair
from dyngs_plugins.priors.track_windows import (
    MixedTrackFiles,
    TrackWindow,
    WindowTrackFiles,
    open_tracks,
    pairs_complete,
    pairs_from_windows,
    read_track_window,
    window_from_pairs,
    window_of,
    write_track_window,
)
from dyngs_plugins.priors.tracks import SomTrackFiles, parse_track_logits

NAMES = ("00000", "00001", "00003", "00004")
POINTS = {0: 3, 1: 0, 2: 5, 3: 2}


def window(query: int, reach: int = 1) -> TrackWindow:
    """Points whose x counts them and whose y says query and target."""
    frames = window_of(len(NAMES), query, reach)
    rows = np.zeros((len(frames), POINTS[query], 4), np.float32)
    rows[..., 0] = np.arange(POINTS[query])
    rows[..., 1] = 10 * query + np.array(frames)[:, None]
    rows[..., 2:] = -4.0
    return TrackWindow(frames, rows, query)


@pytest.fixture
def folder(tmp_path):
    for query in range(len(NAMES)):
        write_track_window(tmp_path / "left" / f"{NAMES[query]}.npz", window(query), NAMES)
    return tmp_path / "left"


def test_a_window_is_cut_at_the_ends_of_the_clip():
    assert window_of(10, 0, 3) == (0, 1, 2, 3)
    assert window_of(10, 5, 2) == (3, 4, 5, 6, 7)
    assert window_of(3, 1, 32) == (0, 1, 2)


def test_a_window_must_hold_its_query_and_as_many_rows_as_frames():
    rows = np.zeros((2, 5, 4), np.float32)
    with pytest.raises(ValueError, match="the query frame among them"):
        TrackWindow((3, 4), rows, 5)
    with pytest.raises(ValueError, match="ascending"):
        TrackWindow((4, 3), rows, 3)
    with pytest.raises(ValueError, match=r"\(2, 5, 4\) for 1 frames"):
        TrackWindow((3,), rows, 3)


def test_what_is_written_is_read(folder):
    stored = read_track_window(folder / "00003.npz")
    assert stored.frames == ("00001", "00003", "00004")
    np.testing.assert_array_equal(stored.rows, window(2).rows)
    np.testing.assert_array_equal(stored.query_rows, window(2).rows_in(2))


def test_equal_windows_make_equal_files_and_size_grows_with_frames(tmp_path):
    for name in ("a/00003.npz", "b/00003.npz"):
        write_track_window(tmp_path / name, window(2), NAMES)
    assert (tmp_path / "a/00003.npz").read_bytes() == (tmp_path / "b/00003.npz").read_bytes()

    def total(frames: int) -> int:
        names = [f"{i:05d}" for i in range(frames)]
        for q in range(frames):
            rows = np.zeros((len(window_of(frames, q, 4)), 300, 4), np.float32)
            file = tmp_path / f"{frames}" / f"{names[q]}.npz"
            write_track_window(file, TrackWindow(window_of(frames, q, 4), rows, q), names)
        return sum(file.stat().st_size for file in (tmp_path / f"{frames}").iterdir())

    assert total(40) < 2.3 * total(20), "with files of pairs it would be four times"


def test_targets_are_the_views_inside_the_window(folder):
    store = WindowTrackFiles((folder,) * 3, ("00000", "00003", "00004"))  # 00001 is held out
    assert [store.targets(i).tolist() for i in range(3)] == [[0], [1, 2], [1, 2]]
    assert len(store.query_points(1)) == 5
    assert store.observe(1, 2).xy[:, 1].tolist() == [23] * 5
    assert store.observe(1, 2).visible.all()
    rows = torch.tensor([4, 0])
    torch.testing.assert_close(store.observe(1, 2, rows).xy, store.observe(1, 2).xy[rows])


def test_outside_the_window_nothing_is_sure(folder):
    store = WindowTrackFiles((folder,) * 4, NAMES)
    seen = store.observe(0, 3)
    assert not (seen.visible | seen.invisible).any()
    assert not seen.confidence.any()
    assert len(store.observe(1, 3)) == 0


def test_cameras_do_not_share_tracks(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "right")
    store = WindowTrackFiles((folder, folder, tmp_path / "right", tmp_path / "right"), ("00000", "00001") * 2)
    assert [store.targets(i).tolist() for i in range(4)] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    with pytest.raises(ValueError, match="different cameras"):
        store.observe(0, 2)


def test_copies_are_paths_without_contents(folder):
    store = open_tracks((folder,) * 4, NAMES)
    assert isinstance(store, WindowTrackFiles)
    store.observe(0, 1)
    for other in (copy.deepcopy(store), pickle.loads(pickle.dumps(store))):
        assert other._cache.held == 0
        torch.testing.assert_close(other.observe(0, 1).xy, store.observe(0, 1).xy)


def test_pair_files_and_windows_say_the_same(folder, tmp_path):
    pairs_from_windows(folder, NAMES, tmp_path / "pairs")
    assert pairs_complete(tmp_path / "pairs", NAMES)
    assert len(list((tmp_path / "pairs").iterdir())) == len(NAMES) ** 2
    for query in range(len(NAMES)):
        back = window_from_pairs(tmp_path / "pairs", NAMES, query, reach=1)
        assert back.frames == window(query).frames
        np.testing.assert_array_equal(back.rows, window(query).rows)
    outside = parse_track_logits(read_track_pair(tmp_path / "pairs" / "00000_00004.npy"))
    assert len(outside) == 3
    assert not (outside.visible | outside.invisible).any()


def test_folders_of_both_forms_open_together(folder, tmp_path):
    pairs_from_windows(folder, NAMES, tmp_path / "pairs")
    assert isinstance(open_tracks((tmp_path / "pairs",) * 4, NAMES), SomTrackFiles)
    store = open_tracks((folder,) * 4 + (tmp_path / "pairs",) * 4, NAMES * 2)
    assert isinstance(store, MixedTrackFiles)
    assert store.targets(0).tolist() == [0, 1]
    assert store.targets(4).tolist() == [4, 5, 6, 7]
    torch.testing.assert_close(store.observe(2, 3).xy, store.observe(6, 7).xy)


def test_the_kind_keeps_complete_pairs_and_otherwise_makes_windows(folder, tmp_path):
    kind = TrackKind(tmp_path / "clip", "camera0", NAMES, (8, 8))
    assert kind.paths(2) == {"tracks": tmp_path / "clip" / "tracks" / "camera0" / "00003.npz"}
    assert kind.read(2, 0) is None
    pairs_from_windows(folder, NAMES, tmp_path / "clip" / "bootstapir" / "camera0")
    assert kind.folder == tmp_path / "clip" / "bootstapir" / "camera0"
    assert set(kind.paths(2)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(kind.read(2, 3), window(2).rows_in(3))  # type: ignore[arg-type]
    (tmp_path / "clip" / "bootstapir" / "camera0" / "00000_00003.npy").unlink()
    assert set(kind.paths(2)) == {"tracks"}, "what is not complete is not used"
    kind.write(kind.paths(2)["tracks"], window(2))
    np.testing.assert_array_equal(kind.read(2, 3), window(2).rows_in(3))  # type: ignore[arg-type]
    outside = kind.read(2, 0)
    assert outside is not None
    assert (outside[:, 2:] == 30).all()


def test_lifting_from_windows_is_lifting_from_pairs(sliding_square, tmp_path):
    scene, root = sliding_square
    views = scene.views(root)
    names = tuple(f"{t:05d}" for t in range(scene.frames))
    for query in range(scene.frames):
        made = window_from_pairs(root / "bootstapir" / "camera0", names, query)
        write_track_window(tmp_path / f"{names[query]}.npz", made, names)
    other = replace(views, priors=replace(views.priors, tracks=open_tracks((tmp_path,) * len(names), names)))
    first, second = (lift_tracks(v, 400, torch.Generator().manual_seed(0)) for v in (views, other))
    assert len(first) > 100
    for name, value in vars(first).items():
        torch.testing.assert_close(value, getattr(second, name), atol=2e-3, rtol=0)


# Errors ----------------------------------------------------------------------------------------------------------------


def test_a_damaged_file_is_explained(folder):
    path = folder / "00003.npz"
    content = path.read_bytes()
    for bad in (content[: len(content) // 2], b"", b"text"):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match="00003.npz: cannot be read as a track file"):
            read_track_window(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="00003.npz: no such track file"):
        read_track_window(path)


def test_contents_that_make_no_sense_are_explained(folder):
    path = folder / "00003.npz"
    good = dict(np.load(path))
    for name, value, said in (
        ("xy", good["xy"][:2], "Expected w names and two float arrays"),
        ("xy", good["xy"].astype(int), "Expected w names and two float arrays"),
        ("logits", good["logits"][..., :1], "Expected w names and two float arrays"),
        ("frames", np.array(["00001", "00002", "00004"]), "lacks '00003' itself"),
        ("frames", np.array(["00003", "00003", "00004"]), "has a name twice"),
        ("xy", good["xy"] * np.nan, "are not finite"),
    ):
        np.savez(path, **{**good, name: value})
        with pytest.raises(ValueError, match=said):
            read_track_window(path)


def test_a_truncated_pair_is_not_taken_for_a_window(folder, tmp_path):
    pairs_from_windows(folder, NAMES, tmp_path / "pairs")
    write_track_pair(tmp_path / "pairs" / "00003_00004.npy", np.zeros((2, 4)))
    with pytest.raises(ValueError, match="00003_00004.npy: 2 rows. Expected 5"):
        window_from_pairs(tmp_path / "pairs", NAMES, 2)
