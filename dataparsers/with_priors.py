"""``with-priors-data``: a data set of any layout, with priors of its training views that lie in a folder of their own.

::

    ROOT/with_priors.json                  the data set's folder, layout and protocol, and the names of its frames
    ROOT/KIND/SEQ/NAME...                  priors as in a clip folder, see docs/priors.md

``dyngs process DATASET --out ROOT`` makes such a folder and leaves the data set as it is. The data set is read by its own
loader. Priors here come before those that it ships. A leaf module, see :mod:`dataparsers.base`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from dataparsers.base import ClipDataParser, ClipDataParserConfig, Layout
from dataparsers.checks import check_maps, check_masks, check_tracks, either_case
from dataparsers.clip import Clip
from dataparsers.flow_folders import FlowTable, arrays
from dataparsers.layouts import median_side
from dataparsers.protocols import Protocol, pick_protocol
from dataparsers.view_subset import subset_views
from dyngs_plugins.priors.added_priors import RECORD, AddedFrame, AddedPriors, read_added_priors
from dyngs_plugins.priors.clip_files import read_json
from dyngs_plugins.priors.normalise import IDENTITY, SceneNormalisation
from dyngs_plugins.priors.prior_kinds import KINDS
from dyngs_plugins.priors.track_windows import open_tracks
from dyngs_plugins.priors.views import ClipViews, Priors

PROTOCOLS = (
    Protocol(
        name="data-set",
        trains="what the data set's protocol trains on, as far as it has priors here",
        tests="what the data set's protocol tests on",
        source="the data set's own loader; with_priors.json names protocol and folder",
        poses="as the data set's protocol says",
    ),
)


@dataclass
class WithPriorsDataParserConfig(ClipDataParserConfig):
    """A data set with priors added beside it."""

    _target: type = field(default_factory=lambda: WithPriorsDataParser)
    mask_erosion: int = 3
    """Side in pixels of the box that erodes added masks to both sides."""
    depth_median: int | None = None
    """Side in pixels of the median filter on added depth; 1 turns it off (default: 11, less for images below 480)."""


class WithPriorsDataParser(ClipDataParser):
    """Stands for the dataparser of the data set, whose training views get more priors."""

    config: WithPriorsDataParserConfig
    _inner: ClipDataParser | None = None

    def read(self) -> Clip:
        """The data set's clip with the priors added.

        Raises:
            FileNotFoundError, ValueError: with the file, what was expected, what was found and what to try.
        """
        root = Path(self.config.data)
        pick_protocol(PROTOCOLS, self.config.protocol)
        added = read_added_priors(root)
        unknown = sorted(set(added.kinds) - set(KINDS))
        if unknown:
            raise ValueError(f"{root / RECORD}: kinds names {', '.join(unknown)}; expected some of {', '.join(KINDS)}. "
                             "Correct the file.")  # fmt: skip
        self._inner = _loader(root, added)
        clip = self._inner.read()
        frames, train = _match(root, added, clip.train)
        priors = self._with_files(root, added, frames, train)
        return replace(clip, train=replace(train, priors=priors))

    def scene_frame(self, clip: Clip) -> SceneNormalisation:
        """That which the data set's loader takes, from the priors of both."""
        assert self._inner is not None  # `parsed` reads first
        return self._inner.scene_frame(clip) if self.config.scene_normalisation else IDENTITY

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs) -> DataparserOutputs:
        parsed = self.parsed()
        assert self._inner is not None
        self._inner._parsed = parsed  # so that what the loader says beside cameras and priors is said too
        return self._inner._generate_dataparser_outputs(split, **kwargs)

    def _with_files(
        self, root: Path, added: AddedPriors, frames: Sequence[tuple[str, AddedFrame]], train: ClipViews
    ) -> Priors:
        """The priors of both, those of ``root`` first. Every file is checked."""
        priors, size = train.priors, (train.width, train.height)

        def folder(kind: str, sequence: str) -> Path:
            return root / KINDS[kind].folder_name / sequence

        def files(kind: str, suffix: str) -> tuple[Path, ...]:
            found = tuple(either_case(folder(kind, sequence) / f"{frame.name}{suffix}") for sequence, frame in frames)
            _require(found, kind)
            return found

        if "masks" in added.kinds:
            masks = files("masks", ".png")
            check_masks(masks, size)
            priors = replace(priors, mask_files=masks, mask_erosion=self.config.mask_erosion)
        if "depth" in added.kinds:
            depths = files("depth", ".npy")
            check_maps(depths, size, "disparity")
            side = self.config.depth_median or median_side(size)
            priors = replace(
                priors, depth_files=depths, depth_kind="disparity", depth_scale=1.0, depth_median=side,
                disparity_floor=Priors.disparity_floor, depth_max=float("inf"),
            )  # fmt: skip
        if "tracks" in added.kinds:
            for sequence, listed in added.sequences.items():
                check_tracks(folder("tracks", sequence), [frame.name for frame in listed])
            store = open_tracks([folder("tracks", s) for s, _ in frames], [frame.name for _, frame in frames])
            priors = replace(priors, tracks=store)
        if "flow" in added.kinds:
            table = FlowTable(len(train), size)
            for sequence, listed in added.sequences.items():
                if not folder("flow", sequence).is_dir():
                    raise FileNotFoundError(f"{folder('flow', sequence)}: no such folder. Expected flow of the training "
                                            "views. Run the same `dyngs process` command again.")  # fmt: skip
                places = {frame: i for i, (name, frame) in enumerate(frames) if name == sequence}
                find = arrays(folder("flow", sequence), [frame.name for frame in listed])
                table.add([places[frame] for frame in listed], find)
            priors = table.onto(priors)
        return replace(priors, providers={**priors.providers, **_providers(root, added)})


