"""How often the router's statistics are wrong, and how soon they are right, by simulation.

The code that decides is run on drawn outcomes, beside the rule it replaces: Welch's t-test at 5 %,
looked at each day, which promotes at the first `p < 0.05`. Days have 50 tasks in each arm unless it
says otherwise. `python -m benchmarks.router_statistics` measures it alone.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from benchmarks.bars import Figure, report
from evaluator.evidence import (
    Restarted,
    log_e_mean_above,
    log_e_pairs,
    log_e_rate,
    log_e_srm,
)
from router.stats.breaking import together
from router.stats.classic import SIGNIFICANT
from router.stats.planned import OBRIEN_FLEMING, POCOCK, bounds, equal_looks, for_few
from router.stats.ratio import ratio_difference, ratio_of
from router.stats.sequence import sequence_width
from router.stats.size import fewest_wins, proof_chance
from router.stats.units import too_few_units

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

DAYS, PER_DAY = 28, 50
PROOF = math.log(20)
"""Log E that promotes at alpha 5 %, rolls back, or raises an alarm."""
SRM_PROOF = math.log(1000)
_SEED = 20_260


# Binary outcomes of two arms, day by day


@dataclass(frozen=True)
class Trials:
    """Runs of an experiment as counts at the end of each day, [runs, days].

    Attributes:
        wins: pairs won by the treatment only, so far.
        losses: pairs won by the control only.
        treatment: successes of the treatment.
        control: of the control.
        n_treatment: units of the treatment.
        n_control: of the control.
    """

    wins: Integers
    losses: Integers
    treatment: Integers
    control: Integers
    n_treatment: Integers
    n_control: Integers


def drawn(runs: int, control: float, treatment: float, days: int = DAYS, seed: int = 0) -> Trials:
    """Draw runs with equal arms of one stratum."""
    dice = np.random.default_rng(_SEED + seed)
    won, lost = treatment * (1 - control), control * (1 - treatment)
    both = treatment * control
    cells = dice.multinomial(PER_DAY, [won, lost, both, 1 - won - lost - both], (runs, days))
    wins, losses, good = (cells[..., cell].cumsum(axis=1) for cell in range(3))
    n = np.broadcast_to(PER_DAY * np.arange(1, days + 1), wins.shape)
    return Trials(wins, losses, good + wins, good + losses, n, n)


SHARES, CONTROL_RATES = np.array([0.6, 0.25, 0.15]), np.array([0.98, 0.85, 0.33])
"""Easy, medium and hard tasks; the treatment removes a third of the failures of each."""


def drawn_in_strata(runs: int, gain: bool, by_hash: bool, seed: int = 0) -> Trials:
    """Draw runs whose tasks are easy, medium or hard, paired within these and the day.

    Args:
        runs: how many.
        gain: the treatment is better.
        by_hash: each of 100 tasks a day draws its arm, so strata are uneven and leave units
            without a partner; else each arm has the same 50 tasks a day.
        seed: of the draw.
    """
    dice = np.random.default_rng(_SEED + seed)
    treated_rates = 1 - (1 - CONTROL_RATES) * (2 / 3 if gain else 1)
    shape = (runs, DAYS)
    if by_hash:
        tasks = dice.multinomial(2 * PER_DAY, SHARES, shape)
        n_t = dice.binomial(tasks, 0.5)
        n_c = tasks - n_t
    else:
        n_t = n_c = dice.multinomial(PER_DAY, SHARES, shape)
    pairs = np.minimum(n_t, n_c)
    won, lost = treated_rates * (1 - CONTROL_RATES), CONTROL_RATES * (1 - treated_rates)
    both = treated_rates * CONTROL_RATES
    wins = dice.binomial(pairs, won)
    losses = dice.binomial(pairs - wins, lost / (1 - won))
    good = dice.binomial(pairs - wins - losses, both / (1 - won - lost))
    spare = [
        dice.binomial(n - pairs, rate) for n, rate in ((n_t, treated_rates), (n_c, CONTROL_RATES))
    ]
    daily = [wins, losses, good + wins + spare[0], good + losses + spare[1], n_t, n_c]
    return Trials(*(counts.sum(axis=2).cumsum(axis=1) for counts in daily))


def p_values(trials: Trials) -> Floats:
    """Return Welch's two-sided p-value at each look, [runs, days]."""
    rates, parts = [], []
    for good, n in (
        (trials.treatment, trials.n_treatment),
        (trials.control, trials.n_control),
    ):
        rate = good / n
        rates.append(rate)
        parts.append(rate * (1 - rate) / (n - 1))
    total = parts[0] + parts[1]
    safe = np.where(total > 0, total, 1.0)
    freedom = safe**2 / (
        parts[0] ** 2 / (trials.n_treatment - 1) + parts[1] ** 2 / (trials.n_control - 1) + 1e-300
    )
    t = np.where(total > 0, (rates[0] - rates[1]) / np.sqrt(safe), 0.0)
    p: Floats = 2 * stdtr(freedom, -np.abs(t))
    return p


