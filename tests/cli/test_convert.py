"""``dyngs convert``: the sample scene in many layouts, to each target, reopened by the target's own loader."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from convert_scenes import DATA, SOURCES, Reopened, Written, listing, loader, reopen
from layout_checks import check_reprojection
from PIL import Image

from dyngs_plugins.convert.command import TARGETS, run
from dyngs_plugins.convert.source import pictures
from dyngs_plugins.sample.cameras import Camera
from dyngs_plugins.sample.writers.nerfies import write_nerfies

REFUSED: dict[tuple[str, str], str] = {
    ("dnerf", "llff"): "no near and far for poses_bounds.npy",
    **{
        (name, "llff"): "cameras ("
        for name in (
            "colmap-rig", "dycheck", "enerf", "marbles", "nerfies-vrig", "neu3d", "nvidia", "som", "som-rig",
        )
    },
}  # fmt: skip


UNEVEN = {("colmap-lens", "llff"), ("colmap-lens", "som"), ("dnerf", "som")}
"""Sources with times of their own, and targets that know the order or the time step alone."""


def check_same(seen: Reopened) -> None:
    """Poses, times, intrinsics and pixels of every image."""
    for new, old in seen.pairs:
        np.testing.assert_allclose(new.world_T_camera, old.world_T_camera, atol=1e-5)
        if not seen.says("times that are not evenly spaced"):
            assert new.time == pytest.approx(old.time, abs=1e-6)
        if seen.resampled and seen.target in ("llff", "dnerf"):
            height, width = new.size
            assert (float(new.K[0, 2]), float(new.K[1, 2])) == (width / 2, height / 2)
            assert float(new.K[0, 0]) == float(new.K[1, 1])
            assert min(new.size) > 0.5 * min(old.size)
            continue
        assert new.size == old.size
        # An angle of view is not a focal length: dividing by its tangent leaves the last digits of a float.
        torch.testing.assert_close(new.K, old.K, rtol=1e-6 if seen.target == "dnerf" else 0, atol=0)
        assert torch.equal(new.lens, old.lens if seen.target == "colmap" else torch.zeros(6).double())
        difference = (new.views.image(new.index) - old.views.image(old.index)).abs().max()
        assert float(difference) <= 0.51 / 255  # a composited colour is rounded to 8 bits
        alpha = old.views.pixels(old.index).shape[-1] == 4
        recoloured = alpha and (old.views.background is None) == (seen.target == "dnerf")
        if new.file.suffix == old.file.suffix and not seen.resampled and not recoloured:
            assert new.file.read_bytes() == old.file.read_bytes()


def check_pictures(seen: Reopened) -> None:
    """Where images were resampled, they are what a ray-cast by the new camera sees, and nothing of a pixel beside."""
    for new, _ in seen.pairs:
        image = new.views.image(new.index).numpy()
        true = seen.truth.shots[new.file].image / 255.0
        drawn = image.max(axis=-1) > 0
        assert drawn.mean() > 0.7
        error = np.abs(image - true)[drawn].mean()
        shifted = [
            np.abs(np.roll(image, shift, axis=axis) - true)[drawn].mean() for shift in (1, -1) for axis in (0, 1)
        ]
        assert error < 0.75 * min(shifted), f"{new.file}: {error} at its place, {shifted} a pixel beside"


def check_priors(seen: Reopened) -> None:
    """Depth, masks and tracks of the training views are those of the source."""
    trains = [(new, old) for new, old in seen.pairs if "train" in old.splits]
    place = {old.index: new.index for new, old in trains}
    views, theirs = trains[0][0].views, trains[0][1].views
    assert (views.priors.depth_files is None) == (theirs.priors.depth_files is None)
    assert (views.priors.mask_files is None) == (theirs.priors.mask_files is None)
    assert (views.tracks is None) == (theirs.tracks is None)
    for old, new in place.items():
        if theirs.priors.depth_files is not None:
            torch.testing.assert_close(views.depth(new), theirs.depth(old), rtol=1e-6, atol=0)
        if theirs.priors.mask_files is not None:
            assert torch.equal(views.dynamic(new) > 0, theirs.dynamic(old) > 0)
        if theirs.tracks is None or views.tracks is None:
            continue
        torch.testing.assert_close(views.tracks.query_points(new), theirs.tracks.query_points(old), rtol=0, atol=1e-5)
        reached = theirs.tracks.targets(old).tolist()
        for target, moved in place.items():
            if theirs.camera_index[target] != theirs.camera_index[old]:
                continue
            found = views.tracks.observe(new, moved)
            if target not in reached:
                assert not (found.visible | found.invisible).any()
                continue
            expected = theirs.tracks.observe(old, target)
            torch.testing.assert_close(found.xy, expected.xy, rtol=0, atol=1e-4)
            assert torch.equal(found.visible, expected.visible)
            assert torch.equal(found.invisible, expected.invisible)
            torch.testing.assert_close(found.confidence, expected.confidence, rtol=0, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_round_trip(source, target, scene, tmp_path):
    written, out = scene(source), tmp_path / "out"
    before = listing(written.root)
    if (source, target) in REFUSED:
        with pytest.raises(ValueError, match="Choose --to") as refused:
            run(written.root, target, out)
        assert REFUSED[source, target] in str(refused.value)
        assert str(written.root) in str(refused.value)
        assert list(tmp_path.iterdir()) == []
    else:
        lines = run(written.root, target, out)
        assert [p.name for p in tmp_path.iterdir()] == ["out"]
        seen = reopen(written, target, out, tmp_path)
        assert all(
            any(text in line for line in lines) for text in (*seen.record["changed"], *seen.record["cannot_say"])
        )
        assert seen.says("times that are not evenly spaced") == ((source, target) in UNEVEN)
        check_same(seen)
        for outputs in seen.outputs.values():
            check_reprojection(outputs, seen.truth)
        if seen.resampled:
            check_pictures(seen)
        if target == "som":
            check_priors(seen)
    assert listing(written.root) == before


@pytest.mark.parametrize("target", ["llff", "dnerf", "som"])
def test_resampled_pixels_come_from_where_the_lens_drew_them(target, tmp_path):
    """The images are ramps whose colours say where a pixel was, so that each pixel of the result can be asked."""
    root, out = tmp_path / "scene", tmp_path / "out"
    truth = write_nerfies(root, frames=6, kind="interp", width=96, height=72)
    for path in truth.shots:
        width, height = Image.open(path).size
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        ramps = np.stack([255 * x / (width - 1), 255 * y / (height - 1), 0 * x], axis=-1)
        Image.fromarray(ramps.round().astype(np.uint8)).save(path)
    run(root, target, out)
    seen = reopen(Written(root, truth), target, out, tmp_path)
    for (new, old), entry in zip(seen.pairs, seen.record["images"], strict=True):
        lens = truth.shot(root / entry["source"]).camera
        straight = Camera(new.views.width, new.views.height, new.K.numpy(), new.world_T_camera)
        points = new.world_T_camera[:3, 3] + straight.directions(straight.pixel_grid())
        expected, _ = lens.project(points)
        height, width = old.size
        scale = np.array([width / lens.width, height / lens.height])
        expected = (expected + 0.5) * scale - 0.5
        image = new.views.image(new.index).numpy().reshape(-1, 3)[:, :2]
        inside = ((expected > 1) & (expected < [width - 2, height - 2])).all(axis=1)
        assert inside.mean() > 0.7
        error = (image * [width - 1, height - 1] - expected)[inside]
        levels = max(width, height) / 255  # pixels per grey level; two roundings of half a level each
        assert np.abs(error).max() < levels + 0.05
        assert np.abs(error.mean(axis=0)).max() < 0.05


# Real data -----------------------------------------------------------------------------------------------------------

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA.name} of real pieces beside the project")


@needs_data
@pytest.mark.parametrize("target", ["colmap", "dnerf"])
def test_books(target, tmp_path):
    run(DATA / "books", target, tmp_path / "out")
    old = {p.file.stem: p for p in pictures(loader("llff-data", DATA / "books").parsed()[0])}
    entries = json.loads((tmp_path / "out" / "converted.json").read_text())["images"]
    new = {p.file: p for p in pictures(loader(TARGETS[target].loader, tmp_path / "out").parsed()[0])}
    assert len(new) == len(old) == 86
    for entry in entries:
        mine, theirs = new[tmp_path / "out" / entry["file"]], old[Path(entry["source"]).stem]
        np.testing.assert_allclose(mine.world_T_camera, theirs.world_T_camera, atol=1e-5)
        torch.testing.assert_close(mine.K, theirs.K, rtol=1e-6, atol=0)
        assert mine.time == pytest.approx(theirs.time, abs=1e-6)


@needs_data
def test_capture1(tmp_path):
    for target in ("som", "llff"):
        run(DATA / "capture1", target, tmp_path / target)
    som = loader("som-data", tmp_path / "som").parsed()[0]
    assert (len(som.train), len(som.evaluation)) == (82, 5)
    llff = loader("llff-data", tmp_path / "llff").parsed()[0]
    assert len(llff.train) + len(llff.evaluation) == 87
    table = np.load(tmp_path / "llff" / "poses_bounds.npy")
    assert (table[:, 15] > 0).all()
    assert (table[:, 16] > table[:, 15]).all()
