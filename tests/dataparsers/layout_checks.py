"""What holds for every layout: reprojection, depth, times, disjoint splits, round trips. Tests give the folder."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from dyngs_plugins.priors.lifting import project
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.sample import ground_truth as gt
from dyngs_plugins.sample.cameras import Camera
from dyngs_plugins.sample.writers.truth import Truth

SPLITS = ("train", "val", "test")


def parse_all(config) -> dict[str, DataparserOutputs]:
    """All splits, from one reading."""
    parser = config.setup()
    return {split: parser.get_dataparser_outputs(split) for split in SPLITS}


def to_scene(outputs: DataparserOutputs, world: torch.Tensor) -> torch.Tensor:
    """File coordinates in the scene frame, by nerfstudio's own record of the dataparser's transform."""
    transform = outputs.dataparser_transform
    return (world @ transform[:, :3].T + transform[:, 3]) * outputs.dataparser_scale


def to_file(outputs: DataparserOutputs, scene: torch.Tensor) -> torch.Tensor:
    """The inverse of :func:`to_scene`."""
    transform = outputs.dataparser_transform
    return (scene / outputs.dataparser_scale - transform[:, 3]) @ transform[:, :3]


def check_reprojection(outputs: DataparserOutputs, truth: Truth, pixels: float = 0.1) -> None:
    """Surface points that each true camera sees land where it sees them, through nerfstudio's cameras."""
    views = ClipViews.from_dataparser_outputs(outputs)
    generator = np.random.default_rng(0)
    for i, path in enumerate(views.image_files):
        shot = truth.shot(path)
        height, width = shot.depth.shape
        seen = generator.choice(height * width, 60, replace=False)
        grid = shot.camera.pixel_grid()[seen]
        rays = shot.camera.directions(grid)
        world = shot.camera.world_T_camera[:3, 3] + rays * shot.depth.reshape(-1, 1)[seen]
        scene = to_scene(outputs, torch.from_numpy(world).float())
        found, depth = project(scene, views.camera_T_world[i], views.K[i])
        if views.distortion is not None:
            found = bent(found, views.K[i], views.distortion[i])
        expected = (grid + 0.5) * [views.width / width, views.height / height] - 0.5
        error = np.abs(found.numpy() - expected).max()
        assert error < pixels, f"{path}: {error} pixels off"
        expected_depth = shot.depth.reshape(-1)[seen] * outputs.dataparser_scale
        np.testing.assert_allclose(depth.numpy(), expected_depth, rtol=1e-3)


def bent(pixels: torch.Tensor, K: torch.Tensor, distortion: torch.Tensor) -> torch.Tensor:
    """Pinhole pixels (integer centres) as the lens draws them, by nerfstudio's terms k1, k2, k3, k4, p1, p2."""
    focal, center = K.diagonal()[:2], K[:2, 2]
    x, y = ((pixels + 0.5 - center) / focal).T
    k1, k2, k3, k4, p1, p2 = distortion
    r = x * x + y * y
    d = 1 + r * (k1 + r * (k2 + r * (k3 + r * k4)))
    bent = d * x + 2 * p1 * x * y + p2 * (r + 2 * x * x), d * y + 2 * p2 * x * y + p1 * (r + 2 * y * y)
    return torch.stack(bent, dim=1) * focal + center - 0.5


def check_depth(outputs: DataparserOutputs, truth: Truth, relative: float = 0.01, share: float = 0.9) -> None:
    """The batch's depth lifts most pixels onto the true surfaces, which a ray-cast at the image's size gives."""
    views = ClipViews.from_dataparser_outputs(outputs)
    for i, path in enumerate(views.image_files):
        shot = truth.shot(path)
        camera = Camera(views.width, views.height, views.K[i].double().numpy(), shot.camera.world_T_camera)
        true = gt.surfaces(truth.scene, camera, shot.time).depth * outputs.dataparser_scale
        depth = views.depth(i).numpy()
        known = depth > 0
        assert known.mean() > 0.5, f"{path}: depth is known at {known.mean():.0%} of the pixels"
        close = np.abs(depth[known] - true[known]) < relative * true[known]
        assert close.mean() > share, f"{path}: {close.mean():.1%} of the depths are right"


def check_masks(outputs: DataparserOutputs, truth: Truth, share: float = 0.97) -> None:
    """The batch's masks say what moves; images in use may be reduced."""
    views = ClipViews.from_dataparser_outputs(outputs)
    for i, path in enumerate(views.image_files):
        shot = truth.shot(path)
        camera = Camera(views.width, views.height, views.K[i].double().numpy(), shot.camera.world_T_camera)
        true = np.isin(gt.surfaces(truth.scene, camera, shot.time).object_id, truth.scene.moving_ids)
        dynamic = views.dynamic(i).numpy()
        assert (dynamic > 0).any(), f"{path}: nothing moves"
        sure = dynamic != 0
        assert ((dynamic > 0) == true)[sure].mean() > share, f"{path}: the mask is another one"


def check_flow(outputs: DataparserOutputs, truth: Truth, pixels: float = 0.1, share: float = 0.97) -> None:
    """The batch's flow is that between pinholes of the size in use, towards training images alone."""
    views = ClipViews.from_dataparser_outputs(outputs)
    assert views.priors.has_flow
    for i in range(len(views)):
        for way in ("forward", "backward"):
            found = views.flow(i, way)
            if found is None:
                continue
            step = int(views.frame_index[found.target] - views.frame_index[i])
            assert step == (1 if way == "forward" else -1)
            seen = gt.surfaces(truth.scene, _pinhole(views, truth, i), truth.shot(views.image_files[i]).time)
            time = truth.shot(views.image_files[found.target]).time
            flow, visible = gt.flow(truth.scene, seen, _pinhole(views, truth, found.target), time)
            both = visible & found.visible.numpy()
            assert both.mean() > 0.75 * visible.mean(), f"{views.image_files[i]}: little of the flow is visible"
            error = np.linalg.norm(found.flow.numpy() - flow, axis=-1)[both]
            assert np.median(error) < pixels / 4, f"{views.image_files[i]} {way}: {np.median(error)} pixels off"
            assert (error < pixels).mean() > share, f"{views.image_files[i]} {way}: {(error < pixels).mean():.1%} right"


