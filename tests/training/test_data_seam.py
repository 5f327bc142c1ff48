"""What reaches a training: composited and undistorted, from whatever a clip has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_splits import HEIGHT, WIDTH, manager_of, outputs_of, write_images
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.scene_box import SceneBox
from PIL import Image

from dataparsers.colmap_time import ColmapTimeDataParserConfig
from dataparsers.som import SomDataParserConfig
from dyngs_plugins.dataset import DynamicDataset
from dyngs_plugins.loss_context import LossContext
from dyngs_plugins.motion.static import StaticMotionConfig
from dyngs_plugins.objective import look_up
from dyngs_plugins.priors import flow_files, normal_files
from dyngs_plugins.priors.views import ClipViews, Priors
from dyngs_plugins.sample.cameras import Camera
from dyngs_plugins.sample.shots import take_shot
from dyngs_plugins.sample.writers.colmap import write_colmap_time
from dyngs_plugins.sample.writers.som import write_som_clip
from dyngs_plugins.types import Render

# Alpha ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def translucent(tmp_path) -> Path:
    """Half transparent red, and one pixel each of every alpha."""
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 255, 128
    pixels[2:18, 4:20, :3] = (10, 200, 90)
    pixels[2:18, 4:20, 3] = np.arange(256).reshape(16, 16)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.mark.parametrize(("background", "red"), [("white", (1.0, 0.5, 0.5)), ("black", (0.5, 0.0, 0.0))])
def test_alpha_is_composited_the_same_for_every_method(translucent, background, red):
    outputs = outputs_of([translucent], background=background)
    data = manager_of(outputs)
    ours = data.views.image(0)
    torch.testing.assert_close(ours[0, 0], torch.tensor(red), atol=0.003, rtol=0)
    batch = data.next_train(0)[1]["image"][0]
    torch.testing.assert_close(batch, ours)
    torch.testing.assert_close(data.train_dataset[0]["image"], ours)
    host = InputDataset(outputs)
    torch.testing.assert_close(host[0]["image"], ours)
    in_bytes = host.get_image_uint8(0).float() / 255
    assert float((in_bytes - ours).abs().max()) <= 1 / 255 + 1e-6


def test_without_a_background_alpha_is_dropped(translucent):
    views = ClipViews.from_dataparser_outputs(outputs_of([translucent]))
    torch.testing.assert_close(views.image(0)[0, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_opaque_images_with_alpha_are_kept_as_three_channels(tmp_path):
    Image.fromarray(np.full((HEIGHT, WIDTH, 4), 255, np.uint8)).save(tmp_path / "a.png")
    palette = Image.fromarray(np.full((HEIGHT, WIDTH, 3), 102, np.uint8)).convert("P")
    palette.save(tmp_path / "b.png")
    Image.fromarray(np.full((HEIGHT, WIDTH), 7, np.uint8)).save(tmp_path / "c.png")
    views = ClipViews.from_dataparser_outputs(outputs_of([tmp_path / f"{n}.png" for n in "abc"]))
    assert [tuple(views.pixels(i).shape) for i in range(3)] == [(HEIGHT, WIDTH, 3)] * 3
    assert [int(views.pixels(i)[0, 0, 0]) for i in range(3)] == [255, 102, 7]


def test_batches_mix_opaque_and_transparent_images(translucent):
    opaque = write_images(translucent.parent, 1)
    _, batch = manager_of(outputs_of([translucent, *opaque], background="white")).next_train(0)
    assert batch["image"].shape == (2, HEIGHT, WIDTH, 3)


def test_pixels_that_do_not_count_are_in_no_loss(translucent):
    """Without masks, too: what alpha hides may be anything."""
    outputs = outputs_of([translucent])
    outputs.metadata["priors"] = Priors(valid_files=(translucent,))
    _, batch = manager_of(outputs).next_train(0)
    hidden = ~batch["valid"]
    assert 0 < int(hidden.sum()) < hidden.numel() // 2
    for where, same in ((hidden, True), (~hidden, False)):
        losses = []
        for value in (0.0, 1.0):
            image = torch.where(where[..., None], torch.full_like(batch["image"], value), batch["image"])
            losses.append(float(look_up("rgb").function(context_of({**batch, "image": image}))))
        assert (losses[0] == losses[1]) == same


def context_of(batch: dict) -> LossContext:
    """A grey render of a batch."""
    render = Render({"rgb": torch.full_like(batch["image"], 0.3)}, torch.ones(1, HEIGHT, WIDTH, 1), None, {})
    return LossContext(
        render=render,
        batch=batch,
        times=torch.zeros(1),
        camera_T_world=torch.eye(4)[None],
        num_frames=1,
        dynamic=None,
        static=None,
        motion=StaticMotionConfig().setup(num_frames=1),
        neighbours=lambda: torch.zeros(0, 0, dtype=torch.long),
    )


# Flow and normals ----------------------------------------------------------------------------------------------------


def test_flow_and_normals_are_read_for_those_who_want_them(tmp_path, monkeypatch):
    write_som_clip(tmp_path / "clip", frames=4)
    outputs = SomDataParserConfig(data=tmp_path / "clip").setup().get_dataparser_outputs("train")
    opened = []
    for module, name in ((flow_files, "read_flow"), (normal_files, "read_normals")):
        read = getattr(module, name)
        monkeypatch.setattr(module, name, lambda file, read=read: opened.append(file) or read(file))
    data = manager_of(outputs, frames_per_batch=4)
    _, batch = data.next_train(0)
    assert opened == []
    assert not [key for key in batch if key.startswith(("flow", "normals"))]
    data.want({"depth", "flow", "normals", "targets"})
    _, batch = data.next_train(1)
    assert len(opened) == 6 + 4  # three pairs both ways, four images
    order = batch["view_index"]
    assert batch["normals"].shape == batch["flow_fwd"].shape[:3] + (3,) == (4, 48, 64, 3)
    for way, step in (("fwd", 1), ("bwd", -1)):
        leads, visible = batch[f"flow_{way}_target"], batch[f"flow_{way}_visible"]
        there = (order + step >= 0) & (order + step < 4)
        assert torch.equal(leads.view, torch.where(there, order + step, order))
        assert torch.equal(leads.frame, leads.view)
        torch.testing.assert_close(leads.time, data.views.times[leads.view])
        torch.testing.assert_close(leads.camera_T_world, data.views.camera_T_world[leads.view])
        torch.testing.assert_close(leads.K, data.views.K[leads.view])
        assert torch.equal(visible.flatten(1).any(dim=1), there)
        assert not batch[f"flow_{way}"][~there].any()
        found = data.views.flow(1, "forward" if step == 1 else "backward")
        assert found is not None
        assert torch.equal(batch[f"flow_{way}"][order == 1][0], found.flow)
    data.next_train(2)
    assert len(opened) == 10  # kept within the memory budget
    data.want(())
    assert "flow_fwd" not in data.next_train(3)[1]


def test_nothing_is_wanted_of_a_clip_that_has_none(tmp_path):
    data = manager_of(outputs_of(write_images(tmp_path, 3)), frames_per_batch=2)
    data.want({"flow", "normals"})
    assert not [key for key in data.next_train(0)[1] if key.startswith(("flow", "normals"))]


# Lenses and cameras --------------------------------------------------------------------------------------------------


def test_a_lens_is_taken_out_for_our_methods_and_left_to_the_host(tmp_path):
    lens = torch.tensor([0.3, 0.0, 0.0, 0.0, 0.0, 0.0])
    outputs = outputs_of(write_images(tmp_path, 3), distortion=lens)
    data = manager_of(outputs, frames_per_batch=3)
    cameras, batch = data.next_train(0)
    assert cameras.distortion_params is None
    assert data.eval_dataset.cameras.distortion_params is None
    torch.testing.assert_close(outputs.cameras.distortion_params[0], lens)
    # A pincushion pulls the corners out of the image: black, and of no weight.
    assert not batch["valid"][:, 0, 0].any()
    assert batch["valid"][:, HEIGHT // 2, WIDTH // 2].all()
    assert float(batch["image"][:, 0, 0].abs().max()) == 0.0
    _, evaluated = data.fixed_indices_eval_dataloader[0]
    assert torch.equal(evaluated["valid"], data.views.valid(0))
    torch.testing.assert_close(cameras.get_intrinsics_matrices()[0], data.views.K[0])
    plain = manager_of(outputs_of(write_images(tmp_path, 3)), frames_per_batch=3).next_train(0)[1]
    assert "valid" not in plain


def test_a_capture_with_a_lens_becomes_what_a_pinhole_sees(tmp_path):
    """From the files of a layout to the batch: compared with ray-casts of the same cameras without their lens."""
    truth = write_colmap_time(tmp_path / "clip", width=96, height=72, frames=3, lens=True)
    outputs = ColmapTimeDataParserConfig(data=tmp_path / "clip").setup().get_dataparser_outputs("train")
    assert outputs.cameras.distortion_params is not None
    dataset = DynamicDataset(outputs)
    for i, path in enumerate(dataset.image_filenames):
        shot = truth.shot(path)
        pinhole = Camera(shot.camera.width, shot.camera.height, shot.camera.K, shot.camera.world_T_camera)
        expected = torch.from_numpy(take_shot(truth.scene, pinhole, shot.time).image).float() / 255
        data = dataset[i]
        assert data["valid"].float().mean() > 0.9
        assert corner_shift(data["image"], expected) < 0.1
        assert corner_shift(torch.from_numpy(shot.image).float() / 255, expected) > 0.2


def corner_shift(found: torch.Tensor, expected: torch.Tensor) -> float:
    """By how many pixels an image is displaced in any of its corners, by least squares on the gradient."""
    y, x = torch.meshgrid(*(torch.arange(n) for n in found.shape[:2]), indexing="ij")
    gray, off, worst = expected.mean(-1), (found - expected).mean(-1), 0.0
    slopes = torch.stack([gray[1:-1, 2:] - gray[1:-1, :-2], gray[2:, 1:-1] - gray[:-2, 1:-1]], dim=-1) / 2
    for right in (False, True):
        for low in (False, True):
            corner = ((x > x.max() * 0.7) if right else (x < x.max() * 0.3)) & (x > 2) & (x < x.max() - 2)
            corner = corner & ((y > y.max() * 0.7) if low else (y < y.max() * 0.3)) & (y > 2) & (y < y.max() - 2)
            rows, values = slopes[corner[1:-1, 1:-1]], off[corner]
            worst = max(worst, float(torch.linalg.lstsq(rows, values[:, None]).solution.abs().max()))
    return worst


def test_cameras_that_are_no_pinholes_are_refused(tmp_path):
    outputs = outputs_of(write_images(tmp_path, 2))
    outputs.cameras.camera_type = torch.full_like(outputs.cameras.camera_type, CameraType.FISHEYE.value)
    with pytest.raises(ValueError, match=r"types \[2\]; expected 1 \(perspective\)"):
        DynamicDataset(outputs)


def test_several_cameras_keep_their_indices_apart(tmp_path):
    data = manager_of(outputs_of(write_images(tmp_path, 12), cameras=3), frames_per_batch=5)
    mixed = False
    for step in range(6):
        _, batch = data.next_train(step)
        view = batch["view_index"]
        assert torch.equal(batch["frame_index"], view // 3)
        assert torch.equal(batch["camera_index"], view % 3)
        mixed |= len(batch["camera_index"].unique()) > 1
    assert mixed


def test_splits_of_other_dataparsers_get_their_time_steps_from_their_times(tmp_path):
    files = write_images(tmp_path, 3)
    cameras = Cameras(
        camera_to_worlds=torch.eye(4)[None, :3].repeat(3, 1, 1), fx=40.0, fy=40.0, cx=20.0, cy=15.0,
        width=WIDTH, height=HEIGHT, times=torch.tensor([[0.0], [0.5], [1.0]]),
    )  # fmt: skip
    box = SceneBox(aabb=torch.tensor([[-1.0] * 3, [1.0] * 3]))
    views = ClipViews.from_dataparser_outputs(DataparserOutputs(files, cameras, scene_box=box))
    assert views.frame_index.tolist() == [0, 1, 2]
    assert views.num_frames == 3
    still = replace(cameras, times=None)
    views = ClipViews.from_dataparser_outputs(DataparserOutputs(files, still, scene_box=box))
    assert views.frame_index.tolist() == [0, 1, 2]
