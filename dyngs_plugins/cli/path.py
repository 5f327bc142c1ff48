"""``dyngs path``: write a camera path with time, for ``ns-render camera-path``."""

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

    from dyngs_plugins.camera_paths import CameraPath

Kind = Literal["follow", "freeze", "bullet", "orbit", "stabilised"]
Orbit = Literal["arc", "lemniscate", "spiral", "wander"]
DEFAULT_FPS = 15.0
BULLET_SECONDS = 4.0


@dataclass(frozen=True)
class PathOptions:
    """What the camera does, and how that is filmed."""

    kind: Kind = "follow"
    """follow: the filming camera, while time plays. freeze: the filming camera, while time stands still. bullet: an
    orbit, while time stands still. orbit: an orbit, while time plays. stabilised: the filming camera without its
    shake (or one that does not move, see --reference), while time plays."""
    time: float = 0.5
    """Where time stands still (and the camera of --reference frame), from 0 (first frame) to 1 (last frame)."""
    orbit: Orbit = "arc"
    """Shape of the orbit. All but wander keep looking at the point that the filming cameras look at."""
    angle: float = 15.0
    """Width of the orbit in degrees, as seen from that point."""
    reference: Literal["frame", "average"] | None = None
    """Camera that the orbit starts from: the filming camera at --time, or the average one. Default: frame for
    bullet, average for orbit. With stabilised: a fixed camera in place of the smoothed path."""
    smoothing: float = 0.5
    """With stabilised: width (standard deviation) of the smoothing in seconds of the video."""
    fps: float | None = None
    """Frames per second of the video. Default: those of the clip, else 15."""
    seconds: float | None = None
    """Length of the video. Default: that of the clip; 4 for bullet."""
    width: int | None = None
    """Image width in pixels. Default: that of the training images, or in proportion to --height."""
    height: int | None = None
    """Image height in pixels. Default: that of the training images, or in proportion to --width."""
    camera: int = 0
    """Index of the training camera, where several film at the same time."""
    layout: str = ""
    """Of a folder of data, the command of its layout's loader, such as llff-data. Default: the one that is
    recognised."""

    def check(self) -> None:
        """Refuse numbers that make no sense.

        Raises:
            ValueError: with what was found and what was expected.
        """
        if not 0 <= self.time <= 1:
            raise ValueError(f"--time is {self.time}; expected a number from 0 (first frame) to 1 (last frame).")
        for name in ("fps", "seconds", "width", "height"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"--{name} is {value}; expected more than 0.")


DEFAULTS = PathOptions()


def path(
    source: Annotated[Path, tyro.conf.arg(metavar="CONFIG_OR_DATA")],
    /,
    out: Path,
    options: Annotated[PathOptions, tyro.conf.arg(name="")] = DEFAULTS,
) -> None:
    """Write a camera path with time, for ns-render camera-path.

    The cameras are those a model was trained with, in the frame of its scene. That frame depends on the loader's
    settings: for a trained model give its config.yml, not the data's folder, which is read with default settings.

    Args:
        source: config.yml of a training run (or the folder that holds it), or a folder of data.
        out: JSON file to write.
        options: The rest.
    """
    from dyngs_plugins.priors.clip_files import write_json

    options.check()
    source, out = source.expanduser(), out.expanduser()
    config = source / "config.yml" if (source / "config.yml").is_file() else source
    outputs = training_outputs(config, options.layout)
    filmed, size = filming_path(outputs, options.camera)

    clip_fps: float = outputs.metadata.get("fps") or DEFAULT_FPS
    clip_seconds = outputs.metadata.get("num_frames", len(filmed)) / clip_fps
    rate, kind = options.fps or clip_fps, options.kind
    seconds = options.seconds or (BULLET_SECONDS if kind == "bullet" else clip_seconds)
    num_frames = max(1, round(seconds * rate))
    planned = plan(filmed, kind, num_frames, options.time, options.orbit, options.angle, options.reference,
                   options.smoothing * rate)  # fmt: skip
    size = _image_size(size, options.width, options.height)
    write_json(out, nerfstudio_camera_path(planned, size, rate, loops=kind in ("bullet", "orbit")))
    print(f"{num_frames} frames of {size[0]}x{size[1]} at {rate:g} per second: {out}")
    if config.is_file():
        names = f"--load-config {shlex.quote(str(config))} --camera-path-filename {shlex.quote(str(out))}"
        print(f"ns-render camera-path {names} --output-path video.mp4")


def plan(
    filmed: "CameraPath",
    kind: Kind,
    num_frames: int,
    time: float,
    orbit: Orbit,
    angle: float,
    reference: str | None,
    sigma: float,
) -> "CameraPath":
    """The path of ``num_frames`` cameras that ``kind`` asks for (``angle`` in degrees, ``sigma`` in frames)."""
    import numpy as np

    from dyngs_plugins.camera_paths import ORBITS, CameraPath, average_camera, look_at_point, resample, smooth

    playing = np.linspace(0, 1, num_frames) if num_frames > 1 else np.array([time])
    frozen = np.full(num_frames, time)
    along = resample(filmed, playing)
    if kind == "follow":
        return along
    if kind == "freeze":
        return replace(along, time=frozen)
    if kind == "stabilised" and reference is None:
        return smooth(along, sigma)

    at_time = resample(filmed, np.array([time]))
    use_average = reference == "average" or (reference is None and kind == "orbit")
    pose = average_camera(filmed) if use_average else at_time.world_T_camera[0]
    fov = np.full(num_frames, at_time.vertical_fov[0])
    if kind == "stabilised":
        return CameraPath(np.repeat(pose[None], num_frames, axis=0), playing, fov)
    poses = ORBITS[orbit](pose, look_at_point(filmed, pose), num_frames, np.deg2rad(angle))
    return CameraPath(poses, frozen if kind == "bullet" else playing, fov)


