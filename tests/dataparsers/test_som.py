"""``som-data`` on custom and davis clips: cameras, times, splits, the scene frame, and no leak between the splits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import layout_checks as checks
import numpy as np
import pytest
import torch
import yaml

from dataparsers.clip import hold_out
from dataparsers.layouts import median_side
from dataparsers.som import SomDataParserConfig, som_data
from dyngs_plugins.priors.clip_files import read_ground_truth_tracks
from dyngs_plugins.priors.lifting import lift_tracks, project
from dyngs_plugins.priors.som_files import read_cameras, write_cameras
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.sample.writers.som import write_som_clip

FRAMES = 10


def parse(root: Path, split: str = "train", **options):
    return SomDataParserConfig(data=root, **options).setup().get_dataparser_outputs(split)


# What nerfstudio gets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_cameras_and_metadata_are_what_the_host_wants(rig, split):
    parser = SomDataParserConfig(data=rig).setup()
    outputs = parser.get_dataparser_outputs(split)
    cameras, count = outputs.cameras, 2 * FRAMES if split == "train" else FRAMES
    assert parser.includes_time
    assert len(outputs.image_filenames) == len(cameras) == count
    assert cameras.camera_to_worlds.shape == (count, 3, 4)
    for tensor in (cameras.camera_to_worlds, cameras.fx, cameras.fy, cameras.cx, cameras.cy, cameras.times):
        assert tensor.dtype == torch.float32
    for name in ("frame_index", "camera_index"):
        assert cameras.metadata[name].shape == (count, 1)
        assert cameras.metadata[name].dtype == torch.int64
    assert outputs.metadata["num_frames"] == FRAMES
    assert outputs.metadata["fps"] == 12.0
    assert outputs.metadata["protocol"] == "held-out camera at the training times"
    torch.testing.assert_close(cameras.times, cameras.metadata["frame_index"] / (FRAMES - 1))
    assert (cameras.times.min(), cameras.times.max()) == (0, 1)
    assert ("ground_truth_tracks" in outputs.metadata) == (split != "train")


def test_unknown_splits_are_refused(rig):
    with pytest.raises(ValueError, match="No split 'train.test'; this loader has train, val and test"):
        parse(rig, "train+test")


def test_the_registered_config_round_trips_through_yaml(clip):
    config = SomDataParserConfig(data=clip, sequence="camera0", mask_erosion=3)
    assert yaml.load(yaml.dump(config), Loader=yaml.Loader) == config
    assert isinstance(som_data.config, SomDataParserConfig)
    assert hasattr(som_data.config, "downscale_factor")  # ns-render dataset sets it


# Geometry ------------------------------------------------------------------------------------------------------------


def world_cameras(root: Path, split: str) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(time step, camera_T_world, K) of every view, straight from the ground-truth record."""
    record = json.loads((root / "ground_truth.json").read_text())["cameras"]
    names = ["camera0", "camera1"] if split == "train" else ["held_out"]
    return [
        (step, np.linalg.inv(np.array(pose)), np.array(record[name]["K"]))
        for name in names
        for step, pose in enumerate(record[name]["world_T_camera"])
    ]


@pytest.mark.parametrize("split", ["train", "val"])
def test_true_points_reproject_to_where_they_are(rig, split):
    outputs, truth = parse(rig, split), parse(rig, "val").metadata["ground_truth_tracks"]
    views = ClipViews.from_dataparser_outputs(outputs)
    in_files = read_ground_truth_tracks(rig / "eval" / "tracks.npz")
    for i, (step, camera_T_world, K) in enumerate(world_cameras(rig, split)):
        points = in_files.points[:, step].numpy()
        local = points @ camera_T_world[:3, :3].T + camera_T_world[:3, 3]
        front = local[:, 2] > 0.1
        expected = local[front, :2] / local[front, 2:] * K[[0, 1], [0, 1]] + K[:2, 2] - 0.5
        pixels, z = project(truth.points[front, step], views.camera_T_world[i], views.K[i])
        assert int(views.frame_index[i]) == step
        np.testing.assert_allclose(pixels, expected, atol=1e-3)
        np.testing.assert_allclose(z * outputs.metadata["scene_scale"], local[front, 2], rtol=1e-4)


