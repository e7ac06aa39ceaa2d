"""Which model a task is sent to: by the file's rules, or by what was learned."""

import random

import pytest

from foundation.errors import BadSetting
from router.specialist.classifier import Fit
from router.specialist.features import TaskFeatures, features_of
from router.specialist.learned import Outcome, fit, held_out, worth
from router.specialist.rules import NONE, read_specialists

RUST = "Why does this not compile?\n```rust\nfn main() { let x: u32 = -1; }\n```"


def task(**known: object) -> TaskFeatures:
    return TaskFeatures(
        **{"task_type": None, "language": None, "difficulty": None, "n_chars": 100} | known
    )  # type: ignore[arg-type]


def test_features_are_read_off_the_question_and_the_whole_length():
    request = {
        "messages": [
            {"role": "system", "content": "You know ```python\nprint(1)\n```."},
            {"role": "user", "content": [{"type": "text", "text": RUST}]},
        ]
    }
    found = features_of(request, "debugging", "hard")
    assert (found.task_type, found.language, found.difficulty) == ("debugging", "rust", "hard")
    assert found.n_chars == len(RUST) + len(request["messages"][0]["content"])
    assert features_of({"prompt": "short"}) == TaskFeatures(None, None, None, 5)
    assert features_of({"messages": []}).n_chars == 0


def test_the_first_rule_that_fits_decides():
    found = read_specialists(
        "coder",
        {
            "rules": [
                {"when": {"language": ["rust", "c"], "difficulty": "hard"}, "model": "systems"},
                {"when": {"min_chars": 1000, "max_chars": 2000}, "model": "long"},
                {"when": {"task_type": "review"}, "model": "careful"},
            ],
        },
    )
    assert found.choose(task(language="c", difficulty="hard", n_chars=1500)) == (
        "systems",
        "rule:0",
    )
    assert found.choose(task(language="c", difficulty="easy")) is None
    assert found.choose(task(n_chars=1000)) == ("long", "rule:1")
    assert found.choose(task(n_chars=2001)) is None
    assert found.choose(task(n_chars=999, task_type="review")) == ("careful", "rule:2")
    assert not found.learned
    assert read_specialists("coder", None) is NONE
    assert NONE.choose(task()) is None


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        ({"rule": []}, "roles.coder.specialists.rule"),
        ({"rules": [{"when": {}}]}, "rules.0.model"),
        ({"rules": [{"when": {"min_chars": "many"}, "model": "m"}]}, "when.min_chars"),
        ({"learned": "yes"}, "specialists.learned"),
    ],
)
def test_a_wrong_rule_is_named_by_its_place(raw, place):
    with pytest.raises(BadSetting, match=place.replace(".", r"\.")):
        read_specialists("coder", raw)


def outcomes(n: int, gap: float, seed: int = 0) -> list[Outcome]:
    """Tasks of two kinds; `new` is better at rust by `gap` and worse at python by as much."""
    draw = random.Random(seed)
    found = []
    for number in range(n):
        language, model = draw.choice(["python", "rust"]), draw.choice(["old", "new"])
        better = (language == "rust") == (model == "new")
        chance = 0.6 + (gap / 2 if better else -gap / 2)
        found.append(
            Outcome(f"task-{number}", task(language=language), model, draw.random() < chance)
        )
    return found


def test_what_suits_which_task_is_learned_and_proves_itself_on_tasks_held_out():
    seen = outcomes(1500, gap=0.5)
    fitted = fit(seen, "old")
    assert fitted is not None
    assert fitted.choose(task(language="rust")) == "new"
    assert fitted.choose(task(language="python")) == "old"
    judged = worth(fitted, seen)
    assert judged is not None
    assert judged.n == sum(held_out(one.task) for one in seen)
    assert judged.low > 0.1
    assert judged.chosen - judged.default == pytest.approx(0.25, abs=0.08)
    again = Fit.from_json(fitted.as_json())
    assert again == fitted
    sent = read_specialists(
        "coder", {"learned": True, "rules": [{"model": "x", "when": {"min_chars": 500}}]}
    )
    assert sent.choose(task(language="rust"), fitted) == ("new", "learned")
    assert sent.choose(task(language="python"), fitted) is None
    assert sent.choose(task(language="rust", n_chars=500), fitted) == ("x", "rule:0")
    assert sent.choose(task(language="rust"), None) is None
    assert NONE.choose(task(language="rust"), fitted) is None


def test_models_that_are_alike_prove_nothing():
    proven = 0
    for seed in range(20):
        seen = outcomes(400, gap=0.0, seed=seed)
        fitted = fit(seen, "old")
        assert fitted is not None
        judged = worth(fitted, seen)
        proven += judged is not None and judged.low > 0
    assert proven <= 2  # 2.5 % each


def test_a_model_with_few_outcomes_or_only_successes_is_not_chosen():
    few = [one for one in outcomes(400, gap=0.5) if one.model == "old"]
    few += [Outcome(f"new-{n}", task(), "new", True) for n in range(200)]
    assert fit(few, "old") is None
    assert fit([], "old") is None
    assert fit(outcomes(1000, gap=0.5), "a third") is None


def test_an_unknown_feature_leaves_the_rest():
    fitted = fit(outcomes(1500, gap=0.5), "old")
    assert fitted is not None
    assert set(fitted.chances(task(language="cobol", task_type="new"))) == {"old", "new"}
    assert fitted.choose(task(language="rust", n_chars=10**9)) in ("old", "new")
