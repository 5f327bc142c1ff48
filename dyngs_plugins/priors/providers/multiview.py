"""Inverse depth of every pixel from flow to many frames under known poses, and how well a still world explains it.

For pixel x of frame i and the flow to frame j, a still point of inverse depth d lies at
    x_j(d) = pi(a + d b),   a = K_j R_ij K_i^-1 [x, 1],   b = K_j t_ij,
so each neighbour gives two equations that are linear in d. All neighbours of a pixel share one d, found by a robust fit
(`inverse_depth.py`) to residuals in units of their own noise. What remains is evidence of motion; unlike the epipolar
residual of one pair it also sees motion along epipolar lines, because speeds must agree over baselines.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from dyngs_plugins.priors.cameras import moving
from dyngs_plugins.priors.cameras.rotation import cross_matrix
from dyngs_plugins.priors.providers.flow_math import pixel_grid
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.providers.inverse_depth import Correspondences, fit_inverse_depth

NO_PARALLAX = (0.1, 10.0)  # without parallax any inverse depth explains a still pixel equally well


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """How the fit weighs its observations."""

    offsets: tuple[int, ...] = (1, 2, 4, 8)  # neighbours at +- these many frames
    hypotheses: int = 24
    flow_noise_px: float = 0.2
    max_round_trip_px: float = 1.5
    iterations: int = 5


@dataclasses.dataclass(frozen=True)
class StillFit:
    """The best still explanation of one frame, per pixel."""

    disparity: Float[np.ndarray, "h w"]  # 1/z in the cameras' units
    deviation: Float[np.ndarray, "h w"]  # standard deviation of `disparity`, inf where no neighbour was seen
    misfit: Float[np.ndarray, "h w"]  # root mean square residual in noise units (each clipped at 5), 0 where unseen
    trust: Float[np.ndarray, "h w"]  # share of the neighbours that see the pixel

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in vars(self).values())


def neighbours(count: int, i: int, offsets: tuple[int, ...]) -> list[int]:
    """The frames at +- `offsets` around i that exist."""
    around = sorted({i + s * o for o in offsets for s in (-1, 1)})
    return [j for j in around if 0 <= j < count]


def epipolar_lines(frames: FrameSequence, i: int, j: int) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "3"]]:
    """`a` and `b` of the module's formula: pixel x of frame i at inverse depth d lies at pi(a + d b) in frame j."""
    target_T_source = frames.target_T_source(i, j)
    homography = frames.K[j] @ target_T_source[:3, :3] @ frames.inverse_K[i]
    xy = pixel_grid(*frames.size) + 0.5
    a = xy @ homography[:, :2].T + homography[:, 2]
    return a.astype(np.float32), (frames.K[j] @ target_T_source[:3, 3]).astype(np.float32)


def induced_flow(
    frames: FrameSequence, i: int, j: int, disparity: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 2"]:
    """The flow from frame i to j of a still world with this disparity; NaN for points behind camera j."""
    a, b = epipolar_lines(frames, i, j)
    point = a + disparity[..., None] * b
    with np.errstate(divide="ignore", invalid="ignore"):
        xy = np.where(point[..., 2:] > 1e-6, point[..., :2] / point[..., 2:], np.nan)
    return (xy - (pixel_grid(*frames.size) + 0.5)).astype(np.float32)


def sampson_error(frames: FrameSequence, i: int, j: int, flow: Float[np.ndarray, "h w 2"]) -> Float[np.ndarray, "h w"]:
    """First-order distance in pixels of each correspondence to the epipolar geometry of a still world."""
    T = frames.target_T_source(i, j)
    fundamental = frames.inverse_K[j].T @ cross_matrix(T[:3, 3]) @ T[:3, :3] @ frames.inverse_K[i]
    source = pixel_grid(*frames.size).astype(np.float64) + 0.5
    return moving.sampson_error(fundamental, source, source + flow).astype(np.float32)


def texture_noise(image: UInt8[np.ndarray, "h w 3"], image_noise: float = 2.0) -> Float[np.ndarray, "h w"]:
    """Standard deviation in pixels of flow from image noise alone, in the worst direction: large without texture."""
    grey = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY)
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=0.125)
    xx, yy, xy = (cv2.boxFilter(v, -1, (7, 7), normalize=False) for v in (dx * dx, dy * dy, dx * dy))
    smallest = 0.5 * (xx + yy - np.sqrt((xx - yy) ** 2 + 4 * xy**2))
    return np.minimum(image_noise / np.sqrt(np.maximum(smallest, 1e-6)), 4.0)


