"""Moving a camera until the scene, which stays as it is, looks like a given image.

What papers call test-time pose optimisation: poses of blurred clips are wrong by more than methods differ, so images are
compared after the test camera was aligned. It looks at the test image, so its scores are never those of the given pose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dyngs_plugins.exposure import se3
from dyngs_plugins.scene import RenderOptions, Scene, Views


@dataclass
class AlignmentConfig:
    """How test cameras are aligned."""

    steps: int = 60
    """Steps of Adam for each test image; 0: no aligned scores."""
    rate: float = 3e-3
    """Learning rate at the start, in scene units and radians; it falls to a hundredth along a cosine."""

    def rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        return self.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / max(self.steps, 1))))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter of the module needs a gradient meanwhile."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def align(
    scene: Scene,
    view: Views,
    image: Float[Tensor, "h w 3"],
    config: AlignmentConfig,
    options: RenderOptions,
    background: Float[Tensor, "3"] | None = None,
    valid: Bool[Tensor, "h w"] | None = None,
) -> Views:
    """The single view with the camera near its own that shows the scene most like the image (mean absolute error).

    The camera moves by a twist in its own frame. Of all cameras tried the best one is returned, so the error never rises.

    Args:
        valid: pixels that count (None: all).
    """
    given = replace(view, index=None)  # the exposure and the refinement are not applied again
    twist = torch.zeros(1, 6, device=image.device, requires_grad=True)
    optimizer = torch.optim.Adam([twist])
    best, least = given, math.inf
    with torch.no_grad():
        moved = scene.parts_at(given.time)  # once: where Gaussians are at a time does not depend on the camera
    with frozen(scene), torch.enable_grad():
        for step in range(config.steps + 1):
            tried = replace(given, camera_T_world=se3.exp(-twist) @ given.camera_T_world)
            render = scene.render(tried, background=background, options=options, moved=moved)
            found = render.channels["rgb"][0]
            off = (found - image).abs().mean(dim=-1)
            error = off.mean() if valid is None else off[valid].mean()
            if float(error.detach()) < least:
                best, least = replace(tried, camera_T_world=tried.camera_T_world.detach()), float(error.detach())
            if step == config.steps or not error.requires_grad:
                break
            optimizer.param_groups[0]["lr"] = config.rate_at(step)
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
    return best
