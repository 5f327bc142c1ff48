"""``dyngs sample OUT``: write the project's own sample scene to disk."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dyngs_plugins.folders import complete_folder

if TYPE_CHECKING:
    from dyngs_plugins.sample.clip import SampleSettings


@dataclass(frozen=True)
class SampleOptions:
    """How much is filmed, and how sharp it is."""

    frames: int = 24
    """Number of frames. The motion stays the same and is sampled more finely."""
    width: int = 160
    """Image width in pixels."""
    height: int = 120
    """Image height in pixels."""
    cameras: int = 1
    """Number of training cameras that film at the same time."""
    blur: bool = False
    """Blur the training images by motion. The sharp ones are written beside them."""
    exposure: float = 0.5
    """With --blur: how long the shutter is open, as a fraction of the time between two frames."""
    subframes: int = 9
    """With --blur: moments averaged per image, in linear light."""
    shake: float | None = None
    """Tremor of the hand that holds the camera, in pixels. Default: 2 at a width of 160 with --blur, else 0."""
    defocus: bool = False
    """Blur the training images by a thin lens. The sharp ones are written beside them."""
    aperture: float = 0.2
    """With --defocus: radius of the lens in scene units."""
    focus_distance: float = 4.6
    """With --defocus: depth that is in focus, in scene units."""
    lens_samples: int = 19
    """With --defocus: points of the lens averaged per image, in linear light."""
    supersample: int = 3
    """Rays per pixel along each axis."""
    track_step: int | None = None
    """Spacing in pixels of the tracked points. Default: 2 below a width of 320, else 4."""
    fps: float = 12.0
    """Frames per second noted in the clip."""
    seed: int = 0
    """Picks the textures. Geometry and motion are always the same."""
    still: bool = False
    """Stop the objects, so that only the cameras move."""
    overwrite: bool = False
    """Replace a sample that is already there. Any other non-empty folder is refused."""

    def settings(self) -> "SampleSettings":
        """What the clip is built from, with what was left open chosen.

        Raises:
            ValueError: a blur of nothing.
        """
        from dyngs_plugins.sample.blur import Exposure
        from dyngs_plugins.sample.clip import SampleSettings

        _check_sizes(self.blur, self.exposure, self.defocus, self.aperture)
        return SampleSettings(
            frames=self.frames,
            width=self.width,
            height=self.height,
            cameras=self.cameras,
            fps=self.fps,
            supersample=self.supersample,
            track_step=self.track_step if self.track_step is not None else (2 if self.width < 320 else 4),
            seed=self.seed,
            still=self.still,
            shake=self.shake if self.shake is not None else (self.width / 80 if self.blur else 0.0),
            exposure=Exposure(
                fraction=self.exposure if self.blur else 0.0,
                subframes=self.subframes if self.blur else 1,
                aperture=self.aperture if self.defocus else 0.0,
                focus_distance=self.focus_distance,
                lens_samples=self.lens_samples if self.defocus else 1,
            ),
        )


DEFAULTS = SampleOptions()


def sample(
    out: Annotated[Path, tyro.conf.arg(metavar="OUT")],
    /,
    options: Annotated[SampleOptions, tyro.conf.arg(name="")] = DEFAULTS,
) -> None:
    """Make the sample scene: two moving objects before a moving camera, ray-cast, with exact ground truth.

    The files follow Shape of Motion's layout for custom videos. Equal options give equal files, to the byte.

    Args:
        out: Folder to make. It must not exist yet, or be empty.
        options: The rest.
    """
    from dyngs_plugins.priors.command import training_command
    from dyngs_plugins.sample.clip import build_clip
    from dyngs_plugins.sample.som_writer import write_som

    settings = options.settings()
    out = out.expanduser().resolve()
    _check_destination(out, options.overwrite)
    columns = (TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with complete_folder(out) as partial, Progress(*columns) as bar:
        clip = build_clip(settings, lambda items, name: bar.track(items, description=name))
        write_som(clip, partial, lambda items, name: bar.track(items, description=name))
    filmed = "one training camera" if options.cameras == 1 else f"{options.cameras} training cameras"
    said = f"{options.frames} frames of {filmed} and a held-out one: {out}. Next: {training_command(out)}"
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
