"""Sources of feedback that are unlike the others: flags for a person, never a verdict.

Each source is held beside all others of the same role over the same time, by the newest statements
of each only, so that a look costs the same however long the log is, and a source that says much
does not hide the others. A flag names a figure; many have a harmless reason (a continuous
integration that judges all calls), so nothing is left out for it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session, col, select

from collector.feedback.sources import MACHINE, is_heard, source_of, trusted
from foundation import decisions
from foundation.decisions import Ruling
from foundation.intervals import wilson
from foundation.tables import Decision, now

FLAGGED, ALIKE = "flagged", "alike"
AGAIN_AFTER: Final = timedelta(days=7)
"""A source that stays as it is, is told of once in this time."""

VOLUME, RATE, DISAGREES, BURST = "volume", "rate", "disagrees", "burst"
SELF_APPROVAL, OTHERS_CALLS, REPEATS = "self_approval", "others_calls", "repeats"


@dataclass(frozen=True)
class AnomalyThresholds:
    """What makes a source unlike the others."""

    min_statements: int = 30
    """Statements of a source below which nothing is said of it."""
    volume_share: float = 0.5
    """Share of all statements of a role, 0-1, where two others speak, too."""
    rate_points: float = 10.0
    """Percentage points of success apart from the others, beyond chance."""
    rate_z: float = 4.0
    """Standard errors that this must be, however many sources are compared."""
    agreement: float = 0.7
    """Share of calls, 0-1, on which it agrees with others, by the upper 97.5 % bound."""
    burst_share: float = 0.5
    """Share of its statements, 0-1, that came within one hour, of a day or more."""
    own_share: float = 0.9
    """Share of statements, 0-1, about calls that came by the same key, where `rate` is higher."""
    others_share: float = 0.1
    """Share of statements, 0-1, about calls that came by other keys."""
    repeat_share: float = 0.2
    """Share of statements, 0-1, that say something again of what it had judged before."""
    days: float = 28.0
    """How far back."""
    newest: int = 100_000
    """Statements of one source looked at, at most."""


SOURCES: Final = 10
"""As many times `newest` statements of all sources and roles are read: what bounds a look."""


@dataclass(frozen=True)
class SourceCounts:
    """What one source said of a role's calls."""

    source: str
    n: int
    successes: int
    subjects: int
    """Calls or episodes that it spoke of."""
    own: int
    """Statements about calls that came by the same key."""
    others: int
    """Statements about calls that came by another key."""
    busiest_hour: int
    """Statements in the hour in which it said most."""
    hours: float
    """Between its first and its last statement."""
    shared: int = 0
    """Calls or episodes of which somebody else spoke, too."""
    agreed: int = 0
    """Of them those on which the first words agree."""


