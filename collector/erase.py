"""Erase calls from the log: the rows, their payloads, what was said of them, and what was refused.

What the log was copied into (examples, datasets, indexes) is `curation.erase`'s; it calls here. Out
of reach are what was exported to other systems, and spools and files of an import that would bring
the records back: `late` finds those that did.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, text
from sqlmodel import Session, col

from collector.media import SCHEME
from collector.tables import DeadLetter, Interaction
from foundation.chat import answer_text, prompt_messages, text_of
from foundation.errors import BadInput
from foundation.ids import first_id_at
from foundation.settings import get_settings

INTERACTION, EPISODE, UNIT, PROJECT = "interaction", "episode", "unit", "project"
SCOPES: Final = (INTERACTION, EPISODE, UNIT, PROJECT)
_ROWS_AT_ONCE: Final = 5000
MOST_TEXTS: Final = 2000
"""Texts of one erasure that are looked for in places that may quote them."""


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
    def digests(self) -> list[str]:
        """SHA-256 of each name with its scope: by it a record that comes later is known again."""
        return [sha256(f"{self.scope}:{name}".encode()).hexdigest() for name in sorted(self.names)]

    @property
    def ids(self) -> list[UUID]:
        """The names as ids, for scopes that are named by ids."""
        return [UUID(name) for name in self.names]


@dataclass
class Reach:
    """What an erasure reaches, told to those who keep copies before the first row goes.

    Attributes:
        subject: what was named.
        ids: its calls.
        texts: what was asked, answered and said in them, one string each.
    """

    subject: Subject
    ids: Sequence[UUID]
    texts: Sequence[str] = field(default_factory=list)


@dataclass
class ErasedLog:
    """What went from the log: how many rows of each table, and artifacts nothing refers to now."""

    counts: Counter[str]
    artifacts: list[str]


@dataclass
class Handles:
    """What feedback may name calls by besides their ids; None among it names nothing.

    Attributes:
        keys: with the project that each is unique in.
        responses: ids of models' answers.
    """

    keys: set[tuple[str | None, str]] = field(default_factory=set)
    responses: set[str | None] = field(default_factory=set)

    def name(self, said: Mapping[str, Any]) -> bool:
        """Return whether a statement names one of the calls; pure."""
        project = said.get("project") or get_settings().project
        for prefix in ("", "loser_"):
            key, response = said.get(f"{prefix}interaction_key"), said.get(f"{prefix}response_id")
            if key is not None and (str(key), str(project)) in self.keys:
                return True
            if response is not None and str(response) in self.responses:
                return True
        return False


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


def texts_of(session: Session, ids: Sequence[UUID]) -> list[str]:
    """Return what calls asked last, were answered, and what was said of them; `MOST_TEXTS` of it.

    What an agent was told before, its system prompt above all, is shared by thousands of calls.
    """
    texts: list[str] = []
    for some in _batches(ids[:MOST_TEXTS]):
        for row in session.execute(_TEXTS, {"ids": some}):
            asked = [m for m in prompt_messages(row.request or {}) if m.get("role") != "system"]
            texts += [text_of(m.get("content")) for m in asked[-2:]]
            texts.append(answer_text(row.response))
        texts += session.execute(_SAID, {"ids": some}).scalars()
    return [one for one in texts if one][:MOST_TEXTS]


def late(
    session: Session, erased: Sequence[tuple[str, datetime]], since: datetime | None = None
) -> list[UUID]:
    """Return calls that were made before their subject was erased, and are in the log again.

    They came from a spool that had waited, an import, or a restored backup. What a subject does
    after its erasure is its own anew.

    Args:
        session: reads the whole log, not its payloads.
        erased: digest of each name that was erased (`Subject.digests`), and when.
        since: only of what arrived after that; None: of all.
    """
    values = {
        "digests": [digest for digest, _ in erased],
        "before": [first_id_at(moment) for _, moment in erased],
        "since": since,
    }
    return list(session.execute(_LATE, values).scalars())


def erase_log(session: Session, subject: Subject, ids: Sequence[UUID]) -> ErasedLog:
    """Delete calls with their payloads, feedback, media and dead letters.

    Feedback on an episode as a whole goes with the last of its calls, and where the episode or the
    project itself is the subject.

    Args:
        session: the caller commits.
        subject: what was named.
        ids: of `interactions_of`, or more: calls that only curation still knows of.
    """
    counts, artifacts, handles = Counter[str](), list[str](), Handles()
    for some in _batches(ids):
        media = _media_of(session, some)
        for key, project, response in session.execute(_HANDLES, {"ids": some}):
            handles.keys.add((key, project))
            handles.responses.add(response)
        episodes = list(session.execute(_EPISODES, {"ids": some}).scalars())
        for statement in _SAID_OF_CALLS:
            counts["feedback"] += _unsay(session, statement, {"ids": some})
        for name, statement in _OF_CALLS:
            counts[name] += _count(session, statement, {"ids": some})
        counts["feedback"] += _unsay(session, _EMPTY_EPISODES, {"ids": episodes})
        artifacts += _erase_media(session, media)
    if subject.scope == EPISODE:
        counts["feedback"] += _unsay(session, _SAID_OF_EPISODES, {"ids": subject.ids})
    if subject.scope == PROJECT:
        counts["feedback"] += _unsay(session, _SAID_IN_PROJECTS, {"names": list(subject.names)})
    if subject.scope == UNIT:
        counts["feedback"] += _unsay(session, _SAID_BY_UNITS, {"names": list(subject.names)})
        counts["feedback_actor"] = _count(session, _NAMED, {"names": list(subject.names)})
    counts["media"] = len(artifacts)
    counts["dead_letter"] += _erase_dead_letters(session, subject, ids, handles)
    return ErasedLog(+counts, artifacts)


def _erase_media(session: Session, hashes: Sequence[str]) -> list[str]:
    """Delete media that no payload names any more; return the URIs of their artifacts."""
    left = [h for h in hashes if not session.execute(_NAMES_MEDIA, {"name": h}).first()]
    return list(session.execute(_MEDIA, {"hashes": left}).scalars())


def _unsay(session: Session, statement: Any, values: dict[str, Any]) -> int:
    """Delete feedback, and what rules of credit made of it for other calls."""
    gone = list(session.execute(statement, values).scalars())
    n_gone = len(gone)
    while gone:
        gone = list(session.execute(_DERIVED, {"ids": gone}).scalars())
        n_gone += len(gone)
    return n_gone


def _media_of(session: Session, ids: Sequence[UUID]) -> list[str]:
    found = session.execute(_MEDIA_NAMED, {"ids": list(ids), "mark": _MARK})
    return sorted(set(found.scalars()))


def _erase_dead_letters(
    session: Session, subject: Subject, ids: Sequence[UUID], handles: Handles
) -> int:
    """Delete refused records of the subject: they are few, and only their text says whose."""
    wanted = {str(identifier) for identifier in ids}
    letters = session.execute(
        select(col(DeadLetter.id), col(DeadLetter.record_id), col(DeadLetter.record)),
        execution_options={"yield_per": 500},
    )
    gone = [
        letter.id
        for letter in letters
        if letter.record_id in wanted or speaks_of(letter.record, subject, wanted, handles)
    ]
    return sum(_count(session, _LETTERS, {"ids": some}) for some in _batches(gone))


def speaks_of(record: str, subject: Subject, ids: set[str], handles: Handles | None = None) -> bool:
    """Return whether a refused record, as JSON text, is of a subject; pure.

    Args:
        record: as the letter keeps it.
        subject: what is erased.
        ids: of its calls.
        handles: what else feedback may name its calls by.
    """
    try:
        said = json.loads(record)
    except ValueError:  # it was refused for that; what it is of, only its text can tell
        return any(name in record for name in (*subject.names, *ids))
    if not isinstance(said, dict):
        return False
    of_calls = ("id", "interaction_id", "loser_interaction_id")
    if any(str(said.get(name)) in ids for name in of_calls):
        return True
    if handles is not None and handles.name(said):
        return True
    if subject.scope == UNIT and said.get("source") == "user":  # as of stored feedback
        return said.get("actor") in subject.names or said.get("unit_id") in subject.names
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
_SAID_OF_CALLS: Final = (
    text(
        """
        DELETE FROM feedback
        WHERE interaction_id = ANY(CAST(:ids AS uuid[]))
           OR loser_interaction_id = ANY(CAST(:ids AS uuid[]))
        RETURNING id
        """
    ),
    text(
        """
        DELETE FROM feedback USING interaction
        WHERE interaction.id = ANY(CAST(:ids AS uuid[]))
          AND feedback.interaction_id IS NULL
          AND (feedback.interaction_key = interaction.key
                AND feedback.project = interaction.project
               OR feedback.response_id = interaction.gen_ai_response_id)
        RETURNING feedback.id
        """
    ),
)
_DERIVED = text("DELETE FROM feedback WHERE derived_from = ANY(CAST(:ids AS uuid[])) RETURNING id")
_OF_CALLS: Final = (
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
    RETURNING id
    """
)
_SAID_OF_EPISODES = text(
    "DELETE FROM feedback WHERE episode_id = ANY(CAST(:ids AS uuid[])) RETURNING id"
)
_SAID_IN_PROJECTS = text(
    "DELETE FROM feedback WHERE project = ANY(CAST(:names AS text[])) RETURNING id"
)
_SAID_BY_UNITS = text(
    "DELETE FROM feedback WHERE source = 'user' AND actor = ANY(CAST(:names AS text[])) "
    "RETURNING id"
)
_NAMED = text("UPDATE feedback SET actor = NULL WHERE actor = ANY(CAST(:names AS text[]))")
_TEXTS = text(
    "SELECT request, response FROM interaction_payload WHERE id = ANY(CAST(:ids AS uuid[]))"
)
_SAID = text(
    """
    SELECT text FROM feedback
    WHERE text IS NOT NULL AND (interaction_id = ANY(CAST(:ids AS uuid[]))
       OR loser_interaction_id = ANY(CAST(:ids AS uuid[])))
    """
)
# A call's id tells when it was made, whenever it came.
_LATE = text(
    """
    SELECT DISTINCT interaction.id
    FROM interaction
    CROSS JOIN LATERAL (VALUES
        (concat('interaction:', interaction.id)), ('episode:' || interaction.episode_id::text),
        ('unit:' || interaction.unit_id), ('project:' || interaction.project)
    ) AS named (name)
    JOIN unnest(CAST(:digests AS text[]), CAST(:before AS uuid[])) AS erased (digest, before)
      ON erased.digest = encode(sha256(convert_to(named.name, 'UTF8')), 'hex')
    WHERE interaction.id < erased.before
      AND (CAST(:since AS timestamptz) IS NULL OR interaction.ingested_at >= :since)
    ORDER BY interaction.id
    """
)
_HANDLES = text(
    "SELECT key, project, gen_ai_response_id FROM interaction WHERE id = ANY(CAST(:ids AS uuid[]))"
)
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
