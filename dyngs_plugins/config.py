"""What the configs share: they build what they configure, and they open ``config.yml`` files older than their fields."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class GrowingConfig:
    """A config that may gain fields: one from an older ``config.yml`` has the defaults of those its file lacks.

    YAML restores an object from the fields in its file and calls no ``__init__``. A plain default is found on the class
    then; one that a factory makes would be missing, and the run could not be opened any more.
    """

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        made = {
            f.name: f.default_factory()
            for f in dataclasses.fields(self)  # type: ignore[arg-type]  (the subclasses are dataclasses)
            if f.name not in state and f.default_factory is not dataclasses.MISSING
        }
        self.__dict__.update(made)
        self.__dict__.update(state)


@dataclass
class ComponentConfig(GrowingConfig):
    """Settings of a component; ``setup(...)`` builds it as ``_target(config, ...)``.

    The same shape as nerfstudio's ``InstantiateConfig``, so that it nests in the host's configs, its command line and
    its ``config.yml``, while motion fields and exposure models stay importable without the host.
    """

    _target: type

    def setup(self, **kwargs: Any) -> Any:
        return self._target(self, **kwargs)
