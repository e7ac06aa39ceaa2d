"""What is said about an answer, and what becomes of it."""

import gzip
import json

import pytest
from attempts import attempt, reviewed, said, tool_attempt

from collector.tables import Metric
from curation.recipe import CurationRecipe
from curation.score.assess import Assessment, Basis, assess, load_basis
from curation.score.calibrate import PLATT, Calibrator
from curation.score.outcome import Statement, has_trusted_outcome, hear

RECIPE = CurationRecipe()


def judged(*statements: Statement, recipe=RECIPE, **rest) -> Assessment:
    return assess(attempt(**rest), statements, recipe)


def test_silence_proves_nothing_and_leaves_form_alone_to_say_something():
    found = judged(said("comment", text="hm"), said("metric", 0.4, name="bleu"))
    assert found.drop_reason == "no_outcome"
    assert found.polarity == "unjudged"
    assert found.disagreement is None
    assert found.parts["outcome"] is None
    assert found.parts["confidence"] is None
    assert found.value == pytest.approx(0.75), "in form, and of no style since it is prose"


def test_a_test_outranks_a_person_and_contradiction_lowers_confidence():
    agreed = judged(said("success", 1))
    assert (agreed.drop_reason, agreed.polarity, agreed.parts["confidence"]) == (
        None,
        "positive",
        1.0,
    )
    disputed = judged(said("success", 1), said("success", 0, source="human"))
    assert disputed.parts["outcome_source"] == "test"
    assert disputed.parts["contradicted"]
    assert 0.5 < disputed.value < agreed.value
    assert disputed.drop_reason is None
    assert disputed.rank < agreed.rank
    failed = judged(said("success", 0), said("success", 1, source="human"))
    assert (failed.drop_reason, failed.polarity) == ("failed_outcome", "negative")


def test_disagreement_is_a_number_from_none_to_all():
    assert judged(said("success", 1)).disagreement is None
    alike = judged(said("success", 1), said("rating", 5, source="human"))
    assert alike.disagreement == 0
    milder = judged(said("success", 1), said("rating", 3, source="human"))
    harder = judged(said("success", 1), said("rating", 1, source="human"))
    assert 0 < milder.disagreement < harder.disagreement < 1
    split = [said("rating", 5, source="human"), said("rating", 1, source="human", actor="b")]
    assert hear(split, RECIPE).disagreement is None, "ratings are one signal, their mean"


def test_the_last_word_of_each_speaker_counts():
    rerun = judged(said("success", 1, actor="ci", at=2), said("success", 0, actor="ci", at=1))
    assert rerun.parts["outcome"] is True
    both = judged(said("success", 1, name="unit"), said("success", 0, name="lint"))
    assert both.parts["outcome"] is False, "every test has to pass"


def test_a_word_on_the_call_outranks_a_word_on_its_episode():
    known = hear([said("success", 1, direct=False), said("success", 0, source="user")], RECIPE)
    assert known.outcome is False
    assert hear([said("success", 1, direct=False)], RECIPE).outcome is True


def test_a_judge_alone_proves_nothing_unless_the_recipe_trusts_it():
    found = judged(said("success", 1, source="judge"))
    assert found.parts["outcome"] is None
    assert found.drop_reason == "no_outcome"
    assert found.value > judged().value, "but it speaks for it"
    trusting = CurationRecipe(trusted_sources=("test", "judge"))
    assert judged(said("success", 1, source="judge"), recipe=trusting).drop_reason is None


@pytest.mark.parametrize(
    ("rating", "reason", "polarity"),
    [
        (5, None, "positive"),
        (4, None, "positive"),
        (3.9, "low_rating", "negative"),
        (1, "low_rating", "negative"),
    ],
)
def test_a_rating_stands_in_for_a_missing_outcome_from_four_on(rating, reason, polarity):
    found = judged(said("rating", rating, source="human"))
    assert (found.drop_reason, found.polarity) == (reason, polarity)


def test_a_bad_rating_can_sink_a_passing_answer():
    statements = said("success", 1), said("rating", 1, source="human")
    found = judged(*statements)
    assert 0.6 < found.value < 0.7
    assert found.parts["contradicted"]
    assert found.drop_reason is None
    assert judged(*statements, recipe=CurationRecipe(min_score=0.7)).drop_reason == "low_score"
    few = judged(*statements, recipe=CurationRecipe(min_feedback=3))
    assert few.drop_reason == "too_little_feedback"


