"""The one function through which everything in this package is rasterized, whatever does the work.

::

    rasterize ─▶ check ─▶ backend ─┬─ gsplat (CUDA) ────────────────────────────────────────────┬─▶ image, alpha, info
                                   └─ numba, torch: project ─▶ SH, depth channel ─▶ composite ──┘

Arguments, results and names are those of gsplat's ``rasterization`` (unpacked). Two things are added: Gaussians may
differ from camera to camera (an exposure is many moments, each with its own means), and the backend can be chosen.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dyngs_plugins.raster.backends import find_backend
from dyngs_plugins.raster.channels import channels, sizes, with_expected_depth
from dyngs_plugins.raster.harmonics import sh_colors
from dyngs_plugins.raster.inputs import RasterInputs, RasterizeMode, RenderMode


class StagedBackend(Protocol):
    """What a CPU backend implements. `rasterize_in_stages` does the rest.

    Both stages are differentiable with torch.autograd in every floating-point argument except Ks. Tensors come checked
    and finite. ``*c`` is a camera axis that may be absent: then the tensor is shared by all cameras.
    """

    def project(
        self,
        means: Float[Tensor, "*c n 3"],
        quats: Float[Tensor, "*c n 4"] | None,
        scales: Float[Tensor, "*c n 3"] | None,
        covars: Float[Tensor, "*c n 3 3"] | None,
        opacities: Float[Tensor, "*c n"],
        viewmats: Float[Tensor, "c 4 4"],
        Ks: Float[Tensor, "c 3 3"],
        width: int,
        height: int,
        eps2d: float,
        near_plane: float,
        far_plane: float,
        radius_clip: float,
        antialiased: bool,
    ) -> tuple[
        Int[Tensor, "c n"],
        Float[Tensor, "c n 2"],
        Float[Tensor, "c n"],
        Float[Tensor, "c n 3"],
        Float[Tensor, "c n"] | None,
    ]:
        """Gaussians to image-plane Gaussians.

        Returns:
            radii (int32, pixels; 0: not drawn), means2d (pixels), depths (z in the camera), conics (upper triangle of
            the inverse 2D covariance) and, if `antialiased`, the factors by which to multiply the opacities, else None.
            Rows with radius 0 are zero and pass no gradient on.
        """
        ...

    def composite(
        self,
        means2d: Float[Tensor, "c n 2"],
        conics: Float[Tensor, "c n 3"],
        colors: Float[Tensor, "*c n d"],
        opacities: Float[Tensor, "*c n"],
        radii: Int[Tensor, "c n"],
        depths: Float[Tensor, "c n"],
        backgrounds: Float[Tensor, "c d"] | None,
        width: int,
        height: int,
        absgrad: bool,
    ) -> tuple[Float[Tensor, "c h w d"], Float[Tensor, "c h w 1"]]:
        """Image-plane Gaussians to images and alphas, front to back in order of `depths` (which get no gradient here).

        With `absgrad` the backward pass sets the attribute ``absgrad`` [c, n, 2] on the very tensor given as `means2d`.
        """
        ...


def rasterize(
    means: Float[Tensor, "*c n 3"],
    quats: Float[Tensor, "*c n 4"] | None,
    scales: Float[Tensor, "*c n 3"] | None,
    opacities: Float[Tensor, "*c n"],
    colors: Tensor,
    viewmats: Float[Tensor, "c 4 4"],
    Ks: Float[Tensor, "c 3 3"],
    width: int,
    height: int,
    *,
    covars: Float[Tensor, "*c n 3 3"] | None = None,
    sh_degree: int | None = None,
    backgrounds: Float[Tensor, "c d"] | None = None,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    radius_clip: float = 0.0,
    render_mode: RenderMode = "RGB",
    rasterize_mode: RasterizeMode = "classic",
    absgrad: bool = False,
    backend: str | None = None,
) -> tuple[Float[Tensor, "c h w d"], Float[Tensor, "c h w 1"], dict[str, Any]]:
    """Render ``n`` Gaussians with ``c`` cameras.

    ``*c`` is a camera axis that may be absent: then all cameras share the tensor.

    Args:
        means: centres, world units.
        quats: rotations, wxyz, any length. Ignored if `covars` is given.
        scales: standard deviations along the rotated axes, world units. Ignored if `covars` is given.
        opacities: in [0, 1].
        colors: ``[*c, n, d]`` colours or features; with `sh_degree` ``[*c, n, k, 3]`` spherical harmonics.
        viewmats: ``camera_T_world``: world points to camera points, OpenCV axes (x right, y down, z forward).
        Ks: intrinsics in pixels; the centre of the first pixel is (0.5, 0.5). Not differentiable.
        width: of the images, pixels.
        height: of the images, pixels.
        covars: 3D covariances instead of `quats` and `scales`. Only their upper triangles are used.
        sh_degree: 0 to 3; None if `colors` are colours.
        backgrounds: colour behind everything; a depth channel has 0 behind it.
        near_plane: nearest depth drawn, world units.
        far_plane: farthest depth drawn, world units.
        eps2d: blur added to the 2D covariances, squared pixels.
        radius_clip: Gaussians with a radius of at most so many pixels are not drawn.
        render_mode: ``RGB`` colours, ``D`` accumulated depth, ``ED`` expected depth (accumulated depth over alpha), or
            both side by side, depth last. Depth is z in the camera.
        rasterize_mode: ``antialiased`` keeps a Gaussian's total light when blurring widens it (Mip-Splatting).
        absgrad: make the backward pass also fill ``info["means2d"].absgrad``.
        backend: ``gsplat``, ``numba``, ``torch``, ``dense`` or a registered name; None picks the fastest that can run.

    Returns:
        The images; the alphas (what share of a pixel is covered); and gsplat's `info`: ``width``, ``height``,
        ``n_cameras``, ``radii`` [c, n] int32 pixels (0: not drawn), ``means2d`` [c, n, 2] pixels (``retain_grad()`` it
        before the backward pass to read its gradient), ``depths`` [c, n], ``conics`` [c, n, 3], ``opacities`` [c, n]...

    Raises:
        ValueError: when shapes, types or options do not fit, or the backend is unknown.
        ImportError: when the backend asked for is not installed.
    """
    inputs = RasterInputs(
        means=means,
        quats=quats,
        scales=scales,
        opacities=opacities,
        colors=colors,
        viewmats=viewmats,
        Ks=Ks,
        width=int(width),
        height=int(height),
        covars=covars,
        sh_degree=sh_degree,
        backgrounds=backgrounds,
        near_plane=near_plane,
        far_plane=far_plane,
        eps2d=eps2d,
        radius_clip=radius_clip,
        render_mode=render_mode,
        rasterize_mode=rasterize_mode,
        absgrad=absgrad,
    ).check()
    return find_backend(backend, inputs)(inputs)


def rasterize_in_stages(
    backend: StagedBackend, inputs: RasterInputs
) -> tuple[Float[Tensor, "c h w d"], Float[Tensor, "c h w 1"], dict[str, Any]]:
    """Rasterize checked inputs with a backend that projects and composites."""
    inputs, finite = _without_non_finite(inputs)
    antialiased = inputs.rasterize_mode == "antialiased"
    radii, means2d, depths, conics, compensations = backend.project(
        inputs.means,
        inputs.quats,
        inputs.scales,
        None if inputs.covars is None else _mirror_upper_triangle(inputs.covars),
        inputs.opacities,
        inputs.viewmats,
        inputs.Ks,
        inputs.width,
        inputs.height,
        inputs.eps2d,
        inputs.near_plane,
        inputs.far_plane,
        inputs.radius_clip,
        antialiased,
    )
    if finite is not None:
        radii = torch.where(finite, radii, 0)
    opacities = inputs.opacities if compensations is None else inputs.opacities * compensations
    colors, backgrounds = channels(inputs, depths, lambda degree: _harmonics(inputs, degree))
    image, alpha = backend.composite(
        means2d,
        conics,
        colors,
        opacities,
        radii,
        depths,
        backgrounds,
        inputs.width,
        inputs.height,
        inputs.absgrad,
    )
    drawn = {"radii": radii, "means2d": means2d, "depths": depths, "conics": conics}
    info = {**drawn, "opacities": opacities.expand(inputs.num_cameras, -1), **sizes(inputs)}
    return with_expected_depth(inputs, image, alpha), alpha, info


def _harmonics(inputs: RasterInputs, degree: int) -> Float[Tensor, "c n 3"]:
    world_T_camera = torch.linalg.inv(inputs.viewmats)
    return sh_colors(degree, inputs.means - world_T_camera[:, None, :3, 3], inputs.colors)


def _mirror_upper_triangle(covars: Float[Tensor, "*c n 3 3"]) -> Float[Tensor, "*c n 3 3"]:
    """gsplat reads the upper triangle only, and only it receives a gradient."""
    upper = torch.ones(3, 3, dtype=torch.bool, device=covars.device).triu()
    return torch.where(upper, covars, covars.mT)  # unlike triu of each matrix, one pass over all


def _without_non_finite(inputs: RasterInputs) -> tuple[RasterInputs, Bool[Tensor, "*c n"] | None]:
    """Inputs in which every number is finite, and which Gaussians always were (None: all of them).

    A NaN multiplied by a zero weight or a zero gradient is a NaN, so the numbers themselves have to go.

    Raises:
        ValueError: when a camera is not finite: nothing sensible can be drawn then.
    """
    # A sum tells in the usual case that there is nothing to do: NaN and infinity survive addition.
    if math.isfinite(sum(tensor.detach().sum().item() for tensor in inputs.tensors().values())):
        return inputs, None
    if not (torch.isfinite(inputs.viewmats).all() and torch.isfinite(inputs.Ks).all()):
        raise ValueError("viewmats or Ks has a NaN or an infinity: look at what last changed the cameras")
    trailing = {"means": 1, "quats": 1, "scales": 1, "covars": 2, "opacities": 0}
    trailing["colors"] = 1 if inputs.sh_degree is None else 2
    rows = {name: tensor for name, tensor in inputs.tensors().items() if name in trailing}
    finite = torch.ones((), dtype=torch.bool, device=inputs.means.device)
    for name, tensor in rows.items():
        row_finite = torch.isfinite(tensor)
        finite = finite & (row_finite.flatten(-trailing[name]).all(dim=-1) if trailing[name] else row_finite)
    cleaned = {name: torch.nan_to_num(tensor, nan=0.0, posinf=0.0, neginf=0.0) for name, tensor in rows.items()}
    return replace(inputs, **cleaned), finite
