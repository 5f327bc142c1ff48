"""``intri.yml`` and ``extri.yml``: the cameras of ENeRF, EasyMocap and EasyVolcap, as OpenCV's FileStorage writes them.

Source: Lin et al., "Efficient Neural Radiance Fields for Interactive Free-viewpoint Video" (ENeRF, 2022), its data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins.priors.files import check_poses, existing


@dataclass(frozen=True)
class EasyCamera:
    """One camera, for images at full size."""

    world_T_camera: Float[Tensor, "4 4"]
    """OpenCV axes."""
    K: Float[Tensor, "3 3"]
    distortion: Float[Tensor, "6"]
    """k1, k2, k3, k4, p1, p2, nerfstudio's order; the files have OpenCV's k1, k2, p1, p2, k3."""


def read_easy_cameras(root: Path) -> dict[str, EasyCamera]:
    """The cameras of ``intri.yml`` and ``extri.yml`` by name.

    ``Rot_NAME`` (or ``R_NAME``, a rotation vector) and ``T_NAME`` take the world to the camera.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, of other shapes, not finite, or with other names in the two.
    """
    intri, extri = _open(root / "intri.yml"), _open(root / "extri.yml")
    names = _names(root / "intri.yml", intri)
    if set(names) != set(_names(root / "extri.yml", extri)):
        raise ValueError(
            f"{root / 'extri.yml'}: its cameras are {_names(root / 'extri.yml', extri)[:4]} ..., those of intri.yml "
            f"{names[:4]} ... Expected the same ones. The files belong to different captures."
        )
    without = [name for name in names if _lens_key(intri, name) is None]
    if without and len(without) < len(names):
        raise ValueError(
            f"{root / 'intri.yml'}: {len(without)} of {len(names)} cameras have no dist_; the first is {without[0]!r}. "
            "Expected the lens of every camera, or of none. Is the file truncated?"
        )
    cameras = {name: _camera(root, intri, extri, name) for name in names}
    check_poses(
        root / "extri.yml", np.stack([c.world_T_camera.double().numpy() for c in cameras.values()]), "Rot and T"
    )
    return cameras


def _open(path: Path) -> cv2.FileStorage:
    """The parsed file; read by ourselves, for OpenCV opens no path that is not ASCII on every system."""
    content = existing(path, "camera file", "Expected intri.yml and extri.yml beside images/.").read_bytes()
    try:
        text = content.decode("utf-8")
        if not text.startswith("%YAML"):
            raise ValueError("it does not start with %YAML:1.0")
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        if not storage.isOpened():
            raise ValueError("OpenCV cannot parse it")
    except (cv2.error, SystemError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read as OpenCV's YAML ({error.__cause__ or error}). Expected a complete file that "
            "cv2.FileStorage wrote. Download it again."
        ) from error
    return storage


def _names(path: Path, storage: cv2.FileStorage) -> list[str]:
    node = storage.getNode("names")
    names = [node.at(i).string() for i in range(node.size())] if node.isSeq() else []
    if not names or not all(names) or len(set(names)) < len(names):
        raise ValueError(f'{path}: names is {names}; expected a list of the cameras, each once, as text ("00").')
    return names


def _matrix(path: Path, storage: cv2.FileStorage, key: str, shapes: Sequence[tuple[int, int]]) -> np.ndarray:
    node = storage.getNode(key)
    try:
        matrix = None if node.empty() else node.mat()
    except cv2.error:
        matrix = None
    if matrix is None or matrix.shape not in shapes:
        found = "nothing" if matrix is None else f"a matrix of {matrix.shape[0]}x{matrix.shape[1]}"
        wanted = " or ".join(f"{rows}x{columns}" for rows, columns in shapes)
        raise ValueError(f"{path}: {key} is {found}; expected a matrix of {wanted}. Download the file again.")
    if not np.isfinite(matrix).all():
        raise ValueError(
            f"{path}: {key} is not finite: {matrix.ravel().tolist()}. Expected numbers. Calibrate this camera again."
        )
    return np.asarray(matrix, np.float64)


def _camera(root: Path, intri: cv2.FileStorage, extri: cv2.FileStorage, name: str) -> EasyCamera:
    inside, outside = root / "intri.yml", root / "extri.yml"
    K = _matrix(inside, intri, f"K_{name}", [(3, 3)])
    if min(K[0, 0], K[1, 1]) <= 0 or abs(K[0, 1]) > 1e-3 * K[0, 0] or np.abs(K[2] - [0, 0, 1]).max() > 1e-6:
        raise ValueError(f"{inside}: K_{name} is {K.tolist()}; expected positive focal lengths, no skew and a last row "
                         "of 0, 0, 1.")  # fmt: skip
    lens = np.zeros(5)
    key = _lens_key(intri, name)
    if key is not None:
        terms = _matrix(inside, intri, key, [(5, 1), (1, 5), (4, 1), (1, 4)]).ravel()
        lens[: len(terms)] = terms
    k1, k2, p1, p2, k3 = lens
    rotation = _rotation(outside, extri, name)
    translation = _matrix(outside, extri, f"T_{name}", [(3, 1), (1, 3)]).ravel()
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.T, -rotation.T @ translation
    return EasyCamera(
        torch.from_numpy(pose).float(), torch.from_numpy(K).float(), torch.tensor([k1, k2, k3, 0.0, p1, p2]).float()
    )


def _lens_key(intri: cv2.FileStorage, name: str) -> str | None:
    return next((key for key in (f"dist_{name}", f"D_{name}") if not intri.getNode(key).empty()), None)


def _rotation(path: Path, storage: cv2.FileStorage, name: str) -> np.ndarray:
    """``Rot_`` where it is there, else from the rotation vector ``R_``; where both are, they must agree."""
    vector = None
    if not storage.getNode(f"R_{name}").empty():
        shapes = [(3, 1), (1, 3), (3, 3)]
        vector = cv2.Rodrigues(_matrix(path, storage, f"R_{name}", shapes))[0]
        vector = vector if vector.shape == (3, 3) else cv2.Rodrigues(vector)[0]
    if storage.getNode(f"Rot_{name}").empty() and vector is not None:
        return vector
    rotation = _matrix(path, storage, f"Rot_{name}", [(3, 3)])
    if vector is not None and np.abs(vector - rotation).max() > 1e-2:
        raise ValueError(f"{path}: R_{name} and Rot_{name} are different rotations. Expected the same one as a vector "
                         "and as a matrix. Write the file again.")  # fmt: skip
    return rotation
