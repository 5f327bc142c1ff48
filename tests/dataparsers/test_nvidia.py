"""``nvidia-data``: both packs, every protocol's pairs, and what can be wrong with the files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from layout_checks import (
    check_depth,
    check_disjoint,
    check_flow,
    check_masks,
    check_reprojection,
    check_round_trip,
    check_times,
    check_yaml,
    message,
    pairs,
    parse_all,
)
from PIL import Image

from dataparsers.llff import LAYOUT as LLFF
from dataparsers.nvidia import LAYOUT, PROTOCOLS, NvidiaDataParserConfig
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.sample.writers.nvidia import write_dynamicnerf, write_nsff
from dyngs_plugins.sample.writers.truth import Truth

WRITERS = {"dynamicnerf": write_dynamicnerf, "nsff": write_nsff}
FRAMES, RIG = 8, 5
"""Of the NSFF pack."""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, tuple[Path, Truth]]:
    """Both packs as they are written; do not write there."""
    roots = {name: tmp_path_factory.mktemp(name) / "Balloon1" for name in WRITERS}
    return {name: (root, WRITERS[name](root)) for name, root in roots.items()}


@pytest.fixture
def pack(written, tmp_path):
    """Copies to spoil, by name."""

    def copy(name: str) -> tuple[Path, Truth]:
        source, truth = written[name]
        root = tmp_path / name
        shutil.copytree(source, root)
        return root, Truth(truth.scene, {root / p.relative_to(source): shot for p, shot in truth.shots.items()})

    return copy


class Code:
    """Unpickled, it would make a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def config(root: Path, **options) -> NvidiaDataParserConfig:
    return NvidiaDataParserConfig(data=root, **options)


def kinds(protocol: str) -> str:
    return "nsff" if protocol in ("nsff", "multiview") else "dynamicnerf"


@pytest.mark.parametrize("protocol", [p.name for p in PROTOCOLS])
@pytest.mark.parametrize("normalise", [False, True])
def test_every_protocol_opens(pack, protocol, normalise):
    root, truth = pack(kinds(protocol))
    splits = parse_all(config(root, protocol=protocol, scene_normalisation=normalise))
    for outputs in splits.values():
        check_reprojection(outputs, truth)
        check_round_trip(outputs, truth)
        assert outputs.metadata["protocol"].startswith(f"{protocol} (trains on")
        assert outputs.metadata["priors"].depth_files is None
    check_disjoint(splits)
    check_times(splits)
    check_masks(splits["train"], truth, share=0.95)
    if protocol == "multiview":  # flow leads between images of different cameras, of which one is held out
        assert not splits["train"].metadata["priors"].has_flow
    else:
        check_flow(splits["train"], truth, share=0.95)
    assert not splits["test"].metadata["priors"].has_flow
    assert (splits["train"].dataparser_scale == 1.0) == (not normalise)


@pytest.mark.parametrize(("protocol", "steps"), [("", (1, 12)), ("dynamicnerf", (0, 12)), ("yoon", (1, 11))])
def test_dynamicnerf_pairs(pack, protocol, steps):
    """Train {(i, i)}, test {(0, t)}; they overlap in (0, 0), which the default leaves out."""
    splits = parse_all(config(pack("dynamicnerf")[0], protocol=protocol))
    assert pairs(splits["train"]) == [(i, i) for i in range(12)]
    assert pairs(splits["test"]) == [(0, t) for t in range(*steps)]
    overlap = set(pairs(splits["train"])) & set(pairs(splits["test"]))
    assert overlap == ({(0, 0)} if protocol == "dynamicnerf" else set())
    shares = "the image at time 0 IS training image 0" in splits["test"].metadata["protocol"]
    assert shares == bool(overlap)
    torch.testing.assert_close(splits["train"].cameras.times.flatten(), torch.arange(12) / 11)


def test_nsff_pairs(pack):
    root, _ = pack("nsff")
    splits = parse_all(config(root))
    assert pairs(splits["train"]) == [(t % RIG, t) for t in range(FRAMES)]
    everything = {(c, t) for c in range(RIG) for t in range(FRAMES)}
    assert set(pairs(splits["test"])) == everything - set(pairs(splits["train"]))
    assert len(pairs(splits["test"])) == (RIG - 1) * FRAMES
    multiview = parse_all(config(root, protocol="multiview"))
    assert set(pairs(multiview["test"])) == {(3, t) for t in range(FRAMES)}
    assert set(pairs(multiview["train"])) == {(c, t) for c, t in everything if c != 3}


def test_nsff_at_its_published_size(tmp_path):
    """24 of 25 frames train, 264 views of 12 cameras test."""
    write_nsff(tmp_path, width=16, height=16, frames=25, cameras=12)
    splits = parse_all(config(tmp_path))
    assert (len(splits["train"].image_filenames), len(splits["test"].image_filenames)) == (24, 264)
    assert not set(pairs(splits["train"])) & set(pairs(splits["test"]))
    check_times(splits)