def peeked(trials: Trials) -> Booleans:
    """Return at which looks the peeked t-test would promote, [runs, days]."""
    ahead = trials.treatment / trials.n_treatment > trials.control / trials.n_control
    return (p_values(trials) < SIGNIFICANT) & ahead


def proven(trials: Trials, log_e: float = PROOF) -> Booleans:
    """Return at which looks the pairs prove that the treatment is better, [runs, days]."""
    found: Booleans = log_e_pairs(trials.wins, trials.losses) >= log_e
    return found


def share(found: Booleans) -> float:
    """Return the share of runs in which it was found at some look, in percent."""
    return 100 * float(found.any(axis=1).mean())


def first_of(found: Booleans, per_look: int = PER_DAY) -> float:
    """Return the median of units per arm at the first find; runs without one count to the end."""
    looks = found.shape[1]
    first = np.where(found.any(axis=1), found.argmax(axis=1) + 1, looks)
    return float(np.median(first)) * per_look


def promotions(runs: int) -> list[Figure]:
    """False promotions at 28 daily looks, power and size."""
    figures = []
    for rate in (0.85, 0.5, 0.98):
        trials = drawn(runs, rate, rate)
        t_test = peeked(trials)
        figures.append(
            Figure(
                f"false promotion at {DAYS} daily looks, both arms at {rate:.0%}",
                share(proven(trials)),
                "%",
                at_most=3.0,
                detail={
                    "runs": runs,
                    "alpha_1_percent": share(proven(trials, math.log(100))),
                    "peeked_t_test": share(t_test),
                    "t_test_at_the_end": 100 * float(t_test[:, -1].mean()),
                },
                note=f"peeked t-test {share(t_test):.1f} %",
            )
        )
    for control, treatment, power, most in ((0.85, 0.90, 92.0, 560.0), (0.85, 0.95, None, 150.0)):
        figures += _power(
            f"{control:.0%} → {treatment:.0%}", drawn(runs, control, treatment), power, most
        )
    worse = drawn(runs, 0.85, 0.83)
    figures.append(
        Figure(
            "a worse treatment promoted, 85 % → 83 %",
            share(proven(worse)),
            "%",
            at_most=1.0,
            note=f"peeked t-test {share(peeked(worse)):.1f} %",
        )
    )
    return figures


def _power(name: str, trials: Trials, power: float | None, most: float | None) -> list[Figure]:
    found, t_test = proven(trials), peeked(trials)
    beside = f"peeked t-test {share(t_test):.1f} % at {first_of(t_test):.0f}"
    return [
        Figure(f"power, {name}", share(found), "%", at_least=power, note=beside),
        Figure(
            f"units per arm until the proof, {name}, median",
            first_of(found),
            "units",
            at_most=most,
            detail={"alpha_1_percent": first_of(proven(trials, math.log(100)))},
        ),
    ]


