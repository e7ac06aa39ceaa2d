"""Rows of words and numbers as features: a vocabulary, a scale, and an encoder of both.

The encoder is fitted on rows `(word, number)` and then turns rows into lists: a place for each
known word in the order in which it was first seen, 1.0 at the word's own, and then the number on
the scale. A scale that would divide by 0 gives 0.0.
"""

from collections.abc import Iterable

OTHER_PLACE = True
CENTRED = True

Row = tuple[str, float]


class Vocabulary:
    """Words with their places."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def learn(self, words: Iterable[str]) -> None:
        """Gives each new word the next place."""
        for word in words:
            self.places.setdefault(word, len(self.places))

    def encode(self, word: str) -> list[float]:
        """1.0 at the place of the word."""
        found = [0.0] * (len(self.places) + (1 if OTHER_PLACE else 0))
        if word in self.places:
            found[self.places[word]] = 1.0
        elif OTHER_PLACE:
            found[-1] = 1.0
        return found


class Scale:
    """Numbers from where they begin, in units of their width."""

    def __init__(self) -> None:
        self.start = 0.0
        self.width = 1.0

    def learn(self, numbers: list[float]) -> None:
        """Sets start and width by numbers, of which there is at least one."""
        low, high = min(numbers), max(numbers)
        self.start = sum(numbers) / len(numbers) if CENTRED else low
        self.width = high - low

    def apply(self, number: float) -> float:
        """The number on the scale."""
        return (number - self.start) / self.width if self.width else 0.0


class Encoder:
    """Turns rows into features."""

    def __init__(self) -> None:
        self.vocabulary = Vocabulary()
        self.scale = Scale()

    def fit(self, rows: list[Row]) -> None:
        """Learns from rows alone, forgetting what was learnt before."""
        self.vocabulary = Vocabulary()
        self.vocabulary.learn(word.lower() for word, _ in rows)
        self.scale.learn([number for _, number in rows])

    def transform(self, rows: list[Row]) -> list[list[float]]:
        """The features of rows; upper and lower case are the same."""
        return [
            [*self.vocabulary.encode(word.lower()), self.scale.apply(number)]
            for word, number in rows
        ]


def encode_split(rows: list[Row], n_train: int) -> tuple[list[list[float]], list[list[float]]]:
    """The features of the first rows, which the encoder is fitted on, and of the others."""
    encoder = Encoder()
    encoder.fit(rows[:n_train])
    return encoder.transform(rows[:n_train]), encoder.transform(rows[n_train:])
