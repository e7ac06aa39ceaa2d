"""The plan before the start: which difference an experiment can show, with how many units and days.

The sizes of the pair e-process are exact: the chance of each path of won and lost pairs is carried
forward until E reaches 1 / alpha.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import bdtrc, ndtri

from evaluator.evidence import log_e_pairs
from foundation.errors import BadInput
from router.stats.pairs import Floats

POWER = 0.80
FEWEST_PER_DAY = 20
"""Tasks a day of a role below which live traffic resolves no difference of a few points."""
_LONGEST = 50_000
_LONG_DAYS = 60


@dataclass(frozen=True)
class Size:
    """How large an experiment becomes if the treatment is better by the effect.

    Attributes:
        baseline: success rate of the control, 0-1.
        effect: gain of the treatment, 0-1.
        alpha: chance of promoting a treatment that is not better.
        median: units per arm at which half of such experiments have their proof; None: beyond any
            reasonable end.
        p80: units per arm at which four of five have it.
        fixed: units per arm of a single test at a planned end (one-sided, the same alpha, 80 %).
        days_median: days until `median` at the role's traffic; None without traffic.
        days_p80: days until `p80`.
        advice: in words.
    """

    baseline: float
    effect: float
    alpha: float
    median: int | None
    p80: int | None
    fixed: int
    days_median: float | None
    days_p80: float | None
    advice: str


def plan_size(
    baseline: float,
    effect: float,
    per_day: float,
    alpha: float = 0.05,
    treatment_share: float = 0.5,
) -> Size:
    """Return the size of an experiment, exactly, and what it means at the role's traffic.

    Args:
        baseline: success rate of the control, 0-1 exclusive.
        effect: gain to be shown, above 0, at most 1 - baseline.
        per_day: tasks of the role a day.
        alpha: of the experiment.
        treatment_share: 0-1 exclusive; the smaller arm sets the pace.

    Raises:
        BadInput: a rate out of its bounds.
    """
    _require_rates(baseline, effect, alpha)
    median, p80 = (units_per_arm(baseline, effect, alpha, power) for power in (0.5, POWER))
    pace = per_day * min(treatment_share, 1 - treatment_share)
    days = [n / pace if n is not None and pace > 0 else None for n in (median, p80)]
    return Size(
        baseline=baseline,
        effect=effect,
        alpha=alpha,
        median=median,
        p80=p80,
        fixed=fixed_size(baseline, effect, alpha),
        days_median=days[0],
        days_p80=days[1],
        advice=_advice(effect, per_day, days[1]),
    )


def _require_rates(baseline: float, effect: float, alpha: float) -> None:
    if not 0 < baseline < 1:
        raise BadInput("baseline", baseline, "a success rate between 0 and 1", "Give 0.85, say.")
    if not 0 < effect <= 1 - baseline:
        raise BadInput(
            "effect", effect, f"above 0 and at most {1 - baseline:.3g}", "Give 0.05 for 5 points."
        )
    if not 0 < alpha < 1:
        raise BadInput("alpha", alpha, "a number between 0 and 1", "Give 0.05 or 0.01.")


def _advice(effect: float, per_day: float, days: float | None) -> str:
    points = f"{100 * effect:g} points"
    lasts = "can hardly be shown at all" if days is None else f"take {days:.0f} days"
    if per_day < FEWEST_PER_DAY:
        return (
            f"At {per_day:.3g} tasks a day {points} {lasts}: "
            f"below ~{FEWEST_PER_DAY} tasks a day use "
            "offline replay (a paired comparison on stored tasks), and live traffic only to detect "
            "harm."
        )
    if days is None or days > _LONG_DAYS:
        return (
            f"{points} {lasts}, in four of five cases: plan for a larger effect, or compare "
            "offline on stored tasks first."
        )
    return f"{points} {lasts} or less, in four of five cases."


def fixed_size(baseline: float, effect: float, alpha: float, power: float = POWER) -> int:
    """Return the units per arm of one one-sided z-test at a planned end."""
    treated = baseline + effect
    mean = (baseline + treated) / 2
    quantile = -float(ndtri(alpha)) * math.sqrt(2 * mean * (1 - mean)) + float(
        ndtri(power)
    ) * math.sqrt(baseline * (1 - baseline) + treated * (1 - treated))
    return math.ceil((quantile / effect) ** 2)


def units_per_arm(baseline: float, effect: float, alpha: float, power: float) -> int | None:
    """Return the pairs within which the proof is there with a chance of `power`; None: too many."""
    low, high = 0, 64
    while proof_chance(baseline, effect, high, alpha) < power:
        low, high = high, 2 * high
        if low > _LONGEST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if proof_chance(baseline, effect, middle, alpha) >= power:
            high = middle
        else:
            low = middle
    return high


def proof_chance(baseline: float, effect: float, n_pairs: int, alpha: float = 0.05) -> float:
    """Return the chance that E reaches 1 / alpha within `n_pairs`, looking after each; exact.

    With `effect` 0 it is the chance of a false promotion.
    """
    treated = baseline + effect
    won, lost = treated * (1 - baseline), baseline * (1 - treated)
    if won + lost <= 0:
        return 0.0
    expected = n_pairs * (won + lost)
    followed = min(n_pairs, math.ceil(expected + 6 * math.sqrt(expected) + 10))
    first = _first_proof(won / (won + lost), alpha, 2 ** math.ceil(math.log2(followed + 1)))
    at = np.flatnonzero(first)
    at = at[at <= n_pairs]
    return float(first[at] @ bdtrc(at - 1, n_pairs, won + lost))


def detectable_effect(
    baseline: float, per_arm: int, alpha: float = 0.05, power: float = POWER
) -> float | None:
    """Return the least gain (0-1) that is shown with `power` within `per_arm`; None if none is."""
    from scipy.optimize import brentq  # here: it takes long to import, and few ask

    most = 1 - baseline
    if proof_chance(baseline, most, per_arm, alpha) < power:
        return None
    return float(
        brentq(
            lambda effect: proof_chance(baseline, effect, per_arm, alpha) - power,
            0.0,
            most,
            xtol=1e-3,
        )
    )


@lru_cache(maxsize=64)
def fewest_wins(alpha: float, most: int) -> Floats:
    """Return the fewest wins with which E >= 1 / alpha after n <= `most` pairs that differ, [n].

    E rises with the wins, so each n has one such number; n + 1 where no number of wins is enough.
    """
    fewest = np.empty(most + 1)
    wins = 0
    for n in range(most + 1):
        while wins <= n and float(log_e_pairs(wins, n - wins)) < -math.log(alpha):
            wins += 1
        fewest[n] = wins
    return fewest


@lru_cache(maxsize=256)
def _first_proof(win: float, alpha: float, most: int) -> Floats:
    """Return the chance that the proof comes with the n-th pair that differs, [n] up to `most`.

    `win` is the chance that such a pair is won.
    """
    first = np.zeros(most + 1)
    alive = np.ones(1)  # [wins]
    for n, proven in enumerate(fewest_wins(alpha, most).astype(int).tolist()):
        if n:
            alive = np.append(alive * (1 - win), 0.0) + np.append(0.0, alive * win)
        first[n] = alive[proven:].sum()
        alive[proven:] = 0.0
    return first
