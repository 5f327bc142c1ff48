"""A person's view of ``dyngs masks``: a real browser shows the clip, a click marks the object, Save writes its mask."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))  # for the browser, which the viewer's test brings

from test_viewer_browser import CHROMIUM, answers, keep, open_page, running

from dyngs_plugins.priors.som_files import read_mask

SIZE = (96, 128)
BOX = (slice(20, 50), slice(70, 110))  # the object: off centre, so that a mirrored page would be noticed

FIND_BUTTON = "[...document.querySelectorAll('button')].find(b => b.textContent.trim() === '{}')"


@pytest.fixture
def clip(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(2):
        image = rng.integers(80, 100, (*SIZE, 3)).astype(np.uint8)
        image[BOX] = (30, 200, 60)
        folder = tmp_path / "clip" / "images" / "camera0"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:05d}.png")
    return tmp_path / "clip"


def green(picture: np.ndarray) -> np.ndarray:
    """Pixels of a BGR screenshot that show the unmarked object."""
    return (picture[..., 1] > 150) & (picture[..., 2] < 90) & (picture[..., 0] < 120)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")
def test_a_click_in_the_browser_marks_the_object_and_save_writes_it(clip, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-c",
        "from dyngs_plugins.cli import main; main()",
        "masks",
        str(clip),
        "--port",
        str(port),
    ]
    with running(command, tmp_path / "masks.log") as server:
        server.wait_for(lambda: answers(url), "an answer over HTTP")
        with open_page(url, tmp_path) as page:
            server.wait_for(lambda: page.evaluate(f"{FIND_BUTTON.format('Save')} !== undefined"), "a Save button")
            server.wait_for(lambda: green(page.screenshot()).sum() > 500, "the object in the picture")
            time.sleep(1.0)
            shown = green(page.screenshot())
            y, x = np.nonzero(shown)
            at = {"x": int(np.median(x)), "y": int(np.median(y)), "button": "left", "clickCount": 1}
            page.call("Input.dispatchMouseEvent", type="mouseMoved", x=at["x"], y=at["y"])
            page.call("Input.dispatchMouseEvent", type="mousePressed", buttons=1, **at)
            page.call("Input.dispatchMouseEvent", type="mouseReleased", **at)
            server.wait_for(lambda: green(page.screenshot()).sum() < 0.2 * shown.sum(), "a marked object")
            keep(page, "mask_page", tmp_path)
            page.evaluate(f"{FIND_BUTTON.format('Save')}.click()")
            path = clip / "masks" / "camera0" / "00000.png"
            server.wait_for(path.is_file, "a mask file")
    mask, expected = read_mask(path, SIZE), np.zeros(SIZE, bool)
    expected[BOX] = True
    assert (mask & expected).sum() / (mask | expected).sum() > 0.95
