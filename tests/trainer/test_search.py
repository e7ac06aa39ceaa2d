"""Which candidates are tried, and who goes on."""

import pytest

from foundation.errors import BadInput
from trainer.recipe import PRESETS, Recipe
from trainer.search import (
    Proposals,
    SearchPlan,
    Trial,
    changed,
    for_round,
    parse_knob,
    parse_space,
    require_comparable,
    survivors,
)


def test_rounds_grow_as_candidates_shrink():
    assert SearchPlan(trials=9, steps=10, eta=3, rounds=4).sizes == [(9, 10), (3, 30), (1, 90)]
    assert SearchPlan(trials=3, steps=10, eta=2, rounds=1).sizes == [(3, 10)]


@pytest.mark.parametrize("bad", [{"trials": 1}, {"steps": 0}, {"eta": 1}, {"rounds": 0}])
def test_a_plan_that_searches_nothing_is_refused(bad):
    with pytest.raises(BadInput, match=next(iter(bad))):
        SearchPlan(**bad)
    with pytest.raises(BadInput, match="--over"):
        SearchPlan(space={})


def test_the_default_space_is_three_rates_around_the_recipes_own():
    recipe = PRESETS["demo"]
    proposals = Proposals(recipe, SearchPlan(trials=5))
    asked = []
    for _ in range(proposals.n):
        asked.append(proposals.ask()["lr"])
        proposals.tell(0.0)
    assert sorted(asked) == [9e-4, 3e-3, 9e-3], "a small grid is tried point by point"


def test_proposals_follow_the_seed_and_the_scores():
    space = {"lr": {"low": 1e-4, "high": 1e-1, "log": True}, "r": [8, 16]}
    plan = SearchPlan(space=space, trials=8, seed=3)

    def asked(best):
        proposals = Proposals(Recipe(), plan)
        found = []
        for _ in range(8):
            knobs = proposals.ask()
            found.append(knobs)
            proposals.tell(None if knobs["r"] == 8 else -abs(knobs["lr"] - best))
        return found

    assert asked(1e-3) == asked(1e-3)
    assert asked(1e-3)[:4] == asked(1e-2)[:4]
    assert asked(1e-3) != asked(1e-2)
    assert all(1e-4 <= knobs["lr"] <= 1e-1 for knobs in asked(1e-3))


def test_what_failed_never_goes_on():
    tried = [Trial({"lr": n}, 5, score) for n, score in enumerate((None, -1.0, -3.0, -1.0))]
    assert [one.knobs["lr"] for one in survivors(tried, 2)] == [1, 3]
    assert survivors(tried[:1], 1) == []


def test_a_knob_that_changes_the_loss_has_no_best_value_by_it():
    require_comparable({"lr": [1], "r": [8], "preference.precompute_reference": [True]})
    for knob in ("preference.beta", "distillation.temperature", "max_length", "method"):
        with pytest.raises(BadInput, match=f"{knob}.*--suite"):
            require_comparable({"lr": [1], knob: [1, 2]})


def test_knobs_change_a_recipe_by_name_and_group():
    recipe = changed(Recipe(), {"r": 8, "preference.beta": 0.5})
    assert (recipe.r, recipe.alpha, recipe.preference.beta) == (8, 16, 0.5)
    assert recipe.preference.losses == ("sigmoid",)
    assert changed(Recipe(), {"r": 8, "alpha": 8}).alpha == 8
    with pytest.raises(BadInput, match="warp"):
        changed(Recipe(), {"warp": 1})
    with pytest.raises(BadInput, match=r"preference\.beta"):
        changed(Recipe(), {"preference.beta": -1})
    short = for_round(PRESETS["demo"], {"lr": 1e-3}, 6)
    assert (short.max_steps, short.eval_steps, short.lr) == (6, 2, 1e-3)


def test_texts_become_spaces_and_knobs():
    assert parse_space(["lr=1e-4..1e-3", "r=8,16"]) == {
        "lr": {"low": 1e-4, "high": 1e-3, "log": True},
        "r": [8, 16],
    }
    assert parse_knob("target_modules=q_proj") == ("target_modules", ["q_proj"])
    assert parse_knob("rslora=true") == ("rslora", True)
    assert parse_knob("preference.losses=sigmoid,sft") == ("preference.losses", ["sigmoid", "sft"])
    for bad in ("lr", "lr=", "warp=1,2", "r=7..9", "lr=1e-3..1e-4", "lr=0..1e-3", "r=8..x"):
        with pytest.raises(BadInput):
            parse_space([bad])