def test_nsff_is_reduced_to_288_rows(pack):
    root, _ = pack("nsff")
    for folder in ("images", "mv_images", "motion_masks", "mv_masks"):
        for path in [p for p in (root / folder).rglob("*") if p.is_file()]:
            Image.open(path).resize((772, 579), Image.Resampling.NEAREST).save(path)
    splits = parse_all(config(root))
    assert splits["train"].image_filenames[0] == root / "images_384x288" / "00000.png"
    assert splits["test"].image_filenames[0] == root / "mv_images_384x288" / "00000" / "cam02.png"
    assert float(splits["train"].cameras.fx[0]) == pytest.approx(0.95 * 384)
    for outputs in (splits["train"], splits["test"]):
        assert {int(outputs.cameras.width[0]), int(outputs.cameras.height[0])} == {384, 288}
        assert (ClipViews.from_dataparser_outputs(outputs).dynamic(0) > 0).any()


@pytest.mark.parametrize("name", list(WRITERS))
def test_other_factors(pack, name):
    root, truth = pack(name)
    full = parse_all(config(root, downscale_factor=1))
    assert int(full["train"].cameras.width[0]) == 64
    quarter = parse_all(config(root, downscale_factor=4))
    assert [int(quarter[split].cameras.width[0]) for split in ("train", "test")] == [16, 16]
    for outputs in (*full.values(), *quarter.values()):
        check_reprojection(outputs, truth)


def test_relative_disparity_is_no_depth(pack):
    root, truth = pack("dynamicnerf")
    said = message(config(root, depth_type="disp"))
    assert "depth_type is 'disp', which holds a network's relative disparity, shifted too" in said
    assert "Align it to the cameras first" in said
    splits = parse_all(config(root, depth_type="aligned_disp"))
    check_depth(splits["train"], truth)
    assert splits["test"].metadata["priors"].depth_files is None
    said = message(config(root, depth_type="uni_depth"))
    assert "'uni_depth', which holds a network's depth in metres of its own" in said
    assert "other: no such folder" in message(config(root, depth_type="other"), FileNotFoundError)
    (root / "aligned_disp" / "004.npy").unlink()
    said = message(config(root, depth_type="aligned_disp"), FileNotFoundError)
    assert "004.npy: no such disparity map; 1 of 12 are missing" in said
    np.save(root / "aligned_disp" / "004.npy", np.ones((48, 64), np.float32))
    assert "the disparity map is 64x48, expected 32x24" in message(config(root, depth_type="aligned_disp"))
    np.save(root / "aligned_disp" / "004.npy", np.full((24, 32), np.nan, np.float32))
    assert "768 of 768 values are NaN" in message(config(root, depth_type="aligned_disp"))


def test_half_size_images_alone_are_enough(pack):
    """RoDynRF's and SplineGS's packs have images_2/ only."""
    root, truth = pack("dynamicnerf")
    expected = parse_all(config(root))
    shutil.rmtree(root / "images")
    found = parse_all(config(root))
    assert found["train"].image_filenames == expected["train"].image_filenames
    torch.testing.assert_close(found["train"].cameras.fx, expected["train"].cameras.fx)
    shots = {root / "images_2" / p.name if p.parent.name == "images" else p: s for p, s in truth.shots.items()}
    check_reprojection(found["train"], Truth(truth.scene, shots))


def test_without_priors_it_opens(pack):
    for name, folders in (("dynamicnerf", ["motion_masks", "disp"]), ("nsff", ["motion_masks", "disp", "mv_masks"])):
        root, truth = pack(name)
        for folder in folders:
            shutil.rmtree(root / folder)
        splits = parse_all(config(root))
        assert splits["train"].metadata["priors"].mask_files is None
        assert splits["test"].metadata["priors"].mask_files is None
        check_reprojection(splits["train"], truth)


def test_moving_pixels_of_test_views(pack):
    root, truth = pack("nsff")
    check_masks(parse_all(config(root))["test"], truth, share=0.999)


def test_the_original_data_pack_has_no_test_images(pack):
    root, _ = pack("dynamicnerf")
    shutil.rmtree(root / "gt")
    with pytest.warns(UserWarning, match="v000_t000.png ... are not in DynamicNeRF's data pack but in its result pack"):
        splits = parse_all(config(root))
    assert splits["test"].metadata["protocol"] == "training views (gt/ is missing)"
    assert "no v000_t000.png ... there" in message(config(root, protocol="dynamicnerf"), FileNotFoundError)