def strata(runs: int) -> list[Figure]:
    """Pairs within easy, medium and hard tasks: with the same tasks in both arms, and by hash."""
    figures = []
    for by_hash in (False, True):
        name = "hash assignment" if by_hash else "equal arms"
        null = drawn_in_strata(runs, False, by_hash)
        figures.append(
            Figure(
                f"false promotion, stratified, {name}",
                share(proven(null)),
                "%",
                at_most=3.0,
                note=f"peeked t-test {share(peeked(null)):.1f} %",
            )
        )
        trials = drawn_in_strata(runs, True, by_hash)
        figures += _power(
            f"stratified, a third of the failures removed, {name}",
            trials,
            None if by_hash else 98.0,
            None if by_hash else 400.0,
        )
    return figures


def every_pair(runs: int, pairs: int = 20_000, rate: float = 0.85) -> tuple[float, float]:
    """Return false promotions in percent with a look after each pair: ours, and the t-test's.

    E passes 20 where the wins reach their fewest, so a comparison of counts is the whole look. The
    t-test is looked at after every pair from the 30th on.
    """
    dice = np.random.default_rng(_SEED)
    fewest = fewest_wins(0.05, pairs)
    n = np.arange(1, pairs + 1)
    ours = theirs = 0
    for _ in range(runs):
        treated, control = (dice.random(pairs, dtype=np.float32) < rate for _ in range(2))
        wins, losses = (treated & ~control).cumsum(), (control & ~treated).cumsum()
        apart = wins + losses
        ours += bool((wins >= fewest[apart]).any())
        means = [arm.cumsum() / n for arm in (treated, control)]
        variance = sum(mean * (1 - mean) for mean in means) / n
        theirs += bool((means[0] - means[1] > 1.96 * np.sqrt(variance))[29:].any())
    return 100 * ours / runs, 100 * theirs / runs


def always(runs: int, pairs: int) -> list[Figure]:
    """False promotions where somebody looks after every single pair."""
    figures = []
    for rate in (0.85, 0.5, 0.98):
        ours, theirs = every_pair(runs, pairs, rate)
        figures.append(
            Figure(
                f"false promotion, a look after each of {pairs:,} pairs, both arms at {rate:.0%}",
                ours,
                "%",
                at_most=5.0,
                detail={"runs": runs, "exact": 100 * proof_chance(rate, 0.0, pairs)},
                note=f"t-test {theirs:.0f} %; exact {100 * proof_chance(rate, 0.0, pairs):.2f} %",
            )
        )
    return figures


# A ramp while the base rate drifts


@dataclass(frozen=True)
class Ramped:
    """How often each method found a winner between equal arms, in percent."""

    promoted: float
    harmed: float
    pooled_promoted: float
    pooled_harmed: float


def ramp(runs: int, start: float, end: float, per_day: int = 200) -> Ramped:
    """A week at 5 %, then a week at 50 %, while both arms' rate drifts from start to end.

    Each task draws its arm. The canary's blocks and the pairs are formed within the day and
    multiplied, as `router.stats.ramp` does; there is a look each day. The pooled t-test looks each
    day, too.
    """
    dice = np.random.default_rng(_SEED)
    rates = np.linspace(start, end, 14 * per_day)
    promoted = harmed = pooled_up = pooled_down = 0
    for _ in range(runs):
        good = dice.random(len(rates)) < rates
        treated = dice.random(len(rates)) < np.repeat([0.05, 0.5], 7 * per_day)
        up, down = _ramp_evidence(good, treated, per_day)
        promoted += up >= PROOF
        harmed += down >= PROOF
        pooled = _pooled(good, treated, per_day)
        pooled_up += bool((pooled > 1.96).any())
        pooled_down += bool((pooled < -1.96).any())
    counts = (promoted, harmed, pooled_up, pooled_down)
    return Ramped(*(100 * count / runs for count in counts))


