"""Knobs of the methods that learn from a teacher's distributions: distill, gkd."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from trainer.recipe.ranges import Range, check, name_or_none, positive, share, whole


@dataclass(frozen=True)
class Distillation:
    """Who teaches, and how.

    Attributes:
        teacher: name of a version, or a base model's folder or hub name; of the same vocabulary.
        temperature: T, that both distributions are softened by, above 0.
        alpha: weight of the teacher's KL (times T squared) beside 1 - alpha of the task's loss.
        on_policy: gkd, share of the batches that the student answers itself, 0-1.
        divergence: gkd, 0: forward KL, 1: reverse KL, between: Jensen-Shannon.
        max_new_tokens: gkd, of the student's own answers, at least 1.
    """

    teacher: str | None = None
    temperature: float = 2.0
    alpha: float = 0.5
    on_policy: float = 0.5
    divergence: float = 0.5
    max_new_tokens: int = 256

    RANGES: ClassVar[Mapping[str, Range]] = {
        "teacher": name_or_none("a version's name, or a base model's folder or hub name"),
        "temperature": positive(),
        "alpha": share(),
        "on_policy": share(),
        "divergence": share(),
        "max_new_tokens": whole(1),
    }

    def __post_init__(self) -> None:
        """Check every field; raises BadInput."""
        check(self, "recipe.distillation")
