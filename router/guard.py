"""The guard: watches a version after its promotion and rolls it back when it breaks.

Errors, slow answers and a drop of success against the predecessor are each an e-process, so the
guard may look as often as it likes. Most of each (0.85) counts from the promotion and the rest
(0.15) allows for a change at any time, so a long healthy past does not hide a later break
(`stats.RateWatch`). Each check quarantines a healthy version by mistake in at most 1/harm_e of its
lives.

What the predecessor suffers under the same load, as the hold-back shows, is not held against the
version. Its state is a row of `guard_watch`, moved on in the transaction that reads the new rows:
a look costs what came since the last one, and a kill loses nothing. Only promotions are watched:
what a rollback brought back has nobody better behind it.
"""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, select

from collector.feedback.sources import is_heard
from foundation import decisions
from foundation.decisions import Ruling
from foundation.errors import BadInput
from foundation.ids import first_id_at
from foundation.intervals import wilson
from foundation.snapshots import NOW, last_look, watermark
from foundation.tables import Decision, now
from router import stats
from router.failure_sources import OTHERS, failure_sources
from router.faults import REFUSED, UNREACHABLE
from router.promote import PROMOTE, is_stopped, lock_role, previous_version, rollback
from router.tables import ROLLED_BACK, GuardWatch, Promotion, RolePolicy

HEALTHY = "healthy"

PREDECESSOR_WINDOW = timedelta(days=30)
"""How far back before the promotion the predecessor's success is counted."""

ERRORS, SLOW, FAILURES = "errors", "slow", "failures"
"""The checks: calls that failed, calls that were slow, tasks that failed."""

_MOST_WAITING = 1000
"""Outcomes kept until the predecessor's are enough to compare with."""

LATEST = 400
"""Calls of both versions in which they are held beside each other. A longer past would make a break
of now look like what the predecessor, too, may have had at some time."""