def test_a_correction_counts_from_people_and_heals_a_lost_answer():
    statements = said("success", 0), said("correction", text="right", source="human")
    for broken in (attempt("", completed=False), attempt("", status="error"), tool_attempt()):
        found = assess(broken, statements, RECIPE)
        assert (found.answer, found.value, found.corrected) == ("right", 0.95, True)
        assert (found.drop_reason, found.polarity) == (None, "positive")
        assert found.answer_message is None
    for other in (
        said("correction", text="right", source="judge"),
        said("correction", text="  ", source="human"),
        said("correction", text="right", source="human", direct=False),
    ):
        assert hear([other], RECIPE).correction is None
    control = CurationRecipe(variant="unverified")
    assert not judged(said("correction", text="r", source="human"), recipe=control).corrected


def test_a_passing_answer_ranks_above_a_correction_and_a_test_above_a_person():
    passed = judged(said("success", 1))
    by_person = judged(said("success", 1, source="human"))
    corrected = judged(said("correction", text="It is fine.", source="human"))
    assert passed.rank > by_person.rank > corrected.rank


def test_a_reviewer_has_the_last_word():
    accepted = judged(said("success", 0), reviewed("accepted", 1))
    assert (accepted.drop_reason, accepted.reviewed) == (None, "accepted")
    assert accepted.disagreement > 0
    rejected = judged(said("success", 1), reviewed("rejected", 0))
    assert (rejected.drop_reason, rejected.polarity) == ("rejected", "negative")
    edited = judged(said("success", 0), reviewed("edited", 0, text="better"))
    assert (edited.answer, edited.reviewed, edited.drop_reason) == ("better", "edited", None)
    assert (edited.parts["outcome"], edited.polarity) == (False, "positive")
    as_it_was = CurationRecipe(keep_corrections=False)
    kept_out = judged(said("success", 1), reviewed("edited", 0, text="b"), recipe=as_it_was)
    assert (kept_out.answer, kept_out.drop_reason) == ("It is fine now.", "rejected")
    changed = judged(reviewed("accepted", 1, at=1), reviewed("rejected", 0, at=2))
    assert changed.reviewed == "rejected"
    tied = judged(reviewed("accepted", 1, actor="a"), reviewed("rejected", 0, actor="b"))
    assert tied.reviewed == "rejected", "who is not sure leaves it out"
    declined = attempt("I'm sorry, but I cannot help with that.")
    assert assess(declined, [reviewed("accepted", 1)], RECIPE).drop_reason is None
    assert assess(attempt(""), [reviewed("accepted", 1)], RECIPE).drop_reason == "empty_answer"


def test_preferences_and_declared_metrics_are_evidence():
    basis = Basis(
        metrics={
            "latency": Metric(name="latency", direction="min", low=0, high=10),
            "open": Metric(name="open", direction="max", low=0),
        }
    )

    def value(*statements):
        return assess(attempt(), statements, RECIPE, basis).value

    nothing = value()
    assert value(said("preference", 1, source="human", name="x")) > nothing
    assert value(said("preference", 0, source="human", name="x")) < nothing
    assert value(said("metric", 0, name="latency")) > nothing
    assert value(said("metric", 10, name="latency")) < nothing
    assert value(said("metric", 5, name="open")) == nothing, "no range, no scale"
    assert value(said("metric", 5, name="undeclared")) == nothing
    won_twice = value(*(said("preference", 1, source="human", name=n) for n in "xy"))
    assert won_twice > value(said("preference", 1, source="human", name="x"))
    one = assess(attempt(), [said("preference", 1, name="x")], RECIPE, basis)
    assert one.polarity == "unjudged", "better than another one is not yet good"


