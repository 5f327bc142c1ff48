"""Rotations and rigid motions as the camera solver needs them: many at once, in numpy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def rotation_of(vector: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """The rotation about `vector` by its length in radians (Rodrigues' formula)."""
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    cross = cross_matrix(vector)
    return np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * (cross @ cross)


def vector_of(rotation: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n 3"]:
    """The inverse of :func:`rotation_of`, with a length of at most pi."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotation.reshape(-1, 3, 3)).as_rotvec().reshape(rotation.shape[:-1])


def cross_matrix(vector: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """The matrix [v]x with [v]x w = v x w."""
    x, y, z = np.moveaxis(np.asarray(vector, np.float64), -1, 0)
    o = np.zeros_like(x)
    return np.stack([o, -z, y, z, o, -x, -y, x, o], axis=-1).reshape(*x.shape, 3, 3)


def nearest_rotation(matrix: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """The rotation closest to a matrix in the Frobenius norm."""
    u, _, vt = np.linalg.svd(matrix)
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return u @ vt


def rigid(rotation: Float[np.ndarray, "*n 3 3"], translation: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 4 4"]:
    """The matrices [R t; 0 1]."""
    matrix = np.zeros((*rotation.shape[:-2], 4, 4))
    matrix[..., :3, :3], matrix[..., :3, 3], matrix[..., 3, 3] = rotation, translation, 1.0
    return matrix


def inverse(
    rotation: Float[np.ndarray, "*n 3 3"], translation: Float[np.ndarray, "*n 3"]
) -> tuple[Float[np.ndarray, "*n 3 3"], Float[np.ndarray, "*n 3"]]:
    """Rotation and translation of the inverse motions."""
    back = np.swapaxes(rotation, -1, -2)
    return back, -np.einsum("...ij,...j->...i", back, translation)


def between(first: Float[np.ndarray, "4 4"], last: Float[np.ndarray, "4 4"], share: float) -> Float[np.ndarray, "4 4"]:
    """The world_T_camera at `share` of the way: slerp of the rotations, straight line of the camera centres."""
    turn = vector_of(first[:3, :3].T @ last[:3, :3])
    rotation = first[:3, :3] @ rotation_of(share * turn)
    return rigid(rotation, (1 - share) * first[:3, 3] + share * last[:3, 3])


def interpolate_missing(world_T_camera: Float[np.ndarray, "n 4 4"], known: np.ndarray) -> Float[np.ndarray, "n 4 4"]:
    """The poses with those that are not `known` [n] put between their known neighbours; the ends stand still.

    Raises:
        ValueError: when no pose is known.
    """
    places = np.flatnonzero(known)
    if not len(places):
        raise ValueError("Found no frame with a pose; expected at least one. Try another camera provider.")
    filled = world_T_camera.copy()
    for i in np.flatnonzero(~np.asarray(known, bool)):
        right = int(np.searchsorted(places, i))
        if right == 0 or right == len(places):
            filled[i] = world_T_camera[places[min(right, len(places) - 1)]]
            continue
        a, b = places[right - 1], places[right]
        filled[i] = between(world_T_camera[a], world_T_camera[b], (i - a) / (b - a))
    return filled


def align_sim3(
    source: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"]
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Scale s, rotation R and translation t with s R source + t closest to target (Umeyama, PAMI 1991)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, singular, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / max((a**2).sum(), 1e-30))
    return scale, rotation, target.mean(0) - scale * rotation @ source.mean(0)


def trajectory_error(
    estimate: Float[np.ndarray, "n 4 4"], reference: Float[np.ndarray, "n 4 4"]
) -> tuple[float, float]:
    """Root mean square distance of the camera centres after the best Sim(3), and the reference path's length."""
    a, b = estimate[:, :3, 3], reference[:, :3, 3]
    scale, rotation, translation = align_sim3(a, b)
    error = np.linalg.norm(scale * a @ rotation.T + translation - b, axis=1)
    return float(np.sqrt((error**2).mean())), float(np.linalg.norm(np.diff(b, axis=0), axis=1).sum())
