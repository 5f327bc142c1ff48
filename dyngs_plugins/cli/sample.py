"""``dyngs sample OUT``: write the project's own sample scene to disk."""

import json
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dyngs_plugins.folders import complete_folder


def sample(
    out: Annotated[Path, tyro.conf.arg(metavar="OUT")],
    /,
    frames: int = 24,
    width: int = 160,
    height: int = 120,
    cameras: int = 1,
    blur: bool = False,
    exposure: float = 0.5,
    subframes: int = 9,
    shake: float | None = None,
    defocus: bool = False,
    aperture: float = 0.2,
    focus_distance: float = 4.6,
    lens_samples: int = 19,
    supersample: int = 3,
    track_step: int | None = None,
    fps: float = 12.0,
    seed: int = 0,
    still: bool = False,
    overwrite: bool = False,
) -> None:
    """Make the sample scene: two moving objects before a moving camera, ray-cast, with exact ground truth.

    The files follow Shape of Motion's layout for custom videos. Equal options give equal files, to the byte.

    Args:
        out: Folder to make. It must not exist yet, or be empty.
        frames: Number of frames. The motion stays the same and is sampled more finely.
        width: Image width in pixels.
        height: Image height in pixels.
        cameras: Number of training cameras that film at the same time.
        blur: Blur the training images by motion. The sharp ones are written beside them.
        exposure: With --blur: how long the shutter is open, as a fraction of the time between two frames.
        subframes: With --blur: moments averaged per image, in linear light.
        shake: Tremor of the hand that holds the camera, in pixels. Default: 2 at a width of 160 with --blur, else 0.
        defocus: Blur the training images by a thin lens. The sharp ones are written beside them.
        aperture: With --defocus: radius of the lens in scene units.
        focus_distance: With --defocus: depth that is in focus, in scene units.
        lens_samples: With --defocus: points of the lens averaged per image, in linear light.
        supersample: Rays per pixel along each axis.
        track_step: Spacing in pixels of the tracked points. Default: 2 below a width of 320, else 4.
        fps: Frames per second noted in the clip.
        seed: Picks the textures. Geometry and motion are always the same.
        still: Stop the objects, so that only the cameras move.
        overwrite: Replace a sample that is already there. Any other non-empty folder is refused.
    """
    from dyngs_plugins.priors.command import training_command
    from dyngs_plugins.sample.blur import Exposure
    from dyngs_plugins.sample.clip import SampleSettings, build_clip
    from dyngs_plugins.sample.som_writer import write_som

    _check_sizes(blur, exposure, defocus, aperture)
    settings = SampleSettings(
        frames=frames,
        width=width,
        height=height,
        cameras=cameras,
        fps=fps,
        supersample=supersample,
        track_step=track_step if track_step is not None else (2 if width < 320 else 4),
        seed=seed,
        still=still,
        shake=shake if shake is not None else (width / 80 if blur else 0.0),
        exposure=Exposure(
            fraction=exposure if blur else 0.0,
            subframes=subframes if blur else 1,
            aperture=aperture if defocus else 0.0,
            focus_distance=focus_distance,
            lens_samples=lens_samples if defocus else 1,
        ),
    )
    out = out.expanduser().resolve()
    _check_destination(out, overwrite)
    columns = (TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with complete_folder(out) as partial, Progress(*columns) as bar:
        clip = build_clip(settings, lambda items, name: bar.track(items, description=name))
        write_som(clip, partial, lambda items, name: bar.track(items, description=name))
    filmed = "one training camera" if cameras == 1 else f"{cameras} training cameras"
    said = f"{frames} frames of {filmed} and a held-out one: {out}. Next: {training_command(out)}"
    Console().print(said, soft_wrap=True, highlight=False, markup=False)


def _check_sizes(blur: bool, exposure: float, defocus: bool, aperture: float) -> None:
    """Refuse a blur of nothing."""
    if blur and exposure <= 0:
        raise ValueError(f"--exposure is {exposure}; expected more than 0 with --blur. Leave --blur out instead.")
    if defocus and aperture <= 0:
        raise ValueError(f"--aperture is {aperture}; expected more than 0 with --defocus. Leave --defocus out instead.")


def _check_destination(out: Path, overwrite: bool) -> None:
    """Refuse to write over anything that is not a sample of ours."""
    if not out.exists():
        return
    if not out.is_dir():
        raise FileExistsError(f"{out} is a file; expected a folder or a free name. Choose another OUT.")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(
            f"{out} is not empty. Choose another OUT, or add --overwrite to replace the sample there."
        )
    if not _is_sample(out):
        raise FileExistsError(
            f"{out} is not empty and holds no sample of this program (no clip.json of format dyngs-clip beside a "
            "ground_truth.json); --overwrite replaces samples only. Empty it yourself or choose another OUT."
        )


def _is_sample(folder: Path) -> bool:
    record = folder / "clip.json"
    if not (record.is_file() and (folder / "ground_truth.json").is_file()):
        return False
    try:
        content = json.loads(record.read_text())
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("format") == "dyngs-clip"
