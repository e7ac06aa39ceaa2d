"""The guard: watches a version after its promotion and rolls it back when it breaks.

Errors, slow answers and a drop of success against the predecessor are each an e-process, so the
guard may look as often as it likes: each check quarantines a healthy version by mistake in at most
1/harm_e of its lives. A young version that fails every call is seen after 2 calls, one that fails
each fifth after 13. All calls since the promotion count, so good ones weigh against a later break:
after 1,000 the same takes 32 and 180 calls, after 10,000 it takes 209 and 1,142. Only promotions
are watched: what a rollback brought back has nobody better behind it.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from collector.tables import ERROR
from foundation import decisions
from foundation.decisions import Ruling
from foundation.errors import BadInput
from foundation.ids import first_id_at
from foundation.tables import Decision
from router import stats
from router.promote import PROMOTE, lock_role, previous_version, rollback
from router.tables import ROLLED_BACK, Promotion

HEALTHY = "healthy"

REFUSED = "refused:"
"""Begins the error type of a request that its upstream would not take: the caller's fault."""
UNREACHABLE = "upstream_unreachable"
"""Error type of a server that cannot be reached: an outage of all that it serves."""

PREDECESSOR_WINDOW = timedelta(days=30)
"""How far back before the promotion the predecessor's success is counted."""


@dataclass(frozen=True)
class GuardThresholds:
    """What a serving version must keep to."""

    error_limit: float = 0.02
    """Tolerated share of failed calls, 0-1."""
    slow_limit_ms: float = 3000.0
    """Latency above which a call is slow, in milliseconds."""
    slow_share: float = 0.05
    """Tolerated share of slow calls, 0-1."""
    success_margin: float = 0.05
    """Tolerated drop of the success rate against the predecessor, 0-1."""
    min_predecessor: int = 50
    """Outcomes of the predecessor needed to compare success at all."""
    harm_e: float = 20.0
    """E-value that rolls back."""

    def __post_init__(self) -> None:
        for name in ("error_limit", "slow_share", "success_margin"):
            if not 0 < getattr(self, name) < 1:
                raise BadInput(
                    f"guard, {name}", getattr(self, name), "a number between 0 and 1", "Correct it."
                )


@dataclass(frozen=True)
class Vitals:
    """Counts of the serving version since its promotion, and of its predecessor before it."""

    calls: int
    errors: int
    slow: int
    successes: int
    outcomes: int
    predecessor_successes: int
    predecessor_outcomes: int


