"""Whether a judge's number may decide anything: pure, with every reason in words."""

from dataclasses import dataclass

from evaluator.judge.health import Calibration, Health
from foundation.errors import BadInput


@dataclass(frozen=True)
class GateThresholds:
    """What a judge must show before its number may gate; shares are in 0-1.

    Attributes:
        max_flip_rate: share of pairs whose verdict may change with the order.
        min_pairs: pairs settled in both orders, below which nothing is known of it.
        min_settled: share of the pairs asked that came back readable in both orders.
        min_calibration: items with executable truth that it must have judged.
    """

    max_flip_rate: float = 0.2
    min_pairs: int = 20
    min_settled: float = 0.9
    min_calibration: int = 20

    def __post_init__(self) -> None:
        for name in ("max_flip_rate", "min_settled"):
            if not 0 <= getattr(self, name) <= 1:
                _refuse(name, getattr(self, name), "a share in [0, 1]")
        for name in ("min_pairs", "min_calibration"):
            if getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "a whole number from 1 on")


def may_rubric_gate(flip_rate: float | None, limits: GateThresholds | None = None) -> bool:
    """Return whether scores by rubric may gate, by the mean of `judge_flipped`; None: it may not.

    The graders' numbers are a judge's word. What flips too often, or was never asked twice, decides
    nothing.
    """
    return flip_rate is not None and flip_rate <= (limits or GateThresholds()).max_flip_rate


def objections(
    health: Health,
    calibration: Calibration,
    n_asked: int,
    is_akin: bool,
    limits: GateThresholds,
) -> list[str]:
    """Return why a judge's number may not gate; empty if it may.

    Args:
        health: of its verdicts.
        calibration: against executable truth.
        n_asked: pairs that it was asked about.
        is_akin: whether it is of the candidate's own family.
        limits: what is asked of it.
    """
    flips, found = health.flips, []
    if is_akin:
        found.append("It is of the candidate's own base or family.")
    if flips.n < limits.min_pairs:
        found.append(f"It settled {flips.n} pairs, at least {limits.min_pairs} are needed.")
    if n_asked and flips.n < limits.min_settled * n_asked:
        found.append(
            f"It gave readable verdicts in both orders on {flips.n} of {n_asked} pairs, less than "
            f"{limits.min_settled:.0%}."
        )
    if flips.value is not None and flips.value > limits.max_flip_rate:
        found.append(
            f"{flips.value:.1%} of its verdicts change with the order of the answers, more than "
            f"{limits.max_flip_rate:.0%}."
        )
    return [*found, *_uncalibrated(calibration, limits)]


def _uncalibrated(calibration: Calibration, limits: GateThresholds) -> list[str]:
    if calibration.n < limits.min_calibration:
        return [
            f"It was held against executable truth on {calibration.n} pairs, at least "
            f"{limits.min_calibration} are needed."
        ]
    if calibration.beats_ruler:
        return []
    longer = calibration.longer.value or 0.0
    ruler = f"the longer, {longer:.1%}" if longer >= 0.5 else f"the shorter, {1 - longer:.1%}"
    return [
        f"It is right on {calibration.judge.value:.1%} of {calibration.n} pairs with executable "
        f"truth, which is not proven better than going by length ({ruler})."
    ]


def _refuse(name: str, value: float, expected: str) -> None:
    raise BadInput(f"judge gate {name}", value, expected, "See docs/judging.md.")