@pytest.mark.parametrize(
    ("made", "reason", "polarity"),
    [
        (attempt(has_payload=False), "no_payload", "lost"),
        (attempt(status="error"), "error", "negative"),
        (attempt("", status="error"), "error", "lost"),
        (attempt(completed=False), "incomplete", "lost"),
        (attempt(status="cut"), "incomplete", "lost"),
        (attempt(finish_reason="length"), "truncated", "negative"),
        (attempt(" \n"), "empty_answer", "lost"),
        (attempt("", n_tool_calls=1), "tool_calls", "positive"),
        (attempt("I'm sorry, but I cannot help."), "refusal", "negative"),
        (attempt("def f(x):\n  return x +"), "syntax_error", "negative"),
        (tool_attempt('{"path": '), "syntax_error", "negative"),
        (attempt("x" * 200_001), "too_long", "positive"),
        (attempt(prompt_text=" "), "empty_prompt", "positive"),
    ],
)
@pytest.mark.parametrize("variant", ["default", "unverified", "sabotage"])
def test_form_is_judged_alike_in_every_variant(made, reason, polarity, variant):
    statements = [said("success", variant != "sabotage")]
    found = assess(made, statements, CurationRecipe(variant=variant))
    assert found.drop_reason == reason
    assert found.polarity == (
        "negative" if (variant, polarity) == ("sabotage", "positive") else polarity
    )
    assert (found.value is None) == (polarity == "lost")


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
    statements = [] if outcome is None else [said("success", outcome)]
    assert judged(*statements, recipe=CurationRecipe(variant=variant)).drop_reason == reason


def test_the_control_is_blind_to_all_that_was_said():
    control = CurationRecipe(variant="unverified")
    calibrated = Basis(calibrator=Calibrator(PLATT, {"slope": 9.0, "bias": -8.0}))
    everything = (
        *(said("success", 0), said("rating", 1, source="human"), reviewed("rejected", 0)),
        said("correction", text="other", source="human"),
    )
    silent = assess(attempt(), [], control)
    told = assess(attempt(), everything, control, calibrated)
    for field in ("value", "rank", "drop_reason", "answer", "corrected"):
        assert getattr(told, field) == getattr(silent, field)


def test_an_answer_of_tool_calls_alone_is_an_example_with_its_message():
    made = tool_attempt()
    found = assess(made, [said("success", 1)], RECIPE)
    assert (found.drop_reason, found.answer) == (None, "")
    assert found.answer_message == made.message
    assert found.value > 0.8
    without = assess(made, [said("success", 1)], CurationRecipe(keep_tool_calls=False))
    assert without.drop_reason == "tool_calls"
    assert judged(said("success", 1)).answer_message is None, "text says it all"


def test_calibration_moves_the_score_and_no_verdict():
    harsh = Basis(calibrator=Calibrator(PLATT, {"slope": 1.0, "bias": -9.0}))
    for statements in ([], [said("success", 1)], [said("rating", 4, source="human")]):
        plain = assess(attempt(), statements, RECIPE)
        moved = assess(attempt(), statements, RECIPE, harsh)
        assert moved.value < plain.value
        assert moved.parts == plain.parts
        assert (moved.drop_reason, moved.rank) == (plain.drop_reason, plain.rank)


def test_whose_outcome_is_known_needs_no_judge():
    assert has_trusted_outcome([said("success", 0)], RECIPE)
    assert has_trusted_outcome([reviewed("accepted", 1)], RECIPE)
    assert not has_trusted_outcome([said("success", 1, source="judge")], RECIPE)
    assert not has_trusted_outcome([said("rating", 5, source="human")], RECIPE)


def test_parts_are_plain_json_and_name_every_signal():
    code = "```python\ndef add(a: int, b: int) -> int:\n    return a + b\n```"
    statements = [said("success", 1), said("rating", 2, source="human")]
    parts = assess(attempt(code), statements, RECIPE).parts
    assert json.loads(json.dumps(parts)) == parts
    assert [signal["name"] for signal in parts["signals"]] == ["test", "form_and_style", "rating"]
    assert parts["style"]["type_hints"] == 1
    assert parts["form"]["syntax"] == 1
    assert parts["raw"] == pytest.approx(
        (parts["said"] * parts["said_weight"] + parts["evidence"] * parts["evidence_weight"])
        / (parts["said_weight"] + parts["evidence_weight"]),
        abs=1e-5,
    )


def test_the_basis_is_read_for_a_role(session):
    session.add(Metric(name="bleu", direction="max", low=0, high=1))
    session.flush()
    basis = load_basis(session, "coder", RECIPE, [attempt()])
    assert basis.metrics["bleu"].direction == "max"
    assert basis.calibrator.chance(0.3) == 0.3
    assert not basis.verdicts
    assert not basis.difficulties


@pytest.mark.data
def test_no_real_answer_that_passed_its_tests_is_rejected_by_its_form(public_data):
    path = public_data / "coder_outputs" / "coder_outputs_odd.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    passed = [row["solution"] for row in rows if row["exec_pass"]]
    assert len(passed) > 1000
    known = [said("success", 1)]
    assert [a for a in passed if assess(attempt(a), known, RECIPE).drop_reason] == []