@dataclass(frozen=True)
class GuardThresholds:
    """What a serving version must keep to."""

    error_limit: float = 0.02
    """Tolerated share of failed calls, 0-1."""
    slow_limit_ms: float = 3000.0
    """Latency above which a call is slow, in milliseconds."""
    slow_share: float = 0.05
    """Tolerated share of slow calls, 0-1; the predecessor's own where that was more."""
    success_margin: float = 0.05
    """Tolerated drop of the success rate against the predecessor, 0-1."""
    min_predecessor: int = 50
    """Outcomes (or calls) of the predecessor needed to compare with it at all."""
    harm_e: float = 20.0
    """E-value that rolls back."""

    def __post_init__(self) -> None:
        for name in ("error_limit", "slow_share", "success_margin"):
            if not 0 < getattr(self, name) < 1:
                raise BadInput(
                    f"guard, {name}", getattr(self, name), "a number between 0 and 1", "Correct it."
                )
        for name, least in (("slow_limit_ms", 0), ("min_predecessor", 0), ("harm_e", 1)):
            if not getattr(self, name) > least:
                raise BadInput(
                    f"guard, {name}", getattr(self, name), f"more than {least}", "Correct it."
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
    limits: dict[str, float] = field(default_factory=dict)
    """Tolerated rate of each check; empty: recorded when all calls counted alike."""
    log_e: dict[str, float] = field(default_factory=dict)
    """Evidence of each check that its limit is broken."""
    beside: dict[str, int] = field(default_factory=dict)
    """Calls, errors and slow calls of the predecessor in the same time, if it has any."""
    latest: dict[str, int] = field(default_factory=dict)
    """Those of the version itself in that time: the last calls of both. Empty: recorded when that
    was the whole time since the promotion."""
    told_by: dict[str, int] = field(default_factory=dict)
    """Failed tasks by who told of them first; asked when it is to be rolled back, else empty."""


@decisions.rule("router.guard")
def rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say whether the serving version is `healthy` or to be `rolled_back`.

    Args:
        inputs: the fields of `Vitals`.
        thresholds: the fields of `GuardThresholds`.
    """
    seen, limits = decisions.load(Vitals, inputs), decisions.load(GuardThresholds, thresholds)
    reasons = tuple(
        f"{check.bad} of {check.n} {check.words}, the limit is {check.limit:.1%}: "
        f"E = {e_value:.3g}, at least {limits.harm_e:g}{_told_by_one(check, seen)}"
        for check in _checks(seen, limits)
        if (e_value := stats.e_value(check.log_e)) >= limits.harm_e and not _shared(check, seen)
    )
    if reasons:
        return Ruling(ROLLED_BACK, reasons)
    return Ruling(HEALTHY, (f"{seen.calls} calls without proof of a break",))


def _told_by_one(check: "_Check", seen: Vitals) -> str:
    """Return the name of the source that most failed tasks rest on, in words; empty: of no one."""
    if check.name != FAILURES:
        return ""
    n = sum(seen.told_by.values())
    most = max((m, name) for name, m in seen.told_by.items()) if n else (0, OTHERS)
    if most[1] == OTHERS or 2 * most[0] <= n:
        return ""
    return f"; {most[1]} told of {most[0]} of {n} of them: look at it before you believe it"


@dataclass(frozen=True)
class _Check:
    name: str
    words: str
    bad: int
    n: int
    limit: float
    log_e: float


def _checks(seen: Vitals, limits: GuardThresholds) -> list[_Check]:
    failures = seen.outcomes - seen.successes
    slow = f"calls took over {limits.slow_limit_ms:g} ms"
    rows = [
        (ERRORS, "calls failed", seen.errors, seen.calls, limits.error_limit),
        (SLOW, slow, seen.slow, seen.calls, limits.slow_share),
        (FAILURES, "tasks failed", failures, seen.outcomes, tolerated_failures(seen, limits)),
    ]
    found = []
    for name, words, bad, n, plain in rows:
        limit = seen.limits.get(name, plain if not seen.limits else None)
        if limit is None:
            continue
        log_e = seen.log_e.get(name)
        evidence = float(stats.log_e_rate(bad, n, limit)) if log_e is None else log_e
        found.append(_Check(name, words, bad, n, limit, evidence))
    return found


def _shared(check: _Check, seen: Vitals) -> bool:
    """Say whether the predecessor does no better under the same load: then it is the load's."""
    if check.name == FAILURES or not seen.beside:
        return False
    mine = seen.latest or {"calls": check.n, check.name: check.bad}
    beside = seen.beside
    return stats.is_shared(mine[check.name], mine["calls"], beside[check.name], beside["calls"])


def tolerated_failures(seen: Vitals, limits: GuardThresholds) -> float | None:
    """Return the failure rate of tasks that is still no drop, 0-1; None if that is not known.

    The predecessor's own rate is an estimate, so its upper 97.5 % Wilson bound is taken, plus the
    margin. At 0.95 and above nothing could be called a drop.
    """
    n = seen.predecessor_outcomes
    if n < limits.min_predecessor:
        return None
    limit = wilson(1 - seen.predecessor_successes / n, n)[1] + limits.success_margin
    return limit if limit < 0.95 else None


def thresholds_of(session: Session, role: str) -> GuardThresholds:
    """Return the guard's thresholds for a role: the defaults, changed by its policy."""
    policy = session.get(RolePolicy, role)
    return GuardThresholds(**(policy.settings.get("guard", {}) if policy else {}))


def watch(
    session: Session, role: str, limits: GuardThresholds | None = None, actor: str = "flywheel"
) -> Decision | None:
    """Roll `role` back if what was promoted last breaks; return the Decision, None if all is well.

    Nothing is watched where the version that serves was not promoted, has no predecessor left, or
    gets no calls because of an emergency stop.

    Raises:
        NotFound: the role is not configured, or nobody serves it.
    """
    limits = limits or thresholds_of(session, role)
    serving = lock_role(session, role)
    promotion = session.get(Promotion, serving.promotion_id)
    if promotion is None or promotion.kind != PROMOTE or previous_version(session, role) is None:
        return None
    if is_stopped(session, role):
        return None
    vitals = measure(session, promotion, limits)
    if rule(decisions.as_json(vitals), decisions.as_json(limits)).outcome == HEALTHY:
        return None
    vitals = replace(vitals, told_by=failure_sources(session, promotion))
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


# What `faults.counts_for_version` says, in SQL.
_COUNTS = f"""NOT (status = 'error' AND coalesce(
    error_type LIKE '{REFUSED}%' OR error_type = '{UNREACHABLE}', false))
    AND coalesce(arm, '') <> 'shadow'"""


def measure(session: Session, promotion: Promotion, limits: GuardThresholds) -> Vitals:
    """Add what came since the last look to the promotion's watch and return how it stands.

    The caller has locked the role, and commits.
    """
    row = _watch_row(session, promotion)
    state = deepcopy(row.state) or _begun(session, promotion, limits)
    calls, calls_read = _new_calls(session, promotion, limits, row.watermark.get("calls", {}))
    outcomes, told_read = _new_outcomes(session, promotion, row.watermark.get("outcomes", {}))
    if FAILURES not in state["watches"]:
        _know_predecessor(session, promotion, limits, state)
    _count(state, calls, outcomes)
    row.state, row.updated_at = state, now()
    row.watermark = {"calls": calls_read, "outcomes": told_read}
    session.add(row)
    session.flush()
    return _vitals(state)


def _watch_row(session: Session, promotion: Promotion) -> GuardWatch:
    """Return the watch of a promotion, begun if it is new."""
    begun = GuardWatch(promotion_id=promotion.id).model_dump()
    session.execute(insert(GuardWatch).values(begun).on_conflict_do_nothing())
    return session.exec(
        select(GuardWatch)
        .where(GuardWatch.promotion_id == promotion.id)
        .execution_options(populate_existing=True)
    ).one()


def _begun(session: Session, promotion: Promotion, limits: GuardThresholds) -> dict[str, Any]:
    """Return the state before the first look: limits that hold for the whole life of the watch.

    A predecessor that was slower than the limit allows sets the limit: what it was promoted over
    is not what it is sent back for.
    """
    before = _predecessor_calls(session, promotion, limits)
    slow = limits.slow_share
    if before["calls"] >= limits.min_predecessor:
        theirs = wilson(before[SLOW] / before["calls"], before["calls"])[1]
        slow = min(0.95, max(slow, theirs))
    return {
        "counts": {"calls": 0, ERRORS: 0, SLOW: 0, "outcomes": 0, "successes": 0},
        "latest": [],
        "predecessor": {"outcomes": 0, "successes": 0},
        "waiting": [],
        "watches": {
            ERRORS: stats.RateWatch.fresh(limits.error_limit).as_json(),
            SLOW: stats.RateWatch.fresh(slow).as_json(),
        },
    }


_PREDECESSOR_CALLS = text(
    f"""
    SELECT count(*) AS calls, count(*) FILTER (WHERE latency_ms > :slow) AS slow
    FROM interaction
    WHERE role = :role AND model_version_id = :version AND id >= :since AND id < :until
      AND {_COUNTS}
    """
)


def _predecessor_calls(
    session: Session, promotion: Promotion, limits: GuardThresholds
) -> dict[str, int]:
    row = session.execute(
        _PREDECESSOR_CALLS,
        {
            "slow": limits.slow_limit_ms,
            "role": promotion.role,
            "version": promotion.from_model_version_id,
            "since": first_id_at(promotion.created_at - PREDECESSOR_WINDOW),
            "until": first_id_at(promotion.created_at),
        },
    ).one()
    return {"calls": row.calls, SLOW: row.slow}


def _know_predecessor(
    session: Session, promotion: Promotion, limits: GuardThresholds, state: dict[str, Any]
) -> None:
    """Begin the check of tasks once the predecessor is known; until then its tasks wait."""
    if promotion.from_model_version_id is None:
        return
    since = promotion.created_at - PREDECESSOR_WINDOW
    successes, outcomes = _outcomes(session, promotion.role, promotion.from_model_version_id, since)
    state["predecessor"] = {"outcomes": outcomes, "successes": successes}
    limit = tolerated_failures(_vitals(state), limits)
    if limit is not None:
        watch = stats.RateWatch.fresh(limit).after_all(state.pop("waiting"))
        state["watches"][FAILURES] = watch.as_json()
        state["waiting"] = []


def _count(
    state: dict[str, Any], calls: list[tuple[bool, bool, bool]], outcomes: list[bool]
) -> None:
    """Add new calls (ours, failed, slow) and new outcomes (failed) to the state, in order."""
    ours = [(failed, slow) for mine, failed, slow in calls if mine]
    state["counts"]["calls"] += len(ours)
    state["counts"][ERRORS] += sum(failed for failed, _ in ours)
    state["counts"][SLOW] += sum(slow for _, slow in ours)
    state["latest"] = [*state.get("latest", []), *(4 * m + 2 * f + s for m, f, s in calls)][
        -LATEST:
    ]
    state["counts"]["outcomes"] += len(outcomes)
    state["counts"]["successes"] += len(outcomes) - sum(outcomes)
    events = {
        ERRORS: [failed for failed, _ in ours],
        SLOW: [slow for _, slow in ours],
        FAILURES: outcomes,
    }
    for name, kept in state["watches"].items():
        watch = stats.RateWatch.from_json(kept).after_all(events[name])
        state["watches"][name] = watch.as_json()
    if FAILURES not in state["watches"]:
        state["waiting"] = [*state["waiting"], *outcomes][-_MOST_WAITING:]


def _vitals(state: dict[str, Any]) -> Vitals:
    watches = {name: stats.RateWatch.from_json(kept) for name, kept in state["watches"].items()}
    counts, before = state["counts"], state["predecessor"]
    mine, theirs = (_latest(state, is_ours) for is_ours in (True, False))
    return Vitals(
        calls=counts["calls"],
        errors=counts[ERRORS],
        slow=counts[SLOW],
        successes=counts["successes"],
        outcomes=counts["outcomes"],
        predecessor_successes=before["successes"],
        predecessor_outcomes=before["outcomes"],
        limits={name: watch.limit for name, watch in watches.items()},
        log_e={name: float(watch.log_e) for name, watch in watches.items()},
        beside=theirs if theirs["calls"] else {},
        latest=mine if theirs["calls"] else {},
    )


def _latest(state: dict[str, Any], is_ours: bool) -> dict[str, int]:
    """Return calls, errors and slow calls of one of both versions among the latest."""
    calls = [call for call in state.get("latest", []) if bool(call & 4) == is_ours]
    errors, slow = (sum(bool(call & bit) for call in calls) for bit in (2, 1))
    return {"calls": len(calls), ERRORS: errors, SLOW: slow}


_NEW_CALLS = """
    WITH found AS (
        SELECT id, model_version_id = :version AS ours, status = 'error' AS failed,
               coalesce(latency_ms > :slow, false) AS slow
        FROM interaction
        WHERE role = :role AND model_version_id IN (:version, :before) AND id >= :since
          AND {counts} AND {new}
    )
    SELECT coalesce((SELECT jsonb_agg(jsonb_build_array(ours, failed, slow) ORDER BY id)
                     FROM found), '[]'), {now}
"""


def _new_calls(
    session: Session, promotion: Promotion, limits: GuardThresholds, kept: dict[str, Any]
) -> tuple[list[tuple[bool, bool, bool]], dict[str, Any]]:
    """Return the new calls of the version and its predecessor, and where the next look begins."""
    last = last_look(session, kept)
    calls, snapshot, at = session.execute(
        text(_NEW_CALLS.format(counts=_COUNTS, new=last.is_new(), now=NOW)),
        {
            "slow": limits.slow_limit_ms,
            "role": promotion.role,
            "version": promotion.to_model_version_id,
            "before": promotion.from_model_version_id,
            "since": first_id_at(promotion.created_at),
            **last.values,
        },
    ).one()
    return [(ours, failed, slow) for ours, failed, slow in calls], watermark(snapshot, at)


_NEW_OUTCOMES = """
    WITH ours AS NOT MATERIALIZED (
        SELECT id, episode_id, written_xid, ingested_at FROM interaction
        WHERE role = :role AND model_version_id = :version AND id >= :since
    ), said AS NOT MATERIALIZED (
        SELECT * FROM feedback WHERE kind = 'success' AND value IS NOT NULL AND {heard}
    ), told AS (
        SELECT coalesce(c.episode_id, c.id) AS task, f.value, 1 AS level, f.created_at, f.id
        FROM said f JOIN ours c ON c.id = f.interaction_id WHERE {new_said}
        UNION ALL
        SELECT f.episode_id, f.value, 0, f.created_at, f.id
        FROM said f WHERE f.interaction_id IS NULL AND {new_said}
          AND EXISTS (SELECT 1 FROM ours c WHERE c.episode_id = f.episode_id)
        UNION ALL
        SELECT coalesce(c.episode_id, c.id), f.value, 1, f.created_at, f.id
        FROM ours c JOIN said f ON f.interaction_id = c.id WHERE {new_call}
        UNION ALL
        SELECT f.episode_id, f.value, 0, f.created_at, f.id
        FROM ours c JOIN said f ON f.episode_id = c.episode_id AND f.interaction_id IS NULL
        WHERE {new_call}
    ), first AS (
        SELECT DISTINCT ON (task) task, value, created_at, id FROM told
        ORDER BY task, level, created_at, id
    )
    SELECT ARRAY(
        SELECT value < 0.5 FROM first WHERE NOT EXISTS (
            SELECT 1 FROM ours c JOIN said f
                ON f.interaction_id = c.id
                OR f.interaction_id IS NULL AND f.episode_id = c.episode_id
            WHERE (c.episode_id = first.task OR c.id = first.task)
              AND {said_before} AND {called_before}
        ) ORDER BY created_at, id
    ), {now}
"""
"""A task counts once, by the first word on it that was there at a look. Either may come first, the
word or the record of the call; the later of the two is what is new."""


def _new_outcomes(
    session: Session, promotion: Promotion, kept: dict[str, Any]
) -> tuple[list[bool], dict[str, Any]]:
    """Return whether each newly told task failed, in the order of telling; and the next mark."""
    last = last_look(session, kept)
    query = _NEW_OUTCOMES.format(
        new_said=last.is_new("f"),
        new_call=last.is_new("c"),
        said_before=last.was_seen("f"),
        called_before=last.was_seen("c"),
        heard=is_heard("feedback"),
        now=NOW,
    )
    failures, snapshot, at = session.execute(
        text(query),
        {
            "role": promotion.role,
            "version": promotion.to_model_version_id,
            "since": first_id_at(promotion.created_at),
            **last.values,
        },
    ).one()
    return [bool(failed) for failed in failures], watermark(snapshot, at)


_OUTCOMES = text(
    f"""
    WITH calls AS (
        SELECT id, episode_id FROM interaction
        WHERE role = :role AND model_version_id = :version
          AND id >= :since
    ), told AS (
        SELECT DISTINCT ON (task) task, value FROM (
            SELECT calls.episode_id AS task, f.value, 0 AS level, f.created_at, f.id
            FROM feedback f JOIN calls ON calls.episode_id = f.episode_id
            WHERE f.kind = 'success' AND f.interaction_id IS NULL AND {is_heard("f")}
            UNION ALL
            SELECT coalesce(calls.episode_id, calls.id), f.value, 1, f.created_at, f.id
            FROM feedback f JOIN calls ON calls.id = f.interaction_id
            WHERE f.kind = 'success' AND {is_heard("f")}
        ) said ORDER BY task, level, created_at, id
    )
    SELECT count(*) AS outcomes, count(*) FILTER (WHERE value >= 0.5) AS successes FROM told
    """
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
