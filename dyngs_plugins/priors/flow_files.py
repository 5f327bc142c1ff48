"""Files of optical flow: which image they lead to, how they are checked, and how they are read at an image's size.

A ``.npz`` holds ``flow`` [h, w, 2] and ``mask`` [h, w] (NSFF's and most others' form); a ``.npy`` holds the flow alone,
beside a file of where it is visible if there is one. Vectors are pixels (x, y) of the stored size: a pixel of one
image, plus its vector, is where its point is in the other.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from dyngs_plugins.priors.files import check_size, existing, load_npy, map_shape
from dyngs_plugins.priors.vector_maps import between_pixels, of_one_shape, rescaled_pixels

SPREAD = 1.0
"""Neighbouring vectors that differ by at most this (stored pixels) belong to one surface."""
_ADVICE = "Compute it again, or remove the folder to do without flow."


@dataclass(frozen=True)
class FlowFile:
    """Optical flow of one view to another one of the same split: flow to any other image cannot be named."""

    path: Path
    target: int
    """Place of the other view in the split."""
    visible: Path | None = None
    """Where the point is seen in both images; None: what the ``.npz`` says, or everywhere."""


def check_flow(file: FlowFile, size: tuple[int, int]) -> None:
    """Look at the headers of a flow's files, not at its values.

    Args:
        size: (width, height) of the images, whose shape the flow must have; its size may be another.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, or not flow between images of this shape.
    """
    path = existing(file.path, "flow file", _ADVICE)
    if path.suffix == ".npz":
        headers = _npz_headers(path)
        absent = [key for key in ("flow", "mask") if key not in headers]
        if absent:
            raise ValueError(f"{path}: cannot be read as flow (it lacks {' and '.join(absent)}). Expected an .npz with "
                             f"flow [h, w, 2] and mask [h, w]. {_ADVICE}")  # fmt: skip
        shape, mask = headers["flow"], headers["mask"]
    else:
        shape, mask = load_npy(path, "flow file", mmap=True).shape, None
    _check_shape(path, shape, (size[1], size[0]))
    if file.visible is not None:
        mask = _booleans(existing(file.visible, "visibility map", _ADVICE), mmap=True).shape
    if mask is not None:
        check_size(file.visible or path, "flow's mask", map_shape(mask), (shape[0], shape[1]))


def read_flow(file: FlowFile) -> tuple[Float[Tensor, "h w 2"], Bool[Tensor, "h w"]]:
    """The vectors in stored pixels, and where they hold, at the stored size.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, not finite, or of a wrong shape.
    """
    path = existing(file.path, "flow file", _ADVICE)
    if path.suffix == ".npz":
        flow, mask = _npz_arrays(path, ("flow", "mask"))
        mask = _above_half(path, mask)
    else:
        flow = load_npy(path, "flow file")
        mask = None if file.visible is None else _booleans(existing(file.visible, "visibility map", _ADVICE))
    _check_shape(path, flow.shape, None)
    if mask is None:
        mask = np.ones(flow.shape[:2], bool)
    check_size(file.visible or path, "flow's mask", mask.shape, (flow.shape[0], flow.shape[1]))
    bad = int((~np.isfinite(flow)).any(axis=-1).sum())
    if bad:
        raise ValueError(f"{path}: {bad} of {mask.size} vectors are NaN or infinite. Expected finite pixels. {_ADVICE}")
    return torch.from_numpy(np.asarray(flow, np.float32)), torch.from_numpy(np.ascontiguousarray(mask))


def flow_at(
    file: FlowFile, xy: Float[Tensor, "*n 2"], size: tuple[int, int]
) -> tuple[Float[Tensor, "*n 2"], Bool[Tensor, "*n"]]:
    """Vectors and visibility at pixels of images of ``size`` (height, width), in pixels of that size.

    A reduced image's vectors are shorter by its factor, along each axis by its own.
    """
    flow, visible = read_flow(file)
    stored = (flow.shape[0], flow.shape[1])
    _check_shape(file.path, tuple(flow.shape), size)
    vectors, seen = between_pixels(flow, visible, rescaled_pixels(xy, size, stored), SPREAD)
    return vectors * torch.tensor([size[1] / stored[1], size[0] / stored[0]]), seen


def _check_shape(path: Path, shape: tuple[int, ...], size: tuple[int, int] | None) -> None:
    """``size`` is (height, width) of the images; None: any."""
    if len(shape) != 3 or shape[2] != 2 or min(shape) < 1:
        raise ValueError(f"{path}: an array of shape {tuple(shape)}. Expected flow [h, w, 2]. {_ADVICE}")
    if size is not None and not of_one_shape((shape[0], shape[1]), size):
        raise ValueError(f"{path}: the flow is {shape[1]}x{shape[0]}, but its image is {size[1]}x{size[0]} (width x "
                         f"height), of another shape. Expected flow of the whole image. {_ADVICE}")  # fmt: skip


def _booleans(path: Path, mmap: bool = False) -> Shaped[np.ndarray, "h w"]:
    """A ``.npy`` of booleans or numbers above 0.5."""
    array = load_npy(path, "visibility map", mmap, kinds="bfiu")
    if len(map_shape(array.shape)) != 2:
        raise ValueError(f"{path}: {array.dtype} of shape {array.shape}. Expected booleans [h, w]. {_ADVICE}")
    return array if mmap else _above_half(path, array)


def _above_half(path: Path, mask: Shaped[np.ndarray, "*hw"]) -> Bool[np.ndarray, "h w"]:
    bad = int((~np.isfinite(mask)).sum())
    if bad:  # no comparison is true of NaN: these pixels would count as hidden without a word
        raise ValueError(f"{path}: {bad} of {mask.size} values of the flow's mask are NaN or infinite. Expected booleans, "
                         f"or numbers above 0.5 where the flow holds. {_ADVICE}")  # fmt: skip
    return mask.reshape(map_shape(mask.shape)) > 0.5


def _npz_headers(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every array of an ``.npz``, from the headers; numbers only."""
    shapes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                with archive.open(info) as member:
                    version = np.lib.format.read_magic(member)
                    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                    shape, _, kind = read[version](member)
                    if kind.kind not in "bfiu":
                        raise ValueError(f"{info.filename} holds {kind}, not numbers")
                    if info.file_size - member.tell() != int(np.prod(shape, dtype=np.int64)) * kind.itemsize:
                        raise ValueError(f"{info.filename} has {info.file_size} bytes, not those of {shape}")
                shapes[info.filename.removesuffix(".npy")] = shape
    except Exception as error:  # zipfile and numpy raise many kinds on damaged files; each means the same
        raise _unreadable(path, error) from error
    return shapes


def _npz_arrays(path: Path, keys: tuple[str, ...]) -> list[np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return [content[key] for key in keys]
    except Exception as error:  # as above
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: cannot be read as flow ({type(error).__name__}: {error}). Expected an .npz with flow "
                      f"[h, w, 2] and mask [h, w]. {_ADVICE}")  # fmt: skip
