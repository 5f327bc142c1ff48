"""``auto-data``: exactly one layout claims a folder, its loader reads it, and a folder of none or two is explained."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml
from layout_checks import check_yaml, parse_all
from layout_scenes import WRITERS, write
from PIL import Image

from dataparsers import registry
from dataparsers.auto import AutoDataParserConfig, with_options
from dataparsers.llff import LlffDataParserConfig
from dataparsers.registry import all_layouts, claims, named_layout, recognise
from dataparsers.som import SomDataParserConfig
from dyngs_plugins.sample.writers.davis import write_davis
from dyngs_plugins.sample.writers.dycheck import write_dycheck
from dyngs_plugins.sample.writers.llff import write_llff

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # what loaders say of tiny scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> dict[str, Path]:
    """Every writer's scene; do not write there."""
    return {name: write(name, tmp_path_factory.mktemp(name) / "scene") for name in WRITERS}


def commands(root: Path) -> list[str]:
    return [found.layout.command for found in claims(root)]


def message(config: AutoDataParserConfig, kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as raised:
        config.setup().get_dataparser_outputs("train")
    assert raised.type is kind
    return str(raised.value)


# Recognition ---------------------------------------------------------------------------------------------------------


def test_one_layout_claims_each_scene_and_each_layout_has_a_scene(scenes):
    claimed = {name: commands(root) for name, root in scenes.items()}
    assert {name: len(found) for name, found in claimed.items()} == dict.fromkeys(claimed, 1), claimed
    assert {found[0] for found in claimed.values()} == set(all_layouts())


def test_every_layout_says_what_it_is():
    for command, layout in all_layouts().items():
        assert command == layout.command
        assert command.endswith("-data")
        assert layout.title
        assert layout.expects
        assert layout.get_it
        assert issubclass(layout.config, type(layout.config()))
        names = [protocol.name for protocol in layout.protocols]
        assert len(set(names)) == len(names) > 0


def test_davis_is_shape_of_motions_where_its_tracks_are(tmp_path):
    write_davis(tmp_path / "plain")
    assert commands(tmp_path / "plain") == ["davis-data"]
    write_davis(tmp_path / "made", priors=True)
    (found,) = claims(tmp_path / "made")
    assert (found.layout.command, found.why) == (
        "som-data",
        "JPEGImages/ with Shape of Motion's tracks (bootstapir/)",
    )
    shutil.rmtree(tmp_path / "made" / "bootstapir")
    assert commands(tmp_path / "made") == ["davis-data"]  # disparity alone, which davis-data reads too


def test_davis_in_plain_folders_is_never_shape_of_motions(tmp_path):
    for cameras in ("droid", "none"):
        write_davis(tmp_path / cameras, plain=True, cameras=cameras)
        assert commands(tmp_path / cameras) == ["davis-data"]


def test_an_iphone_capture_is_shape_of_motions_where_it_was_preprocessed(tmp_path, iphone_capture):
    (found,) = claims(iphone_capture)
    assert found.layout.command == "som-data"
    assert found.why == "rgb/ and camera/ with Shape of Motion's flow3d_preprocessed/"
    write_dycheck(tmp_path / "raw")
    assert commands(tmp_path / "raw") == ["dycheck-iphone-data"]
    (tmp_path / "raw" / "flow3d_preprocessed").mkdir()
    assert commands(tmp_path / "raw") == ["som-data"]


@pytest.mark.parametrize("missing", ["clip.json", "droid_recon", "masks", "bootstapir", "aligned_depth_anything"])
def test_an_incomplete_clip_is_still_recognised_so_that_its_loader_says_what_is_missing(clip, missing):
    path = clip / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert commands(clip) == ["som-data"]


@pytest.mark.parametrize(
    ("name", "command"),
    [("books", "llff-data"), ("camel", "davis-data"), ("judo", "davis-data"), ("capture1", "nerfies-data")],
)
def test_real_folders(name, command):
    if not (DATA / name).is_dir():
        pytest.skip(f"the real folder {name} is not here")
    assert commands(DATA / name) == [command]


def test_a_capture_without_its_images_is_explained():
    if not (DATA / "paper-windmill").is_dir():
        pytest.skip("the metadata of DyCheck's paper-windmill is not here")
    with pytest.raises(FileNotFoundError) as raised:
        recognise(DATA / "paper-windmill")
    first, second = str(raised.value).splitlines()[1:3]
    assert "[here: camera, dataset.json, metadata.json, scene.json]" in first
    assert second.startswith("  dycheck-iphone-data (DyCheck iPhone): rgb/{n}x, camera/*.json")
    assert "[here: camera, splits, extra.json]" in second


# Reading -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITERS)
def test_it_gives_what_the_layouts_own_loader_gives(scenes, name, capsys):
    root = scenes[name]
    found = recognise(root)
    mine, own = parse_all(AutoDataParserConfig(data=root)), parse_all(found.layout.config(data=root))
    for split, outputs in own.items():
        assert mine[split].image_filenames == outputs.image_filenames
        assert mine[split].dataparser_scale == outputs.dataparser_scale
        torch.testing.assert_close(mine[split].cameras.camera_to_worlds, outputs.cameras.camera_to_worlds)
        assert mine[split].metadata["protocol"] == outputs.metadata["protocol"]
    said = " ".join(capsys.readouterr().out.split())
    assert said.count(f"({found.layout.command}), ") == 1  # once for all splits


def test_it_says_which_layout_and_why(tmp_path, capsys):
    write_llff(tmp_path / "fern")
    AutoDataParserConfig(data=tmp_path / "fern").setup().get_dataparser_outputs("train")
    line = (
        f"{tmp_path / 'fern'}: LLFF (llff-data), poses_bounds.npy beside images/. Its options go last: llff-data --..."
    )
    assert line in capsys.readouterr().out.splitlines()


def test_protocol_and_factor_are_handed_on(tmp_path):
    write_llff(tmp_path / "fern")
    parser = AutoDataParserConfig(data=tmp_path / "fern", protocol="llff", downscale_factor=2).setup()
    own = LlffDataParserConfig(data=tmp_path / "fern", protocol="llff", downscale_factor=2)
    assert parser.chosen.config == own
    outputs = parser.get_dataparser_outputs("test")
    assert [path.parent.name for path in outputs.image_filenames] == ["images_2"] * 2
    assert "protocol is 'lllff'; expected one of" in message(
        AutoDataParserConfig(data=tmp_path / "fern", protocol="lllff")
    )


def test_a_methods_options_reach_their_layout_alone(tmp_path, clip):
    options = {"som-data": {"mask_erosion": 3}}
    assert AutoDataParserConfig(data=clip, options=options).setup().chosen.config == SomDataParserConfig(
        data=clip, mask_erosion=3
    )
    outputs = AutoDataParserConfig(data=clip, options=options).setup().get_dataparser_outputs("train")
    assert outputs.metadata["priors"].mask_erosion == 3
    write_llff(tmp_path / "fern")
    assert AutoDataParserConfig(data=tmp_path / "fern", options=options).setup().chosen.config == LlffDataParserConfig(
        data=tmp_path / "fern"
    )


def test_options_that_do_not_exist_are_refused(clip):
    said = message(AutoDataParserConfig(data=clip, options={"som-data": {"mask_erode": 3}}))
    assert said.startswith("options of som-data: found mask_erode; expected some of _target, ")
    assert "mask_erosion" in said
    said = message(AutoDataParserConfig(data=clip, options={"som": {"mask_erosion": 3}}))
    assert said.startswith("options of som: no such layout. Expected some of colmap-time-data, ")


def test_a_layout_can_be_named(tmp_path, capsys):
    write_llff(tmp_path / "fern")
    for name in ("llff", "llff-data"):
        parser = AutoDataParserConfig(data=tmp_path / "fern", layout=name).setup()
        assert parser.chosen.config == LlffDataParserConfig(data=tmp_path / "fern")
    assert "(llff-data), as told" in " ".join(capsys.readouterr().out.split())
    said = message(AutoDataParserConfig(data=tmp_path / "fern", layout="lff"))
    assert said.startswith("layout is 'lff'; expected one of\n  colmap-time-data (COLMAP with time)\n")
    assert said.endswith("or nothing, to recognise it.")


def test_factors_only_where_the_layout_can(clip, monkeypatch):
    has_none = [
        c for c, layout in all_layouts().items() if "downscale_factor" not in {f.name for f in fields(layout.config)}
    ]
    for command in has_none:
        said = message(AutoDataParserConfig(data=clip, layout=command, downscale_factor=2))
        assert said == f"downscale_factor is 2, but {command} reads images of one size. Leave it out."
    # A casual clip's own loader says why it cannot.
    assert "downscale_factor is 2, but a custom clip has one size" in message(
        AutoDataParserConfig(data=clip, downscale_factor=2)
    )


def test_a_config_survives_yaml(tmp_path):
    config = AutoDataParserConfig(
        data=tmp_path, layout="llff-data", protocol="llff", options={"som-data": {"mask_erosion": 3}}
    )
    check_yaml(config)
    assert "dataparsers.auto.AutoDataParserConfig" in yaml.dump(config)


# What is explained ---------------------------------------------------------------------------------------------------


def test_no_layout_lists_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    said = message(AutoDataParserConfig(data=tmp_path), FileNotFoundError)
    assert said.startswith(f"{tmp_path}: no known layout; found 1 entries (notes.txt). Looked for")
    for layout in all_layouts().values():
        assert f"  {layout.command} ({layout.title}): {layout.expects}" in said


def test_no_data_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = message(AutoDataParserConfig(), FileNotFoundError)
    assert said.endswith("Without --data the folder you are in is meant: pass --data FOLDER.")


def test_images_alone_need_cameras(tmp_path):
    """They are made into a clip, see test_own_footage.py; whoever only looks is told how."""
    (tmp_path / "a").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "a" / "a.png")
    with pytest.raises(FileNotFoundError, match="Images alone have no cameras. `dyngs process FOLDER --out CLIP`"):
        recognise(tmp_path / "a")


