"""The win rate at equal length: against known answers, and silent where there is none."""

import random

import pytest

from evaluator.judge.length import LEAST_PAIRS, length_controlled
from evaluator.judge.pairs import Pair
from evaluator.judge.settle import Settled, majority


def settled(gap, winner):
    """A pair whose candidate is `gap` characters longer, settled for a side."""
    pair = Pair("t", [], "x" * 500, "x" * (500 + gap))
    return Settled(pair, winner, winner)


def mirrored(pairs):
    """The same with the sides exchanged."""
    other = {"candidate": "baseline", "baseline": "candidate", "tie": "tie"}
    return [settled(-gap, other[winner]) for gap, winner in pairs]


def drawn(n, preference, per_length, seed):
    """Winners by a logistic law: log-odds of `preference` at equal length, plus the length's."""
    from scipy.special import expit

    dice = random.Random(seed)
    gaps = [round(dice.gauss(120, 60)) for _ in range(n)]
    chances = [expit(preference + per_length * gap / 100) for gap in gaps]
    sides = ["candidate" if dice.random() < chance else "baseline" for chance in chances]
    return list(zip(gaps, sides, strict=True))


def test_without_an_effect_of_length_it_is_the_win_rate() -> None:
    pairs = [(gap, side) for gap in (-9, 9) for side in 3 * ["candidate"] + ["baseline"]] * 5
    found = length_controlled([settled(*pair) for pair in pairs])
    assert found.rate == pytest.approx(0.75, abs=1e-4)
    assert found.slope == pytest.approx(0, abs=1e-3)
    # Wald on the log-odds: log 3 -+ 1.96 / sqrt(40 * 0.75 * 0.25)
    assert (found.low, found.high) == (
        pytest.approx(0.595, abs=1e-3),
        pytest.approx(0.86, abs=1e-3),
    )


def test_ties_count_half() -> None:
    pairs = [(gap, side) for gap in (-5, 5) for side in ("candidate", "tie", "tie", "baseline")] * 5
    found = length_controlled([settled(*pair) for pair in pairs])
    assert found.rate == pytest.approx(0.5, abs=1e-4)


def test_a_gain_that_is_all_length_vanishes() -> None:
    """A candidate no better but 120 characters longer wins 77 % before judges who like length."""
    pairs = drawn(3000, 0.0, 1.0, seed=1)
    raw = sum(side == "candidate" for _, side in pairs) / len(pairs)
    found = length_controlled([settled(*pair) for pair in pairs])
    assert raw > 0.7
    assert found.low < 0.5 < found.high
    assert found.slope > 0


def test_exchanging_the_sides_exchanges_the_rate() -> None:
    pairs = drawn(400, 0.8, 0.6, seed=2)
    one = length_controlled([settled(*pair) for pair in pairs])
    other = length_controlled(mirrored(pairs))
    assert one.rate == pytest.approx(1 - other.rate, abs=1e-4)
    assert one.slope == pytest.approx(other.slope, abs=1e-3)


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        ([(n, "candidate") for n in range(LEAST_PAIRS - 1)], "at least 20 needed"),
        ([(7, "candidate"), (7, "baseline")] * 20, "all differences of length are the same"),
        ([(n, "candidate" if n > 0 else "baseline") for n in range(-20, 20)], "separation"),
        ([(n, "baseline" if n > 0 else "candidate") for n in range(-20, 20)], "separation"),
        ([(n, "candidate") for n in range(40)], "separation"),
        ([(0, "tie")] * 5 + [(9, "candidate")] * 9 + [(-9, "baseline")] * 9, "separation"),
    ],
)
def test_it_is_not_computable_rather_than_wrong(pairs, why) -> None:
    found = length_controlled([settled(*pair) for pair in pairs])
    assert found.rate is None
    assert why in found.why_not
    assert found.as_json() == {"not_computable": found.why_not}


def test_all_ties_are_even() -> None:
    found = length_controlled([settled(gap, "tie") for gap in range(30)])
    assert found.rate == pytest.approx(0.5)


def test_a_majority_is_more_than_half() -> None:
    assert majority(["candidate", "candidate", "baseline"]) == "candidate"
    assert majority(["candidate", "tie", "tie"]) == "tie"
    assert majority(["candidate", "baseline"]) == "tie"
    assert majority(["candidate", "tie"]) == "tie"
    assert majority(["candidate", "baseline", "tie"]) == "tie"
    assert majority([]) == "tie"
