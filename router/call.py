"""One call on its way through the gateway, and how it ended."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from foundation.ids import new_id
from router.dialects import Asked
from router.roster import Target

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Call:
    """A call, and its clock.

    Attributes:
        target: who was chosen to answer; None if it was refused before that was known.
        asked: what was asked, as it is sent; None if it could not be read.
        key: name of the caller's key; empty without one.
        key_id: and its id.
        attempts: whom the forwarder asked, and what became of it.
        fallback_of: the version or model that was chosen, if another one answered in its stead.
        answered_by: who answered, once somebody has.
        cached: whether the answer was given before.
        told: further headers of its answer.
    """

    role: str
    target: Target | None = None
    asked: Asked | None = None
    id: UUID = field(default_factory=new_id)
    key: str = ""
    key_id: UUID | None = None
    project: str | None = None
    task_type: str | None = None
    difficulty: str | None = None
    episode_id: UUID | None = None
    parent_id: UUID | None = None
    unit: str | None = None
    experiment_id: UUID | None = None
    arm: str | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    fallback_of: str | None = None
    answered_by: Target | None = None
    cached: bool = False
    ttft_ms: float | None = None
    cost_usd: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    told: RawHeaders = field(default_factory=list)
    at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)

    def elapsed_ms(self) -> float:
        """Return the milliseconds since the call came in."""
        return (time.perf_counter() - self.started) * 1000

    def headers(self) -> RawHeaders:
        """Return what the caller is told about its call."""
        told: RawHeaders = [(b"x-flywheel-interaction-id", str(self.id).encode())]
        if self.arm is not None:
            told.append((b"x-flywheel-arm", self.arm.encode()))
        answering = self.answered_by or self.target
        if answering is not None and answering.version_name is not None:
            told.append((b"x-flywheel-model-version", answering.version_name.encode()))
        return told + self.told


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended: the bytes of its answer, and what went wrong if something did.

    Attributes:
        pieces: what the upstream said.
        is_native: whether it said that in the dialect of the call, not in that of chats.
    """

    status: str
    pieces: Sequence[bytes] = ()
    is_stream: bool = False
    error_type: str | None = None
    error: str | None = None
    is_native: bool = True
