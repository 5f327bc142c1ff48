"""What a rasterizer backend is given: one call's arguments, checked, with messages that say what to pass instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
RasterizeMode = Literal["classic", "antialiased"]


@dataclass(frozen=True)
class RasterInputs:
    """The arguments of `seam.rasterize`. ``*c`` is a camera axis that may be absent (shared by all cameras).

    Attributes are named as the arguments of gsplat's ``rasterization``; see `seam.rasterize` for their meaning.
    """

    means: Float[Tensor, "*c n 3"]
    quats: Float[Tensor, "*c n 4"] | None
    scales: Float[Tensor, "*c n 3"] | None
    opacities: Float[Tensor, "*c n"]
    colors: Tensor
    viewmats: Float[Tensor, "c 4 4"]
    Ks: Float[Tensor, "c 3 3"]
    width: int
    height: int
    covars: Float[Tensor, "*c n 3 3"] | None
    sh_degree: int | None
    backgrounds: Float[Tensor, "c d"] | None
    near_plane: float
    far_plane: float
    eps2d: float
    radius_clip: float
    render_mode: RenderMode
    rasterize_mode: RasterizeMode
    absgrad: bool

    @property
    def num_cameras(self) -> int:
        return self.viewmats.shape[0]

    @property
    def num_gaussians(self) -> int:
        return self.means.shape[-2]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that was given, by name."""
        names = ("means", "quats", "scales", "covars", "opacities", "colors", "viewmats", "Ks", "backgrounds")
        return {name: value for name in names if isinstance(value := getattr(self, name), Tensor)}

    def check(self) -> RasterInputs:
        """Itself, if everything fits together.

        Raises:
            ValueError: naming what was found, what was expected and what to try.
        """
        self._check_options()
        c, n = self._check_sizes()
        self._check_rows("means", (n, 3), c)
        if self.covars is not None:
            self._check_rows("covars", (n, 3, 3), c)
        elif self.quats is None or self.scales is None:
            raise ValueError("quats and scales are needed unless covars is given")
        else:
            self._check_rows("quats", (n, 4), c)
            self._check_rows("scales", (n, 3), c)
        self._check_rows("opacities", (n,), c)
        channels = self._check_colors(c, n)
        if self.backgrounds is not None and self.backgrounds.shape != (c, channels):
            raise ValueError(
                f"backgrounds has shape {_shape(self.backgrounds)}: expected [{c}, {channels}], one colour per camera"
            )
        self._check_same_kind()
        return self

    def _check_options(self) -> None:
        for name, allowed in (("render_mode", get_args(RenderMode)), ("rasterize_mode", get_args(RasterizeMode))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}: expected one of {', '.join(allowed)}")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"the image is {self.width}x{self.height}: expected at least 1x1 pixel")

    def _check_sizes(self) -> tuple[int, int]:
        if self.viewmats.ndim != 3 or self.viewmats.shape[1:] != (4, 4):
            raise ValueError(
                f"viewmats has shape {_shape(self.viewmats)}: expected [cameras, 4, 4]; "
                "for one camera pass viewmat[None]"
            )
        c = self.viewmats.shape[0]
        if self.Ks.shape != (c, 3, 3):
            raise ValueError(f"Ks has shape {_shape(self.Ks)}: expected [{c}, 3, 3], one per row of viewmats")
        if self.means.ndim not in (2, 3):
            raise ValueError(f"means has shape {_shape(self.means)}: expected [n, 3] or [{c}, n, 3]")
        return c, self.means.shape[-2]

    def _check_rows(self, name: str, row: tuple[int, ...], c: int) -> None:
        found = getattr(self, name)
        if found.shape not in (row, (c, *row)):
            raise ValueError(
                f"{name} has shape {_shape(found)}: expected {list(row)}, or {[c, *row]} with values for each camera"
            )

    def _check_colors(self, c: int, n: int) -> int:
        if self.sh_degree is None:
            if self.colors.ndim in (2, 3) and self.colors.shape[-1] >= 1:
                self._check_rows("colors", (n, self.colors.shape[-1]), c)
                return self.colors.shape[-1]
            raise ValueError(
                f"colors has shape {_shape(self.colors)}: expected [{n}, channels] or [{c}, {n}, channels] with "
                "at least one channel; for spherical harmonics also pass sh_degree"
            )
        if self.colors.ndim not in (3, 4):
            raise ValueError(
                f"colors has shape {_shape(self.colors)}: with sh_degree expected [{n}, k, 3] or [{c}, {n}, k, 3]"
            )
        self._check_rows("colors", (n, self.colors.shape[-2], 3), c)
        return 3

    def _check_same_kind(self) -> None:
        kinds = {name: (tensor.dtype, tensor.device) for name, tensor in self.tensors().items()}
        for name, (dtype, device) in kinds.items():
            if dtype != self.means.dtype or device != self.means.device:
                raise ValueError(
                    f"{name} is {dtype} on {device} but means is {self.means.dtype} on {self.means.device}: "
                    "convert one of them"
                )
        if self.means.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"means is {self.means.dtype}: expected float32 (or float64 on the CPU, for checks)")


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
