"""A clip as every loader here describes it, and what nerfstudio wants of it.

A loader's work ends with a :class:`Clip` in the world of its files; the scene frame, the split's cameras in
nerfstudio's convention and the metadata are made here, the same way for all layouts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from dataparsers.protocols import Protocol
from dyngs_plugins.priors.normalise import SceneNormalisation
from dyngs_plugins.priors.views import ClipViews, GroundTruthTracks, Priors


@dataclass(frozen=True)
class Frame:
    """One image of a clip with its camera. World coordinates are those of the files, cameras OpenCV."""

    image: Path
    world_T_camera: Float[Tensor, "4 4"]
    K: Float[Tensor, "3 3"]
    """Pixels of this image, pixel centres at +0.5."""
    frame: int
    """Time step."""
    camera: int = 0
    mask: Path | None = None
    depth: Path | None = None
    time: float | None = None
    """In [0, 1] over all splits; None: the time step over the clip's number of steps less one."""
    distortion: Float[Tensor, "6"] | None = None
    """k1, k2, k3, k4, p1, p2 (OpenCV's terms in nerfstudio's order); None: a pinhole."""

    @property
    def name(self) -> str:
        """The file's stem, which its masks, depths and tracks share."""
        return self.image.stem


@dataclass(frozen=True)
class SeedPoints:
    """A point cloud to start from, in the world of the files."""

    xyz: Float[Tensor, "n 3"]
    rgb: UInt8[Tensor, "n 3"] | None = None
    source: str = ""
    """Where it comes from, in words."""


