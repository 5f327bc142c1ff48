"""``nerfies-data``: captures of Nerfies, HyperNeRF and NeRF-DS.

::

    ROOT/rgb/{s}x/ID.png                       images at 1/s
    ROOT/camera/ID.json                        see :mod:`dataparsers.nerfies_cameras`
    ROOT/dataset.json                          ids, train_ids, val_ids
    ROOT/metadata.json                         per id: warp_id (or time_id), appearance_id, camera_id
    ROOT/scene.json, points.npy                centre and scale; sparse points          (optional)
    ROOT/mask/{s}x/ID.png                      what moves, in NeRF-DS                   (optional)
    ROOT/colmap/sparse/0/                      points, where there is no points.npy     (optional)

Cameras and points are in one world, that of the files. ``scene.json`` says how Nerfies normalises it; nothing is
normalised twice. Sources: Park et al., "Nerfies" (2021) and "HyperNeRF" (2021); Yan et al., "NeRF-DS" (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import ClipDataParser, ClipDataParserConfig, Layout
from dataparsers.checks import check_masks, common_image_size, image_files
from dataparsers.clip import Clip, Frame, SeedPoints, clip_views
from dataparsers.colmap_model import model_points, posed_images, registered
from dataparsers.nerfies_files import RATE_FLAG, capture_frame, capture_images, pick_rate, scene_json_frame
from dataparsers.protocols import Protocol, pick_protocol
from dataparsers.seed_points import npy_points
from dyngs_plugins.priors.clip_files import read_json
from dyngs_plugins.priors.colmap_files import find_model, read_model
from dyngs_plugins.priors.files import optional_file
from dyngs_plugins.priors.views import Priors

_RIG = ("train_ids of dataset.json", "val_ids of dataset.json")
_RULE = "with val_ids {} train and {} test; without them every 4th id trains"

COLMAP = Path("colmap", "sparse", "0")
"""Where the model lies that the capture's cameras were made from."""

PROTOCOLS = (
    Protocol(
        name="4dgs",
        trains=_RULE.format(*_RIG),
        tests="val_ids, or else the ids two after each training one, the last of them left out",
        source="4D Gaussian Splatting (Wu et al. 2024), code",
        resolution="2x",
        lpips="vgg",
    ),
    Protocol(
        name="deformable",
        trains=_RULE.format(*_RIG),
        tests="val_ids, or else ids 2, 6, 10, ...",
        source="Deformable 3D Gaussians (Yang et al. 2024), code",
        resolution="4x with val_ids, 2x without, 1x with mask/ (NeRF-DS)",
        lpips="vgg",
    ),
)


@dataclass
class NerfiesDataParserConfig(ClipDataParserConfig):
    """Captures of Nerfies, HyperNeRF (interp, vrig) and NeRF-DS."""

    _target: type = field(default_factory=lambda: NerfiesDataParser)
    downscale_factor: int | None = None
    """Read the images of rgb/{n}x. None: the protocol's, or the nearest that is there, with a warning."""
    colmap_cameras: bool = False
    """Take the cameras from the COLMAP model in colmap/sparse/0 instead of camera/*.json, which say the same but for
    what the JSON lost: some exports set pixel_aspect_ratio to 1 where COLMAP found fy to be another than fx."""
    scene_json_frame: bool = False
    """Use the frame of scene.json, (p - center) * scale, which Deformable and Gaussian-Flow train in, in place of one
    that is upright and about one unit large. (4DGS trains in the files' frame: --scene-normalisation False.)"""


class NerfiesDataParser(ClipDataParser):
    """Reads the ids of a capture, splits them, and finds the files of each."""

    config: NerfiesDataParserConfig

    def read(self) -> Clip:
        """Every split in the world of the files.

        Raises:
            FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
        """
        root = Path(self.config.data)
        capture = read_capture(root)
        train_ids, test_ids, protocol = split_ids(capture, pick_protocol(PROTOCOLS, self.config.protocol))
        factor, protocol = self._factor(root, capture, protocol)
        steps, cameras = time_steps(root, train_ids + test_ids, protocol.name)
        first = min(steps.values())
        count = max(steps.values()) - first + 1
        images = capture_images(root / "rgb" / f"{factor}x", train_ids + test_ids, "dataset.json")
        size = common_image_size(list(images.values()))

        def views(ids: Sequence[str]):
            frames = [capture_frame(root, images[i], size, factor, steps[i] - first, cameras[i]) for i in ids]
            if self.config.colmap_cameras:
                frames = with_colmap_cameras(root / COLMAP, frames, size)
            return clip_views(frames, size, count, Priors(mask_files=_masks(root, factor, ids, size)))

        points = seed_points(root, train_ids)
        stored = scene_json_frame(root, required=self.config.scene_json_frame)
        use_stored = self.config.scene_json_frame or points is None
        return Clip(
            views(train_ids), views(test_ids), protocol, points=points, stored_frame=stored if use_stored else None
        )

    def _factor(self, root: Path, capture: Capture, protocol: Protocol) -> tuple[int, Protocol]:
        """The folder of images, and the protocol as it is really followed."""
        rates = {"4dgs": 2, "deformable": 4 if capture.val_ids else 2}
        wanted = rates[protocol.name]
        if protocol.name == "deformable" and (root / "mask").is_dir():
            wanted = 1
        chosen = pick_rate(root, self.config.downscale_factor, wanted)
        if chosen != wanted:
            return chosen, replace(protocol, resolution=f"{chosen}x, where the protocol says {wanted}x")
        return chosen, replace(protocol, resolution=f"{chosen}x")


