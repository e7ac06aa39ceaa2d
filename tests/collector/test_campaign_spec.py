from pathlib import Path
from typing import Any

import pytest

from collector.campaign.idle import Utilisation, closed_because, gpu_utilisation
from collector.campaign.limits import Price, price_of
from collector.campaign.plan import (
    apportioned,
    conversation,
    drawn_text,
    fingerprint,
    plan,
    task_of,
)
from collector.campaign.report import Place, quality
from collector.campaign.spec import CampaignSpec, Idle, Model, read_spec, spec_of
from foundation.errors import BadInput

GOOD: dict[str, Any] = {
    "name": "c",
    "role": "coder",
    "n": 10,
    "models": [{"model": "openai/a"}, {"model": "openai/b", "weight": 3}],
    "task": {"template": "Do $topic at $difficulty: $what $$5", "values": {"what": ["x", "y"]}},
    "topics": {"lists": 1, "strings": 1},
    "difficulties": {"easy": 2, "hard": 1},
    "answer": {"system": "Be brief.", "template": "Task: $task"},
}


def test_a_specification_is_the_same_after_its_journey_through_the_database() -> None:
    spec = spec_of(GOOD)
    assert spec_of(spec.as_json()) == spec
    assert spec.hash() == spec_of(GOOD).hash() != spec_of(GOOD | {"seed": 1}).hash()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n": 0}, "n: got 0, expected 1 or more"),
        ({"n": "many"}, "n: got 'many'"),
        ({"models": []}, "models"),
        ({"models": [{"model": "a"}, {"model": "a"}]}, "a label for each"),
        ({"models": [{"model": "a", "weight": -1}]}, "models.a.weight"),
        ({"models": [{"model": "a", "key": "s"}]}, "models.0.key"),
        ({"models": [{"weight": 1}]}, "models.0.model"),
        ({"models": [{"model": "a", "weight": 0}]}, "a weight above 0"),
        ({"topics": {"x": -1}}, "topics.x"),
        ({"task": {}}, "exactly one of template, items and generator"),
        ({"task": {"template": "x", "generator": "y"}}, "exactly one"),
        ({"task": {"template": "$nothing"}}, r"\$nothing"),
        ({"task": {"template": "costs $5"}}, "a dollar sign itself is"),
        ({"task": {"items": ["a"]}}, "at most the 1 of task.items"),
        ({"task": {"generator": "x", "model": "c"}}, "task.model"),
        ({"answer": {"template": "no task"}}, r"a text with \$task"),
        ({"budget_usd": 0}, "budget_usd"),
        ({"check": {"kind": "shell"}}, "check.kind"),
        ({"idle": {}}, "at least one bound"),
        ({"idle": {"gpu_below": 30}}, "a share from 0 to 1"),
        ({"idle": {"gpu_below": 0.3, "or_else": "c"}}, "idle.or_else"),
        ({"colour": "red"}, "no such field"),
        ({"name": None}, "name"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_what_was_expected(change, said) -> None:
    with pytest.raises(BadInput, match=said):
        spec_of(GOOD | change)


def test_a_misspelt_field_is_named_rather_than_the_one_it_leaves_missing() -> None:
    misspelt = {("rolle" if name == "role" else name): value for name, value in GOOD.items()}
    with pytest.raises(BadInput, match="^rolle: .* no such field"):
        spec_of(misspelt)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "just words", ""])