def _ramp_evidence(good: Booleans, treated: Booleans, per_day: int) -> tuple[float, float]:
    """Return the highest log E of better and of worse at any daily look."""
    blocks: list[float] = []
    log_e = np.zeros((2, 14))
    wins = losses = 0
    for day in range(14):
        today = slice(day * per_day, (day + 1) * per_day)
        if day < 7:
            blocks += block_differences(good[today], treated[today])
        else:
            ours, theirs = good[today][treated[today]], good[today][~treated[today]]
            n = min(len(ours), len(theirs))
            wins += int((ours[:n] & ~theirs[:n]).sum())
            losses += int((theirs[:n] & ~ours[:n]).sum())
        found = np.array(blocks)
        log_e[0, day] = log_e_mean_above(found)[-1] + log_e_pairs(wins, losses)
        log_e[1, day] = log_e_mean_above(-found)[-1] + log_e_pairs(losses, wins)
    return float(log_e[0].max()), float(log_e[1].max())


def block_differences(good: Booleans, treated: Booleans) -> list[float]:
    """Return each treated outcome minus the mean of its controls, as `canary_blocks` forms them."""
    found: list[float] = []
    many: list[bool] = []
    waiting: list[bool] = []
    for outcome, of_treatment in zip(good.tolist(), treated.tolist(), strict=True):
        (waiting if of_treatment else many).append(outcome)
        if waiting and many:
            found.append(waiting.pop(0) - sum(many) / len(many))
            many = []
    return found


def _pooled(good: Booleans, treated: Booleans, per_day: int) -> Floats:
    ends = np.arange(1, 15) * per_day - 1
    z = []
    n_t, n_c = treated.cumsum()[ends], (~treated).cumsum()[ends]
    for arm, n in ((treated, n_t), (~treated, n_c)):
        rate = (good & arm).cumsum()[ends] / np.maximum(n, 1)
        z.append((rate, rate * (1 - rate) / np.maximum(n, 1)))
    (rate_t, var_t), (rate_c, var_c) = z
    found: Floats = (rate_t - rate_c) / np.sqrt(np.maximum(var_t + var_c, 1e-12))
    return np.where(np.minimum(n_t, n_c) >= 30, found, 0.0)


def drifting(runs: int) -> list[Figure]:
    """Ramp and drift together: Simpson's paradox for a test that pools the phases."""
    figures = []
    for start, end in ((0.9, 0.8), (0.8, 0.9)):
        found = ramp(runs, start, end)
        for name, ours, theirs in (
            ("false promotion", found.promoted, found.pooled_promoted),
            ("false harm", found.harmed, found.pooled_harmed),
        ):
            figures.append(
                Figure(
                    f"{name}, ramp 5 % → 50 % while both arms drift {start:.0%} → {end:.0%}",
                    ours,
                    "%",
                    at_most=5.5,
                    detail={"runs": runs},
                    note=f"pooled t-test, daily {theirs:.0f} %",
                )
            )
    return figures


def canary_harm(runs: int, treatment: float, tasks: int = 1500) -> tuple[float, float]:
    """Return the median of canary tasks until harm is found at a share of 5 %: blocks, and pairs.

    The control succeeds in 95 %.
    """
    dice = np.random.default_rng(_SEED)
    shape = (runs, tasks)
    ours = dice.random(shape) < treatment
    k = np.maximum(dice.geometric(0.05, shape) - 1, 1)
    means = dice.binomial(k, 0.95) / k
    blocks = log_e_mean_above(means - ours)[:, 1:] >= PROOF
    theirs = dice.random(shape) < 0.95
    wins, losses = (ours & ~theirs).cumsum(axis=1), (theirs & ~ours).cumsum(axis=1)
    pairs = log_e_pairs(losses, wins) >= PROOF
    return first_of(blocks, 1), first_of(pairs, 1)


def canaries(runs: int) -> list[Figure]:
    """How soon a canary finds harm."""
    figures = []
    for treatment, most in ((0.90, 220.0), (0.85, 95.0)):
        blocks, pairs = canary_harm(runs, treatment)
        figures.append(
            Figure(
                f"canary tasks until harm is found at a share of 5 %, 95 % → {treatment:.0%}",
                blocks,
                "tasks",
                at_most=most,
                note=f"in pairs {pairs:.0f}",
            )
        )
    return figures


