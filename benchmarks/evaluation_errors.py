"""How often the evaluator's decisions are wrong, by simulation with the code that decides.

Equal models that are deployed all the same; gains that are shown; undecided verdicts and what
becomes of them with the tasks they ask for; coverage of the intervals; false alarms of drift and
how soon a real one is found. `python -m benchmarks.evaluation_errors` measures it alone.

*Paired* tasks differ: the logit of a task's success is normal with a standard deviation of 2.65 (at
which a plain paired t-test has a power of 73 % at +5 points from 60 % with 5 samples of 100 tasks),
and both models have the same. *Unpaired* tasks are all alike. A gain is the same shift of the logit
on each task, of the size that raises the mean success by so many points.
"""

import sys
from collections import Counter
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from benchmarks.bars import Figure, report
from evaluator import drift
from evaluator.comparison import points
from evaluator.decide import (
    DEPLOY,
    UNDECIDED,
    DeployInputs,
    DeployThresholds,
    deploy_rule,
    more_tasks_needed,
)
from evaluator.drift import DriftInputs, DriftThresholds, Watched, drift_rule
from evaluator.paired import Floats, Interval, interval

RUNS, QUICK_RUNS = 20_000, 2_000
TASKS = 100
BASELINES = (0.4, 0.6, 0.8)
SPREAD = {"paired": 2.65, "unpaired": 0.0}
WEEKS = 26
_LIMITS = DeployThresholds()
_SEED = 20_250


@dataclass(frozen=True)
class Cell:
    """One setting; `gain` in percentage points."""

    baseline: float
    kind: str
    samples: int
    gain: float = 0.0
    tasks: int = TASKS

    def __str__(self) -> str:
        return (
            f"baseline {self.baseline:.0%}, {self.kind}, {self.samples} a task, {self.tasks} tasks"
        )


@dataclass(frozen=True)
class Read:
    """What became of the runs of a cell; shares in percent."""

    outcomes: dict[str, float]
    shown: float
    covered: float
    more_tasks: float


def simulate(cell: Cell, runs: int) -> Read:
    """Draw runs of a cell, measure and decide each."""
    dice = np.random.default_rng(_SEED)
    found = interval(_differences(cell, runs, dice), np.arange(cell.tasks), cell.samples == 1)
    decided = [_decided(found, run, cell.tasks) for run in range(runs)]
    counts = Counter(outcome for outcome, _ in decided)
    asked = [more for outcome, more in decided if outcome == UNDECIDED and more is not None]
    gain = cell.gain / 100
    return Read(
        {name: 100 * n / runs for name, n in sorted(counts.items())},
        100 * float((found.bound_low > 0).mean()),
        100 * float(((found.low <= gain) & (gain <= found.high)).mean()),
        float(np.median(asked)) if asked else 0.0,
    )


def _differences(cell: Cell, runs: int, dice: np.random.Generator) -> Floats:
    spread = SPREAD[cell.kind]
    logits = spread * dice.standard_normal((runs, cell.tasks))
    sides = [
        dice.binomial(cell.samples, expit(logits + _centre(rate, spread))) / cell.samples
        for rate in (cell.baseline, cell.baseline + cell.gain / 100)
    ]
    difference: Floats = sides[1] - sides[0]
    return difference


