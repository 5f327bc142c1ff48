"""The viewer raises in the middle of a render when the camera moves: the next render must not notice.

It does so through ``sys.settrace``, on any call of a Python function. The first render of a process is the delicate
one: whatever it imports or compiles may be cut off half way, and Python does not import the other half later.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

CODE = """
import sys
from pathlib import Path

import torch
from nerfstudio.utils.eval_utils import eval_setup
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException, SetTrace

_, pipeline, _, _ = eval_setup(Path(sys.argv[1]), test_mode="inference")
model = pipeline.model.eval()
camera = pipeline.datamanager.train_dataset.cameras[0:1].to(model.device)

def interrupt_after(calls):
    def trace(frame, event, arg):
        nonlocal calls
        calls -= 1
        if calls < 0:
            raise IOChangeException
    return trace

interrupted = 0
for calls in (1, 10, 100, 300, 1000, 3000, 10_000, 30_000, 100_000):
    try:
        with torch.no_grad(), SetTrace(interrupt_after(calls)):
            model.get_outputs_for_camera(camera)
    except IOChangeException:
        interrupted += 1
assert interrupted >= 3, "the renders were too short to be interrupted: this test shows nothing"
with torch.no_grad():
    outputs = model.get_outputs_for_camera(camera)
    again = model.get_outputs_for_camera(camera)
for name, image in outputs.items():
    assert torch.isfinite(image).all(), name
    assert torch.equal(image, again[name]), name
assert outputs["rgb"].std() > 0.01
"""


def test_an_interrupted_first_render_does_not_spoil_the_next(trained_checkpoint):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(CODE), str(trained_checkpoint.config)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
