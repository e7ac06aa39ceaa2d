"""What of a win rate is left when both answers are equally long: a second number. Pure.

After length-controlled AlpacaEval (Dubois et al., 2024, arXiv 2404.04475): a logistic regression of
the winner on the difference of lengths; its intercept is the preference at equal length. Ours is
fitted to one pair of models and has no term for a task's difficulty. It is not computable rather
than wrong where length alone parts wins from losses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from evaluator.judge.pairs import CANDIDATE, TIE
from evaluator.judge.settle import Settled
from foundation.intervals import Z_95

LEAST_PAIRS: Final = 20
_WORTH: Final = {CANDIDATE: 1.0, TIE: 0.5}


@dataclass(frozen=True)
class LengthControlled:
    """The win rate at equal length, or why there is none.

    Attributes:
        rate: 0-1, ties counted half; None: not computable.
        low: lower end of its 95 % interval (Wald, on the log-odds).
        high: upper end.
        slope: log-odds that the candidate gains per standard deviation of being longer, at 0.
        why_not: why it is not computable.
    """

    rate: float | None = None
    low: float | None = None
    high: float | None = None
    slope: float | None = None
    why_not: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        if self.rate is None:
            return {"not_computable": self.why_not}
        return {"rate": self.rate, "low": self.low, "high": self.high, "slope": self.slope}


def length_controlled(settled: Sequence[Settled]) -> LengthControlled:
    """Return the candidate's win rate with the effect of length taken out."""
    import numpy as np

    if len(settled) < LEAST_PAIRS:
        return LengthControlled(why_not=f"{len(settled)} pairs, at least {LEAST_PAIRS} needed")
    gaps = np.array([_gap(one) for one in settled])
    worth = np.array([_WORTH.get(one.winner, 0.0) for one in settled])
    spread = float(gaps.std())
    if spread == 0:
        return LengthControlled(why_not="all differences of length are the same")
    if _are_parted(gaps[worth > 0], gaps[worth < 1]):
        return LengthControlled(why_not="length alone parts wins from losses (separation)")
    return _fit(np.tanh(gaps / spread), worth)


def _gap(settled: Settled) -> float:
    return float(len(settled.pair.candidate.strip()) - len(settled.pair.baseline.strip()))


def _are_parted(won: Any, lost: Any) -> bool:
    """Return whether a threshold of length parts wins from losses; a tie is one of each.

    Then no finite regression fits best (Albert and Anderson, 1984).
    """
    if not len(won) or not len(lost):
        return True
    return bool(won.min() >= lost.max() or won.max() <= lost.min())


def _fit(longer: Any, worth: Any) -> LengthControlled:
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import expit

    columns = np.column_stack((np.ones_like(longer), longer))  # (pairs, intercept and slope)

    def loss(weights: Any) -> tuple[float, Any]:
        odds = columns @ weights
        total = np.logaddexp(0, odds).sum() - worth @ odds
        return float(total), columns.T @ (expit(odds) - worth)

    found = minimize(loss, np.zeros(2), jac=True, method="BFGS")
    chance = expit(columns @ found.x)
    information = columns.T @ (columns * (chance * (1 - chance))[:, None])
    if not np.isfinite(found.x).all() or np.linalg.cond(information) > 1e12:
        return LengthControlled(why_not="the regression does not converge")
    intercept, error = float(found.x[0]), float(np.sqrt(np.linalg.inv(information)[0, 0]))
    return LengthControlled(
        rate=float(expit(intercept)),
        low=float(expit(intercept - Z_95 * error)),
        high=float(expit(intercept + Z_95 * error)),
        slope=float(found.x[1]),
    )
