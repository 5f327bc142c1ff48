"""``dyngs inspect``: what it says of a folder, what it draws, and that it leaves the folder's images alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dyngs_plugins.cli import main
from dyngs_plugins.inspection import inspect_folder, loose_images, report
from dyngs_plugins.sample.writers.davis import write_davis
from dyngs_plugins.sample.writers.llff import write_llff
from dyngs_plugins.sample.writers.som import write_som_clip
from dyngs_plugins.sample.writers.video import write_video

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BLUE, ORANGE = (0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # what loaders say of tiny scenes


def pixels_of(path: Path, colour: tuple[int, int, int]) -> int:
    with Image.open(path) as image:
        return int((np.abs(np.asarray(image.convert("RGB")).astype(int) - colour).max(axis=-1) < 8).sum())


def listing(root: Path) -> set[Path]:
    return set(root.rglob("*"))


def test_a_whole_clip(tmp_path, capsys):
    root = tmp_path / "clip"
    write_som_clip(root)
    before = listing(root)
    main(["inspect", str(root), "--out", str(tmp_path / "clip.png")])
    said = capsys.readouterr().out
    for line in (
        "layout    Shape of Motion (som-data): images/SEQ/ with clip.json, droid_recon, aligned_depth_anything, bootst",
        "frames    6 time steps, 0.5 s at 12 per second; 6 training and 6 test images",
        "images    64x48 pixels",
        "times     0 to 1, 6 of 6 steps have images",
        "cameras   train: 1 camera, moving, ",
        "priors    depth: 6 of 6 training images (stored as disparity), 100% of the pixels",
        "          tracks: between the training images",
        "          flow, forward: 5 of 6 training images, ",
        "          flow, backward: 5 of 6 training images, ",
        "          normals: 6 of 6 training images",
        "points    none to start from",
        "protocol  own-views: held-out camera at the training times [in use]: 6 train, 6 test",
        f"picture   {tmp_path / 'clip.png'}",
    ):
        assert line in said, line
    assert "lacks" not in said
    assert "dyn-som, dyn-som-small" in said
    assert listing(root) == before
    assert pixels_of(tmp_path / "clip.png", BLUE) > 1000  # frames of training images, and cameras
    assert pixels_of(tmp_path / "clip.png", ORANGE) > 1000


def test_what_a_layout_without_priors_lacks_and_how_each_protocol_splits_it(tmp_path):
    write_llff(tmp_path / "fern", frames=10)
    said = report(inspect_folder(tmp_path / "fern"))
    assert "priors    none: depth, masks, tracks" in said
    lacking = next(line for line in said.splitlines() if "lacks tracks, depth, masks: make them with `dyngs p" in line)
    assert "dyn-som, dyn-som-small" in lacking
    ready = [line for line in said.splitlines() if "has what it needs" in line]
    assert any("nerf-llff" in line for line in ready)
    assert "losses that stay off: " in said
    assert "          llff: 8 train, 2 test; tests on every 8th image from the first on" in said
    assert "          all: 10 train, 10 test" in said
    assert "[in use]: 9 train, 1 test\n" in said
    everything = report(inspect_folder(tmp_path / "fern", protocol="all"))
    assert "[in use]: 10 train, 10 test; 10 of the test images ARE training images" in everything


def test_a_protocol_that_the_folder_cannot_follow_says_why(tmp_path):
    write_llff(tmp_path / "fern", frames=9)
    assert "          stereo: not here (" in report(inspect_folder(tmp_path / "fern"))


def test_a_video_without_cameras_opens_and_says_that_they_are_missing(tmp_path, capsys):
    root = tmp_path / "camel"
    write_davis(root, cameras="none")
    main(["inspect", str(root), "--out", str(tmp_path / "camel.png")])
    said = capsys.readouterr().out
    for line in (
        "layout    DAVIS (davis-data): JPEGImages/ and Annotations/ without Shape of Motion's tracks",
        "frames    10 time steps, 0.4167 s at 24 per second; 9 training and 1 test images",
        "cameras   none\n",
        "priors    masks: 9 of 9 training images, ",
        "MISSING   ",
        "no cameras for camel",
    ):
        assert line in said, line
    assert "degrees wide" not in said
    assert "scene unit" not in said
    assert "PROBLEM" not in said
    assert {path.suffix for path in loose_images(root)} == {".jpg"}  # photographs, not the masks beside them
    with Image.open(tmp_path / "camel.png") as image:
        assert image.width > 1000


def test_damaged_cameras_are_a_problem_and_not_missing(tmp_path, capsys):
    root = tmp_path / "camel"
    write_davis(root, cameras="llff")
    rows = next(root.rglob("poses_bounds.npy"))
    rows.write_bytes(b"none")
    with pytest.raises(SystemExit) as stopped:
        main(["inspect", str(root), "--out", str(tmp_path / "camel.png")])
    assert stopped.value.code == 2
    said = capsys.readouterr().out
    assert "          JPEGImages/480p/camel/: 10 .jpg" in said
    assert "PROBLEM   " in said
    assert "MISSING" not in said
    assert (tmp_path / "camel.png").is_file()


@pytest.mark.parametrize("film", [True, False])
def test_footage_without_cameras_opens_too(tmp_path, capsys, film):
    root = tmp_path / "walk.mp4" if film else tmp_path / "walk"
    pictures = [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(8)]
    if film:
        write_video(root, pictures, fps=25)
    else:
        root.mkdir()
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(root / f"frame_{i}.png")
    main(["inspect", str(root), "--out", str(tmp_path / "walk.png")])
    said = capsys.readouterr().out
    assert f"layout    none: {'a film' if film else 'images'} without cameras" in said
    assert f"frames    8 frames{', 0.32 s, 25 per second' if film else ', rate not stated'}" in said
    assert "images    64x48 pixels" in said
    assert "cameras   none" in said
    assert f"MISSING   cameras, depth, masks, tracks: make a clip with them by `dyngs process {root}" in said
    with Image.open(tmp_path / "walk.png") as image:
        assert image.width > 1000


def test_a_folder_of_no_layout(tmp_path, capsys):
    (tmp_path / "data" / "notes").mkdir(parents=True)
    (tmp_path / "data" / "notes" / "a.txt").write_text("x")
    with pytest.raises(SystemExit) as stopped:
        main(["inspect", str(tmp_path / "data"), "--out", str(tmp_path / "a.png")])
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert "  notes/: 1 .txt" in said.out
    assert "no known layout; found 1 entries (notes). Looked for" in said.err
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("fern/inspect.png", "this is in the folder that is inspected"),
        ("inspect.jpg", "expected a name that ends in .png"),
    ],
)
def test_the_picture_never_lands_among_the_data(tmp_path, capsys, out, expected):
    write_llff(tmp_path / "fern")
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path / "fern"), "--out", str(tmp_path / out)])
    assert expected in capsys.readouterr().err
    assert not (tmp_path / out).exists()


def test_the_default_picture_is_refused_inside_the_data(tmp_path, capsys, monkeypatch):
    write_llff(tmp_path / "fern")
    monkeypatch.chdir(tmp_path / "fern")
    with pytest.raises(SystemExit):
        main(["inspect", "."])
    assert f"such as --out {tmp_path / 'inspect.png'}." in capsys.readouterr().err


def test_names_that_do_not_exist_are_answered(tmp_path, capsys):
    write_llff(tmp_path / "fern")
    for arguments, expected in ((["--layout", "lff"], "layout is 'lff'"), (["--protocol", "lff"], "protocol is 'lff'")):
        with pytest.raises(SystemExit):
            main(["inspect", str(tmp_path / "fern"), "--out", str(tmp_path / "a.png"), *arguments])
        assert expected in capsys.readouterr().err


@pytest.mark.skipif(not (DATA / "capture1").is_dir(), reason="the real capture1 is not here")
def test_a_real_capture(tmp_path):
    (tmp_path / "capture1").symlink_to(DATA / "capture1")
    said = report(inspect_folder(tmp_path / "capture1"))
    assert "82 training and 5 test images" in said
    assert "lenses (undistorted by our methods)" in said
    assert "1291 to start from, with colours: COLMAP's points" in said
    assert "ARE training images" not in said


def test_footage_too_short_and_a_path_with_spaces(tmp_path, capsys):
    film = tmp_path / "im Café.mp4"
    write_video(film, [np.full((48, 64, 3), 90, np.uint8)], fps=25)
    main(["inspect", str(film), "--out", str(tmp_path / "a.png")])
    said = capsys.readouterr().out
    assert "frames    1 frame, " in said
    assert "note      So short a piece tells little of depth and motion; expected 12 frames or more." in said
    assert f"`dyngs process '{film}' --out CLIP`" in said


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("IMG_1.HEIC", "It holds 1 .heic images, which are not read: convert them to .jpg"),
        ("walk.mp4", "a folder of films, expected one film or a folder of images. It holds 1 film: pass one, as "),
    ],
)
def test_a_folder_of_a_phones_images_or_films(tmp_path, capsys, name, told):
    root = tmp_path / "phone"
    root.mkdir()
    (root / name).write_bytes(b"anything")
    if name.endswith(".mp4"):
        Image.new("RGB", (64, 48)).save(root / "poster.png")
    with pytest.raises(SystemExit):
        main(["inspect", str(root), "--out", str(tmp_path / "a.png")])
    assert told in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["process", str(root), "--out", str(tmp_path / "clip")])
    assert told in capsys.readouterr().err
    assert not (tmp_path / "clip").exists()


def test_a_file_that_is_no_film(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path / "notes.txt"), "--out", str(tmp_path / "a.png")])
    said = capsys.readouterr().err
    assert "notes.txt: this is a file, expected a scene's folder or a film (.mp4, .mov, .m4v, .mkv, ...).\n" in said
