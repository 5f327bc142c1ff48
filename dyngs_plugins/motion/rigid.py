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
    """`move_rigidly` in PyTorch: any device, any floating type."""
    moved = _MoveInTorch.apply(blend, means, quats)
    return moved if quats is not None else (moved, None)  # type: ignore[return-value]


class _MoveInTorch(torch.autograd.Function):
    """Whole components at a time, and derivatives in closed form: a GPU is asked for few launches.

    A turn by a small vector r changes R by ``r x R`` (column by column) and a quaternion q by ``(0, r) q / 2``. So derivatives
    g with respect to ``R mean`` and h with respect to ``q(R) quat`` are one with respect to r::

        w = (R mean) x g + v,    v_k = h . ((0, e_k) q(R) quat) / 2

    r depends on the two vectors a1 and a2 that span R. In the frame of R's columns b1, b2, b3, with the rest
    ``u = a2 - (b1.a2) b1`` of the second vector and ``s = (b1.a2) / |u|``::

        r3 = b2.da1 / |a1|     r2 = -b3.da1 / |a1|     r1 = b3.da2 / |u| + s r2

    and therefore ``d_a1 = (w3 b2 - (w2 + s w1) b3) / |a1|`` and ``d_a2 = w1 b3 / |u|``.
    """

    @staticmethod
    def forward(ctx: Any, blend: Tensor, means: Tensor, quats: Tensor | None):
        first, second, translation = _components(blend).split(3)
        frame = rotations.gram_schmidt(first, second)
        x, y, z = means.T
        b1, b2, b3 = frame.columns
        rotated = torch.addcmul(torch.addcmul(b1 * x, b2, y), b3, z)
        moved = (rotated + translation).permute(1, 2, 0)
        left = turned = None
        if quats is not None:
            left = rotations.left_matrix(rotations.shepperd(frame.columns))
            turned = (left * quats.T[:, None]).sum(1)
        ctx.save_for_backward(blend, rotated, left, turned, *frame)
        return moved if turned is None else (moved, turned.permute(1, 2, 0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_moved: Tensor, d_turned: Tensor | None = None):  # type: ignore[override]
        blend, rotated, left, turned, *frame = ctx.saved_tensors
        d_moved = d_moved.permute(2, 0, 1)
        turn = rotations.cross(rotated, d_moved)
        d_quats = None
        if d_turned is not None:
            d_turned = d_turned.permute(2, 0, 1)
            turn = torch.add(turn, _turn_of_quaternion(turned, d_turned), alpha=0.5)
            d_quats = (left * d_turned[:, None]).sum((0, 2)).T
        frame = rotations.Frame(*frame)
        d_vectors = _through_gram_schmidt(frame, _components(blend)[3:6], turn)
        d_means = (frame.columns * d_moved).sum((1, 2)).T
        return torch.cat([*d_vectors, d_moved]).permute(2, 1, 0), d_means, d_quats


def _components(blend: Float[Tensor, "n b 9"]) -> Float[Tensor, "9 b n"]:
    """With the components in front, and those of neighbouring Gaussians side by side."""
    components = blend.detach().permute(2, 1, 0)
    return components if components.stride(-1) == 1 else components.contiguous()


def _turn_of_quaternion(q: Float[Tensor, "4 b n"], d_q: Float[Tensor, "4 b n"]) -> Float[Tensor, "3 b n"]:
    """``d_q . ((0, e_k) q)`` for each axis k."""
    return torch.addcmul(d_q[1:] * q[0], d_q[0], q[1:], value=-1) + rotations.cross(q[1:], d_q[1:])


def _through_gram_schmidt(
    frame: rotations.Frame, second: Float[Tensor, "3 b n"], turn: Float[Tensor, "3 b n"]
) -> tuple[Float[Tensor, "3 b n"], Float[Tensor, "3 b n"]]:
    """The derivatives with respect to the two vectors that span a rotation, from that with respect to a turn of it."""
    b1, b2, b3 = frame.columns
    w1, w2, w3 = (frame.columns * turn).sum(1)
    slope = rotations.dot(b1, second) * frame.per_rest
    d_first = torch.addcmul(b2 * w3, b3, torch.addcmul(w2, slope, w1), value=-1) * frame.per_first
    return d_first, b3 * (w1 * frame.per_rest)


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
