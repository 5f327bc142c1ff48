"""Cameras that other systems left in files, by the names or the order of the images they belong to.

| file | from | contents |
|---|---|---|
| folder with cameras.bin/.txt and images.bin/.txt (or sparse/0 inside) | COLMAP | poses by image name |
| poses_bounds.npy | LLFF | one row per image |
| SEQ.npy with a dictionary (traj_c2w, intrinsics, img_shape) | Shape of Motion, DROID-SLAM, `dyngs process` | one pose per image |
| *.npz with cam_c2w [n, 4, 4] and intrinsic [3, 3] | MegaSaM, and systems that write like it | one pose per image |
| *.npz with traj_est [n, 7] and intrinsics | DROID-SLAM's trajectory | one pose per image |

An npz may name its poses `cam_c2w`, `world_T_camera`, `traj_c2w`, `c2w` or `poses` (camera-to-world, OpenCV axes), its
intrinsics `intrinsic`, `intrinsics` or `K` as a matrix, one matrix per image, or (fx, fy, cx, cy). The intrinsics are
pixels of `images` or `depths` in the same file, of `img_shape` (height, width), or else of the clip's own images.

Seven numbers per image are a position and a unit quaternion: tx, ty, tz, qx, qy, qz, qw. Under `traj_est` or `traj` they
are camera-to-world, as DROID-SLAM returns its trajectory. Under other names they are refused, because its buffer
(`poses.npy`) holds the same numbers as world-to-camera, of key frames alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from dyngs_plugins.priors.cameras.rotation import rigid
from dyngs_plugins.priors.colmap_files import find_model, read_model
from dyngs_plugins.priors.files import DAMAGED, check_poses, existing
from dyngs_plugins.priors.llff_files import read_poses_bounds
from dyngs_plugins.priors.som_files import read_cameras
from dyngs_plugins.priors.undistort import Lens

POSE_KEYS = ("cam_c2w", "world_T_camera", "traj_c2w", "c2w", "poses")
VECTOR_KEYS = ("traj_est", "traj")
"""Arrays of poses [n, 7], camera-to-world."""
INTRINSIC_KEYS = ("intrinsic", "intrinsics", "K")
_VECTOR_ADVICE = (
    "Expected an .npz with traj_est [n, 7] (tx, ty, tz, qx, qy, qz, qw; camera-to-world, one pose per image, as DROID-SLAM "
    "returns its trajectory), intrinsics (fx, fy, cx, cy) and img_shape (height, width) that they are for."
)
_MODEL_FOLDERS = (".", "sparse/0", "sparse", "colmap/sparse/0")


@dataclasses.dataclass(frozen=True)
class PoseFile:
    """Poses of the images of one video, and one pinhole for all of them."""

    path: Path
    world_T_camera: Float[np.ndarray, "n 4 4"]
    """OpenCV axes."""
    K: Float[np.ndarray, "3 3"]
    """Pixels at the size that was asked for."""
    names: tuple[str, ...] | None = None
    """Names of the images without their ending; None where the file has only an order."""


def read_pose_file(path: Path, size: tuple[int, int]) -> PoseFile:
    """Read any of the files above.

    Args:
        size: height and width of the clip's images, to which the intrinsics are brought.

    Raises:
        FileNotFoundError, ValueError: no such file, or not one of these, or damaged; with what was found and expected.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        for inner in _MODEL_FOLDERS:
            if find_model(path / inner) is not None:
                return _colmap(path / inner, size)
        if (path / "poses_bounds.npy").is_file():
            return read_pose_file(path / "poses_bounds.npy", size)
        raise ValueError(f"{path}: found no COLMAP model and no poses_bounds.npy in this folder. Give the folder of the "
                         "model (cameras.bin, images.bin), or the camera file itself.")  # fmt: skip
    existing(path, "camera file", "Give it with --settings cameras.path=FILE.")
    if path.suffix == ".npz":
        return _npz(path, size)
    if path.suffix != ".npy":
        raise ValueError(
            f"{path}: cameras are read from .npz, .npy and COLMAP folders; found {path.suffix or 'a file'!r}."
        )
    if _is_table(path):
        if np.load(path, mmap_mode="r", allow_pickle=False).shape[1:] == (7,):
            raise ValueError(f"{path}: holds poses of seven numbers (DROID-SLAM) and no intrinsics. {_VECTOR_ADVICE}")
        llff = read_poses_bounds(path)
        return PoseFile(path, llff.world_T_camera.astype(np.float64), _one_pinhole(path, llff.K(size[1], size[0])))
    som = read_cameras(path)
    return PoseFile(path, som.world_T_camera.astype(np.float64), som.K(size[1], size[0]).astype(np.float64))


