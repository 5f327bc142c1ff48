"""What a layout's writer knows about the files that it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..scene import Scene
from ..shots import Shot


@dataclass(frozen=True)
class Truth:
    """The exact picture behind every image file. Cameras are OpenCV, in the world of the files."""

    scene: Scene
    shots: Mapping[Path, Shot]
    """By the image's file; a reduced copy of an image in a sister folder has the same name."""

    def shot(self, path: Path) -> Shot:
        """The picture of an image file or of its reduced copy (``images_2/x.png`` of ``images/x.jpg``).

        Raises:
            KeyError: no such picture was written.
        """
        if path in self.shots:
            return self.shots[path]
        sisters = [w for w in self.shots if w.stem == path.stem and w.parent.parent == path.parent.parent]
        reduced = [w for w in self.shots if w.stem == path.stem and _is_reduced(path.parent, w.parent)]
        if len(reduced or sisters) == 1:
            return self.shots[(reduced or sisters)[0]]
        raise KeyError(f"{path} is no image that was written, nor a reduced copy of just one")


def _is_reduced(folder: Path, original: Path) -> bool:
    """Whether the folders' names are equal, but for what is appended to some."""
    pairs = zip(folder.parts, original.parts, strict=False)
    return len(folder.parts) == len(original.parts) and all(a == b or a.startswith(f"{b}_") for a, b in pairs)