@decisions.rule("collector.source_anomaly")
def rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say whether sources are `flagged` or all `alike`; a reason for each flag.

    Args:
        inputs: `sources`, the fields of `SourceCounts` of each; `trusted`, who is not flagged.
        thresholds: the fields of `AnomalyThresholds`.
    """
    limits = decisions.load(AnomalyThresholds, thresholds)
    counts = [decisions.load(SourceCounts, one) for one in inputs["sources"]]
    spared = set(inputs.get("trusted", ()))
    reasons = tuple(
        f"{one.source or 'the machine'}: {name}: {words}"
        for one in counts
        if one.source not in spared
        for name, words in flags(one, counts, limits).items()
    )
    return Ruling(FLAGGED, reasons) if reasons else Ruling(ALIKE, ("no source stands out",))


def flags(
    one: SourceCounts, everybody: Sequence[SourceCounts], limits: AnomalyThresholds
) -> dict[str, str]:
    """Return what is unlike the others in a source: the flag, and its figure in words; pure."""
    if one.n < limits.min_statements:
        return {}
    others = [other for other in everybody if other.source != one.source]
    n_others, good = sum(o.n for o in others), sum(o.successes for o in others)
    found: dict[str, str] = {}
    share = one.n / (one.n + n_others)
    if len(others) >= 2 and share >= limits.volume_share:
        found[VOLUME] = f"{share:.0%} of all statements"
    if n_others >= limits.min_statements:
        apart, z = _apart(one.successes, one.n, good, n_others)
        if abs(apart) >= limits.rate_points / 100 and abs(z) >= limits.rate_z:
            rates = f"{one.successes / one.n:.0%} success, the others {good / n_others:.0%}"
            found[RATE] = f"{rates} (z = {z:.1f})"
            if apart > 0 and one.own / one.n >= limits.own_share:
                found[SELF_APPROVAL] = f"{one.own / one.n:.0%} of it about its own calls"
    if one.shared >= limits.min_statements:
        if wilson(one.agreed / one.shared, one.shared)[1] < limits.agreement:
            found[DISAGREES] = f"agrees with others on {one.agreed} of {one.shared}"
    if one.hours >= 24 and one.busiest_hour / one.n >= limits.burst_share:
        found[BURST] = f"{one.busiest_hour / one.n:.0%} of it within one hour"
    if one.others / one.n >= limits.others_share:
        found[OTHERS_CALLS] = f"{one.others / one.n:.0%} of it about calls of other keys"
    if 1 - one.subjects / one.n >= limits.repeat_share:
        found[REPEATS] = f"{one.n - one.subjects} statements about what it had judged before"
    return found


def _apart(good: int, n: int, theirs: int, m: int) -> tuple[float, float]:
    """Return the difference of two shares, and how many standard errors that is.

    One success and one failure are added to both, so that all or none has an error, too.
    """
    p, q = (good + 1) / (n + 2), (theirs + 1) / (m + 2)
    return p - q, (p - q) / math.sqrt(p * (1 - p) / (n + 2) + q * (1 - q) / (m + 2))


_COUNTS = text(
    f"""
    WITH latest AS (
        SELECT f.id, f.value, f.ingested_at, f.key_id, f.interaction_id, f.episode_id,
               {source_of("f")} AS spoken_by
        FROM feedback f
        WHERE f.kind = 'success' AND f.value IS NOT NULL AND f.derived_from IS NULL
          AND f.ingested_at >= :since AND {is_heard("f")}
        ORDER BY f.ingested_at DESC LIMIT :read
    ), newest AS MATERIALIZED (
        SELECT * FROM (
            SELECT latest.*,
                   row_number() OVER (PARTITION BY spoken_by ORDER BY ingested_at DESC) AS place
            FROM latest
        ) numbered WHERE place <= :newest
    ), said AS (
        SELECT n.spoken_by, n.value >= 0.5 AS good, n.ingested_at, n.id, n.key_id,
               coalesce(n.interaction_id, n.episode_id) AS subject, i.key_id AS called_by
        FROM newest n JOIN interaction i ON i.id = n.interaction_id AND i.role = :role
        UNION ALL
        SELECT n.spoken_by, n.value >= 0.5, n.ingested_at, n.id, n.key_id, n.episode_id, c.key_id
        FROM newest n CROSS JOIN LATERAL (
            SELECT key_id FROM interaction
            WHERE episode_id = n.episode_id AND role = :role LIMIT 1
        ) c
        WHERE n.interaction_id IS NULL
    ), first AS (
        SELECT DISTINCT ON (spoken_by, subject) spoken_by, subject, good FROM said
        ORDER BY spoken_by, subject, ingested_at, id
    ), beside AS (
        SELECT one.spoken_by, count(*) AS shared,
               count(*) FILTER (WHERE one.good = (other.good >= 0.5)) AS agreed
        FROM first one CROSS JOIN LATERAL (
            SELECT avg(good::int) AS good FROM first two
            WHERE two.subject = one.subject AND two.spoken_by <> one.spoken_by
        ) other WHERE other.good IS NOT NULL GROUP BY 1
    ), hourly AS (
        SELECT spoken_by, max(n) AS busiest FROM (
            SELECT spoken_by, count(*) AS n FROM said
            GROUP BY spoken_by, date_trunc('hour', ingested_at)
        ) hours GROUP BY 1
    ), counted AS (
        SELECT spoken_by, count(*) AS n, count(*) FILTER (WHERE good) AS successes,
               count(DISTINCT subject) AS subjects,
               count(*) FILTER (WHERE key_id = called_by) AS own,
               count(*) FILTER (WHERE key_id <> called_by) AS others,
               extract(epoch FROM max(ingested_at) - min(ingested_at)) / 3600.0 AS hours
        FROM said GROUP BY 1
    )
    SELECT counted.spoken_by, n, successes, subjects, own, others, busiest,
           CAST(hours AS float), coalesce(shared, 0), coalesce(agreed, 0)
    FROM counted JOIN hourly USING (spoken_by) LEFT JOIN beside USING (spoken_by)
    ORDER BY n DESC, counted.spoken_by
    """
)


def count(
    session: Session, role: str, limits: AnomalyThresholds | None = None
) -> list[SourceCounts]:
    """Return what each source said of a role's calls lately, who said most first."""
    limits = limits or AnomalyThresholds()
    since = now() - timedelta(days=limits.days)
    values = {
        "role": role,
        "since": since,
        "newest": limits.newest,
        "read": SOURCES * limits.newest,
    }
    return [SourceCounts(*row) for row in session.execute(_COUNTS, values)]


def watch(session: Session, role: str, limits: AnomalyThresholds | None = None) -> Decision | None:
    """Write down which sources of a role stand out, if that is news; None if not.

    What was told in the last week of the same sources with the same flags is no news.
    """
    limits = limits or AnomalyThresholds()
    counts = count(session, role, limits)
    if all(one.source == MACHINE for one in counts):
        return None
    inputs = {
        "sources": [asdict(one) for one in counts],
        "trusted": sorted({MACHINE, *trusted(session)}),
    }
    ruling = rule(inputs, asdict(limits))
    if ruling.outcome == ALIKE or _kinds(ruling.reasons) <= _told(session, role):
        return None
    return decisions.decide(session, "collector.source_anomaly", inputs, limits, role=role)


def _told(session: Session, role: str) -> set[str]:
    rows: Sequence[Decision] = session.exec(
        select(Decision).where(
            Decision.kind == "collector.source_anomaly",
            Decision.role == role,
            col(Decision.created_at) >= now() - AGAIN_AFTER,
        )
    ).all()
    return {kind for row in rows for kind in _kinds(row.reasons)}


def _kinds(reasons: Sequence[str]) -> set[str]:
    """Return source and flag of each reason, without the figure."""
    return {reason.rpartition(": ")[0] for reason in reasons}


def by_source(
    counts: Sequence[SourceCounts], limits: AnomalyThresholds, spared: set[str]
) -> list[Mapping[str, Any]]:
    """Return a row for display of each source: counts, rate, share and flags."""
    total = sum(one.n for one in counts)
    return [
        {
            **asdict(one),
            "share": one.n / total,
            "success_rate": one.successes / one.n,
            "flags": {} if one.source in spared else flags(one, counts, limits),
        }
        for one in counts
    ]