def _loader(root: Path, added: AddedPriors) -> ClipDataParser:
    """The data set's own dataparser."""
    from dataparsers.registry import named_layout

    try:
        layout = named_layout(added.layout)
        if layout.config is not WithPriorsDataParserConfig:
            layout.protocol(added.protocol)
    except ValueError as error:
        raise ValueError(f"{root / RECORD}: {error} Correct the file, or run `dyngs process` again.") from error
    if layout.config is WithPriorsDataParserConfig:
        raise ValueError(
            f"{root / RECORD}: its data set is itself one with added priors. Name the data set of that one."
        )
    known, given = {f.name for f in fields(layout.config)}, _options(added)
    parser = layout.config(data=added.dataset, **{k: v for k, v in given.items() if k in known}).setup()
    assert isinstance(parser, ClipDataParser)
    return parser


def _options(added: AddedPriors) -> dict[str, Any]:
    factor = {} if added.downscale_factor is None else {"downscale_factor": added.downscale_factor}
    return {"protocol": added.protocol, "required_priors": (), **factor}


def _match(root: Path, added: AddedPriors, train: ClipViews) -> tuple[list[tuple[str, AddedFrame]], ClipViews]:
    """The frame (and its sequence) of each training view that has priors here, and those views."""
    listed = {(f.camera, f.step): (name, f) for name, frames in added.sequences.items() for f in frames}
    keys = list(zip(train.camera_index.tolist(), train.frame_index.tolist(), strict=True))
    absent = sorted(set(listed) - set(keys))
    if absent:
        raise ValueError(
            f"{root / RECORD}: it lists camera {absent[0][0]} at time step {absent[0][1]}, but {added.dataset} has no "
            f"such training view ({len(absent)} of {len(listed)} are absent). Was the data set changed? Run `dyngs "
            "process` on it again, with a new --out."
        )
    keep = [i for i, key in enumerate(keys) if key in listed]
    return [listed[keys[i]] for i in keep], train if len(keep) == len(train) else subset_views(train, keep)


def _require(files: Sequence[Path], kind: str) -> None:
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]}: no such file; {len(missing)} of {len(files)} {kind} files are missing. Expected one for every "
            "training view. Run the same `dyngs process` command again: it makes what is missing."
        )


def _providers(root: Path, added: AddedPriors) -> dict[str, str]:
    """Who made each kind."""
    first = next(iter(added.sequences))
    paths = {kind: root / KINDS[kind].folder_name / first / "provider.json" for kind in added.kinds}
    found = {kind: read_json(path, "provider record") for kind, path in paths.items() if path.is_file()}
    return {kind: str(record.get("provider", "unknown")) for kind, record in found.items()}


def _recognise(root: Path) -> str | None:
    return f"{RECORD}: priors of a data set that lies elsewhere" if (root / RECORD).is_file() else None


LAYOUT = Layout(
    command="with-priors-data",
    title="A data set with added priors",
    expects=f"{RECORD}; masks/SEQ, aligned_depth_anything/SEQ, tracks/SEQ, flow/SEQ for what the data set lacks",
    get_it="`dyngs process DATASET --out FOLDER` makes it of any layout here",
    config=WithPriorsDataParserConfig,
    protocols=PROTOCOLS,
    recognise=_recognise,
)

with_priors_data = DataParserSpecification(
    config=WithPriorsDataParserConfig(),
    description="A data set of any layout with priors that `dyngs process` put into a folder beside it.",
)