# Sticky units


@dataclass(frozen=True)
class Sticky:
    """How often each method called the treatment or the control better, in percent."""

    units: float
    tasks: float
    sequence: float


def sticky(runs: int, n_units: int, correlation: float = 0.1, gain: float = 0.0) -> Sticky:
    """Agents that return each day with uneven activity; 28 looks, two tests of 2.5 %.

    Args:
        runs: how many.
        n_units: agents per arm.
        correlation: of the outcomes of one agent's tasks (ICC); rates are beta around 85 %.
        gain: of the treatment, 0-1.
    """
    dice = np.random.default_rng(_SEED)
    limits = bounds(SIGNIFICANT / 2, equal_looks(DAYS), OBRIEN_FLEMING)
    scale = (1 - correlation) / correlation
    by_units = by_tasks = by_sequence = 0
    for _ in range(runs):
        arms = []
        for mean in (0.85 + gain, 0.85):
            rate = dice.beta(mean * scale, (1 - mean) * scale, n_units)
            activity = dice.gamma(2.0, 0.5, n_units)
            tasks = dice.poisson(activity[:, None], (n_units, DAYS))
            good = dice.binomial(tasks, rate[:, None])
            arms.append((good.cumsum(axis=1), tasks.cumsum(axis=1)))
        found = _sticky_looks(arms, limits)
        by_units, by_tasks, by_sequence = (
            count + hit for count, hit in zip((by_units, by_tasks, by_sequence), found, strict=True)
        )
    return Sticky(*(100 * count / runs for count in (by_units, by_tasks, by_sequence)))


def _sticky_looks(
    arms: Sequence[tuple[Integers, Integers]], limits: Sequence[float]
) -> tuple[bool, bool, bool]:
    units = tasks = sequence = False
    for day, limit in enumerate(limits):
        treatment, control = (
            ratio_of(good[n[:, day] > 0, day], n[n[:, day] > 0, day]) for good, n in arms
        )
        if treatment is None or control is None:
            continue
        if too_few_units(treatment.n_units, control.n_units):
            continue
        found = ratio_difference(treatment, control)
        units |= abs(found.t) >= for_few(limit, found.freedom)
        n_units = treatment.n_units + control.n_units
        sequence |= abs(found.t) > sequence_width(n_units, SIGNIFICANT, n_units)
        spread = sum(
            ratio.value * (1 - ratio.value) / int(n[:, day].sum())
            for ratio, (_, n) in zip((treatment, control), arms, strict=True)
        )
        tasks |= abs(found.estimate) > 1.96 * math.sqrt(spread)
    return units, tasks, sequence


