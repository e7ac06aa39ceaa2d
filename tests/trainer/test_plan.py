from dataclasses import asdict, replace

import pytest

from foundation.errors import BadInput
from trainer.plan import (
    CHOOSE_METHOD_PROFILES,
    DEMO,
    SHOULD_TRAIN_PROFILES,
    STANDARD,
    ChooseBaseInputs,
    ChooseBaseThresholds,
    ChooseMethodInputs,
    ShouldRetrainInputs,
    ShouldRetrainThresholds,
    ShouldTrainInputs,
    choose_base,
    choose_method,
    profile,
    should_retrain,
    should_train,
)

PILOT = ShouldTrainInputs(
    baseline_success=0.9499, tasks_per_day=10, budget_usd=10_000, timeline_weeks=10
)


def train(inputs, name=STANDARD):
    return should_train(asdict(inputs), asdict(SHOULD_TRAIN_PROFILES[name]))


def method(name=STANDARD, **inputs):
    return choose_method(
        asdict(ChooseMethodInputs(**inputs)), asdict(CHOOSE_METHOD_PROFILES[name])
    ).outcome


def retrain(**inputs):
    return should_retrain(asdict(ShouldRetrainInputs(**inputs)), asdict(ShouldRetrainThresholds()))


def base(role, complexity=None):
    return choose_base(
        asdict(ChooseBaseInputs(role, complexity)), asdict(ChooseBaseThresholds())
    ).outcome


def test_on_the_right_side_of_every_limit_a_pilot_starts():
    assert train(PILOT).outcome == "yes"
    assert "pilot" in train(PILOT).reasons[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"baseline_success": 0.95}, "Already excellent"),
        ({"tasks_per_day": 9.99}, "Low volume"),
        ({"budget_usd": 9_999.99}, "Budget too small"),
        ({"timeline_weeks": 9.9}, "Timeline too short"),
    ],
)
def test_each_limit_refuses_alone(change, reason):
    ruling = train(replace(PILOT, **change))
    assert ruling.outcome == "no"
    assert len(ruling.reasons) == 1
    assert ruling.reasons[0].startswith(reason)


@pytest.mark.parametrize(
    "name", ["baseline_success", "tasks_per_day", "budget_usd", "timeline_weeks"]
)
def test_an_unknown_input_is_named_and_never_guessed(name):
    ruling = train(replace(PILOT, **{name: None}))
    assert ruling.outcome == "unknown"
    assert ruling.reasons[-1] == f"Unknown: {name}."


def test_a_known_refusal_stands_beside_unknown_inputs():
    ruling = train(ShouldTrainInputs(baseline_success=0.99))
    assert ruling.outcome == "no"
    assert "tasks_per_day, budget_usd, timeline_weeks" in ruling.reasons[-1]


def test_the_demo_profile_relaxes_volume_budget_and_timeline_and_says_so():
    ruling = train(ShouldTrainInputs(baseline_success=0.4, tasks_per_day=1), DEMO)
    assert ruling.outcome == "yes"
    assert "tasks_per_day, budget_usd, timeline_weeks are not asked" in ruling.reasons[-1]
    assert train(ShouldTrainInputs(baseline_success=0.95), DEMO).outcome == "no"
    assert train(ShouldTrainInputs(), DEMO).outcome == "unknown"


@pytest.mark.parametrize("success", [95, -0.1])
def test_a_success_rate_in_percent_is_refused(success):
    with pytest.raises(BadInput, match="baseline_success"):
        should_train({"baseline_success": success}, {})


