"""A page in the browser to look at a clip's masks and to correct them, with viser; what it does is in `mask_edits.py`."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dyngs_plugins.mask_edits import MaskEditor, Pixel, Segmenter, sequences

MODES = ("add object", "paint", "erase", "erase object")
_HEIGHT = 2.0  # of the image in the page's 3-D scene; x right, y down, the camera looks along +z
_DISTANCE = 1.9


def pixel_of_ray(origin: Sequence[float], direction: Sequence[float], size: tuple[int, int]) -> Pixel | None:
    """The pixel that a ray of the page's scene meets, or None where it misses the image.

    Args:
        origin, direction: in the scene; the image lies in the plane z = 0, its centre at the origin.
        size: height and width of the image in pixels.
    """
    start, along = np.asarray(origin, float), np.asarray(direction, float)
    if abs(along[2]) < 1e-9:
        return None
    distance = -start[2] / along[2]
    if distance <= 0:
        return None
    hit = start + distance * along
    height, width = size
    scale = height / _HEIGHT
    x, y = hit[0] * scale + width / 2, hit[1] * scale + height / 2
    return (int(x), int(y)) if 0 <= x < width and 0 <= y < height else None


class MaskPage:
    """The page's state and what its buttons do; `serve` shows it.

    Args:
        root: the clip folder.
        sequence: which sequence to open; None is the first.
        segment: finds the object under a click; None goes by colour.
    """

    def __init__(self, root: Path, sequence: str | None = None, segment: Segmenter | None = None) -> None:
        names = sequences(root)
        if sequence is not None and sequence not in names:
            raise ValueError(f"{root}: no sequence {sequence!r}. There are: {', '.join(names)}.")
        self.editor = MaskEditor(root, sequence or names[0], segment)
        self.by = "SAM" if segment is not None else "colour (no SAM weights on this machine: see dyngs doctor)"
        self.frame = 0
        self.mode = MODES[0]
        self.brush = max(min(self.editor.size) // 40, 2)
        self.message = ""
        self._lock = threading.Lock()  # the page calls from several threads

    def click(self, at: Pixel | None) -> None:
        """What a click on the image does in the present mode."""
        if at is None:
            return
        edit = {
            "add object": lambda: self.editor.add_region(self.frame, at),
            "paint": lambda: self.editor.paint(self.frame, at, self.brush),
            "erase": lambda: self.editor.paint(self.frame, at, self.brush, value=False),
            "erase object": lambda: self.editor.erase_region(self.frame, at),
        }[self.mode]
        self._do(edit, f"{self.mode} at ({at[0]}, {at[1]})")

    def undo(self) -> None:
        with self._lock:
            frames = self.editor.undo()
        self.message = f"undone in {_frames(frames)}" if frames else "nothing to undo"

    def clear(self) -> None:
        self._do(lambda: self.editor.clear(self.frame), "cleared")

    def propagate(self, count: int, forward: bool) -> None:
        """Carry this mask on and go to the last frame that it reached."""
        start = self.frame
        self._do(
            lambda: setattr(self, "frame", self.editor.propagate(start, count, forward)), f"carried on from {start}"
        )

    def save(self) -> None:
        with self._lock:
            written = self.editor.save()
        stale = self.editor.stale() if written else []
        again = (
            f" Now older: dyngs process {shlex.quote(str(self.editor.root))} --redo {' '.join(stale)}" if stale else ""
        )
        self.message = f"{len(written)} masks saved.{again}" if written else "nothing to save"

    def status(self) -> str:
        """What the page says about itself, as markdown."""
        changed = len(self.editor.changed)
        share = 100 * float(self.editor.mask(self.frame).mean())
        lines = [
            f"**{self.editor.files[self.frame].name}**: {share:.1f} % moving",
            f"objects are found by {self.by}",
            f"{changed} masks not saved yet" if changed else "all masks are saved",
            self.message,
        ]
        return "  \n".join(filter(None, lines))

    def picture(self) -> np.ndarray:
        """The image with its mask."""
        with self._lock:
            return self.editor.overlay(self.frame)

    def _do(self, edit: Callable[[], Any], done: str) -> None:
        try:
            with self._lock:
                edit()
            self.message = done
        except ValueError as error:
            self.message = str(error)

    def serve(self, host: str, port: int) -> Any:
        """Start the server; it runs in threads of its own. Stop it with `.stop()`."""
        import viser

        server = viser.ViserServer(host=host, port=port, label="dyngs masks")
        server.scene.world_axes.visible = False
        server.gui.configure_theme(control_layout="fixed")  # beside the image, not over it
        _Controls(self, server)
        return server


class _Controls:
    """The page's widgets."""

    def __init__(self, page: MaskPage, server: Any) -> None:
        self.page, self.server, gui = page, server, server.gui
        count = len(page.editor)
        self.slider = gui.add_slider("Image", min=0, max=max(count - 1, 1), step=1, initial_value=0)
        mode = gui.add_dropdown("A click will", MODES, initial_value=page.mode)
        brush = gui.add_slider(
            "Brush (pixels)", min=1, max=max(min(page.editor.size) // 4, 2), step=1, initial_value=page.brush
        )
        steps = gui.add_slider(
            "Carry on (images)", min=1, max=max(count - 1, 1), step=1, initial_value=min(10, max(count - 1, 1))
        )
        mode.on_update(lambda _: setattr(page, "mode", mode.value))
        brush.on_update(lambda _: setattr(page, "brush", int(brush.value)))
        self.slider.on_update(lambda _: self._go(int(self.slider.value)))
        actions: dict[str, Callable[[], None]] = {
            "Carry on forward": lambda: page.propagate(int(steps.value), True),
            "Carry on backward": lambda: page.propagate(int(steps.value), False),
            "Undo": page.undo,
            "Clear this mask": page.clear,
            "Save": page.save,
        }
        for label, action in actions.items():
            gui.add_button(label).on_click(lambda _, action=action: self._act(action))
        self.status = gui.add_markdown(page.status())
        server.scene.on_pointer_event("click")(self._clicked)
        server.on_client_connect(self._place_camera)
        self.show()

    def show(self) -> None:
        """Draw the image and the status anew."""
        height, width = self.page.editor.size
        self.server.scene.add_image(
            "/image", self.page.picture(), render_width=_HEIGHT * width / height, render_height=_HEIGHT, format="png"
        )
        self.status.content = self.page.status()
        if int(self.slider.value) != self.page.frame:
            self.slider.value = self.page.frame

    def _go(self, frame: int) -> None:
        if frame != self.page.frame:
            self.page.frame, self.page.message = min(frame, len(self.page.editor) - 1), ""
            self.show()

    def _act(self, action: Callable[[], None]) -> None:
        action()
        self.show()

    def _clicked(self, event: Any) -> None:
        if event.ray_origin is not None and event.ray_direction is not None:
            self._act(
                lambda: self.page.click(pixel_of_ray(event.ray_origin, event.ray_direction, self.page.editor.size))
            )

    def _place_camera(self, client: Any) -> None:
        client.camera.up_direction = (0.0, -1.0, 0.0)
        client.camera.position = (0.0, 0.0, -_DISTANCE)
        client.camera.look_at = (0.0, 0.0, 0.0)


def _frames(frames: tuple[int, ...]) -> str:
    return f"image {frames[0]}" if len(frames) == 1 else f"{len(frames)} images"


def run(root: Path, sequence: str | None, host: str, port: int, model: str) -> None:
    """Serve the page until it is interrupted.

    Raises:
        FileNotFoundError, ValueError: no clip, no such sequence, or a model that is not on this machine.
    """
    from dyngs_plugins.mask_edits import region_by_sam

    segment = region_by_sam([("model", model)] if model else [])
    if model and segment is None:
        from dyngs_plugins.priors.providers.masks_sam import SamMasks

        raise FileNotFoundError(str(SamMasks(model=model).unavailable()))
    page = MaskPage(root, sequence, segment)
    server = page.serve(host, port)
    print(
        f"Open http://localhost:{server.get_port()} in a browser. Masks are written when you press Save. Stop: Ctrl-C."
    )
    try:
        while True:
            time.sleep(1.0)
    except KeyboardInterrupt:
        left = len(page.editor.changed)
        print(f"\n{left} changed masks were not saved." if left else "")
    finally:
        server.stop()
