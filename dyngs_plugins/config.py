"""The one config base class of the parts that do not import nerfstudio: a dataclass that builds what it configures."""

from dataclasses import dataclass
from typing import Any


@dataclass
class ComponentConfig:
    """Settings of a component; ``setup(...)`` builds it as ``_target(config, ...)``.

    The same shape as nerfstudio's ``InstantiateConfig``, so that it nests in the host's configs, its command line and
    its ``config.yml``, while motion fields and exposure models stay importable without the host.
    """

    _target: type

    def setup(self, **kwargs: Any) -> Any:
        return self._target(self, **kwargs)
