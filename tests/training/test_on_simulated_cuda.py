"""Every method on a CUDA device that is not there: no flag asks for it, nothing is left on the CPU, runs move both ways.

`simulated_cuda` says what a real device would refuse. `gsplat_stand_in` rasterizes on it, or gsplat itself with its own
kernels, compiled for the CPU (`gsplat_on_cpu`).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator

import gsplat_on_cpu
import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from short_trainings import METHODS, SMALL, choose_exposure, whole_and_resumed
from simulated_cuda import CUDA, SimulatedCuda

from dyngs_plugins.cli.sample import SampleOptions, sample
from dyngs_plugins.density import DensityControl, DensityControlConfig
from dyngs_plugins.exposure.choice import EXPOSURES
from dyngs_plugins.trainer import DynamicTrainerConfig

pytest.importorskip("numba", reason="the stand-in for gsplat's kernels is compiled by numba")
from gsplat_stand_in import gsplat_on


def some(names: list[str], *quick: str) -> list:
    """The quick ones always, the others with ``-m slow``."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


@pytest.fixture
def cuda() -> Iterator[SimulatedCuda]:
    with SimulatedCuda() as device, gsplat_on(device):
        yield device


@pytest.fixture(scope="module")
def blurred_clip(tmp_path_factory):
    out = tmp_path_factory.mktemp("blurred") / "clip"
    sample(out, SampleOptions(frames=6, width=48, height=36, supersample=1, blur=True, shake=1.0, subframes=5))
    return out


def default_device(config: TrainerConfig) -> str:
    """What a run chooses whose command line names no device: the methods' configs are made anew in every process."""
    (machine,) = [field for field in dataclasses.fields(config) if field.name == "machine"]
    assert machine.default_factory is not dataclasses.MISSING
    return machine.default_factory().device_type


def busy(config) -> None:
    """All stages in a few steps, with growth and culling; the device is the one that there is."""
    config.machine.device_type = default_device(DynamicTrainerConfig())
    model = config.pipeline.model
    for stage in ("prefit_steps", "coarse_steps", "still_steps"):
        setattr(model, stage, min(getattr(model, stage), 3))
    model.train_steps = 100
    for control in model.density.values():
        control.every, control.start, control.stop = 2, 0, 1000
        control.grad_threshold, control.pause_growth, control.pause_culling = 1e-7, 1, 1
        control.reset_every, control.max_gaussians, control.prune_above = 7, 600, 0
    config.pipeline.datamanager.frames_per_batch = 2
    config.steps_per_eval_image = 5
    config.pipeline.alignment.steps = 2


def devices(trainer: Trainer) -> dict[str, torch.device]:
    """Where everything is that a training keeps."""
    model = trainer.pipeline.model
    found = {name: tensor.device for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    for group, optimizer in trainer.optimizers.optimizers.items():
        for i, state in enumerate(optimizer.state.values()):
            found |= {f"{group}.{i}.{key}": v.device for key, v in state.items() if isinstance(v, torch.Tensor)}
    return found


def assert_all_on(trainer: Trainer, device: torch.device) -> None:
    elsewhere = {name: where for name, where in devices(trainer).items() if where != device}
    assert not elsewhere
    dataset = trainer.pipeline.eval().datamanager.train_dataset
    assert dataset is not None
    outputs = trainer.pipeline.model.get_outputs_for_camera(dataset.cameras[2:3])
    assert {image.device for image in outputs.values()} == {device}
    assert all(torch.isfinite(image).all() for image in outputs.values())


def parameters(trainer: Trainer) -> dict[str, torch.Tensor]:
    state = trainer.pipeline.model.state_dict()
    return {name: value.cpu() for name, value in state.items() if isinstance(value, torch.Tensor)}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], atol: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=atol, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("method", some(METHODS, "dyn-som-small", "dyn-4dgs-small"))
def test_a_method_trains_on_the_device_and_is_evaluated_there(cuda, train, method):
    counts = []
    trainer = train(12, method=method, change=busy, started=lambda t: counts.append(t.pipeline.model.num_points))
    assert trainer.device == "cuda:0"
    assert trainer.pipeline.model.num_points != counts[0], "density control must have worked for this to say anything"
    assert_all_on(trainer, CUDA)
    assert cuda.operations > 1000
    if method in SMALL:
        scores = trainer.pipeline.get_average_eval_image_metrics()
        assert scores["psnr"] > 5


def image_of(trainer: Trainer) -> torch.Tensor:
    dataset = trainer.pipeline.eval().datamanager.train_dataset
    assert dataset is not None
    return trainer.pipeline.model.get_outputs_for_camera(dataset.cameras[2:3])["rgb"].cpu()


@pytest.mark.slow
@pytest.mark.skipif(gsplat_on_cpu.problem() is not None, reason=f"needs a compiler: {gsplat_on_cpu.problem()}")
@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_with_gsplats_own_kernels_as_on_the_cpu(train, method):
    """Eight steps of all stages through gsplat's Python and kernels give the image that the CPU's rasterizer gives."""

    def change(config):
        busy(config)
        for control in config.pipeline.model.density.values():
            control.start = 1000  # what just fails to grow on one device may grow on the other

    expected = image_of(train(8, "cpu", method=method, change=change))
    with SimulatedCuda() as device, gsplat_on_cpu.installed(device.kernel):
        trainer = train(8, "cuda", method=method, change=change)
        assert_all_on(trainer, CUDA)
        difference = (image_of(trainer) - expected).abs()
    assert float(difference.mean()) < 1e-3
    assert float(difference.quantile(0.99)) < 1e-2


