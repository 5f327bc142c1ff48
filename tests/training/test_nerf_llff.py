"""``nerf-llff``: the host's NeRF with device rays or bounds, on scenes written as LLFF's."""

from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.scripts import train
from nerfstudio.utils import writer
from nerfstudio.utils.eval_utils import eval_setup

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dataparsers"))
from host_training import pipeline_losses

from dataparsers.llff import LlffDataParserConfig
from dyngs_plugins.checkpoint_files import check_load_dir
from dyngs_plugins.ndc import ndc_points
from dyngs_plugins.nerf import BoundedNeRFModel, PowerDecayConfig
from dyngs_plugins.relocation import read_config, relocate
from dyngs_plugins.sample.writers.llff import write_llff
from dyngs_plugins.trainer import RunConfig
from method_configs.nerf_llff import nerf_llff


@pytest.fixture(scope="module")
def fern(tmp_path_factory):
    root = tmp_path_factory.mktemp("nerf") / "fern"
    write_llff(root, frames=9)
    return root


@pytest.fixture(scope="module")
def car(tmp_path_factory):
    root = tmp_path_factory.mktemp("nerf") / "car"
    write_llff(root, frames=8, kind="inward")
    return root


def pipeline(root: Path, rays: int = 64, **options):
    config = deepcopy(nerf_llff.config.pipeline)
    parser = config.datamanager.dataparser
    assert isinstance(parser, LlffDataParserConfig)
    parser.data, parser.downscale_factor = root, None
    for name, value in options.items():
        setattr(parser if hasattr(parser, name) else config.model, name, value)
    config.datamanager.train_num_rays_per_batch = config.datamanager.eval_num_rays_per_batch = rays
    config.model.num_coarse_samples = config.model.num_importance_samples = 16
    return config


def model_of(config) -> BoundedNeRFModel:
    made = config.setup(device="cpu", test_mode="val")
    assert isinstance(made.model, BoundedNeRFModel)
    return made.model


@pytest.mark.parametrize(("kind", "options"), [("fern", {}), ("car", {"spherify": True})])
def test_it_trains_without_a_gpu(fern, car, kind, options):
    losses = pipeline_losses(pipeline(fern if kind == "fern" else car, rays=256, **options), steps=20)
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


@pytest.fixture
def run(fern, tmp_path, monkeypatch) -> RunConfig:
    """A short run on the scene, as ns-train would start it."""
    config = deepcopy(nerf_llff.config)
    assert isinstance(config, RunConfig)
    config.pipeline = pipeline(fern)
    config.data = config.pipeline.datamanager.data = fern
    config.output_dir, config.experiment_name, config.timestamp = tmp_path / "outputs", "fern", "run"
    config.vis, config.max_num_iterations, config.machine.device_type = "tensorboard", 2, "cpu"
    config.steps_per_eval_batch = config.steps_per_eval_image = config.steps_per_eval_all_images = 0
    monkeypatch.setattr(train, "launch", lambda main_func, config, **given: main_func(0, 1, config))
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()
    return config


