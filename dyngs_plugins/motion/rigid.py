"""Moves Gaussians by blended rigid motions: compiled on the CPU, plain PyTorch elsewhere, the same numbers."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from dyngs_plugins.motion import rotations
from dyngs_plugins.raster.ssim import has_numba


def move_rigidly(
    blend: Float[Tensor, "n b 9"], means: Float[Tensor, "n 3"], quats: Float[Tensor, "n 4"] | None
) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 4"] | None]:
    """``R mean + t`` and ``q(R) quat`` of every Gaussian at every time.

    Args:
        blend: per Gaussian and time the two vectors that span a rotation's first columns (see
            `rotations.gram_schmidt`), and a translation.
        quats: wxyz; None if only the means are wanted.
    """
    tensors = (blend, means) if quats is None else (blend, means, quats)
    if all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors) and has_numba():
        moved = _MoveRigidly.apply(blend, means, quats)
        return moved if quats is not None else (moved, None)  # type: ignore[return-value]
    return move_rigidly_reference(blend, means, quats)


def move_rigidly_reference(
    blend: Float[Tensor, "n b 9"], means: Float[Tensor, "n 3"], quats: Float[Tensor, "n 4"] | None
) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 4"] | None]:
    """`move_rigidly` in PyTorch, component by component: any device, any floating type."""
    components = blend.permute(2, 1, 0).contiguous().unbind(0)
    columns = rotations.gram_schmidt(components[0:3], components[3:6])
    rotated = rotations.rotate(columns, means.T.unbind(0))
    moved = torch.stack([r + t for r, t in zip(rotated, components[6:9], strict=True)], dim=-1)
    if quats is None:
        return moved, None
    turned = rotations.multiply(rotations.quaternion(columns), quats.T.unbind(0))
    return moved, torch.stack(turned, dim=-1)


class _MoveRigidly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, blend: Tensor, means: Tensor, quats: Tensor | None):
        from dyngs_plugins.raster.kernels import rigid
        from dyngs_plugins.raster.kernels.threads import current_team

        n, times = blend.shape[:2]
        arguments = _blend(blend, means, quats)
        moved = torch.empty(times, n, 3)
        turned = None if quats is None else torch.empty(times, n, 4)
        out = rigid.Moved(moved.view(-1).numpy(), None if turned is None else turned.view(-1).numpy())
        rigid.move(current_team(), arguments, out)
        ctx.save_for_backward(blend, means, quats)
        return moved if turned is None else (moved, turned)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_moved: Tensor, d_turned: Tensor | None = None):  # type: ignore[override]
        from dyngs_plugins.raster.kernels import rigid
        from dyngs_plugins.raster.kernels.threads import current_team

        blend, means, quats = ctx.saved_tensors
        incoming = rigid.Moved(_flat(d_moved), None if d_turned is None else _flat(d_turned))
        grads = [None if t is None else torch.empty(t.shape) for t in (blend, means, quats)]
        out = rigid.BlendGradients(*(None if g is None else g.view(-1).numpy() for g in grads))
        rigid.move_backward(current_team(), _blend(blend, means, quats), incoming, out)
        return tuple(grads)


def _flat(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().view(-1).numpy()


def _blend(blend: Tensor, means: Tensor, quats: Tensor | None) -> Any:
    from dyngs_plugins.raster.kernels import rigid

    arrays = [None if t is None else _flat(t) for t in (blend, means, quats)]
    return rigid.Blend(blend.shape[0], blend.shape[1], *arrays)