def test_two_layouts_are_named(tmp_path, monkeypatch):
    write_llff(tmp_path / "fern")
    twin = type(named_layout("davis"))(**{**vars(named_layout("davis")), "recognise": lambda root: "for the test"})
    monkeypatch.setattr(registry, "all_layouts", lambda: {**all_layouts(), "davis-data": twin})
    said = message(AutoDataParserConfig(data=tmp_path / "fern"))
    assert said.startswith(f"{tmp_path / 'fern'}: 2 layouts claim this folder, expected one:\n")
    assert "  davis-data (DAVIS): for the test\n  llff-data (LLFF): poses_bounds.npy beside images/\n" in said
    assert "Name the one to use at the end of the command, e.g. `davis-data`" in said


def test_one_level_too_high(tmp_path):
    for name in ("fern", "horns"):
        write_llff(tmp_path / "all" / name)
    said = message(AutoDataParserConfig(data=tmp_path / "all"), FileNotFoundError)
    assert (
        f"One level too high? Pass --data {tmp_path / 'all' / 'fern'} (or one of {tmp_path / 'all' / 'horns'})." in said
    )


def test_too_deep(tmp_path, clip):
    write_llff(tmp_path / "fern")
    said = message(AutoDataParserConfig(data=tmp_path / "fern" / "images"), FileNotFoundError)
    assert f"Too deep? Pass --data {tmp_path / 'fern'} (llff-data: poses_bounds.npy beside images/)." in said
    assert f"Too deep? Pass --data {clip} (som-data: images/SEQ/" in message(
        AutoDataParserConfig(data=clip / "images" / "camera0"), FileNotFoundError
    )