@dataclass(frozen=True)
class Capture:
    """``dataset.json``."""

    path: Path
    ids: tuple[str, ...]
    train_ids: tuple[str, ...]
    val_ids: tuple[str, ...]


def read_capture(root: Path) -> Capture:
    """Read ``dataset.json``.

    Raises:
        FileNotFoundError, ValueError: missing, not lists of names, names twice, or training ids that validate.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder. Expected a Nerfies capture; pass its folder with --data.")
    path = root / "dataset.json"
    content = read_json(path, "dataset record (ids, train_ids, val_ids)")
    lists: dict[str, tuple[str, ...]] = {}
    for key in ("ids", "train_ids", "val_ids"):
        names = content.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise ValueError(f'{path}: {key} is not a list of names. Expected strings like "000004".')
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise ValueError(f"{path}: {key} names {twice[0]!r} more than once. Expected every id once.")
        lists[key] = tuple(names)
    shared = sorted(set(lists["train_ids"]) & set(lists["val_ids"]))
    if shared:
        raise ValueError(f"{path}: {len(shared)} ids are in train_ids and in val_ids; the first is {shared[0]!r}. "
                         "Numbers on them would mean nothing. Remove them from one of the two.")  # fmt: skip
    if not lists["ids"] and not lists["train_ids"]:
        raise ValueError(f"{path}: found no ids. Expected lists ids, train_ids and val_ids; found {sorted(content)}.")
    return Capture(path, **lists)


def split_ids(capture: Capture, protocol: Protocol) -> tuple[tuple[str, ...], tuple[str, ...], Protocol]:
    """Ids that train, ids that test, and the protocol with the branch that was taken.

    The rule goes by ``val_ids``, not by the folder's name as Deformable's code does: it survives renamed folders.
    """
    if capture.val_ids:
        if not capture.train_ids:
            raise ValueError(f"{capture.path}: val_ids has {len(capture.val_ids)} names but train_ids none. Expected "
                             "both (vrig), or no val_ids (interp).")  # fmt: skip
        return capture.train_ids, capture.val_ids, replace(protocol, trains=_RIG[0], tests=_RIG[1])
    ids = capture.ids or capture.train_ids
    train, test = ids[::4], ids[2::4]
    if protocol.name == "4dgs":  # its code tests train index + 2 and drops the last of them, whether it exists or not
        test = tuple(ids[i + 2] for i in range(0, len(ids), 4)[:-1])
    if not test:
        raise ValueError(f"{capture.path}: {len(ids)} ids and no val_ids leave no test view, for every 4th id trains. "
                         "Expected at least 5 ids.")  # fmt: skip
    last = " but the last" if protocol.name == "4dgs" else ""
    return train, test, replace(protocol, trains="ids 0, 4, 8, ...", tests=f"ids 2, 6, 10, ...{last}")


def time_steps(root: Path, ids: Sequence[str], protocol: str) -> tuple[dict[str, int], dict[str, int]]:
    """Time step and physical camera of each id, as ``metadata.json`` counts them.

    4DGS takes ``warp_id``, Deformable ``time_id`` where there is one; one field serves all ids.

    Raises:
        FileNotFoundError, ValueError: missing, lacks ids or fields, or all times are equal.
    """
    path = root / "metadata.json"
    content = read_json(path, "record of time and camera per image")
    missing = [i for i in ids if not isinstance(content.get(i), dict)]
    if missing:
        raise ValueError(f"{path}: {len(missing)} of {len(ids)} ids are missing; the first is {missing[0]!r}. Expected "
                         "warp_id and camera_id for every id of dataset.json.")  # fmt: skip
    wanted = ("warp_id", "time_id") if protocol == "4dgs" else ("time_id", "warp_id")
    names = [key for key in (*wanted, "appearance_id") if all(_whole(content[i].get(key)) for i in ids)]
    if not names:
        raise ValueError(
            f"{path}: no field says every image's time. Expected whole numbers warp_id, time_id or appearance_id; "
            f"{ids[0]!r} has {content[ids[0]]}."
        )
    steps = {i: int(content[i][names[0]]) for i in ids}
    if len(set(steps.values())) == 1:
        raise ValueError(f"{path}: {names[0]} is {steps[ids[0]]} for all {len(ids)} images. Expected time to pass.")
    odd = [i for i in ids if not _whole(content[i].get("camera_id") or 0)]
    if odd:
        raise ValueError(f"{path}: camera_id of {odd[0]!r} is {content[odd[0]]['camera_id']!r}; expected a whole number "
                         "or none.")  # fmt: skip
    return steps, {i: int(content[i].get("camera_id") or 0) for i in ids}


def with_colmap_cameras(folder: Path, frames: Sequence[Frame], size: tuple[int, int]) -> list[Frame]:
    """The frames with the cameras that a COLMAP model has for them, which must be those of the JSON files.

    Raises:
        FileNotFoundError, ValueError: no model, one that lacks images, or one in another world.
    """
    posed = posed_images(folder, read_model(folder, points=False), [frame.image.name for frame in frames], size)
    for frame, camera in zip(frames, posed, strict=True):
        if (frame.world_T_camera - camera.world_T_camera).abs().max() > 1e-3 * (1 + frame.world_T_camera.abs().max()):
            raise ValueError(
                f"{folder}: the pose of {frame.image.name} is another one than in camera/{frame.name}.json. Expected "
                "one world for both: points.npy lies in that of the JSON files. Leave colmap_cameras out."
            )
    return [
        replace(frame, world_T_camera=camera.world_T_camera.float(), K=camera.K.float(), distortion=camera.distortion)
        for frame, camera in zip(frames, posed, strict=True)
    ]


def seed_points(root: Path, train_ids: Sequence[str]) -> SeedPoints | None:
    """``points.npy``, or of a COLMAP model beside the images what training images see; both in the cameras' world."""
    if optional_file(root / "points.npy", "point cloud"):
        return npy_points(root / "points.npy")
    folder = root / COLMAP
    if find_model(folder) is None:
        return None
    model = read_model(folder)
    known = registered(folder, model, [f"{name}.png" for name in train_ids])
    return model_points(folder, model, list(known.values()))


