"""``d2rf-data``: D2RF's stereo clips in shallow focus.

::

    ROOT/images_bokeh/{t:06d}_{left,right}.jpg    out of focus: what trains
    ROOT/images/{t:06d}_{left,right}.jpg          the same, all in focus: what tests
    ROOT/images_2/                                images_bokeh at 1/2, made if it is not there
    ROOT/poses_bounds.npy                         two rows per step: left, right
    ROOT/sparse/0/                                COLMAP's model: seed points, and the scale of dpt/; optional
    ROOT/dpt/NAME.npy                             DPT's disparity, without a scale; optional
    ROOT/motion_masks/, background_mask/          one per image; optional
    ROOT/flow_i1/NAME_{fwd,bwd}.npz               between the left images; optional

Neighbours in time are those of the same camera (the released code takes the other camera's). A leaf module.

Source: Luo et al., "Dynamic Neural Radiance Field From Defocused Monocular Video" (2024), code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import Layout
from dataparsers.bounded import BoundedDataParser, BoundedDataParserConfig
from dataparsers.checks import common_image_size, image_size, require_images
from dataparsers.clip import Clip, Frame, clip_views
from dataparsers.colmap_model import registered
from dataparsers.flow_folders import FlowTable, archives
from dataparsers.image_folders import reduced_images
from dataparsers.layouts import median_side
from dataparsers.llff import frame_of_bounds, points_beside
from dataparsers.protocols import Protocol, pick_protocol
from dataparsers.shipped_priors import aligned_disparity, masks_beside
from dyngs_plugins.priors.colmap_files import find_model, read_model
from dyngs_plugins.priors.files import check_size
from dyngs_plugins.priors.llff_files import LlffCameras, read_poses_bounds
from dyngs_plugins.priors.views import Priors

PROTOCOLS = (
    Protocol(
        name="left-right",
        trains="the left camera's out-of-focus images",
        tests="the right camera's all-in-focus images at the same times",
        source="D2RF (Luo et al. 2024), code: llffhold 2 from 1",
        resolution="1/2 (areas averaged)",
        poses="given (COLMAP over both cameras)",
    ),
    Protocol(
        name="both",
        trains="both cameras' out-of-focus images",
        tests="the right camera's all-in-focus images: views that train, out of focus",
        source="this project: deblurring with two training cameras",
        resolution="1/2 (areas averaged)",
        poses="given (COLMAP over both cameras)",
    ),
)


@dataclass
class D2rfDataParserConfig(BoundedDataParserConfig):
    """A stereo clip in shallow focus."""

    _target: type = field(default_factory=lambda: D2rfDataParser)
    downscale_factor: int = 2
    """Train and test at 1/n."""
    bd_factor: float | None = 0.9
    bounds_percentile: float = 5.0


class D2rfDataParser(BoundedDataParser):
    """Left and right images alternate; priors are those of the images that train."""

    config: D2rfDataParserConfig
    _background: tuple[Path, ...] | None = None

    def read(self) -> Clip:
        """Both cameras in the world of ``poses_bounds.npy``.

        Raises:
            FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
        """
        root, factor = Path(self.config.data), int(self.config.downscale_factor)
        self.check_frame_options()
        protocol = pick_protocol(PROTOCOLS, self.config.protocol)
        bokeh = stereo_pairs(require_images(root / "images_bokeh", "d2rf-data reads images_bokeh/ of --data."))
        sharp = _sharp(root, bokeh)
        rows = read_poses_bounds(root / "poses_bounds.npy", len(bokeh))
        images = reduced_images(bokeh, root / f"images_{factor}", factor)
        size = common_image_size(images)
        tested = reduced_images(sharp, root / f"images_sharp_{factor}", factor)
        for path in tested:
            width, height = image_size(path)
            check_size(path, "all-in-focus image", (height, width), (size[1], size[0]))
        poses, K = torch.from_numpy(rows.world_T_camera), torch.from_numpy(rows.K(*size))
        frames = [Frame(image, poses[i], K[i], i // 2, i % 2) for i, image in enumerate(images)]
        test = [Frame(image, poses[2 * i + 1], K[2 * i + 1], i, 1) for i, image in enumerate(tested)]
        kept = list(range(0, len(frames), 2)) if protocol.name == "left-right" else list(range(len(frames)))
        places = {image: i for i, image in enumerate(images)} | {path: 2 * i + 1 for i, path in enumerate(tested)}
        frame = self.know_bounds(rows, places, size, kept)
        train = [frames[i] for i in kept]
        self._background = masks_beside([f.image for f in train], root / "background_mask", size)
        # Where the right camera trains too, its masks are priors of training.
        seen = masks_beside(tested, root / "motion_masks", size) if protocol.name == "left-right" else None
        return Clip(
            clip_views(
                train, size, len(bokeh) // 2, _with_flow(root, self._priors(root, train, rows, kept, size), train, size)
            ),
            clip_views(test, size, len(bokeh) // 2, Priors(mask_files=seen, mask_erosion=3)),
            protocol,
            points=points_beside(root, [path.name for path in bokeh], rows, kept),
            stored_frame=frame or frame_of_bounds(rows, size, kept),
        )

    def _priors(
        self, root: Path, train: Sequence[Frame], rows: LlffCameras, kept: Sequence[int], size: tuple[int, int]
    ) -> Priors:
        images = [frame.image for frame in train]
        masks, depths = masks_beside(images, root / "motion_masks", size), None
        if (root / "dpt").is_dir():
            folder = root / "sparse" / "0"
            model = read_model(folder) if find_model(folder) else None
            known = registered(folder, model, [path.name for path in images]) if model else {}
            bounds = rows.bounds[list(kept)]
            depths = aligned_disparity(images, root / "dpt", size, bounds, model, known, root / "poses_bounds.npy")
        provider = {"depth": "DPT, brought to scale by COLMAP's points or by the bounds"} if depths else {}
        return Priors(depths, masks, mask_erosion=3, depth_median=median_side(size), providers=provider)

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs) -> DataparserOutputs:
        """Adds ``background_mask_files`` to the training metadata."""
        outputs = super()._generate_dataparser_outputs(split, **kwargs)
        if split == "train":
            outputs.metadata["background_mask_files"] = self._background
        return outputs


def _with_flow(root: Path, priors: Priors, train: Sequence[Frame], size: tuple[int, int]) -> Priors:
    """The priors with the flow between the left images, if there is some."""
    if not (root / "flow_i1").is_dir():
        return priors
    left = [i for i, frame in enumerate(train) if frame.camera == 0]
    table = FlowTable(len(train), size)
    table.add(left, archives(root / "flow_i1", [train[i].name for i in left]))
    return table.onto(priors)


def stereo_pairs(images: Sequence[Path]) -> list[Path]:
    """Images whose sorted names alternate ``_left`` and ``_right`` of the same step.

    Raises:
        ValueError: they do not.
    """
    for i, path in enumerate(images):
        side = ("_left", "_right")[i % 2]
        partner = images[i - i % 2].stem.removesuffix("_left")
        if path.stem != f"{partner}{side}":
            raise ValueError(
                f"{path}: found this as image {i + 1} of {len(images)}. Expected pairs of names, "
                f"{partner}_left and {partner}_right. Is an image missing, or named otherwise?"
            )
    if len(images) % 2:
        raise ValueError(f"{images[-1]}: it has no right image. Expected pairs: copy {images[-1].parent} again.")
    return list(images)


def _sharp(root: Path, bokeh: Sequence[Path]) -> list[Path]:
    """The all-in-focus picture of each right image."""
    found = {path.stem: path for path in require_images(root / "images", "They are the all-in-focus images that test.")}
    missing = [path.stem for path in bokeh[1::2] if path.stem not in found]
    if missing:
        raise FileNotFoundError(
            f"{root / 'images' / missing[0]}.jpg: no such all-in-focus image; {len(missing)} of {len(bokeh) // 2} are "
            "missing. Expected one for every right image. Copy the folder again."
        )
    return [found[path.stem] for path in bokeh[1::2]]


def _recognise(root: Path) -> str | None:
    if (root / "images_bokeh").is_dir() and (root / "poses_bounds.npy").is_file():
        return "images_bokeh/ beside poses_bounds.npy"
    return None


LAYOUT = Layout(
    command="d2rf-data",
    title="D2RF",
    expects="images_bokeh/ and images/ with NAME_left, NAME_right; poses_bounds.npy; dpt, masks, flow, sparse/0 if any",
    get_it="the D2RF project's archive (eight scenes made from stereo film clips)",
    config=D2rfDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

d2rf_data = DataParserSpecification(
    config=D2rfDataParserConfig(),
    description="D2RF's stereo clips in shallow focus: the left camera trains, the right one tests, all in focus.",
)
