"""What an experiment has shown so far: the inputs of its rule, read from its rows."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlmodel import Session, col, select

from foundation.ids import first_id_at
from foundation.tables import now
from router import stats
from router.experiments.plan import PLANNED, PREFERENCE, SCORE, ExperimentPlan, plan_of
from router.experiments.sources import choices_left_out, left_out
from router.experiments.units import Unit, read_units
from router.policy import policy_of
from router.preferences import Choice, read_all_choices, read_choices
from router.promote import ROLLBACK
from router.tables import (
    AB,
    CONTROL,
    EPISODE,
    HOLD_BACK,
    ON,
    RUNNING,
    TREATMENT,
    Experiment,
    ExperimentPhase,
    Promotion,
)

ARMS = (CONTROL, TREATMENT)


@dataclass(frozen=True)
class Evidence:
    """What an experiment has shown so far, per arm where it says so: the inputs of its rule."""

    assigned: dict[str, int]
    analysed: dict[str, int]
    """Units with a known or timed-out outcome."""
    successes: dict[str, int]
    timed_out: dict[str, int]
    calls: dict[str, int]
    errors: dict[str, int]
    slow: dict[str, int]
    pairs: int
    wins: int
    """Pairs won by the treatment only, by the outcomes as they were first settled."""
    losses: int
    max_log_e: float
    """The highest log E of 'better' so far, for the always-valid p-value."""
    days: float
    late: dict[str, int] = field(default_factory=dict)
    """Units whose feedback came after they had timed out."""
    late_wins: int | None = None
    """Pairs won with late feedback taken for the outcome; None: recorded before that counted."""
    late_losses: int | None = None
    sure: Mapping[str, float] | None = None
    """`SureEvidence`: with every open outcome against the claim. None: recorded before that counted
    or the outcomes are such that none is open."""
    phases: Sequence[Mapping[str, Any]] = ()
    """Of the ramp: share and units per arm of each; empty: recorded before there were ramps."""
    guardrails: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """`GuardrailEvidence` by name; of a hold-back that of what was promoted, beside the version
    before. Empty: recorded before they were asked."""
    blocks: Sequence[Mapping[str, float]] = ()
    """Of phases with uneven shares, one unit against all of the other arm near it: number, mean
    difference and log E, for each of the `readings`; empty: there were none."""
    scores: Mapping[str, float] | None = None
    """`BoundedEvidence` where outcomes are scores."""
    sticky: Mapping[str, Any] | None = None
    """`UnitAnalysis`, or why it is refused, where units are users or agents."""
    looks: Sequence[Mapping[str, float]] = ()
    """Looks that were due and taken, where looks are planned."""
    left_out: Sequence[Mapping[str, Any]] = ()
    """`LeftOut`: what stands without each source that may not decide alone, the least shown first.
    Empty: no such source spoke, nothing is proven yet, or it was recorded before that counted."""
    rivals: Mapping[str, float] = field(default_factory=dict)
    """Log E of the other roles' running experiments, which alpha is shared with."""
    auto_promote: str = ON
    was_proposed: bool = False
    hours_since_rollback: float | None = None
    """None: the role was never rolled back."""

    @property
    def readings(self) -> tuple[tuple[int, int], ...]:
        """Pairs won and lost as first settled, and with late feedback: a proof must hold in both.

        Outcomes that change could make a proof of chance; the smaller of an e-process and anything
        else cannot.
        """
        settled = (self.wins, self.losses)
        if self.late_wins is None or self.late_losses is None:
            return (settled,)
        return (settled, (self.late_wins, self.late_losses))

    @property
    def log_e(self) -> float:
        """Log E of 'the treatment is better': the least of all that it may be taken for."""
        if self.scores is not None:
            return min(float(self.scores["log_e"]), self._surely("log_e"))
        blocks = self._of_blocks("log_e")
        return min(
            self._surely("log_e"),
            *(
                float(stats.log_e_pairs(wins, losses)) + block
                for (wins, losses), block in zip(self.readings, blocks, strict=True)
            ),
        )

    @property
    def log_e_harm(self) -> float:
        """Log E of 'the treatment is worse'."""
        if self.scores is not None:
            return min(float(self.scores["log_e_harm"]), self._surely("log_e_harm"))
        blocks = self._of_blocks("log_e_harm")
        return min(
            self._surely("log_e_harm"),
            *(
                float(stats.log_e_pairs(losses, wins)) + block
                for (wins, losses), block in zip(self.readings, blocks, strict=True)
            ),
        )

    def _surely(self, name: str) -> float:
        return math.inf if self.sure is None else float(self.sure[name])

    def _of_blocks(self, name: str) -> list[float]:
        """Return a log e-value of the blocks for each reading; other units, so they multiply."""
        return [float(block[name]) for block in self.blocks] or [0.0] * len(self.readings)

    @property
    def score(self) -> str:
        """What was compared, in words."""
        if self.sticky is not None:
            return _sticky_in_words(self.sticky)
        if self.scores is not None:
            return f"a mean score {self.scores['mean']:+.3f} higher in {self.pairs} pairs"
        words = f"{self.wins} pairs won and {self.losses} lost of {self.pairs}"
        if self.blocks and self.blocks[0]["n"]:
            mean = 100 * self.blocks[0]["mean"]
            words += f", and {mean:+.1f} points in {self.blocks[0]['n']} blocks of uneven phases"
        if self.readings[-1] == self.readings[0]:
            return words
        return f"{words} ({self.late_wins} and {self.late_losses} with late feedback)"


