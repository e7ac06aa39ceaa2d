"""What is said about an answer, and what becomes of it."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from curation.recipe import CurationRecipe
from curation.score.outcome import Attempt, Statement, has_valid_python, quality, reject, score

START = datetime(2026, 1, 1, tzinfo=UTC)
RECIPE = CurationRecipe()


def said(
    kind: str, value: float | None = None, *, source: str = "test", at: int = 0, **rest: Any
) -> Statement:
    fields = {"text": None, "actor": None, "name": None, "direct": True, **rest}
    return Statement(
        kind=kind, value=value, source=source, said_at=START + timedelta(seconds=at), **fields
    )


def attempt(answer: str = "fine", **rest: Any) -> Attempt:
    fields = {"status": "success", "completed": True, "finish_reason": "stop", **rest}
    return Attempt(prompt_text="do it", answer=answer, **fields)


def test_silence_is_no_score():
    known = score([said("comment", text="hm"), said("metric", 0.4, name="bleu")], RECIPE)
    assert known.value is None
    assert known.outcome is None
    assert known.confidence is None
    assert reject(attempt(), known, RECIPE) == "no_outcome"


def test_a_test_outranks_a_person_and_contradiction_lowers_confidence():
    agreed = score([said("success", 1)], RECIPE)
    assert (agreed.value, agreed.outcome, agreed.confidence) == (1.0, True, 1.0)
    disputed = score([said("success", 1), said("success", 0, source="human")], RECIPE)
    assert disputed.outcome is True
    assert disputed.outcome_source == "test"
    assert disputed.contradicted
    assert 0.5 < disputed.value < agreed.value
    assert reject(attempt(), disputed, RECIPE) is None
    failed = score([said("success", 0), said("success", 1, source="human")], RECIPE)
    assert reject(attempt(), failed, RECIPE) == "failed_outcome"


def test_the_last_word_of_each_speaker_counts():
    rerun = score(
        [said("success", 1, actor="ci", at=2), said("success", 0, actor="ci", at=1)], RECIPE
    )
    assert rerun.outcome is True
    both = score([said("success", 1, name="unit"), said("success", 0, name="lint")], RECIPE)
    assert both.outcome is False, "every test has to pass"


def test_a_word_on_the_call_outranks_a_word_on_its_episode():
    known = score([said("success", 1, direct=False), said("success", 0, source="user")], RECIPE)
    assert known.outcome is False
    assert score([said("success", 1, direct=False)], RECIPE).outcome is True


def test_a_judge_alone_proves_nothing():
    known = score([said("success", 1, source="judge")], RECIPE)
    assert known.outcome is None
    assert reject(attempt(), known, RECIPE) == "no_outcome"


@pytest.mark.parametrize(("rating", "reason"), [(5, None), (4, None), (3.9, "low_rating")])
def test_a_rating_stands_in_for_a_missing_outcome_from_four_on(rating, reason):
    known = score([said("rating", rating, source="human")], RECIPE)
    assert reject(attempt(), known, RECIPE) == reason


def test_a_bad_rating_can_sink_a_passing_answer():
    known = score([said("success", 1), said("rating", 1, source="human")], RECIPE)
    assert known.value == pytest.approx(2 / 3)
    assert known.contradicted
    assert reject(attempt(), known, RECIPE) is None
    assert reject(attempt(), known, CurationRecipe(min_score=0.7)) == "low_score"
    assert reject(attempt(), known, CurationRecipe(min_feedback=3)) == "too_little_feedback"


def test_a_correction_counts_from_people_and_heals_a_lost_answer():
    known = score([said("success", 0), said("correction", text="right", source="human")], RECIPE)
    assert (known.correction, known.value) == ("right", 0.95)
    assert reject(attempt("", completed=False), known, RECIPE) is None
    for other in (
        said("correction", text="right", source="judge"),
        said("correction", text="  ", source="human"),
        said("correction", text="right", source="human", direct=False),
    ):
        assert score([other], RECIPE).correction is None
    assert (
        score(
            [said("correction", text="r", source="human")], CurationRecipe(variant="unverified")
        ).correction
        is None
    )


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (attempt(has_payload=False), "no_payload"),
        (attempt(status="error"), "error"),
        (attempt(completed=False), "incomplete"),
        (attempt(status="cut"), "incomplete"),
        (attempt(finish_reason="length"), "truncated"),
        (attempt(" \n"), "empty_answer"),
        (attempt("", n_tool_calls=1), "tool_calls"),
        (attempt("I'm sorry, but I cannot help."), "refusal"),
        (attempt("def f(x):\n  return x +"), "syntax_error"),
        (attempt("x" * 200_001), "too_long"),
    ],
)
@pytest.mark.parametrize("variant", ["default", "unverified", "sabotage"])
def test_form_is_judged_alike_in_every_variant(made, reason, variant):
    recipe = CurationRecipe(variant=variant)
    assert reject(made, score([said("success", variant != "sabotage")], recipe), recipe) == reason


@pytest.mark.parametrize(
    ("variant", "outcome", "reason"),
    [
        ("unverified", None, None),
        ("unverified", 0, None),
        ("unverified", 1, None),
        ("sabotage", None, "no_outcome"),
        ("sabotage", 0, None),
        ("sabotage", 1, "not_failed"),
    ],
)
def test_variants_differ_by_outcome_only(variant, outcome, reason):
    recipe = CurationRecipe(variant=variant)
    statements = [] if outcome is None else [said("success", outcome)]
    assert reject(attempt(), score(statements, recipe), recipe) == reason


def test_the_control_ranks_repeats_without_looking_at_outcomes():
    control = CurationRecipe(variant="unverified")
    passed, failed = {"outcome": True, "outcome_source": "test"}, {"outcome": False}
    assert quality(1.0, passed, False, control) == quality(0.0, failed, False, control)
    assert quality(1.0, passed, False, RECIPE) > quality(0.95, {}, True, RECIPE)
    assert quality(0.9, {"outcome": True, "outcome_source": "human"}, False, RECIPE) < (
        quality(0.8, passed, False, RECIPE)
    )


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        ("def f(x):\n    return x", True),
        ("def f(x): return x +", False),
        ("import math\n\ndef f(x):\n    return (x", False),
        ("Here:\n```python\ndef f(:\n```", False),
        ("Here:\n```python\n    return x\n```", True),
        ("Here:\n```bash\nls | wc (\n```", True),
        ("class Foo < Bar\n  def go\n  end\nend", True),
        ("import java.util.List;\nclass A { }", True),
        ("import React from 'react'", True),
        ("from here on, all is well", True),
        ("def is a keyword", True),
        ("    def g(x):\n        return x\n\n    return g(1)", True),
        ("    def g(x):\n        return x\n\n    return g(1", False),
        ("```\ndef f(\n```", True),
    ],
)
def test_only_what_is_clearly_python_has_to_parse(answer, valid):
    assert has_valid_python(answer) is valid


def test_no_real_answer_that_passed_its_tests_is_rejected_by_its_form(public_data):
    path = public_data / "coder_outputs" / "coder_outputs_odd.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    passed = [row["solution"] for row in rows if row["exec_pass"]]
    known = score([said("success", 1)], RECIPE)
    assert len(passed) > 1000
    assert [a for a in passed if reject(attempt(a), known, RECIPE) is not None] == []
