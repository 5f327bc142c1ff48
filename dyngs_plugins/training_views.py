"""The host seam for what training knows of its own views: refined poses, exposures, and where a camera lies among them.

The viewer, ``ns-export cameras``, ``ns-render interpolate`` and the evaluation see training cameras where training has
moved them: refined, and in the middle of their exposures.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.camera_optimizers import CameraOptimizer, CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.viewer_elements import ViewerCheckbox
from torch import Tensor

from dyngs_plugins.cameras import OPENGL_TO_OPENCV, PathClock
from dyngs_plugins.exposure import se3
from dyngs_plugins.exposure.base import Mode
from dyngs_plugins.host_cameras import timed_paths, views_of
from dyngs_plugins.scene import Scene, Views

SAME_POSE = 1e-3
"""How far apart, per entry of the matrix, two poses of one camera may be through rounding."""


class TrainingViews:
    """Mixed into the model: its training views with the cameras that training has found for them."""

    scene: Scene
    device: torch.device
    clock: PathClock
    train_views: Views | None = None
    """All training views with their given cameras; None before the pipeline has told."""
    show_blurred: ViewerCheckbox | None = None
    """In the viewer: show the nearest training view as it was exposed."""

    def know_cameras(self, splits: list[Cameras]) -> None:
        """Remember the training views (the first split), and the paths on which cameras without times are placed."""
        self.clock = PathClock(timed_paths(splits), self.clock.default)
        index = torch.arange(len(splits[0]), device=self.device)
        self.train_views = views_of(splits[0], self.clock, self.device, index)
        if not self.scene.exposure.sharp:
            self.show_blurred = ViewerCheckbox("Show the blurred training view", False)
        if self.changes_cameras:
            self.camera_optimizer = FoundCameras(self)  # for the host's viewer and exporter, which test for it

    def training_views(self, index: Int[Tensor, "b"]) -> Views:
        """Training views with their cameras as refined."""
        assert self.train_views is not None
        known = self.train_views
        index = index.to(known.time.device)
        chosen = Views(known.camera_T_world[index], known.K[index], known.time[index], known.width, known.height, index)
        return self.scene.refined(chosen)

    @property
    def changes_cameras(self) -> bool:
        """Whether training views are seen from elsewhere than their files say."""
        cameras = self.scene.cameras
        refines = cameras is not None and any(True for _ in cameras.parameters())
        return refines or not self.scene.exposure.sharp

    @torch.no_grad()
    def found_poses(self, index: Int[Tensor, "b"]) -> Float[Tensor, "b 4 4"]:
        """``camera_T_world`` of training views, refined, in the middle of their exposures."""
        views = self.training_views(index)
        instants = self.scene.exposure.instants(views.camera_T_world, views.K, views.time, views.index, "mid")
        return instants.camera_T_world

    @torch.no_grad()
    def found_motion(self, index: Int[Tensor, "b"]) -> Float[Tensor, "b 4 4"]:
        """``given_T_found``: how training has moved the cameras of training views, in their own frames."""
        assert self.train_views is not None
        given = self.train_views.camera_T_world[index.to(self.train_views.time.device)]
        return given @ se3.invert(self.found_poses(index))

    def training_view_at(self, view: Views) -> int | None:
        """The training view that has the given camera and time of a single view, or None."""
        known = self.train_views
        if known is None or len(known) == 0:
            return None
        off = (known.camera_T_world - view.camera_T_world.to(known.camera_T_world)).abs().amax(dim=(1, 2))
        off = off + (known.time - view.time.to(known.time)).abs()
        best = int(off.argmin())
        return best if float(off[best]) < SAME_POSE else None

    def nearest_training_view(self, view: Views) -> int | None:
        """The training view nearest in time, then in pose."""
        known = self.train_views
        if known is None or len(known) == 0:
            return None
        lag = (known.time - view.time.to(known.time)).abs()
        off = (known.camera_T_world - view.camera_T_world.to(known.camera_T_world)).abs().amax(dim=(1, 2))
        return int(torch.where(lag <= lag.min() + 1e-6, off, torch.inf).argmin())

    def shown(self, camera: Cameras) -> tuple[Views, Mode]:
        """What to render for a camera of the host's: itself, or the training view that it is or stands for.

        A camera with the pose and time of a training view is that view, seen from where training has found it.
        """
        views = views_of(camera, self.clock, self.device)
        if len(views) != 1 or self.train_views is None or not self.changes_cameras:
            return views, "mid"
        if self.show_blurred is not None and self.show_blurred.value:
            nearest = self.nearest_training_view(views)
            if nearest is not None:
                row = torch.tensor([nearest], device=self.device)
                known = self.train_views
                shown = replace(views, camera_T_world=known.camera_T_world[row], time=known.time[row], index=row)
                return self.scene.refined(shown), "train"
        same = self.training_view_at(views)
        if same is not None:
            return self.scene.refined(replace(views, index=torch.tensor([same], device=self.device))), "mid"
        return self.on_the_found_path(camera, views), "mid"

    def on_the_found_path(self, camera: Cameras, views: Views) -> Views:
        """Cameras without times walk from pose to pose of the given path: take them along the path that was found."""
        if camera.times is not None or self.train_views is None or not self.changes_cameras:
            return views
        moved = []
        for pose, camera_T_world in zip(camera.camera_to_worlds, views.camera_T_world, strict=True):
            place = self.clock.place_of(pose)
            if place is None or place.split != 0:
                moved.append(camera_T_world)
                continue
            ends = se3.log(self.found_motion(torch.tensor([place.before, place.after])))
            twist = ends[0] * (1 - place.share) + ends[1] * place.share
            moved.append(se3.exp(-twist) @ camera_T_world)
        return replace(views, camera_T_world=torch.stack(moved))


class FoundCameras(CameraOptimizer):
    """The found poses of training views in the form in which the host asks for them."""

    def __init__(self, training: TrainingViews):
        assert training.train_views is not None
        super().__init__(CameraOptimizerConfig(), len(training.train_views), training.device)
        self._found_motion = weakref.WeakMethod(training.found_motion)  # the model holds this module, not it the model
        self._known = training.train_views

    def forward(self, indices: Int[Tensor, "b"]) -> Float[Tensor, "b 3 4"]:
        """``given_T_found`` with OpenGL axes."""
        axes = torch.tensor([*OPENGL_TO_OPENCV, 1.0], device=self.device)
        return (axes[:, None] * self._motion(indices) * axes)[:, :3]

    def _motion(self, indices: Int[Tensor, "b"]) -> Float[Tensor, "b 4 4"]:
        found_motion = self._found_motion()
        assert found_motion is not None
        return found_motion(indices)

    def apply_to_camera(self, camera: Cameras) -> Float[Tensor, "b 3 4"]:
        """Found camera-to-world matrices of training views; other cameras as they are."""
        metadata: dict[str, Any] = camera.metadata or {}
        given = camera.camera_to_worlds
        known, index = self._known, metadata.get("cam_idx")
        if index is None or int(index) >= len(known):
            return given
        view = views_of(camera, PathClock([]), known.time.device)
        # The host numbers evaluation cameras in the same way: the pose tells which are meant.
        if float((known.camera_T_world[int(index)] - view.camera_T_world[0]).abs().max()) > SAME_POSE:
            return given
        bottom = given.new_tensor([[[0.0, 0.0, 0.0, 1.0]]])
        delta = self.forward(torch.tensor([int(index)])).to(given)
        return torch.cat([given, bottom], dim=1)[:, :3] @ torch.cat([delta, bottom], dim=1)