def _sticky_in_words(sticky: Mapping[str, Any]) -> str:
    if "refused" in sticky:
        return str(sticky["refused"])
    return (
        f"{100 * sticky['difference']:+.1f} points between {sticky['n_treatment']} units of the "
        f"treatment and {sticky['n_control']} of the control"
    )


def gather(session: Session, experiment: Experiment) -> tuple[Evidence, list[Unit]]:
    """Return what an experiment has shown so far, and the units behind it."""
    plan, units = plan_of(experiment), read_units(session, experiment)
    known = [unit for unit in units if unit.is_analysed]
    lasted = (experiment.ended_at or now()) - experiment.started_at
    watched = _exchanged(units) if experiment.kind == HOLD_BACK else units
    guarded = stats.guardrail_evidence(watched, plan.cost_budget_usd, plan.margins)
    ended = _has_ended(experiment, plan, known, lasted)
    fields: dict[str, Any] = {
        "assigned": _per_arm(units, lambda unit: 1),
        "analysed": _per_arm(known, lambda unit: 1),
        "successes": _per_arm(known, _successes),
        "timed_out": _per_arm(known, lambda unit: int(unit.timed_out)),
        "calls": _per_arm(units, lambda unit: unit.n_calls),
        "errors": _per_arm(units, lambda unit: unit.n_errors),
        "slow": _per_arm(units, lambda unit: unit.n_slow),
        "days": lasted / timedelta(days=1),
        "late": _per_arm(units, lambda unit: int(unit.late_at is not None)),
        "phases": _phases(session, experiment, units),
        "guardrails": {guard.name: asdict(guard) for guard in guarded},
        "was_proposed": experiment.proposed_at is not None,
        **_surroundings(session, experiment, plan),
    }
    seen = Evidence(**fields | _compared(session, experiment, plan, units, ended))
    if plan.one_source_decides or not _shows_something(seen, plan):
        return seen, units
    return replace(seen, left_out=_left_out(session, experiment, plan, units, seen, ended)), units


def _has_ended(
    experiment: Experiment, plan: ExperimentPlan, known: Sequence[Unit], lasted: timedelta
) -> bool:
    """Return whether planned looks end now though pairs are missing, by units or time alone.

    What they end with is decided once: without a proof the experiment is over.
    """
    if experiment.kind == HOLD_BACK:
        return lasted >= timedelta(days=plan.hold_back_days)
    return min(_per_arm(known, lambda unit: 1).values()) >= plan.max_units_per_arm


def _shows_something(seen: Evidence, plan: ExperimentPlan) -> bool:
    """Return whether anything may be proven, so that it matters who said it."""
    by_looks = any(abs(look["z"]) >= look["bound"] for look in seen.looks)
    least = math.log(min(1 / plan.alpha, plan.harm_e))
    return by_looks or max(seen.log_e, seen.log_e_harm) >= least or seen.was_proposed


def _left_out(
    session: Session,
    experiment: Experiment,
    plan: ExperimentPlan,
    units: list[Unit],
    seen: Evidence,
    ended: bool,
) -> list[dict[str, Any]]:
    if plan.outcome_kind == PREFERENCE:
        choices = read_all_choices(session, experiment)
        return choices_left_out(
            session, plan, choices, lambda rest: replace(seen, **_chosen_by(rest))
        )

    def compare(rest: list[Unit]) -> Evidence:
        known = [unit for unit in rest if unit.is_analysed]
        compared = (
            _looked_again(seen, plan, rest)
            if experiment.unit_kind != EPISODE
            else _by_units(plan, rest, ended)
        )
        return replace(seen, analysed=_per_arm(known, lambda unit: 1), **compared)

    return left_out(session, experiment, plan, units, now(), compare)


