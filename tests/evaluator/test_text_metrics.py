"""Likeness in numbers that papers mean, and silence where there is nothing to say."""

import builtins

import pytest

from evaluator.graders import GradedTask, similar
from evaluator.metrics import text
from foundation.errors import BadInput

SORT = """\
def qs(a):
    if len(a) < 2:
        return a
    p = a[0]
    return qs([x for x in a if x < p]) + [p] + qs([x for x in a[1:] if x >= p])
"""


def test_bleu_and_chrf_are_sacrebleus() -> None:
    answer, reference = "the cat sat on a mat", "the cat sat on the mat"
    # sacrebleu 2.6: corpus BLEU 53.73, chrF2 71.88
    assert text.corpus_bleu([answer], [reference]) == pytest.approx(0.5373, abs=1e-4)
    assert text.bleu(answer, [reference]) == pytest.approx(0.5373, abs=1e-4)
    assert text.chrf(answer, [reference]) == text.corpus_chrf([answer], [reference])
    assert text.corpus_bleu([], []) is text.corpus_chrf([], []) is None


def test_a_short_right_answer_is_fully_right() -> None:
    assert text.likeness("Paris", ["Paris"]) == dict.fromkeys(text.METRICS, 1.0) | {"rouge2": 0.0}
    assert text.bleu("Paris", ["Paris"]) == 1.0, "not 1.0000000000000004"


def test_the_likest_reference_counts() -> None:
    one, other = "a red house", "the blue boat sails away"
    for name, metric in text.METRICS.items():
        assert metric(other, [one, other]) == metric(other, [other, one]) == 1.0, name


def test_rouge_knows_words_that_are_not_ascii() -> None:
    assert text.rouge("Ο γάτος κοιμάται", ["Ο γάτος κοιμάται"])["rougeL"] == 1
    assert text.rouge("学习机器", ["机器学习"])["rouge1"] == 1
    assert text.rouge("学习机器", ["机器学习"])["rougeL"] == 0.5
    assert text.rouge("!!!", ["???"])["rouge1"] == 0


def test_rouge_is_rouge_scores_on_ascii() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    answer, reference = "It's 3 cats_dogs, isn't it?", "3 cats and dogs it is"
    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, answer)
    assert text.rouge(answer, [reference]) == {name: s.fmeasure for name, s in theirs.items()}


def test_exact_and_normalised() -> None:
    assert text.exact(" 42\n", ["42"]) == 1
    assert text.exact("42.", ["42"]) == 0
    assert text.normalised('"Forty  Two."', ["forty two"]) == 1


def test_code_bleu_says_nothing_where_it_has_nothing_to_say() -> None:
    pytest.importorskip("codebleu")
    assert text.code_bleu(SORT, SORT) == 1
    assert text.code_bleu("x", "y") is None, "no data flow: the package says 0.50"
    assert text.code_bleu(SORT[:-5], SORT) is None, "does not parse: the package says 0.9"
    assert text.code_bleu(SORT, "def (") is None
    assert text.code_bleu("", SORT) is None
    assert text.code_bleu(SORT, SORT, "java") is None, "no parser installed"
    assert text.code_bleu(SORT, SORT, "klingon") is None


def test_code_bleu_does_not_reward_a_data_flow_of_which_nothing_matches() -> None:
    pytest.importorskip("codebleu")
    from codebleu import calc_codebleu

    theirs = calc_codebleu([SORT], ["print(1)"], "python")
    assert theirs["dataflow_match_score"] == 0
    assert text.code_bleu("print(1)", SORT) == pytest.approx(theirs["codebleu"] - 0.25)


def test_without_the_extra_code_bleu_is_not_computable(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("codebleu"):
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert text.code_bleu(SORT, SORT) is None


def graded(said, /, **reference):
    task = GradedTask("t", [], "similar", reference)
    (grade,) = similar.grade_many([task], [said], None)
    return grade


def test_a_likely_answer_passes_and_is_measured() -> None:
    good = graded("The cat sat on the mat.", answer="the cat sat on the mat")
    assert good.passed
    assert good.score == good.metrics["chrf"] > 0.8
    assert set(good.metrics) == set(text.METRICS)
    bad = graded("No idea.", answer=["the cat sat", "on the mat"], metric="rougeL")
    assert (bad.passed, str(bad.status), bad.score) == (False, "WRONG", 0)
    assert "rougeL is 0.000, below 0.5" in bad.detail
    assert graded("", answer="x").status == "LOST"


def test_the_threshold_itself_passes() -> None:
    score = text.chrf("the cat", ["the cats"])
    assert graded("the cat", answer="the cats", min_score=score).passed
    assert not graded("the cat", answer="the cats", min_score=score + 1e-9).passed


def test_code_bleu_is_measured_and_no_threshold() -> None:
    pytest.importorskip("codebleu")
    fenced = f"Here:\n```python\n{SORT}```"
    assert graded(fenced, answer=SORT, code="python").metrics["code_bleu"] == 1
    assert "code_bleu" not in graded("no code", answer=SORT, code="python").metrics
    with pytest.raises(BadInput, match="CodeBLEU is a diagnostic"):
        graded(SORT, answer=SORT, metric="code_bleu")


def test_an_endless_answer_is_not_compared() -> None:
    grade = graded("word " * 2_000_000, answer="word")
    assert str(grade.status) == "WRONG"
    assert "at most 50000" in grade.detail


@pytest.mark.parametrize(
    "reference",
    [{}, {"answer": []}, {"answer": [1]}, {"answer": " "}, {"answer": "x", "min_score": 0}],
)
def test_a_task_that_cannot_be_graded_is_refused(reference) -> None:
    with pytest.raises(BadInput, match="task t: reference"):
        graded("x", **reference)
