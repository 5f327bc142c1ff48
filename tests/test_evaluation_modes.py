"""Scores from given, found, transferred and aligned poses: closed forms on a tiny scene."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "exposure"))

from exposure_scenes import make_scene, make_views  # noqa: E402

from dyngs_plugins.alignment import AlignmentConfig, align, frozen  # noqa: E402
from dyngs_plugins.camera_refinement import CameraRefinementConfig  # noqa: E402
from dyngs_plugins.cameras import OPENGL_TO_OPENCV, PathClock  # noqa: E402
from dyngs_plugins.evaluation_modes import Scorer, sharp_frames  # noqa: E402
from dyngs_plugins.exposure import se3  # noqa: E402
from dyngs_plugins.exposure.base import InstantExposureConfig  # noqa: E402
from dyngs_plugins.exposure.camera_path import CameraPathExposureConfig  # noqa: E402
from dyngs_plugins.scene import RenderOptions, Scene, Views  # noqa: E402
from dyngs_plugins.training_views import FoundCameras, TrainingViews  # noqa: E402

BLACK = torch.zeros(3)


def camera_of(camera_T_world: torch.Tensor, times: torch.Tensor | None, cam_idx: int | None = None) -> Cameras:
    """The host's cameras of OpenCV ones."""
    pose = torch.linalg.inv(camera_T_world)[:, :3]
    pose[:, :, :3] *= torch.tensor(OPENGL_TO_OPENCV)
    return Cameras(
        pose, 40.0, 40.0, 24.0, 18.0, 48, 36,
        times=None if times is None else times.reshape(-1, 1),
        metadata=None if cam_idx is None else {"cam_idx": cam_idx},
    )  # fmt: skip


class Model(TrainingViews):
    """What the mixin needs of a model."""

    def __init__(self, scene: Scene):
        self.scene, self.device, self.clock = scene, torch.device("cpu"), PathClock([])
        views = make_views()
        held_out = camera_of(views.camera_T_world[:1] @ se3.exp(torch.tensor([[0.1, 0, 0, 0, 0, 0.0]])), views.time[:1])
        self.know_cameras([camera_of(views.camera_T_world, views.time), held_out])


def moved_model() -> Model:
    """Training has moved both cameras, by its refinement and by the middle of the exposures."""
    scene = make_scene(CameraPathExposureConfig(num_instants=3))
    scene.cameras = CameraRefinementConfig(poses=True).setup(num_views=2)
    scene.cameras.twists.data[:] = torch.tensor([[0.03, 0.0, 0.0, 0.0, 0.01, 0.0], [0.0, 0.02, 0.0, 0.0, 0.0, 0.0]])
    scene.exposure.knots.data[:, :, 2] = torch.tensor([[0.0, 0.04], [0.02, 0.02]])
    return Model(scene)


def expected_motion() -> torch.Tensor:
    refined = se3.exp(torch.tensor([[0.03, 0.0, 0.0, 0.0, 0.01, 0.0], [0.0, 0.02, 0.0, 0.0, 0.0, 0.0]]))
    return refined @ se3.exp(torch.tensor([0, 0, 0.02, 0, 0, 0.0]))


def scorer(model: Model, steps: int = 0) -> Scorer:
    return Scorer(model, RenderOptions(), BLACK, AlignmentConfig(steps=steps), "alex")


def test_refinement_and_exposure_compose_on_the_cameras_side():
    torch.testing.assert_close(moved_model().found_motion(torch.arange(2)), expected_motion(), atol=1e-6, rtol=1e-5)


def test_a_training_view_is_seen_from_where_it_was_found():
    model, views = moved_model(), make_views()
    shown, mode = model.shown(camera_of(views.camera_T_world[1:], views.time[1:]))
    assert mode == "mid"
    assert shown.index.tolist() == [1]
    middle = model.scene.exposure.instants(shown.camera_T_world, shown.K, shown.time, shown.index, "mid")
    expected = se3.invert(expected_motion()[1:]) @ views.camera_T_world[1:]
    torch.testing.assert_close(middle.camera_T_world, expected, atol=1e-5, rtol=1e-5)
    other, _ = model.shown(camera_of(views.camera_T_world[1:], torch.tensor([0.33])))
    assert other.index is None  # the same place at another time is no training view


def test_interpolating_the_given_path_walks_the_found_one():
    model, views = moved_model(), make_views()
    between = views.camera_T_world.mean(0, keepdim=True)  # the cameras differ by a translation
    shown, _ = model.shown(camera_of(between, None))  # cameras without times, as ns-render interpolate makes them
    torch.testing.assert_close(shown.time, torch.tensor([0.5]), atol=1e-4, rtol=0)
    expected = se3.invert(se3.exp(se3.log(expected_motion()).mean(0, keepdim=True))) @ between
    torch.testing.assert_close(shown.camera_T_world, expected, atol=1e-4, rtol=0)
    at_a_view, _ = model.shown(camera_of(views.camera_T_world[:1], None))
    assert at_a_view.index.tolist() == [0]
    held_out = camera_of(views.camera_T_world[:1] @ se3.exp(torch.tensor([[0.1, 0, 0, 0, 0, 0.0]])), None)
    assert model.shown(held_out)[0].time.shape == (1,)