def _is_table(path: Path) -> bool:
    """Whether an .npy holds numbers (LLFF) and not a dictionary (Shape of Motion)."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).dtype.kind in "fiu"
    except ValueError:  # an array of objects, or damaged: its own reader says what is wrong
        return False


def _colmap(folder: Path, size: tuple[int, int]) -> PoseFile:
    model = read_model(folder, points=False)
    images = model.by_name()
    Ks = []
    for image in images.values():
        camera = model.cameras[image.camera_id]
        bend = _bend(camera.K(size[1], size[0]), camera.distortion(), size)
        if bend > 1.0:
            raise ValueError(
                f"{folder}: camera {camera.id} ({camera.model}) bends the image's corners by {bend:.1f} pixels; expected "
                "a pinhole (below 1 pixel). Undistort images and model first with `colmap image_undistorter`."
            )
        Ks.append(camera.K(size[1], size[0]))
    poses = np.stack([image.world_T_camera for image in images.values()])
    names = tuple(Path(name).stem for name in images)
    if len(set(names)) < len(names):
        raise ValueError(f"{folder}: several images of the model have one name in different folders. Expected the model "
                         "of one camera: export it for one folder of images.")  # fmt: skip
    return PoseFile(folder, poses, _one_pinhole(folder, np.stack(Ks)), names)


def _bend(K: Float[np.ndarray, "3 3"], distortion: Float[np.ndarray, "6"], size: tuple[int, int]) -> float:
    """How far the lens moves the image's corners off a pinhole's, in pixels."""
    lens = Lens(*(torch.from_numpy(np.asarray(values, np.float64)) for values in (K, distortion)))
    corners = torch.tensor([(x, y) for x in (0.0, size[1]) for y in (0.0, size[0])], dtype=torch.float64) - 0.5
    return float((lens.bend(corners)[0] - corners).norm(dim=-1).max())


def _npz(path: Path, size: tuple[int, int]) -> PoseFile:
    try:
        archive = np.load(path, allow_pickle=False)
        keys = set(archive.files)
        key, poses = _first(path, archive, (*POSE_KEYS, *VECTOR_KEYS))
        poses = poses.astype(np.float64)
        intrinsics = _first(path, archive, INTRINSIC_KEYS)[1].astype(np.float64)
        shape = _stored_size(archive, keys) or size
    except DAMAGED as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: cannot be read as a camera file ({error}). Expected a complete .npz of numbers with "
                         f"one of {', '.join((*POSE_KEYS, *VECTOR_KEYS))} and one of {', '.join(INTRINSIC_KEYS)}.") from error  # fmt: skip
    if poses.ndim == 2 and poses.shape[1] == 7:
        if key not in VECTOR_KEYS:
            raise ValueError(f"{path}: {key!r} holds poses of seven numbers, which may be camera-to-world or "
                             f"world-to-camera. {_VECTOR_ADVICE}")  # fmt: skip
        poses = matrices_of_vectors(path, poses)
    if poses.ndim != 3 or poses.shape[1:] not in ((4, 4), (3, 4)):
        raise ValueError(f"{path}: its poses have the shape {poses.shape}; expected (number of images, 4, 4), "
                         "camera-to-world with OpenCV axes.")  # fmt: skip
    if poses.shape[1] == 3:
        poses = np.concatenate([poses, np.tile([[[0.0, 0.0, 0.0, 1.0]]], (len(poses), 1, 1))], axis=1)
    check_poses(path, poses, path.name)
    scale = np.array([size[1] / shape[1], size[0] / shape[0], 1.0])[:, None]
    return PoseFile(path, poses, _one_pinhole(path, _matrices(path, intrinsics) * scale))


def matrices_of_vectors(path: Path, vectors: Float[np.ndarray, "n 7"]) -> Float[np.ndarray, "n 4 4"]:
    """Rigid motions from positions and quaternions (tx, ty, tz, qx, qy, qz, qw).

    Args:
        path: for errors.

    Raises:
        ValueError: a quaternion is not of length one (within 1 %), as where the order of the numbers is another.
    """
    from scipy.spatial.transform import Rotation

    length = np.linalg.norm(vectors[:, 3:], axis=1)
    wrong = np.flatnonzero(~(np.abs(length - 1.0) < 0.01))
    if len(wrong):
        raise ValueError(f"{path}: pose {wrong[0]} has a quaternion of length {length[wrong[0]]:.3g}, expected 1. The "
                         "seven numbers must be tx, ty, tz, qx, qy, qz, qw; were they written in another order?")  # fmt: skip
    return rigid(Rotation.from_quat(vectors[:, 3:]).as_matrix(), vectors[:, :3])


def _first(path: Path, archive: Mapping[str, np.ndarray], keys: tuple[str, ...]) -> tuple[str, np.ndarray]:
    """The first of the keys that is there, and its array."""
    for key in keys:
        if key in archive:
            return key, np.asarray(archive[key])
    raise ValueError(f"{path}: found the arrays {sorted(archive)}; expected one of {', '.join(keys)}. Rename yours, "
                     "or write the file again.")  # fmt: skip


def _stored_size(archive: Mapping[str, np.ndarray], keys: set[str]) -> tuple[int, int] | None:
    """Height and width that the intrinsics of an npz are for, where it says."""
    if "img_shape" in keys:
        height, width = (int(v) for v in np.asarray(archive["img_shape"]).ravel()[:2])
        return height, width
    for key in ("images", "depths"):
        if key in keys and archive[key].ndim >= 3:
            height, width = archive[key].shape[1:3]
            return int(height), int(width)
    return None


def _matrices(path: Path, intrinsics: np.ndarray) -> Float[np.ndarray, "n 3 3"]:
    if intrinsics.shape[-2:] == (3, 3) and intrinsics.ndim in (2, 3):
        return intrinsics.reshape(-1, 3, 3)
    if intrinsics.shape[-1:] == (4,) and intrinsics.ndim in (1, 2):
        fx, fy, cx, cy = intrinsics.reshape(-1, 4).T
        K = np.tile(np.eye(3), (len(fx), 1, 1))
        K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2] = fx, fy, cx, cy
        return K
    raise ValueError(
        f"{path}: its intrinsics have the shape {intrinsics.shape}; expected 3x3 matrices or fx, fy, cx, cy."
    )


def _one_pinhole(path: Path, K: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "3 3"]:
    """The intrinsics all images share.

    Raises:
        ValueError: a zoom.
    """
    K = np.asarray(K, np.float64)
    middle = np.median(K, axis=0)
    if not np.isfinite(K).all() or (K[:, [0, 1], [0, 1]] <= 0).any():
        raise ValueError(f"{path}: its intrinsics are not finite with positive focal lengths. Solve the cameras again.")
    spread = float(np.abs(K[:, 0, 0] / middle[0, 0] - 1.0).max())
    if spread > 0.02:
        raise ValueError(
            f"{path}: focal lengths differ by up to {100 * spread:.0f} % between images; expected one lens for the whole "
            "video (within 2 %). Solve it again with one shared camera."
        )
    return middle
