"""Drift: does a serving version fail more often than it used to, by evidence and not by the week.

"Down 5 points this week" fires within half a year in 92 % of cases where nothing changed (70
outcomes a week at 85 %). Here the outcomes of a version feed an e-process against its reference
rate, so that looking often costs nothing: an alarm needs E to pass its threshold *and* a drop of at
least `drop_points` since the change is likeliest to have come.

The reference is the version's first outcomes in service, or its benchmark; as it is an estimate
itself, only what is worse than its one-sided 90 % bound counts against the version.

The state is one row of `drift_watch` per role and version, moved on in the transaction that reads
the new outcomes: a kill loses nothing and two watchers count nothing twice. What is new is told by
the snapshot of transactions of the last look, so that late feedback and late commits are counted
too, once. A task counts once, by what was said first about it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from collector.feedback.sources import is_heard
from evaluator.evidence import Restarted, e_value
from evaluator.tables import DriftWatch, Evaluation, Suite
from foundation.decisions import Ruling, decide, load, rule
from foundation.errors import BadInput
from foundation.ids import first_id_at, new_id
from foundation.snapshots import NOW, last_look, watermark
from foundation.tables import Decision, now
from trainer import plan
from trainer.tables import PRODUCTION, ModelVersion, TrainingRun

RULE = "evaluator.drift"
STEADY, ALARM = "steady", "alarm"
FIRST, BENCHMARK = "first", "benchmark"

_Z_BOUND = 1.2815515655446004
"""Standard normal quantile of 0.90."""
_MONTH = timedelta(days=30.44)


@dataclass(frozen=True)
class DriftThresholds:
    """Limits of `evaluator.drift`.

    Attributes:
        drop_points: fall of the success rate in percentage points that is a drift.
        alarm_e: E-value that gives alarm.
        n_reference: outcomes at the beginning of service that make the reference.
        reference: `first` of them, or `benchmark`: the version's newest evaluation, where it has
            one. A benchmark's tasks must be like production's for that.
    """

    drop_points: float = 5.0
    alarm_e: float = 20.0
    n_reference: int = 300
    reference: str = FIRST

    def __post_init__(self) -> None:
        if self.reference not in (FIRST, BENCHMARK):
            raise BadInput(
                "reference of drift", self.reference, f"{FIRST} or {BENCHMARK}", f"Use {FIRST}."
            )
        for name, least in (("drop_points", 0.0), ("alarm_e", 1.0), ("n_reference", 1)):
            if not getattr(self, name) > least:
                raise BadInput(
                    f"{name} of drift", getattr(self, name), f"more than {least:g}", "Correct it."
                )


@dataclass(frozen=True)
class DriftInputs:
    """What is known of a version in service; rates are 0-1.

    Attributes:
        version: name of the version.
        reference_rate: success that it is held against.
        n_reference: outcomes (or benchmark answers) behind the reference.
        failure_limit: failure rate that the reference's own error still allows.
        n: outcomes since.
        n_failed: failures among them.
        log_e: log evidence that failures became more frequent than the limit.
        n_since: outcomes since the change is likeliest to have come; 0 if nothing points to one.
        n_failed_since: failures among those.
    """

    version: str
    reference_rate: float
    n_reference: int
    failure_limit: float
    n: int
    n_failed: int
    log_e: float
    n_since: int
    n_failed_since: int

    @property
    def success_since(self) -> float | None:
        """Success since the likeliest change; None if nothing points to one."""
        return 1 - self.n_failed_since / self.n_since if self.n_since else None

    @property
    def drop_points(self) -> float:
        """Fall of the success rate since then, in percentage points."""
        since = self.success_since
        return 0.0 if since is None else round(100 * (self.reference_rate - since), 9)


@rule(RULE)
def drift_rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say `alarm` or `steady`."""
    seen, limits = load(DriftInputs, inputs), load(DriftThresholds, thresholds)
    e = e_value(seen.log_e)
    shown = (
        f"{seen.version}: {seen.n_failed} of {seen.n} tasks failed, against a reference of "
        f"{1 - seen.reference_rate:.1%} ({seen.n_reference} outcomes, at most "
        f"{seen.failure_limit:.1%}): E = {e:.3g}, alarm from {limits.alarm_e:g}."
    )
    if seen.success_since is None:
        return Ruling(STEADY, (shown, "Nothing points to a change."))
    change = (
        f"In the last {seen.n_since} it succeeded in {seen.success_since:.1%}: "
        f"{seen.drop_points:+.1f} points below the reference, a drift from "
        f"{limits.drop_points:g}."
    )
    proven = seen.log_e >= math.log(limits.alarm_e) and seen.drop_points >= limits.drop_points
    return Ruling(ALARM if proven else STEADY, (shown, change))


