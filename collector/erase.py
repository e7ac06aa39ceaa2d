"""Erase calls from the log: the rows, their payloads, what was said of them, and what was refused.

What the log was copied into (examples, datasets, indexes) is `curation.erase`'s; it calls here. Out
of reach are spools on other machines that still wait, what was exported to other systems, and the
files of an import, which would bring the records back.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, text
from sqlmodel import Session, col

from collector.media import SCHEME
from collector.tables import DeadLetter, Interaction
from foundation.errors import BadInput

INTERACTION, EPISODE, UNIT, PROJECT = "interaction", "episode", "unit", "project"
SCOPES: Final = (INTERACTION, EPISODE, UNIT, PROJECT)
_ROWS_AT_ONCE: Final = 5000


@dataclass(frozen=True)
class Subject:
    """What is to be erased: all calls of an episode, a unit or a project, or single ones."""

    scope: str
    names: tuple[str, ...]
    """Ids of interactions or of an episode, the unit's id, or the project's name."""

    def __post_init__(self) -> None:
        if self.scope not in SCOPES or not self.names:
            expected = f"one of {', '.join(SCOPES)} with what it is called"
            raise BadInput("what to erase", (self.scope, self.names), expected, "Name one.")
        if self.scope in (INTERACTION, EPISODE):
            for name in self.names:
                _require_id(self.scope, name)

    @property
    def digest(self) -> str:
        """SHA-256 of what was named: what is kept of it."""
        return sha256(json.dumps([self.scope, *sorted(self.names)]).encode()).hexdigest()

    @property
    def ids(self) -> list[UUID]:
        """The names as ids, for scopes that are named by ids."""
        return [UUID(name) for name in self.names]


@dataclass
class ErasedLog:
    """What went from the log: how many rows of each table, and artifacts nothing refers to now."""

    counts: Counter[str]
    artifacts: list[str]


def interactions_of(session: Session, subject: Subject) -> list[UUID]:
    """Return the ids of the calls that a subject names and the log still has, sorted."""
    column: Any = {
        INTERACTION: col(Interaction.id),
        EPISODE: col(Interaction.episode_id),
        UNIT: col(Interaction.unit_id),
        PROJECT: col(Interaction.project),
    }[subject.scope]
    names = subject.ids if subject.scope in (INTERACTION, EPISODE) else list(subject.names)
    query = select(col(Interaction.id)).where(column.in_(names)).order_by(col(Interaction.id))
    return list(session.execute(query).scalars())


def n_neighbours(session: Session, ids: Sequence[UUID]) -> int:
    """Return how many other calls of the same episodes there are: they may repeat the texts."""
    found = session.execute(_NEIGHBOURS, {"ids": list(ids)}).scalar_one()
    return int(found)


def erase_log(session: Session, subject: Subject, ids: Sequence[UUID]) -> ErasedLog:
    """Delete calls with their payloads, feedback, media and dead letters.

    Feedback on an episode as a whole goes with the last of its calls, and where the episode or the
    project itself is the subject.

    Args:
        session: the caller commits.
        subject: what was named.
        ids: of `interactions_of`, or more: calls that only curation still knows of.
    """
    counts, artifacts = Counter[str](), list[str]()
    for some in _batches(ids):
        media = _media_of(session, some)
        episodes = list(session.execute(_EPISODES, {"ids": some}).scalars())
        for name, statement in _OF_CALLS:
            counts[name] += _count(session, statement, {"ids": some})
        counts["feedback"] += _count(session, _EMPTY_EPISODES, {"ids": episodes})
        artifacts += _erase_media(session, media)
    if subject.scope == EPISODE:
        counts["feedback"] += _count(session, _SAID_OF_EPISODES, {"ids": subject.ids})
    if subject.scope == PROJECT:
        counts["feedback"] += _count(session, _SAID_IN_PROJECTS, {"names": list(subject.names)})
    counts["media"] = len(artifacts)
    counts["dead_letter"] += _erase_dead_letters(session, subject, ids)
    return ErasedLog(+counts, artifacts)


def _erase_media(session: Session, hashes: Sequence[str]) -> list[str]:
    """Delete media that no payload names any more; return the URIs of their artifacts."""
    left = [h for h in hashes if not session.execute(_NAMES_MEDIA, {"name": h}).first()]
    return list(session.execute(_MEDIA, {"hashes": left}).scalars())


def _media_of(session: Session, ids: Sequence[UUID]) -> list[str]:
    found = session.execute(_MEDIA_NAMED, {"ids": list(ids), "mark": _MARK})
    return sorted(set(found.scalars()))


def _erase_dead_letters(session: Session, subject: Subject, ids: Sequence[UUID]) -> int:
    """Delete refused records of the subject: they are few, and only their text says whose."""
    wanted = {str(identifier) for identifier in ids}
    letters = session.execute(
        select(col(DeadLetter.id), col(DeadLetter.record_id), col(DeadLetter.record)),
        execution_options={"yield_per": 500},
    )
    gone = [
        letter.id
        for letter in letters
        if letter.record_id in wanted or speaks_of(letter.record, subject, wanted)
    ]
    return sum(_count(session, _LETTERS, {"ids": some}) for some in _batches(gone))


def speaks_of(record: str, subject: Subject, ids: set[str]) -> bool:
    """Return whether a refused record, as JSON text, is of a subject; pure."""
    try:
        said = json.loads(record)
    except ValueError:
        return False
    if not isinstance(said, dict):
        return False
    of_calls = ("id", "interaction_id", "loser_interaction_id")
    if any(str(said.get(name)) in ids for name in of_calls):
        return True
    named_by = {
        INTERACTION: of_calls,
        EPISODE: ("episode_id",),
        UNIT: ("unit_id",),
        PROJECT: ("project",),
    }[subject.scope]
    return any(said.get(name) in subject.names for name in named_by)


def _require_id(scope: str, name: str) -> None:
    try:
        UUID(name)
    except ValueError:
        raise BadInput(scope, name, "an id such as 01a1fd57-1352-…", "Copy it whole.") from None


def _count(session: Session, statement: Any, values: dict[str, Any]) -> int:
    return int(session.execute(statement, values).rowcount)  # type: ignore[attr-defined]


def _batches(ids: Sequence[UUID]) -> Iterator[list[UUID]]:
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        yield list(ids[start : start + _ROWS_AT_ONCE])


_MARK = rf"{SCHEME}sha256/([0-9a-f]{{64}})"

_NEIGHBOURS = text(
    """
    SELECT count(*) FROM interaction
    WHERE NOT id = ANY(CAST(:ids AS uuid[])) AND episode_id IN (
        SELECT episode_id FROM interaction
        WHERE id = ANY(CAST(:ids AS uuid[])) AND episode_id IS NOT NULL
    )
    """
)
_EPISODES = text(
    "SELECT DISTINCT episode_id FROM interaction "
    "WHERE id = ANY(CAST(:ids AS uuid[])) AND episode_id IS NOT NULL"
)
_OF_CALLS: Final = (
    (
        "feedback",
        text(
            """
            DELETE FROM feedback
            WHERE interaction_id = ANY(CAST(:ids AS uuid[]))
               OR loser_interaction_id = ANY(CAST(:ids AS uuid[]))
            """
        ),
    ),
    (
        "feedback",
        text(
            """
            DELETE FROM feedback USING interaction
            WHERE interaction.id = ANY(CAST(:ids AS uuid[]))
              AND feedback.interaction_id IS NULL
              AND (feedback.interaction_key = interaction.key
                    AND feedback.project = interaction.project
                   OR feedback.response_id = interaction.gen_ai_response_id)
            """
        ),
    ),
    (
        "campaign_item",
        text(
            """
            UPDATE campaign_item SET task = NULL, detail = NULL
            WHERE interaction_id = ANY(CAST(:ids AS uuid[]))
            """
        ),
    ),
    (
        "interaction_payload",
        text("DELETE FROM interaction_payload WHERE id = ANY(CAST(:ids AS uuid[]))"),
    ),
    ("interaction", text("DELETE FROM interaction WHERE id = ANY(CAST(:ids AS uuid[]))")),
)
_EMPTY_EPISODES = text(
    """
    DELETE FROM feedback
    WHERE episode_id = ANY(CAST(:ids AS uuid[])) AND interaction_id IS NULL
      AND NOT EXISTS (SELECT FROM interaction WHERE interaction.episode_id = feedback.episode_id)
    """
)
_SAID_OF_EPISODES = text("DELETE FROM feedback WHERE episode_id = ANY(CAST(:ids AS uuid[]))")
_SAID_IN_PROJECTS = text("DELETE FROM feedback WHERE project = ANY(CAST(:names AS text[]))")
_LETTERS = text("DELETE FROM dead_letter WHERE id = ANY(CAST(:ids AS uuid[]))")
_MEDIA_NAMED = text(
    """
    SELECT found.hash[1]
    FROM interaction_payload AS payload,
         regexp_matches(concat(payload.request, payload.response), :mark, 'g') AS found (hash)
    WHERE payload.id = ANY(CAST(:ids AS uuid[]))
    """
)
_NAMES_MEDIA = text(
    """
    SELECT 1 FROM interaction_payload
    WHERE strpos(concat(request, response), CAST(:name AS text)) > 0 LIMIT 1
    """
)
_MEDIA = text("DELETE FROM media WHERE content_hash = ANY(CAST(:hashes AS text[])) RETURNING uri")