@pytest.mark.slow
@pytest.mark.skipif(gsplat_on_cpu.problem() is not None, reason=f"needs a compiler: {gsplat_on_cpu.problem()}")
@pytest.mark.parametrize("method", ["dyn-som-small", "dyn-rt4dgs-small", "deblur-bad-small"])
def test_density_control_reads_what_gsplats_own_kernels_leave(train, method):
    counts = []
    with SimulatedCuda() as device, gsplat_on_cpu.installed(device.kernel):
        trainer = train(12, method=method, change=busy, started=lambda t: counts.append(t.pipeline.model.num_points))
        assert trainer.pipeline.model.num_points != counts[0]
        assert_all_on(trainer, CUDA)


@pytest.mark.slow
@pytest.mark.parametrize("method", SMALL)
def test_five_and_seven_steps_are_twelve(cuda, train, method):
    """With statistics of the density control, moments and random states on both sides of the stop."""
    whole, second = whole_and_resumed(train, method, busy, before=5)
    assert_all_on(second, CUDA)
    assert_same(parameters(second), parameters(whole))


@pytest.mark.slow
@pytest.mark.parametrize("method", SMALL)
def test_a_training_goes_on_elsewhere(train, method):
    """From the CPU to the device and back, whatever the checkpoints say where they were made."""

    def go_on(last: Trainer, left: dict[str, torch.Tensor], name: str) -> Trainer:
        def resume(config):
            busy(config)
            config.load_dir = last.checkpoint_dir

        begun = []
        trainer = train(4, name, method=method, change=resume, started=lambda t: begun.append(copies(t)))
        assert_same(begun[0], left, atol=0)
        return trainer

    def copies(trainer: Trainer) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in parameters(trainer).items()}

    first = train(5, "cpu", method=method, change=busy)
    assert_all_on(first, torch.device("cpu"))
    with SimulatedCuda() as device, gsplat_on(device):
        second = go_on(first, copies(first), "cuda")
        assert_all_on(second, CUDA)
        left = copies(second)
    assert_all_on(go_on(second, left, "cpu again"), torch.device("cpu"))


PAIRS = [*EXPOSURES, "camera-path+defocus", "latent-path+circle"]


@pytest.mark.parametrize("name", some(PAIRS, "camera-path+defocus"))
@pytest.mark.parametrize("method", some(["dyn-deblur4dgs-small", "dyn-gaussian-flow-small"], "dyn-gaussian-flow-small"))
def test_exposures_and_refined_cameras_learn_on_the_device(cuda, train, blurred_clip, method, name):
    def change(config):
        busy(config)
        model = config.pipeline.model
        choose_exposure(model, name)
        model.cameras.poses = model.cameras.focal = True
        model.sharp_steps, model.group_starts = 0, {}
        config.steps_per_eval_image, config.gradient_accumulation_steps = 0, {}

    trainer = train(5, method=method, data=blurred_clip, change=change)
    assert_all_on(trainer, CUDA)
    assert trainer.pipeline.model.scene.cameras.twists.detach().abs().sum() > 0
    scene = trainer.pipeline.model.scene
    views = trainer.pipeline.model.training_views(torch.tensor([1, 2]))
    for mode in ("train", "start", "mid", "end"):
        instants = scene.exposure.instants(views.camera_T_world, views.K, views.time, views.index, mode)
        assert {value.device for value in vars(instants).values() if isinstance(value, torch.Tensor)} == {CUDA}


def test_statistics_of_density_control_are_kept_when_a_checkpoint_brings_them_to_the_device(cuda):
    first, second = (DensityControl(DensityControlConfig(), num_frames=3) for _ in range(2))
    seen = torch.ones(1, 4, dtype=torch.int32, device="cuda")
    first.observe(torch.ones(1, 4, 2, device="cuda"), seen, 10, 10)
    second.load_state({name: value.cpu() for name, value in first.state().items()})
    for control in (first, second):
        control.observe(torch.ones(1, 4, 2, device="cuda"), seen, 10, 10)
    assert second.seen.tolist() == [2, 2, 2, 2]
    assert second.grad_sum.device == CUDA
    assert torch.equal(second.grad_sum, first.grad_sum)


def test_a_rasterizer_of_the_cpu_is_refused_before_training(cuda, train):
    def change(config):
        busy(config)
        config.pipeline.model.backend = "numba"

    with pytest.raises(ValueError, match="the scene is on cuda:0: leave .* CUDA_VISIBLE_DEVICES= before the command"):
        train(1, change=change)


@pytest.mark.slow
def test_rays_of_llff_scenes_are_on_the_device(cuda, tmp_path):
    from dyngs_plugins.sample.writers.llff import write_llff

    write_llff(tmp_path / "fern", frames=9)
    config = copy.deepcopy(all_methods["nerf-llff"])
    config.data = config.pipeline.datamanager.data = tmp_path / "fern"
    config.pipeline.datamanager.dataparser.downscale_factor = None
    config.pipeline.model.num_coarse_samples = config.pipeline.model.num_importance_samples = 8
    config.pipeline.datamanager.train_num_rays_per_batch = 64
    config.machine.device_type = "cuda"
    config.output_dir, config.vis, config.max_num_iterations = tmp_path / "outputs", "tensorboard", 3
    config.steps_per_eval_batch = config.steps_per_eval_image = config.steps_per_eval_all_images = 2
    config.set_timestamp()
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    assert set(devices(trainer).values()) <= {CUDA, torch.device("cpu")}
    assert {p.device for p in trainer.pipeline.model.parameters()} == {CUDA}
