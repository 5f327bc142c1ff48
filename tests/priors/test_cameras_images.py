"""Cameras from images: a textured box seen from inside by a walking camera, while a ball flies through it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_scenes import looking_at, path_of_centers

from dyngs_plugins.hooks import find_provider
from dyngs_plugins.priors.cameras.moving import sampson_error
from dyngs_plugins.priors.cameras.rotation import trajectory_error, vector_of
from dyngs_plugins.priors.cameras.tracking import TrackingSettings, klt_round_trip, track_points
from dyngs_plugins.priors.providers.camera_base import CameraProvider, SolvedCameras
from dyngs_plugins.priors.providers.cameras_colmap import ColmapCameras
from dyngs_plugins.priors.providers.cameras_tracks import TrackCameras
from dyngs_plugins.priors.providers.flow_dis import DISFlow
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs

FRAMES, SIZE, FOCAL = 10, (144, 192), 170.0
HALF = np.array([3.0, 2.0, 6.0])
K = np.array([[FOCAL, 0, SIZE[1] / 2], [0, FOCAL, SIZE[0] / 2], [0, 0, 1.0]])


def texture(seed: int, side: int = 256) -> np.ndarray:
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.uniform(0, 1, (n, n, 3)), (side, side), interpolation=cv2.INTER_CUBIC) for n in (12, 40, 96)
    ]
    image = layers[0] + 0.8 * layers[1] + 0.5 * layers[2]
    return (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)


def render(pose: np.ndarray, ball: np.ndarray, textures: list[np.ndarray]) -> np.ndarray:
    """An image [h, w, 3] of the box from inside, with a ball of radius 0.5."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    local = np.stack([(x - K[0, 2]) / FOCAL, (y - K[1, 2]) / FOCAL, np.ones_like(x)], axis=-1)
    rays, origin = local @ pose[:3, :3].T, pose[:3, 3]
    with np.errstate(divide="ignore"):
        reach = (np.sign(rays) * HALF - origin) / rays
    axis = reach.argmin(-1)
    hit = origin + rays * reach.min(-1)[..., None]
    image = np.zeros((*SIZE, 3), np.uint8)
    for a in range(3):
        u, v = (((hit[..., b] / HALF[b] + 1) * 127).astype(np.float32) for b in range(3) if b != a)
        image = np.where((axis == a)[..., None], cv2.remap(textures[a], u, v, cv2.INTER_LINEAR), image)
    offset, length = origin - ball, (rays**2).sum(-1)
    b = rays @ offset
    inner = b**2 - length * (offset @ offset - 0.25)
    point = offset + rays * ((-b - np.sqrt(np.maximum(inner, 0))) / length)[..., None]
    u, v = (((point[..., k] + 0.5) * 250).astype(np.float32) for k in (0, 1))
    return np.where((inner > 0)[..., None], cv2.remap(textures[3], u, v, cv2.INTER_LINEAR), image)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> tuple[tuple[Path, ...], np.ndarray]:
    """Image files and the true poses."""
    folder = tmp_path_factory.mktemp("box")
    poses = looking_at(path_of_centers(FRAMES, 0.9), np.array([0.0, 0.0, 4.0]))
    textures, files = [texture(seed) for seed in range(4)], []
    for i, pose in enumerate(poses):
        image = render(pose, np.array([0.9 - 0.15 * i, 0.3 * np.sin(i), 3.0]), textures)
        files.append(folder / f"{i:05d}.png")
        cv2.imwrite(str(files[-1]), image)
    return tuple(files), poses


def inputs(files: tuple[Path, ...]) -> PriorInputs:
    return PriorInputs(FrameSequence.without_cameras("box", files, tuple(range(len(files))), SIZE), DISFlow(), {})


def test_cameras_are_solved_from_images_and_held_out_frames_are_located(clip):
    files, poses = clip
    frames = [i for i in range(FRAMES) if i != 4]
    provider, phases = TrackCameras(points=400), []

    def track(items, phase, total=None):
        items = list(items)
        phases.append((phase, len(items)))
        return items

    provider.track = track
    assert "track" not in provider.settings
    solved = provider.solve(inputs(tuple(files[i] for i in frames)), FOCAL)
    error, length = trajectory_error(solved.world_T_camera, poses[frames])
    assert error < 0.02 * length
    assert solved.interpolated == ()
    assert phases == [("following points", len(frames)), ("bundle adjustment", 2), ("bundle adjustment", 2)]
    assert solved.report["reprojection_error_px"] < 0.5
    located = provider.locate(inputs(files), solved, frames)
    np.testing.assert_array_equal(located[frames], solved.world_T_camera)
    error, length = trajectory_error(located, poses)
    assert error < 0.02 * length
    turn = vector_of(np.linalg.inv(located[3])[:3, :3] @ located[4][:3, :3])
    truth = vector_of(np.linalg.inv(poses[3])[:3, :3] @ poses[4][:3, :3])
    assert np.degrees(np.linalg.norm(turn - truth)) < 0.2