def returning(runs: int) -> list[Figure]:
    """Sticky assignment by agent: equal models, and a gain."""
    figures = []
    for n_units in (20, 50):
        found = sticky(runs, n_units)
        figures.append(
            Figure(
                f"any winner between equal models, {n_units} sticky agents per arm, {DAYS} looks",
                found.units,
                "%",
                at_most=5.5,
                detail={"runs": runs, "sequence": found.sequence},
                note=f"t-test on tasks, daily {found.tasks:.0f} %",
            )
        )
        gained = sticky(runs // 2, n_units, gain=0.10)
        figures.append(
            Figure(f"+10 points found, {n_units} sticky agents per arm", gained.units, "%")
        )
    return figures


# Watches


def watched(
    lives: int, events: int, rate: float, healthy: int = 0, limit: float = 0.02
) -> tuple[float, float]:
    """Return how many lives alarm within the events, in percent, and the median of the first alarm.

    Args:
        lives: versions watched.
        events: requests from the change on.
        rate: of bad requests since then.
        healthy: requests before it, 1 % of them bad.
        limit: tolerated rate.
    """
    dice = np.random.default_rng(_SEED)
    changed = Restarted.fresh(np.full(lives, limit))
    bad = np.zeros(lives, dtype=int)
    first = np.full(lives, -1)
    for n in range(1, healthy + events + 1):
        failed = dice.random(lives) < (0.01 if n <= healthy else rate)
        changed, bad = changed.after(failed), bad + failed
        counts, which = np.unique(bad, return_inverse=True)
        log_e = together(log_e_rate(counts, n, limit)[which], changed.log_e)
        first[(first < 0) & (log_e >= PROOF)] = n
    alarmed = first[first > 0]
    after = alarmed[alarmed > healthy] - healthy
    return 100 * len(alarmed) / lives, float(np.median(after)) if len(after) else math.inf


def naive_watch(lives: int, events: int, rate: float, limit: float = 0.02) -> tuple[float, float]:
    """Return alarms in percent of 'the rate is over the limit': after 50, and in the last 100."""
    failed = np.random.default_rng(_SEED).random((lives, events)) < rate
    total = failed.cumsum(axis=1)
    so_far = total[:, 49:] / np.arange(50, events + 1) > limit
    window = (total[:, 100:] - total[:, :-100]) / 100 > limit
    return share(so_far), share(window)


def watches(lives: int) -> list[Figure]:
    """The guard: healthy versions left alone, broken ones caught, early and late in their lives."""
    so_far, window = naive_watch(lives // 4, 3000, 0.01)
    healthy, _ = watched(lives, 3000, 0.01)
    at_limit, _ = watched(lives // 4, 3000, 0.02)
    figures = [
        Figure(
            "healthy version (1 % errors, limit 2 %) quarantined in 3,000 requests",
            healthy,
            "%",
            at_most=0.5,
            detail={"lives": lives},
            note=f"rate over limit after 50: {so_far:.0f} %, in the last 100: {window:.1f} %",
        ),
        Figure("version exactly at the limit quarantined in 3,000", at_limit, "%", at_most=5.0),
    ]
    for rate, past, most in (
        (0.10, 0, 40.0),
        (0.20, 0, None),
        (0.06, 0, None),
        (0.10, 1_000, None),
        (0.10, 10_000, None),
        (0.20, 10_000, None),
    ):
        caught, median = watched(lives // 10 if past else lives, 600, rate, past)
        figures.append(
            Figure(
                f"requests until {rate:.0%} errors are caught, after {past:,} healthy, median",
                median,
                "requests",
                at_most=most,
                detail={"caught_percent": caught},
            )
        )
    return figures


def splits(runs: int) -> list[Figure]:
    """Sample ratio mismatch over a ramp of four phases of a week, 200 units a day."""
    dice = np.random.default_rng(_SEED)
    figures = []
    for name, off, most in (
        ("planned split halted (false alarm)", 1.0, 0.1),
        ("split of 46/54 for 50/50, and as uneven before, found", 0.92, None),
    ):
        log_e = np.zeros((runs, DAYS))
        past: Floats = np.zeros(runs)
        for phase, planned in enumerate((0.05, 0.25, 0.5, 0.5)):
            treated = dice.binomial(200, planned * off, (runs, 7)).cumsum(axis=1)
            n = 200 * np.arange(1, 8)
            now = log_e_srm(treated, n, planned)
            log_e[:, 7 * phase : 7 * phase + 7] = past[:, None] + now
            past = past + now[:, -1]
        found = log_e >= SRM_PROOF
        figures.append(
            Figure(
                f"{name}, ramp 5-25-50 %, {DAYS} looks",
                share(found),
                "%",
                at_most=most,
                detail={"median_day": first_of(found, 1)},
            )
        )
    return figures


# Bounded outcomes, planned looks, intervals


def bounded(runs: int) -> list[Figure]:
    """Scores in [0, 1], a minimum improvement, and the guardrails, a look after each pair."""
    dice = np.random.default_rng(_SEED)

    def scores(gain: float, pairs: int) -> Floats:
        treated, control = dice.beta(4, 2, (runs, pairs)), dice.beta(4, 2, (runs, pairs))
        return np.minimum(1.0, treated + gain) - control

    def found(differences: Floats, threshold: float) -> Booleans:
        return log_e_mean_above(differences, threshold)[:, 1:] >= PROOF

    bad = [dice.random((runs, 1500)) < 0.01 for _ in range(3)]
    at_margin = dice.random((runs, 1500)) < 0.03
    equal = found(bad[0].astype(float) - bad[1], -0.02)
    improved = (dice.random((runs, 1400)) < 0.88) - (dice.random((runs, 1400)) < 0.85).astype(float)
    gained = found(scores(0.05, 1000), 0.0)
    return [
        Figure(
            "false promotion, scores 0-1 in 1,000 pairs",
            share(found(scores(0.0, 1000), 0.0)),
            "%",
            at_most=5.0,
        ),
        Figure(
            "power, scores +0.05 in 1,000 pairs",
            share(gained),
            "%",
            note=f"median {first_of(gained, 1):.0f} pairs",
        ),
        Figure(
            "gain of 3 points proven to be above 3 points",
            share(found(improved, 0.03)),
            "%",
            at_most=5.0,
        ),
        Figure(
            "guardrail: errors worse by the margin of 2 points certified as fine",
            share(found(bad[2].astype(float) - at_margin, -0.02)),
            "%",
            at_most=5.0,
        ),
        Figure(
            "guardrail: pairs until 1 % errors in both arms are certified, median",
            first_of(equal, 1),
            "pairs",
            note=f"certified in 1,500: {share(equal):.1f} %",
        ),
    ]


def planned(runs: int) -> list[Figure]:
    """Group-sequential looks each day at pairs, one-sided 5 %."""
    figures = []
    null, gain = drawn(runs, 0.85, 0.85), drawn(runs, 0.85, 0.90)
    for spending in (OBRIEN_FLEMING, POCOCK):
        limits = np.array(bounds(0.05, equal_looks(DAYS), spending))

        def shown(trials: Trials, limits: Floats = limits) -> Booleans:
            apart = np.maximum(trials.wins + trials.losses, 1)
            found: Booleans = (trials.wins - trials.losses) / np.sqrt(apart) >= limits
            return found

        figures += [
            Figure(
                f"planned looks ({spending}): false promotion", share(shown(null)), "%", at_most=5.5
            ),
            Figure(
                f"planned looks ({spending}): power 85 % → 90 %",
                share(shown(gain)),
                "%",
                note=f"median {first_of(shown(gain)):.0f} per arm",
            ),
        ]
    return figures


def coverage(runs: int) -> list[Figure]:
    """The confidence sequence misses the truth at some of 28 looks."""
    trials = drawn(runs, 0.85, 0.90)
    n = trials.n_treatment
    rates = [(good + 1) / (n + 2) for good in (trials.treatment, trials.control)]
    error = np.sqrt(sum(rate * (1 - rate) / n for rate in rates))
    width = np.array([sequence_width(2 * int(size), 0.05, 1000) for size in n[0]])
    off = np.abs((trials.treatment - trials.control) / n - 0.05)
    fixed = share(off > 1.96 * error)
    return [
        Figure(
            "95 % confidence sequence misses the truth at some look",
            share(off > width * error),
            "%",
            at_most=5.0,
            note=f"95 % interval of one look, peeked: {fixed:.0f} %",
        ),
    ]


def measure(quick: bool) -> list[Figure]:
    """Return all figures; `quick` simulates about a tenth of the runs."""
    few = 10 if quick else 1
    parts: Sequence[tuple[Callable[..., list[Figure]], tuple[Any, ...]]] = (
        (promotions, (40_000 // few,)),
        (always, (4_000 // few, 20_000)),
        (strata, (20_000 // few,)),
        (drifting, (2_000 // few,)),
        (canaries, (1_000 // few,)),
        (returning, (4_000 // few,)),
        (watches, (10_000 // few,)),
        (splits, (40_000 // few,)),
        (bounded, (4_000 // few,)),
        (planned, (40_000 // few,)),
        (coverage, (20_000 // few,)),
    )
    return [figure for part, given in parts for figure in part(*given)]


if __name__ == "__main__":
    sys.exit(report("router-statistics", measure("--quick" in sys.argv)))
