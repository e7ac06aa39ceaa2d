"""Judges tests of `feature_encoding`."""

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.feature_encoding import (
    CENTRED,
    OTHER_PLACE,
    Encoder,
    encode_split,
)

CHECKS = Checks(
    rules={
        "OTHER_PLACE": {
            True: "Behind the known words there is a further place for all others.",
            False: "A word that is not known has 0.0 in all places.",
        },
        "CENTRED": {
            True: "The scale starts at the mean of the numbers that it was fitted on.",
            False: "The scale starts at the least of the numbers that it was fitted on.",
        },
    },
    faults=[
        Fault(
            "the encoder is fitted on all rows",
            "encoder.fit(rows[:n_train])",
            "encoder.fit(rows)",
        ),
        Fault(
            "the encoder is fitted anew for the other rows",
            "    return encoder.transform(rows[:n_train]), encoder.transform(rows[n_train:])",
            "    found = encoder.transform(rows[:n_train])\n"
            "    encoder.fit(rows[n_train:] or rows)\n"
            "    return found, encoder.transform(rows[n_train:])",
        ),
        Fault(
            "words are learnt as they are written",
            "self.vocabulary.learn(word.lower() for word, _ in rows)",
            "self.vocabulary.learn(word for word, _ in rows)",
        ),
        Fault(
            "words are looked up as they are written",
            "self.vocabulary.encode(word.lower())",
            "self.vocabulary.encode(word)",
        ),
        Fault(
            "numbers are not put on the scale",
            "self.scale.apply(number)]",
            "number]",
        ),
        Fault(
            "words of an earlier fit stay",
            "        self.vocabulary = Vocabulary()\n        self.vocabulary.learn",
            "        self.vocabulary.learn",
        ),
        Fault(
            "new words are learnt while transforming",
            "        return [\n            [*self",
            "        self.vocabulary.learn(word.lower() for word, _ in rows)\n"
            "        return [\n            [*self",
        ),
    ],
)

ROWS = [("Red", 2.0), ("blue", 6.0), ("red", 10.0), ("BLUE", 14.0), ("Green", 6.0)]


def places(*values: float, other: float = 0.0) -> list[float]:
    """The features of a word."""
    return [*values, other] if OTHER_PLACE else [*values]


def test_fitted_on_the_first_rows_only() -> None:
    """The others may hold what was never seen."""
    train, test = encode_split(ROWS, 3)
    start = 6.0 if CENTRED else 2.0
    assert train == [
        [*places(1.0, 0.0), (2.0 - start) / 8],
        [*places(0.0, 1.0), (6.0 - start) / 8],
        [*places(1.0, 0.0), (10.0 - start) / 8],
    ]
    assert test == [
        [*places(0.0, 1.0), (14.0 - start) / 8],
        [*places(0.0, 0.0, other=1.0), (6.0 - start) / 8],
    ]


def test_a_second_fit_forgets_the_first() -> None:
    """Words and scale."""
    encoder = Encoder()
    encoder.fit(ROWS)
    encoder.fit([("Black", 1.0), ("white", 5.0)])
    assert encoder.vocabulary.places == {"black": 0, "white": 1}
    start = 3.0 if CENTRED else 1.0
    assert encoder.transform([("WHITE", 7.0), ("red", 1.0)]) == [
        [*places(0.0, 1.0), (7.0 - start) / 4],
        [*places(0.0, 0.0, other=1.0), (1.0 - start) / 4],
    ]
    assert encoder.vocabulary.places == {"black": 0, "white": 1}


def test_one_number_has_no_width() -> None:
    """It is 0.0, and so is any other."""
    train, test = encode_split([("a", 5.0), ("a", 5.0), ("a", 9.0)], 2)
    assert train == [[*places(1.0), 0.0]] * 2
    assert test == [[*places(1.0), 0.0]]


def test_an_encoder_that_was_not_fitted() -> None:
    """It knows no word and leaves numbers alone."""
    assert Encoder().transform([("red", 3.0)]) == [[*places(other=1.0), 3.0]]
    assert Encoder().transform([]) == []