def test_config_and_recognition(pack, tmp_path):
    dynamic, nsff = pack("dynamicnerf")[0], pack("nsff")[0]
    check_yaml(config(dynamic, layout="nsff", depth_type="aligned_disp"))
    assert LAYOUT.recognise(dynamic) == "gt/v000_t*.png and poses_bounds.npy: DynamicNeRF's pack"
    assert LAYOUT.recognise(nsff) == "mv_images/ and poses_bounds.npy: NSFF's pack"
    shutil.rmtree(dynamic / "gt")
    shutil.rmtree(dynamic / "flow")
    assert LAYOUT.recognise(dynamic) is None  # as any LLFF folder with masks
    assert LLFF.recognise(dynamic)
    (dynamic / "flow").mkdir()
    assert LLFF.recognise(dynamic) is None
    assert LLFF.recognise(nsff) is None
    assert (
        LAYOUT.recognise(dynamic)
        == "12 images, motion_masks/, disp/, flow/ and poses_bounds.npy: DynamicNeRF's data pack"
    )
    assert LAYOUT.recognise(tmp_path / "nothing") is None
    assert len({p.name for p in PROTOCOLS}) == len(PROTOCOLS)


@pytest.mark.parametrize("name", list(WRITERS))
def test_upper_case_suffixes_and_unicode_paths(written, pack, tmp_path, name):
    root = tmp_path / "Bälle 球"
    shutil.copytree(written[name][0], root)
    for folder in ("images", "motion_masks"):
        for path in list((root / folder).iterdir())[:3]:
            path.rename(path.with_suffix(".PNG"))
    extra = root / "gt" / "v000_t003.png" if name == "dynamicnerf" else root / "mv_images" / "00000" / "cam02.jpg"
    extra.rename(extra.with_suffix(extra.suffix.upper()))
    found, expected = parse_all(config(root)), parse_all(config(pack(name)[0]))
    assert [p.stem for p in found["test"].image_filenames] == [p.stem for p in expected["test"].image_filenames]
    assert pairs(found["train"]) == pairs(expected["train"])


def test_a_wrong_folder(tmp_path, pack):
    assert "no such folder. Expected an NVIDIA scene" in message(config(tmp_path / "nothing"), FileNotFoundError)
    root, _ = pack("nsff")
    said = message(config(root.parent), FileNotFoundError)
    assert "no NVIDIA scene. Expected images/" in said
    assert f"One level too high? Pass --data {root}" in said
    (root / "gt").mkdir()
    Image.new("RGB", (64, 48)).save(root / "gt" / "v000_t000.png")
    assert "found both gt/ (DynamicNeRF's pack) and mv_images/" in message(config(root))
    assert len(parse_all(config(root, layout="nsff"))["train"].image_filenames) == FRAMES


def test_protocols_of_the_other_pack(pack):
    root, _ = pack("nsff")
    said = message(config(root, protocol="dynamicnerf"))
    assert "protocol is 'dynamicnerf', but the folder is a nsff pack; expected one of nsff, multiview" in said
    assert "protocol is 'x'; expected one of\n  nsff (" in message(config(root, protocol="x"))


@pytest.mark.parametrize("name", list(WRITERS))
def test_broken_cameras(pack, name):
    root, _ = pack(name)
    path = root / "poses_bounds.npy"
    table = np.load(path)
    count = len(table)
    np.save(path, table[:-1])
    assert f"{path}: {count - 1} rows. Expected {count}, one per image" in message(config(root))
    np.save(path, table[:, :15])
    assert f"{path}: shape ({count}, 15). Expected (number of images, 17)" in message(config(root))
    bad = table.copy()
    bad[3, 0] = np.nan
    np.save(path, bad)
    assert "1 poses of poses_bounds are not finite; the first is pose 3" in message(config(root))
    bad = table.copy()
    bad[2, :2] *= 3.0
    np.save(path, bad)
    assert "pose 2 of poses_bounds is not rigid" in message(config(root))
    bad = table.copy()
    bad[:, [9, 4]] = 100, 100
    np.save(path, bad)
    assert "has cameras of 100x100, another shape" in message(config(root))
    bad[:, 14] = -5
    np.save(path, bad)
    assert "heights, widths or focal lengths are not positive" in message(config(root))
    np.save(path, np.array([Code(root / "ran")], dtype=object), allow_pickle=True)
    assert f"{path}: cannot be read as a LLFF camera file (Array can't be memory-mapped" in message(config(root))
    assert not (root / "ran").exists()
    path.write_bytes(b"\x93NUMPY")
    assert f"{path}: cannot be read as a LLFF camera file" in message(config(root))
    path.unlink()
    assert f"{path}: no such LLFF camera file" in message(config(root), FileNotFoundError)