def test_a_checkpoint_is_whole_or_not_there_and_no_run_deletes_an_earlier_ones(run, monkeypatch):
    train.main(deepcopy(run))
    folder = run.get_checkpoint_dir()
    (first,) = folder.iterdir()
    with pytest.raises(FileExistsError, match="has checkpoints of an earlier training, up to step 1"):
        train.main(deepcopy(run))

    def cut_off(content, path):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    again = deepcopy(run)
    again.load_dir, again.max_num_iterations = folder, 1
    monkeypatch.setattr(torch, "save", cut_off)
    with pytest.raises(OSError, match="No space left"):
        train.main(again)
    assert list(folder.iterdir()) == [first]
    assert not list(folder.parent.glob(".*"))
    check_load_dir(folder, None)
    first.write_bytes(first.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cut off while it was written"):
        again.setup()


def test_a_run_whose_data_has_moved_says_what_to_do(run, fern):
    train.main(deepcopy(run))
    file = run.get_base_dir() / "config.yml"
    elsewhere = read_config(file)
    elsewhere.data = elsewhere.pipeline.datamanager.data = Path("/cluster/fern")
    file.write_text(yaml.dump(elsewhere))
    with pytest.raises(FileNotFoundError, match=r"^/cluster/fern: .* dyngs relocate RUN --data DATA"):
        eval_setup(file, test_mode="test")
    relocate(file, fern)
    _, opened, _, step = eval_setup(file, test_mode="test")
    assert step == 1
    assert isinstance(opened.model, BoundedNeRFModel)


def test_device_coordinates_where_the_scene_faces_forward(fern, car):
    assert model_of(pipeline(fern)).ndc_scale is not None
    off = model_of(pipeline(fern, device_coordinates=False))
    assert off.ndc_scale is None
    assert off.collider.near_plane == pytest.approx(1.2, abs=1e-3)
    around = model_of(pipeline(car, spherify=True))
    assert around.ndc_scale is None
    assert 0 < around.collider.near_plane < 1 < around.collider.far_plane < 3
    with pytest.raises(ValueError, match="device_coordinates is on, but the dataparser does not say"):
        model_of(pipeline(car, spherify=True, device_coordinates=True))


def test_samples_lie_on_the_rays_and_colours_see_the_old_directions(fern):
    model = model_of(pipeline(fern)).eval()  # training jitters the samples
    assert model.ndc_scale is not None
    generator = torch.Generator().manual_seed(0)
    origins = torch.randn(6, 3, generator=generator) * 0.1
    directions = torch.nn.functional.normalize(torch.tensor([[0.1, -0.2, -1.0]]).repeat(6, 1) + origins, dim=-1)
    bundle = RayBundle(origins=origins, directions=directions, pixel_area=torch.ones(6, 1), metadata={})
    changed, length = model.in_device_coordinates(bundle)
    samples = model.sampler_uniform(changed)
    assert samples.frustums.get_positions()[..., 2].min() > -1.001
    assert samples.frustums.get_positions()[..., 2].max() < 1.001
    torch.testing.assert_close(samples.frustums.ends[:, -1], length)
    point = origins + 4.0 * directions
    z = ndc_points(point, model.ndc_scale)[:, 2]
    along = (z - changed.origins[:, 2]) / changed.directions[:, 2]
    torch.testing.assert_close(
        changed.origins + along[:, None] * changed.directions, ndc_points(point, model.ndc_scale)
    )
    seen = []
    model.field_fine.direction_encoding.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    model.field_fine.forward(samples)
    torch.testing.assert_close(seen[0], directions[:, None].expand(6, 16, 3))


def test_depth_is_a_distance_of_the_scene(fern):
    """A field that is opaque from the near plane on has the near plane's distance."""
    model = model_of(pipeline(fern)).eval()
    for field in (model.field_coarse, model.field_fine):
        torch.nn.init.constant_(field.field_output_density.net.bias, 1e4)
    direction = torch.nn.functional.normalize(torch.tensor([[0.2, 0.1, -1.0]]), dim=-1)
    bundle = RayBundle(origins=torch.tensor([[0.0, 0, 0.5]]), directions=direction, pixel_area=torch.ones(1, 1), metadata={})  # fmt: skip
    with torch.no_grad():
        depth = float(model.forward(bundle)["depth_fine"])
    expected = 1.5 / -float(direction[0, 2])
    assert expected <= depth < 1.1 * expected


def test_scores_without_a_download(fern):
    made = pipeline(fern).setup(device="cpu", test_mode="val")
    camera, batch = made.datamanager.next_eval_image(0)
    outputs = made.model.get_outputs_for_camera(camera)
    scores, images = made.model.get_image_metrics_and_images(outputs, batch)
    assert {"psnr", "ssim", "psnr_coarse"} <= set(scores)
    assert 0 < scores["psnr"] < 60
    assert images["img"].shape == (48, 3 * 64, 3)
    assert all(torch.isfinite(image).all() for image in images.values())


def test_the_rate_falls_by_ten_in_250_000_steps():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=5e-4)
    scheduler = PowerDecayConfig().setup().get_scheduler(optimizer, 5e-4)
    assert scheduler.lr_lambdas[0](250_000) == pytest.approx(0.1)
    assert scheduler.lr_lambdas[0](500_000) == pytest.approx(0.01)
    assert type(scheduler.lr_lambdas[0](3)) is float