def still_fit(inputs: PriorInputs, i: int, settings: FitSettings) -> StillFit:
    """The fit of frame i, remembered with the inputs because masks and depth both need it."""
    return inputs.remember(("still", i, settings), lambda: fit_frame(inputs, i, settings))


def fit_frame(inputs: PriorInputs, i: int, settings: FitSettings) -> StillFit:
    """Fit one inverse depth per pixel of frame i to the flow to its neighbours."""
    frames, (height, width) = inputs.frames, inputs.frames.size
    disparity_range = observed_disparity_range(inputs) or NO_PARALLAX
    around = neighbours(len(frames), i, settings.offsets)
    grid = pixel_grid(height, width) + 0.5
    lines = [epipolar_lines(frames, i, j) for j in around]
    error = np.stack([inputs.flow_error(i, j) for j in around]).reshape(len(around), -1)
    seen = error < settings.max_round_trip_px
    observed = Correspondences(
        a=np.stack([line[0].reshape(-1, 3).T for line in lines], axis=1),
        b=np.stack([line[1] for line in lines], axis=1),
        xy=np.stack([(grid + inputs.flow(i, j)).reshape(-1, 2).T for j in around], axis=1),
        seen=seen,
    )
    noise2 = settings.flow_noise_px**2 + texture_noise(inputs.image(i)).reshape(1, -1) ** 2
    noise2 = (noise2 + np.where(seen, 0.5 * error, 0.0) ** 2).astype(np.float32)

    pair_noise = np.zeros(len(around), np.float32)
    disparity = None
    deviation = residual = np.zeros(0)
    for _ in range(2):  # the first fit tells how far each pair's poses and flow can be trusted
        variance = noise2 + pair_noise[:, None] ** 2
        disparity, deviation, residual = fit_inverse_depth(
            observed, variance, disparity_range, settings.hypotheses, settings.iterations, start=disparity
        )
        for k in range(len(around)):
            values = residual[k][seen[k]]
            pair_noise[k] = 1.2 * np.median(values) if values.size else 1e3
    chi2 = np.minimum(residual**2 / (noise2 + pair_noise[:, None] ** 2), 25.0) * seen
    misfit = np.sqrt(chi2.sum(0) / np.maximum(seen.sum(0), 1))
    maps = (disparity, deviation, misfit, seen.mean(0))
    return StillFit(*(np.asarray(m, np.float32).reshape(height, width) for m in maps))


def observed_disparity_range(inputs: PriorInputs, samples: int = 8) -> tuple[float, float] | None:
    """Smallest and largest inverse depth worth trying, or None when the cameras show no parallax.

    From well-conditioned triangulations in `samples` frames, widened, and bounded by the given near and far.
    """
    return inputs.remember(("range",), lambda: _measure_range(inputs, samples))


def _measure_range(inputs: PriorInputs, samples: int) -> tuple[float, float] | None:
    frames, found = inputs.frames, []
    for i in np.unique(np.linspace(0, len(frames) - 1, samples).round().astype(int)):
        found += [_triangulate_pair(inputs, int(i), j) for j in neighbours(len(frames), int(i), (1, 4))]
    values = np.concatenate(found) if found else np.zeros(0)
    if values.size < 100:
        return None
    low, high = np.quantile(values, [0.005, 0.995])
    low, high = 0.5 * low, 1.5 * high
    if frames.depth_range is not None:
        near, far = frames.depth_range
        low, high = max(low, 0.5 / far), min(high, 2.0 / near)
    return float(low), float(max(high, 1.1 * low))


def _triangulate_pair(inputs: PriorInputs, i: int, j: int) -> Float[np.ndarray, "m"]:
    """Positive inverse depths of the pixels whose flow is consistent and whose parallax is well above its noise."""
    a, b = epipolar_lines(inputs.frames, i, j)
    flow = inputs.flow(i, j)
    xy = pixel_grid(*inputs.frames.size) + 0.5 + flow
    slope = b[:2] - xy * b[2]
    information = (slope**2).sum(-1)
    d = (slope * (xy * a[..., 2:] - a[..., :2])).sum(-1) / np.maximum(information, 1e-12)
    error = inputs.flow_error(i, j)
    good = (error < 0.5) & (sampson_error(inputs.frames, i, j, flow) < 0.5) & (d * np.sqrt(information) > 3.0)
    return d[good]
