"""What there is to look at: a role's interactions that are new or changed, or newly spoken about.

What is new is told by transactions, not by ids or clocks. A build remembers the oldest transaction
that was still open when it looked (`Mark`): all older ones had ended, so what they wrote was seen.
Whatever is written by that one or a younger one is looked at next time, however late it commits;
of that, what an example was made of already is recognised by the transaction that wrote it and by
the hash of what was said about it.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import and_, or_, select, text
from sqlalchemy.orm import defer
from sqlmodel import Session, col

from collector.feedback.sources import is_heard
from collector.tables import CUT, ERROR, SUCCESS, Feedback, Interaction, InteractionPayload
from curation import derive
from curation.columns import example
from curation.review.labels import overrides_of, statements_of
from curation.score.outcome import ERROR_STATUS, INCOMPLETE, TRUNCATED, Statement
from curation.tables import CurationWatermark, Example
from foundation.chat import message

TASK_KEY = "task_key"
"""Attribute of an interaction that names its task by meaning; splits go by it."""
BYTES_AT_ONCE: Final = 16 * 2**20
"""Payload text that is held in memory at once; a single larger payload is taken alone."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Up to where the log is settled: every transaction before `xid` has ended."""

    xid: int
    at: datetime
    database: str
    """Which database cluster counts these transactions."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An interaction with its payload and all that was said about it."""

    interaction: Interaction
    request: dict[str, Any]
    response: dict[str, Any] | None
    attributes: dict[str, Any]
    has_payload: bool
    statements: tuple[Statement, ...]
    feedback_hash: str
    """Of what was said: tells whether anything was said since."""
    stored: Example | None
    """Its example, if it became one before; locked until the transaction ends."""
    labels: tuple[Statement, ...] = ()
    """What reviewers said."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """What reviewers set right: task_type, difficulty, answer."""

    @property
    def task_key(self) -> str | None:
        """The caller's name of the task, by meaning."""
        key = self.attributes.get(TASK_KEY)
        return None if key is None else str(key)


def mark(session: Session) -> Mark:
    """Return up to where the log is settled now; to be taken before the log is looked at."""
    xid, at = session.execute(_MARK).one()
    return Mark(xid, at, _database(session))


_MARK = text("SELECT (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint, now()")


def _database(session: Session) -> str:
    """Return what tells this cluster's transaction numbers from those of another one."""
    allowed = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')"
    if not session.execute(text(allowed)).scalar_one():
        return "unknown"
    return str(session.execute(text("SELECT system_identifier FROM pg_control_system()")).scalar())


def seen_xid(
    session: Session, role: str, variant: str, present: Mark, seen_in: str | None
) -> int | None:
    """Return the transaction from which on the log is unseen; None: look at all of it.

    In a database restored from a dump, transactions are numbered anew and say nothing about the
    rows that came with it, nor about the stored watermark.

    Args:
        session: to read the watermark.
        role: of the log.
        variant: of the curation.
        present: as `mark` says.
        seen_in: the database in which the watermark was set; None: not known.
    """
    stored = session.get(CurationWatermark, (role, variant), populate_existing=True)
    if stored is None or stored.seen_xid > present.xid:
        return None
    return stored.seen_xid if seen_in in (None, present.database) else None


def move_watermark(session: Session, role: str, variant: str, xid: int, at: datetime) -> None:
    """Remember up to where the log of a role has been seen."""
    stored = session.get(CurationWatermark, (role, variant)) or CurationWatermark(
        role=role, variant=variant, seen_xid=xid, seen_until=at
    )
    stored.seen_xid, stored.seen_until = xid, at
    session.add(stored)


def unseen(session: Session, role: str, from_xid: int | None, *, everything: bool) -> str:
    """Return the SQL of the ids to look at; it takes role, variant and from_xid.

    Makes the planner go from what is new to what is stored, which its own estimates of a fresh
    table do not always do: the cost is to go by what is new, not by the table.
    """
    if everything:
        return _ALL
    if from_xid is None:
        return f"{_NEW} UNION {_TO_BE_JUDGED}"
    for plan in ("enable_hashjoin", "enable_mergejoin"):
        session.execute(text(f"SET LOCAL {plan} = off"))
    since = "AND i.written_xid >= :from_xid"
    touched = f"UNION {derive.TOUCHED}" if role in (derive.TESTER, derive.REVIEWER) else ""
    return f"{_NEW} {since} UNION {_SPOKEN_ABOUT} UNION {_TO_BE_JUDGED} {touched}"


