"""A person's view of ``ns-viewer``: a real browser opens it, moves the time slider, and the picture changes.

Chromium is driven over its DevTools protocol with the websockets package that viser brings: no browser driver needed.
Set DYNGS_ARTIFACTS to a folder to keep the screenshots.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.sync.client import connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 120.0  # seconds; a busy two-core machine renders WebGL in software
WINDOW = (1000, 700)
CHANGED = 0.002  # share of clearly different pixels


class Browser:
    """One page of a headless Chromium."""

    def __init__(self, websocket):
        self._websocket = websocket
        self._ids = itertools.count(1)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command and its answer; events in between are dropped."""
        message_id = next(self._ids)
        self._websocket.send(json.dumps({"id": message_id, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._websocket.recv(timeout=PATIENCE))
            if answer.get("id") == message_id:
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            codes = {"key": key, "code": key, "windowsVirtualKeyCode": {"End": 35, "Home": 36}[key]}
            self.call("Input.dispatchKeyEvent", type=kind, **codes)

    def drag(self, right: int, down: int) -> None:
        """Turn the 3-D view by dragging it with the left mouse button."""
        x, y = 300, 300
        for kind, share in (("mousePressed", 0.0), ("mouseMoved", 0.5), ("mouseMoved", 1.0), ("mouseReleased", 1.0)):
            at = {"x": x + share * right, "y": y + share * down}
            self.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **at)

    def zoom_out(self, notches: int) -> None:
        """Turn the mouse wheel over the 3-D view."""
        for _ in range(notches):
            self.call("Input.dispatchMouseEvent", type="mouseWheel", x=200, y=300, deltaX=0, deltaY=120)
            time.sleep(0.05)

    def screenshot(self) -> np.ndarray:
        """The page as a BGR image."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return image


@contextmanager
def running(command: list[str], log: Path) -> Iterator[Child]:
    """A child process whose output goes to ``log``, and which is gone afterwards."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield Child(process, log)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def open_page(url: str, folder: Path) -> Iterator[Browser]:
    assert CHROMIUM is not None
    profile = folder / "profile"
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",  # containers run as root
        "--disable-dev-shm-usage",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--no-default-browser-check",
        "--hide-scrollbars",
        f"--window-size={WINDOW[0]},{WINDOW[1]}",
        f"--user-data-dir={profile}",
        "--remote-debugging-port=0",
        url,
    ]
    with running(command, folder / "chromium.log") as chromium:
        port_file = profile / "DevToolsActivePort"
        chromium.wait_for(lambda: port_file.is_file() and port_file.read_text(), "its DevTools port")
        port = port_file.read_text().split()[0]

        def page() -> str | None:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE) as answer:
                targets = json.load(answer)
            return next((t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page"), None)

        with connect(chromium.wait_for(page, "a page"), max_size=None, open_timeout=PATIENCE) as websocket:
            yield Browser(websocket)


@dataclass(frozen=True)
class Child:
    """A running child process and the file that holds its output."""

    process: subprocess.Popen
    log: Path

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        """Poll until ``condition()`` is true and return its value.

        Fails with the child's output if the child ends, or if nothing comes of it.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before {what}:\n{self.output()}")
            value = condition()
            if value:
                return value
            time.sleep(0.25)
        raise AssertionError(f"{PATIENCE:.0f} s passed without {what}:\n{self.output()}")

    def output(self) -> str:
        return self.log.read_text()[-3000:]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


# The slider's thumb: the one in the smallest element that also holds the label "Time".
FIND_THUMB = """
(() => {
  const labels = [...document.querySelectorAll('label, span, div')].filter(
    e => e.children.length === 0 && e.textContent.trim() === 'Time' && e.getClientRects().length);
  for (let e = labels[0]; e; e = e.parentElement) {
    const thumbs = [...e.querySelectorAll('[role=slider]')];
    if (thumbs.length) return thumbs.length === 1 ? thumbs[0] : null;
  }
  return null;
})()
"""


def settled_view(page: Browser, viewer: Child) -> np.ndarray:
    """The 3-D view (the page left of the control panel) once it has stopped changing.

    The viewer sends a coarse picture at once and the full one when nothing moves: three equal ones in a row.
    """
    recent: list[np.ndarray] = []

    def settled() -> bool:
        recent.append(page.screenshot()[:, : WINDOW[0] // 2].astype(int))
        time.sleep(0.7)
        return len(recent) >= 3 and all(np.abs(view - recent[-1]).mean() < 0.05 for view in recent[-3:])

    viewer.wait_for(settled, "a picture that settles")
    return recent[-1]


def change(before: np.ndarray, after: np.ndarray) -> float:
    """Share of pixels whose colour differs clearly."""
    return float((np.abs(before - after).max(axis=-1) > 24).mean())


def keep(page: Browser, name: str, folder: Path) -> None:
    folder = Path(os.environ.get("DYNGS_ARTIFACTS") or folder)
    folder.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(folder / f"{name}.png"), page.screenshot())


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")
def test_the_time_slider_changes_the_picture(trained_checkpoint, tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "nerfstudio.scripts.viewer.run_viewer"),
        *("--load-config", str(trained_checkpoint.config)),
        *("--viewer.websocket-host", "127.0.0.1", "--viewer.websocket-port", str(port)),
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, tmp_path / "viewer.log") as viewer:
        viewer.wait_for(lambda: answers(url), "an answer over HTTP")
        with open_page(url, tmp_path) as page:
            viewer.wait_for(lambda: page.evaluate(f"{FIND_THUMB} !== null"), "a Time slider")

            def time_is(value: float) -> bool:
                return float(page.evaluate(f"{FIND_THUMB}.getAttribute('aria-valuenow')")) == value

            def picture_after(key: str, value: float, before: np.ndarray) -> np.ndarray:
                page.evaluate(f"{FIND_THUMB}.focus()")
                page.press(key)
                viewer.wait_for(lambda: time_is(value), f"time {value} on the slider")
                viewer.wait_for(lambda: change(before, settled_view(page, viewer)) > CHANGED, "another picture")
                return settled_view(page, viewer)

            # The viewer starts amid the scene, on the far side: step back and around to where the clip was filmed.
            page.drag(right=209, down=-40)
            page.zoom_out(18)
            first = settled_view(page, viewer)
            keep(page, "viewer_time_0", tmp_path)
            assert time_is(0.0)
            assert np.std(first) > 5, "the view is blank"
            last = picture_after("End", 1.0, first)
            keep(page, "viewer_time_1", tmp_path)
            # Back at the first frame it is the first picture: it was time that changed it.
            again = picture_after("Home", 0.0, last)
            assert change(first, again) < 0.2 * change(first, last)
