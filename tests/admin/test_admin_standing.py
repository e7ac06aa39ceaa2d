"""The page of an experiment says what its rule goes by."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import Session

from admin import experiments as pages
from admin.standing import (
    DONE,
    FINE,
    NOW,
    OPEN,
    TO_COME,
    UNASKED,
    WORSE,
    Guard,
    aftermath_of,
    standing_of,
)
from foundation.tables import now
from router import experiment, promote
from router.tables import HOLD_BACK, PROMOTED, Assignment, Experiment, ExperimentPhase
from trainer.tables import ModelVersion


@pytest.fixture
def ramped(session: Session) -> Experiment:
    """An experiment in its second phase of three, whose treatment does better."""
    first, second = (
        ModelVersion(role="coder", number=n, name=f"coder-v{n}", kind="adapter", base_model="tiny")
        for n in (1, 2)
    )
    session.add_all([first, second])
    session.flush()
    promote.initial(session, "coder", first)
    plan = experiment.plan_from("default", ramp=[0, 0.25, 0.5])
    row = experiment.start(session, "coder", second, plan, "ada")
    row.phase, row.treatment_share = 1, 0.25
    session.add_all([row, ExperimentPhase(experiment_id=row.id, number=1, share=0.25)])
    session.flush()
    for n in range(80):
        arm = "treatment" if n % 4 == 0 else "control"
        session.add(
            Assignment(
                experiment_id=row.id,
                unit=f"u{n}",
                arm=arm,
                phase=1,
                n_calls=3,
                outcome=n % 20 != 0 if arm == "treatment" else n % 3 == 0,
                outcome_at=now() - timedelta(hours=1),
            )
        )
    session.commit()
    return row


def test_the_ramp_and_the_split_are_shown_as_they_stand(
    session: Session, get, ramped: Experiment
) -> None:
    standing = pages.detail(session, ramped.id).standing
    phases = [(one.share, one.state, one.treatment, one.control) for one in standing.phases]
    assert phases == [(0.0, DONE, 0, 0), (0.25, NOW, 20, 60), (0.5, TO_COME, 0, 0)]
    assert standing.phases[2].split_e is None
    assert [split.name for split in standing.splits] == ["assigned", "analysed"]
    assert not any(split.is_broken for split in standing.splits)
    page = get(f"/admin/experiments/{ramped.id}").text
    assert "Ramp</h2>" in page
    assert "Welch&#39;s t-test of all outcomes" in page
    assert "who peeked each day" in page or "daily looks" in page
    assert "Failed calls" in page


def test_a_broken_split_is_named(session: Session, get, ramped: Experiment) -> None:
    session.add_all(
        Assignment(experiment_id=ramped.id, unit=f"x{n}", arm="treatment", phase=1)
        for n in range(60)
    )
    session.commit()
    assigned, analysed = pages.detail(session, ramped.id).standing.splits
    assert (assigned.is_broken, analysed.is_broken) == (True, False)
    assert "assigned units are not split as planned" in get(f"/admin/experiments/{ramped.id}").text


def test_what_was_promoted_and_its_hold_back_lead_to_each_other(
    session: Session, get, ramped: Experiment
) -> None:
    ramped.status, ramped.ended_at = PROMOTED, now()
    session.add(ramped)
    held = Experiment(
        role="coder",
        kind=HOLD_BACK,
        control_model_version_id=ramped.treatment_model_version_id,
        treatment_model_version_id=ramped.control_model_version_id,
        treatment_share=0.05,
        salt="s",
        plan={"treatment_share": 0.05, "hold_back_days": 14},
    )
    session.add(held)
    session.commit()
    assert pages.detail(session, ramped.id).partner == held
    page = pages.detail(session, held.id)
    assert page.partner == ramped
    assert page.standing.more == "", "nothing is to be proven"
    assert page.standing.needed == page.standing.plan.harm_e
    assert "puts the version before back" in get(f"/admin/experiments/{held.id}").text


@pytest.mark.parametrize(
    ("n", "fine", "needed", "worse", "state"),
    [
        (0, 1.0, 20.0, 1.0, OPEN),
        (50, 19.9, 20.0, 1.0, OPEN),
        (50, 20.0, 20.0, 1.0, FINE),
        (50, 50.0, 20.0, 20.0, WORSE),
        (0, 1.0, 0.0, 1.0, OPEN),
        (50, 1.4, 0.0, 1.0, UNASKED),
    ],
)
def test_a_guardrail_says_what_is_proven(
    n: int, fine: float, needed: float, worse: float, state: str
) -> None:
    guard = Guard("Failed calls", 0.01, 0.01, 0.02, n, fine, needed, worse, 20.0)
    assert guard.state == state


@pytest.mark.parametrize("status", ["promoted", "rolled_back", "stayed", "halted", "stopped"])
@pytest.mark.parametrize("kind", ["ab", HOLD_BACK])
def test_each_end_says_what_happened_and_how_to_undo_it(
    session: Session, ramped: Experiment, kind: str, status: str
) -> None:
    found = replace(experiment.status(session, ramped), kind=kind, status=status)
    after = aftermath_of(found)
    if (kind, status) == (HOLD_BACK, "promoted"):
        assert after is None, "a hold-back promotes nobody"
        return
    assert after is not None
    assert "coder" in after.happened
    assert after.undo
    assert aftermath_of(replace(found, status="running")) is None


def test_days_are_told_by_the_pace_so_far(session: Session, ramped: Experiment) -> None:
    status, plan = experiment.status(session, ramped), experiment.plan_of(ramped)

    def standing(days: float, more: int | None, analysed: int, **changes: float) -> Any:
        seen = replace(
            status.evidence, days=days, analysed={"control": analysed, "treatment": analysed}
        )
        return standing_of(
            replace(status, evidence=seen, more_per_arm=more), replace(plan, **changes)
        )

    assert standing(2.0, 40, 20, min_days=0.0).days_left == pytest.approx(4.0)
    assert standing(2.0, 40, 20, min_days=7.0).days_left == pytest.approx(5.0)
    assert standing(2.0, 0, 0, min_days=7.0).days_left == pytest.approx(5.0)
    assert standing(0.0, 40, 0).days_left is None
    no_proof = standing(2.0, None, 20, min_days=0.0, max_per_arm=120)
    assert no_proof.days_left == pytest.approx(10.0)
    assert "until its end" in no_proof.days_in_words
    assert "until a decision" in standing(2.0, 40, 20, min_days=0.0).days_in_words
