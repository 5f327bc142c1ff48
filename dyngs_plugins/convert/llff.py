"""To LLFF: ``images/``, ``poses_bounds.npy`` and, with points, ``sparse/0``; the images of one camera in time order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dyngs_plugins.convert.colmap import colmap_model
from dyngs_plugins.convert.images import write_picture
from dyngs_plugins.convert.names import target_stems
from dyngs_plugins.convert.pinhole import CenteredPinhole, centered_pinhole
from dyngs_plugins.convert.record import Converted, Progress
from dyngs_plugins.convert.source import Picture, Source, pictures
from dyngs_plugins.priors.colmap_files import write_model
from dyngs_plugins.priors.llff_files import LlffCameras, write_poses_bounds

PERCENTILES = (0.1, 99.9)
"""Of the depths that an image sees: near and far, as LLFF's own script takes them."""
FEWEST = 10
"""Fewer points in an image say nothing about its depths."""


def write_llff(source: Source, out: Path, track: Progress) -> Converted:
    """Write all images of all splits, in the order of time.

    Raises:
        ValueError: several cameras, images of several sizes, or no known depths at all.
    """
    every = sorted(pictures(source.clip), key=lambda picture: (picture.step, picture.file.stem))
    _require_one_video(source, every)
    pinhole = centered_pinhole(every)
    bounds = _bounds(source, every, track)
    converted, stems = Converted(), target_stems(every)
    for picture, stem in track(list(zip(every, stems, strict=True)), "images"):
        file = write_picture(picture, out / "images" / stem, pinhole.straight(picture))
        converted.files[file.relative_to(out).as_posix()] = picture
    hwf = np.tile([pinhole.height, pinhole.width, pinhole.focal], (len(every), 1)).astype(np.float64)
    poses = np.stack([picture.world_T_camera for picture in every])
    write_poses_bounds(out / "poses_bounds.npy", LlffCameras(poses, hwf, bounds))
    if source.clip.points is not None:  # the model that LLFF's cameras are made from is a part of its layout
        names = [(Path(name).name, picture) for name, picture in converted.files.items()]
        write_model(out / "sparse" / "0", colmap_model(names, source.clip.points, pinhole))
    _say(converted, source, every, pinhole)
    return converted


def _require_one_video(source: Source, every: Sequence[Picture]) -> None:
    cameras, sizes = sorted({p.camera for p in every}), sorted({p.size[::-1] for p in every})
    if len(cameras) > 1:
        raise ValueError(
            f"{source.root}: {len(cameras)} cameras ({', '.join(map(str, cameras[:8]))}) in the splits of the protocol "
            f"{source.protocol}; expected one, because LLFF has one list of images, whose order is the time. Choose "
            "--to colmap, dnerf or som."
        )
    if len(sizes) > 1:
        raise ValueError(f"{source.root}: images of the sizes {sizes} (width, height); expected one size, because LLFF "
                         "has one. Choose --to dnerf or som.")  # fmt: skip


def _bounds(source: Source, every: Sequence[Picture], track: Progress) -> Float[np.ndarray, "n 2"]:
    """Near and far of each image: as the files say them, else of the seed points it sees, else of its depths.

    Raises:
        ValueError: there is none of that.
    """
    stored = np.array([source.bounds.get(picture.file, (0.0, 0.0)) for picture in every])
    if bool((np.isfinite(stored) & (stored > 0)).all()):
        return stored
    found = [_of_points(source, picture) for picture in every]
    if not any(found):
        found = [_of_depth(picture) for picture in track(every, "near and far")]
    known = np.array([pair for pair in found if pair is not None])
    if len(known) == 0:
        raise ValueError(
            f"{source.root}: no near and far for poses_bounds.npy: found neither bounds, nor points that an image "
            "sees, nor depths. Expected one of them: add a point cloud, or make depths with `dyngs process`. Choose "
            "--to colmap or dnerf, which need none."
        )
    rest = float(known[:, 0].min()), float(known[:, 1].max())  # images that see nothing known: what all others see
    return np.array([pair or rest for pair in found])


def _of_points(source: Source, picture: Picture) -> tuple[float, float] | None:
    points = source.clip.points
    if points is None:
        return None
    camera_T_world = np.linalg.inv(picture.world_T_camera)
    local = points.xyz.double().numpy() @ camera_T_world[:3, :3].T + camera_T_world[:3, 3]
    local = local[local[:, 2] > 0]
    xy = (local @ picture.K.numpy().T)[:, :2] / local[:, 2:]
    seen = local[((xy >= 0) & (xy <= picture.size[::-1])).all(axis=1), 2]
    return _range(seen)


def _of_depth(picture: Picture) -> tuple[float, float] | None:
    if picture.views.priors.depth_files is None:
        return None
    depth = picture.views.depth(picture.index).numpy()
    return _range(depth[depth > 0])


def _range(depths: Float[np.ndarray, "n"]) -> tuple[float, float] | None:
    if len(depths) < FEWEST:
        return None
    near, far = np.percentile(depths, PERCENTILES)
    return float(near), float(far)


def _say(converted: Converted, source: Source, every: Sequence[Picture], pinhole: CenteredPinhole) -> None:
    converted.changed += pinhole.changes(every[0])
    converted.lost.append("which images train and which test: see `splits` of each image")
    last, shared = max(len(every) - 1, 1), len(every) - len({picture.step for picture in every})
    if shared:
        converted.lost.append(f"that {shared} images are of the time of another one: every row is a time of its own")
    if any(abs(picture.time - i / last) > 1e-6 for i, picture in enumerate(every)):
        converted.lost.append("times that are not evenly spaced, or steps without an image: the order alone is kept")
    converted.lose(source, kept=("near and far", "points to start from"))
