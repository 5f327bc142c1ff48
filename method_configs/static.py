"""The static baseline: Shape of Motion's scene, losses and schedule with nothing moving and no tracks.

What a dynamic method has to beat: the same initial points, Gaussian caps and iterations.
"""

from nerfstudio.plugins.types import MethodSpecification

from dyngs_plugins.motion.static import StaticMotionConfig
from dyngs_plugins.trainer import DynamicTrainerConfig
from method_configs import som

PAPER = None

WITHOUT_MOTION = ("track_2d", "track_depth", "smooth_tracks", "motion_along_ray", "rigidity")
"""Losses that compare moving things over time, or that are constant when nothing moves."""


def without_motion(config: DynamicTrainerConfig, method_name: str) -> DynamicTrainerConfig:
    """The same configuration with the static motion field."""
    config.method_name = method_name
    model = config.pipeline.model
    model.motion = StaticMotionConfig()
    model.prefit_steps, model.prefit_rates = 0, {}
    model.losses = {name: term for name, term in model.losses.items() if name not in WITHOUT_MOTION}
    for group in ("dynamic_motion_coefs", "motion_bases_rots", "motion_bases_transls"):
        del config.optimizers[group]
    return config


dyn_static = MethodSpecification(
    config=without_motion(som.full(), "dyn-static"), description="Static Gaussians with Shape of Motion's losses."
)
dyn_static_small = MethodSpecification(
    config=without_motion(som.small(), "dyn-static-small"), description="dyn-static sized for small scenes and CPUs."
)
