"""From evidence to chances: only where it helps, and never turning an order round."""

import json
import random
from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import col, select

from curation.recipe import RULE_VERSIONS, CurationRecipe
from curation.score.assess import scoring_account
from curation.score.calibrate import (
    IDENTITY,
    ISOTONIC,
    PLATT,
    Calibrator,
    combined,
    current,
    fit,
    load_calibrator,
    refit_if_due,
)
from curation.tables import Calibration, CurationBuild, CurationChunk, Example
from foundation.ids import new_id
from foundation.tables import now

RECIPE = CurationRecipe()


def drawn(n, seed=0):
    """Evidence that is right but far too sure of itself: the chance is 0.3 + 0.4 * evidence."""
    dice = random.Random(seed)
    evidence = [dice.random() for _ in range(n)]
    return evidence, [dice.random() < 0.3 + 0.4 * value for value in evidence]


@pytest.mark.parametrize(
    ("n", "method"), [(199, "identity"), (200, PLATT), (999, PLATT), (1000, ISOTONIC)]
)
def test_the_number_of_outcomes_decides_how(n, method):
    fitted = fit(*drawn(n), least=200)
    assert (fitted.calibrator.method, fitted.n) == (method, n)
    if method != "identity":
        assert fitted.brier_after < fitted.brier_before


def test_a_fit_finds_the_chance():
    for n in (900, 5000):
        calibrator = fit(*drawn(n), least=200).calibrator
        for evidence in (0.1, 0.5, 0.9):
            assert calibrator.chance(evidence) == pytest.approx(0.3 + 0.4 * evidence, abs=0.1)


def test_it_is_measured_on_what_it_was_not_fitted_to():
    evidence, outcomes = drawn(2000)
    fitted = fit(evidence, outcomes, least=200)
    chances = [fitted.calibrator.chance(value) for value in evidence]
    on_itself = float(np.mean((np.array(chances) - np.array(outcomes)) ** 2))
    assert fitted.brier_after > on_itself
    unseen, results = drawn(5000, seed=1)
    chances = [fitted.calibrator.chance(value) for value in unseen]
    elsewhere = float(np.mean((np.array(chances) - np.array(results)) ** 2))
    assert fitted.brier_after == pytest.approx(elsewhere, abs=0.01)


def test_what_helps_nothing_is_not_used():
    sure = [0.0, 1.0] * 150
    assert fit(sure, [value > 0.5 for value in sure], least=200).calibrator == IDENTITY
    assert fit([0.7] * 300, [True] * 300, least=200).calibrator == IDENTITY, "one sign only"
    assert fit([], [], least=200).brier_before is None


def test_evidence_that_points_the_wrong_way_is_levelled_not_followed():
    evidence, outcomes = drawn(600)
    wrong = fit([1 - value for value in evidence], outcomes, least=200).calibrator
    assert wrong.chance(0.1) == wrong.chance(0.9) == pytest.approx(0.5, abs=0.1)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([300, 1200]))
def test_more_evidence_never_means_less(seed, n):
    dice = random.Random(seed)
    evidence = [round(dice.random(), 2) for _ in range(n)]
    outcomes = [dice.random() < 0.5 for _ in range(n)]
    calibrator = fit(evidence, outcomes, least=200).calibrator
    chances = [calibrator.chance(value / 50) for value in range(51)]
    assert chances == sorted(chances)
    assert all(0 <= chance <= 1 for chance in chances)


def test_a_calibrator_survives_its_row():
    for n in (300, 1200):
        made = fit(*drawn(n), least=200).calibrator
        read = Calibrator(made.method, json.loads(json.dumps(made.params)))
        assert [read.chance(v / 10) for v in range(11)] == [made.chance(v / 10) for v in range(11)]


def test_what_was_said_is_not_calibrated():
    harsh = Calibrator(PLATT, {"slope": 1.0, "bias": -20.0})
    assert combined(1.0, 1.0, 0.8, 0.25, IDENTITY) == pytest.approx(0.96)
    assert combined(1.0, 1.0, 0.8, 0.25, harsh) == pytest.approx(0.8)
    assert combined(None, 0.0, 0.8, 0.25, harsh) == pytest.approx(0, abs=1e-6)


def store(session, n, *, seed=0, outcomes=True, variant="default", **columns):
    evidence, results = drawn(n, seed)
    for value, outcome in zip(evidence, results, strict=True):
        said = float(outcome) if outcomes else None
        scores = {
            "outcome": outcome if outcomes else None,
            "said": said,
            "said_weight": 1.0 if outcomes else 0.0,
            "evidence": round(value, 6),
            "evidence_weight": 0.15,
        }
        raw = combined(said, scores["said_weight"], scores["evidence"], 0.15, IDENTITY)
        example = {
            **{"role": "coder", "interaction_id": new_id(), "prompt": [], "answer": "a"},
            **{"norm_hash": "x", "variant": variant, "score": raw, "scores": scores},
        }
        session.add(Example(**{**example, **columns}))
    session.flush()


