"""Bundle adjustment: poses, one focal length and points that together explain where tracks were seen.

Points are homogeneous unit vectors (x, y, z, w), so that what is far away, or seen without parallax, is no special
case: its w goes to zero. Levenberg-Marquardt with the points eliminated by the Schur complement, robust by iterated
weights. Source: Triggs et al., "Bundle Adjustment - A Modern Synthesis", 2000; Hartley and Zisserman, appendix 6.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float

from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.cameras.rotation import cross_matrix, inverse, nearest_rotation, rigid, rotation_of

_CHUNK = 192  # points eliminated together; neighbours in the list share frames, so a chunk touches few cameras
_TINY_DEPTH = 1e-9
_PERFECT = 1e-12  # square pixels: nothing is left to gain


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """Cameras and points."""

    rotation: Float[np.ndarray, "n 3 3"]
    translation: Float[np.ndarray, "n 3"]
    """With `rotation`, camera_T_world."""
    points: Float[np.ndarray, "m 4"]
    """Homogeneous, of unit length; positive depth where the point is in front of its cameras."""
    focal: float
    center: Float[np.ndarray, "2"]

    def camera_points(self, observations: Observations) -> Float[np.ndarray, "o 3"]:
        """The observed points in their cameras' axes, up to the scale of the homogeneous coordinates."""
        points, rotation = self.points[observations.track], self.rotation[observations.frame]
        turned = np.einsum("oij,oj->oi", rotation, points[:, :3])
        return turned + points[:, 3:] * self.translation[observations.frame]

    def residuals(self, observations: Observations) -> Float[np.ndarray, "o 2"]:
        """Projected minus observed positions in pixels."""
        q = self.camera_points(observations)
        return self.focal * q[:, :2] / _safe(q[:, 2])[:, None] + self.center - observations.xy

    def errors(self, observations: Observations) -> Float[np.ndarray, "o"]:
        """Reprojection errors in pixels; infinite behind the camera."""
        error = np.linalg.norm(self.residuals(observations), axis=1)
        return np.where(self.camera_points(observations)[:, 2] > 0, error, np.inf)

    @property
    def world_T_camera(self) -> Float[np.ndarray, "n 4 4"]:
        """Camera poses."""
        return rigid(*inverse(self.rotation, self.translation))

    def rescaled(self, factor: float) -> Reconstruction:
        """In units `1 / factor` of the old ones."""
        points = self.points * [1.0, 1.0, 1.0, 1.0 / factor]
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        return dataclasses.replace(self, translation=self.translation * factor, points=points)


@dataclasses.dataclass(frozen=True)
class Freedom:
    """What an adjustment may change."""

    rotation: Bool[np.ndarray, "n"]
    translation: Bool[np.ndarray, "n"]
    focal: bool = False
    points: bool = True


@dataclasses.dataclass(frozen=True)
class Adjusted:
    """The result of an adjustment."""

    reconstruction: Reconstruction
    cost: float
    """Mean over the observations of the robust cost, in square pixels."""
    steps: int


def adjust(
    start: Reconstruction, observations: Observations, free: Freedom, *, scale: float = 1.0, steps: int = 30,
    tolerance: float = 1e-4,
) -> Adjusted:  # fmt: skip
    """Minimise the mean of scale^2 log(1 + |r|^2 / scale^2) over the observations (Cauchy's cost).

    Args:
        scale: residual in pixels from where on an observation loses influence.
        tolerance: stop when a step lowers the cost by a smaller share.
    """
    now, damping = _oriented(start, observations), 1e-3
    squares = (now.residuals(observations) ** 2).sum(1)
    cost = float(_cauchy(squares, scale).mean()) if len(squares) else 0.0
    step = 0
    while step < steps and len(observations):
        system = _System(now, observations, free, 1.0 / (1.0 + squares / scale**2))
        lower = np.inf
        while damping < 1e8:
            step += 1
            change = system.solve(damping)
            candidate = now if change is None else _moved(now, free, *change)
            squares = (candidate.residuals(observations) ** 2).sum(1)
            lower = float(_cauchy(squares, scale).mean())
            if change is not None and np.isfinite(lower) and lower < cost:
                break
            damping *= 6.0
        if not lower < cost:
            break
        gain, now, cost, damping = cost - lower, candidate, lower, max(damping / 5.0, 1e-9)
        if gain < tolerance * cost or cost < _PERFECT:
            break
    return Adjusted(_oriented(now, observations), cost, step)


def focal_uncertainty(
    state: Reconstruction, observations: Observations, free: Freedom, *, scale: float = 1.0, noise: float = 0.1
) -> float:
    """Relative standard deviation of the focal length, poses and points being unknown too; infinite where it is free.

    Args:
        noise: pixels by which an observation is off at least, however well everything fits.
    """
    squares = (state.residuals(observations) ** 2).sum(1)
    free = dataclasses.replace(free, focal=True)
    system = _System(state, observations, free, 1.0 / (1.0 + squares / scale**2))
    variance = max(float(np.median(squares)) / 1.386, noise**2)  # the median of two squared normal deviates
    return float(np.sqrt(variance * system.focal_variance()))