def _looked_again(seen: Evidence, plan: ExperimentPlan, units: list[Unit]) -> dict[str, Any]:
    """Return the last look that was taken, as other sticky units would show it."""
    if not seen.looks:
        return {}
    number = int(seen.looks[-1]["number"])
    look = stats.unit_look(units, number, plan.looks, plan.alpha)
    return {"looks": [] if isinstance(look, str) else [asdict(look)]}


def _exchanged(units: Iterable[Unit]) -> list[Unit]:
    """Return the units with their arms exchanged: in a hold-back the control is what is watched."""
    other = {CONTROL: TREATMENT, TREATMENT: CONTROL}
    return [replace(unit, arm=other[unit.arm]) for unit in units]


def _successes(unit: Unit) -> int:
    return unit.n_successes if unit.n_tasks else int(bool(unit.outcome))


def _compared(
    session: Session,
    experiment: Experiment,
    plan: ExperimentPlan,
    units: list[Unit],
    ended: bool,
) -> dict[str, Any]:
    """Return the fields of `Evidence` that say which arm is better."""
    if experiment.unit_kind != EPISODE:
        return _sticky(experiment, plan, units)
    if plan.outcome_kind == PREFERENCE:
        return _chosen_by(read_choices(session, experiment))
    return _by_units(plan, units, ended)


def _by_units(plan: ExperimentPlan, units: list[Unit], ended: bool) -> dict[str, Any]:
    """Return what pairs and blocks of episodes say; where it has `ended`, with the last look."""
    shares = dict(enumerate(plan.shares))
    settled = stats.ramp_evidence(units, shares, with_late=False)
    sure = stats.sure_ramp(units, shares, _settled)
    told = stats.ramp_evidence(units, shares)
    compared: dict[str, Any] = {
        "pairs": settled.n_pairs,
        "wins": settled.wins,
        "losses": settled.losses,
        "max_log_e": min(settled.max_log_e, told.max_log_e, sure.max_log_e),
        "sure": asdict(sure),
        "late_wins": told.wins,
        "late_losses": told.losses,
        "blocks": [_blocks(settled), _blocks(told)] if settled.n_blocks else [],
    }
    value = _settled
    if plan.outcome_kind == SCORE:
        value = _scored
        differences = stats.pair_differences(units, value)
        found = stats.bounded_evidence(differences, plan.min_improvement)
        sure = stats.sure_pairs(units, value, plan.min_improvement)
        highest = min(found.max_log_e, sure.max_log_e)
        compared |= {"scores": asdict(found), "max_log_e": highest, "pairs": found.n}
        compared["sure"] = asdict(sure)
    if plan.mode == PLANNED:
        differences = stats.settled_differences(units, value)
        looks = stats.planned_looks(
            differences, plan.max_per_arm, plan.looks, plan.alpha, ended=ended
        )
        compared["looks"] = [asdict(look) for look in looks]
    return compared


def _blocks(found: stats.RampEvidence) -> dict[str, float]:
    wins, losses = found.wins, found.losses
    return {
        "n": found.n_blocks,
        "mean": found.block_mean,
        "log_e": found.log_e - float(stats.log_e_pairs(wins, losses)),
        "log_e_harm": found.log_e_harm - float(stats.log_e_pairs(losses, wins)),
    }


def _settled(unit: Unit) -> float:
    """Return the outcome as it was first settled: a unit that had timed out has failed."""
    return float(bool(unit.outcome) and unit.late_at is None)


def _scored(unit: Unit) -> float:
    return unit.score or 0.0


def _sticky(experiment: Experiment, plan: ExperimentPlan, units: list[Unit]) -> dict[str, Any]:
    """Return the analysis per unit, and the looks taken so far: each at its day, never again."""
    found = stats.analyse_units(units, plan.alpha)
    looks = list(experiment.state.get("looks") or [])
    elapsed = (now() - experiment.started_at) / timedelta(days=1)
    due = min(plan.looks, math.floor(elapsed / plan.planned_days * plan.looks))
    if due and all(look["number"] < due for look in looks):
        look = stats.unit_look(units, due, plan.looks, plan.alpha)
        looks += [] if isinstance(look, str) else [asdict(look)]
    said = {"refused": found} if isinstance(found, str) else asdict(found)
    counts = {"pairs": 0, "wins": 0, "losses": 0, "max_log_e": 0.0}
    return {**counts, "sticky": said, "looks": looks}


