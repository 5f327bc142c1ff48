"""Which losses a clip can feed: a loss that compares a render with something the clip lacks stays off, and says so."""

from __future__ import annotations

from collections.abc import Iterable

from dyngs_plugins.objective import look_up
from dyngs_plugins.priors.views import ClipViews


def unfed_losses(names: Iterable[str], views: ClipViews) -> dict[str, str]:
    """The losses (of those named) that have nothing to compare their renders with, and what they lack."""
    kinds = {
        "dynamic": ("masks", views.priors.mask_files),
        "depth": ("depth", views.priors.depth_files),
        "targets": ("tracks", views.tracks),
        "flow": ("flow", views.priors.has_flow or None),
        "normals": ("normals", views.priors.normal_files),
    }
    lacking = {need: kind for need, (kind, files) in kinds.items() if files is None}
    found = {name: [lacking[need] for need in sorted(look_up(name).needs) if need in lacking] for name in names}
    return {name: " and ".join(missing) for name, missing in found.items() if missing}


def explain(unfed: dict[str, str]) -> str:
    """One sentence for the start of a training."""
    parts = [f"'{name}' (no {missing})" for name, missing in unfed.items()]
    return f"Losses that stay off, because the clip lacks what they compare with: {', '.join(parts)}."