def training_outputs(source: Path, layout: str = "") -> "DataparserOutputs":
    """The training cameras of a run's config.yml (through its own dataparser) or of a folder of data.

    Args:
        layout: command of the folder's loader; "" recognises the folder.

    Raises:
        FileNotFoundError: if there is nothing at ``source``, or no longer where the run had its data.
        ValueError: if it is no nerfstudio config, holds runs, or there is no such layout.
    """
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; expected the config.yml of a run, or a folder of data.")
    if source.is_file():
        return _dataparser_of_run(source).get_dataparser_outputs(split="train")
    runs = sorted([*source.glob("*/config.yml"), *source.glob("*/*/config.yml")], key=os.path.getmtime)
    if runs:
        raise ValueError(f"{source} holds {len(runs)} runs; expected one. The newest is {runs[-1]}.")

    from dataparsers.auto import AutoDataParserConfig

    return AutoDataParserConfig(data=source, layout=layout).setup().get_dataparser_outputs(split="train")


def _dataparser_of_run(config_path: Path) -> Any:
    from dataparsers.auto import with_options
    from dyngs_plugins.relocation import check_data_of_run, data_of, read_config

    datamanager: Any = read_config(config_path).pipeline.datamanager
    check_data_of_run(datamanager)
    datamanager.dataparser.data = data_of(datamanager)
    # What the method wants of its loader decides the scene's frame; the host's own methods have no such wishes.
    return with_options(datamanager.dataparser, getattr(datamanager, "layout_options", {})).setup()


def filming_path(outputs: "DataparserOutputs", camera: int) -> tuple["CameraPath", tuple[int, int]]:
    """The path of one training camera (OpenCV axes) and its image size (width, height)."""
    import numpy as np
    import torch

    from dyngs_plugins.camera_paths import CameraPath, rigid

    cameras = outputs.cameras
    if cameras.times is None:
        raise ValueError("these training cameras have no times. Use a dataparser of a video, such as som-data.")
    indices = (cameras.metadata or {}).get("camera_index", torch.zeros(len(cameras), 1)).flatten().cpu()
    if not bool((indices == camera).any()):
        known = ", ".join(str(int(index)) for index in indices.unique())
        raise ValueError(f"--camera is {camera}, but there are training cameras {known} only.")
    times = cameras.times.flatten().cpu().double()
    chosen = torch.nonzero(indices == camera).flatten()
    chosen = chosen[times[chosen].argsort(stable=True)]
    first = int(chosen[0])
    width, height = (int(getattr(cameras, side).flatten()[first]) for side in ("width", "height"))
    opengl = cameras.camera_to_worlds[chosen].double().cpu().numpy()
    fx, fy, cx, cy = (getattr(cameras, name).flatten()[first].item() for name in ("fx", "fy", "cx", "cy"))
    if max(abs(fx / fy - 1), abs(2 * cx / width - 1), abs(2 * cy / height - 1)) > 0.01:
        print(
            f"Note: a camera path has square pixels and a centred principal point; these cameras have focal lengths "
            f"({fx:.1f}, {fy:.1f}) and principal point ({cx:.1f}, {cy:.1f}) at {width}x{height}. The vertical field of "
            "view is kept, so the frames will not match the input's exactly."
        )
    vertical_fov = 2 * np.arctan(height / 2 / cameras.fy.flatten()[chosen].double().cpu().numpy())
    poses = rigid(opengl[:, :, :3] * np.array([1.0, -1.0, -1.0]), opengl[:, :, 3])
    return CameraPath(poses, times[chosen].numpy(), vertical_fov), (width, height)


def nerfstudio_camera_path(
    planned: "CameraPath", size: tuple[int, int], fps: float, loops: bool, max_keyframes: int = 12
) -> dict[str, Any]:
    """The path in the JSON layout of nerfstudio's viewer: OpenGL camera-to-world, vertical field of view in degrees."""
    import numpy as np

    opengl = planned.world_T_camera.copy()
    opengl[:, :3, 1:3] *= -1
    fov, aspect = np.rad2deg(planned.vertical_fov), size[0] / size[1]
    frames = [
        {"camera_to_world": c2w.flatten().tolist(), "fov": float(f), "aspect": aspect, "render_time": float(t)}
        for c2w, f, t in zip(opengl, fov, planned.time, strict=True)
    ]
    # ns-render reads the frames alone; the viewer's render tab loads key-frames, which a person can then edit.
    shown = np.unique(np.linspace(0, len(planned) - 1, min(max_keyframes, len(planned))).round().astype(int))
    keyframes = [
        {
            "matrix": frames[i]["camera_to_world"],
            "fov": frames[i]["fov"],
            "aspect": aspect,
            "override_transition_enabled": False,
            "override_transition_sec": None,
            "render_time": frames[i]["render_time"],
            "override_time_enabled": True,
        }
        for i in shown
    ]
    seconds = len(planned) / fps
    return {
        "camera_type": "perspective",
        "render_width": size[0],
        "render_height": size[1],
        "fps": fps,
        "seconds": seconds,
        "is_cycle": loops,
        "smoothness_value": 0.0,
        "default_fov": float(fov[0]),
        "default_time": float(planned.time[0]),
        "default_transition_sec": seconds / max(len(keyframes) - 1, 1),
        "keyframes": keyframes,
        "camera_path": frames,
        "crop": None,
    }


def _image_size(size: tuple[int, int], width: int | None, height: int | None) -> tuple[int, int]:
    if width is None:
        width = size[0] if height is None else max(1, round(height * size[0] / size[1]))
    if height is None:
        height = max(1, round(width * size[1] / size[0]))
    return width, height
