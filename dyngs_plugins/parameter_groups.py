"""A component's parameters under the names by which optimizers and schedules know them."""

from __future__ import annotations

from torch import nn


def parameter_groups(module: nn.Module, prefix: str) -> dict[str, list[nn.Parameter]]:
    """One group per parameter of the module's own and per part that has parameters, ``<prefix>_<name>``."""
    groups = {name: [parameter] for name, parameter in module.named_parameters(recurse=False)}
    groups.update({name: list(part.parameters()) for name, part in module.named_children()})
    return {f"{prefix}_{name}": parameters for name, parameters in groups.items() if parameters}
