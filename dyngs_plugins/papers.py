"""What each method reproduces, as data: paper, licence of the reference, published figures, and how faithful ours is.

Each module of ``method_configs`` says it beside its configs: ``PAPER = Paper(...)``, or ``PAPER = None`` for a baseline
that no paper describes. ``scripts/docs.py`` writes the README's table and ``docs/methods.md`` from these records.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Literal, get_args

Status = Literal["exact", "faithful core", "partial"]


@dataclass(frozen=True)
class Published:
    """One published figure. Without its protocol a figure compares to nothing, so none may be left out."""

    dataset: str
    metric: str
    value: float
    protocol: str
    """Split, resolution, masks, averaging: what one must do to get a comparable number."""


@dataclass(frozen=True)
class Paper:
    """A method's paper and how our re-implementation relates to it."""

    title: str
    venue: str
    year: int
    url: str
    licence: str
    """Of the reference implementation."""
    published: tuple[Published, ...]
    status: Status
    """exact: everything of the paper. faithful core: its scene, motion and losses, with the named deviations. partial:
    an approximation, named in the deviations."""
    deviations: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise ValueError(f"the status of {self.title!r} is {self.status!r}; expected one of {get_args(Status)}.")
        if self.status != "exact" and not self.deviations:
            raise ValueError(f"{self.title!r} is called {self.status!r} but names no deviation: say what differs.")


@dataclass(frozen=True)
class MethodRecord:
    """A module of ``method_configs``: the methods it defines and the paper behind them."""

    module: str
    methods: tuple[tuple[str, str], ...]
    """Command-line name and description of each, in the order of the file."""
    paper: Paper | None
    """None for a baseline."""


def all_papers(package: str = "method_configs") -> list[MethodRecord]:
    """The records of every module of ``package``, by module name.

    Raises:
        ValueError: if a module does not say what paper it stands for.
    """
    from nerfstudio.plugins.types import MethodSpecification

    records = []
    folder = importlib.import_module(package)
    for name in sorted(module.name for module in pkgutil.iter_modules(folder.__path__)):
        module = importlib.import_module(f"{package}.{name}")
        found = [value for value in vars(module).values() if isinstance(value, MethodSpecification)]
        methods = tuple((str(spec.config.method_name), spec.description) for spec in found)
        if not methods:
            continue  # a helper shared by methods
        if not hasattr(module, "PAPER"):
            raise ValueError(
                f"{package}/{name}.py defines {', '.join(method for method, _ in methods)} but no PAPER. Add "
                "PAPER = Paper(...) (see dyngs_plugins/papers.py), or PAPER = None for a baseline without a paper."
            )
        records.append(MethodRecord(f"{package}.{name}", methods, module.PAPER))
    return records