@dataclass(frozen=True)
class Watched:
    """Pure state of a watch: the reference first, then the evidence against it.

    Arrays of lives may be watched at once, as the simulation does; the service watches one.

    Attributes:
        n_reference: outcomes that the reference rests on.
        n_failed_reference: failures among them, [...].
        evidence: None while the reference is gathered.
        score: of the likeliest change (Page 1954), [...]; 0: none.
        n_since: outcomes since it, [...].
        n_failed_since: failures since it, [...].
        n_failed: failures since the reference, [...].
    """

    n_reference: int
    n_failed_reference: Any
    evidence: Restarted | None = None
    score: Any = 0.0
    n_since: Any = 0
    n_failed_since: Any = 0
    n_failed: Any = 0

    def after(self, failed: Any, wanted: int) -> "Watched":
        """Return the state after one more outcome; `wanted` of them make a reference."""
        bad = np.asarray(failed, dtype=bool)
        if self.evidence is None:
            n, n_bad = self.n_reference + 1, self.n_failed_reference + bad
            if n < wanted:
                return replace(self, n_reference=n, n_failed_reference=n_bad)
            evidence = Restarted.fresh(failure_limit(n_bad / n, n))
            return replace(self, n_reference=n, n_failed_reference=n_bad, evidence=evidence)
        limit, worse = self.evidence.limit, self.evidence.alternatives[..., 0]
        step = np.log(np.where(bad, worse / limit, (1 - worse) / (1 - limit)))
        score = np.maximum(0.0, self.score + step)
        is_on = score > 0
        return replace(
            self,
            evidence=self.evidence.after(bad),
            score=score,
            n_since=np.where(is_on, self.n_since + 1, 0),
            n_failed_since=np.where(is_on, self.n_failed_since + bad, 0),
            n_failed=self.n_failed + bad,
        )


def failure_limit(rate: Any, n: int) -> Any:
    """Return the one-sided 90 % upper bound (Wilson 1927) of a failure rate of n outcomes."""
    z2 = _Z_BOUND**2
    half = _Z_BOUND * np.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return np.clip((rate + z2 / (2 * n) + half) / (1 + z2 / n), 1e-6, 1 - 1e-6)


def watch_all(session: Session, limits: DriftThresholds | None = None) -> list[Decision]:
    """Look at the new outcomes of every version in service; return the alarms given just now.

    The caller commits; nothing is counted until then.
    """
    serving = session.exec(
        select(ModelVersion).where(ModelVersion.stage == PRODUCTION).order_by(ModelVersion.role)
    ).all()
    found = [watch(session, version, limits) for version in serving]
    return [alarm for alarm in found if alarm is not None]


def watch(
    session: Session, version: ModelVersion, limits: DriftThresholds | None = None
) -> Decision | None:
    """Look at the new outcomes of one version; return the Decision if that gives alarm, else None.

    The alarm is given once, together with a Decision of `trainer.should_retrain`.
    """
    chosen = limits or DriftThresholds()
    row = _locked(session, version, chosen)
    state, told = _state_of(row), _told_since(session, version, row.watermark)
    for failed in told.failures:
        state = state.after(failed, chosen.n_reference)
    _keep(row, state, told)
    session.add(row)
    session.flush()
    seen = inputs_of(version.name, state, row)
    if row.alarm_decision_id is not None or seen is None:
        return None
    if drift_rule(vars(seen), vars(chosen)).outcome == STEADY:
        return None
    alarm = decide(session, RULE, seen, chosen, role=version.role, subject_id=version.id)
    row.alarm_decision_id = alarm.id
    _ask_for_training(session, version, seen)
    session.flush()
    return alarm


def _ask_for_training(session: Session, version: ModelVersion, seen: DriftInputs) -> None:
    """Record what the drift means for training; new examples are unknown here."""
    training = version.training_run_id and session.get(TrainingRun, version.training_run_id)
    decide(
        session,
        plan.SHOULD_RETRAIN,
        plan.ShouldRetrainInputs(
            success_at_training=seen.reference_rate,
            success_now=seen.success_since,
            months_since_training=(now() - training.created_at) / _MONTH if training else None,
        ),
        plan.ShouldRetrainThresholds(),
        role=version.role,
        subject_id=version.id,
    )


