"""Cross-role credit: the outcome of one role's turn becomes feedback on another's, by rules.

A tester's outcome judges the code that a coder wrote just before it. What a rule
(`credit_rules`) makes of it has the source `role`, the judging role as actor, and the
first statement in `derived_from`; its id is made of that, so that it exists once. It goes to the
turn of the credited role in the judged turn's chain of parents, else to the newest one of the
episode that started before it.

The order of arrival does not matter: a turn that comes late is taken into account, and the credit
moves to it if it is the one meant. What a rule made is never judged by a rule, so no chain of rules
can go round.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from collector.feedback.credit_rules import KINDS, CreditRule, get_rules
from collector.feedback.sources import is_heard
from collector.record import derived_id
from collector.tables import ERROR
from foundation.ids import first_id_at, time_of
from foundation.tables import now

_AT_ONCE: Final = 2_000
SKEW = timedelta(days=1)
"""How far the clocks of two writers of one episode may differ."""


@dataclass(frozen=True)
class Turn:
    """What credit needs to know of an interaction."""

    id: UUID
    role: str
    episode_id: UUID
    parent_id: UUID | None
    started_at: datetime
    status: str


@dataclass(frozen=True)
class Judgement:
    """A statement about a judging role's turn."""

    id: UUID
    turn: Turn
    kind: str
    name: str | None
    value: float | None
    text: str | None
    source: str
    created_at: datetime


def settle(
    session: Session, interactions: Sequence[Mapping[str, Any]], said: Collection[UUID]
) -> int:
    """Give the credit that new rows bring about; return how many statements were made or moved.

    Args:
        session: of the transaction that stored the rows.
        interactions: columns of new interactions: late judges, and late turns to be credited.
        said: ids of feedback that is new, or newly joined to its interaction.
    """
    rules = get_rules()
    judges = {rule.judge for rule in rules}
    credited = {rule.credits for rule in rules}
    turns = [_uuid(row["id"]) for row in interactions if row["role"] in judges]
    late = [row for row in interactions if row["role"] in credited and row.get("episode_id")]
    if late:
        turns += _judging_turns(session, late, judges)
    return _give(session, rules, _judgements(session, judges, said, turns)) if said or turns else 0


def settle_since(session: Session, since: datetime) -> int:
    """Give the credit that concurrent transactions left: of what was ingested since then.

    Also what to do for stored feedback after a change of the rules. Returns as `settle`. A few
    thousand statements are in memory at a time.
    """
    rules = get_rules()
    judges = {rule.judge for rule in rules}
    moment = {"since": since, "judges": sorted(judges)}
    turns = session.execute(_JUDGING_SINCE, moment).scalars().all()
    said = session.execute(_SAID_SINCE, {"since": since, "turns": turns}).scalars().all()
    return sum(
        _give(session, rules, _judgements(session, judges, said[start : start + _AT_ONCE], ()))
        for start in range(0, len(said), _AT_ONCE)
    )


def credited_turn(judged: Turn, turns: Iterable[Turn], role: str) -> Turn | None:
    """Return the turn of `role` that a judgement of `judged` is about, or None; pure.

    Args:
        judged: the tester's or reviewer's turn.
        turns: those of its episode, in any order. Failed calls answered nothing to be judged.
        role: who is credited.
    """
    by_id = {turn.id: turn for turn in turns}
    seen = {judged.id}
    parent = judged.parent_id
    while parent is not None and parent in by_id and parent not in seen:
        seen.add(parent)
        turn = by_id[parent]
        if turn.role == role and turn.status != ERROR:
            return turn
        parent = turn.parent_id
    before = [
        turn
        for turn in by_id.values()
        if turn.role == role
        and turn.status != ERROR
        and (turn.started_at, turn.id) < (judged.started_at, judged.id)
    ]
    return max(before, key=lambda turn: (turn.started_at, turn.id), default=None)


_JUDGING = text(
    """
    SELECT id FROM interaction
    WHERE episode_id = ANY(:episodes) AND role = ANY(:judges) AND id >= :first AND id < :last
    """
)

_SAID_SINCE = text(
    """
    SELECT id FROM (
        SELECT id, created_at FROM feedback
        WHERE ingested_at >= :since AND derived_from IS NULL AND interaction_id IS NOT NULL
        UNION
        SELECT id, created_at FROM feedback
        WHERE interaction_id = ANY(:turns) AND derived_from IS NULL
    ) AS said
    ORDER BY created_at, id
    """
)
"""In the order of the ids that credit is given, but within a millisecond: two transactions hardly
ever wait for each other."""

_JUDGING_SINCE = text(
    "SELECT id FROM interaction WHERE role = ANY(:judges) AND ingested_at >= :since"
)

_SAID = text(
    f"""
    SELECT id, interaction_id, kind, name, value, text, source, created_at FROM feedback
    WHERE (id = ANY(:said) OR interaction_id = ANY(:turns))
      AND derived_from IS NULL AND interaction_id IS NOT NULL AND kind = ANY(:kinds)
      AND {is_heard("feedback")}
    """
)

