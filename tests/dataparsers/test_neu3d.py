"""``neu3d-data``: films with poses_bounds.npy, rows by the order of names, and what can be wrong."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import layout_checks as checks
import numpy as np
import pytest
import torch
from PIL import Image

from dataparsers.neu3d import LAYOUT, PROTOCOLS, Neu3dDataParserConfig
from dyngs_plugins.priors.ply_files import read_ply, write_ply
from dyngs_plugins.sample.writers.neu3d import CAMERAS, write_neu3d
from dyngs_plugins.sample.writers.video import write_video

FRAMES = 5


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neu3d")
    return {
        "films": (folder / "films", write_neu3d(folder / "films", frames=FRAMES)),
        "folders": (folder / "folders", write_neu3d(folder / "folders", frames=FRAMES, films=False, cloud=False)),
        "thirteen": (
            folder / "coffee",
            write_neu3d(folder / "coffee", frames=2, names=("cam00", "cam12", "cam13"), films=False),
        ),
    }


@pytest.fixture
def scene(written, tmp_path) -> Path:
    """A copy to spoil, under a path that is not ASCII."""
    shutil.copytree(written["films"][0], tmp_path / "Küche 厨", ignore=shutil.ignore_patterns("frames_*"))
    return tmp_path / "Küche 厨"


def config(root: Path, **options) -> Neu3dDataParserConfig:
    return Neu3dDataParserConfig(data=root, **options)


@pytest.mark.parametrize("kind", ["films", "folders", "thirteen"])
@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
@pytest.mark.parametrize("factor", [1, 2])
def test_every_protocol_holds(written, kind, protocol, factor, tmp_path):
    root, truth = written[kind]
    if kind == "films" and factor == 1:
        truth = type(truth)(
            truth.scene, {Path(str(p).replace("frames_2", "frames_1")): s for p, s in truth.shots.items()}
        )
    splits = checks.parse_all(config(root, protocol=protocol, downscale_factor=factor))
    for split in ("train", "test"):
        checks.check_reprojection(splits[split], truth)
        checks.check_round_trip(splits[split], truth)
        assert int(splits[split].cameras.width[0]) == 64 // factor
    checks.check_times(splits)
    checks.check_disjoint(splits)


def test_rows_follow_the_order_of_names(written):
    """Names cam00, cam02, cam05 with 3 rows are rows 0, 1, 2; the first camera tests at all times (sheet, fact 7)."""
    splits = checks.parse_all(config(written["films"][0]))
    assert checks.pairs(splits["test"]) == [(0, step) for step in range(FRAMES)]
    assert checks.pairs(splits["train"]) == [(camera, step) for camera in (1, 2) for step in range(FRAMES)]
    said = splits["test"].metadata["protocol"]
    assert said.startswith("neu3d (trains on 2 cameras, 5 frames; tests on cam00, 5 frames; 32x24")
    assert splits["train"].metadata["fps"] == 30.0


def test_extracted_frames_show_what_was_filmed(written):
    root, truth = written["films"]
    outputs = config(root).setup().get_dataparser_outputs("test")
    for path in outputs.image_filenames:
        found = np.asarray(Image.open(path), float)
        errors = []
        for step in range(FRAMES):
            shot = truth.shots[root / "frames_2" / "cam00" / f"{step:05d}.png"]
            expected = shot.image.reshape(24, 2, 32, 2, 3).mean(axis=(1, 3))
            errors.append(float(np.abs(found - expected).mean()))
        assert np.argmin(errors) == int(path.stem)
        assert min(errors) < 6


def test_cam13_is_left_out_where_there_is_one(written):
    splits = checks.parse_all(config(written["thirteen"][0], protocol="without-cam13"))
    assert {camera for camera, _ in checks.pairs(splits["train"])} == {1}
    assert "1 cameras without cam13" in splits["test"].metadata["protocol"]


def test_frames_and_cameras_can_be_chosen(scene, tmp_path):
    options = {"start": 1, "frames": 3, "test_cameras": ("cam02",), "skip_cameras": ("cam05",)}
    splits = checks.parse_all(config(scene, frames_folder=tmp_path / "cache", **options))
    assert checks.pairs(splits["test"]) == [(1, 0), (1, 1), (1, 2)]
    assert checks.pairs(splits["train"]) == [(0, 0), (0, 1), (0, 2)]
    assert splits["train"].image_filenames[0] == tmp_path / "cache" / "frames_2" / "cam00" / "00001.png"
    assert not (scene / "frames_2").exists()
    assert not (tmp_path / "cache" / "frames_2" / "cam05").exists()
    ended = checks.parse_all(config(scene, end=2, frames_folder=tmp_path / "cache"))
    assert len(ended["test"].image_filenames) == 2


def test_the_cloud_or_random_points(written):
    root = written["films"][0]
    train = config(root).setup().get_dataparser_outputs("train")
    cloud = read_ply(root / "points3D_downsample2.ply")
    again = checks.to_file(train, train.metadata["points3D_xyz"])
    np.testing.assert_allclose(again.numpy(), cloud.xyz, atol=1e-4)
    np.testing.assert_array_equal(train.metadata["points3D_rgb"].numpy(), cloud.rgb)
    bare = config(written["folders"][0]).setup().get_dataparser_outputs("train")
    assert "random points between near and far" in bare.metadata["points3D_source"]
    world = checks.to_file(bare, bare.metadata["points3D_xyz"]).double()
    poses = bare.cameras.camera_to_worlds.double()
    depth = []
    for pose in poses:
        center = checks.to_file(bare, pose[None, :, 3].float()).double()
        forward = bare.dataparser_transform[:, :3].double().T @ -pose[:, 2]
        depth.append((world - center) @ forward)
    assert (torch.stack(depth) > 1.99).any(dim=0).all()  # near is 2, far 9
    assert (torch.stack(depth) < 9.01).any(dim=0).all()


def test_frames_that_were_reduced_already_are_used_as_they_are(written, tmp_path):
    """4DGS extracts at half size: poses_bounds.npy still says the full one."""
    root = tmp_path / "half"
    shutil.copytree(written["folders"][0], root)
    for path in root.glob("cam*/images/*.png"):
        Image.open(path).resize((32, 24), Image.Resampling.BOX).save(path)
    half = config(root).setup().get_dataparser_outputs("test")
    assert half.image_filenames[0].parts[-3:] == ("cam00", "images", "0000.png")
    other = config(written["folders"][0]).setup().get_dataparser_outputs("test")
    torch.testing.assert_close(half.cameras.fx, other.cameras.fx)
    assert "the images are 32x24" in checks.message(config(root, downscale_factor=1))


def test_the_config_survives_yaml_and_the_layout_is_recognised(written, tmp_path):
    checks.check_yaml(config(written["films"][0], test_cameras=("cam02",), frames_folder=tmp_path, end=7))
    assert LAYOUT.recognise(written["films"][0]) == "poses_bounds.npy and 3 cameras cam00 ..."
    assert LAYOUT.recognise(written["folders"][0]) == "poses_bounds.npy and 3 cameras cam00 ..."
    assert LAYOUT.recognise(tmp_path) is None
    assert LAYOUT.recognise(tmp_path / "none") is None


def test_upper_case_suffixes_open(scene):
    (scene / "cam02.mp4").rename(scene / "cam02.MP4")
    assert len(config(scene).setup().get_dataparser_outputs("train").image_filenames) == 2 * FRAMES


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def rows(change):
    def spoil(root: Path) -> None:
        table = np.load(root / "poses_bounds.npy")
        np.save(root / "poses_bounds.npy", change(table))

    return spoil


def setting(index, value):
    def change(table: np.ndarray) -> np.ndarray:
        table[index] = value
        return table

    return rows(change)


def film(name: str, count: int, size: tuple[int, int] = (64, 48), fps: int = 30):
    def spoil(root: Path) -> None:
        write_video(root / name, [np.full((size[1], size[0], 3), 20 * i, np.uint8) for i in range(count)], fps)

    return spoil


CORRUPTIONS = {
    "no folder": (lambda r: shutil.rmtree(r), FileNotFoundError, "no such folder. Expected the films"),
    "no films": (lambda r: [p.unlink() for p in r.glob("*.mp4")], FileNotFoundError, "found 0 cameras (none)"),
    "one film": (lambda r: [(r / f"{c}.mp4").unlink() for c in CAMERAS[1:]], FileNotFoundError, "found 1 cameras (cam00)"),
    "film twice": (lambda r: shutil.copy(r / "cam00.mp4", r / "cam00.MOV"), ValueError, "more than one film is called"),
    "film is text": (lambda r: (r / "cam02.mp4").write_text("x"), ValueError, "cam02.mp4: cannot be decoded"),
    "film is cut": (
        lambda r: (r / "cam02.mp4").write_bytes((r / "cam02.mp4").read_bytes()[:900]), ValueError, "cam02.mp4"),
    "film is shorter": (film("cam02.mp4", 3), ValueError, "cam02.mp4: 3 frames, expected 5 like cam00"),
    "another rate": (film("cam02.mp4", 5, fps=25), ValueError, "the films run at [25.0, 30.0] frames per second"),
    "another size": (film("cam02.mp4", 5, (96, 48)), ValueError, "the image is 48x24, expected 32x24"),
    "one frame": (
        lambda r: [film(f"{c}.mp4", 1)(r) for c in CAMERAS], ValueError, "1 frame; expected at least two"),
    "no poses": (lambda r: (r / "poses_bounds.npy").unlink(), FileNotFoundError, "no such LLFF camera file"),
    "a row less": (rows(lambda t: t[:2]), ValueError, "2 rows, expected 3, one per camera in the order of names"),
    "15 columns": (rows(lambda t: t[:, :15]), ValueError, "shape (3, 15)"),
    "text": (rows(lambda t: t.astype(str)), ValueError, "Expected numbers, found <U"),
    "NaN pose": (setting((1, 3), np.nan), ValueError, "1 poses of poses_bounds are not finite; the first is pose 1"),
    "scaled pose": (rows(lambda t: t * 1.5), ValueError, "is not rigid"),
    "focal 0": (setting((slice(None), 14), 0), ValueError, "focal lengths are not positive"),
    "two focals": (setting((2, 14), 99), ValueError, "differ between cameras by more than 1 %"),
    "bounds": (setting((0, 15), -1), ValueError, "bounds are not 0 < near < far"),
    "turned": (
        rows(lambda t: np.concatenate([t[:, :4], t[:, [14]] * 0 + 64, t[:, 5:9], t[:, [14]] * 0 + 48, t[:, 10:]], 1)),
        ValueError, "poses_bounds.npy is for 48x64"),
    "would run code": (
        lambda r: (r / "poses_bounds.npy").write_bytes(pickle.dumps(Bomb())), ValueError, "truncated or of another"),
    "numbers without zeros": (
        lambda r: [(r / a).rename(r / b) for a, b in (("cam02.mp4", "cam2.mp4"), ("cam05.mp4", "cam10.mp4"))],
        ValueError, "Pad the numbers with zeros"),
    "cloud is cut": (
        lambda r: (r / "points3D_downsample2.ply").write_bytes(b"ply\nformat"), ValueError, "as a PLY file"),
    "cloud elsewhere": (
        lambda r: write_ply(r / "points3D_downsample2.ply", np.full((50, 3), -90.0)),
        ValueError, "0% of its points are in the sight of any camera"),
    "cache is a file": (lambda r: (r / "frames_2").write_text(""), OSError, "frames-folder PATH"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "kind", "said"), CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_mistakes_are_explained(scene, spoil, kind, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    spoil(scene)
    message = checks.message(config(scene), kind)
    assert said in message
    assert str(scene) in message
    assert not (tmp_path / "exploded").exists()


def test_frames_of_folders_must_agree(written, tmp_path):
    root = tmp_path / "folders"
    shutil.copytree(written["folders"][0], root)
    (root / "cam02" / "images" / "0002.png").rename(root / "cam02" / "images" / "0009.png")
    assert "only one of them has is number 2" in checks.message(config(root))
    (root / "cam02" / "images" / "0009.png").rename(root / "cam02" / "images" / "x.png")
    assert "the name has no number" in checks.message(config(root))


def test_wrong_options_are_explained(scene):
    assert "test_cameras names cam01; there are cam00, cam02, cam05" in checks.message(
        config(scene, test_cameras=("cam01",))
    )
    assert "skip_cameras names cam13" in checks.message(config(scene, skip_cameras=("cam13",)))
    said = checks.message(config(scene, skip_cameras=("cam00",)))
    assert "cam00 is in test_cameras and in skip_cameras" in said
    assert "leave fewer than 2 frames" in checks.message(config(scene, frames=1))
    assert "leave fewer than 2 frames" in checks.message(config(scene, start=-1))
    assert "downscale_factor is 0" in checks.message(config(scene, downscale_factor=0))
    assert "protocol is 'x'" in checks.message(config(scene, protocol="x"))
