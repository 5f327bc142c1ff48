"""Nothing moves: the baseline every dynamic method has to beat, and the motion axis of static deblurring."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.motion.base import MotionField, MotionFieldConfig
from dyngs_plugins.types import Gaussians


class StaticMotion(MotionField):
    """The identity at every time.

    Args:
        num_frames: frames of the clip (unused: nothing depends on it).
    """

    starts_from = "tracks if any"

    def __init__(self, config: MotionFieldConfig, num_frames: int):
        super().__init__()

    def at(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Gaussians:
        b = times.shape[0]
        return gaussians.replace(means=gaussians.means.expand(b, -1, -1), quats=gaussians.quats.expand(b, -1, -1))


@dataclass
class StaticMotionConfig(MotionFieldConfig):
    """No motion."""

    _target: type = field(default_factory=lambda: StaticMotion)