_TURNS = """
    SELECT id, role, episode_id, parent_id, started_at, status FROM interaction
    WHERE episode_id IS NOT NULL AND {condition}
"""
_JUDGED = text(_TURNS.format(condition="id = ANY(:ids) AND role = ANY(:judges)"))
_IN_EPISODES = text(_TURNS.format(condition="episode_id = ANY(:episodes)"))

_GIVEN = text("SELECT id, interaction_id FROM feedback WHERE id = ANY(:ids)")

_INSERT = text(
    """
    INSERT INTO feedback (id, interaction_id, episode_id, kind, name, value, text, source, actor,
                          derived_from, details, created_at, ingested_at, key_id)
    VALUES (:id, :interaction_id, :episode_id, :kind, :name, :value, :text, 'role', :actor,
            :derived_from, CAST(:details AS jsonb), :created_at, :ingested_at,
            (SELECT key_id FROM feedback WHERE id = :derived_from))
    ON CONFLICT (id) DO UPDATE SET
        interaction_id = excluded.interaction_id,
        ingested_at = excluded.ingested_at,
        written_xid = excluded.written_xid,
        details = excluded.details
            || jsonb_build_object('credited_before', feedback.interaction_id)
    WHERE feedback.interaction_id <> excluded.interaction_id
    """
)
"""`credited_before` lets curation judge again the example that has lost the credit."""


def _judging_turns(
    session: Session, late: Sequence[Mapping[str, Any]], judges: Collection[str]
) -> list[UUID]:
    """Return the judging turns in the episodes of turns that came after them."""
    earliest = time_of(min(_uuid(row["id"]) for row in late)) - SKEW
    found = session.execute(
        _JUDGING,
        {
            "episodes": sorted({_uuid(row["episode_id"]) for row in late}),
            "judges": sorted(judges),
            # Leaves out the partitions that are older, and those made ahead.
            "first": first_id_at(earliest),
            "last": first_id_at(now() + 2 * SKEW),
        },
    )
    return list(found.scalars())


def _judgements(
    session: Session, judges: Collection[str], said: Collection[UUID], turns: Collection[UUID]
) -> list[Judgement]:
    """Return the statements, among `said` or about `turns`, about a judging role's turn.

    In two steps: a join might tempt the planner to read the log from end to end.
    """
    statements = session.execute(
        _SAID, {"said": list(said), "turns": list(turns), "kinds": list(KINDS)}
    ).all()
    about = sorted({one.interaction_id for one in statements})
    if not about:
        return []
    rows = session.execute(_JUDGED, {"ids": about, "judges": sorted(judges)})
    judged = {turn.id: turn for turn in map(_turn, rows)}
    return [
        Judgement(
            id=one.id,
            turn=judged[one.interaction_id],
            kind=one.kind,
            name=one.name,
            value=one.value,
            text=one.text,
            source=one.source,
            created_at=one.created_at,
        )
        for one in statements
        if one.interaction_id in judged
    ]


def _give(session: Session, rules: Sequence[CreditRule], judgements: Sequence[Judgement]) -> int:
    """Store what the rules make of judgements; return how many statements were made or moved."""
    due = [
        (said, rule)
        for said in judgements
        for rule in rules
        if rule.takes(said.turn.role, said.kind, said.name, said.source, said.value, said.text)
    ]
    if not due:
        return 0
    episodes = sorted({said.turn.episode_id for said, _ in due})
    turns = defaultdict[UUID, list[Turn]](list)
    for turn in map(_turn, session.execute(_IN_EPISODES, {"episodes": episodes})):
        turns[turn.episode_id].append(turn)
    given = dict[UUID, dict[str, Any]]()
    for said, rule in due:
        target = credited_turn(said.turn, turns[said.turn.episode_id], rule.credits)
        if target is not None:
            row = _statement(said, rule, target)
            given.setdefault(row["id"], row)  # the first rule of those that give the same
    stored = {row.id: row.interaction_id for row in session.execute(_GIVEN, {"ids": list(given)})}
    changed = 0
    for identifier, row in sorted(given.items()):  # the same order everywhere: no deadlock
        if stored.get(identifier) != row["interaction_id"]:
            changed += session.execute(_INSERT, row).rowcount  # type: ignore[attr-defined]
    return changed


def _statement(said: Judgement, rule: CreditRule, target: Turn) -> dict[str, Any]:
    value, words = rule.given(said.value, said.text)
    return {
        "id": derived_id(said.created_at, "credit", str(said.id), rule.credits, rule.gives),
        "interaction_id": target.id,
        "episode_id": target.episode_id,
        "kind": rule.gives,
        "name": said.name,
        "value": value,
        "text": words,
        "actor": rule.judge,
        "derived_from": said.id,
        "details": json.dumps({"judged": str(said.turn.id)}),
        "created_at": said.created_at,
        "ingested_at": now(),
    }


def _turn(row: Any) -> Turn:
    return Turn(row.id, row.role, row.episode_id, row.parent_id, row.started_at, row.status)


def _uuid(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)
