"""How often somebody with one key promotes a version that is no better, and what the guard costs.

Whole experiments are played on the code that decides (pairs, open outcomes, the evidence without
each source): units of two arms, what each source says of them and when, a look each day. Two equal
versions at 85 %; honest sources speak of their own units, or of all; the attacker speaks first,
having seen every outcome. `python -m benchmarks.router_poisoning` measures it alone.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks.bars import Figure, report
from router import stats
from router.experiments.plan import ExperimentPlan
from router.experiments.sources import Word, bound, without
from router.experiments.units import Unit
from router.tables import CONTROL, TREATMENT

START = datetime(2026, 1, 1, tzinfo=UTC)
PLAN = ExperimentPlan(outcome_timeout_s=86_400.0)
NEEDED = math.log(1 / PLAN.alpha)
RATE, PER_DAY, DAYS = 0.85, 80, 14
_SEED = 20_261


@dataclass(frozen=True)
class Task:
    """One unit before anybody spoke: its arm, day, whether it succeeded, and whose it is."""

    number: int
    arm: str
    at: datetime
    good: bool
    owner: int


Say = Callable[[Task, np.random.Generator], list[tuple[str, float]]]
"""What is said of a task, in order: source and word."""


def honest(sources: int) -> Say:
    """Each speaks the truth of its own tasks."""
    return lambda task, dice: [(f"key:{task.owner % sources}", float(task.good))]


def tested(task: Task, dice: np.random.Generator) -> list[tuple[str, float]]:
    """Two honest sources speak the truth of all, one after the other."""
    return [("key:0", float(task.good)), ("key:1", float(task.good))]


def attacked(lie: Say, truth: Say) -> Say:
    """The attacker speaks first, where he likes."""
    return lambda task, dice: [*lie(task, dice), *truth(task, dice)]


def flood(task: Task, dice: np.random.Generator) -> list[tuple[str, float]]:
    """Praises all of the treatment, damns all of the control."""
    return [("key:x", float(task.arm == TREATMENT))]


def damn(task: Task, dice: np.random.Generator) -> list[tuple[str, float]]:
    """Damns what the control did well, sometimes."""
    return [("key:x", 0.0)] if task.arm == CONTROL and dice.random() < 0.15 else []


def drip(task: Task, dice: np.random.Generator) -> list[tuple[str, float]]:
    """Lies about few: where the treatment failed, and as many of the control's successes."""
    if task.arm == TREATMENT and not task.good:
        return [("key:x", 1.0)]
    return [("key:x", 0.0)] if task.arm == CONTROL and task.good and dice.random() < 0.1 else []


def repeated(task: Task, dice: np.random.Generator) -> list[tuple[str, float]]:
    """Says the same five times: only the first of a source counts."""
    return flood(task, dice) * 5


def sybils(task: Task, dice: np.random.Generator) -> list[tuple[str, float]]:
    """The same by ten keys: out of reach."""
    word = float(task.arm == TREATMENT)
    return [(f"key:x{dice.integers(10)}", word), (f"key:x{dice.integers(10)}", word)]


def played(dice: np.random.Generator, gain: float, say: Say) -> tuple[list[Unit], list[Word]]:
    """Return the units of a whole experiment, as they were settled, and all words on them."""
    units, words = list[Unit](), list[Word]()
    for number in range(PER_DAY * DAYS):
        arm = TREATMENT if dice.random() < 0.5 else CONTROL
        at = START + timedelta(days=number / PER_DAY)
        good = dice.random() < RATE + (gain if arm == TREATMENT else 0.0)
        task = Task(number, arm, at, bool(good), int(dice.integers(10_000)))
        said = say(task, dice)
        first: dict[str, Word] = {}
        for place, (source, value) in enumerate(said):
            heard = at + timedelta(minutes=1 + place)
            first.setdefault(source, Word(number, str(number), source, value, 0, heard))
        words += first.values()
        outcome = said[0][1] >= 0.5
        counts = (0, 0, 0, 0, 0, 0, 0, 0.0, 0, 0)
        settled = (None, outcome, at + timedelta(minutes=1), False, None)
        units.append(Unit(number, arm, f"day {number // PER_DAY}|0", 0, at, *counts, *settled))
    return units, words


def log_e(units: Sequence[Unit]) -> float:
    """Return log E of 'better' as an experiment without a ramp reads it."""
    shares = {0: 0.5}
    found = stats.ramp_evidence(units, shares)
    return min(found.log_e, stats.sure_ramp(units, shares, lambda u: float(bool(u.outcome))).log_e)


def promoted(units: Sequence[Unit], words: Sequence[Word], guarded: bool) -> bool:
    """Return whether some daily look promotes."""
    for day in range(2, DAYS + 1):
        n, moment = day * PER_DAY, START + timedelta(days=day)
        now, said = units[:n], [word for word in words if word.sequence < n]
        if log_e(now) < NEEDED:
            continue
        if not guarded or _stands(now, said, moment):
            return True
    return False


def _stands(units: Sequence[Unit], words: Sequence[Word], moment: datetime) -> bool:
    for source in bound(words, set()):
        rest, _ = without(units, words, source, PLAN, moment)
        arms = [unit.arm for unit in rest if unit.outcome is not None]
        if min(arms.count(CONTROL), arms.count(TREATMENT)) < PLAN.min_per_arm:
            return False
        if log_e(rest) < NEEDED:
            return False
    return True


def rates(gain: float, say: Say, runs: int) -> tuple[float, float]:
    """Return the share of experiments that promote, in %: without the guard, and with it."""
    plain = kept = 0
    for run in range(runs):
        units, words = played(np.random.default_rng(_SEED + run), gain, say)
        if promoted(units, words, guarded=False):
            plain += 1
            kept += promoted(units, words, guarded=True)
    return 100 * plain / runs, 100 * kept / runs


ATTACKS: dict[str, Say] = {
    "one key floods, two honest judge all": attacked(flood, tested),
    "one key damns 15 % of the control": attacked(damn, tested),
    "one key lies about few, having seen all": attacked(drip, tested),
    "one key floods, five honest judge their own": attacked(flood, honest(5)),
    "one key says it five times": attacked(repeated, tested),
}


def measure(quick: bool) -> list[Figure]:
    """Return false promotions under attack, and promotions of a better version by honest words."""
    runs = 10 if quick else 60
    figures = []
    for name, say in ATTACKS.items():
        plain, kept = rates(0.0, say, runs)
        figures += [
            Figure(f"false promotion, {name}: no guard", plain, "%", detail={"runs": runs}),
            Figure(f"false promotion, {name}: guard", kept, "%", at_most=5.0),
        ]
    plain, kept = rates(0.0, attacked(sybils, tested), runs)
    figures.append(Figure("false promotion, ten keys of one person: guard", kept, "%"))
    for gain in (0.0, 0.1):
        for n in (1, 2, 5, 20):
            plain, kept = rates(gain, honest(n), runs)
            words = f"promotion at {100 * gain:+.0f} points, {n} honest sources, own tasks"
            figures.append(Figure(f"{words}: no guard", plain, "%", detail={"runs": runs}))
            figures.append(Figure(f"{words}: guard", kept, "%"))
    plain, kept = rates(0.1, tested, runs)
    figures.append(Figure("promotion at +10 points, two sources judge all: no guard", plain, "%"))
    figures.append(Figure("promotion at +10 points, two sources judge all: guard", kept, "%"))
    return figures


if __name__ == "__main__":
    sys.exit(report("router-poisoning", measure("--quick" in sys.argv)))
