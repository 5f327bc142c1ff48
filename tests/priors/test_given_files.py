"""Priors as given: masks, depth, flow and tracks from folders of files, in the forms that other tools write."""

from __future__ import annotations

import types

import cv2
import numpy as np
import pytest
from PIL import Image

from dyngs_plugins.priors.providers.depth_files import DepthFiles
from dyngs_plugins.priors.providers.flow_files import FlowFiles, read_flo, read_flow
from dyngs_plugins.priors.providers.flow_math import pixel_grid
from dyngs_plugins.priors.providers.given_files import files_of
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.providers.masks_files import MaskFiles
from dyngs_plugins.priors.providers.tracks_files import LongTracks, TrackFiles, window_of_tracks
from dyngs_plugins.priors.som_files import write_track_pair

SIZE = (24, 32)
STEPS = (1, 2, 3, 5)  # 0 and 4 are held out
NAMES = tuple(f"{t:05d}" for t in STEPS)
RNG = np.random.default_rng(0)


@pytest.fixture
def frames(tmp_path) -> FrameSequence:
    for name in NAMES:
        Image.fromarray(RNG.integers(0, 255, (*SIZE, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    files = tuple(tmp_path / f"{name}.png" for name in NAMES)
    eye = np.stack([np.eye(4)] * 4)
    return FrameSequence("camera0", files, STEPS, SIZE, eye, np.stack([np.diag([30.0, 30.0, 1.0])] * 4))


def inputs_of(frames: FrameSequence, moving=None) -> PriorInputs:
    mask = np.ones(SIZE, bool) if moving is None else moving
    return PriorInputs(frames, FlowFiles(), {"masks": lambda i, j: mask})


def made(provider, frames, key, moving=None):
    return [arrays[key] for _, arrays in provider.compute(inputs_of(frames, moving), range(len(frames)))]


# Which file belongs to which image


def test_files_by_name_by_order_and_by_time(frames, tmp_path):
    def names(*stems):
        folder = tmp_path / "given"
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for stem in stems:
            (folder / f"{stem}.npy").write_bytes(b"")
        return [file.stem for file in files_of("depth", str(folder), frames, (".npy",))]

    assert names(*NAMES, "other") == list(NAMES)
    assert names("a", "b", "c", "d") == ["a", "b", "c", "d"]
    assert names("f0", "f1", "f2", "f3", "f4", "f5") == ["f1", "f2", "f3", "f5"], "one for each image of the video"
    with pytest.raises(ValueError, match="3 files .* for 4 images"):
        names("a", "b", "c")


def test_a_folder_of_the_sequence_is_preferred_and_missing_ones_are_named(frames, tmp_path):
    inner = tmp_path / "given" / "camera0"
    inner.mkdir(parents=True)
    for name in NAMES:
        (inner / f"{name}.npy").write_bytes(b"")
    assert files_of("depth", str(tmp_path / "given"), frames, (".npy",))[0].parent == inner
    with pytest.raises(FileNotFoundError, match="depth.folder=FOLDER"):
        files_of("depth", str(tmp_path / "nowhere"), frames, (".npy",))


@pytest.mark.parametrize("provider", [MaskFiles(), DepthFiles(), FlowFiles(), TrackFiles()])
def test_without_a_folder_each_provider_says_what_it_needs(provider, frames):
    assert f"{provider.kind}.folder=" in provider.unavailable()
    with pytest.raises(FileNotFoundError, match="where your files are"):
        next(iter(provider.compute(inputs_of(frames), [0])))


def test_the_record_names_the_folder_without_its_place():
    assert MaskFiles(folder="/home/somebody/my_masks").settings["folder"] == "my_masks"


# Masks


def test_masks_of_every_form(frames, tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    mask = np.zeros(SIZE, bool)
    mask[4:10, 8:20] = True
    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{NAMES[0]}.png")
    rgba = np.zeros((*SIZE, 4), np.uint8)
    rgba[mask, 1], rgba[..., 3] = 7, 255  # the green channel marks it; opaque everywhere
    Image.fromarray(rgba).save(folder / f"{NAMES[1]}.png")
    np.save(folder / f"{NAMES[2]}.npy", mask.astype(np.uint8)[None])
    large = np.kron(mask, np.ones((2, 2), bool))
    np.savez(folder / f"{NAMES[3]}.npz", mask=large)
    for found in made(MaskFiles(folder=str(folder)), frames, "mask"):
        np.testing.assert_array_equal(found, mask)
    np.testing.assert_array_equal(made(MaskFiles(folder=str(folder), invert=True), frames, "mask")[0], ~mask)


def test_masks_of_yes_and_no_are_read_from_arrays_too(frames, tmp_path):
    mask = np.zeros(SIZE, bool)
    mask[4:10, 8:20] = True
    (tmp_path / "given").mkdir()
    for name in NAMES:
        np.save(tmp_path / "given" / f"{name}.npy", mask)
    for found in made(MaskFiles(folder=str(tmp_path / "given")), frames, "mask"):
        np.testing.assert_array_equal(found, mask)


def test_damage_inside_of_a_compressed_archive_is_said(frames, tmp_path):
    (tmp_path / "given").mkdir()
    for name in NAMES:
        np.savez_compressed(tmp_path / "given" / f"{name}.npz", mask=np.zeros(SIZE, bool))
    path = tmp_path / "given" / f"{NAMES[0]}.npz"
    content = bytearray(path.read_bytes())
    start = content.index(b"mask.npy") + len(b"mask.npy") + int.from_bytes(content[28:30], "little")
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{NAMES[0]}.npz: cannot be read as a mask"):
        made(MaskFiles(folder=str(tmp_path / "given")), frames, "mask")


def test_a_mask_of_another_shape_is_refused(frames, tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    for name in NAMES:
        Image.fromarray(np.zeros((32, 24), np.uint8)).save(folder / f"{name}.png")
    with pytest.raises(ValueError, match="24x32, expected 32x24"):
        made(MaskFiles(folder=str(folder)), frames, "mask")
    (folder / f"{NAMES[0]}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="cannot be decoded"):
        made(MaskFiles(folder=str(folder)), frames, "mask")


# Depth


def depth_folder(tmp_path, write):
    folder = tmp_path / "given"
    folder.mkdir()
    depth = np.linspace(2.0, 6.0, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.float32)
    depth[0, 0] = 0.0
    for name in NAMES:
        write(folder / name, depth)
    return folder, depth


@pytest.mark.parametrize(
    ("write", "settings"),
    [
        (lambda path, depth: np.save(f"{path}.npy", depth[..., None]), {}),
        (lambda path, depth: np.savez(f"{path}.npz", depth=depth, note=np.array(3)), {}),
        (lambda path, depth: np.save(f"{path}.npy", np.where(depth > 0, 1 / np.maximum(depth, 1), 0)),
         {"stores": "disparity"}),
        (lambda path, depth: cv2.imwrite(f"{path}.png", (depth * 1000).round().astype(np.uint16)), {"factor": 0.001}),
    ],
)  # fmt: skip
def test_depth_of_every_form_as_it_is(frames, tmp_path, write, settings):
    folder, depth = depth_folder(tmp_path, write)
    provider = DepthFiles(folder=str(folder), align="none", **settings)
    for disparity in made(provider, frames, "disparity"):
        assert disparity[0, 0] == 0
        np.testing.assert_allclose(1 / disparity[depth > 0], depth[depth > 0], rtol=1e-3)
    assert "used as it is" in provider.notes()[0]


def test_depth_is_aligned_unless_asked_not_to(frames, tmp_path):
    """The cameras here stand still, so the unit stays, and that is said."""
    folder, depth = depth_folder(tmp_path, lambda path, depth: np.save(f"{path}.npy", depth))
    moving = np.zeros(SIZE, bool)
    provider = DepthFiles(folder=str(folder))
    assert provider.freedom == "scale"
    made(provider, frames, "disparity", moving)
    assert "no parallax" in provider.notes()[0]


def test_depth_settings_and_shapes(frames, tmp_path):
    with pytest.raises(ValueError, match="depth.factor=0"):
        DepthFiles(factor=0)
    with pytest.raises(ValueError, match="expected depth or disparity"):
        DepthFiles(stores="metres")  # type: ignore[arg-type]
    folder, _ = depth_folder(tmp_path, lambda path, depth: np.save(f"{path}.npy", np.zeros((*SIZE, 3))))
    with pytest.raises(ValueError, match="coloured picture"):
        made(DepthFiles(folder=str(folder), align="none"), frames, "disparity")


# Flow


def write_flo(path, flow) -> None:
    header = np.array([202021.25], "<f4").tobytes() + np.array(flow.shape[1::-1], "<i4").tobytes()
    path.write_bytes(header + flow.astype("<f4").tobytes())


def shift(dx: float, dy: float, size=SIZE) -> np.ndarray:
    return np.broadcast_to(np.array([dx, dy], np.float32), (*size, 2)).copy()


def test_flow_files_are_read_in_every_form(tmp_path):
    flow = shift(1.5, -2.25)
    write_flo(tmp_path / "a.flo", flow)
    np.save(tmp_path / "a.npy", np.moveaxis(flow, -1, 0)[None])
    np.savez(tmp_path / "a.npz", flow=flow)
    kitti = np.concatenate([np.round(flow * 64 + 2**15), np.ones((*SIZE, 1))], -1).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), kitti[..., ::-1])
    for suffix in ("flo", "npy", "npz", "png"):
        np.testing.assert_allclose(read_flow(tmp_path / f"a.{suffix}", SIZE), flow, atol=1e-5)


def test_flow_of_another_size_is_scaled(tmp_path):
    np.save(tmp_path / "a.npy", shift(3.0, -5.0, (48, 64)))
    np.testing.assert_allclose(read_flow(tmp_path / "a.npy", SIZE), shift(1.5, -2.5), atol=1e-6)


def test_a_truncated_flo_file_is_refused(tmp_path):
    write_flo(tmp_path / "a.flo", shift(1, 2))
    data = (tmp_path / "a.flo").read_bytes()
    for broken in (data[:-4], data[:6], b"", b"PIEH" + data[4:-8]):
        (tmp_path / "a.flo").write_bytes(broken)
        with pytest.raises(ValueError, match="not a complete .flo file"):
            read_flo(tmp_path / "a.flo")


def test_given_flow_is_used_and_what_is_missing_is_estimated(frames, tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    for name in NAMES:
        np.save(folder / f"{name}_fwd.npy", shift(2.0, 0.0))
        np.save(folder / f"{name}_bwd.npy", shift(-2.0, 0.0))
    provider = FlowFiles(folder=str(folder))
    results = dict(provider.compute(inputs_of(frames), range(4)))
    np.testing.assert_array_equal(results[0]["fwd"], shift(2.0, 0.0))
    np.testing.assert_array_equal(results[1]["bwd"], shift(-2.0, 0.0))
    inside = (pixel_grid(*SIZE) + shift(2.0, 0.0))[..., 0] <= SIZE[1] - 1
    np.testing.assert_array_equal(results[0]["fwd_visible"], inside)
    assert not np.allclose(results[2]["fwd"], 2.0), "image 3 to 5 leads across a held-out one"
    assert "2 of 6 flow fields" in provider.notes()[0]
    assert set(results[3]) == {"bwd", "bwd_visible"}


def test_no_flow_file_at_all_says_how_to_name_them(frames, tmp_path):
    (tmp_path / "given").mkdir()
    with pytest.raises(FileNotFoundError, match="00001_fwd, fwd/00001 or 00001"):
        list(FlowFiles(folder=str(tmp_path / "given")).compute(inputs_of(frames), [0]))


# Tracks


def truth() -> tuple[np.ndarray, np.ndarray]:
    """Seven points in the six frames of the video, one to the right with each frame."""
    start = np.array([[3, 4], [3, 8], [10, 4], [10.3, 8.2], [10.4, 8.1], [25, 20], [5, 5]], np.float32)
    xy = start[None] + np.arange(6, dtype=np.float32)[:, None, None] * [1, 0]
    seen = np.ones((6, 7), bool)
    seen[3, 2] = seen[:, 6] = False
    return xy, seen


@pytest.mark.parametrize("points_first", [False, True])
@pytest.mark.parametrize(
    ("key", "flag_key", "flags", "batch"),
    [
        ("pred_tracks", "pred_visibility", lambda seen: seen, True),
        ("tracks", "visibility", lambda seen: seen.astype(np.float32), False),
        ("points", "occluded", lambda seen: ~seen, False),
        ("tracks", "occlusion", lambda seen: np.where(seen, -3.0, 3.0), False),
    ],
)
def test_long_tracks_of_other_tools(frames, tmp_path, key, flag_key, flags, batch, points_first):
    xy, seen = truth()
    arrays = {key: xy, flag_key: flags(seen)}
    if points_first:
        arrays = {name: array.swapaxes(0, 1) for name, array in arrays.items()}
    if batch:
        arrays = {name: array[None] for name, array in arrays.items()}
    np.savez(tmp_path / "tracks.npz", **arrays)
    found = TrackFiles(folder=str(tmp_path / "tracks.npz")).read(tmp_path / "tracks.npz", frames)
    np.testing.assert_allclose(found.xy, xy[list(STEPS)])
    np.testing.assert_array_equal(found.seen, seen[list(STEPS)])


@pytest.mark.parametrize(
    ("settings", "stored"),
    [
        ({"coordinates": "unit"}, lambda xy: (xy + 0.5) / [32, 24]),
        ({}, lambda xy: (xy + 0.5) / [32, 24]),
        ({"coordinates": "corners"}, lambda xy: xy + 0.5),
        ({"coordinates": "corners", "made_at": (256, 256)}, lambda xy: (xy + 0.5) * [256 / 32, 256 / 24]),
        ({"made_at": (64, 48)}, lambda xy: (xy + 0.5) * 2 - 0.5),
    ],
)
def test_coordinates_of_other_tools(frames, tmp_path, settings, stored):
    xy, seen = truth()
    path = tmp_path / "tracks.npz"
    np.savez(path, tracks=stored(xy), visibility=seen)
    found = TrackFiles(folder=str(path), **settings).read(path, frames)
    np.testing.assert_allclose(found.xy, xy[list(STEPS)], atol=1e-4)


def test_query_pixels_are_whole_unique_moving_and_in_raster_order():
    xy, seen = truth()
    moving = np.ones(SIZE, bool)
    moving[20, 25] = False
    window = window_of_tracks(LongTracks(xy, seen), 0, moving, reach=4)
    own = window.rows_in(0)[:, :2]
    np.testing.assert_array_equal(own, [[3, 4], [10, 4], [3, 8], [10, 8]])
    assert window.frames == (0, 1, 2, 3, 4)
    np.testing.assert_allclose(window.rows_in(2)[:, :2], own + [2, 0])
    np.testing.assert_array_equal(window.rows_in(3)[:, 2] > 0, [False, True, False, False])
    assert (window.rows[..., 3] < 0).all()


def test_tracks_of_a_frame_without_moving_pixels_are_empty(frames, tmp_path):
    xy, seen = truth()
    np.savez(tmp_path / "tracks.npz", tracks=xy, visibility=seen)
    windows = made(TrackFiles(folder=str(tmp_path / "tracks.npz")), frames, "tracks", np.zeros(SIZE, bool))
    assert [window.rows.shape for window in windows] == [(4, 0, 4)] * 4


def test_pair_files_are_read(frames, tmp_path):
    folder = tmp_path / "pairs"
    rows = {(q, t): np.array([[5 + t - q, 6, -4, -4]], np.float32) for q in range(4) for t in range(4)}
    for (q, t), array in rows.items():
        write_track_pair(folder / f"{NAMES[q]}_{NAMES[t]}.npy", array)
    windows = made(TrackFiles(folder=str(folder)), frames, "tracks")
    np.testing.assert_array_equal(windows[1].rows_in(3), rows[1, 3])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"something": np.zeros((6, 7, 2))}, "but no positions"),
        ({"tracks": np.zeros((6, 7, 2))}, "not who is seen"),
        ({"tracks": np.zeros((6, 7, 3)), "visibility": np.zeros((6, 7))}, "expected \\(frames, points, 2\\)"),
        ({"tracks": np.zeros((9, 11, 2)), "visibility": np.zeros((9, 11))}, "frames or points first"),
        ({"tracks": np.zeros((2, 3, 2)), "visibility": np.zeros((2, 3))}, "expected 4 frames"),
        ({"tracks": np.zeros((4, 6, 2)), "visibility": np.zeros((4, 6))}, "tracks.first_axis=frames"),
    ],
)
def test_tracks_that_are_not_understood(frames, tmp_path, arrays, message):
    np.savez(tmp_path / "tracks.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        TrackFiles(folder=str(tmp_path / "tracks.npz")).read(tmp_path / "tracks.npz", frames)


def test_a_folder_with_neither_form_says_what_to_name():
    frames = types.SimpleNamespace(name="camera0", stems=NAMES)
    with pytest.raises(FileNotFoundError, match="tracks.folder=FILE.npz"):
        TrackFiles(folder="nowhere")._npz(frames)  # type: ignore[arg-type]
