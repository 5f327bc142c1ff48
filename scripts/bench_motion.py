"""How fast shared motion bases move Gaussians, against the form of Shape of Motion's equations in the same process.

Run ``python scripts/bench_motion.py``. The reference form keeps a matrix per Gaussian and time (arrays of structures):
two einsums blend the bases, Gram-Schmidt works on rows of three, and 4x4 transforms move homogeneous points. Ours blends
with one matrix product and works on whole components (structures of arrays), compiled where numba is installed. Times
are medians in milliseconds over rounds in which the contestants take turns; the two agree to float precision, or the
script stops.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from dyngs_plugins.motion import rigid
from dyngs_plugins.motion.bases import MotionBases, MotionBasesConfig
from dyngs_plugins.types import Gaussians

BASES, FRAMES = 20, 24
GOAL = 1.5
"""How many times faster ours has to be."""


def make(count: int, times: int) -> tuple[MotionBases, Gaussians, Tensor]:
    """Random bases and Gaussians, with gradients for all, and times between frames."""
    generator = torch.Generator().manual_seed(0)
    field = MotionBases(MotionBasesConfig(num_bases=BASES), num_frames=FRAMES)
    field.rots.data = torch.randn(BASES, FRAMES, 6, generator=generator)
    field.transls.data = torch.randn(BASES, FRAMES, 3, generator=generator)
    gaussians = Gaussians(
        means=torch.randn(count, 3, generator=generator).requires_grad_(),
        quats=torch.randn(count, 4, generator=generator).requires_grad_(),
        scales=torch.ones(count, 3),
        opacities=torch.ones(count),
        colors=torch.ones(count, 3),
        columns={"motion_coefs": torch.randn(count, BASES, generator=generator).requires_grad_()},
    )
    return field, gaussians, torch.rand(times, generator=generator)


def reference(field: MotionBases, gaussians: Gaussians, times: Tensor) -> tuple[Tensor, Tensor]:
    """Means ``[b, n, 3]`` and quaternions ``[b, n, 4]``, one matrix per Gaussian and time."""
    weights = torch.softmax(gaussians.columns["motion_coefs"], dim=-1)
    u = times * (FRAMES - 1)
    left = u.floor().long()
    fraction = (u - left)[:, None]

    def at(table: Tensor) -> Tensor:
        return table[:, left] * (1 - fraction) + table[:, left + 1] * fraction

    rots = torch.einsum("nk,kbc->bnc", weights, at(field.rots))
    transls = torch.einsum("nk,kbc->bnc", weights, at(field.transls))
    b1 = F.normalize(rots[..., :3], dim=-1)
    b2 = F.normalize(rots[..., 3:] - (b1 * rots[..., 3:]).sum(-1, keepdim=True) * b1, dim=-1)
    rotation = torch.stack([b1, b2, torch.linalg.cross(b1, b2)], dim=-1)
    transform = torch.cat([rotation, transls[..., None]], dim=-1)
    points = F.pad(gaussians.means, (0, 1), value=1.0)
    means = torch.einsum("bnij,nj->bni", transform, points)
    return means, _product(_quaternion(rotation), gaussians.quats)


def _quaternion(rotation: Tensor) -> Tensor:
    """wxyz by Shepperd's method, on arrays of matrices."""
    (m00, m01, m02), (m10, m11, m12), (m20, m21, m22) = (row.unbind(-1) for row in rotation.unbind(-2))
    squares = torch.stack([1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1)
    q = torch.sqrt(squares.clamp_min(1e-8)) / 2
    w, x, y, z = q.unbind(-1)
    from_w = torch.stack([w * w, (m21 - m12) / 4, (m02 - m20) / 4, (m10 - m01) / 4], -1)
    from_x = torch.stack([(m21 - m12) / 4, x * x, (m10 + m01) / 4, (m02 + m20) / 4], -1)
    from_y = torch.stack([(m02 - m20) / 4, (m10 + m01) / 4, y * y, (m12 + m21) / 4], -1)
    from_z = torch.stack([(m10 - m01) / 4, (m20 + m02) / 4, (m21 + m12) / 4, z * z], -1)
    candidates = torch.stack([from_w, from_x, from_y, from_z], dim=-2)
    largest = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    return F.normalize(candidates.gather(-2, largest)[..., 0, :], dim=-1)


def _product(p: Tensor, q: Tensor) -> Tensor:
    pw, pv, qw, qv = p[..., :1], p[..., 1:], q[..., :1], q[..., 1:]
    vector = pw * qv + qw * pv + torch.linalg.cross(pv, qv.expand_as(pv))
    return torch.cat([pw * qw - (pv * qv).sum(-1, keepdim=True), vector], dim=-1)


def ours(field: MotionBases, gaussians: Gaussians, times: Tensor) -> tuple[Tensor, Tensor]:
    moved = field.at(gaussians, times)
    return moved.means, moved.quats


def ours_in_torch(field: MotionBases, gaussians: Gaussians, times: Tensor) -> tuple[Tensor, Tensor]:
    """Without the compiled kernel: what other devices run."""
    means, quats = rigid.move_rigidly_reference(field.blend(gaussians, times), gaussians.means, gaussians.quats)
    assert quats is not None
    return means, quats


def gradients(form: Callable, field: MotionBases, gaussians: Gaussians, times: Tensor) -> list[Tensor]:
    """One forward and backward pass."""
    leaves = [field.rots, field.transls, gaussians.means, gaussians.quats, gaussians.columns["motion_coefs"]]
    means, quats = form(field, gaussians, times)
    return list(torch.autograd.grad((means, quats), leaves, (torch.ones_like(means), torch.ones_like(quats))))


def require_equal(count: int) -> None:
    """Stop if the forms do not compute the same."""
    field, gaussians, times = make(count, 3)
    for form in (ours, ours_in_torch):
        for a, b in zip(form(field, gaussians, times), reference(field, gaussians, times), strict=True):
            sign = 1.0 if a.shape[-1] == 3 else torch.sign((a * b).sum(-1, keepdim=True))  # q and -q are one rotation
            if not torch.allclose(a, b * sign, atol=2e-3):
                raise SystemExit(f"{form.__name__} is not the reference: they differ by {(a - b * sign).abs().max()}.")


def take_turns(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds."""
    for function in contestants.values():
        function()  # compiles, allocates
    spent: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, function in contestants.items():
            start = time.perf_counter()
            function()
            spent[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="Gaussians")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    require_equal(1000)
    forms = {"reference": reference, "structures of arrays": ours_in_torch, "as trained": ours}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.count:,} Gaussians, {BASES} bases")
    print(f"{'times':<7}{'pass':<20}" + "".join(f"{name:>24}" for name in forms))
    slowest = float("inf")
    for count in (1, 4, 8):
        inputs = make(arguments.count, count)
        with torch.no_grad():
            forward = take_turns({name: partial(form, *inputs) for name, form in forms.items()}, arguments.rounds)
        passes = {name: partial(gradients, form, *inputs) for name, form in forms.items()}
        both = take_turns(passes, arguments.rounds)
        for label, medians in (("forward", forward), ("forward + backward", both)):
            ratios = {name: medians["reference"] / value for name, value in medians.items()}
            cells = "".join(f"{f'{medians[name]:.1f} ms {ratios[name]:5.1f}x':>24}" for name in forms)
            print(f"{count:<7}{label:<20}{cells}", flush=True)
        slowest = min(slowest, both["reference"] / both["as trained"])
    verdict = "reached" if slowest >= GOAL else "MISSED"
    print(f"least ratio of forward + backward: {slowest:.1f}x; the goal of {GOAL}x is {verdict}")


if __name__ == "__main__":
    main()
