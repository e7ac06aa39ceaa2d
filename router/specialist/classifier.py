"""Applying what was learned about which model suits a task: a few products per call, no library."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from router.specialist.features import TaskFeatures

CATEGORIES = ("task_type", "language", "difficulty")


@dataclass(frozen=True)
class Fit:
    """What was learned: per model the weights of each feature.

    Attributes:
        columns: names of the features in the order of the weights: `language=python`, …, `length`.
        weights: by model, one per column and the constant last.
        default: the model that is asked where none is likelier.
    """

    columns: tuple[str, ...]
    weights: dict[str, tuple[float, ...]]
    default: str

    def chances(self, task: TaskFeatures) -> dict[str, float]:
        """Return how likely each model is to succeed at a task, 0-1."""
        row = row_of(task, self.columns)
        return {
            model: 1 / (1 + math.exp(-max(-30.0, min(30.0, _dot(weights, row)))))
            for model, weights in self.weights.items()
        }

    def choose(self, task: TaskFeatures) -> str:
        """Return the likeliest model; the default where they are equal."""
        chances = self.chances(task)
        best = max(chances, key=lambda model: (chances[model], model == self.default))
        return best if chances[best] > chances.get(self.default, 0.0) else self.default

    def as_json(self) -> dict[str, Any]:
        """Return it as `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Fit":
        """Read what `as_json` gave."""
        weights = {model: tuple(row) for model, row in stored["weights"].items()}
        return cls(tuple(stored["columns"]), weights, stored["default"])


def _dot(weights: Sequence[float], row: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(weights, row, strict=True))


def row_of(task: TaskFeatures, columns: Sequence[str]) -> list[float]:
    """Return the features of a task as numbers, the constant last."""
    present = {f"{name}={getattr(task, name)}" for name in CATEGORIES}
    length = math.log1p(task.n_chars) / 10
    return [*(length if c == "length" else float(c in present) for c in columns), 1.0]
