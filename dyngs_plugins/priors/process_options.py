"""What a user can say of a `dyngs process`: the command's options, and what `command.run` takes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["flow", "cameras", "masks", "depth", "tracks"]
OF_DATA_SETS = ("views", "protocol", "downscale_factor")
"""Options that choose from a data set in another layout."""
OF_CLIPS = ("fps", "max_frames", "start", "end", "right", "height", "width", "max_size", "holdout", "focal")
"""Options of how pictures become those of a clip; a data set's stay as they are."""


@dataclass(frozen=True)
class ProcessOptions:
    """How a source becomes a clip folder with priors."""

    fps: float | None = None
    """Frames per second to take of a film, at most. For a folder of images: the rate at which they were taken."""
    max_frames: int | None = None
    """Take at most so many frames, thinned evenly."""
    start: float | None = None
    """Second of the footage to begin at."""
    end: float | None = None
    """Second of the footage to stop before."""
    right: Path | None = None
    """A second film or folder of images, filmed at the same time: the right view of a stereo pair."""
    height: int | None = None
    """Height of the images to write, in pixels. Default: films and bare images get 480 pixels at their shorter side
    if they are larger; images with cameras keep their size."""
    width: int | None = None
    """Width of the images to write, in pixels. With height alone or width alone the aspect ratio is kept."""
    max_size: int | None = None
    """Longer side of the images to write, in pixels; smaller images are not enlarged."""
    holdout: int = 8
    """Every n-th frame is held out for evaluation and influences no prior; of footage never the first or last. 0:
    none."""
    focal: float | None = None
    """Focal length in pixels of the source's images, if you know it. Default: from EXIF, else it is solved."""
    flow: str = "dis"
    """Provider of optical flow."""
    cameras: str = "tracks"
    """Provider of cameras, for sources without any."""
    masks: str = "epipolar"
    """Provider of moving-object masks."""
    depth: str = "multiview"
    """Provider of dense depth."""
    tracks: str = "chained"
    """Provider of long point tracks."""
    track_stride: int = 4
    """Spacing in pixels of the tracked points."""
    settings: tuple[str, ...] = ()
    """More provider settings, as KIND.NAME=VALUE."""
    redo: tuple[Kind, ...] = ()
    """Kinds of priors to make again. Existing files are not deleted: they are put aside in before_redo/, yours
    among them. Cameras that were given and not solved are refused."""
    eval_masks: bool = True
    """Also make masks of the held-out frames, under eval/, for metrics on the moving region."""
    memory_gb: float = 2.0
    """How much memory flows and images may take between uses."""
    views: str = ""
    """Of a data set, only the training images with this text in their names, such as left."""
    protocol: str = ""
    """Of a data set, the name of the split. Default: the layout's first."""
    downscale_factor: int | None = None
    """Of a data set, take images at 1/n. Default: its loader's own."""

    @property
    def providers(self) -> dict[str, str]:
        """The named provider of each kind."""
        return {
            "flow": self.flow,
            "cameras": self.cameras,
            "masks": self.masks,
            "depth": self.depth,
            "tracks": self.tracks,
        }

    def given(self, names: Iterable[str]) -> list[str]:
        """Those of some options that are not at their default, as a user writes them."""
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) != getattr(DEFAULTS, name)]


DEFAULTS = ProcessOptions()
