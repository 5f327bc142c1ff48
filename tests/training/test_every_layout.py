"""Every layout trains: each writer's tiny scene through our methods and the host's nerfacto, in its own trainer.

A layout is a module of ``dataparsers`` with a ``LAYOUT``; a writer is a function of ``dyngs_plugins.sample.writers``
that returns the truth it wrote. They find each other as a user's folder finds its layout: by being recognised.
"""

from __future__ import annotations

import copy
import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils import writer as host_writer
from torchmetrics.image import lpip

from dataparsers.base import Layout
from dataparsers.registry import all_layouts
from dyngs_plugins.metrics.lpips import backbone
from dyngs_plugins.priors.views import ClipViews
from dyngs_plugins.sample import writers


def modules(package: ModuleType) -> list[ModuleType]:
    found = (importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__))
    return list(found)


LAYOUTS = all_layouts()
WRITERS: dict[str, Callable] = {
    name: function
    for module in modules(writers)
    for name, function in vars(module).items()
    if name.startswith("write_")
    and getattr(function, "__module__", None) == module.__name__
    and str(function.__annotations__.get("return", "")).endswith("Truth")
}


@dataclass(frozen=True)
class Written:
    """A writer's scene and the one layout that claims it."""

    root: Path
    layout: Layout


@pytest.fixture(scope="module")
def scene_of(tmp_path_factory) -> Callable[[str], Path]:
    """The folder that a writer wrote; each writes once."""

    @functools.cache
    def write(name: str) -> Path:
        root = tmp_path_factory.mktemp(name) / "scene"
        WRITERS[name](root)
        return root

    return write


@pytest.fixture(scope="module", params=WRITERS)
def written(request, scene_of) -> Written:
    root = scene_of(request.param)
    claims = {name: layout.recognise(root) for name, layout in LAYOUTS.items()}
    names = [f"{name} ({why})" for name, why in claims.items() if why]
    assert len(names) == 1, f"{request.param}'s folder is claimed by {names or 'no layout'}"
    return Written(root, next(LAYOUTS[name] for name, why in claims.items() if why))


def test_every_layout_has_a_writer(scene_of):
    roots = [scene_of(name) for name in WRITERS]
    covered = {command for command, layout in LAYOUTS.items() if any(layout.recognise(root) for root in roots)}
    assert covered == set(LAYOUTS)


def has_everything(views: ClipViews) -> bool:
    """What moving Gaussians start from: tracks that can be lifted."""
    priors = views.priors
    return views.tracks is not None and priors.depth_files is not None and priors.mask_files is not None


def test_our_method_trains_is_evaluated_and_renders(written, train):
    outputs = written.layout.config(data=written.root).setup().get_dataparser_outputs("train")
    everything = has_everything(ClipViews.from_dataparser_outputs(outputs))

    def change(config):
        config.pipeline.datamanager.dataparser = written.layout.config()
        config.pipeline.datamanager.frames_per_batch = 2
        config.pipeline.model.prefit_steps = 4 if everything else 0

    method = "dyn-som-small" if everything else "dyn-static-small"
    trainer = train(20, method=method, data=written.root, change=change)
    pipeline = trainer.pipeline
    assert trainer.step == 19
    assert all(torch.isfinite(p).all() for p in pipeline.model.parameters())
    assert len(pipeline.model.scene.static) > 0
    assert (len(pipeline.model.scene.dynamic) > 0) == everything
    pipeline.test_mode = "test"  # as ns-eval builds it: names the protocol and the network of LPIPS beside the numbers
    metrics = pipeline.get_average_eval_image_metrics()
    about = pipeline.datamanager.eval_dataset.metadata
    assert metrics["protocol"] == about["protocol"]
    assert backbone(about["lpips_net"]).title in metrics["notes"]
    assert metrics["images"] == len(pipeline.datamanager.eval_dataset)
    assert metrics["psnr"] > 5
    camera = pipeline.datamanager.eval_dataset.cameras[0:1]
    image = pipeline.model.eval().get_outputs_for_camera(camera)["rgb"]
    assert image.shape == (int(camera.height), int(camera.width), 3)
    assert float(image.std()) > 0.01


def test_the_hosts_nerfacto_trains(written, tmp_path, monkeypatch):
    # The host downloads LPIPS' weights as it builds the model; five steps do not need them.
    monkeypatch.setattr(lpip, "LearnedPerceptualImagePatchSimilarity", lambda **_: torch.nn.Identity())
    trainer = train_nerfacto(written, tmp_path)
    assert trainer.step == 4
    assert all(torch.isfinite(p).all() for p in trainer.pipeline.model.parameters())
    dataset = trainer.pipeline.datamanager.train_dataset
    assert dataset[0]["image"].shape == (int(dataset.cameras.height[0]), int(dataset.cameras.width[0]), 3)


def train_nerfacto(written: Written, out: Path) -> Trainer:
    """Five steps of a nerfacto small enough for a test."""
    config = copy.deepcopy(all_methods["nerfacto"])
    config.output_dir, config.experiment_name, config.timestamp = out, "tiny", "run"
    config.vis, config.max_num_iterations, config.mixed_precision = "tensorboard", 5, False
    config.steps_per_eval_image = config.steps_per_eval_batch = config.steps_per_save = 100_000
    config.machine.device_type = "cpu"
    config.pipeline.datamanager = VanillaDataManagerConfig(
        dataparser=written.layout.config(data=written.root),
        train_num_rays_per_batch=64,
        eval_num_rays_per_batch=64,
    )
    model = config.pipeline.model
    model.implementation, model.num_levels, model.log2_hashmap_size, model.max_res = "torch", 4, 10, 64
    model.hidden_dim = model.hidden_dim_color = 16
    model.num_proposal_samples_per_ray, model.num_nerf_samples_per_ray = (16, 8), 8
    for proposal in model.proposal_net_args_list:
        proposal.update(log2_hashmap_size=8, num_levels=2, max_res=32)
    model.camera_optimizer.mode = "off"
    host_writer.EVENT_WRITERS.clear()
    host_writer.EVENT_STORAGE.clear()
    torch.manual_seed(0)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer
