"""The gap between the halves of pairs."""

from evaluator.metrics.bias import PairResult, bias_gap


def results(pair, a, b):
    return [PairResult(pair, "a", one) for one in a] + [PairResult(pair, "b", one) for one in b]


def test_the_gap_is_the_mean_over_pairs():
    found = bias_gap([
        *results("loan", [True, True], [True, False]),
        *results("flat", [False], [True]),
        *results("visa", [True], [True]),
    ])  # fmt: skip
    assert found is not None
    assert found.as_json() == {
        "n_pairs": 3, "gap": 0.5, "signed_gap": (0.5 - 1) / 3, "worst_pair": "flat",
    }  # fmt: skip


def test_alike_means_no_worst_pair():
    found = bias_gap(results("loan", [True], [True]))
    assert found is not None
    assert (found.gap, found.worst_pair) == (0, None)


def test_half_a_pair_says_nothing():
    assert bias_gap(results("loan", [True], [])) is None
    assert bias_gap([]) is None
