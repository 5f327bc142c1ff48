"""What ``ns-export gaussian-splat`` and the viewer read from a splatfacto model, for a scene at one time."""

from __future__ import annotations

import os
import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dyngs_plugins.gaussian_sets import logit
from dyngs_plugins.raster.harmonics import SH_C0
from dyngs_plugins.scene import Scene
from dyngs_plugins.types import Gaussians

EXPORT_TIME_VARIABLE = "DYNGS_EXPORT_TIME"


def export_time(configured: float | None) -> float | None:
    """The time to export: the environment variable, else the configured one; None is the canonical pose."""
    chosen = os.environ.get(EXPORT_TIME_VARIABLE, "").strip()
    if not chosen:
        return configured
    try:
        time = float(chosen)
    except ValueError:
        time = float("nan")
    if not 0.0 <= time <= 1.0:
        raise ValueError(
            f"{EXPORT_TIME_VARIABLE} is '{chosen}', expected a time in [0, 1], for example {EXPORT_TIME_VARIABLE}=0.5. "
            "Unset it to export the canonical pose."
        )
    return time


class ExportedScene:
    """Splatfacto's properties, in its raw form (log scales, opacity logits), of the whole scene at the export time."""

    scene: Scene
    config: object
    _told: bool = False

    def exported(self) -> Gaussians:
        """All sets joined, at the export time."""
        time = export_time(getattr(self.config, "export_time", None))
        if not torch.is_grad_enabled():  # exporters ask without gradients; the viewer's walk has them on
            self._tell(time)
        return self.scene.at(time)

    def _tell(self, time: float | None) -> None:
        """Say once what is exported: one moment of what moves, and colours without what only a render has."""
        if self._told:
            return
        self._told = True
        lost = self.scene.color_head.lost_in_export
        if lost:
            warnings.warn(f"The exported colours lack {lost}: the file looks different from a render.", stacklevel=1)
        if self.scene.dynamic is not None:
            moment = "the canonical pose" if time is None else f"the moment {time:g} of [0, 1]"
            print(f"Exporting {moment}. {EXPORT_TIME_VARIABLE}=0.5 chooses another moment, here half-way.")

    @property
    def num_points(self) -> int:
        return sum(len(s) for s in self.scene.gaussian_sets())

    @property
    def means(self) -> Float[Tensor, "n 3"]:
        return self.exported().means

    @property
    def quats(self) -> Float[Tensor, "n 4"]:
        return nn.functional.normalize(self.exported().quats, dim=-1)

    @property
    def scales(self) -> Float[Tensor, "n 3"]:
        return torch.log(self.exported().scales)

    @property
    def opacities(self) -> Float[Tensor, "n 1"]:
        return logit(self.exported().opacities, eps=1e-6)[:, None]

    @property
    def colors(self) -> Float[Tensor, "n 3"]:
        """With harmonics the constant one's; at a time it may differ from the set's colour."""
        whole = self.exported()
        return whole.colors if whole.harmonics is None else 0.5 + SH_C0 * whole.harmonics[:, 0]

    @property
    def features_dc(self) -> Float[Tensor, "n 3"]:
        """Colour logits, splatfacto's form of plain colours (SH degree 0); with harmonics the constant one.

        The viewer walks over every property.
        """
        whole = self.exported()
        return logit(whole.colors) if whole.harmonics is None else whole.harmonics[:, 0]

    @property
    def features_rest(self) -> Float[Tensor, "n k 3"]:
        return self.shs_rest

    @property
    def gauss_params(self) -> dict[str, Tensor]:
        """The scene at the export time under splatfacto's names, to read from."""
        names = ("means", "scales", "quats", "features_dc", "features_rest", "opacities")
        return {name: getattr(self, name) for name in names}

    @property
    def shs_0(self) -> Float[Tensor, "n 3"]:
        return (self.colors - 0.5) / SH_C0

    @property
    def shs_rest(self) -> Float[Tensor, "n k 3"]:
        """The harmonics but the constant one (none where colours are plain)."""
        whole = self.exported()
        return whole.colors.new_zeros(len(whole), 0, 3) if whole.harmonics is None else whole.harmonics[:, 1:]
