import numpy as np

from evaluator.slices import note_on, slices_of


def test_a_slice_that_gains_is_found_and_the_others_are_not_named():
    rng = np.random.default_rng(1)
    kinds = {f"t{i}": {"difficulty": ("easy", "hard")[i % 2], "domain": "web"} for i in range(120)}
    baseline = {task: [bool(x) for x in rng.random(5) < 0.5] for task in kinds}
    candidate = {
        task: [bool(x) for x in rng.random(5) < (0.9 if own["difficulty"] == "hard" else 0.5)]
        for task, own in kinds.items()
    }
    found = slices_of(baseline, candidate, kinds)
    assert [(one.attribute, one.value, one.n_tasks) for one in found] == [
        ("difficulty", "easy", 60),
        ("difficulty", "hard", 60),
    ]  # domain has one value: nothing to slice by
    assert [one.is_shown for one in found] == [False, True]
    assert "Shown to differ: difficulty hard" in note_on(found)


def test_many_slices_of_equal_models_are_not_named():
    rng = np.random.default_rng(2)
    named = 0
    for _ in range(60):
        kinds = {f"t{i}": {"task_type": f"k{i % 12}"} for i in range(120)}
        sides = [{t: [bool(x) for x in rng.random(3) < 0.5] for t in kinds} for _ in range(2)]
        named += any(one.is_shown for one in slices_of(*sides, kinds))
    assert named <= 7


def test_slices_of_too_few_families_are_said_to_show_nothing():
    kinds = {f"t{i}": {"domain": ("web", "mobile")[i % 2]} for i in range(64)}
    families = {f"t{i}": f"f{i // 2 % 4}-{i % 2}" for i in range(64)}  # four a domain
    better = slices_of({t: [False] for t in kinds}, {t: [True] for t in kinds}, kinds, families)
    assert not any(one.is_shown for one in better)
    assert "2 of 2 could not be, however large the difference" in note_on(better)
    assert "that takes 7 families of tasks" in note_on(better)
    alone = slices_of({t: [False] for t in kinds}, {t: [True] for t in kinds}, kinds)
    assert all(one.is_shown for one in alone)
    assert "could not be" not in note_on(alone)


def test_slices_nobody_answered_and_tasks_without_attributes_are_left_out():
    kinds = {"a": {"domain": "web"}, "b": {"domain": "mobile"}, "c": {}}
    baseline = {"a": [True], "b": [None], "c": [True]}
    found = slices_of(baseline, {"a": [True], "b": [True], "c": [True]}, kinds)
    assert [one.value for one in found] == ["web"]
    assert note_on([]).startswith("No attribute")
