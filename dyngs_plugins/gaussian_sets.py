"""A scene is named sets of Gaussians, each a dictionary of raw row-wise parameters with its own optimizers.

Foreground and background differ in columns, learning rates and thresholds, so they are separate sets. Everything that
adds, removes or reorders rows goes through :meth:`GaussianSet.set_rows`, which carries the Adam moments along. That is
what lets a motion field add a column (basis weights, control points) and get densification and resume for free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from dyngs_plugins.color_head import ColorHead
from dyngs_plugins.raster.harmonics import SH_C0
from dyngs_plugins.types import Gaussians

BASE_COLUMNS: dict[str, tuple[int, ...]] = {
    "means": (3,),
    "quats": (4,),
    "scales": (3,),
    "opacities": (),
    "colors": (3,),
}
"""Raw columns every set has: log scales, opacity logits, colour logits (or the constant spherical harmonic)."""


class GaussianSet(nn.Module):
    """One named set of Gaussians.

    Args:
        name: its name; its parameter groups are called ``<name>_<column>``.
        motion_columns: further row-wise columns, by name, with the shape of one row.
        isotropic: one scale per Gaussian instead of three (the ``scales`` column is then ``[n, 1]``).
        sh_degree: above 0 colours depend on the direction of view: ``colors`` holds the constant spherical harmonic and
            a further column, ``harmonics``, the ``(sh_degree + 1)^2 - 1`` others.
        color_head: the scene's, if its Gaussians carry features for it.
    """

    def __init__(
        self,
        name: str,
        motion_columns: Mapping[str, tuple[int, ...]] | None = None,
        isotropic: bool = False,
        sh_degree: int = 0,
        color_head: ColorHead | None = None,
    ):
        super().__init__()
        self.name = name
        self.isotropic = isotropic
        self.sh_degree = sh_degree
        further = {**(motion_columns or {}), **(color_head.columns() if color_head is not None else {})}
        self.color_features: Callable[[Tensor], Mapping[str, Tensor]] = (
            color_head.start if color_head is not None else lambda _: {}
        )
        shapes = {**BASE_COLUMNS, **further}
        if sh_degree > 0:
            shapes["harmonics"] = ((sh_degree + 1) ** 2 - 1, 3)
        if isotropic:
            shapes["scales"] = (1,)
        self.raw = nn.ParameterDict({column: nn.Parameter(torch.zeros(0, *shape)) for column, shape in shapes.items()})
        self.further_columns = tuple(further)
        """Columns of the motion field and the colour head, which see them raw, as ``Gaussians.columns``."""

    def __len__(self) -> int:
        return self.raw["means"].shape[0]

    def activated(self) -> Gaussians:
        """The set as activated values, in its canonical pose."""
        constant = self.raw["colors"]
        harmonics = torch.cat([constant[:, None], self.raw["harmonics"]], dim=1) if self.sh_degree > 0 else None
        return Gaussians(
            means=self.raw["means"],
            quats=self.raw["quats"],
            scales=torch.exp(self.raw["scales"]).expand(-1, 3),
            opacities=torch.sigmoid(self.raw["opacities"]),
            colors=torch.sigmoid(constant) if harmonics is None else 0.5 + SH_C0 * constant,
            columns={column: self.raw[column] for column in self.further_columns},
            harmonics=harmonics,
        )

    def color_columns(self, colors: Float[Tensor, "n 3"]) -> dict[str, Tensor]:
        """The raw columns of colours in [0, 1] that look the same from everywhere."""
        features = dict(self.color_features(colors))
        if self.sh_degree == 0:
            return {"colors": logit(colors), **features}
        harmonics = colors.new_zeros(colors.shape[0], *self.raw["harmonics"].shape[1:])
        return {"colors": (colors - 0.5) / SH_C0, "harmonics": harmonics, **features}

    def group(self, column: str) -> str:
        """The name of a column's parameter group, as ``TrainerConfig.optimizers`` spells it."""
        return f"{self.name}_{column}"

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return {self.group(column): [parameter] for column, parameter in self.raw.items()}

    @torch.no_grad()
    def set_rows(
        self,
        rows: Callable[[str, Tensor], Tensor],
        optimizers: Mapping[str, Optimizer] | None = None,
        moments: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Replace every column by ``rows(column, old)`` and the Adam moments by ``moments(old_moment)``.

        Parameters are replaced as objects (a leaf whose shape changed under a live graph is not safe), so the
        optimizers that hold them are updated in the same breath. ``moments=None`` drops the state.
        """
        for column in list(self.raw.keys()):
            old = self.raw[column]
            new = nn.Parameter(rows(column, old.data).contiguous(), requires_grad=old.requires_grad)
            self.raw[column] = new
            optimizer = (optimizers or {}).get(self.group(column))
            if optimizer is not None:
                _swap_parameter(optimizer, old, new, moments)

    def load_rows(self, columns: Mapping[str, Tensor], optimizers: Mapping[str, Optimizer] | None = None) -> None:
        """Start the set from the given raw columns (all of them, same number of rows)."""
        counts = {column: tensor.shape[0] for column, tensor in columns.items()}
        if set(columns) != set(self.raw.keys()) or len(set(counts.values())) > 1:
            raise ValueError(
                f"Gaussian set '{self.name}' needs the columns {sorted(self.raw.keys())} with equal numbers of rows, "
                f"but got {counts}."
            )
        self.set_rows(lambda column, old: columns[column].to(old), optimizers)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        # The number of Gaussians is the checkpoint's. Resizing through `.data` keeps the Parameter objects that the
        # optimizers already hold: replacing them here would silently freeze a resumed training.
        for column, parameter in self.raw.items():
            saved = state_dict.get(f"{prefix}raw.{column}")
            if saved is not None and saved.shape != parameter.shape:
                parameter.data = parameter.data.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _swap_parameter(
    optimizer: Optimizer, old: nn.Parameter, new: nn.Parameter, moments: Callable[[Tensor], Tensor] | None
) -> None:
    state = optimizer.state.pop(old, None)
    for group in optimizer.param_groups:
        group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
    if state and moments is not None:
        optimizer.state[new] = {
            key: moments(value) if isinstance(value, Tensor) and value.ndim > 0 else value
            for key, value in state.items()
        }


def logit(values: Tensor, eps: float = 1e-3) -> Tensor:
    """Inverse sigmoid, safe at 0 and 1 (colours of 0 and 255 would otherwise become infinite)."""
    return torch.logit(values.clamp(eps, 1 - eps))