@pytest.mark.parametrize("name", list(WRITERS))
def test_broken_images_and_masks(pack, name):
    root, _ = pack(name)
    stem = "003" if name == "dynamicnerf" else "00003"
    image, mask = root / "images" / f"{stem}.png", root / "motion_masks" / f"{stem}.png"
    mask.rename(mask.with_name("stranger.png"))
    said = message(config(root), FileNotFoundError)
    assert f"{mask}: no such mask; 1 of " in said
    mask.with_name("stranger.png").unlink()
    Image.new("L", (20, 20)).save(mask)
    assert f"{mask}: the image is 20x20, expected 64x48" in message(config(root))
    mask.write_bytes(b"nothing")
    assert f"{mask}: cannot be read as an image" in message(config(root))
    Image.new("RGB", (20, 20)).save(image)
    assert f"{image}: the image is 20x20, expected 64x48" in message(config(root, downscale_factor=1))
    Image.new("RGB", (20, 20)).save(image.with_suffix(".jpg"))
    assert f"1 names are used by more than one image; the first is '{stem}'" in message(
        config(root, downscale_factor=1)
    )
    shutil.rmtree(root / "images")
    said = message(config(root, downscale_factor=1), FileNotFoundError)
    assert f"{root / 'images'}: no such folder. Expected the clip's images. nvidia-data reads images/" in said


def test_broken_test_images(pack):
    root, _ = pack("dynamicnerf")
    (root / "gt" / "v000_t004.png").rename(root / "gt" / "v000_t012.png")
    said = message(config(root), FileNotFoundError)
    assert "v000_t004.png: no such image; 1 of 12 are missing" in said
    shutil.copy(root / "gt" / "v000_t005.png", root / "gt" / "v000_t004.png")
    assert "time 12, but there are 12 training images" in message(config(root))
    shutil.copy(root / "gt" / "v000_t005.png", root / "gt" / "v000_t12.png")
    assert "time 12 of camera 0 is also v000_t012.png" in message(config(root))
    for path in (root / "gt").glob("v000_t*12.png"):
        path.unlink()
    Image.new("RGB", (10, 10)).save(root / "gt" / "v000_t007.png")
    assert "v000_t007.png: the image is 10x10, expected 32x24" in message(config(root))
    for path in (root / "gt").iterdir():
        Image.new("RGB", (10, 10)).save(path)
    assert "v000_t001.png: the image is 10x10, but" in message(config(root))


def test_broken_reduced_folder(pack):
    root, _ = pack("dynamicnerf")
    parse_all(config(root))
    (root / "images_2" / "003.png").unlink()
    parse_all(config(root))
    assert (root / "images_2" / "003.png").is_file()
    Image.new("RGB", (32, 24)).save(root / "images_2" / "stranger.png")
    assert "1 images have no counterpart in images/; the first is 'stranger'" in message(config(root))


def test_broken_rig(pack):
    root, _ = pack("nsff")
    table = np.load(root / "poses_bounds.npy")
    folder = root / "mv_images" / "00002"
    (folder / "cam03.jpg").unlink()
    assert f"{folder}: found the cameras [1, 2, 4, 5]; expected 1 to 5" in message(config(root))
    (folder / "cam01.jpg").rename(folder / "cam00.jpg")
    assert "cam00.jpg: not the name of a camera; expected cam01" in message(config(root))
    (folder / "cam00.jpg").rename(folder / "left.jpg")
    assert "left.jpg: not the name of a camera" in message(config(root))
    shutil.rmtree(folder)
    said = message(config(root), FileNotFoundError)
    assert f"{folder}: no such folder; 1 of 8 times are missing" in said
    folder.mkdir()
    assert f"{folder}: found 0 images" in message(config(root))
    shutil.rmtree(root / "mv_images")
    said = message(config(root, layout="nsff"), FileNotFoundError)
    assert "mv_images: no such folder. Expected every camera at every time" in said
    np.save(root / "poses_bounds.npy", table)


def test_too_few_rows_or_cameras(tmp_path):
    write_nsff(tmp_path / "few", width=16, height=16, frames=3, cameras=5)
    assert "3 rows, but mv_images/ has 5 cameras" in message(config(tmp_path / "few"))
    write_nsff(tmp_path / "two", width=16, height=16, frames=3, cameras=2)
    assert "found 2 cameras; the multiview protocol holds out the fourth" in message(
        config(tmp_path / "two", protocol="multiview")
    )


def test_masks_of_test_views_are_all_there_or_none(pack):
    root, _ = pack("nsff")
    (root / "mv_masks" / "00001" / "cam01.png").unlink()
    said = message(config(root), FileNotFoundError)
    assert f"{root / 'mv_masks' / '00001' / 'cam01.png'}: no such mask; 1 of 5 are missing" in said
    shutil.rmtree(root / "mv_masks" / "00001")
    assert "no such mask; 5 of 5 are missing" in message(config(root), FileNotFoundError)
    shutil.rmtree(root / "mv_masks")
    said = message(config(root, protocol="multiview", depth_type="depth"))
    assert "depth_type is 'depth', but it belongs to images/" in said