_ALL = """
    SELECT id FROM interaction WHERE role = :role
    UNION
    SELECT interaction_id FROM example
    WHERE role = :role AND variant = :variant
"""
_NEW = """
    SELECT i.id FROM interaction i
    LEFT JOIN example e ON e.interaction_id = i.id AND e.variant = :variant
    WHERE i.role = :role AND (e.id IS NULL OR e.source_xid IS DISTINCT FROM i.written_xid)
"""
_TO_BE_JUDGED = """
    SELECT interaction_id FROM example
    WHERE role = :role AND variant = :variant AND needs_judging
"""
# A credit that moved to a later turn was a word on the turn before.
_SPOKEN_ABOUT = """
    SELECT e.interaction_id FROM (
        SELECT interaction_id FROM feedback WHERE written_xid >= :from_xid
        UNION
        SELECT loser_interaction_id FROM feedback WHERE written_xid >= :from_xid
        UNION
        SELECT CAST(details->>'credited_before' AS uuid) FROM feedback
        WHERE written_xid >= :from_xid AND derived_from IS NOT NULL
    ) said
    JOIN example e ON e.interaction_id = said.interaction_id AND e.variant = :variant
    WHERE e.role = :role
    UNION
    SELECT e.interaction_id FROM (
        SELECT DISTINCT episode_id FROM feedback
        WHERE written_xid >= :from_xid AND interaction_id IS NULL
    ) said
    JOIN example e ON e.episode_id = said.episode_id
    WHERE e.role = :role AND e.variant = :variant
"""


def candidates(
    session: Session, variant: str, ids: Sequence[UUID], *, everything: bool
) -> Iterator[list[Candidate]]:
    """Yield the candidates among some interactions, in order, as many at once as memory may hold.

    Those whose example is still what they say are left out, unless `everything` is asked for. The
    examples of the others are locked, so that a reviewer's word that comes meanwhile is not lost.
    """
    stored = _stored(session, ids, variant)
    interactions = _interactions(session, ids, stored)
    said = _words(session, interactions)
    changed = [
        i
        for i in sorted(interactions)
        if everything or _is_news(interactions[i], stored.get(i), said[i])
    ]
    labels, overrides = statements_of(session, changed), overrides_of(session, changed)
    for piece in _pieces(session, changed, variant):
        payloads = _payloads(session, piece)
        payloads |= _remembered(
            session, [i for i in piece if i not in payloads], variant, overrides
        )
        yield [
            Candidate(
                **_read(interactions[i], payloads.get(i), said[i]),
                stored=stored.get(i),
                labels=tuple(labels.get(i, ())),
                overrides=overrides.get(i, {}),
            )
            for i in piece
        ]


def has_interactions(session: Session, role: str) -> bool:
    """Return whether the log holds anything of `role`."""
    found = select(col(Interaction.id)).where(col(Interaction.role) == role).limit(1)
    return session.execute(found).first() is not None


@dataclass(frozen=True, slots=True)
class _Words:
    """What was said about an interaction, or follows from what became of its episode."""

    feedback: Sequence[Feedback]
    derived: Sequence[Statement]

    @property
    def hash(self) -> str:
        """What changes when a statement comes, goes, moves or is rewritten."""
        written = [f"{one.id}:{one.written_xid}" for one in self.feedback]
        written += [f"{one.name}:{one.value}:{one.said_at.isoformat()}" for one in self.derived]
        return hashlib.sha256(";".join(written).encode()).hexdigest()[:16]

    def on(self, interaction_id: UUID) -> list[Statement]:
        """Return them as the scorer reads them."""
        direct = [_statement(one, interaction_id) for one in self.feedback]
        return derive.merged(direct, self.derived)


def _words(session: Session, interactions: dict[UUID, Interaction]) -> dict[UUID, _Words]:
    said = _feedback(session, [(i.id, i.episode_id) for i in interactions.values()])
    derived = derive.statements_of(session, interactions.values())
    return {i: _Words(said[i], derived.get(i, ())) for i in interactions}


def _is_news(interaction: Interaction, known: Example | None, said: _Words) -> bool:
    return (
        known is None
        or known.needs_judging
        or known.source_xid != interaction.written_xid
        or known.scores.get("feedback") != said.hash
    )


def _pieces(session: Session, ids: Sequence[UUID], variant: str) -> Iterator[list[UUID]]:
    """Yield the ids in order, cut where their payloads would be too much for memory."""
    rows = session.execute(_SIZES, {"ids": list(ids), "variant": variant})
    sizes = {identifier: size for identifier, size in rows}
    piece: list[UUID] = []
    n_bytes = 0
    for identifier in ids:
        n_bytes += sizes[identifier]
        if piece and n_bytes > BYTES_AT_ONCE:
            yield piece
            piece, n_bytes = [], sizes[identifier]
        piece.append(identifier)
    if piece:
        yield piece


_SIZES = text(
    """
    SELECT given.id, coalesce(
        octet_length(p.request::text) + coalesce(octet_length(p.response::text), 0),
        octet_length(e.prompt::text) + octet_length(e.answer),
        0
    )
    FROM unnest(CAST(:ids AS uuid[])) AS given(id)
    LEFT JOIN interaction_payload p ON p.id = given.id
    LEFT JOIN example e ON p.id IS NULL AND e.interaction_id = given.id AND e.variant = :variant
    """
)


