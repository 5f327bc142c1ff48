"""What methods built on 3D Gaussian Splatting share: rates, density control, and sizes for small scenes.

Source: Kerbl et al. 2023, with the reference's numbers; lengths are in scene units, which the loaders bring to about 1, in
place of the reference's camera extent.
"""

from typing import Any

from dataparsers.auto import AutoDataParserConfig
from dyngs_plugins.data import DynamicDataManagerConfig
from dyngs_plugins.density import DensityControlConfig
from dyngs_plugins.initialise import InitialiseConfig
from dyngs_plugins.objective import LossTerm
from dyngs_plugins.pipeline import DynamicPipelineConfig
from dyngs_plugins.stages import Decay
from dyngs_plugins.trainer import DynamicTrainerConfig, adam

RATES = {
    "dynamic_means": 1.6e-4,
    "dynamic_opacities": 5e-2,
    "dynamic_scales": 5e-3,
    "dynamic_quats": 1e-3,
    "dynamic_colors": 2.5e-3,
    "dynamic_harmonics": 2.5e-3 / 20,
}


def density(**changes: Any) -> DensityControlConfig:
    """3D Gaussian Splatting's density control."""
    values: dict[str, Any] = {
        "start": 500,
        "stop": 15_000,
        "grad_threshold": 2e-4,
        "split": "sample",
        "split_screen": 1e9,  # size in the scene alone decides between splitting and duplicating
        "prune_opacity": 0.005,
        "prune_scale": 0.5,
        "reset_every": 3000,
        "reset_opacity": 0.01,
        "pause_growth": 1,  # none
        "pause_culling": 1,
    }
    return DensityControlConfig(**{**values, **changes})


def one_set(method_name: str, rates: dict[str, float]) -> DynamicTrainerConfig:
    """A trainer of one set of Gaussians that all may move, started from points and trained on colours alone."""
    config = DynamicTrainerConfig(
        method_name=method_name,
        pipeline=DynamicPipelineConfig(
            datamanager=DynamicDataManagerConfig(dataparser=AutoDataParserConfig(), frames_per_batch=1)
        ),
        optimizers={group: adam(rate) for group, rate in {**RATES, **rates}.items()},
    )
    model = config.pipeline.model
    model.sets = ("dynamic",)
    model.losses = {"rgb": LossTerm()}
    model.density = {"dynamic": density()}
    model.initialise = InitialiseConfig(num_dynamic=100_000, opacity=0.1)
    model.sh_degree = 3
    model.scale_decay = Decay(factor=1.0, steps=1)
    return config


def make_small(config: DynamicTrainerConfig, method_name: str, steps: int) -> DynamicTrainerConfig:
    """For scenes of a few hundred pixels and machines without a GPU: fewer Gaussians and steps, plain colours."""
    config.method_name = method_name
    config.steps_per_save = 500
    data, model = config.pipeline.datamanager, config.pipeline.model
    data.frames_per_batch = 4
    model.initialise.num_dynamic, model.initialise.opacity = 8000, 0.5
    model.train_steps, model.sh_degree = steps, 0
    model.density = {
        "dynamic": density(
            start=100, stop=int(0.8 * steps), reset_every=100_000, max_gaussians=16_000, prune_opacity=0.05
        )
    }
    # A tenth of the steps, so what is slow in a long training is faster.
    config.optimizers |= {"dynamic_means": adam(5e-4), "dynamic_colors": adam(1e-2)}
    del config.optimizers["dynamic_harmonics"]
    return config
