"""``nvidia-data``: NVIDIA Dynamic Scenes in the two packs that papers train on.

::

    dynamicnerf (DynamicNeRF, RoDynRF, SplineGS, MoSca): frame i is camera i at time i
        ROOT/images/000.png ...  images_2/  poses_bounds.npy    one row per camera
        ROOT/motion_masks/000.png                               what moves
        ROOT/flow/000_{fwd,bwd}.npz                             between neighbouring frames; optional
        ROOT/gt/v000_t000.png ...                               camera 0 at every time; not in the original data pack
    nsff (NSFF, DynIBar): 24 frames, frame t is camera t mod 12
        ROOT/images/00000.png ...  poses_bounds.npy             the first 12 rows are the 12 cameras
        ROOT/motion_masks/00000.png  flow_i1/00000_{fwd,bwd}.npz
        ROOT/mv_images/00000/cam01.jpg ...  mv_masks/00000/cam01.png

What these packs call ``disp`` is a network's relative disparity, unknown in scale and shift for every image: it is
no depth of this scene and reaches no batch. Name a folder of disparities 1/z in the units of ``poses_bounds.npy`` by
``depth_type`` instead. Masks reach the batch, and so does flow between the frames where these train. A leaf module, see
:mod:`dataparsers.base`.

Sources: Yoon et al., "Novel View Synthesis of Dynamic Scenes with Globally Coherent Depths" (2020); Gao et al.,
"Dynamic View Synthesis from Dynamic Monocular Video" (2021); Li et al., "Neural Scene Flow Fields" (2021).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import ClipDataParser, ClipDataParserConfig, Layout
from dataparsers.checks import check_maps, companions
from dataparsers.clip import Clip, Frame, clip_views
from dataparsers.flow_folders import FlowTable, archives
from dataparsers.llff import frame_of_bounds
from dataparsers.nvidia_files import (
    Picture,
    find_pack,
    frame_pictures,
    ground_truth_pictures,
    has_ground_truth,
    recognise,
    rig_pictures,
    used_size,
)
from dataparsers.protocols import Protocol, pick_protocol
from dyngs_plugins.priors.llff_files import LlffCameras, read_poses_bounds
from dyngs_plugins.priors.views import ClipViews, Priors

_GT = "camera 0 at the times"
DYNAMICNERF = (
    Protocol(
        name="dynamicnerf-disjoint",
        trains="camera i at time i, 12 images",
        tests=f"{_GT} 1 to 11, none of them a training image",
        source="ours: DynamicNeRF's protocol less the one image that it trains on",
        resolution="1/2 (about 480x270)",
    ),
    Protocol(
        name="dynamicnerf",
        trains="camera i at time i, 12 images",
        tests=f"{_GT} 0 to 11; the image at time 0 IS training image 0",
        source="DynamicNeRF (Gao et al. 2021), also RoDynRF, SplineGS, MoSca",
        resolution="1/2 (about 480x270)",
    ),
    Protocol(
        name="yoon",
        trains="camera i at time i, 12 images",
        tests=f"{_GT} 1 to 10, without the first and the last",
        source="Yoon et al. 2020, comparison",
        resolution="1/2 (about 480x270)",
    ),
)
NSFF = (
    Protocol(
        name="nsff",
        trains="camera t mod 12 at time t, 24 images",
        tests="the other 11 cameras at every time, 264 images",
        source="NSFF (Li et al. 2021)",
        resolution="height 288 (areas averaged)",
        mask="all, and the moving pixels of mv_masks on their own",
    ),
    Protocol(
        name="multiview",
        trains="all cameras but the fourth at every time",
        tests="the fourth camera (index 3) at every time",
        source="ST-4DGS and other multi-view methods",
        resolution="height 288 (areas averaged)",
        mask="all, and the moving pixels of mv_masks on their own",
    ),
)
PROTOCOLS = DYNAMICNERF + NSFF
_UNALIGNED = {
    "disp": "relative disparity, shifted too",
    "depth_anything": "relative disparity, shifted too",
    "uni_depth": "depth in metres of its own",
}
"""What the packs call depth, and why it is none of these cameras."""
HELD_OUT_CAMERA = 3
"""Of the multi-view protocol."""


@dataclass
class NvidiaDataParserConfig(ClipDataParserConfig):
    """NVIDIA Dynamic Scenes, as DynamicNeRF or as NSFF packed it."""

    _target: type = field(default_factory=lambda: NvidiaDataParser)
    layout: Literal["auto", "dynamicnerf", "nsff"] = "auto"
    """Which pack it is; auto looks for gt/ and mv_images/. An empty protocol is the first one of the pack."""
    downscale_factor: int | None = None
    """Train and test at 1/n. None: half size for dynamicnerf, height 288 for nsff; smaller images are left as they
    are. Reduced copies are made once, beside the originals."""
    depth_type: str | None = None
    """Folder of disparities, 1/z in the units of poses_bounds.npy, NAME.npy for every training image of ``images/``
    at the size in use. None: no depth (the pack's own disp/ is relative to an unknown scale and shift)."""


class NvidiaDataParser(ClipDataParser):
    """Reads a pack by the generators of its protocols: (camera, time) pairs that train and that test."""

    config: NvidiaDataParserConfig

    def read(self) -> Clip:
        """Every split in the frame of ``poses_bounds.npy``.

        Raises:
            FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
        """
        root, config = Path(self.config.data), self.config
        pack = find_pack(root) if config.layout == "auto" else config.layout
        protocol = _protocol(pack, config.protocol)
        images = frame_pictures(root, pack, config.downscale_factor)
        cameras = read_poses_bounds(root / "poses_bounds.npy", len(images))
        if pack == "dynamicnerf":
            train, test, protocol = self._dynamicnerf(root, images, protocol)
            num_frames = len(images)
        else:
            train, test, num_frames = self._nsff(root, images, protocol)
        evaluation = _views(root, test, cameras, num_frames, Priors(mask_erosion=1))
        return Clip(
            train=_views(root, train, cameras, num_frames, _with_flow(root, images, train, self._depth(root, train))),
            evaluation=evaluation,
            protocol=protocol,
            stored_frame=frame_of_bounds(cameras, used_size(train), sorted({picture.row for picture in train})),
        )

    def _dynamicnerf(
        self, root: Path, images: list[Picture], protocol: Protocol
    ) -> tuple[list[Picture], list[Picture], Protocol | str]:
        if not has_ground_truth(root) and not self.config.protocol:
            warnings.warn(
                f"{root / 'gt'}: no such folder, so there is nothing to test on but training images. The test images "
                "v000_t000.png ... are not in DynamicNeRF's data pack but in its result pack, and in RoDynRF's and "
                "SplineGS's packs. Put them there for numbers that mean something.",
                stacklevel=3,
            )
            return images, images, "training views (gt/ is missing)"
        last = {"dynamicnerf-disjoint": len(images), "dynamicnerf": len(images), "yoon": len(images) - 1}[protocol.name]
        first = 0 if protocol.name == "dynamicnerf" else 1
        truth = ground_truth_pictures(root, len(images), used_size(images))
        return images, truth[first:last], protocol

    def _nsff(self, root: Path, images: list[Picture], protocol: Protocol) -> tuple[list[Picture], list[Picture], int]:
        num_frames = min(len(images), 24)
        rig = rig_pictures(root, num_frames, len(images), self.config.downscale_factor)
        count = 1 + max(picture.camera for picture in rig)
        if protocol.name == "multiview":
            if count <= HELD_OUT_CAMERA + 1:
                raise ValueError(f"{root / 'mv_images'}: found {count} cameras; the multiview protocol holds out the "
                                 "fourth and needs more than that. Choose --protocol nsff.")  # fmt: skip
            if self.config.depth_type is not None:
                raise ValueError(f"depth_type is {self.config.depth_type!r}, but it belongs to images/, and the "
                                 "multiview protocol trains on mv_images/. Leave it out.")  # fmt: skip
            return (
                [p for p in rig if p.camera != HELD_OUT_CAMERA],
                [p for p in rig if p.camera == HELD_OUT_CAMERA],
                num_frames,
            )
        train = [replace(p, camera=p.frame % count) for p in images[:num_frames]]
        return train, [p for p in rig if p.camera != p.frame % count], num_frames

    def _depth(self, root: Path, train: Sequence[Picture]) -> Priors:
        """The folder of depth_type, checked; masks are added by the views."""
        name = self.config.depth_type
        if name is None:
            return Priors(mask_erosion=3)
        if name in _UNALIGNED:
            raise ValueError(
                f"depth_type is {name!r}, which holds a network's {_UNALIGNED[name]}: its scale differs from image to "
                "image and from the cameras. Expected 1/z in the units of poses_bounds.npy. Align it to the cameras "
                "first (`dyngs process` writes aligned_depth_anything/), or train without depth."
            )
        folder = root / name
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder. Expected the disparities of depth_type.")
        files = companions([p.image for p in train], folder, ".npy", "disparity map")
        check_maps(files, used_size(train), "disparity")
        return Priors(depth_files=files, depth_kind="disparity", depth_median=1, mask_erosion=3)


def _with_flow(root: Path, images: Sequence[Picture], train: Sequence[Picture], priors: Priors) -> Priors:
    """The priors with flow between neighbouring frames of ``images``, which the multi-view protocol does not train on."""
    folder = next((root / name for name in ("flow", "flow_i1") if (root / name).is_dir()), None)
    if folder is None or train[0].image != images[0].image:
        return priors
    table = FlowTable(len(train), used_size(train))
    table.add(range(len(train)), archives(folder, [picture.image.stem for picture in train]))
    return table.onto(priors)


def _protocol(pack: str, name: str) -> Protocol:
    """The protocol of that name among those of the pack."""
    mine, other = (DYNAMICNERF, NSFF) if pack == "dynamicnerf" else (NSFF, DYNAMICNERF)
    if name in {protocol.name for protocol in other}:
        raise ValueError(
            f"protocol is {name!r}, but the folder is a {pack} pack; expected one of "
            f"{', '.join(protocol.name for protocol in mine)}. Numbers of the two packs do not compare."
        )
    return pick_protocol(mine, name)


def _views(root: Path, pictures: Sequence[Picture], cameras: LlffCameras, num_frames: int, priors: Priors) -> ClipViews:
    """Views of some pictures with their cameras and masks."""
    size = used_size(pictures)
    K, poses = _intrinsics(root, pictures[0].image, cameras, size), torch.from_numpy(cameras.world_T_camera)
    frames = [Frame(p.image, poses[p.row], K[p.row], p.frame, p.camera, p.mask) for p in pictures]
    masks = tuple(picture.mask for picture in pictures)
    return clip_views(frames, size, num_frames, replace(priors, mask_files=masks if any(masks) else None))


def _intrinsics(root: Path, image: Path, cameras: LlffCameras, size: tuple[int, int]) -> torch.Tensor:
    """K of every row for images of ``size``, whose shape must be that which the rows say."""
    height, width = cameras.hwf[0, :2]
    if abs(np.log((size[0] / size[1]) / (width / height))) > 0.03:
        raise ValueError(
            f"{image}: the image is {size[0]}x{size[1]}, but {root / 'poses_bounds.npy'} has cameras of "
            f"{width:g}x{height:g}, another shape. Expected the images that the cameras were solved on, or evenly "
            "reduced ones: is the file that of another scene, or are the images cropped?"
        )
    return torch.from_numpy(cameras.K(*size))


LAYOUT = Layout(
    command="nvidia-data",
    title="NVIDIA Dynamic Scenes",
    expects="images, poses_bounds.npy, motion_masks, flow; with gt (DynamicNeRF's pack) or mv_images, mv_masks (NSFF's "
    "pack)",
    get_it="the data packs of DynamicNeRF, RoDynRF or SplineGS; the data pack of NSFF",
    config=NvidiaDataParserConfig,
    protocols=PROTOCOLS,
    recognise=recognise,
)

nvidia_data = DataParserSpecification(
    config=NvidiaDataParserConfig(),
    description="NVIDIA Dynamic Scenes: DynamicNeRF's 12-view pack, or NSFF's 24 frames with all cameras.",
)