def _read(
    interaction: Interaction, payload: InteractionPayload | None, said: _Words
) -> dict[str, Any]:
    """Return what a candidate takes from the log."""
    return {
        "interaction": interaction,
        "request": payload.request if payload else {},
        "response": payload.response if payload else None,
        "attributes": (payload.attributes if payload else None) or {},
        "has_payload": payload is not None,
        "statements": tuple(said.on(interaction.id)),
        "feedback_hash": said.hash,
    }


def _payloads(session: Session, ids: Sequence[UUID]) -> dict[UUID, InteractionPayload]:
    query = select(InteractionPayload).where(col(InteractionPayload.id).in_(ids))
    return {payload.id: payload for payload in session.execute(query).scalars()}


def _remembered(
    session: Session, ids: Sequence[UUID], variant: str, overrides: dict[UUID, dict[str, Any]]
) -> dict[UUID, InteractionPayload]:
    """Return the payloads as the examples remember them: the raw ones may expire before.

    Of an answer that a reviewer edited, the label remembers the original.
    """
    if not ids:
        return {}
    rows = session.execute(
        select(
            example.interaction_id,
            example.prompt,
            example.answer,
            example.answer_message,
            example.drop_reason,
        ).where(example.interaction_id.in_(ids), example.variant == variant)
    )
    return {
        row.interaction_id: InteractionPayload(
            id=row.interaction_id,
            request={"messages": row.prompt},
            response={
                "choices": [
                    {
                        "index": 0,
                        "message": row.answer_message
                        or message(
                            "assistant",
                            overrides.get(row.interaction_id, {}).get("original", row.answer),
                        ),
                        "finish_reason": "length" if row.drop_reason == TRUNCATED else None,
                    }
                ]
            },
        )
        for row in rows
        if row.prompt
    }


def _forgotten(stored: Example) -> Interaction:
    """Return the interaction as its example remembers it, when the log no longer holds it."""
    failed, cut_off = stored.drop_reason == ERROR_STATUS, stored.drop_reason == INCOMPLETE
    return Interaction(
        id=stored.interaction_id,
        role=stored.role,
        episode_id=stored.episode_id,
        project=stored.project,
        task_type=stored.task_type,
        status=ERROR if failed else CUT if cut_off else SUCCESS,
        completed=not cut_off,
        started_at=stored.started_at or stored.created_at,
        written_xid=stored.source_xid,
    )


def _statement(said: Feedback, interaction_id: UUID) -> Statement:
    value, name = said.value, said.name
    if said.kind == "preference":
        won = said.interaction_id == interaction_id
        value, name = float(won), str(said.loser_interaction_id if won else said.interaction_id)
    return Statement(
        kind=said.kind,
        value=value,
        text=said.text,
        source=said.source,
        actor=said.actor,
        name=name,
        direct=interaction_id in (said.interaction_id, said.loser_interaction_id),
        said_at=said.created_at,
    )


def _stored(session: Session, ids: Sequence[UUID], variant: str) -> dict[UUID, Example]:
    query = (
        select(Example)
        .where(col(Example.interaction_id).in_(ids), col(Example.variant) == variant)
        .order_by(col(Example.id))
        .options(*(defer(column) for column in _LONG))
        .with_for_update()
    )
    return {found.interaction_id: found for found in session.execute(query).scalars()}


_LONG: Final = tuple(getattr(Example, name) for name in ("prompt", "answer", "answer_message"))
"""What may be too large to be held for all examples of a chunk."""


def _interactions(
    session: Session, ids: Sequence[UUID], stored: dict[UUID, Example]
) -> dict[UUID, Interaction]:
    query = select(Interaction).where(col(Interaction.id).in_(ids))
    found = {interaction.id: interaction for interaction in session.execute(query).scalars()}
    gone = {i: _forgotten(known) for i, known in stored.items() if i not in found}
    return found | gone


def _feedback(
    session: Session, named: Sequence[tuple[UUID, UUID | None]]
) -> dict[UUID, list[Feedback]]:
    """Return what was said about each (interaction, episode), on itself or on its whole episode."""
    ids = [i for i, _ in named]
    episodes = {episode for _, episode in named if episode is not None}
    query = select(Feedback).where(
        or_(
            col(Feedback.interaction_id).in_(ids),
            col(Feedback.loser_interaction_id).in_(ids),
            and_(col(Feedback.interaction_id).is_(None), col(Feedback.episode_id).in_(episodes)),
        ),
        text(is_heard("feedback")),
    )
    by_id: dict[UUID | None, list[Feedback]] = defaultdict(list)
    for said in session.execute(query).scalars():
        for named_id in {said.interaction_id or said.episode_id, said.loser_interaction_id}:
            by_id[named_id].append(said)
    return {
        i: sorted(by_id[i] + (by_id[episode] if episode else []), key=lambda f: f.id)
        for i, episode in named
    }
