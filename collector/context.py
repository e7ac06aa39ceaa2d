"""What the present task of an agent is: its episode and role, carried by context variables.

Asyncio tasks inherit it; so do threads started through `contextvars.copy_context().run`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from uuid import UUID

from collector.scrub import Scrubber
from foundation.ids import new_id


@dataclass(frozen=True)
class Episode:
    """One agent task; its interactions, across roles, share the `id`.

    Attributes:
        id: the `episode_id` of its records.
        role: the role that acts now.
        task: what is to be done, kept in the records' attributes.
        task_type: kind of task, which curation balances by.
        unit: what sticky A/B assignment goes by; the episode itself if it is None.
        parent_id: the interaction that caused what happens now.
        scrubber: numbers placeholders alike throughout the episode.
    """

    id: UUID = field(default_factory=new_id)
    role: str | None = None
    task: str | None = None
    task_type: str | None = None
    unit: str | None = None
    parent_id: UUID | None = None
    scrubber: Scrubber = field(default_factory=Scrubber, repr=False)


_current: ContextVar[Episode | None] = ContextVar("flywheel_episode", default=None)
_last: ContextVar[UUID | None] = ContextVar("flywheel_last_interaction", default=None)


def current_episode() -> Episode | None:
    """Return the episode that this code runs in, or None."""
    return _current.get()


@contextmanager
def entered(episode: Episode) -> Iterator[Episode]:
    """Make `episode` the present one for the block."""
    token = _current.set(episode)
    try:
        yield episode
    finally:
        _current.reset(token)


def acting_as(role: str, parent_id: UUID | None = None) -> Episode:
    """Return the present episode with another role acting (a new episode if there is none)."""
    present = current_episode() or Episode()
    return replace(present, role=role, parent_id=parent_id or present.parent_id)


def note_interaction(identifier: UUID) -> None:
    """Remember the interaction that this code has just begun."""
    _last.set(identifier)


def last_interaction() -> UUID | None:
    """Return the interaction that this thread or task began last, or None."""
    return _last.get()
