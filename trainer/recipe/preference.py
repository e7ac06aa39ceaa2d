"""Knobs of the methods that learn from pairs: dpo, kto, orpo, reward."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from foundation.errors import BadInput
from trainer.recipe.ranges import (
    REMEDY,
    Range,
    check,
    names,
    not_negative,
    number,
    one_of,
    positive,
)

BASES: Final = ("outcome", "correction", "human", "rating", "generated", "constitution")
"""Of `curation.preferences.pairs`, strongest first."""
PLAN_LR: Final = 5e-6
"""Rate of the product plan for DPO at 7 billion weights."""
DPO_LOSSES: Final = ("sigmoid", "hinge", "ipo", "sft", "robust", "apo_zero", "apo_down")


@dataclass(frozen=True)
class Preference:
    """How pairs are learned from.

    Attributes:
        bases: what the pairs that are learned from may rest on, such as outcome or constitution;
            none: on anything. Imitation reads it too, of the winners of a preference dataset.
        beta: strength of the pull towards the model that the training began from, above 0; of
            orpo the weight of the odds ratio.
        losses: of dpo, added up: sigmoid is DPO's own, sft keeps the winner likely.
        loss_weights: one per loss, at least 0.
        label_smoothing: share of pairs taken to be the wrong way round, 0 to below 0.5.
        precompute_reference: of dpo and kto, ask the model that the training began from once, not
            at every step: less work from the second epoch on.
        desirable_weight: of kto's good answers, above 0.
        undesirable_weight: of its bad ones, above 0.
        center_rewards: of reward, weight of the square of a pair's summed scores, at least 0: it
            keeps the scores near 0, so that those of different prompts can be compared.
    """

    bases: tuple[str, ...] = ()
    beta: float = 0.1
    losses: tuple[str, ...] = ("sigmoid",)
    loss_weights: tuple[float, ...] = (1.0,)
    label_smoothing: float = 0.0
    precompute_reference: bool = True
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    center_rewards: float = 0.01

    RANGES: ClassVar[Mapping[str, Range]] = {
        "bases": (
            lambda value: names("", may_be_empty=True)[0](value) and set(value) <= set(BASES),
            f"some of {', '.join(BASES)}, or none for all",
        ),
        "beta": positive(),
        "losses": (
            lambda value: names("")[0](value) and set(value) <= set(DPO_LOSSES),
            f"some of {', '.join(DPO_LOSSES)}",
        ),
        "loss_weights": (
            lambda value: bool(value) and all(not_negative()[0](one) for one in value),
            "one weight of at least 0 for each of the losses",
        ),
        "label_smoothing": number(lambda x: 0 <= x < 0.5, "a share of 0 to below 0.5"),
        "precompute_reference": one_of(True, False),
        "desirable_weight": positive(),
        "undesirable_weight": positive(),
        "center_rewards": not_negative(),
    }

    def __post_init__(self) -> None:
        """Check every field; raises BadInput."""
        for name in ("bases", "losses", "loss_weights"):
            value = getattr(self, name)
            is_one = isinstance(value, str | int | float)
            object.__setattr__(self, name, (value,) if is_one else tuple(value))
        check(self, "recipe.preference")
        if len(self.losses) != len(self.loss_weights):
            raise BadInput(
                "recipe.preference.loss_weights",
                self.loss_weights,
                f"one weight for each of the losses {', '.join(self.losses)}",
                REMEDY,
            )