class _System:
    """The normal equations at one state, and their solution for any damping."""

    def __init__(
        self, state: Reconstruction, observations: Observations, free: Freedom, weight: Float[np.ndarray, "o"]
    ) -> None:
        self.observations, self.free, self.frames = observations, free, len(state.rotation)
        self.basis = tangent_basis(state.points)
        residual, camera, point, focal = _jacobians(state, observations, self.basis)
        root = np.sqrt(weight)[:, None]
        self.residual, self.focal = residual * root, focal * root
        self.camera, self.point = camera * root[..., None], point * root[..., None]
        size = 6 * self.frames + 1
        self.hessian, self.gradient = np.zeros((size, size)), np.zeros(size)
        self._add_cameras()
        starts = observations.starts[:-1]
        self.v = np.add.reduceat(np.einsum("oki,okj->oij", self.point, self.point), starts)
        self.g = np.add.reduceat(np.einsum("oki,ok->oi", self.point, self.residual), starts)
        block = np.einsum("oki,okj->oij", self.camera, self.point)
        self.coupling = np.concatenate([block, np.einsum("ok,okj->oj", self.focal, self.point)[:, None]], axis=1)
        keep = np.zeros((self.frames, 6), bool)
        keep[:, :3], keep[:, 3:] = free.rotation[:, None], free.translation[:, None]
        self.kept = np.flatnonzero(np.append(keep.ravel(), free.focal))

    def _add_cameras(self) -> None:
        for frame, places in enumerate(self.observations.by_frame):
            at = slice(6 * frame, 6 * frame + 6)
            camera, focal, residual = (a[places] for a in (self.camera, self.focal, self.residual))
            rows = camera.reshape(-1, 6)
            self.hessian[at, at] = rows.T @ rows
            self.hessian[at, -1] = self.hessian[-1, at] = rows.T @ focal.reshape(-1)
            self.gradient[at] = rows.T @ residual.reshape(-1)
        self.hessian[-1, -1] = (self.focal**2).sum()
        self.gradient[-1] = (self.focal * self.residual).sum()

    def solve(self, damping: float) -> tuple[np.ndarray, np.ndarray] | None:
        """The step of the cameras [6n+1] and of the points in their tangent planes [m, 3]; None if there is none."""
        change, points = np.zeros(len(self.gradient)), np.zeros_like(self.g)
        diagonal = np.einsum("mii->mi", self.v)
        v = self.v + (damping * diagonal + 1e-9 * diagonal.max(1, keepdims=True) + 1e-12)[:, :, None] * np.eye(3)
        v_inverse = np.linalg.inv(v)
        if len(self.kept):
            reduced, right = self._reduced(v_inverse if self.free.points else None)
            matrix = reduced[np.ix_(self.kept, self.kept)]
            own = np.diag(self.hessian)[self.kept]
            matrix[np.diag_indices(len(matrix))] += damping * own + 1e-10 * own.max() + 1e-12
            try:
                factor = scipy.linalg.cho_factor(matrix, overwrite_a=True, check_finite=False)
            except np.linalg.LinAlgError:
                return None
            change[self.kept] = scipy.linalg.cho_solve(factor, -right[self.kept], check_finite=False)
        if self.free.points:
            moved = np.concatenate(
                [change[:-1].reshape(-1, 6)[self.observations.frame], np.full((len(self.observations), 1), change[-1])],
                1,
            )
            pull = np.add.reduceat(np.einsum("oij,oi->oj", self.coupling, moved), self.observations.starts[:-1])
            points = -np.einsum("mij,mj->mi", v_inverse, self.g + pull)
        return (change, points) if np.isfinite(change).all() and np.isfinite(points).all() else None

    def focal_variance(self) -> float:
        """The last diagonal entry of the inverse of the cameras' equations with the points eliminated."""
        diagonal = np.einsum("mii->mi", self.v)
        v_inverse = np.linalg.inv(self.v + (1e-9 * diagonal.max(1, keepdims=True) + 1e-12)[:, :, None] * np.eye(3))
        matrix = self._reduced(v_inverse)[0][np.ix_(self.kept, self.kept)]
        matrix[np.diag_indices(len(matrix))] += 1e-9 * np.diag(self.hessian)[self.kept]
        unit = np.zeros(len(matrix))
        unit[-1] = 1.0
        try:
            value = scipy.linalg.solve(matrix, unit, assume_a="pos", check_finite=False)[-1]
        except np.linalg.LinAlgError:
            return np.inf
        return float(value) if value > 0 else np.inf

    def _reduced(self, v_inverse: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The cameras' equations with the points eliminated."""
        hessian, gradient = self.hessian.copy(), self.gradient.copy()
        if v_inverse is None:
            return hessian, gradient
        observations = self.observations
        scaled = self.coupling @ v_inverse[observations.track]
        for first in range(0, observations.num_tracks, _CHUNK):
            last = min(first + _CHUNK, observations.num_tracks)
            places = slice(observations.starts[first], observations.starts[last])
            low, high = int(observations.frame[places].min()), int(observations.frame[places].max()) + 1
            flat, solved = (self._wide(a, first, last, low, high) for a in (self.coupling, scaled))
            product, pull = solved @ flat.T, solved @ self.g[first:last].reshape(-1)
            at = slice(6 * low, 6 * high)
            hessian[at, at] -= product[:-1, :-1]
            hessian[at, -1] -= product[:-1, -1]
            hessian[-1, at] -= product[-1, :-1]
            hessian[-1, -1] -= product[-1, -1]
            gradient[at] -= pull[:-1]
            gradient[-1] -= pull[-1]
        return hessian, gradient

    def _wide(self, coupling: np.ndarray, first: int, last: int, low: int, high: int) -> np.ndarray:
        """The coupling of the points first..last with the cameras low..high and the focal, as one dense matrix."""
        starts = self.observations.starts
        places = slice(starts[first], starts[last])
        wide = np.zeros((6 * (high - low) + 1, last - first, 3))
        cameras = wide[:-1].reshape(high - low, 6, last - first, 3)
        point = self.observations.track[places] - first
        cameras[self.observations.frame[places] - low, :, point] = coupling[places, :6]
        wide[-1] = np.add.reduceat(coupling[places, 6], starts[first:last] - starts[first])
        return wide.reshape(len(wide), -1)


def tangent_basis(points: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "m 4 3"]:
    """Three orthonormal directions at right angles to each unit vector, by a Householder reflection."""
    reflector = points.copy()
    reflector[:, 3] += np.where(points[:, 3] >= 0, 1.0, -1.0)
    reflector /= np.linalg.norm(reflector, axis=1, keepdims=True)
    return np.eye(4)[None, :, :3] - 2.0 * reflector[:, :, None] * reflector[:, None, :3]


def _jacobians(
    state: Reconstruction, observations: Observations, basis: Float[np.ndarray, "m 4 3"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Residuals [o, 2] and their derivatives by camera [o, 2, 6], point [o, 2, 3] and logarithm of the focal [o, 2]."""
    points, rotation = state.points[observations.track], state.rotation[observations.frame]
    turned = np.einsum("oij,oj->oi", rotation, points[:, :3])
    q = turned + points[:, 3:] * state.translation[observations.frame]
    z = _safe(q[:, 2])
    image = state.focal * q[:, :2] / z[:, None]
    derivative = np.zeros((len(q), 2, 3))
    derivative[:, 0, 0] = derivative[:, 1, 1] = state.focal / z
    derivative[:, :, 2] = -image / z[:, None]
    camera = np.concatenate([-derivative @ cross_matrix(turned), derivative * points[:, 3, None, None]], axis=2)
    whole = np.concatenate([rotation, state.translation[observations.frame][:, :, None]], axis=2)
    point = derivative @ (whole @ basis[observations.track])
    return image + state.center - observations.xy, camera, point, image


def _moved(
    state: Reconstruction, free: Freedom, change: Float[np.ndarray, "6n+1"], points: Float[np.ndarray, "m 3"]
) -> Reconstruction:
    cameras = change[:-1].reshape(-1, 6)
    moved = state.points + np.einsum("mij,mj->mi", tangent_basis(state.points), points) if free.points else state.points
    return Reconstruction(
        nearest_rotation(rotation_of(cameras[:, :3]) @ state.rotation),
        state.translation + cameras[:, 3:],
        moved / np.linalg.norm(moved, axis=1, keepdims=True),
        state.focal * float(np.exp(np.clip(change[-1], -0.5, 0.5))),
        state.center,
    )


def _oriented(state: Reconstruction, observations: Observations) -> Reconstruction:
    """With the sign of every point such that most of its cameras have it in front; projections do not see the sign."""
    if not len(observations):
        return state
    side = np.add.reduceat(np.sign(state.camera_points(observations)[:, 2]), observations.starts[:-1])
    return dataclasses.replace(state, points=np.where(side < 0, -1.0, 1.0)[:, None] * state.points)


def _cauchy(squares: Float[np.ndarray, "o"], scale: float) -> Float[np.ndarray, "o"]:
    return scale**2 * np.log1p(squares / scale**2)


def _safe(depth: Float[np.ndarray, "o"]) -> Float[np.ndarray, "o"]:
    return np.where(np.abs(depth) < _TINY_DEPTH, _TINY_DEPTH, depth)