def test_tracks_follow_the_still_box(clip):
    files, poses = clip
    tracks = track_points(inputs(files), TrackingSettings(points=300))
    assert min(len(places) for places in tracks.by_frame) > 80
    a, b = tracks.shared(2, 5)
    assert len(a) > 50
    t = np.linalg.inv(poses[5]) @ poses[2]
    cross = np.array([[0, -t[2, 3], t[1, 3]], [t[2, 3], 0, -t[0, 3]], [-t[1, 3], t[0, 3], 0]])
    fundamental = np.linalg.inv(K).T @ cross @ t[:3, :3] @ np.linalg.inv(K)
    error = sampson_error(fundamental, tracks.xy[a], tracks.xy[b])
    assert np.median(error) < 0.2


def test_a_shifted_image_is_tracked_to_parts_of_a_pixel():
    image = cv2.cvtColor(texture(0), cv2.COLOR_RGB2GRAY)
    shifted = cv2.warpAffine(image, np.array([[1, 0, 2.3], [0, 1, -1.6]]), image.shape[::-1])
    start = np.random.default_rng(0).uniform(40, 200, (60, 2))
    end, good = klt_round_trip(image, shifted, start, start + [2.0, -2.0], TrackingSettings())
    assert good.mean() > 0.9
    np.testing.assert_allclose(np.median(end[good] - start[good], axis=0), [2.3, -1.6], atol=0.05)


def test_a_black_frame_is_bridged_and_listed(clip, tmp_path):
    files, poses = clip
    black = tmp_path / "black.png"
    cv2.imwrite(str(black), np.zeros((*SIZE, 3), np.uint8))
    solved = TrackCameras(points=400).solve(inputs((*files[:5], black, *files[6:])), FOCAL)
    assert solved.interpolated == (5,)
    error, length = trajectory_error(solved.world_T_camera, poses)
    assert error < 0.03 * length


def test_a_cut_is_found(clip, tmp_path):
    files, poses = clip
    others = []
    for i in range(8):
        others.append(tmp_path / f"{i}.png")
        cv2.imwrite(str(others[-1]), render(poses[i], np.full(3, 99.0), [texture(9 + k) for k in range(4)]))
    with pytest.raises(ValueError, match=f"from image {files[7].stem} to image 0. Is there a cut.*frames.json"):
        TrackCameras(points=400).solve(inputs((*files[:8], *others)), FOCAL)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_short_clips_work_or_say_why_not(clip, count):
    files, poses = clip
    if count == 1:
        with pytest.raises(ValueError, match="cameras need at least 2"):
            TrackCameras().solve(inputs(files[:1]), FOCAL)
        return
    solved = TrackCameras(points=400).solve(inputs(files[: 4 * count - 3 : 4]), FOCAL)
    assert len(solved.world_T_camera) == count
    assert solved.interpolated == ()
    turn = np.linalg.inv(solved.world_T_camera[0]) @ solved.world_T_camera[1]
    truth = np.linalg.inv(poses[0]) @ poses[4]
    assert np.degrees(np.linalg.norm(vector_of(turn[:3, :3].T @ truth[:3, :3]))) < 1.0


def test_images_without_texture_are_refused_with_advice(tmp_path):
    files = []
    for i in range(4):
        files.append(tmp_path / f"{i}.png")
        cv2.imwrite(str(files[-1]), np.full((*SIZE, 3), 90, np.uint8))
    with pytest.raises(ValueError, match="too little texture"):
        TrackCameras().solve(inputs(tuple(files)), None)


@pytest.mark.skipif(importlib.util.find_spec("pycolmap") is None, reason="pycolmap is not installed")
def test_colmap_places_every_image(clip):
    files, poses = clip
    solved = ColmapCameras(features=1500).solve(inputs(files), FOCAL)
    error, length = trajectory_error(solved.world_T_camera, poses)
    assert error < 0.1 * length  # SIFT's noise of 0.2 pixels at this size and parallax
    assert solved.K[0, 0] == FOCAL
    assert solved.interpolated == ()


def test_without_pycolmap_the_message_says_how_to_get_it(clip, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycolmap", None)
    with pytest.raises(ValueError, match="pip install pycolmap"):
        ColmapCameras().solve(inputs(clip[0]), None)


@pytest.mark.parametrize("name", ["tracks", "colmap", "files"])
def test_providers_are_found_by_name(name):
    provider = find_provider("cameras", name)()
    assert isinstance(provider, CameraProvider)
    assert isinstance(provider.settings, dict)
    assert SolvedCameras.__dataclass_params__.frozen  # type: ignore[attr-defined]
