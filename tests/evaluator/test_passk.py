"""pass@k and pass^k against counting every draw of k answers."""

from itertools import combinations

import pytest

from evaluator.metrics.passk import pass_all_k, pass_at_k, pass_k, pass_ks
from foundation.errors import BadInput


@pytest.mark.parametrize("n", range(1, 7))
def test_both_equal_the_share_of_all_draws(n):
    for c in range(n + 1):
        answers = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            draws = list(combinations(answers, k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))
            assert pass_all_k(n, c, k) == pytest.approx(sum(map(all, draws)) / len(draws))


def test_fewer_answers_than_k_say_nothing():
    assert pass_at_k(2, 2, 3) is None
    assert pass_all_k(2, 2, 3) is None


def test_the_mean_is_over_tasks_and_lost_answers_count_neither_way():
    tasks = [[True, False, None], [True, True, True, True], [None, None], [False]]
    found = pass_k(tasks, 2)
    assert (found.at_least_one, found.all_of_them) == (1.0, 0.5)
    assert (found.n_tasks, found.n_short, found.n_lost) == (2, 2, 3)
    assert pass_k([], 1).at_least_one is None


def test_only_k_that_all_answered_tasks_have_are_named():
    figures = pass_ks([[True, False], [True, None], [None]])
    assert figures == {"pass@1": 0.75, "pass^1": 0.75}
    assert pass_ks([[None]]) == {}


@pytest.mark.parametrize(("n", "c", "k"), [(1, 2, 1), (1, -1, 1), (1, 1, 0)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(BadInput, match=r"pass@k"):
        pass_at_k(n, c, k)