@dataclass(frozen=True)
class DriftReport:
    """A watch as it stands; `inputs` is None while the reference is gathered."""

    role: str
    version: str
    n_reference: int
    inputs: DriftInputs | None
    reasons: tuple[str, ...]
    alarm_decision_id: UUID | None
    updated_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values, with the drop and E that follow from the inputs."""
        seen = self.inputs
        return {
            **vars(self),
            "inputs": vars(seen) if seen else None,
            "drop_points": seen.drop_points if seen else None,
            "e_value": e_value(seen.log_e) if seen else None,
        }


def reports(
    session: Session, role: str | None = None, limits: DriftThresholds | None = None
) -> list[DriftReport]:
    """Return the watches over versions in service, by role."""
    chosen = limits or DriftThresholds()
    query = (
        select(DriftWatch, ModelVersion)
        .join(ModelVersion, col(ModelVersion.id) == col(DriftWatch.model_version_id))
        .where(ModelVersion.stage == PRODUCTION)
        .order_by(DriftWatch.role)
    )
    rows = session.exec(query.where(DriftWatch.role == role) if role else query).all()
    return [_report(row, version.name, chosen) for row, version in rows]


def _report(row: DriftWatch, version: str, limits: DriftThresholds) -> DriftReport:
    seen = inputs_of(version, _state_of(row), row)
    if seen is None:
        gathered = f"{row.n_reference} of {limits.n_reference} outcomes of the reference are here."
        reasons: tuple[str, ...] = (gathered,)
    else:
        reasons = drift_rule(vars(seen), vars(limits)).reasons
    return DriftReport(
        row.role, version, row.n_reference, seen, reasons, row.alarm_decision_id, row.updated_at
    )


def inputs_of(version: str, state: Watched, row: DriftWatch) -> DriftInputs | None:
    """Return what the rule reads of a watch; None while its reference is gathered."""
    if state.evidence is None:
        return None
    return DriftInputs(
        version=version,
        reference_rate=row.reference_rate,
        n_reference=state.n_reference,
        failure_limit=float(state.evidence.limit),
        n=state.evidence.n,
        n_failed=int(state.n_failed),
        log_e=float(state.evidence.log_e),
        n_since=int(state.n_since),
        n_failed_since=int(state.n_failed_since),
    )


def _locked(session: Session, version: ModelVersion, limits: DriftThresholds) -> DriftWatch:
    """Return the version's watch, begun if it is new, locked until the transaction ends."""
    begun = _begun(session, version, limits)
    session.execute(insert(DriftWatch).values(**begun).on_conflict_do_nothing())
    return session.exec(
        select(DriftWatch)
        .where(DriftWatch.role == version.role, DriftWatch.model_version_id == version.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()


def _begun(session: Session, version: ModelVersion, limits: DriftThresholds) -> dict[str, Any]:
    """Return the columns of a new watch; with a benchmark its reference is there already."""
    columns = {
        "id": new_id(),
        "role": version.role,
        "model_version_id": version.id,
        "reference_rate": 0.0,
        "n_reference": 0,
        "n": 0,
        "n_failed": 0,
        "log_e": 0.0,
        "max_log_e": 0.0,
        "watermark": {},
        "started_at": now(),
        "updated_at": now(),
    }
    known = _benchmark(session, version) if limits.reference == BENCHMARK else None
    if known is not None and known.success_rate is not None and known.ci_low is not None:
        columns["reference_rate"], columns["n_reference"] = known.success_rate, known.n_samples
        columns["watermark"] = {"limit": min(max(1 - known.ci_low, 1e-6), 1 - 1e-6)}
    return columns


def _benchmark(session: Session, version: ModelVersion) -> Evaluation | None:
    return session.exec(
        select(Evaluation)
        .join(Suite, col(Suite.id) == col(Evaluation.suite_id))
        .where(Evaluation.model_version_id == version.id, Suite.role == version.role)
        .order_by(col(Evaluation.id).desc())
        .limit(1)
    ).first()


def _state_of(row: DriftWatch) -> Watched:
    kept = row.watermark
    if "limit" not in kept:
        return Watched(row.n_reference, kept.get("n_failed_reference", 0))
    evidence = Restarted.fresh(kept["limit"])
    if "growth" in kept:
        evidence = replace(evidence, growth=np.array(kept["growth"]), n=row.n)
    return Watched(
        row.n_reference,
        kept.get("n_failed_reference", 0),
        evidence,
        kept.get("score", 0.0),
        kept.get("n_since", 0),
        kept.get("n_failed_since", 0),
        row.n_failed,
    )


def _keep(row: DriftWatch, state: Watched, told: "_Told") -> None:
    """Write the state into its row; a new dictionary, as the ORM does not look inside one."""
    kept = watermark(told.snapshot, told.at)
    kept["n_failed_reference"] = int(state.n_failed_reference)
    if state.evidence is None:
        row.n_reference = state.n_reference
        row.reference_rate = 1 - kept["n_failed_reference"] / max(1, state.n_reference)
    else:
        if "limit" not in row.watermark:
            row.n_reference = state.n_reference
            row.reference_rate = 1 - kept["n_failed_reference"] / state.n_reference
        kept |= {
            "limit": float(state.evidence.limit),
            "growth": [float(value) for value in state.evidence.growth],
            "score": float(state.score),
            "n_since": int(state.n_since),
            "n_failed_since": int(state.n_failed_since),
        }
        row.n, row.n_failed = state.evidence.n, int(state.n_failed)
        row.log_e = float(state.evidence.log_e)
        row.max_log_e = max(row.max_log_e, row.log_e)
    row.watermark, row.updated_at = kept, now()


@dataclass(frozen=True)
class _Told:
    """What was told since the last look, and the snapshot of transactions that it was read in."""

    failures: Sequence[bool]
    snapshot: str
    at: datetime


def _told_since(session: Session, version: ModelVersion, kept: dict[str, Any]) -> _Told:
    """Return whether each newly told task failed, in the order in which they were told."""
    last = last_look(session, kept)
    query = _OUTCOMES.format(
        new=last.is_new(), before=last.was_seen("f"), now=NOW, heard=is_heard("feedback")
    )
    values = {
        "role": version.role,
        "version": version.id,
        "since": first_id_at(version.created_at),
    }
    failures, snapshot, at = session.execute(text(query), {**values, **last.values}).one()
    return _Told(failures, snapshot, at)


_OUTCOMES = """
    WITH said AS (
        SELECT id, interaction_id, episode_id, value, created_at FROM feedback
        WHERE kind = 'success' AND source <> 'judge' AND value IS NOT NULL AND {new} AND {heard}
    ), told AS (
        SELECT coalesce(c.episode_id, c.id) AS task, said.value, said.created_at, said.id
        FROM said JOIN interaction c ON c.id = said.interaction_id
        WHERE c.role = :role AND c.model_version_id = :version AND c.id >= :since
          AND coalesce(c.arm, '') <> 'treatment'
        UNION ALL
        SELECT said.episode_id, said.value, said.created_at, said.id FROM said
        WHERE said.interaction_id IS NULL AND EXISTS (
            SELECT 1 FROM interaction c
            WHERE c.episode_id = said.episode_id AND c.role = :role
              AND c.model_version_id = :version AND c.id >= :since
              AND coalesce(c.arm, '') <> 'treatment')
    ), first AS (
        SELECT DISTINCT ON (task) task, value, created_at, id FROM told
        ORDER BY task, created_at, id
    )
    SELECT ARRAY(
        SELECT value < 0.5 FROM first WHERE NOT EXISTS (
            SELECT 1 FROM feedback f
            WHERE f.episode_id = first.task AND f.interaction_id IS NULL
              AND f.kind = 'success' AND f.source <> 'judge' AND {before}
        ) AND NOT EXISTS (
            SELECT 1 FROM interaction c JOIN feedback f ON f.interaction_id = c.id
            WHERE (c.episode_id = first.task OR c.id = first.task) AND c.role = :role
              AND c.model_version_id = :version AND c.id >= :since
              AND f.kind = 'success' AND f.source <> 'judge' AND {before}
        ) ORDER BY created_at, id
    ), {now}
"""
"""Outcomes of tasks: `said` is new, `told` is about this version in service (what an experiment
assigned to its treatment was before that), `first` is what counts of a task, unless something was
said of it `before`. The snapshot is that of the same statement: what it did not show is new next
time, however late it commits, and what it showed is not."""
