"""Whose word the evidence of an experiment rests on, as its page shows it: a row for each source.

Read of the newest units only, so that a page that looks every few seconds costs the same however
long the experiment is. What stands out is what the scheduler wrote down last.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlmodel import Session, col, select

from collector.feedback.anomalies import AGAIN_AFTER, AnomalyThresholds, SourceCounts, by_source
from collector.feedback.sources import MACHINE, list_trust
from foundation import decisions
from foundation.tables import Decision, now
from router.experiments.plan import SCORE, SUCCESS, plan_of
from router.experiments.sources import firsts, names_of, read_words
from router.tables import Experiment

UNITS: Final = 2000
"""The newest units whose words are counted."""
SHOWN: Final = 12
"""Sources that have a row, those that said most."""


@dataclass(frozen=True)
class Voice:
    """What one source said of an experiment's newest units."""

    name: str
    """`key:NAME`, `user:ACTOR`, or the machine."""
    statements: int
    """Tasks that it spoke of."""
    share: float
    """Of the tasks that somebody spoke of, those of which it spoke first, 0-1."""
    rate: float
    """Of what it said, what is a success, 0-1."""
    flags: Mapping[str, str]
    """What stood out in it this week over the role, with the figure in words."""
    trust: str | None
    """trusted, distrusted or None. What a distrusted one said is not counted here either."""


def read_voices(session: Session, experiment: Experiment) -> list[Voice]:
    """Return the sources behind an experiment's evidence, who said most first.

    Empty where nobody spoke, where all is the machine's word (that of who has the master key), and
    where answers are compared in pairs.
    """
    plan = plan_of(experiment)
    if plan.outcome_kind not in (SUCCESS, SCORE):
        return []
    words = read_words(session, experiment, plan, UNITS)
    values = defaultdict[str, list[float]](list)
    for word in words:
        values[word.source].append(word.value)
    if not values.keys() - {MACHINE}:
        return []
    most = sorted(values, key=lambda source: (-len(values[source]), source))[:SHOWN]
    names, shares = names_of(session, most), firsts(words)
    trust = {row.source: row.trust for row in list_trust(session)}
    stands_out = _flags(session, experiment.role)
    return [
        Voice(
            name=names.get(source, source) or "the machine",
            statements=len(values[source]),
            share=shares[source],
            rate=sum(value >= 0.5 for value in values[source]) / len(values[source]),
            flags=stands_out.get(source, {}),
            trust=trust.get(source),
        )
        for source in most
    ]


def _flags(session: Session, role: str) -> dict[str, Mapping[str, str]]:
    """Return the flags of each source of a role, as they were last written down this week."""
    last = session.exec(
        select(Decision)
        .where(
            Decision.kind == "collector.source_anomaly",
            Decision.role == role,
            col(Decision.created_at) >= now() - AGAIN_AFTER,
        )
        .order_by(col(Decision.id).desc())
        .limit(1)
    ).first()
    if last is None:
        return {}
    counts: Sequence[SourceCounts] = [
        decisions.load(SourceCounts, one) for one in last.inputs["sources"]
    ]
    limits = decisions.load(AnomalyThresholds, last.rule)
    spared = set(last.inputs.get("trusted", ()))
    return {row["source"]: row["flags"] for row in by_source(counts, limits, spared)}
