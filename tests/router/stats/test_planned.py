import math

import numpy as np
import pytest
from scipy.stats import norm, t

from foundation.errors import BadInput
from router.stats import planned_looks
from router.stats.planned import OBRIEN_FLEMING, POCOCK, bounds, equal_looks, for_few, spent


@pytest.mark.parametrize(
    ("spending", "published"),
    [
        (OBRIEN_FLEMING, [4.877, 3.357, 2.680, 2.290, 2.031]),
        (POCOCK, [2.438, 2.427, 2.410, 2.397, 2.386]),
    ],
)
def test_bounds_are_the_published_ones(spending, published):
    found = bounds(0.025, equal_looks(5), spending)
    assert [round(bound, 3) for bound in found] == published


@pytest.mark.parametrize("spending", [OBRIEN_FLEMING, POCOCK])
def test_all_of_alpha_is_spent_at_the_end(spending):
    assert spent(0.05, 1.0, spending) == pytest.approx(0.05)
    assert spent(0.05, 1.3, spending) == pytest.approx(0.05)


def test_one_look_is_the_plain_test():
    assert bounds(0.05, (1.0,)) == pytest.approx([norm.isf(0.05)])


@pytest.mark.parametrize("fractions", [(0.11, 0.37, 0.6, 1.0), (0.2, 0.4, 0.6, 0.71)], ids=str)
def test_uneven_looks_and_an_early_end_keep_alpha(fractions):
    steps = np.sqrt(np.diff((0.0, *fractions)))
    paths = (np.random.default_rng(1).standard_normal((200_000, 4)) * steps).cumsum(axis=1)
    limits = bounds(0.05, fractions, ended=True)
    crossed = (paths / np.sqrt(fractions) >= limits).any(axis=1)
    assert crossed.mean() == pytest.approx(0.05, abs=0.002)


@pytest.mark.parametrize("fractions", [(), (0.5, 0.5), (0.6, 0.3), (0.5, 1.2)], ids=str)
def test_fractions_that_do_not_rise_are_refused(fractions):
    with pytest.raises(BadInput, match="planned looks"):
        bounds(0.05, fractions)


def test_an_unknown_spending_is_refused():
    with pytest.raises(BadInput, match="obrien_fleming or pocock"):
        bounds(0.05, (1.0,), "haybittle")


class TestLooks:
    def test_a_look_waits_for_its_number_of_pairs(self):
        assert planned_looks(np.ones(19), 100, 5) == []
        [first] = planned_looks(np.ones(39), 100, 5)
        assert (first.number, first.n, first.fraction) == (1, 20, 0.2)

    def test_looking_later_finds_the_same_looks(self):
        differences = np.random.default_rng(2).choice([-1, 0, 1], 100)
        early, late = planned_looks(differences[:61], 100, 5), planned_looks(differences, 100, 5)
        assert late[: len(early)] == early
        assert len(late) == 5

    def test_an_end_with_fewer_pairs_is_the_last_look_and_spends_the_rest(self):
        differences = np.random.default_rng(3).choice([-1, 0, 1], 92)
        due, ended = (planned_looks(differences, 100, 5, ended=end) for end in (False, True))
        assert [look.n for look in due] == [20, 40, 60, 80]
        assert ended[:4] == due
        assert (ended[4].n, ended[4].fraction) == (92, 0.92)
        assert ended[4].bound == bounds(0.05, (0.2, 0.4, 0.6, 0.8, 0.92), ended=True)[4]

    @pytest.mark.parametrize("n", [80, 100, 130])
    def test_an_end_at_a_look_adds_none(self, n):
        differences = np.ones(n)
        assert planned_looks(differences, 100, 5, ended=True) == planned_looks(differences, 100, 5)

    def test_an_end_without_any_pair_has_no_look(self):
        assert planned_looks([], 100, 5, ended=True) == []

    def test_ends_with_too_few_pairs_keep_alpha_and_spend_it(self):
        """Equals: the number of pairs at the end is chance, and not what they said."""
        draw, n_lives, wrong = np.random.default_rng(5), 4000, {False: 0, True: 0}
        for n_pairs in draw.integers(40, 195, n_lives):
            differences = draw.choice([-1, 0, 1], n_pairs)
            for ended in wrong:
                looks = planned_looks(differences, 200, 5, ended=ended)
                wrong[ended] += any(look.shown for look in looks)
        assert wrong[False] / n_lives < 0.025, "what was not spent"
        assert 0.04 < wrong[True] / n_lives <= 0.05

    def test_z_is_mcnemars(self):
        differences = [1] * 15 + [-1] * 5 + [0] * 30
        [look] = planned_looks(differences, 50, 1)
        assert look.z == pytest.approx(10 / math.sqrt(20))
        assert (look.shown, look.harm) == (True, False)

    def test_harm_is_the_mirror(self):
        [look] = planned_looks([-1.0] * 20, 20, 1)
        assert (look.shown, look.harm) == (False, True)

    def test_ties_alone_show_nothing(self):
        [look] = planned_looks(np.zeros(20), 20, 1)
        assert look.z == 0
        assert not look.shown


def test_few_units_ask_for_more():
    assert for_few(2.0, 10) == pytest.approx(t.isf(norm.sf(2.0), 10))
    assert for_few(2.0, 1e7) == pytest.approx(2.0, abs=1e-5)
    assert for_few(2.0, 0) == math.inf
