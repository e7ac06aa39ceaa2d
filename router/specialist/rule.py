"""The rule whether a fitted classifier is used, alone: replaying it needs no learner."""

from dataclasses import dataclass
from typing import Any

from foundation import decisions
from foundation.decisions import Ruling
from router.specialist.store import STAY, USE

RULE = "router.specialist"


@dataclass(frozen=True)
class SpecialistThresholds:
    """When a classifier is used."""

    min_outcomes: int = 200
    """Outcomes of experiments needed to begin, held out ones among them."""
    min_gain: float = 0.0
    """What the lower 95 % bound of the gain must pass, -1 to 1."""


@decisions.rule(RULE)
def rule(inputs: dict[str, Any], thresholds: dict[str, Any]) -> Ruling:
    """Say whether tasks are sent by the classifier (`use`) or to who serves (`stay`).

    Args:
        inputs: the fields of `Worth`, and `n_outcomes`.
        thresholds: the fields of `SpecialistThresholds`.
    """
    limits = decisions.load(SpecialistThresholds, thresholds)
    if inputs["n_outcomes"] < limits.min_outcomes:
        words = f"{inputs['n_outcomes']} outcomes of experiments, {limits.min_outcomes} are needed"
        return Ruling(STAY, (words,))
    gain = inputs["chosen"] - inputs["default"]
    words = (
        f"on {inputs['n']} outcomes held out choosing succeeds in {inputs['chosen']:.1%}, the one "
        f"who serves in {inputs['default']:.1%}: {gain:+.1%} "
        f"[{inputs['low']:+.1%}, {inputs['high']:+.1%}]"
    )
    proven = inputs["low"] > limits.min_gain
    return Ruling(USE if proven else STAY, (words,))
