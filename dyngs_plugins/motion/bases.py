"""Shape of Motion's field: K shared SE(3) trajectories, blended per Gaussian (Wang et al. 2024, Eq. 3 and 4).

Every Gaussian carries K logits; the softmax of them blends the bases' 6-D rotations and translations, and one
Gram-Schmidt step makes the blend a rotation again. The bases are stored per frame and blended linearly between frames
(before the orthonormalisation), so the field is defined, and differentiable, at every continuous time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dyngs_plugins.losses.motion import acceleration
from dyngs_plugins.motion.base import MotionField, MotionFieldConfig
from dyngs_plugins.motion.bases_init import Hidden, fit_bases
from dyngs_plugins.motion.rigid import move_rigidly
from dyngs_plugins.types import Gaussians

IDENTITY_6D = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass
class MotionBasesConfig(MotionFieldConfig):
    """Shared SE(3) motion bases."""

    _target: type = field(default_factory=lambda: MotionBases)
    num_bases: int = 10
    """At most this many bases; clusters with too few tracks are dropped, so fewer may remain."""
    min_cluster_size: int = 100
    """A basis must be supported by more tracks than this (lowered for clips with few tracks)."""
    smoothness: float = 0.1
    """Weight of the bases' acceleration."""
    hidden: Hidden = "hold"
    """How bases start where tracks are not seen, before and after the frames that show them. ``hold``: still, where
    they were seen first or last (the reference). ``carry``: as the rest of their thing moves, so that sides which
    appear or disappear while it turns stay with it."""


class MotionBases(MotionField):
    """K shared SE(3) trajectories over T frames.

    Parameters: ``rots [K, T, 6]`` (first two columns of a rotation) and ``transls [K, T, 3]`` (scene units).
    """

    prefits = True

    def __init__(self, config: MotionBasesConfig, num_frames: int):
        super().__init__()
        self.config = config
        self.num_frames = num_frames
        k = config.num_bases
        self.rots = nn.Parameter(torch.tensor(IDENTITY_6D).repeat(k, num_frames, 1))
        self.transls = nn.Parameter(torch.zeros(k, num_frames, 3))

    @property
    def num_bases(self) -> int:
        return self.rots.shape[0]

    def columns(self) -> dict[str, tuple[int, ...]]:
        return {"motion_coefs": (self.num_bases,)}

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"motion_bases_rots": [self.rots], "motion_bases_transls": [self.transls]}

    def bases_at(self, times: Float[Tensor, "b"]) -> Float[Tensor, "b 9 k"]:
        """Rotation (6) and translation (3) of every basis at continuous times, linear between frames."""
        table = torch.cat([self.rots, self.transls], dim=-1).permute(1, 2, 0)  # [T, 9, K]
        return (self._frame_weights(times) @ table.flatten(1)).unflatten(1, table.shape[1:])

    def _frame_weights(self, times: Float[Tensor, "b"]) -> Float[Tensor, "b t"]:
        """How much of each frame is in the blend at each time: of two frames at most.

        With them the blend is one matrix product, forward and backward; frames picked by index would be more launches.
        """
        last = self.num_frames - 1
        if last == 0:
            return self.rots.new_ones(len(times), 1)
        u = times.clamp(0, 1) * last
        left = u.detach().long().clamp(0, last - 1)
        right_share = (u - left).to(self.rots.dtype)
        frames, shares = torch.stack([left, left + 1], 1), torch.stack([1 - right_share, right_share], 1)
        return right_share.new_zeros(len(times), self.num_frames).scatter(1, frames, shares)

    def blend(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Float[Tensor, "n b 9"]:
        """Every Gaussian's blend of the bases at every time: two vectors that span its rotation, and its translation."""
        weights = torch.softmax(gaussians.columns["motion_coefs"], dim=-1)
        bases = self.bases_at(times).reshape(-1, self.num_bases)
        if weights.is_cuda:  # components in front, as `move_rigidly` wants them there
            return (bases @ weights.T).unflatten(0, (-1, 9)).permute(2, 0, 1)
        return (weights @ bases.T).reshape(-1, times.shape[0], 9)

    def positions(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Float[Tensor, "b n 3"]:
        return move_rigidly(self.blend(gaussians, times), gaussians.means, None)[0]

    def at(self, gaussians: Gaussians, times: Float[Tensor, "b"]) -> Gaussians:
        means, quats = move_rigidly(self.blend(gaussians, times), gaussians.means, gaussians.quats)
        return gaussians.replace(means=means, quats=quats)

    def acceleration(self) -> Float[Tensor, ""]:
        """``A(rots) + 2 A(transls)``: 0 for bases linear in time."""
        return acceleration(self.rots) + 2 * acceleration(self.transls)

    def regularisers(self, gaussians: Gaussians) -> dict[str, Tensor]:
        return {"smooth_bases": self.config.smoothness * self.acceleration()}

    def prefit_regularisers(self, gaussians: Gaussians, smoothness: float) -> dict[str, Tensor]:
        weights = torch.softmax(gaussians.columns["motion_coefs"], dim=-1)
        return {
            "prefit_smooth_bases": smoothness * self.acceleration(),
            # Few bases per Gaussian: 0 when each follows one basis only.
            "prefit_sparse_coefs": 0.01 * (1 - weights.square().sum(-1).mean()),
        }

    def initialise(self, tracks, canonical_frame: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        c = self.config
        fitted = fit_bases(tracks, canonical_frame, c.num_bases, c.min_cluster_size, generator, c.hidden)
        self.resize(fitted.rots.shape[0])
        self.rots.data.copy_(fitted.rots)
        self.transls.data.copy_(fitted.transls)
        return {"motion_coefs": fitted.coefs, "means": fitted.canonical}

    def resize(self, num_bases: int) -> None:
        """Change the number of bases before training starts (small clusters are dropped); contents are undefined."""
        self.rots.data = self.rots.data.new_zeros(num_bases, self.num_frames, 6)
        self.transls.data = self.transls.data.new_zeros(num_bases, self.num_frames, 3)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        saved = state_dict.get(f"{prefix}rots")
        if saved is not None:
            if saved.shape[1] != self.num_frames:
                raise ValueError(
                    f"The checkpoint's motion bases cover {saved.shape[1]} frames, the clip has {self.num_frames}. "
                    "Load the checkpoint with the clip it was trained on."
                )
            self.resize(saved.shape[0])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