@lru_cache
def _centre(rate: float, spread: float) -> float:
    """Return the mean logit at which the mean success is `rate`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    return float(brentq(lambda mid: weights @ expit(mid + spread * nodes) - rate, -30, 30))


def _decided(found: Interval, run: int, n_tasks: int) -> tuple[str, int | None]:
    low, high = points(found.bound_low[run]), points(found.bound_high[run])
    more = more_tasks_needed(low, high, n_tasks, _LIMITS.minimum_points)
    inputs = DeployInputs(
        points(found.mean[run]),
        points(found.low[run]),
        points(found.high[run]),
        bound_low=low,
        bound_high=high,
        more_tasks=more,
    )
    return deploy_rule(asdict(inputs), asdict(_LIMITS)).outcome, more


def _equal_models(runs: int) -> list[Figure]:
    figures, covered = [], []
    for kind in SPREAD:
        for samples in (1, 5):
            for baseline in BASELINES:
                cell = Cell(baseline, kind, samples)
                read = simulate(cell, runs)
                covered.append(read.covered)
                figures.append(
                    Figure(
                        f"equal models deployed: {cell}",
                        read.outcomes.get(DEPLOY, 0.0),
                        "%",
                        at_most=5.0,
                        detail={**asdict(read), "runs": runs},
                        note=f"gain shown {read.shown:.1f} %",
                    )
                )
    worst = Figure(
        "95 % interval holds the truth, equal models, worst cell", min(covered), "%", at_least=94.0
    )
    return [*figures, worst]


def _power(runs: int) -> list[Figure]:
    figures, covered = [], []
    for kind, samples, has_bar in (
        ("paired", 5, True),
        ("unpaired", 5, False),
        ("paired", 1, False),
    ):
        for baseline in BASELINES:
            cell = Cell(baseline, kind, samples, gain=5.0)
            read = simulate(cell, runs)
            covered.append(read.covered)
            figures.append(
                Figure(
                    f"+5 points shown (one-sided 95 % bound above 0): {cell}",
                    read.shown,
                    "%",
                    at_least=70.0 if has_bar else None,
                    detail={**asdict(read), "runs": runs},
                    note=f"undecided {read.outcomes.get(UNDECIDED, 0.0):.1f} %",
                )
            )
    worst = Figure(
        "95 % interval holds the truth at +5 points, worst cell", min(covered), "%", at_least=94.0
    )
    return [*figures, worst]


def _undecided(runs: int) -> list[Figure]:
    """Do what the verdict asks: with the median N tasks more, few may be undecided still."""
    figures = []
    for gain in (0.0, 5.0):
        before = simulate(Cell(0.6, "paired", 5, gain), runs)
        further = Cell(0.6, "paired", 5, gain, TASKS + round(before.more_tasks))
        after = simulate(further, runs)
        figures.append(
            Figure(
                f"undecided still with the N = {before.more_tasks:.0f} more tasks asked for, "
                f"true gain {gain:g} points, baseline 60 %, paired, 5 a task",
                after.outcomes.get(UNDECIDED, 0.0),
                "%",
                at_most=10.0,
                detail={"before": asdict(before), "after": asdict(after)},
                note=f"before: {before.outcomes.get(UNDECIDED, 0.0):.1f} %",
            )
        )
    return figures


def _families(runs: int) -> list[Figure]:
    """Tasks of a family that rise and fall together: 25 families of 4, and 8 of 12."""
    figures = []
    for n_families, size in ((25, 4), (8, 12)):
        dice = np.random.default_rng(_SEED)
        moved = np.repeat(dice.normal(0, 0.8, (runs, n_families)), size, axis=1)
        logits = 1.5 * dice.standard_normal(moved.shape)
        sides = [dice.binomial(5, expit(logits + shift)) / 5 for shift in (0.0, moved)]
        family = np.repeat(np.arange(n_families), size)
        difference = sides[1] - sides[0]
        clustered = interval(difference, family, one_answer=False)
        alone = interval(difference, np.arange(len(family)), one_answer=False)
        naive = 100 * float((alone.bound_low > 0).mean())
        figures.append(
            Figure(
                f"gain shown where families move by chance, {n_families} families of {size}",
                100 * float((clustered.bound_low > 0).mean()),
                "%",
                at_most=6.0,
                detail={"without_families": naive, "runs": runs},
                note=f"tasks taken alone: {naive:.1f} %",
            )
        )
    return figures


def _false_alarms(lives: int) -> list[Figure]:
    figures = []
    for per_week in (50, 70, 140, 350):
        alarms = _alarms(lives, per_week, 0.15, 0.0, WEEKS)
        weekly = _weekly_rule(lives, per_week, 0.15)
        figures.append(
            Figure(
                f"false alarm of drift in {WEEKS} weeks, {per_week} outcomes a week at 85 %",
                100 * float((alarms >= 0).mean()),
                "%",
                at_most=5.0,
                detail={"lives": lives, "weekly_point_estimate": weekly},
                note=f"'down 5 points this week': {weekly:.0f} %",
            )
        )
    return figures


def _reactions(lives: int) -> list[Figure]:
    """The success rate falls in week 10, with 70 and with 350 outcomes a week."""
    figures = []
    for per_week in (70, 350):
        for drop in (0.05, 0.10, 0.20):
            change = 10 * per_week
            alarms = _alarms(lives, per_week, 0.15, drop, WEEKS, change)
            found = alarms[alarms >= change] - change
            figures.append(
                Figure(
                    f"drop of {100 * drop:.0f} points from 85 %, {per_week} outcomes a week: "
                    "outcomes until the alarm, median",
                    float(np.median(found)) if len(found) else None,
                    "outcomes",
                    detail={"found_percent": 100 * len(found) / lives, "lives": lives},
                    note=f"found within 16 weeks: {100 * len(found) / lives:.0f} %",
                )
            )
    return figures


def _alarms(
    lives: int, per_week: int, failing: float, drop: float, weeks: int, change: int | None = None
) -> Floats:
    """Return after how many outcomes each life gave alarm, -1 for never; seven looks a week."""
    limits = DriftThresholds()
    dice = np.random.default_rng(_SEED)
    state = Watched(0, np.zeros(lives, dtype=int))
    at = np.full(lives, -1.0)
    total, stride = per_week * weeks, max(1, per_week // 7)
    for n in range(1, total + 1):
        rate = failing + (drop if change is not None and n > change else 0.0)
        state = state.after(dice.random(lives) < rate, limits.n_reference)
        if state.evidence is None or (n % stride and n < total):
            continue
        log_e = state.evidence.log_e
        near = (at < 0) & (log_e >= np.log(limits.alarm_e) - 1e-9)
        for life in map(int, np.flatnonzero(near)):
            if drift_rule(asdict(_seen(state, life, log_e)), asdict(limits)).outcome == drift.ALARM:
                at[life] = n
    return at


def _seen(state: Watched, life: int, log_e: Floats) -> DriftInputs:
    if state.evidence is None:
        raise ValueError("no evidence before the reference is whole")
    return DriftInputs(
        version="",
        reference_rate=1 - float(state.n_failed_reference[life]) / state.n_reference,
        n_reference=state.n_reference,
        failure_limit=float(state.evidence.limit[life]),
        n=state.evidence.n,
        n_failed=int(state.n_failed[life]),
        log_e=float(log_e[life]),
        n_since=int(state.n_since[life]),
        n_failed_since=int(state.n_failed_since[life]),
    )


def _weekly_rule(lives: int, per_week: int, failing: float) -> float:
    """Return how often 'down 5 points this week' fires within the weeks, in percent."""
    failed = np.random.default_rng(_SEED).binomial(per_week, failing, (lives, WEEKS))
    return 100 * float((failed / per_week >= failing + 0.05 - 1e-12).any(axis=1).mean())


def measure(quick: bool) -> list[Figure]:
    """Return all figures; `quick` simulates a tenth of the runs."""
    runs = QUICK_RUNS if quick else RUNS
    return [
        *_equal_models(runs),
        *_power(runs),
        *_undecided(runs),
        *_families(runs),
        *_false_alarms(runs),
        *_reactions(runs // 10),
    ]


if __name__ == "__main__":
    sys.exit(report("evaluation-errors", measure("--quick" in sys.argv)))