def test_the_viewer_shows_the_blurred_training_view_on_request():
    model, views = moved_model(), make_views()
    elsewhere = camera_of(se3.exp(torch.tensor([[0.5, 0.2, 0, 0, 0.2, 0.0]])), torch.tensor([0.74]))
    assert model.shown(elsewhere)[1] == "mid"
    model.show_blurred.value = True
    shown, mode = model.shown(elsewhere)
    assert (mode, shown.index.tolist()) == ("train", [1])
    torch.testing.assert_close(shown.camera_T_world, model.training_views(torch.tensor([1])).camera_T_world)
    torch.testing.assert_close(shown.time, views.time[1:])


def test_the_host_is_told_where_cameras_were_found():
    model, views = moved_model(), make_views()
    assert isinstance(model.camera_optimizer, FoundCameras)
    given = camera_of(views.camera_T_world, views.time)
    delta = model.camera_optimizer(torch.arange(2))
    bottom = torch.tensor([0.0, 0, 0, 1]).expand(2, 1, 4)
    found = given.camera_to_worlds @ torch.cat([delta, bottom], 1)
    axes = torch.tensor([*OPENGL_TO_OPENCV, 1.0])
    expected = torch.linalg.inv(model.found_poses(torch.arange(2)))[:, :3] * axes
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for row in (0, 1):
        one = camera_of(views.camera_T_world[row : row + 1], views.time[row : row + 1], cam_idx=row)
        torch.testing.assert_close(model.camera_optimizer.apply_to_camera(one), expected[row : row + 1])
    held_out = camera_of(se3.exp(torch.tensor([[0.5, 0, 0, 0, 0, 0.0]])), views.time[:1], cam_idx=0)
    assert torch.equal(model.camera_optimizer.apply_to_camera(held_out), held_out.camera_to_worlds)


def test_where_training_changes_no_camera_the_host_sees_those_given():
    model = Model(make_scene(InstantExposureConfig()))
    assert not hasattr(model, "camera_optimizer")
    assert model.show_blurred is None
    assert model.shown(camera_of(make_views().camera_T_world[:1], make_views().time[:1]))[0].index is None


def frame_at(model: Model, camera_T_world: torch.Tensor, time: torch.Tensor, seen_from: torch.Tensor):
    """A test frame: its camera as given, and the image that the scene shows from another pose."""
    views = make_views()
    true = Views(seen_from, views.K[:1], time, 48, 36)
    return camera_of(camera_T_world, time), {"image": model.scene.render(true).channels["rgb"][0].detach()}


def test_each_mode_is_scored_from_its_own_pose():
    """The test camera is bolted to the training camera, which was found elsewhere: the rig tells where, the file does not."""
    model, views = moved_model(), make_views()
    test_T_train = se3.exp(torch.tensor([[0.3, 0.0, 0.0, 0.0, 0.05, 0.0]]))
    given = test_T_train @ views.camera_T_world[:1]
    true = test_T_train @ model.found_poses(torch.tensor([0]))
    found = scorer(model, steps=40).all_modes([frame_at(model, given, views.time[:1], true)])
    assert set(found) == {"novel", "rig_transfer", "novel_aligned"}
    assert found["rig_transfer"]["psnr"] > 60
    assert found["novel"]["psnr"] < 35
    assert found["novel_aligned"]["psnr"] >= found["rig_transfer"]["psnr"] - 1e-3  # it starts there
    assert all(scores["images"] == 1 for scores in found.values())
    assert "fitted to each test image by 40 steps" in found["novel_aligned"]["poses"]


def test_a_sharp_training_view_is_scored_from_the_middle_of_its_exposure():
    model, views = moved_model(), make_views()
    frame = frame_at(model, views.camera_T_world[:1], views.time[:1], model.found_poses(torch.tensor([0])))
    found = scorer(model, steps=2).all_modes([frame])
    assert set(found) == {"deblur_mid", "deblur_mid_aligned"}
    assert found["deblur_mid"]["psnr"] > 60


def test_a_view_at_another_time_has_no_rig_to_be_carried_by():
    model, views = moved_model(), make_views()
    frame = frame_at(model, views.camera_T_world[:1], torch.tensor([0.4]), views.camera_T_world[:1])
    assert set(scorer(model).all_modes([frame])) == {"novel"}
    still = Model(make_scene(InstantExposureConfig()))
    frame = frame_at(still, se3.exp(torch.tensor([[0.3, 0, 0, 0, 0, 0.0]])), views.time[:1], views.camera_T_world[:1])
    assert set(scorer(still).all_modes([frame])) == {"novel"}  # nothing was moved: it is the given pose