def test_a_file_that_is_no_campaign_is_bad_input(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(BadInput):
        read_spec(path)
    with pytest.raises(BadInput, match="campaign file"):
        read_spec(tmp_path / "none.yaml")


def test_items_may_stand_in_a_file_beside(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text('"one"\n\n{"task": "two", "topic": "t"}\n')
    (tmp_path / "c.yaml").write_text(
        "name: c\nrole: coder\nn: 2\nmodels: [{model: a}]\ntask: {items: tasks.jsonl}\n"
    )
    spec = read_spec(tmp_path / "c.yaml")
    assert spec.task.items == ["one", {"task": "two", "topic": "t"}]
    assert [place.topic for place in plan(spec)] == [None, "t"]
    (tmp_path / "tasks.jsonl").write_text("{")
    with pytest.raises(BadInput, match=r"task\.items"):
        read_spec(tmp_path / "c.yaml")


def test_the_plan_keeps_its_mixes_and_is_the_same_each_time() -> None:
    places = plan(spec_of(GOOD))
    assert places == plan(spec_of(GOOD))
    assert places != plan(spec_of(GOOD | {"seed": 1}))
    assert [place.number for place in places] == list(range(10))
    counted = [
        sum(place.topic == "lists" for place in places),
        sum(place.difficulty == "easy" for place in places),
        sum(place.model == "openai/b" for place in places),
    ]
    assert counted == [5, 7, 7]


@pytest.mark.parametrize(
    ("weights", "n", "counts"),
    [
        ({"a": 1, "b": 1, "c": 1}, 10, {"a": 4, "b": 3, "c": 3}),
        ({"a": 0.9, "b": 0.1}, 1, {"a": 1, "b": 0}),
        ({"a": 1, "b": 0}, 3, {"a": 3, "b": 0}),
        ({}, 5, {}),
    ],
)
def test_places_are_shared_out_by_largest_remainder(weights, n, counts) -> None:
    assert apportioned(weights, n) == counts


def test_texts_are_drawn_from_place_and_draw() -> None:
    spec = spec_of(GOOD)
    place = plan(spec)[3]
    texts = {drawn_text(spec.task.template or "", spec, place, draw) for draw in range(20)}
    assert texts == {f"Do {place.topic} at {place.difficulty}: {what} $5" for what in "xy"}
    task = task_of({"task": " $x {y} ", "test": "assert 1"})
    assert task is not None
    assert task.needs == {"test": "assert 1"}
    system, user = conversation(spec, place, task)
    assert (system["content"], user["content"]) == ("Be brief.", "Task: $x {y}")


@pytest.mark.parametrize("value", [None, "", "  ", 3, {}, {"task": ""}, {"task": 4}, []])
def test_what_names_no_task_is_none(value) -> None:
    assert task_of(value) is None


def test_fingerprints_ignore_how_a_text_is_written_and_nothing_else() -> None:
    assert fingerprint("Add  two numbers.") == fingerprint("add two\nnumbers")
    assert fingerprint("Say “hi”") == fingerprint("say hi")
    assert fingerprint("return a + b") != fingerprint("return a - b")
    assert fingerprint("sum of 1 and 2") != fingerprint("sum of 1 and 3")


@pytest.mark.parametrize(
    ("bounds", "found", "said"),
    [
        ({"gpu_below": 0.3}, (0.2, 0), None),
        ({"gpu_below": 0.3}, (0.3, 0), "the GPU is used at 30%, not below 30%"),
        ({"gpu_above": 0.1, "gpu_below": 0.5}, (0.05, 0), "the GPU is used at 5%, not from 10% on"),
        ({"gpu_above": 0.1, "gpu_below": 0.5}, (0.1, 0), None),
        ({"gpu_below": 0.3}, (None, 0), "no GPU is to be seen, and there is no bound on the CPU"),
        ({"gpu_below": 0.3, "cpu_below": 0.5}, (None, 0.4), None),
        ({"cpu_below": 0.5}, (None, 0.5), "the load per core is 0.50, not below 0.50"),
        ({"cpu_below": 0.5}, (0.9, 0.9), None),
    ],
)
def test_the_window_is_open_between_its_bounds(bounds, found, said) -> None:
    assert closed_because(Idle(**bounds), Utilisation(*found)) == said


@pytest.mark.parametrize(
    ("script", "share"),
    [
        ("echo 12; echo 70", 0.7),
        ("echo '[N/A]'", None),
        ("exit 9", None),
        ("echo 'No devices were found'", None),
    ],
)
def test_the_busiest_gpu_counts_and_none_is_said_plainly(tmp_path: Path, script, share) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    assert gpu_utilisation(str(command)) == share
    assert gpu_utilisation(str(tmp_path / "nowhere")) is None


def test_a_call_cannot_cost_more_than_is_set_aside() -> None:
    price = Price(10.0, 100.0)
    messages = [{"role": "user", "content": "ünï" * 10}]
    assert price.at_most(messages, 50) > price.of(len("ünï" * 10), 50)
    assert price.of(1_000_000, 10_000) == pytest.approx(11.0)


def test_a_declared_price_wins_and_a_local_model_is_free() -> None:
    known = Price(1.0, 2.0)
    assert price_of(Model("m", input_usd_per_mtok=5.0), known) == Price(5.0, 0.0)
    assert price_of(Model("m"), known) == known
    assert price_of(Model("m", local=True), None) == Price()
    assert price_of(Model("m"), None) is None


def test_the_report_counts_what_may_be_learned_from() -> None:
    places = [
        Place("done", "a", "easy", "m", True, "x = 1", "stop"),
        Place("done", "a", "hard", "m", False, "x = 2", "stop"),
        Place("done", "b", "easy", "n", None, "x = 1", "length"),
        Place("done", "b", "easy", "n", None, "I'm sorry, I cannot do that.", "stop"),
        Place("duplicate", "b", "easy", "m"),
        Place("failed", "b", "easy", "m", detail="Timeout: model 'x': at 0x1"),
        Place("planned", "b", "easy", "m"),
    ]
    report = quality(places, 0.5)
    counted = {name: report[name] for name in ("answered", "accepted", "refusals", "truncations")}
    assert counted == {"answered": 4, "accepted": 1, "refusals": 1, "truncations": 1}
    assert (report["duplicates"], report["failed"], report["target"]) == (1, 1, 7)
    assert (report["checked"], report["pass_rate"], report["unique_ratio"]) == (2, 0.5, 0.75)
    assert report["by_difficulty"]["easy"] == {"answered": 3, "accepted": 1, "pass_rate": 1.0}
    assert report["by_model"]["n"]["pass_rate"] is None
    assert report["cost_per_accepted_usd"] == 0.5
    assert report["length"] == {"min": 5, "p10": 5, "median": 5, "p90": 28, "max": 28}
    assert report["failures"] == {"Timeout": 1}
    assert quality([], 0.0)["pass_rate"] is None


def test_a_specification_is_a_value() -> None:
    assert isinstance(spec_of(GOOD), CampaignSpec)
    assert spec_of(GOOD).model("openai/b").weight == 3
