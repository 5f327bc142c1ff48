"""What captures of Nerfies, HyperNeRF and DyCheck share: images in ``rgb/{n}x``, their cameras, ``scene.json``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from dataparsers.checks import image_files
from dataparsers.clip import Frame
from dataparsers.nerfies_cameras import read_nerfies_camera
from dyngs_plugins.priors.clip_files import read_json
from dyngs_plugins.priors.files import number, optional_file
from dyngs_plugins.priors.normalise import SceneNormalisation

RATE_FLAG = "--downscale-factor"


def pick_rate(root: Path, chosen: int | None, wanted: int) -> int:
    """The folder ``rgb/{n}x`` to read: the chosen one, the protocol's, or with a warning the nearest that is there.

    Raises:
        FileNotFoundError: the chosen one is not there, or none is.
    """
    folders = root / "rgb"
    names = [p.name for p in folders.iterdir() if p.is_dir()] if folders.is_dir() else []
    present = sorted(int(name[:-1]) for name in names if name.endswith("x") and name[:-1].isdigit() and name != "0x")
    rate = wanted if chosen is None else chosen
    if rate in present:
        return rate
    found = ", ".join(f"{r}x" for r in present) or "none"
    if chosen is not None or not present:
        raise FileNotFoundError(f"{folders / f'{rate}x'}: no such folder. Expected the images at 1/{rate}; found "
                                f"{found}. Pick one with {RATE_FLAG}.")  # fmt: skip
    nearest = min(present, key=lambda r: (max(r, wanted) / min(r, wanted), r))
    warnings.warn(f"{folders}: there is no {wanted}x, which the protocol asks for; {nearest}x is read. Scores do not "
                  f"compare with published ones. (Found {found}; pick with {RATE_FLAG}.)", stacklevel=2)  # fmt: skip
    return nearest


def scene_json_frame(root: Path, required: bool) -> SceneNormalisation | None:
    """The frame of ``scene.json``: (p - center) * scale. None where there is no such file and none is required.

    Raises:
        FileNotFoundError, ValueError: missing though required, or without a positive scale and a finite centre.
    """
    path = root / "scene.json"
    if not required and not optional_file(path, "scene record"):
        return None
    content = read_json(path, "scene record (scale, center)")
    try:
        scale, values = number(content["scale"]), [number(value) for value in content["center"]]
        center = torch.tensor(values, dtype=torch.float32).reshape(3)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path}: expected a number scale and a center of 3 numbers ({error!r}); found "
                         f"{sorted(content)}.") from error  # fmt: skip
    if not 0 < scale < float("inf") or not bool(torch.isfinite(center).all()):
        raise ValueError(f"{path}: scale {scale} and center {center.tolist()} are not a positive number and a point. "
                         "Expected finite numbers. Write it again.")  # fmt: skip
    rigid = torch.eye(4)
    rigid[:3, 3] = -center
    return SceneNormalisation(1.0 / scale, rigid)


def capture_images(folder: Path, names: Sequence[str], splits: str) -> dict[str, Path]:
    """The image of each name, whatever its suffix.

    Raises:
        FileNotFoundError, ValueError: some are missing, or two have one name. ``splits`` says who names them.
    """
    present = {path.stem: path for path in image_files(folder)}
    missing = [name for name in names if name not in present]
    if missing:
        raise FileNotFoundError(
            f"{folder}{os.sep}{missing[0]}.png: no such image; {len(missing)} of {len(names)} are missing. Expected one "
            f"for every name of the splits in {splits}. Download the capture again, or remove these names."
        )
    return {name: present[name] for name in names}


def capture_frame(root: Path, image: Path, size: tuple[int, int], factor: int, step: int, camera: int) -> Frame:
    """An image of ``rgb/{factor}x`` with the camera of its name, lens included."""
    path = root / "camera" / f"{image.stem}.json"
    known = read_nerfies_camera(path)
    K = known.reduced_K(path, image, size, factor)
    return Frame(image, known.world_T_camera, K, step, camera, distortion=known.distortion)
