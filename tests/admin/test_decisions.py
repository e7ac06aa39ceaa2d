"""The ledger: narrowed, sorted and exported; every kind of decision replays on its page."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlmodel import Session

from admin import decisions as pages
from collector.feedback.anomalies import AnomalyThresholds, SourceCounts
from evaluator.decide import DeployThresholds
from evaluator.drift import DriftInputs, DriftThresholds
from evaluator.forgetting import ForgettingInputs, ForgettingThresholds
from evaluator.roi import RoiInputs, RoiThresholds
from foundation import decisions as ledger
from foundation.ids import first_id_at, new_id
from foundation.tables import Decision, now
from router.experiment import plan_from
from router.guard import GuardThresholds, Vitals
from router.specialist.rule import SpecialistThresholds
from trainer import plan
from trainer.estimate import FitsInputs, FitsThresholds
from trainer.schedule import ScheduleInputs, Triggers
from trainer.tables import ModelVersion

_ARMS = {"control": 40, "treatment": 41}
_EVIDENCE = {
    **dict.fromkeys(("assigned", "analysed", "calls"), _ARMS),
    **dict.fromkeys(("successes", "timed_out", "errors", "slow"), {"control": 2, "treatment": 3}),
    **{"pairs": 40, "wins": 3, "losses": 1, "max_log_e": 0.4, "days": 2.0},
    "phases": [{"number": 0, "share": 0.5, "assigned": _ARMS, "analysed": _ARMS, "days": 2.0}],
}
_DEPLOY = {"improvement_points": 12.0, "ci_low": 4.0, "ci_high": 20.0}
_KEPT = {"baseline_rate": 0.7, "candidate_rate": 0.69, "kept": 0.99, "kept_low": 0.97}
_WORTH = {"n": 90, "n_chosen": 40, "chosen": 0.8, "default": 0.7, "low": 0.02, "high": 0.18}
_SEEN = {"n": 700, "n_failed": 140, "log_e": 4.2, "n_since": 120, "n_failed_since": 40}

_SOURCE = SourceCounts("key:a", 40, 40, 20, 40, 0, 9, 48.0)

KINDS: dict[str, tuple[Any, Any]] = {
    "collector.source_anomaly": (
        {"sources": [asdict(_SOURCE)], "trusted": []},
        AnomalyThresholds(),
    ),
    "evaluator.deploy": (_DEPLOY, DeployThresholds()),
    "evaluator.drift": (
        DriftInputs("v1", reference_rate=0.86, n_reference=300, failure_limit=0.16, **_SEEN),
        DriftThresholds(),
    ),
    "evaluator.forgetting": (
        ForgettingInputs(**_KEPT, kept_high=1.01, n_tasks=200, suite="general@1"),
        ForgettingThresholds(),
    ),
    "evaluator.roi": (RoiInputs(training_usd=10.0, improvement_points=5.0), RoiThresholds()),
    "router.experiment": (_EVIDENCE, plan_from("demo")),
    "router.guard": (Vitals(900, 3, 9, 700, 800, 650, 800), GuardThresholds()),
    "router.hold_back": (_EVIDENCE, plan_from("demo")),
    "router.ramp": (_EVIDENCE, plan_from("demo")),
    "router.specialist": ({**_WORTH, "n_outcomes": 300}, SpecialistThresholds()),
    "trainer.choose_base": (plan.ChooseBaseInputs("coder", "hard"), plan.ChooseBaseThresholds()),
    "trainer.choose_method": (
        plan.ChooseMethodInputs(n_examples=900, has_gpu=False, memory_gb=16.0, time_budget_h=4.0),
        plan.ChooseMethodThresholds(),
    ),
    "trainer.fits": (FitsInputs(6 * 10**9, 4 * 10**9, "cpu", {"r 4": 10**9}), FitsThresholds()),
    "trainer.schedule": (ScheduleInputs("2026-11-22T10:00:00+00:00", n_corrections=3), Triggers()),
    "trainer.should_retrain": (
        plan.ShouldRetrainInputs(success_at_training=0.9, success_now=0.8),
        plan.ShouldRetrainThresholds(),
    ),
    "trainer.should_train": (
        plan.ShouldTrainInputs(baseline_success=0.6, tasks_per_day=40.0),
        plan.ShouldTrainThresholds(),
    ),
}
"""One of each kind that a room registers: what its rule reads."""


def taken(session: Session, kind: str, **more: Any) -> Decision:
    inputs, thresholds = KINDS[kind]
    found = ledger.decide(session, kind, inputs, thresholds, role="coder", **more)
    session.commit()
    session.refresh(found)
    return found


def test_the_page_knows_the_rules_of_every_room_by_itself() -> None:
    known = "import admin.pages; from foundation.decisions import rule_names; print(rule_names())"
    said = subprocess.run(
        [sys.executable, "-c", known],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert json.loads(said.stdout.strip().replace("'", '"')) == sorted(KINDS)
    # Tests of other rooms register rules of their own in this process.
    others = ("test.", "flywheel.")  # and the top floor's: whoever runs the product has them
    ours = [n for n in ledger.rule_names() if "." in n and not n.startswith(others)]
    assert sorted(KINDS) == ours


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_replays_to_its_stored_outcome(session: Session, get, kind: str) -> None:
    stored = taken(session, kind)
    page = pages.replayed(session, stored.id)
    assert page.problem == ""
    assert (page.agrees, page.says_the_same) == (True, True)
    shown = get(f"/admin/decisions/{stored.id}/replay", **{"HX-Request-Type": "partial"}).text
    assert "The same inputs give the same outcome, for the same reasons." in shown
    assert "<html" not in shown
    assert "<html" in get(f"/admin/decisions/{stored.id}/replay").text
    assert "Replay it" in get(f"/admin/decisions/{stored.id}").text


def test_a_replay_says_what_differs_and_writes_nothing(session: Session, get) -> None:
    stored = taken(session, "trainer.should_train")
    session.execute(text("UPDATE decision SET outcome = 'maybe', reasons = '[\"a whim\"]'"))
    session.commit()
    shown = get(f"/admin/decisions/{stored.id}/replay").text
    assert "The outcome differs" in shown
    assert "a whim" in shown
    session.expire_all()
    assert session.get_one(Decision, stored.id).outcome == "maybe"


@pytest.mark.parametrize(
    ("kind", "inputs", "said"),
    [
        ("router.policy", {}, "Decisions of people have no rule to replay."),
        ("evaluator.deploy", {"of_another_version": 1}, "another version of the product"),
        ("evaluator.drift", {}, "another version of the product"),
        ("router.specialist", {"n_outcomes": 300, "chosen": "x"}, "another version"),
    ],
)
def test_what_cannot_be_taken_again_says_why(
    session: Session, get, kind: str, inputs: dict[str, Any], said: str
) -> None:
    stored = ledger.record(session, kind, "on", ["because"], inputs=inputs, actor="ada")
    session.commit()
    answer = get(f"/admin/decisions/{stored.id}/replay")
    assert answer.status_code == 200
    assert "cannot be taken again" in answer.text
    assert said in answer.text
    assert "on" in answer.text


def test_a_decision_of_a_person_offers_no_replay(session: Session, get) -> None:
    stored = ledger.record(session, "router.policy", "on", ["I say so"], actor="ada")
    session.commit()
    page = get(f"/admin/decisions/{stored.id}").text
    assert "A person decided this" in page
    assert "Replay it" not in page


def test_inputs_are_grouped_folded_and_rounded() -> None:
    found = pages.stored(
        {
            "gain": 6.666666,
            "n": 12_345,
            "rates": list(range(400)),
            "unknown_thing": None,
            "evidence": {"suite": "a@1", "deep": {"x": None}},
            "long": "y" * 900,
        }
    )
    known = {one.name: one for one in found.known}
    assert known["gain"].value == "6.667"
    assert known["n"].value == "12,345"
    assert known["rates"].value.startswith("400 values: 0, 1, 2")
    assert known["rates"].whole is not None
    assert len(known["long"].value) < 200
    assert found.unknown == ["unknown_thing"]
    assert [name for name, _ in found.nested] == ["evidence"]


def version(session: Session, name: str = "coder-v1") -> ModelVersion:
    made = ModelVersion(role="coder", number=1, name=name, kind="adapter", base_model="tiny")
    session.add(made)
    session.flush()
    return made


def rows_of(page: str) -> list[str]:
    return re.findall(r'class="row" href="/admin/decisions/([0-9a-f-]{36})"', page)


def test_the_ledger_is_narrowed_by_each_filter_and_sorted(session: Session, get) -> None:
    about = version(session)
    old = ledger.record(session, "router.stop", "stopped", ["slow"], role="coder", actor="ada")
    old_id = first_id_at(now() - timedelta(days=3))
    session.execute(text("UPDATE decision SET id = :new").bindparams(new=old_id))
    session.expunge(old)
    new = ledger.record(
        session,
        "router.promote",
        "promoted",
        ["better"],
        role="tester",
        subject_id=about.id,
        actor="bob",
    )
    session.commit()
    both = [str(new.id), str(old_id)]
    assert rows_of(get("/admin/decisions").text) == both
    for narrowed in (
        "kind=router.promote",
        "role=tester",
        "outcome=promoted",
        "actor=bob",
        "within=day",
        f"subject={about.id}",
    ):
        assert rows_of(get(f"/admin/decisions?{narrowed}").text) == both[:1], narrowed
    assert rows_of(get("/admin/decisions?within=week").text) == both
    assert rows_of(get("/admin/decisions?sort=actor").text) == both[::-1]
    assert rows_of(get("/admin/decisions?sort=-kind").text) == both[::-1]
    assert rows_of(get("/admin/decisions?subject=nonsense").text) == []
    assert rows_of(get(f"/admin/decisions?subject={new_id()}").text) == []


def test_a_row_names_what_it_is_about_and_exports_say_it_too(session: Session, get) -> None:
    about = version(session)
    stored = ledger.record(
        session, "router.promote", "promoted", ["=1+1"], subject_id=about.id, inputs={"a": [1]}
    )
    session.commit()
    page = get("/admin/decisions").text
    assert f'href="/admin/models/{about.id}"' in page
    row = next(csv.DictReader(io.StringIO(get("/admin/decisions?format=csv").text)))
    assert (row["about"], row["because"]) == ("coder-v1", "'=1+1")
    line = json.loads(get("/admin/decisions?format=jsonl").text.splitlines()[0])
    assert line["inputs"] == {"a": [1]}
    assert line["id"] == str(stored.id)


def test_the_ledger_asks_as_often_for_one_row_as_for_forty(
    session: Session, get, count: Callable[[Callable[[], Any]], int]
) -> None:
    about = version(session)
    ledger.record(session, "router.promote", "promoted", ["a"], subject_id=about.id)
    session.commit()
    few = count(lambda: get("/admin/decisions"))
    for n in range(60):
        ledger.record(
            session, "router.promote", "promoted", [str(n)], subject_id=about.id, actor=f"a{n}"
        )
    session.commit()
    assert count(lambda: get("/admin/decisions")) == few


@pytest.fixture
def count(session: Session) -> Callable[[Callable[[], Any]], int]:
    def counted(ask: Callable[[], Any]) -> int:
        seen: list[str] = []

        def note(*given: Any) -> None:
            seen.append(given[2])

        engine = session.get_bind()
        event.listen(engine, "before_cursor_execute", note)
        try:
            answer = ask()
            assert answer.status_code == 200
        finally:
            event.remove(engine, "before_cursor_execute", note)
        return len(seen)

    return counted


def test_earlier_and_later_decisions_on_the_same_subject(session: Session, get) -> None:
    about = version(session)
    made = [
        ledger.record(session, f"router.n{n}", "on", ["x"], subject_id=about.id) for n in range(15)
    ]
    ledger.record(session, "router.other", "on", ["x"])
    session.commit()
    page = pages.detail(session, made[7].id)
    assert [one.kind for one in page.earlier] == [f"router.n{n}" for n in (6, 5, 4, 3, 2)]
    assert [one.kind for one in page.later] == [f"router.n{n}" for n in (8, 9, 10, 11, 12)]
    assert page.subject is not None
    assert page.subject.name == "coder-v1"
    assert f"subject={about.id}" in get(f"/admin/decisions/{made[7].id}").text
    alone = pages.detail(session, ledger.newest(session, None, 1)[0].id)
    assert (alone.earlier, alone.later, alone.subject) == ((), (), None)


def test_a_decision_leads_to_the_rows_that_name_it(session: Session, filled) -> None:
    found = pages.detail(session, filled.ids["decisions"])
    assert [(one.noun, one.id) for one in found.evidence] == [("verdict", filled.ids["verdicts"])]
    for noun, identifier in filled.ids.items():
        if noun in ("models", "experiments", "datasets", "evaluations", "verdicts"):
            assert pages.subjects(session, [identifier])[identifier].route == f"{noun}.detail"
    gone = new_id()
    assert pages.subjects(session, [gone]) == {}


def test_hostile_text_stays_text(session: Session, get, hostile: str) -> None:
    stored = ledger.record(
        session, hostile, hostile, [hostile], inputs={hostile: hostile}, actor=hostile
    )
    session.commit()
    for path in ("", f"/{stored.id}", f"/{stored.id}/replay"):
        page = get(f"/admin/decisions{path}")
        assert page.status_code == 200
        assert "<script>alert(1)" not in page.text
        assert "<img src=x" not in page.text
        assert "\u202e" not in page.text


def test_a_viewer_reads_and_replays(session: Session, visit) -> None:
    stored = taken(session, "trainer.should_train")
    viewer = visit("viewer")
    for path in ("", f"/{stored.id}", f"/{stored.id}/replay"):
        assert viewer.get(f"/decisions{path}").status_code == 200
    assert visit().get(f"/decisions/{stored.id}/replay").status_code in (303, 401)


@pytest.mark.parametrize("path", ["", "/replay"])
def test_an_unknown_decision_is_not_found(get, path: str) -> None:
    answer = get(f"/admin/decisions/{UUID(int=7)}{path}")
    assert answer.status_code == 404
    assert "See the list" in answer.text


def test_thresholds_survive_the_ledger() -> None:
    """What is listed above is what rooms store: JSON, and nothing that only Python knows."""
    for inputs, thresholds in KINDS.values():
        for one in (inputs, thresholds):
            json.dumps(one if isinstance(one, dict) else asdict(one))