@dataclass(frozen=True)
class Clip:
    """All splits of a clip in the world of its files."""

    train: ClipViews
    evaluation: ClipViews
    protocol: str | Protocol
    """What the evaluation views are, to be printed beside each number."""
    validation: ClipViews | None = None
    """Views of the split ``val`` where it differs from ``test``."""
    points: SeedPoints | None = None
    stored_frame: SceneNormalisation | None = None
    """A scene frame that came with the files."""
    fps: float | None = None
    ground_truth_tracks: GroundTruthTracks | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More metadata of the evaluation split."""


def clip_views(
    frames: Sequence[Frame],
    size: tuple[int, int],
    num_frames: int,
    priors: Priors,
    keyframes: tuple[int, ...] | None = None,
    background: Literal["white", "black"] | None = None,
) -> ClipViews:
    """Views of some frames, all of one ``size`` (width, height).

    Args:
        num_frames: time steps of the clip over all splits.
        background: what images with alpha are composited over; None drops their alpha.
    """
    return ClipViews(
        camera_T_world=torch.linalg.inv(torch.stack([frame.world_T_camera for frame in frames]).double()).float(),
        K=torch.stack([frame.K for frame in frames]).float(),
        width=size[0],
        height=size[1],
        frame_index=torch.tensor([frame.frame for frame in frames]),
        camera_index=torch.tensor([frame.camera for frame in frames]),
        num_frames=num_frames,
        image_files=tuple(frame.image for frame in frames),
        priors=priors,
        keyframes=keyframes,
        time_values=_times(frames, num_frames),
        distortion=_distortion(frames),
        background=background,
    )


def _times(frames: Sequence[Frame], num_frames: int) -> Float[Tensor, "v"] | None:
    if all(frame.time is None for frame in frames):
        return None
    last = max(num_frames - 1, 1)
    return torch.tensor([frame.frame / last if frame.time is None else frame.time for frame in frames])


def _distortion(frames: Sequence[Frame]) -> Float[Tensor, "v 6"] | None:
    if all(frame.distortion is None or not bool(frame.distortion.any()) for frame in frames):
        return None
    return torch.stack([torch.zeros(6) if f.distortion is None else f.distortion.float() for f in frames])


def hold_out(num_frames: int, interval: int, offset: int | None) -> tuple[set[int], str]:
    """Time steps to keep from training, and the protocol's name.

    Every ``interval``-th step from ``offset`` on. Without an offset the first one is half an interval in and the
    clip's ends are never held out, because a motion cannot be judged beyond the frames that it was fitted to.
    """
    if interval <= 0:
        return set(), "training views (nothing is held out)"
    if offset is None:
        first = interval // 2 if interval // 2 < num_frames - 1 else num_frames // 2
        held = {step for step in range(first, num_frames - 1, interval) if step > 0}
    else:
        held = set(range(offset, num_frames, interval))
    if not held or len(held) == num_frames:
        return set(), f"training views (a clip of {num_frames} frames is too short to hold any out)"
    return held, f"held-out frames (1 in {interval} from frame {min(held)} on, {len(held)} of {num_frames})"


def nearest_views(steps: Sequence[tuple[int, int]], frames: Sequence[Frame]) -> tuple[int, ...]:
    """For (camera, time step) pairs the nearest remaining view of the same camera, each view once, in order."""
    views = []
    for camera, step in steps:
        mine = [i for i, frame in enumerate(frames) if frame.camera == camera]
        if mine:
            views.append(min(mine, key=lambda i: abs(frames[i].frame - step)))
    return tuple(dict.fromkeys(views))


def pick_split(clip: Clip, split: str) -> ClipViews:
    """The views of a nerfstudio split; ``val`` and ``test`` are the same held-out views unless the layout has both."""
    if split not in ("train", "val", "test"):
        raise ValueError(f"No split {split!r}; this loader has train, val and test.")
    if split == "val" and clip.validation is not None:
        return clip.validation
    return clip.train if split == "train" else clip.evaluation


def dataparser_outputs(clip: Clip, frame: SceneNormalisation, split: str) -> DataparserOutputs:
    """A split in the scene frame, as nerfstudio takes it."""
    views = frame.views(pick_split(clip, split))
    metadata: dict[str, Any] = {
        "priors": views.priors,
        "num_frames": views.num_frames,
        "fps": clip.fps,
        "protocol": str(clip.protocol),
        "lpips_net": clip.protocol.lpips if isinstance(clip.protocol, Protocol) else "alex",
        "keyframes": views.keyframes,
        "background": views.background,
        "scene_scale": frame.scale,
    }
    if clip.points is not None:
        metadata["points3D_xyz"] = frame.points(clip.points.xyz.float())
        # The host's methods insist on colours; ours take those of an uncoloured cloud from the images.
        grey = torch.full(clip.points.xyz.shape, 127, dtype=torch.uint8)
        metadata["points3D_rgb"] = grey if clip.points.rgb is None else clip.points.rgb
        metadata["points3D_coloured"] = clip.points.rgb is not None
        metadata["points3D_source"] = clip.points.source
    if split != "train":
        tracks = clip.ground_truth_tracks
        metadata["ground_truth_tracks"] = None if tracks is None else frame.tracks(tracks)
        metadata.update(clip.extra)
    return DataparserOutputs(
        image_filenames=list(views.image_files),
        cameras=nerfstudio_cameras(views),
        # Without a background of the protocol, what alpha hides is excluded by `dynamic`.
        alpha_color=torch.zeros(3) if views.background == "black" else torch.ones(3),
        scene_box=SceneBox(aabb=torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])),
        dataparser_transform=frame.normalised_T_world[:3],
        dataparser_scale=1.0 / frame.scale,
        metadata=metadata,
    )


def nerfstudio_cameras(views: ClipViews) -> Cameras:
    """OpenGL camera-to-world, times in [0, 1] over all splits, and integer frame and camera indices."""
    world_T_camera = views.world_T_camera
    world_T_camera[:, :, 1:3] *= -1.0  # OpenCV to OpenGL: y up, z backward
    count = len(views)
    return Cameras(
        camera_to_worlds=world_T_camera[:, :3],
        fx=views.K[:, 0, 0, None],
        fy=views.K[:, 1, 1, None],
        cx=views.K[:, 0, 2, None],
        cy=views.K[:, 1, 2, None],
        width=torch.full((count, 1), views.width),
        height=torch.full((count, 1), views.height),
        camera_type=CameraType.PERSPECTIVE,
        times=views.times[:, None],
        distortion_params=views.distortion,
        metadata={"frame_index": views.frame_index[:, None], "camera_index": views.camera_index[:, None]},
    )