def test_the_host_s_own_rays_hit_the_true_points(rig):
    outputs, truth = parse(rig), parse(rig, "val").metadata["ground_truth_tracks"]
    cameras = outputs.cameras
    for i in (0, 4, 9):
        seen = truth.visible[:, i].nonzero().flatten()[:50]
        coords = truth.xy[seen, i].flip(-1) + 0.5  # (y, x) with pixel centres at +0.5, as nerfstudio counts
        rays = cameras.generate_rays(camera_indices=torch.full((len(seen), 1), i), coords=coords)
        offset = truth.points[seen, i] - rays.origins
        along = (offset * rays.directions).sum(-1, keepdim=True)
        assert (along > 0).all()
        miss = (offset - along * rays.directions).norm(dim=-1) / along[:, 0] * cameras.fx[i]
        assert miss.max() < 2e-3  # pixels


@pytest.mark.parametrize("split", ["train", "val"])
def test_depth_is_in_scene_units(rig, split):
    outputs, truth = parse(rig, split), parse(rig, "val").metadata["ground_truth_tracks"]
    views = ClipViews.from_dataparser_outputs(outputs)
    for i in (0, 5):
        step = int(views.frame_index[i])
        pixels, z = project(truth.points[:, step], views.camera_T_world[i], views.K[i])
        y, x = pixels[:, 1].round().long(), pixels[:, 0].round().long()
        inside = (x >= 0) & (x < views.width) & (y >= 0) & (y < views.height)
        ratio = views.depth(i)[y[inside], x[inside]] / z[inside]
        assert ratio.median().item() == pytest.approx(1.0, abs=0.02)  # some points are hidden, hence the median


def test_lifted_tracks_lie_on_the_moving_objects(rig):
    views = ClipViews.from_dataparser_outputs(parse(rig, mask_erosion=3))
    truth = parse(rig, "val", mask_erosion=3).metadata["ground_truth_tracks"]
    tracks = lift_tracks(views, 400, torch.Generator().manual_seed(0))
    assert len(tracks) > 100
    for step in (0, 5):
        lifted = tracks.points[tracks.visible[:, step], step]
        near = torch.cdist(lifted, truth.points[truth.moving, step]).amin(dim=1)
        assert near.median() < 0.1  # scene units; the moving objects are about one unit wide


def test_the_transform_leads_back_to_the_files(rig):
    for split in ("train", "val"):
        outputs = parse(rig, split)
        back = outputs.transform_poses_to_original_space(outputs.cameras.camera_to_worlds.clone(), "opencv")
        expected = np.stack([np.linalg.inv(pose)[:3] for _, pose, _ in world_cameras(rig, split)])
        np.testing.assert_allclose(back, expected, atol=1e-5)


@pytest.mark.parametrize("first", ["train", "val"])
def test_both_splits_share_one_frame_whoever_asks_first(rig, first):
    parser = SomDataParserConfig(data=rig).setup()
    parser.get_dataparser_outputs(first)
    train, val, fresh = parser.get_dataparser_outputs("train"), parser.get_dataparser_outputs("val"), parse(rig, "val")
    for other in (val, fresh):
        assert torch.equal(train.dataparser_transform, other.dataparser_transform)
        assert train.dataparser_scale == other.dataparser_scale
    assert train.dataparser_scale * train.metadata["scene_scale"] == pytest.approx(1.0)


def test_the_files_frame_can_be_kept(clip):
    outputs = parse(clip, scene_normalisation=False)
    assert torch.equal(outputs.dataparser_transform, torch.eye(4)[:3])
    assert outputs.dataparser_scale == 1.0


