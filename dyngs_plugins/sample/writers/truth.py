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
        sisters = [
            written
            for written in self.shots
            if written.stem == path.stem and written.parent.parent == path.parent.parent
        ]
        named = [written for written in sisters if path.parent.name.startswith(written.parent.name)]
        if len(named or sisters) == 1:
            return self.shots[(named or sisters)[0]]
        raise KeyError(f"{path} is no image that was written, nor a reduced copy of just one")