def check_normals(outputs: DataparserOutputs, truth: Truth, degrees: float = 1.0, share: float = 0.95) -> None:
    """The batch's normals are those of the surfaces, turned as the dataparser turned the scene."""
    views = ClipViews.from_dataparser_outputs(outputs)
    for i, path in enumerate(views.image_files):
        camera = _pinhole(views, truth, i)
        local = gt.normals(truth.scene, gt.surfaces(truth.scene, camera, truth.shot(path).time), camera)
        world = torch.from_numpy(local @ camera.world_T_camera[:3, :3].T).float()
        true = world @ outputs.dataparser_transform[:, :3].T
        found = views.normals(i)
        known = found.norm(dim=-1) > 0.5
        assert known.float().mean() > 0.8, f"{path}: few normals are known"
        torch.testing.assert_close(found[known].norm(dim=-1), torch.ones(int(known.sum())), atol=1e-4, rtol=0)
        angle = torch.rad2deg(torch.acos((found * true).sum(dim=-1)[known].clamp(-1, 1)))
        assert (angle < degrees).float().mean() > share, f"{path}: {(angle < degrees).float().mean():.1%} are right"


def _pinhole(views: ClipViews, truth: Truth, i: int) -> Camera:
    """The camera of a view without its lens, at the size in use, in the world of the files."""
    pose = truth.shot(views.image_files[i]).camera.world_T_camera
    return Camera(views.width, views.height, views.K[i].double().numpy(), pose)


def check_round_trip(outputs: DataparserOutputs, truth: Truth) -> None:
    """The recorded transform takes every camera back to where the files have it."""
    centers = to_file(outputs, outputs.cameras.camera_to_worlds[:, :, 3])
    expected = np.stack([truth.shot(path).camera.world_T_camera[:3, 3] for path in outputs.image_filenames])
    np.testing.assert_allclose(centers.numpy(), expected, atol=1e-4)
    rotation = outputs.dataparser_transform[:, :3].T @ outputs.cameras.camera_to_worlds[:, :, :3]
    true = np.stack([truth.shot(path).camera.world_T_camera[:3, :3] for path in outputs.image_filenames])
    np.testing.assert_allclose(rotation.numpy(), true * [1.0, -1.0, -1.0], atol=1e-5)


def check_times(splits: Mapping[str, DataparserOutputs]) -> None:
    """Over all splits together times run from 0 to 1, one integer step per time, and every split has the same map."""
    times = torch.cat([outputs.cameras.times.flatten() for outputs in splits.values()])
    steps = torch.cat([outputs.cameras.metadata["frame_index"].flatten() for outputs in splits.values()])
    last = {outputs.metadata["num_frames"] for outputs in splits.values()}
    assert len(last) == 1
    assert times.min() == pytest.approx(0.0, abs=1e-6)
    assert times.max() == pytest.approx(1.0, abs=1e-6)
    assert (int(steps.min()), int(steps.max())) == (0, last.pop() - 1)
    by_step: dict[int, float] = {}
    for step, time in zip(steps.tolist(), times.tolist(), strict=True):
        assert by_step.setdefault(step, time) == pytest.approx(time, abs=1e-6)
    ordered = [by_step[step] for step in sorted(by_step)]
    assert all(a < b for a, b in zip(ordered, ordered[1:], strict=False))


def check_disjoint(splits: Mapping[str, DataparserOutputs]) -> None:
    """No image and no prior's file of a held-out view is one of training."""
    train = _files(splits["train"])
    for split in ("val", "test"):
        shared = train & _files(splits[split])
        assert not shared, f"{split}: {sorted(map(str, shared))[:3]} are training files"


def check_yaml(config) -> None:
    """A config survives ``config.yml``."""
    assert yaml.load(yaml.dump(config), Loader=yaml.Loader) == config


def pairs(outputs: DataparserOutputs) -> list[tuple[int, int]]:
    """(camera, time step) of every view, in order."""
    metadata = outputs.cameras.metadata
    return list(
        zip(metadata["camera_index"].flatten().tolist(), metadata["frame_index"].flatten().tolist(), strict=True)
    )


def names(outputs: DataparserOutputs) -> list[str]:
    """Stems of the images, in order."""
    return [path.stem for path in outputs.image_filenames]


def message(config, kind: type[Exception] = ValueError, split: str = "train") -> str:
    """The error that parsing raises, of exactly that kind."""
    parser = config.setup()
    with pytest.raises(kind) as raised:
        parser.get_dataparser_outputs(split)
    assert raised.type is kind, raised.value
    return str(raised.value)


def _files(outputs: DataparserOutputs) -> set:
    priors = outputs.metadata["priors"]
    kinds = (priors.depth_files, priors.mask_files, priors.valid_files, priors.covisible_files, priors.normal_files)
    flow = [file.path for files in (priors.flow_forward, priors.flow_backward) for file in files or () if file]
    found = (*outputs.image_filenames, *flow, *(f for files in kinds if files for f in files if f))
    return {path.resolve() for path in found}