def _chosen_by(choices: Sequence[Choice]) -> dict[str, Any]:
    """Return what users chose; each choice is a unit of both arms."""
    won = np.array([choice.treatment_won for choice in choices], bool)
    wins = np.concatenate([[0], np.cumsum(won)])
    losses = np.concatenate([[0], np.cumsum(~won)])
    return {
        "analysed": dict.fromkeys(ARMS, len(won)),
        "successes": {TREATMENT: int(wins[-1]), CONTROL: int(losses[-1])},
        "pairs": len(won),
        "wins": int(wins[-1]),
        "losses": int(losses[-1]),
        "max_log_e": float(stats.log_e_pairs(wins, losses).max()),
    }


def _per_arm(units: Iterable[Unit], count: Callable[[Unit], int]) -> dict[str, int]:
    counts = dict.fromkeys(ARMS, 0)
    for unit in units:
        counts[unit.arm] += count(unit)
    return counts


def _phases(
    session: Session, experiment: Experiment, units: Sequence[Unit]
) -> list[dict[str, Any]]:
    """Return share, age and units of each phase of the ramp.

    Those are settled that everybody had time to tell of: one arm's feedback may come later, and its
    units are then missing among the analysed ones without being lost.
    """
    settled_before = now() - timedelta(seconds=plan_of(experiment).outcome_timeout_s)
    rows = session.exec(
        select(ExperimentPhase)
        .where(ExperimentPhase.experiment_id == experiment.id)
        .order_by(col(ExperimentPhase.number))
    ).all()
    found = []
    for row in rows:
        mine = [unit for unit in units if unit.phase == row.number]
        known = [unit for unit in mine if unit.is_analysed]
        settled = [unit for unit in known if unit.assigned_at <= settled_before]
        found.append(
            {
                "number": row.number,
                "share": row.share,
                "days": (now() - row.started_at) / timedelta(days=1),
                "assigned": _per_arm(mine, lambda unit: 1),
                "analysed": _per_arm(known, lambda unit: 1),
                "settled": _per_arm(settled, lambda unit: 1),
                **(_shadowed(session, experiment, row) if row.share == 0 else {}),
            }
        )
    return found


_SHADOWED = text(
    """
    SELECT count(*) AS calls, count(*) FILTER (WHERE status = 'error') AS errors,
           count(*) FILTER (WHERE latency_ms > :slow) AS slow
    FROM interaction
    WHERE role = :role AND id >= :since AND experiment_id = :experiment AND arm = 'shadow'
    """
)


def _shadowed(session: Session, experiment: Experiment, phase: ExperimentPhase) -> dict[str, Any]:
    """Return what the treatment made of the calls that were mirrored to it."""
    if experiment.phase != phase.number:
        return {}
    row = session.execute(
        _SHADOWED,
        {
            "slow": plan_of(experiment).slow_limit_ms,
            "role": experiment.role,
            "since": first_id_at(phase.started_at),
            "experiment": experiment.id,
        },
    ).one()
    return {"shadow": {"calls": row.calls, "errors": row.errors, "slow": row.slow}}


def _surroundings(session: Session, experiment: Experiment, plan: ExperimentPlan) -> dict[str, Any]:
    """Return what of the role and of other roles bears on the decision."""
    last = session.exec(
        select(Promotion.created_at)
        .where(Promotion.role == experiment.role, Promotion.kind == ROLLBACK)
        .order_by(col(Promotion.id).desc())
        .limit(1)
    ).first()
    return {
        "auto_promote": policy_of(session, experiment.role).auto_promote,
        "hours_since_rollback": (now() - last) / timedelta(hours=1) if last else None,
        "rivals": _rivals(session, experiment) if plan.over_roles else {},
    }


def _rivals(session: Session, experiment: Experiment) -> dict[str, float]:
    rows = session.exec(
        select(Experiment.role, Experiment.state)
        .where(
            Experiment.status == RUNNING,
            Experiment.kind == AB,
            Experiment.id != experiment.id,
        )
        .order_by(col(Experiment.role))
    ).all()
    return {role: math.log(state.get("e_value") or 1.0) for role, state in rows}