@pytest.mark.parametrize("name", ["clip.mp4", "CLIP.MOV"])
def test_a_film_is_no_folder(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match="this is a film, expected a scene's folder") as raised:
        recognise(tmp_path / name)
    assert f"`dyngs process {tmp_path / name} --out CLIP` and pass --data CLIP." in str(raised.value)
    assert "the file is empty" in message(AutoDataParserConfig(data=tmp_path / name))


def test_another_file_is_no_folder_either(tmp_path):
    (tmp_path / "transforms.json").write_text(json.dumps({}))
    said = message(AutoDataParserConfig(data=tmp_path / "transforms.json"))
    assert said.endswith(f"expected a scene's folder or a film (.mp4, .mov, .m4v, .mkv, ...). Pass --data {tmp_path}.")


def test_no_such_folder(tmp_path):
    said = message(AutoDataParserConfig(data=tmp_path / "nowhere"), FileNotFoundError)
    assert (
        said
        == f"{tmp_path / 'nowhere'}: no such file or folder. Expected a film or a scene's folder; pass it with --data."
    )


def test_a_missing_relative_folder_may_be_seen_from_elsewhere(tmp_path, monkeypatch):
    """A run's config.yml keeps the path as ns-train got it."""
    monkeypatch.chdir(tmp_path)
    said = message(AutoDataParserConfig(data=Path("nowhere")), FileNotFoundError)
    assert said.endswith(f"This path starts where you are, {tmp_path}; a run keeps it as given.")


# The methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dyn-som", "dyn-som-small", "dyn-static", "dyn-static-small"])
def test_our_methods_recognise_layouts_by_default(method):
    """From the command line, where options of the method survive and a loader can still be named."""
    import tyro
    from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion

    def parsed(*arguments: str):
        config = tyro.cli(AnnotatedBaseConfigUnion, args=[method, "--data", "clip", *arguments])
        return with_options(config.pipeline.datamanager.dataparser, config.pipeline.datamanager.layout_options)

    erosion = 3 if method.endswith("-small") else None
    options = {"som-data": {"mask_erosion": erosion}} if erosion else {}
    assert parsed() == AutoDataParserConfig(options=options)
    assert parsed("auto-data", "--protocol", "llff") == AutoDataParserConfig(protocol="llff", options=options)
    assert parsed("som-data", "--sequence", "a") == SomDataParserConfig(sequence="a", mask_erosion=erosion)
    assert parsed("som-data", "--mask-erosion", "7") == SomDataParserConfig(mask_erosion=7)
    assert parsed("llff-data") == LlffDataParserConfig()
    check_yaml(parsed())