@decisions.rule("router.guard")
def rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say whether the serving version is `healthy` or to be `rolled_back`.

    Args:
        inputs: the fields of `Vitals`.
        thresholds: the fields of `GuardThresholds`.
    """
    seen, limits = decisions.load(Vitals, inputs), decisions.load(GuardThresholds, thresholds)
    checks = [
        ("calls failed", seen.errors, seen.calls, limits.error_limit),
        (f"calls took over {limits.slow_limit_ms:g} ms", seen.slow, seen.calls, limits.slow_share),
    ]
    failure_limit = tolerated_failures(seen, limits)
    if failure_limit is not None:
        failures = seen.outcomes - seen.successes
        checks.append(("tasks failed", failures, seen.outcomes, failure_limit))
    reasons = [
        f"{bad} of {n} {words}, the limit is {limit:.1%}: E = {e_value:.3g}, "
        f"at least {limits.harm_e:g}"
        for words, bad, n, limit in checks
        if (e_value := stats.e_value(float(stats.log_e_rate(bad, n, limit)))) >= limits.harm_e
    ]
    if reasons:
        return Ruling(ROLLED_BACK, tuple(reasons))
    return Ruling(HEALTHY, (f"{seen.calls} calls without proof of a break",))


def tolerated_failures(seen: Vitals, limits: GuardThresholds) -> float | None:
    """Return the failure rate of tasks that is still no drop, 0-1; None if that is not known.

    The predecessor's own rate is an estimate, so its upper 97.5 % Wilson bound is taken, plus the
    margin. At 0.95 and above nothing could be called a drop.
    """
    n = seen.predecessor_outcomes
    if n < limits.min_predecessor:
        return None
    z = 1.96
    rate = 1 - seen.predecessor_successes / n
    centre = rate + z * z / (2 * n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    limit = (centre + spread) / (1 + z * z / n) + limits.success_margin
    return limit if limit < 0.95 else None


def watch(
    session: Session, role: str, limits: GuardThresholds | None = None, actor: str = "flywheel"
) -> Decision | None:
    """Roll `role` back if what was promoted last breaks; return the Decision, None if all is well.

    Nothing is watched where the version that serves was not promoted, or has no predecessor left.

    Raises:
        NotFound: the role is not configured, or nobody serves it.
    """
    limits = limits or GuardThresholds()
    serving = lock_role(session, role)
    promotion = session.get(Promotion, serving.promotion_id)
    if promotion is None or promotion.kind != PROMOTE or previous_version(session, role) is None:
        return None
    vitals = measure(session, promotion, limits)
    if rule(decisions.as_json(vitals), decisions.as_json(limits)).outcome == HEALTHY:
        return None
    decision = decisions.decide(
        session,
        "router.guard",
        vitals,
        limits,
        role=role,
        subject_id=promotion.to_model_version_id,
        actor=actor,
    )
    rollback(session, role, reason=decision.reasons[0], actor=actor, decision=decision)
    return decision


def counts_for_version(status: str, error_type: str | None) -> bool:
    """Return whether a call says how well its version serves; pure.

    Malformed requests and a server that is away say nothing about it: three of them would be proof
    enough to quarantine a healthy version. `_CALLS` asks the same in SQL.
    """
    kind = error_type or ""
    return status != ERROR or not (kind.startswith(REFUSED) or kind == UNREACHABLE)


_CALLS = text(
    f"""
    SELECT count(*) AS calls,
           count(*) FILTER (WHERE status = 'error') AS errors,
           count(*) FILTER (WHERE latency_ms > :slow) AS slow
    FROM interaction
    WHERE role = :role AND model_version_id = :version AND id >= :since
      AND NOT (status = 'error' AND coalesce(
          error_type LIKE '{REFUSED}%' OR error_type = '{UNREACHABLE}', false))
    """
)

_OUTCOMES = text(
    """
    WITH calls AS (
        SELECT id, episode_id FROM interaction
        WHERE role = :role AND model_version_id = :version
          AND id >= :since
    ), told AS (
        SELECT DISTINCT ON (task) task, value FROM (
            SELECT calls.episode_id AS task, f.value, 0 AS level, f.created_at, f.id
            FROM feedback f JOIN calls ON calls.episode_id = f.episode_id
            WHERE f.kind = 'success' AND f.interaction_id IS NULL
            UNION ALL
            SELECT coalesce(calls.episode_id, calls.id), f.value, 1, f.created_at, f.id
            FROM feedback f JOIN calls ON calls.id = f.interaction_id
            WHERE f.kind = 'success'
        ) said ORDER BY task, level, created_at, id
    )
    SELECT count(*) AS outcomes, count(*) FILTER (WHERE value >= 0.5) AS successes FROM told
    """
)


def measure(session: Session, promotion: Promotion, limits: GuardThresholds) -> Vitals:
    """Count the calls and outcomes of the promoted version since then, and its predecessor's."""
    since = promotion.created_at
    calls = session.execute(
        _CALLS,
        {
            "slow": limits.slow_limit_ms,
            "role": promotion.role,
            "version": promotion.to_model_version_id,
            "since": first_id_at(since),
        },
    ).one()
    ours = _outcomes(session, promotion.role, promotion.to_model_version_id, since)
    theirs = (0, 0)
    if promotion.from_model_version_id is not None:
        theirs = _outcomes(
            session, promotion.role, promotion.from_model_version_id, since - PREDECESSOR_WINDOW
        )
    return Vitals(
        calls=calls.calls,
        errors=calls.errors,
        slow=calls.slow,
        successes=ours[0],
        outcomes=ours[1],
        predecessor_successes=theirs[0],
        predecessor_outcomes=theirs[1],
    )


def _outcomes(session: Session, role: str, version_id: UUID, since: datetime) -> tuple[int, int]:
    row = session.execute(
        _OUTCOMES,
        {"role": role, "version": version_id, "since": first_id_at(since)},
    ).one()
    return int(row.successes), int(row.outcomes)


def watched_roles(session: Session) -> list[str]:
    """Return the roles that somebody serves, sorted."""
    return [
        str(role) for (role,) in session.execute(text("SELECT role FROM role_serving ORDER BY 1"))
    ]