@pytest.mark.parametrize(
    ("inputs", "outcome"),
    [
        ({"n_examples": 499, "has_gpu": True}, "wait"),
        ({"n_examples": 500, "has_gpu": True}, "sft-lora"),
        ({"n_examples": 9_999, "has_gpu": True}, "sft-lora"),
        ({"n_examples": 10_000, "has_gpu": True}, "sft-full"),
        (
            {"n_examples": 10_000, "has_gpu": False, "memory_gb": 31.9, "time_budget_h": 48},
            "sft-qlora",
        ),
        (
            {"n_examples": 500, "has_gpu": False, "memory_gb": 32, "time_budget_h": 47.9},
            "sft-qlora",
        ),
        (
            {"n_examples": 10_000, "has_gpu": False, "memory_gb": 32, "time_budget_h": 48},
            "sft-lora",
        ),
        ({}, "unknown"),
        ({"n_examples": 499}, "wait"),
        ({"n_examples": 500}, "unknown"),
        ({"n_examples": 500, "has_gpu": False, "memory_gb": 16}, "sft-qlora"),
        ({"n_examples": 500, "has_gpu": False, "time_budget_h": 1}, "sft-qlora"),
        ({"n_examples": 500, "has_gpu": False, "memory_gb": 64}, "unknown"),
        ({"n_examples": 500, "has_gpu": False, "time_budget_h": 72}, "unknown"),
    ],
)
def test_the_method_at_its_limits(inputs, outcome):
    assert method(**inputs) == outcome


def test_the_demo_profile_trains_lora_on_a_small_machine_and_says_why():
    small = {"n_examples": 300, "has_gpu": False, "memory_gb": 4}
    assert method(**small) == "wait"
    assert method(**{**small, "n_examples": 500}) == "sft-qlora"
    assert method(DEMO, **small) == "sft-lora"
    limits = asdict(CHOOSE_METHOD_PROFILES[DEMO])
    reasons = choose_method(asdict(ChooseMethodInputs(**small)), limits).reasons
    assert any("half a million" in reason for reason in reasons)
    assert method(DEMO, **{**small, "n_examples": 49}) == "wait"


@pytest.mark.parametrize(
    ("role", "complexity", "outcome"),
    [
        ("coder", "easy", "Qwen/Qwen2.5-Coder-7B"),
        ("coder", "hard", "Qwen/Qwen2.5-Coder-14B"),
        ("coder", None, "unknown"),
        ("coder", "fiendish", "unknown"),
        ("tester", None, "Qwen/Qwen2.5-7B"),
        ("tester", "hard", "Qwen/Qwen2.5-7B"),
        ("reviewer", "easy", "Qwen/Qwen2.5-14B"),
        ("coordinator", None, "Qwen/Qwen2.5-14B"),
        ("researcher", "hard", "keep-baseline"),
        ("plumber", None, "unknown"),
    ],
)
def test_the_base_of_each_role(role, complexity, outcome):
    assert base(role, complexity) == outcome


def test_the_mapping_is_configurable():
    ruling = choose_base({"role": "coder", "complexity": "easy"}, {"models": {"coder": "own/tiny"}})
    assert ruling.outcome == "own/tiny"


CALM = {"success_at_training": 0.6, "success_now": 0.6}


@pytest.mark.parametrize(
    ("inputs", "outcome"),
    [
        # 0.60 - 0.55 is less than 0.05 in binary fractions, and 5 points to everybody else.
        ({"success_at_training": 0.60, "success_now": 0.55}, "now"),
        ({"success_at_training": 0.60, "success_now": 0.551, "n_new_examples": 0}, "unknown"),
        ({**CALM, "n_new_examples": 1_000, "months_since_training": 6}, "yes"),
        ({**CALM, "n_new_examples": 999, "months_since_training": 6}, "wait"),
        ({**CALM, "n_new_examples": 1_000, "months_since_training": 5.9}, "wait"),
        ({**CALM, "n_new_examples": 0, "months_since_training": 12}, "yes"),
        ({**CALM, "n_new_examples": 0, "months_since_training": 11.9}, "wait"),
        (
            {
                "success_at_training": 0.60,
                "success_now": 0.551,
                "n_new_examples": 9,
                "months_since_training": 1,
            },
            "wait",
        ),
        ({"n_new_examples": 1_000, "months_since_training": 6}, "yes"),
        ({"n_new_examples": 1_000, "months_since_training": 1}, "unknown"),
        ({**CALM, "months_since_training": 1}, "wait"),
        ({**CALM, "months_since_training": 7}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_when_to_train_again(inputs, outcome):
    assert retrain(**inputs).outcome == outcome


def test_an_unknown_profile_is_refused():
    with pytest.raises(BadInput, match="weekend"):
        profile(SHOULD_TRAIN_PROFILES, "weekend")