def test_a_stored_frame_is_used(video):
    rigid = torch.eye(4)
    rigid[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    stored = video / "flow3d_preprocessed" / "camera0" / "scene_norm_dict.pth"
    stored.parent.mkdir(parents=True)
    torch.save({"scale": 4.0, "transfm": rigid}, stored)
    outputs = parse(video)
    assert torch.equal(outputs.dataparser_transform, rigid[:3])
    assert outputs.metadata["scene_scale"] == 4.0


# Splits --------------------------------------------------------------------------------------------------------------


def test_every_nth_frame_is_held_out_and_its_priors_with_it(video):
    parser = SomDataParserConfig(data=video, eval_interval=4).setup()
    train, val = parser.get_dataparser_outputs("train"), parser.get_dataparser_outputs("val")
    assert val.cameras.metadata["frame_index"].flatten().tolist() == [2, 6]
    assert val.metadata["protocol"] == "held-out frames (1 in 4 from frame 2 on, 2 of 10)"
    assert not set(train.image_filenames) & set(val.image_filenames)
    assert (train.cameras.times.min(), train.cameras.times.max()) == (0, 1)
    priors = train.metadata["priors"]
    held = {"00002", "00006"}
    for files in (priors.depth_files, priors.mask_files):
        assert len(files) == 8
        assert not held & {path.stem for path in files}
    for query in range(8):
        targets = priors.tracks.targets(query).tolist()
        assert targets == list(range(8))
        for target in targets:
            assert not held & set(priors.tracks.file(query, target).stem.split("_"))
    assert val.metadata["priors"].tracks is None
    assert (val.metadata["priors"].load_dynamic(0, (48, 64)) == 1).any()  # to measure on what moves


def test_flow_and_normals_are_those_of_the_scene(tmp_path):
    truth = write_som_clip(tmp_path / "clip", frames=4, cameras=2)
    outputs = parse(tmp_path / "clip")
    checks.check_flow(outputs, truth)
    checks.check_normals(outputs, truth)
    priors = outputs.metadata["priors"]
    assert [f and f.target for f in priors.flow_forward] == [1, 2, 3, None, 5, 6, 7, None]
    assert [f and f.target for f in priors.flow_backward] == [None, 0, 1, 2, None, 4, 5, 6]
    assert all(file.visible is not None for file in priors.flow_forward if file)
    seen = ClipViews.from_dataparser_outputs(outputs).flow(0, "forward")
    assert seen is not None
    assert not seen.visible.all()


def test_flow_into_a_held_out_frame_is_never_handed_out(video, rig):
    """Files that lead into or out of frames 2 and 6 may hold anything: nobody opens them."""
    flow = video / "flow" / "camera0"
    shutil.copytree(rig / "flow" / "camera0", flow)
    held = {2, 6}
    leaks = [path for path in flow.iterdir() if {frames_of(path)[0], frames_of(path)[1]} & held]
    assert len(leaks) == 16
    for path in leaks:
        path.write_bytes(b"from a held-out image")
    outputs = parse(video, eval_interval=4)
    views = ClipViews.from_dataparser_outputs(outputs)
    steps, reached = views.frame_index.tolist(), {}
    for i, step in enumerate(steps):
        for way in ("forward", "backward"):
            found = views.flow(i, way)
            reached[step, way] = None if found is None else steps[found.target]
    expected = {(s, "forward"): s + 1 for s in steps} | {(s, "backward"): s - 1 for s in steps}
    assert reached == {key: step if step in steps else None for key, step in expected.items()}
    assert reached[1, "forward"] is None
    assert reached[3, "backward"] is None
    held_out = parse(video, "val", eval_interval=4).metadata["priors"]
    assert not held_out.has_flow
    assert held_out.normal_files is None


def frames_of(flow: Path) -> tuple[int, int]:
    """The frames that a file of flow leads from and to."""
    name, way = flow.stem.removesuffix("_visible").split("_")
    return int(name), int(name) + (1 if way == "fwd" else -1)


def test_parts_of_flow_and_normals_may_be_absent_and_bad_ones_are_named(video, rig):
    for kind in ("flow", "normals"):
        shutil.copytree(rig / kind / "camera0", video / kind / "camera0", dirs_exist_ok=True)
    (video / "flow/camera0/00003_fwd.npy").unlink()
    (video / "normals/camera0/00005.npy").unlink()
    views = ClipViews.from_dataparser_outputs(parse(video, eval_interval=0))
    assert views.flow(3, "forward") is None
    said_so = views.flow(4, "forward").visible.float().mean()
    assert not views.normals(5).any()
    spoil = {
        "flow/camera0/00001_bwd.npy": np.zeros((48, 64, 3)),
        "flow/camera0/00001_bwd_visible.npy": np.zeros((48, 63), bool),
        "normals/camera0/00001.npy": np.zeros((48, 64, 4)),
    }
    said = ("an array of shape (48, 64, 3). Expected flow", "the flow's mask is 63x48", "Expected normals [h, w, 3]")
    for (name, array), text in zip(spoil.items(), said, strict=True):
        content = (video / name).read_bytes()
        np.save(video / name, array)
        assert text in checks.message(SomDataParserConfig(data=video))
        (video / name).write_bytes(content[: len(content) // 2])
        assert "cannot be read as" in checks.message(SomDataParserConfig(data=video))
        (video / name).write_bytes(content)
    (video / "flow/camera0/00004_fwd_visible.npy").unlink()
    assert "00004_fwd_visible.npy: no such visibility map" in checks.message(
        SomDataParserConfig(data=video, eval_interval=0), FileNotFoundError
    )
    for path in (video / "flow/camera0").glob("*_visible.npy"):
        path.unlink()
    views = ClipViews.from_dataparser_outputs(parse(video, eval_interval=0))
    assert views.flow(4, "forward").visible.float().mean() > said_so


def test_nothing_of_a_held_out_frame_is_read_for_training(video):
    before = parse(video, eval_interval=4)
    for path in [*(video / "bootstapir" / "camera0").glob("*00002*"), *video.glob("*/camera0/00002.npy")]:
        path.unlink()
    shutil.copy(video / "masks" / "camera0" / "00008.png", video / "masks" / "camera0" / "00002.png")
    after = parse(video, eval_interval=4)
    assert torch.equal(before.dataparser_transform, after.dataparser_transform)
    assert before.dataparser_scale == after.dataparser_scale


def test_nothing_is_held_out_beside_evaluation_views(clip):
    train, val = parse(clip), parse(clip, "val")
    assert len(train.image_filenames) == FRAMES
    assert not set(train.image_filenames) & set(val.image_filenames)
    assert val.cameras.metadata["camera_index"].unique().tolist() == [2]  # as eval.json numbers it


def test_without_holding_out_the_protocol_says_so(video):
    train, val = parse(video, eval_interval=0), parse(video, "val", eval_interval=0)
    assert train.image_filenames == val.image_filenames
    assert val.metadata["protocol"] == "training views (nothing is held out)"


@pytest.mark.parametrize(
    ("frames", "interval", "offset", "expected"),
    [
        (86, 8, None, list(range(4, 85, 8))),
        (86, 8, 0, list(range(0, 86, 8))),
        (10, 8, None, [4]),
        (5, 8, None, [2]),  # the last frame is never held out
        (3, 8, None, [1]),
        (3, 1, None, [1]),
        (2, 8, None, []),
        (1, 8, None, []),
        (10, 0, None, []),
        (4, 1, 0, []),  # never all of them
    ],
)
def test_which_frames_are_held_out(frames, interval, offset, expected):
    held, protocol = hold_out(frames, interval, offset)
    assert sorted(held) == expected
    assert ("held-out frames" in protocol) == bool(expected)


def test_key_frames_that_are_held_out_pass_to_their_neighbours(video):
    solved = read_cameras(video / "droid_recon" / "camera0.npy")
    write_cameras(
        video / "droid_recon" / "camera0.npy", solved.world_T_camera, solved.intrinsics, solved.image_shape, [2, 6]
    )
    outputs = parse(video, eval_interval=4)
    frames = outputs.cameras.metadata["frame_index"].flatten()[list(outputs.metadata["keyframes"])].tolist()
    assert frames == [1, 5]


def test_a_slice_of_the_clip(clip):
    train, val = parse(clip, start=2, end=-1), parse(clip, "val", start=2, end=-1)
    assert [path.stem for path in train.image_filenames] == [f"{i:05d}" for i in range(2, 9)]
    for outputs in (train, val):
        assert outputs.metadata["num_frames"] == 7
        assert outputs.cameras.metadata["frame_index"].flatten().tolist() == list(range(7))
    truth = val.metadata["ground_truth_tracks"]
    views = ClipViews.from_dataparser_outputs(train)
    seen = truth.visible[:, 3]
    pixels, _ = project(truth.points[seen, 3], views.camera_T_world[3], views.K[3])
    torch.testing.assert_close(pixels, truth.xy[seen, 3], atol=2e-3, rtol=0)
    with pytest.raises(ValueError, match="start 5 and end 5 leave 0 of the clip's 10 frames"):
        parse(clip, start=5, end=5)


# Layouts and sequences -----------------------------------------------------------------------------------------------


def test_simultaneous_cameras_become_one_clip(rig):
    outputs = parse(rig)
    metadata, priors = outputs.cameras.metadata, outputs.metadata["priors"]
    assert metadata["camera_index"].flatten().tolist() == [0] * FRAMES + [1] * FRAMES
    assert metadata["frame_index"].flatten().tolist() == [*range(FRAMES), *range(FRAMES)]
    assert priors.tracks.targets(3).tolist() == list(range(FRAMES))
    assert priors.tracks.targets(13).tolist() == list(range(FRAMES, 2 * FRAMES))
    alone = parse(rig, sequence="camera1")
    assert {path.parent.name for path in alone.image_filenames} == {"camera1"}
    assert alone.cameras.metadata["camera_index"].unique().tolist() == [0]
    assert parse(rig, "val", sequence="camera1").metadata["ground_truth_tracks"] is None  # they belong to camera0


def test_davis_is_the_same_with_other_names(video):
    custom = parse(video, mask_erosion=3)
    for kind, name in (("images", "JPEGImages"), ("masks", "Annotations"), ("bootstapir", "tapir"),
                       ("aligned_depth_anything", "aligned_depth_anything_v2")):  # fmt: skip
        (video / name).mkdir()
        shutil.move(video / kind, video / name / "480p")
    davis = parse(video)
    assert davis.metadata["priors"].mask_erosion == 3
    assert davis.metadata["priors"].depth_files[0].parts[-4:-1] == ("aligned_depth_anything_v2", "480p", "camera0")
    torch.testing.assert_close(davis.cameras.camera_to_worlds, custom.cameras.camera_to_worlds)
    with pytest.raises(FileNotFoundError, match="JPEGImages/1080p: no such folder"):
        parse(video, res="1080p")


def test_folders_may_have_other_names(video):
    shutil.move(video / "aligned_depth_anything", video / "my_depth")
    outputs = parse(video, depth_type="my_depth")
    assert outputs.metadata["priors"].depth_files[0].parent.parent.name == "my_depth"


@pytest.mark.parametrize(
    ("size", "side"), [((854, 480), 11), ((1920, 1080), 11), ((256, 192), 5), ((160, 120), 3), ((64, 48), 1)]
)
def test_the_median_filter_shrinks_with_the_image(size, side):
    assert median_side(size) == side


def test_filters_can_be_set(video):
    assert parse(video).metadata["priors"].depth_median == 1
    priors = parse(video, depth_median=5, mask_erosion=1).metadata["priors"]
    assert (priors.depth_median, priors.mask_erosion) == (5, 1)
    assert parse(video, "val", depth_median=5).metadata["priors"].depth_median == 5


def test_who_made_a_prior_is_kept(video):
    (video / "masks" / "camera0" / "provider.json").write_text('{"provider": "epipolar", "settings": {}}')
    assert parse(video).metadata["priors"].providers == {"masks": "epipolar"}


def test_time_steps_without_a_training_image(clip):
    """A clip from which frames were held out before its priors were made: their steps are only missing."""
    record = json.loads((clip / "clip.json").read_text())
    steps = {name: 2 * step for name, step in record["frame_index"]["camera0"].items()}
    record |= {"num_frames": 2 * FRAMES, "frame_index": {"camera0": steps}}
    (clip / "clip.json").write_text(json.dumps(record))
    shutil.rmtree(clip / "eval")
    outputs = parse(clip, eval_interval=0)
    assert outputs.metadata["num_frames"] == 20
    assert outputs.cameras.metadata["frame_index"].flatten().tolist() == list(range(0, 20, 2))
    assert outputs.cameras.times.max().item() == pytest.approx(18 / 19)
