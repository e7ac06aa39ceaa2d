"""Seeded draws of plain values; the same on every run, whatever PYTHONHASHSEED says."""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice(random.Random):
    """A random generator with the draws that inputs of tasks are made of."""

    def some(self, values: Sequence[T], at_most: int, at_least: int = 0) -> list[T]:
        """A list of `at_least` to `at_most` values, any of them several times."""
        return self.choices(values, k=self.randint(at_least, at_most))

    def few(self, values: Sequence[T], at_most: int, at_least: int = 0) -> list[T]:
        """As `some`, each value once at most."""
        return self.sample(values, self.randint(at_least, min(at_most, len(values))))

    def text(self, alphabet: str | Sequence[str], at_most: int, at_least: int = 0) -> str:
        """A text of that many pieces of the alphabet."""
        return "".join(self.some(alphabet, at_most, at_least))

    def ints(self, low: int, high: int, at_most: int, at_least: int = 0) -> list[int]:
        """A list of whole numbers from `low` to `high`, both included."""
        return [self.randint(low, high) for _ in range(self.randint(at_least, at_most))]

    def halves(self, low: int, high: int, at_most: int, at_least: int = 0) -> list[float]:
        """As `ints`, floats in steps of one half."""
        return [number / 2 for number in self.ints(2 * low, 2 * high, at_most, at_least)]

    def chance(self, share: float = 0.5) -> bool:
        """True that often."""
        return self.random() < share