def test_alignment_finds_the_pose_and_leaves_the_scene_alone():
    scene, views = make_scene(InstantExposureConfig()), make_views()
    true = Views(views.camera_T_world[:1], views.K[:1], views.time[:1], 48, 36)
    image = scene.render(true).channels["rgb"][0].detach()
    off = se3.exp(torch.tensor([[0.03, -0.02, 0.02, 0.01, -0.008, 0.01]]))
    start = replace(true, camera_T_world=off @ true.camera_T_world)
    before = {name: p.clone() for name, p in scene.named_parameters()}
    found = align(scene, start, image, AlignmentConfig(steps=80), RenderOptions())
    errors = [float((scene.render(view).channels["rgb"][0] - image).detach().abs().mean()) for view in (start, found)]
    assert errors[1] < 0.1 * errors[0]
    left = (found.camera_T_world @ torch.linalg.inv(true.camera_T_world) - torch.eye(4)).abs().max()
    assert float(left) < 0.5 * float((off - torch.eye(4)).abs().max())  # turning and shifting look alike from afar
    for name, parameter in scene.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad
        assert parameter.grad is None


def test_alignment_never_makes_it_worse_and_counts_valid_pixels_only():
    scene, views = make_scene(InstantExposureConfig()), make_views()
    true = Views(views.camera_T_world[:1], views.K[:1], views.time[:1], 48, 36)
    image = scene.render(true).channels["rgb"][0].detach()
    spoiled, valid = image.clone(), torch.ones(36, 48, dtype=torch.bool)
    spoiled[:, :10], valid[:, :10] = 1.0, False
    found = align(scene, true, spoiled, AlignmentConfig(steps=5, rate=0.1), RenderOptions(), valid=valid)
    assert torch.equal(found.camera_T_world, true.camera_T_world)


def test_alignment_moves_the_gaussians_once_and_finds_the_same(monkeypatch):
    scene, views = make_scene(InstantExposureConfig()), make_views()
    start = Views(views.camera_T_world[:1], views.K[:1], views.time[:1], 48, 36)
    off = se3.exp(torch.tensor([[0.03, -0.02, 0.02, 0.01, -0.008, 0.01]]))
    image = scene.render(replace(start, camera_T_world=off @ start.camera_T_world)).channels["rgb"][0].detach()
    asked: list[torch.Tensor] = []
    parts_at, render = scene.parts_at, scene.render

    def counted(times):
        asked.append(times)
        return parts_at(times)

    monkeypatch.setattr(scene, "parts_at", counted)
    once = align(scene, start, image, AlignmentConfig(steps=4), RenderOptions())
    assert len(asked) == 1
    monkeypatch.setattr(scene, "render", lambda view, *, moved, **settings: render(view, **settings))
    anew = align(scene, start, image, AlignmentConfig(steps=4), RenderOptions())
    assert len(asked) == 2 + 5  # and once more for each render
    assert torch.equal(once.camera_T_world, anew.camera_T_world)
    assert not torch.equal(once.camera_T_world, start.camera_T_world)


def test_frozen_scenes_thaw_again_also_after_an_error():
    layer = torch.nn.Linear(2, 2)
    layer.bias.requires_grad_(False)

    def fail() -> None:
        with frozen(layer):
            assert not layer.weight.requires_grad
            raise KeyError("an error meanwhile")

    with pytest.raises(KeyError, match="an error meanwhile"):
        fail()
    assert layer.weight.requires_grad
    assert not layer.bias.requires_grad


def test_sharp_images_lie_beside_the_blurred_ones(tmp_path):
    files = []
    for name in ("00000.png", "00001.png"):
        for folder in ("images", "sharp"):
            path = tmp_path / folder / "camera0" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (48, 36), (51, 0, 0)).save(path)
        files.append(tmp_path / "images" / "camera0" / name)
    cameras = camera_of(make_views().camera_T_world, make_views().time)
    frames = sharp_frames(cameras, files, 36, 48)
    assert len(frames) == 2
    torch.testing.assert_close(frames[1][1]["image"][0, 0], torch.tensor([0.2, 0.0, 0.0]))
    files[1].with_name("00002.png")
    assert sharp_frames(cameras, [*files, tmp_path / "images" / "camera0" / "00002.png"], 36, 48) == []
    assert sharp_frames(cameras, [Path("elsewhere/00000.png")], 36, 48) == []


def test_scores_of_several_images_are_averaged():
    found = scorer(SimpleNamespace())._averages("novel", [{"psnr": 20.0}, {"psnr": 30.0}])  # type: ignore[arg-type]
    assert found == {"images": 2, "poses": "given", "psnr": 25.0}
