"""``auto-data``: looks which layout a folder has, says so, and hands over to that layout's own dataparser. Of a film or
bare images it makes a clip first.

What our methods read by default. A leaf module, see :mod:`dataparsers.base`; the layouts are imported when a folder is
read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from nerfstudio.utils.rich_utils import CONSOLE

from dataparsers.base import ClipDataParserConfig
from dataparsers.own_footage import is_own_footage, prepared_clip
from dyngs_plugins.config import GrowingConfig

LayoutOptions = dict[str, dict[str, Any]]
"""Values of a layout's options, by its command and the option's name."""


@dataclass
class AutoDataParserConfig(GrowingConfig, DataParserConfig):
    """Whatever layout the folder has. For a layout's own options name it instead, e.g. som-data --sequence A."""

    _target: type = field(default_factory=lambda: AutoDataParser)
    data: Path = Path()
    """The scene's folder; or a film or a folder of bare images, of which a clip is made beside it, once."""
    layout: str = ""
    """The layout's command, e.g. llff-data; empty recognises it."""
    protocol: str = ""
    """Name of the split and evaluation protocol; empty takes the layout's first. A wrong name lists them all."""
    downscale_factor: int | None = None
    """Train on images at 1/n, where the layout can; None takes the layout's own default."""
    options: Annotated[LayoutOptions, tyro.conf.Suppress] = field(default_factory=dict)
    """What a method wants otherwise than a layout's own defaults: ``{"som-data": {"mask_erosion": 3}}``."""


class AutoDataParser(DataParser):
    """Stands for the dataparser of the folder's layout, which it makes when the first split is asked for."""

    config: AutoDataParserConfig
    includes_time: bool = True

    def __init__(self, config: AutoDataParserConfig):
        super().__init__(config=config)
        self._chosen: DataParser | None = None

    @property
    def chosen(self) -> DataParser:
        """The dataparser of the folder's layout.

        Raises:
            FileNotFoundError, ValueError: see :func:`dataparsers.registry.recognise` and :func:`layout_config`.
        """
        if self._chosen is None:
            chosen: DataParser = layout_config(self.config).setup()
            self._chosen = chosen
        return self._chosen

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        return self.chosen.get_dataparser_outputs(split, **kwargs)


def layout_config(config: AutoDataParserConfig) -> ClipDataParserConfig:
    """The config of the folder's layout: its defaults, the method's options, and what was given to auto-data.

    Says on the console which layout it is, and why.

    Raises:
        FileNotFoundError, ValueError: no layout or several, an unknown one, or an option that it does not have.
    """
    from dataparsers.registry import named_layout, recognise

    root = Path(config.data)
    if is_own_footage(root):
        root = prepared_clip(root)
    if config.layout:
        layout, why = named_layout(config.layout), "as told"
    else:
        found = recognise(root)
        layout, why = found.layout, found.why
    said = f"{root}: {layout.title} ({layout.command}), {why}. Its options go last: {layout.command} --..."
    CONSOLE.print(said, markup=False, soft_wrap=True)
    known = {f.name for f in fields(layout.config)}
    values = dict(_checked(config.options, layout.command, known))
    if config.protocol:
        values["protocol"] = config.protocol
    if config.downscale_factor is not None:
        if "downscale_factor" not in known:
            raise ValueError(
                f"downscale_factor is {config.downscale_factor}, but {layout.command} reads images of one size. Leave "
                "it out."
            )
        values["downscale_factor"] = config.downscale_factor
    return layout.config(data=root, **values)


def with_options(config: Any, options: LayoutOptions) -> Any:
    """A dataparser's config with what a method wants of layouts, also where the user named a layout's loader.

    Only options that nobody has set (None) are filled in; other dataparsers' configs are returned as they are.

    Raises:
        ValueError: a layout that there is not, or an option that it does not have.
    """
    from dataparsers.registry import all_layouts

    if not options:
        return config
    if isinstance(config, AutoDataParserConfig):
        return replace(
            config,
            options=config.options | {name: values | config.options.get(name, {}) for name, values in options.items()},
        )
    for command, layout in all_layouts().items():
        if type(config) is layout.config:
            wanted = _checked(options, command, {f.name for f in fields(layout.config)})
            return replace(config, **{k: value for k, value in wanted.items() if getattr(config, k) is None})
    return config


def _checked(options: LayoutOptions, command: str, known: set[str]) -> dict[str, Any]:
    """The options for one layout.

    Raises:
        ValueError: a layout that there is not, or an option that this one does not have.
    """
    from dataparsers.registry import all_layouts

    strange = sorted(set(options) - set(all_layouts()))
    if strange:
        raise ValueError(
            f"options of {', '.join(strange)}: no such layout. Expected some of {', '.join(all_layouts())}. Correct the "
            "method's config (or config.yml)."
        )
    mine = options.get(command, {})
    unknown = sorted(set(mine) - known)
    if unknown:
        raise ValueError(
            f"options of {command}: found {', '.join(unknown)}; expected some of {', '.join(sorted(known))}. Correct "
            "the method's config (or config.yml)."
        )
    return mine


auto_data = DataParserSpecification(
    config=AutoDataParserConfig(),
    description="Recognises the layout of the folder, says which and why, and reads it with that layout's loader.",
)
