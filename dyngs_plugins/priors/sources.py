"""Folders that `dyngs process` can start from: images with poses_bounds.npy (LLFF), or a clip folder that lacks priors.

Films and bare images are `dyngs_plugins.priors.footage`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dyngs_plugins.priors.clip_files import ClipInfo, read_clip_json
from dyngs_plugins.priors.footage_hints import hint
from dyngs_plugins.priors.llff_files import read_poses_bounds
from dyngs_plugins.priors.providers.inputs import FrameSequence, read_rgb
from dyngs_plugins.priors.som_files import read_cameras

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
SUPPORTED = (
    "Expected one of: a film (.mp4, .mov, ...); a folder of images; a folder with images/ and poses_bounds.npy; "
    "a clip folder with images/SEQ/."
)


@dataclasses.dataclass(frozen=True)
class Source:
    """Frames as they lie on disk, with cameras where there are some, before resizing and holding out."""

    root: Path
    layout: str  # "llff" or "clip"
    sequences: tuple[FrameSequence, ...]
    num_frames: int
    fps: float | None = None


def read_source(root: Path) -> Source:
    """Recognise the layout of a folder and read its file names and cameras.

    Raises:
        FileNotFoundError: when the folder does not exist or holds no images.
        ValueError: when its layout is not known, or its files contradict each other.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise FileNotFoundError(f"{root}: {what}. {SUPPORTED}")
    if (root / "poses_bounds.npy").is_file():
        return read_llff(root)
    if (root / "droid_recon").is_dir() or (root / "clip.json").is_file():
        return read_clip(root)
    if any(image_files(folder) for folder in (root / "images").glob("*")):
        return read_clip(root)
    raise FileNotFoundError(f"{root}: no images found. {SUPPORTED}{hint(root)}")


def read_llff(root: Path) -> Source:
    """A folder of images with `poses_bounds.npy`, one row per image in the order of sorted names.

    Bounds that are not positive, finite and ordered are ignored. One focal length is kept for all images.
    """
    files = image_files(root / "images") or image_files(root)
    if not files:
        raise FileNotFoundError(f"{root}: no .png or .jpg images in images/ beside poses_bounds.npy.")
    cameras = read_poses_bounds(root / "poses_bounds.npy", len(files))
    size = image_size(files)
    K = cameras.K(size[1], size[0]).astype(np.float64)
    focal = K[:, 0, 0]
    if focal.max() > 1.01 * focal.min():
        raise ValueError(
            f"{root / 'poses_bounds.npy'}: focal lengths differ between images ({focal.min():.1f} to {focal.max():.1f} "
            "pixels). A clip folder keeps one per camera: split the images by focal length."
        )
    frames = FrameSequence(
        name="camera0",
        image_files=tuple(files),
        frame_index=tuple(range(len(files))),
        size=size,
        world_T_camera=cameras.world_T_camera.astype(np.float64),
        K=np.tile(K.mean(0), (len(files), 1, 1)),
        depth_range=robust_bounds(cameras.bounds),
    )
    return Source(root, "llff", (frames,), num_frames=len(files))


def read_clip(root: Path) -> Source:
    """A clip folder in Shape of Motion's custom layout, with or without clip.json."""
    info = read_clip_json(root / "clip.json") if (root / "clip.json").is_file() else None
    names = info.sequences if info else tuple(sorted(p.name for p in (root / "images").glob("*") if p.is_dir()))
    if not names:
        raise FileNotFoundError(f"{root}: no images/SEQ/ folder. {SUPPORTED}")
    sequences = []
    for name in names:
        files = image_files(root / "images" / name)
        if not files:
            raise FileNotFoundError(f"{root / 'images' / name}: no .png or .jpg images.")
        bare = FrameSequence.without_cameras(
            name, tuple(files), _time_steps(root, info, name, files), image_size(files)
        )
        sequences.append(with_camera_file(bare, root / "droid_recon" / f"{name}.npy"))
    total = info.num_frames if info else max(max(s.frame_index) for s in sequences) + 1
    return Source(root, "clip", tuple(sequences), num_frames=total, fps=info.fps if info else None)


def with_camera_file(frames: FrameSequence, path: Path) -> FrameSequence:
    """The frames with the cameras of a file that has one pose for each; as they are where there is no such file."""
    if not path.is_file():
        return frames
    cameras = read_cameras(path, len(frames))
    return dataclasses.replace(
        frames,
        world_T_camera=np.asarray(cameras.world_T_camera, np.float64),
        K=np.tile(cameras.K(frames.size[1], frames.size[0]).astype(np.float64), (len(frames), 1, 1)),
    )


def _time_steps(root: Path, info: ClipInfo | None, name: str, files: list[Path]) -> tuple[int, ...]:
    given = info.frame_index.get(name) if info else None
    if given is None:
        return tuple(range(len(files)))
    missing = [file.stem for file in files if file.stem not in given]
    if missing:
        raise ValueError(
            f"{root / 'clip.json'}: frame_index of {name} lacks {len(missing)} of {len(files)} images, the first is "
            f"{missing[0]!r}. Add their time steps, or remove the images."
        )
    return tuple(given[file.stem] for file in files)


def image_size(files: list[Path]) -> tuple[int, int]:
    """(height, width) that all images share; every file is decoded once, so that a broken one is found at the start.

    Raises:
        ValueError: when a file cannot be decoded or has another size than the first.
    """
    first = read_rgb(files[0]).shape[:2]
    for file in files[1:]:
        size = read_rgb(file).shape[:2]
        if size != first:
            raise ValueError(
                f"{file}: {size[1]}x{size[0]} pixels, but {files[0].name} has {first[1]}x{first[0]}. "
                "All images of a camera must have one size; resize or remove the odd ones."
            )
    return int(first[0]), int(first[1])


def resized(frames: FrameSequence, size: tuple[int, int], image_files: tuple[Path, ...]) -> FrameSequence:
    """The same frames at another size (height, width), their images in `image_files`. K is scaled exactly."""
    if not frames.has_cameras:
        return dataclasses.replace(frames, size=size, image_files=image_files)
    scale = np.diag([size[1] / frames.size[1], size[0] / frames.size[0], 1.0])
    return dataclasses.replace(frames, size=size, image_files=image_files, K=scale @ frames.K)


def subset(frames: FrameSequence, keep: list[int]) -> FrameSequence:
    """Only the frames at the positions `keep`."""
    cameras = {"world_T_camera": frames.world_T_camera[keep], "K": frames.K[keep]} if frames.has_cameras else {}
    return dataclasses.replace(
        frames,
        image_files=tuple(frames.image_files[i] for i in keep),
        frame_index=tuple(frames.frame_index[i] for i in keep),
        **cameras,
    )


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in name order, hidden files left out as the loaders do; none where there is no folder."""
    if not folder.is_dir():
        return []
    files = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in files if p.is_file())


def robust_bounds(bounds: Float[np.ndarray, "n 2"]) -> tuple[float, float] | None:
    """Near and far of most of the images whose bounds are sound; None where none are."""
    near, far = bounds[:, 0], bounds[:, 1]
    valid = np.isfinite(bounds).all(1) & (near > 0) & (far > near)
    if not valid.any():
        return None
    return float(np.quantile(near[valid], 0.05)), float(np.quantile(far[valid], 0.95))
