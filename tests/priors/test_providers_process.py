"""`dyngs process`: complete folders, nothing of held-out images in any prior, resuming, settings, and bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from dyngs_plugins.cli.process import process
from dyngs_plugins.priors import process as pipeline
from dyngs_plugins.priors.clip_files import read_clip_json, read_eval_json, read_json
from dyngs_plugins.priors.command import parse_settings, run
from dyngs_plugins.priors.process_options import ProcessOptions
from dyngs_plugins.priors.providers.flow_dis import DISFlow
from dyngs_plugins.priors.som_files import read_cameras, read_disparity, read_mask
from dyngs_plugins.priors.track_windows import read_track_window
from dyngs_plugins.sample.clip import SampleSettings, build_clip
from dyngs_plugins.sample.som_writer import write_som

FRAMES, WIDTH, HEIGHT, HOLDOUT = 9, 80, 60, 4
TRAINING = [i for i in range(FRAMES) if i % HOLDOUT]
#: Shorter windows than the defaults: what is tested here is the pipeline, not the quality.
FAST = ("masks.vote_frames=1", "masks.mask_vote_frames=1", "masks.colour_offsets=(1,)")


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("made")
    write_som(build_clip(SampleSettings(frames=FRAMES, width=WIDTH, height=HEIGHT, supersample=1)), root)
    return root


@pytest.fixture(scope="module")
def video(sample: Path, tmp_path_factory) -> Path:
    """The sample as images and poses_bounds.npy, and nothing else."""
    root = tmp_path_factory.mktemp("llff") / "video"
    (root / "images").mkdir(parents=True)
    for file in sorted((sample / "images" / "camera0").iterdir()):
        shutil.copy(file, root / "images" / file.name)
    cameras = read_cameras(sample / "droid_recon" / "camera0.npy")
    table = np.zeros((FRAMES, 17))
    matrix = table[:, :15].reshape(-1, 3, 5)
    pose = cameras.world_T_camera
    matrix[:, :, 0], matrix[:, :, 1], matrix[:, :, 2] = pose[:, :3, 1], pose[:, :3, 0], -pose[:, :3, 2]
    matrix[:, :, 3] = pose[:, :3, 3]
    matrix[:, :, 4] = HEIGHT, WIDTH, cameras.intrinsics[0]
    table[:, :15] = matrix.reshape(-1, 15)
    table[:, 15:] = [[2.0, 12.0]] * FRAMES
    table[3, 15:] = [-1.0, np.nan]  # bounds like these occur and must not matter
    np.save(root / "poses_bounds.npy", table)
    return root


@pytest.fixture(scope="module")
def finished(video: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "clip"
    run(video, out, ProcessOptions(holdout=HOLDOUT, settings=FAST))
    return out


def files(root: Path) -> dict[str, Path]:
    return {p.relative_to(root).as_posix(): p for p in sorted(root.rglob("*")) if p.is_file()}


def contents(root: Path, folders=("flow", "masks", "aligned_depth_anything", "tracks")) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files(root).items() if name.split("/")[0] in folders}


def test_the_folder_is_complete(finished):
    names = [f"{i:05d}" for i in TRAINING]
    assert sorted(p.stem for p in (finished / "images" / "camera0").iterdir()) == names
    assert sorted(p.stem for p in (finished / "eval" / "images").iterdir()) == ["00000", "00004", "00008"]
    size = (HEIGHT, WIDTH)
    for name in names:
        assert (read_disparity(finished / "aligned_depth_anything" / "camera0" / f"{name}.npy", size) > 0).all()
        assert 0 < read_mask(finished / "masks" / "camera0" / f"{name}.png", size).mean() < 0.6
    for name in names:
        stored = read_track_window(finished / "tracks" / "camera0" / f"{name}.npz")
        assert stored.frames == tuple(names)
        assert stored.rows.shape[1] > 0
    assert len(list((finished / "tracks" / "camera0").glob("*.npz"))) == len(names)
    assert not (finished / "bootstapir").exists()
    for kind, provider in (("flow", "dis"), ("masks", "epipolar"), ("tracks", "chained")):
        record = json.loads((finished / kind / "camera0" / "provider.json").read_text())
        assert record["provider"] == provider
        assert record["settings"]
    for kind in ("frames", "flow", "masks", "depth", "tracks"):
        assert cv2.imread(str(finished / "summary" / f"{kind}.jpg")) is not None
    assert not [name for name in files(finished) if name.endswith(".tmp")]


def test_time_steps_cameras_and_protocol(finished, sample):
    info = read_clip_json(finished / "clip.json")
    assert info.num_frames == FRAMES
    assert info.frame_index["camera0"] == {f"{i:05d}": i for i in TRAINING}
    truth = read_cameras(sample / "droid_recon" / "camera0.npy")
    cameras = read_cameras(finished / "droid_recon" / "camera0.npy", len(TRAINING))
    np.testing.assert_allclose(cameras.world_T_camera, truth.world_T_camera[TRAINING], atol=1e-5)
    np.testing.assert_allclose(cameras.K(WIDTH, HEIGHT), truth.K(WIDTH, HEIGHT), rtol=1e-5)
    assert {0, len(TRAINING) - 1} <= set(cameras.keyframes)
    protocol, views = read_eval_json(finished / "eval" / "eval.json")
    assert protocol == "held-out frames (every 4th)"
    assert [view.frame for view in views] == [0, 4, 8]
    np.testing.assert_allclose(views[1].world_T_camera, truth.world_T_camera[4], atol=1e-5)


def test_masks_of_held_out_frames_are_labelled_and_sound(finished, sample):
    record = read_json(finished / "eval" / "eval.json", "evaluation list")
    assert "not ground truth" in record["masks"]
    for view in record["views"]:
        mask = read_mask(finished / "eval" / view["mask"])
        truth = read_mask(sample / "masks" / "camera0" / f"{view['frame']:05d}.png")
        assert (mask & truth).sum() / (mask | truth).sum() > 0.5


def test_the_record_says_what_was_done(finished):
    record = read_json(finished / "process.json", "record")
    assert record["status"] == "complete"
    kinds = {kind["kind"]: kind for kind in record["kinds"]}
    assert kinds["tracks"]["files"] == len(TRAINING)
    assert kinds["depth"]["measures"]["reprojection px"] < 0.5
    assert kinds["flow"]["measures"]["visible"] > 0.7
    assert 0.02 < kinds["masks"]["measures"]["moving"] < 0.5
    assert kinds["tracks"]["measures"]["points"] > 10


def test_the_loader_opens_it(finished):
    from dataparsers.layouts import CUSTOM
    from dataparsers.som_casual import CasualOptions, load_casual

    clip = load_casual(finished, CUSTOM, CasualOptions())
    assert len(clip.train) == len(TRAINING)
    assert len(clip.evaluation) == 3
    assert clip.protocol == "held-out frames (every 4th)"


def test_held_out_images_influence_no_prior(video, finished, tmp_path):
    """The same video with noise in place of the held-out images gives the same priors, to the byte."""
    other = tmp_path / "video"
    shutil.copytree(video, other)
    rng = np.random.default_rng(0)
    for i in range(0, FRAMES, HOLDOUT):
        cv2.imwrite(str(other / "images" / f"{i:05d}.png"), rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8))
    run(other, tmp_path / "clip", ProcessOptions(holdout=HOLDOUT, settings=FAST, eval_masks=False))
    expected, found = contents(finished), contents(tmp_path / "clip")
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []


def test_only_what_is_missing_is_made_again(video, finished, tmp_path, capsys):
    clip = tmp_path / "clip"
    shutil.copytree(finished, clip)
    lost = [
        "masks/camera0/00003.png",
        "aligned_depth_anything/camera0/00005.npy",
        "tracks/camera0/00002.npz",
        "flow/camera0/00005_bwd.npy",
        "images/camera0/00001.png",
    ]
    before = {name: path.stat().st_mtime_ns for name, path in files(clip).items()}
    for name in lost:
        (clip / name).unlink()
    reports = run(video, clip, ProcessOptions(holdout=HOLDOUT, settings=FAST))
    after = {name: path.stat().st_mtime_ns for name, path in files(clip).items()}
    rewritten = {name for name in before if after[name] != before[name] and not name.startswith("summary/")}
    assert rewritten == {*lost, "process.json"}
    made = {report.kind: report.made for report in reports}
    assert made == {"cameras": 0, "flow": 1, "masks": 1, "depth": 1, "tracks": 1}
    assert contents(clip) == contents(finished)
    assert "older than the flow" in capsys.readouterr().out.replace("\n", " ")


def test_a_killed_run_continues_to_the_same_files(video, finished, tmp_path, monkeypatch):
    """Stopped in the middle of masks and again in the middle of tracks, like a kill: without any cleaning up."""
    from dyngs_plugins.priors.prior_kinds import MaskKind, PriorKind, TrackKind

    class Killed(BaseException):
        pass

    def stop_after(kind: type[PriorKind], count: int):
        real, left = kind.write, [count]

        def write(self, path, array):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            real(self, path, array)

        monkeypatch.setattr(kind, "write", write)
        with pytest.raises(Killed):
            run(video, tmp_path / "clip", ProcessOptions(holdout=HOLDOUT, settings=FAST))
        monkeypatch.setattr(kind, "write", real)

    stop_after(MaskKind, 2)
    assert len(list((tmp_path / "clip" / "masks" / "camera0").glob("*.png"))) == 2
    assert read_json(tmp_path / "clip" / "process.json", "record")["status"] == "unfinished"
    (tmp_path / "clip" / "masks" / "camera0" / ".00006.png.17.42.tmp").write_bytes(b"half a file")
    stop_after(TrackKind, 2)
    reports = run(video, tmp_path / "clip", ProcessOptions(holdout=HOLDOUT, settings=FAST))
    made = {r.kind: r.made for r in reports}
    assert made == {"cameras": 0, "flow": 0, "masks": 0, "depth": 0, "tracks": len(TRAINING) - 2}
    assert contents(tmp_path / "clip") == contents(finished)
    assert files(tmp_path / "clip").keys() == files(finished).keys()


def test_files_of_other_settings_are_kept_and_said(video, finished, tmp_path, capsys):
    clip = tmp_path / "clip"
    shutil.copytree(finished, clip)
    before = contents(clip)
    run(video, clip, ProcessOptions(holdout=HOLDOUT, settings=(*FAST, "masks.support=1.5")))
    said = capsys.readouterr().out.replace("\n", " ")
    assert "6 masks files made with 'epipolar'" in said
    assert "support=1.0" in said
    assert "support=1.5" in said
    assert "--redo masks" in said
    assert contents(clip) == before
    (clip / "masks" / "camera0" / "00001.png").unlink()
    run(video, clip, ProcessOptions(holdout=HOLDOUT, settings=(*FAST, "masks.support=1.5")))
    record = read_json(clip / "masks" / "camera0" / "provider.json", "provider record")
    assert record["settings"]["support"] == 1.5
    assert record["earlier"][0]["settings"]["support"] == 1.0
    run(video, clip, ProcessOptions(holdout=HOLDOUT, settings=(*FAST, "masks.support=1.5"), redo=("masks",)))
    record = read_json(clip / "masks" / "camera0" / "provider.json", "provider record")
    assert "earlier" not in record


def test_files_as_given_are_used_and_never_overwritten(video, finished, tmp_path, capsys):
    """A clip folder with masks from elsewhere: they stay, and depth and tracks are made from them."""
    clip = tmp_path / "clip"
    for folder in ("images", "droid_recon", "masks", "eval"):
        shutil.copytree(finished / folder, clip / folder)
    shutil.copy(finished / "clip.json", clip)
    (clip / "masks" / "camera0" / "provider.json").unlink()
    masks = contents(clip, ("masks",))
    reports = run(clip, None, ProcessOptions(track_stride=8))
    assert "6 masks files are there already and are used as given" in capsys.readouterr().out.replace("\n", " ")
    assert contents(clip, ("masks",)) == masks
    made = {r.kind for r in reports if r.made}
    assert made == {"flow", "depth", "tracks"}
    tracks = read_track_window(clip / "tracks" / "camera0" / "00001.npz")
    assert (tracks.query_rows[:, :2] % 8 == 0).all()


def test_a_clip_without_eval_keeps_the_loaders_held_out_frames_out(finished, tmp_path):
    clip = tmp_path / "clip"
    for folder in ("images", "droid_recon"):
        shutil.copytree(finished / folder, clip / folder)
    run(clip, tmp_path / "copy", ProcessOptions(holdout=4, settings=FAST))
    assert not (clip / "masks").exists(), "the source is not touched when --out is another folder"
    from dataparsers.layouts import CUSTOM
    from dataparsers.som_casual import CasualOptions, load_casual

    opened = load_casual(tmp_path / "copy", CUSTOM, CasualOptions(eval_interval=4))
    made = {path.stem for path in (tmp_path / "copy" / "masks" / "camera0").glob("*.png")}
    assert made == {path.stem for path in opened.train.image_files}
    assert len(made) < len(TRAINING)


def test_images_are_resized_and_intrinsics_with_them(video, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "KINDS", {})  # images and cameras only
    monkeypatch.setattr("dyngs_plugins.priors.process.prior_inputs", lambda *a, **k: None)
    monkeypatch.setattr("dyngs_plugins.priors.command.write_summary", lambda *a, **k: None)
    run(video, tmp_path / "clip", ProcessOptions(width=40, holdout=0, eval_masks=False))
    assert cv2.imread(str(tmp_path / "clip" / "images" / "camera0" / "00000.png")).shape == (30, 40, 3)
    cameras = read_cameras(tmp_path / "clip" / "droid_recon" / "camera0.npy", FRAMES)
    assert cameras.image_shape == (30, 40)
    assert cameras.intrinsics[2:] == (20.0, 15.0)
    assert not (tmp_path / "clip" / "eval").exists()


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(video, tmp_path) -> Path:
    return Path(shutil.copytree(video, tmp_path / "source"))


def refused(error, match, source, out, **options):
    with pytest.raises(error, match=match):
        run(source, out, ProcessOptions(**{"holdout": HOLDOUT, **options}))


def test_missing_source(tmp_path):
    refused(FileNotFoundError, "nowhere: does not exist. Expected one of", tmp_path / "nowhere", tmp_path / "out")


def test_no_images(copy, tmp_path):
    shutil.rmtree(copy / "images")
    refused(FileNotFoundError, "no .png or .jpg images", copy, tmp_path / "out")
    (copy / "poses_bounds.npy").unlink()
    refused(FileNotFoundError, "no images found", copy, tmp_path / "out")


def test_wrong_number_of_poses(copy, tmp_path):
    np.save(copy / "poses_bounds.npy", np.load(copy / "poses_bounds.npy")[:-1])
    refused(ValueError, "poses_bounds.npy: 8 rows. Expected 9, one per image", copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unreadable_image(copy, tmp_path):
    image = copy / "images" / "00005.png"
    image.write_bytes(image.read_bytes()[:100])
    refused(ValueError, "00005.png: cannot be decoded as an image .100 bytes.", copy, tmp_path / "out")


def test_images_of_different_sizes(copy, tmp_path):
    cv2.imwrite(str(copy / "images" / "00006.png"), np.zeros((50, 80, 3), np.uint8))
    refused(ValueError, "00006.png: 80x50 pixels, but 00000.png has 80x60", copy, tmp_path / "out")


def test_out_inside_source_and_source_inside_out(copy):
    refused(ValueError, "lie inside each other", copy, copy / "clip")
    refused(ValueError, "lie inside each other", copy, copy.parent)
    refused(ValueError, "lie inside each other", copy, copy)


def test_out_is_a_foreign_folder(copy, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("...")
    refused(FileExistsError, "not empty and was not made by `dyngs process`", copy, tmp_path / "thesis")
    refused(FileExistsError, "is a file", copy, tmp_path / "thesis" / "chapter1.tex")
    refused(ValueError, "--out FOLDER is needed", copy, None)


def test_resuming_with_other_size_or_split(video, finished):
    refused(
        ValueError, r"made with other settings \(size: \[60, 80\] there, \[30, 40\] now\)", video, finished, width=40
    )
    refused(ValueError, "holdout: 4 there, 8 now", video, finished, holdout=8)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"holdout": 1}, "--holdout is 1; expected 0"),
        ({"holdout": -3}, "--holdout is -3"),
        ({"max_size": 100, "width": 50}, "--max-size cannot be combined"),
        ({"width": 10}, "too small"),
        ({"masks": "epipola"}, "no masks provider named 'epipola'. Did you mean 'epipolar'"),
        ({"settings": ["masks.suport=2"]}, "no setting 'suport'. Did you mean 'support'"),
        ({"settings": ["masks=2"]}, "expected KIND.NAME=VALUE"),
    ],
)
def test_options_that_make_no_sense(video, tmp_path, options, match):
    refused(ValueError, match, video, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_cameras_that_do_not_move(copy, tmp_path):
    table = np.load(copy / "poses_bounds.npy")
    table[:, :15] = table[0, :15]
    np.save(copy / "poses_bounds.npy", table)
    refused(ValueError, "cannot be triangulated: too few pixels show parallax", copy, tmp_path / "out", settings=FAST)


def test_a_provider_that_leaves_a_frame_out(video, tmp_path, monkeypatch):
    monkeypatch.setattr(DISFlow, "compute", lambda self, inputs, indices: iter(()))
    refused(ValueError, "flow provider 'dis' is at fault: of frame 00001 it left out 'fwd'", video, tmp_path / "out")


def test_settings_are_parsed_as_python_values():
    parsed = parse_settings(["masks.support=1.5", "tracks.steps=(1, 2)", "flow.note=a text", "masks.vote_frames=3"])
    assert parsed == {
        "masks": {"support": 1.5, "vote_frames": 3},
        "tracks": {"steps": (1, 2)},
        "flow": {"note": "a text"},
    }


def test_the_command_line_reaches_the_pipeline(monkeypatch, tmp_path):
    from dyngs_plugins.cli import main

    seen = []
    monkeypatch.setattr("dyngs_plugins.priors.command.run", lambda *given: seen.append(given))
    main(
        ["process", str(tmp_path), "--out", str(tmp_path / "o"), "--width", "256", "--masks", "mine", "--redo", "depth"]
    )
    assert seen == [(tmp_path, tmp_path / "o", ProcessOptions(width=256, masks="mine", redo=("depth",)))]
    options = seen[0][2]
    assert (options.holdout, options.track_stride) == (8, 4)
    named = {"flow": "dis", "cameras": "tracks", "masks": "mine", "depth": "multiview", "tracks": "chained"}
    assert options.providers == named
    assert process.__doc__
