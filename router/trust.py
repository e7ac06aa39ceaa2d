"""Trust and distrust of sources of feedback: a person's act, and all that follows from it.

Of who is distrusted nothing counts any more: units of running experiments are settled anew by what
others said, curation judges again what he spoke of at the next build, and datasets and versions
that hold such examples are named, so that they can be made again. It can be taken back.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text, update
from sqlmodel import Session, col, select

from collector.feedback import sources
from collector.feedback.sources import DISTRUSTED, KEY, TRUSTED, USER, source_of
from collector.tables import SourceTrust
from curation.tables import Dataset
from foundation import decisions
from foundation.errors import BadInput, NotFound
from router.experiments.outcomes import forget_looks
from router.experiments.plan import plan_of
from router.experiments.running import running_experiments
from router.experiments.sources import read_words
from router.tables import Assignment, Experiment, GatewayKey
from trainer.lineage import learned_from

PLAIN: Final = "plain"
"""Outcome where a source is like any other again."""


@dataclass(frozen=True)
class Reach:
    """What a change of trust reached.

    Attributes:
        source: `key:<id>` or `user:<actor>`.
        trust: trusted, distrusted or plain.
        statements: that the source ever made.
        reopened: units of running experiments that are settled anew.
        datasets: versions with examples that it spoke of, `role/kind/number`.
        models: versions that learned from those, or from such a version.
    """

    source: str
    trust: str
    statements: int
    reopened: int
    datasets: Sequence[str]
    models: Sequence[str]


def named(session: Session, name: str) -> str:
    """Return the source that a person means: `key:NAME`, `key:<id>` or `user:ACTOR`.

    Raises:
        BadInput: it begins otherwise.
        NotFound: no key has that name or id.
    """
    kind, _, rest = name.partition(":")
    if f"{kind}:" == USER and rest:
        return name
    if f"{kind}:" != KEY or not rest:
        raise BadInput("source of feedback", name, "key:NAME or user:ACTOR", _LIST)
    key = session.exec(select(GatewayKey).where(GatewayKey.name == rest)).first()
    if key is None:
        key = session.get(GatewayKey, identifier) if (identifier := _as_uuid(rest)) else None
    if key is None:
        raise NotFound("key", rest, "the name or id of a key", "List them with: flywheel key list")
    return f"{KEY}{key.id}"


def change(
    session: Session,
    name: str,
    trust: str,
    *,
    reason: str,
    actor: str,
    since: datetime | None = None,
) -> Reach:
    """Trust or distrust a source, or (`plain`) neither; record it and say what it reached.

    Args:
        session: the transaction.
        name: as of `named`.
        trust: `trusted`, `distrusted` or `plain`.
        reason: why, in words.
        actor: who decided.
        since: of distrust: leave out what came from then on; None: all that it ever said.

    Raises:
        BadInput: no such kind of source or trust, or an empty reason.
        NotFound: no such key, or nothing to take back.
    """
    if trust not in (TRUSTED, DISTRUSTED, PLAIN):
        expected = f"{TRUSTED}, {DISTRUSTED} or {PLAIN}"
        raise BadInput("trust", trust, expected, "Name one of those.")
    source = named(session, name)
    before = session.get(SourceTrust, source)
    weighs = DISTRUSTED in (trust, before.trust if before else None)
    running = running_experiments(session) if weighs else []
    spoken = {one.id: _spoken(session, one, source, since) for one in running}
    wanted = None if trust == PLAIN else trust
    n_said = sources.set_trust(session, source, wanted, reason=reason, actor=actor, since=since)
    for one in running:
        spoken[one.id] |= _spoken(session, one, source, since)
    n_reopened = sum(_reopen(session, one, spoken[one.id]) for one in running)
    ids = session.execute(_DATASETS, {"source": source, "since": since}).scalars().all()
    reach = Reach(
        source, trust, n_said, n_reopened, _dataset_names(session, ids), learned_from(session, ids)
    )
    decisions.record(
        session,
        "collector.source_trust",
        trust,
        [f"{name} is {trust}: {reason}", in_words(reach)],
        inputs={**asdict(reach), "name": name, "since": since.isoformat() if since else None},
        actor=actor,
    )
    return reach


def in_words(reach: Reach) -> str:
    """Return what a change reached, in a sentence."""
    return (
        f"it made {reach.statements} statements; {reach.reopened} units of running experiments are "
        f"settled anew; datasets with examples that it spoke of: "
        f"{', '.join(reach.datasets) or 'none'}; versions that learned from them: "
        f"{', '.join(reach.models) or 'none'}"
    )


def shown_names(session: Session, found: Sequence[str]) -> dict[str, str]:
    """Return what a person calls the sources that are keys."""
    ids = {_as_uuid(one.removeprefix(KEY)) for one in found if one.startswith(KEY)} - {None}
    rows = session.exec(select(GatewayKey).where(col(GatewayKey.id).in_(ids))).all()
    return {f"{KEY}{row.id}": f"{KEY}{row.name}" for row in rows}


def _spoken(
    session: Session, experiment: Experiment, source: str, since: datetime | None
) -> set[int]:
    words = read_words(session, experiment, plan_of(experiment))
    return {
        word.sequence
        for word in words
        if word.source == source and (since is None or word.heard_at >= since)
    }


def _reopen(session: Session, experiment: Experiment, units: set[int]) -> int:
    """Forget the outcomes of units; the next look settles them by what is heard now.

    A proposal that rested on them is forgotten, too: it would wait to be accepted.
    """
    if not units:
        return 0
    forget_looks(session, experiment)
    experiment.proposed_at = None
    session.add(experiment)
    reopened = session.execute(
        update(Assignment)
        .where(col(Assignment.experiment_id) == experiment.id, col(Assignment.sequence).in_(units))
        .values(
            outcome=None,
            outcome_at=None,
            score=None,
            timed_out=False,
            late_at=None,
            n_tasks=0,
            n_successes=0,
        )
        .execution_options(synchronize_session=False)
    )
    return int(reopened.rowcount)  # type: ignore[attr-defined]


def _dataset_names(session: Session, ids: Sequence[UUID]) -> list[str]:
    rows = session.exec(select(Dataset).where(col(Dataset.id).in_(ids))).all()
    return sorted(f"{one.role}/{one.kind}/{one.number}" for one in rows)


_DATASETS = text(
    f"""
    WITH said AS (
        SELECT interaction_id, episode_id FROM feedback f
        WHERE {source_of("f")} = :source
          AND (CAST(:since AS timestamptz) IS NULL OR f.ingested_at >= :since)
    )
    SELECT DISTINCT held.dataset_id FROM example e
    JOIN dataset_example held ON held.example_id = e.id
    WHERE e.interaction_id IN (SELECT interaction_id FROM said)
       OR e.episode_id IN (SELECT episode_id FROM said WHERE interaction_id IS NULL)
    """
)


def _as_uuid(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None


_LIST: Final = "List them with: flywheel feedback sources"
