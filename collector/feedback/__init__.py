"""Say something about a call or an episode, and read what was said.

One door into the table: `collector.ingest.store`. A statement without an id gets one. With a key of
the caller's it is the same each time, so that saying it again stores nothing. Nobody else can take
such an id beforehand: it is made of who sends, too, and `collector.ingest` refuses a stated one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import ColumnElement, or_
from sqlmodel import Session, col, select

from collector.delivery import FEEDBACK, Delivery, Line, line_of
from collector.scrub import kept_name, server_rules
from collector.tables import Feedback, Interaction
from foundation.access import came_by
from foundation.errors import BadInput
from foundation.ids import keyed_episode_id, new_id
from foundation.settings import get_settings

_STATEMENTS = UUID("c1a7f2de-54b0-5c9e-9a1d-3f0e8f6b7a22")
"""Namespace of ids made of a caller's key."""


@dataclass(frozen=True)
class Subject:
    """What a statement speaks of: a call or an episode, by any of its names."""

    interaction_id: UUID | None = None
    interaction_key: str | None = None
    response_id: str | None = None
    episode_id: UUID | None = None
    episode_key: str | None = None
    project: str | None = None
    """Where keys are looked up; None: that of the settings."""

    def columns(self) -> dict[str, str]:
        """Return what is named, as columns of a feedback record.

        Raises:
            BadInput: nothing is.
        """
        if not self.is_named:
            raise BadInput(
                "subject of feedback",
                None,
                f"one of {', '.join(SUBJECT_NAMES)}",
                "Say what the statement speaks of.",
            )
        return {name: str(value) for name, value in vars(self).items() if value}

    @property
    def is_named(self) -> bool:
        """Whether it is a call or an episode at all."""
        return any(getattr(self, name) for name in SUBJECT_NAMES)


SUBJECT_NAMES = tuple(field.name for field in fields(Subject) if field.name != "project")


def with_ids(lines: Sequence[Line], key: str | None = None) -> list[Line]:
    """Return statements with ids: those without get one made of `key` and their place, or new."""
    return [
        replace(line, record={**line.record, "id": str(_id(key, place))}, is_id_ours=True)
        if isinstance(line.record, Mapping) and line.record.get("id") is None
        else line
        for place, line in enumerate(lines)
    ]


def _id(key: str | None, place: int) -> UUID:
    return new_id() if key is None else uuid5(_STATEMENTS, f"{sent_by(key)}\x1f{place}")


def sent_by(key: str) -> str:
    """Return a key as that of who asks now: another's same key makes other ids."""
    key_id = came_by().key_id
    return key if key_id is None else f"{key_id}\x1f{key}"


def of_statements(statements: Sequence[Mapping[str, Any]], source: str) -> Delivery:
    """Return statements of ours ready for `collector.ingest.store`.

    Args:
        statements: feedback records; ids that they have were made here.
        source: counted as their sender.
    """
    lines = [replace(line_of(FEEDBACK, one), is_id_ours=True) for one in statements]
    return Delivery(source, with_ids(lines))


def said_about(session: Session, subject: Subject, limit: int) -> list[Feedback]:
    """Return what was said about a call, or about an episode and each call in it, oldest first.

    What waits for a call of the name asked for is among it.

    Raises:
        BadInput: nothing is named.
    """
    subject.columns()
    rules = server_rules()
    project = subject.project or get_settings().project
    episode_id = subject.episode_id or (
        keyed_episode_id(project, subject.episode_key) if subject.episode_key else None
    )
    project = kept_name("project", project, rules)
    calls, said = list[ColumnElement[bool]](), list[ColumnElement[bool]]()
    waits = col(Feedback.interaction_id).is_(None)
    if subject.interaction_id:
        said.append(col(Feedback.interaction_id) == subject.interaction_id)
    if subject.interaction_key:
        key = kept_name("key", subject.interaction_key, rules)
        calls.append((col(Interaction.key) == key) & (col(Interaction.project) == project))
        named = (col(Feedback.interaction_key) == key) & (col(Feedback.project) == project)
        said.append(waits & named)
    if subject.response_id:
        response_id = kept_name("response_id", subject.response_id, rules)
        calls.append(col(Interaction.gen_ai_response_id) == response_id)
        said.append(waits & (col(Feedback.response_id) == response_id))
    if episode_id:
        calls.append(col(Interaction.episode_id) == episode_id)
        said.append(col(Feedback.episode_id) == episode_id)
    if calls:
        about = session.exec(select(Interaction.id).where(or_(*calls))).all()
        said.append(col(Feedback.interaction_id).in_(about))
    found = select(Feedback).where(or_(*said)).order_by(col(Feedback.created_at), col(Feedback.id))
    return list(session.exec(found.limit(limit)).all())