def _masks(root: Path, factor: int, ids: Sequence[str], size: tuple[int, int]) -> tuple[Path | None, ...] | None:
    """NeRF-DS's masks; its release calls them ``ID.png.png``."""
    if not (root / "mask").is_dir():
        return None
    folders = (root / "mask" / f"{factor}x", root / "mask")
    folder = next((f for f in folders if f.is_dir() and image_files(f)), None)
    if folder is None:
        raise FileNotFoundError(f"{folders[0]}: no masks of the size in use. Expected one for every image in rgb/"
                                f"{factor}x; resize them, remove mask/, or pick another size with {RATE_FLAG}.")  # fmt: skip
    present = {path.name.lower().removesuffix(".png").removesuffix(".png"): path for path in image_files(folder)}
    files = tuple(present.get(i.lower()) for i in ids)
    missing = [i for i, file in zip(ids, files, strict=True) if file is None]
    if missing:
        raise FileNotFoundError(f"{folder / f'{missing[0]}.png'}: no such mask; {len(missing)} of {len(ids)} are "
                                "missing. Expected one for every image. Remove mask/ to do without.")  # fmt: skip
    check_masks([file for file in files if file], size)
    return files


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 31


def _recognise(root: Path) -> str | None:
    if not ((root / "dataset.json").is_file() and (root / "camera").is_dir() and (root / "rgb").is_dir()):
        return None
    if any((root / "splits").glob("train*.json")) or (root / "flow3d_preprocessed").is_dir():
        return None  # DyCheck's captures, its splits of HyperNeRF's, and what is made of them
    return "dataset.json, camera/ and rgb/ without splits/"


LAYOUT = Layout(
    command="nerfies-data",
    title="Nerfies, HyperNeRF, NeRF-DS",
    expects="rgb/{n}x, camera/*.json, dataset.json, metadata.json; scene.json, points.npy and mask/ if there",
    get_it="the releases of Nerfies, HyperNeRF (interp and vrig scenes) and NeRF-DS",
    config=NerfiesDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

nerfies_data = DataParserSpecification(
    config=NerfiesDataParserConfig(),
    description="Captures of Nerfies, HyperNeRF (interp, vrig) and NeRF-DS, with their lenses and published splits.",
)
