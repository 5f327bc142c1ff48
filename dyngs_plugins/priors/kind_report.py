"""What happened to one kind of prior of one camera, for the record and the summary."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class KindReport:
    """Files that were made and kept, by whom, and what was measured."""

    sequence: str
    kind: str
    provider: str
    made: int = 0
    kept: int = 0
    seconds: float = 0.0
    measures: dict[str, float] = dataclasses.field(default_factory=dict)
