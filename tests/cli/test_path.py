"""``dyngs path``: what it writes is what ``ns-render camera-path`` reads."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.cameras.camera_paths import get_path_from_json
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.scripts.render import get_crop_from_json

import dyngs_plugins.cli.path as path_module
from dyngs_plugins.camera_paths import look_at
from dyngs_plugins.cli import main

NUM_FRAMES, FPS, WIDTH, HEIGHT, FOCAL = 10, 5.0, 32, 24, 30.0


def opengl_poses() -> torch.Tensor:
    """A camera that moves sideways and looks at (0, 0, 0) from 4 units in front."""
    up = np.array([0.0, 0.0, 1.0])
    poses = np.stack([look_at(np.array([x, -4.0, 0.1 * x]), np.zeros(3), up) for x in np.linspace(-1, 1, NUM_FRAMES)])
    return torch.from_numpy(poses[:, :3] * np.array([1.0, -1.0, -1.0, 1.0])).float()


@pytest.fixture
def two_cameras(monkeypatch, tmp_path) -> Path:
    """Dataparser outputs of two cameras that film at once, frame 4 held out, in no order."""
    frames = torch.tensor([i for i in range(NUM_FRAMES) if i != 4] * 2).flip(0)
    index = torch.tensor([0] * (NUM_FRAMES - 1) + [1] * (NUM_FRAMES - 1)).flip(0)
    poses = opengl_poses()[frames]
    poses[index == 1, :, 3] += torch.tensor([0.0, 0.0, 10.0])
    cameras = Cameras(
        camera_to_worlds=poses,
        fx=FOCAL,
        fy=FOCAL,
        cx=WIDTH / 2,
        cy=HEIGHT / 2,
        width=WIDTH,
        height=HEIGHT,
        times=frames[:, None].float() / (NUM_FRAMES - 1),
        metadata={"camera_index": index[:, None], "frame_index": frames[:, None]},
    )
    outputs = SimpleNamespace(cameras=cameras, metadata={"fps": FPS, "num_frames": NUM_FRAMES})
    monkeypatch.setattr(path_module, "training_outputs", lambda source, layout: outputs)
    return tmp_path / "deep" / "path.json"


def run(out: Path, *options: str) -> tuple[dict, Cameras]:
    return run_on(Path("clip"), out, *options)


def run_on(source: Path, out: Path, *options: str) -> tuple[dict, Cameras]:
    main(["path", str(source), "--out", str(out), *options])
    content = json.loads(out.read_text())
    assert get_crop_from_json(content) is None
    return content, get_path_from_json(content)


def test_follow_is_the_filming_camera_with_time(two_cameras: Path):
    content, cameras = run(two_cameras)
    assert len(cameras) == NUM_FRAMES
    assert (content["render_width"], content["render_height"], content["fps"]) == (WIDTH, HEIGHT, FPS)
    assert content["seconds"] == pytest.approx(NUM_FRAMES / FPS)
    assert cameras.times is not None
    torch.testing.assert_close(cameras.times.flatten(), torch.linspace(0, 1, NUM_FRAMES))
    kept = [i for i in range(NUM_FRAMES) if i != 4]
    torch.testing.assert_close(cameras.camera_to_worlds[kept], opengl_poses()[kept], atol=1e-5, rtol=0)
    # The held-out camera is interpolated.
    torch.testing.assert_close(cameras.camera_to_worlds[4], opengl_poses()[4], atol=0.02, rtol=0)
    for name, value in (("fx", FOCAL), ("fy", FOCAL), ("cx", WIDTH / 2), ("cy", HEIGHT / 2)):
        torch.testing.assert_close(getattr(cameras, name).float(), torch.full((NUM_FRAMES, 1), value))
    assert not list(two_cameras.parent.glob(".*"))


def test_follow_at_another_rate_length_and_size(two_cameras: Path):
    content, cameras = run(two_cameras, "--fps", "10", "--seconds", "3", "--width", "64")
    assert len(cameras) == 30
    assert (content["render_width"], content["render_height"]) == (64, 48)
    assert len(content["camera_path"]) / content["seconds"] == pytest.approx(10)
    torch.testing.assert_close(cameras.fy.float(), torch.full((30, 1), 2 * FOCAL))
    torch.testing.assert_close(cameras.times.flatten(), torch.linspace(0, 1, 30))


def test_the_second_camera_can_be_followed(two_cameras: Path):
    _, cameras = run(two_cameras, "--camera", "1")
    assert cameras.camera_to_worlds[:, 2, 3].min() > 9


def test_freeze_moves_the_camera_and_stops_time(two_cameras: Path):
    _, cameras = run(two_cameras, "--kind", "freeze", "--time", "0.25")
    assert set(cameras.times.flatten().tolist()) == {0.25}
    torch.testing.assert_close(cameras.camera_to_worlds[[0, -1]], opengl_poses()[[0, -1]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("orbit", ["arc", "lemniscate", "spiral", "wander"])
def test_bullet_time_circles_the_subject_at_one_moment(two_cameras: Path, orbit: str):
    content, cameras = run(two_cameras, "--kind", "bullet", "--time", "1", "--orbit", orbit, "--angle", "20")
    assert len(cameras) == 4 * FPS
    assert content["is_cycle"] is True
    assert set(cameras.times.flatten().tolist()) == {1.0}
    positions = cameras.camera_to_worlds[:, :, 3]
    # Spread about the camera of the last frame, which is 4.1 units from what it looks at.
    distance = (positions - opengl_poses()[-1, :, 3]).norm(dim=1)
    assert 0.3 < distance.max() < 2.0
    # OpenGL cameras look down -z: the subject at the origin stays in front of every one, and in the picture.
    seen = torch.einsum("nji,nj->ni", cameras.camera_to_worlds[:, :, :3], -positions)
    assert (seen[:, 2] < 0).all()
    assert ((seen[:, :2] / seen[:, 2:]).abs() < torch.tensor([WIDTH, HEIGHT]) / 2 / FOCAL).all()


def test_orbit_plays_time_around_the_average_camera(two_cameras: Path):
    _, cameras = run(two_cameras, "--kind", "orbit")
    torch.testing.assert_close(cameras.times.flatten(), torch.linspace(0, 1, NUM_FRAMES))
    torch.testing.assert_close(cameras.camera_to_worlds[0, :, 3], torch.tensor([0.0, -4.0, 0.0]), atol=0.1, rtol=0)


def test_stabilised_plays_time_calmly_or_from_a_fixed_camera(two_cameras: Path):
    _, smoothed = run(two_cameras, "--kind", "stabilised")
    torch.testing.assert_close(smoothed.times.flatten(), torch.linspace(0, 1, NUM_FRAMES))
    torch.testing.assert_close(smoothed.camera_to_worlds, opengl_poses(), atol=0.1, rtol=0)
    for reference, expected in (("average", [0.0, -4.0, 0.0]), ("frame", [1.0, -4.0, 0.1])):
        _, fixed = run(two_cameras, "--kind", "stabilised", "--reference", reference, "--time", "1")
        assert (fixed.camera_to_worlds == fixed.camera_to_worlds[:1]).all()
        torch.testing.assert_close(fixed.camera_to_worlds[0, :, 3], torch.tensor(expected), atol=0.1, rtol=0)
        torch.testing.assert_close(fixed.times.flatten(), torch.linspace(0, 1, NUM_FRAMES))


def test_keyframes_carry_what_the_viewers_render_tab_loads(two_cameras: Path):
    content, _ = run(two_cameras, "--seconds", "20")
    assert 2 <= len(content["keyframes"]) <= 12
    for keyframe, frame in ((content["keyframes"][0], 0), (content["keyframes"][-1], -1)):
        assert keyframe["matrix"] == content["camera_path"][frame]["camera_to_world"]
        assert keyframe["render_time"] == content["camera_path"][frame]["render_time"]
        assert {"fov", "aspect", "override_transition_enabled", "override_transition_sec"} <= set(keyframe)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--time", "1.5"], r"--time is 1.5; expected a number from 0"),
        (["--fps", "0"], r"--fps is 0.0; expected more than 0"),
        (["--camera", "3"], r"--camera is 3, but there are training cameras 0, 1 only"),
    ],
)
def test_bad_options_end_in_one_message(two_cameras: Path, options: list[str], message: str, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["path", "clip", "--out", str(two_cameras), *options])
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert message.replace(r"\.", ".") in printed
    assert "Traceback" not in printed
    assert not two_cameras.exists()


def test_a_missing_source_and_a_foreign_file_are_explained(tmp_path: Path, capsys):
    foreign = tmp_path / "config.yml"
    foreign.write_text("a: 1\n")
    broken = tmp_path / "broken.yml"
    broken.write_text("!!python/object:no.such.module.Config {}\n")
    moved = tmp_path / "moved.yml"
    run_config = copy.deepcopy(all_methods["dyn-som-small"])
    run_config.pipeline.datamanager.data = Path("/cluster/clip")
    moved.write_text(yaml.dump(run_config))
    for source, message in (
        (tmp_path / "nowhere", "does not exist; expected the config.yml"),
        (foreign, "holds a dict. Expected the config.yml that ns-train wrote"),
        (broken, "broken.yml: cannot be read ("),
        (moved, "/cluster/clip: the data that this run was trained on is not there. Where it has moved"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["path", str(source), "--out", str(tmp_path / "path.json")])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


def test_a_clip_folder_is_read_through_its_dataparser(tmp_path: Path):
    """The path of a sample clip is that of the dataparser's own training cameras, in the scene's frame."""
    from dataparsers.som import SomDataParserConfig
    from dyngs_plugins.cli.sample import SampleOptions, sample

    clip = tmp_path / "clip"
    sample(clip, SampleOptions(frames=6, width=48, height=36, supersample=1))
    content, cameras = run_on(clip, tmp_path / "path.json")
    expected = SomDataParserConfig(data=clip).setup().get_dataparser_outputs(split="train")
    assert content["fps"] == expected.metadata["fps"]
    assert (content["render_width"], content["render_height"]) == (48, 36)
    torch.testing.assert_close(cameras.camera_to_worlds, expected.cameras.camera_to_worlds, atol=1e-5, rtol=0)
    torch.testing.assert_close(cameras.times, expected.cameras.times)
    torch.testing.assert_close(cameras.fy.float(), expected.cameras.fy)


def test_an_unknown_layout_is_answered_with_the_known_ones(tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["path", str(tmp_path), "--out", str(tmp_path / "path.json"), "--layout", "sum"])
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert "'sum'" in printed
    assert "som-data" in printed


@pytest.mark.parametrize("above", ["outputs/clip/dyn-som", "outputs/clip"])
def test_a_folder_of_runs_is_answered_with_the_newest(tmp_path: Path, capsys, above):
    for i, name in enumerate(("new", "old")):
        config = tmp_path / "outputs/clip/dyn-som" / name / "config.yml"
        config.parent.mkdir(parents=True)
        config.touch()
        os.utime(config, (1000 - i, 1000 - i))
    with pytest.raises(SystemExit):
        main(["path", str(tmp_path / above), "--out", str(tmp_path / "path.json")])
    newest = tmp_path / "outputs/clip/dyn-som/new/config.yml"
    assert f"holds 2 runs; expected one. The newest is {newest}." in capsys.readouterr().err
