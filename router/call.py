"""One call on its way through the gateway, and how it ended."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from foundation.ids import new_id
from router.roster import Target
from router.wire import ChatBody

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Call:
    """A call, and its clock.

    Attributes:
        target: who answers; None if it was refused before that was known.
        asked: what was asked; None if it could not be read.
        attributes: what is kept of it beside the columns of its record.
    """

    role: str
    target: Target | None = None
    asked: ChatBody | None = None
    id: UUID = field(default_factory=new_id)
    project: str | None = None
    task_type: str | None = None
    difficulty: str | None = None
    episode_id: UUID | None = None
    parent_id: UUID | None = None
    unit: str | None = None
    experiment_id: UUID | None = None
    arm: str | None = None
    ttft_ms: float | None = None
    cost_usd: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)

    def elapsed_ms(self) -> float:
        """Return the milliseconds since the call came in."""
        return (time.perf_counter() - self.started) * 1000

    def headers(self) -> RawHeaders:
        """Return what the caller is told about its call."""
        told = [(b"x-flywheel-interaction-id", str(self.id).encode())]
        if self.arm is not None:
            told.append((b"x-flywheel-arm", self.arm.encode()))
        if self.target is not None and self.target.version_name is not None:
            told.append((b"x-flywheel-model-version", self.target.version_name.encode()))
        return told


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended: the bytes of its answer, and what went wrong if something did."""

    status: str
    pieces: Sequence[bytes] = ()
    is_stream: bool = False
    error_type: str | None = None
    error: str | None = None