def judged(session, n):
    """Note that a build has judged `n` more."""
    build = CurationBuild(
        role="coder", variant="default", recipe={}, recipe_fingerprint="x", everything=False,
        until_xid=1, finished_at=now(),
    )  # fmt: skip
    session.add(build)
    session.flush()
    session.add(
        CurationChunk(
            build_id=build.id, step="judge", number=0, ids=[], n_rows=n,
            done_at=now() + timedelta(seconds=1),
        )
    )  # fmt: skip
    session.flush()


def test_it_is_fitted_when_enough_is_known_and_every_score_follows(session):
    store(session, 150)
    assert refit_if_due(session, "coder", RECIPE) is None
    store(session, 150, seed=1)
    store(session, 40, seed=2, outcomes=False)
    store(session, 1, corrected=True, score=0.95, scores={"outcome": False, "evidence": None})
    store(session, 1, score=None, scores={"outcome": None})
    made = refit_if_due(session, "coder", RECIPE)
    assert (made.method, made.n) == (PLATT, 300)
    assert made.brier_after < made.brier_before
    assert current(session, "coder", "default").id == made.id
    calibrator = load_calibrator(session, "coder", RECIPE)
    session.expire_all()
    for example in session.exec(select(Example)):
        scores = example.scores
        if scores.get("evidence") is None:
            assert example.score in (0.95, None)
            continue
        assert example.score == combined(
            scores["said"], scores["said_weight"], scores["evidence"], 0.15, calibrator
        )


def test_a_card_says_how_its_scores_were_made(session):
    recipe = CurationRecipe(judge_model="house-judge")
    assert scoring_account(session, "coder", RECIPE) == {"calibration": None, "judge": None}
    store(session, 300)
    made = refit_if_due(session, "coder", RECIPE)
    told = scoring_account(session, "coder", recipe)
    assert told["calibration"] == {
        "method": PLATT,
        "outcomes": 300,
        "brier_before": made.brier_before,
        "brier_after": made.brier_after,
    }
    assert told["judge"]["asked"] == 0
    assert told["judge"]["flip_rate"] is None
    control = CurationRecipe(variant="unverified", judge_model="house-judge")
    assert scoring_account(session, "coder", control) == {"calibration": None, "judge": None}


def test_another_fit_is_due_when_a_fifth_more_is_known(session):
    store(session, 300)
    first = refit_if_due(session, "coder", RECIPE)
    assert refit_if_due(session, "coder", RECIPE) is None
    store(session, 59, seed=1)
    judged(session, 59)
    assert refit_if_due(session, "coder", RECIPE) is None
    store(session, 1, seed=2)
    judged(session, 1)
    second = refit_if_due(session, "coder", RECIPE)
    assert second.n == 360
    assert current(session, "coder", "default").id == second.id != first.id
    judged(session, 1000)
    assert refit_if_due(session, "coder", RECIPE) is None, "much was judged, nothing became known"


def test_the_control_and_other_roles_are_left_alone(session):
    store(session, 300)
    store(session, 300, variant="unverified")
    before = {e.id: e.score for e in session.exec(select(Example))}
    assert refit_if_due(session, "coder", CurationRecipe(variant="unverified")) is None
    assert refit_if_due(session, "coder", CurationRecipe(calibrate=False)) is None
    assert refit_if_due(session, "tester", RECIPE) is None
    refit_if_due(session, "coder", RECIPE)
    session.expire_all()
    untouched = session.exec(select(Example).where(col(Example.variant) == "unverified")).all()
    assert {e.id: e.score for e in untouched}.items() <= before.items()
    assert load_calibrator(session, "coder", CurationRecipe(calibrate=False)) == IDENTITY


def test_a_calibration_of_other_rules_is_none(session, monkeypatch):
    store(session, 300)
    made = refit_if_due(session, "coder", RECIPE)
    monkeypatch.setitem(RULE_VERSIONS, "score", RULE_VERSIONS["score"] + 1)
    assert current(session, "coder", "default") is None
    assert load_calibrator(session, "coder", RECIPE) == IDENTITY
    renewed = refit_if_due(session, "coder", RECIPE)
    assert isinstance(renewed, Calibration)
    assert isinstance(renewed.id, UUID)
    assert renewed.id != made.id
