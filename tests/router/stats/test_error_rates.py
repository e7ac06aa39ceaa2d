"""The realised error rates of the statistics, in a shorter form of benchmarks/router_statistics.py.

Seeds are fixed, so nothing here is left to chance. Where few runs are drawn, the limit leaves room
for three standard errors.
"""

import math

import numpy as np
import pytest
from assigned_units import row_of

from benchmarks import router_statistics as simulated
from router.stats import canary_differences

RUNS = 6_000


def at_most(percent, runs):
    """The limit plus three standard errors of a rate at it."""
    return percent + 3 * math.sqrt(percent * (100 - percent) / runs)


@pytest.mark.parametrize("rate", [0.5, 0.85, 0.98], ids=str)
def test_false_promotion_at_28_daily_looks(rate):
    trials = simulated.drawn(RUNS, rate, rate)
    assert simulated.share(simulated.proven(trials)) <= 3.0
    assert simulated.share(simulated.peeked(trials)) > 10.0  # the rule that this replaces


@pytest.mark.parametrize("rate", [0.5, 0.85, 0.98], ids=str)
def test_false_promotion_with_a_look_after_each_pair(rate):
    ours, theirs = simulated.every_pair(400, 20_000, rate)
    assert ours <= at_most(5.0, 400)
    assert theirs > 20.0


@pytest.mark.parametrize(
    ("treatment", "power", "units"), [(0.90, 92.0, 560), (0.95, 99.9, 150)], ids=str
)
def test_power(treatment, power, units):
    found = simulated.proven(simulated.drawn(RUNS, 0.85, treatment))
    assert simulated.share(found) >= power
    assert simulated.first_of(found) <= units


def test_strata_sharpen_it():
    null = simulated.proven(simulated.drawn_in_strata(RUNS, gain=False, by_hash=False))
    found = simulated.proven(simulated.drawn_in_strata(RUNS, gain=True, by_hash=False))
    assert simulated.share(null) <= 3.0
    assert simulated.share(found) >= 98.0
    assert simulated.first_of(found) <= 400


def test_arms_drawn_by_hash_keep_the_error_and_cost_some_units():
    null = simulated.proven(simulated.drawn_in_strata(RUNS, gain=False, by_hash=True))
    found = simulated.proven(simulated.drawn_in_strata(RUNS, gain=True, by_hash=True))
    assert simulated.share(null) <= 3.0
    assert simulated.share(found) >= 95.0


@pytest.mark.parametrize(("start", "end"), [(0.9, 0.8), (0.8, 0.9)], ids=str)
def test_a_ramp_while_the_base_rate_drifts(start, end):
    found = simulated.ramp(400, start, end)
    assert found.promoted <= 5.5
    assert found.harmed <= 5.5
    assert max(found.pooled_promoted, found.pooled_harmed) > 40.0


def test_the_simulated_blocks_are_those_of_the_product():
    dice = np.random.default_rng(1)
    good, treated = dice.random(300) < 0.8, dice.random(300) < 0.1
    units = row_of(
        "".join("T" if of else "C" for of in treated), "".join("1" if of else "0" for of in good)
    )
    ours = canary_differences(units, lambda unit: float(unit.outcome))
    assert simulated.block_differences(good, treated) == pytest.approx(list(ours))


def test_a_canary_finds_harm_with_fewer_tasks_than_pairs():
    blocks, pairs = simulated.canary_harm(200, 0.85)
    assert blocks <= 95
    assert blocks < 0.75 * pairs


@pytest.mark.parametrize("n_units", [20, 50], ids=str)
def test_sticky_agents(n_units):
    found = simulated.sticky(300, n_units)
    assert found.units <= at_most(5.0, 300)
    assert found.tasks > 30.0


def test_a_healthy_version_is_left_alone_and_a_broken_one_is_caught():
    assert simulated.watched(1_500, 3_000, 0.01)[0] <= 0.5
    caught, median = simulated.watched(1_500, 400, 0.10)
    assert caught > 99.9
    assert median <= 40
    late, after = simulated.watched(100, 600, 0.10, healthy=1_000)
    assert late > 99.0
    assert after <= 150


@pytest.mark.parametrize(
    "part",
    [simulated.splits, simulated.planned, simulated.coverage, simulated.bounded],
    ids=lambda part: part.__name__,
)
def test_every_bar_of_the_other_forms(part):
    runs = 500 if part is simulated.bounded else 20_000
    missed = [figure.name for figure in part(runs) if not figure.passed]
    assert missed == []
