"""Experiments by hand: listed, drawn against time, looked into by unit, started as previewed."""

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlmodel import Session, col

from admin import experiments as pages
from admin import starting, units
from admin.access.sessions import COOKIE
from admin.evidence import estimate_plot, evidence_plot, share_plot
from admin.listing import Asked
from admin.pages import create_admin_app
from admin.tables import AuditEntry
from collector.feedback.anomalies import watch
from collector.feedback.sources import TRUSTED
from collector.tables import Feedback, Interaction
from foundation.errors import BadInput, Conflict
from foundation.ids import new_id
from foundation.tables import Decision, now
from router import emergency, experiment, promote, trust
from router.experiments.sources import read_words
from router.keys import create_key
from router.tables import (
    HALTED,
    HOLD_BACK,
    ROLLED_BACK,
    RUNNING,
    Assignment,
    Experiment,
    ExperimentLook,
    ExperimentPhase,
)
from trainer.tables import ModelVersion

START = datetime(2026, 3, 1, tzinfo=UTC)
OURS = {"origin": "http://wheel", "sec-fetch-site": "same-origin"}
Send = Callable[..., httpx.Response]


@pytest.fixture
def send(session: Session, signed_in: Callable[..., str]) -> Send:
    """Send a form as a page of ours would, signed in as somebody of a role."""
    service = FastAPI()
    service.mount("/admin", create_admin_app())

    def send_form(path: str, role: str = "operator", **fields: str) -> httpx.Response:
        token = signed_in(session, role, f"a-{role}")

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(service, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://wheel", cookies={COOKIE: token}
            ) as client:
                return await client.post(f"/admin{path}", data=fields, headers=OURS)

        return asyncio.run(go())

    return send_form


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the versions that were made answerable; they have no files here."""
    names: list[str] = []
    monkeypatch.setattr("serving.deploy.prepare", lambda session, v: names.append(v.name))
    return names


@pytest.fixture
def versions(session: Session) -> list[ModelVersion]:
    """Three versions of the coder, of which the first serves."""
    made = [
        ModelVersion(role="coder", number=n, name=f"coder-v{n}", kind="adapter", base_model="tiny")
        for n in range(1, 4)
    ]
    session.add_all(made)
    session.flush()
    promote.initial(session, "coder", made[0])
    session.commit()
    return made


@pytest.fixture
def running(session: Session, versions: list[ModelVersion]) -> Experiment:
    row = experiment.start(session, "coder", versions[1], experiment.plan_from("demo"), "ada")
    session.commit()
    return row


def look(n: int, **fields: float | None) -> ExperimentLook:
    row = {"e_value": 1.0, "needed_e": 20.0, "estimate": 0.1, "low": -0.2, "high": 0.4, **fields}
    return ExperimentLook(experiment_id=new_id(), looked_at=START + timedelta(hours=n), **row)


def test_evidence_is_drawn_against_what_is_needed() -> None:
    looks = [look(n, e_value=2.0**n) for n in range(6)]
    drawn = evidence_plot(looks, 20.0, "promotes")
    assert drawn is not None
    assert [(level.name, level.value) for level in drawn.levels] == [("promotes at", "20")]
    (curve,) = drawn.curves
    assert curve.last == "32"
    heights = [float(point.split(",")[1]) for point in curve.points.split()]
    steps = [before - after for before, after in zip(heights, heights[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * 5, abs=0.2), "doubling is a straight line"
    assert curve.end_y < drawn.levels[0].at, "past the threshold is above it"
    assert drawn.data.rows[-1][1] == "32"


def test_evidence_that_is_beyond_all_bounds_or_absent_is_still_drawn() -> None:
    extremes = [look(0, e_value=1e-300), look(1, e_value=1e304)]
    drawn = evidence_plot(extremes, 20.0, "promotes")
    assert drawn is not None
    assert drawn.curves[0].last == "1.0e+09"
    assert evidence_plot([look(0)], 20.0, "promotes") is None, "one look is no line"
    assert evidence_plot([look(n, e_value=None) for n in range(3)], 20.0, "x") is None
    assert evidence_plot([], 20.0, "promotes") is None


def test_what_is_needed_is_a_line_where_other_roles_changed_it() -> None:
    looks = [look(0, needed_e=20.0), look(1, needed_e=40.0)]
    drawn = evidence_plot(looks, 40.0, "promotes")
    assert drawn is not None
    assert [curve.name for curve in drawn.curves] == ["e-value", "needed"]


def test_the_estimate_is_drawn_in_points_inside_its_band() -> None:
    drawn = estimate_plot([look(0, estimate=None), look(1), look(2, estimate=0.2)], 0.95)
    assert drawn is not None
    assert drawn.curves[0].last == "+20.0"
    assert drawn.bands[0].name == "95% confidence sequence"
    assert estimate_plot([look(0)], 0.95) is None


def test_the_share_is_drawn_as_steps() -> None:
    phases = [
        ExperimentPhase(
            experiment_id=new_id(), number=n, share=share, started_at=START + timedelta(days=n)
        )
        for n, share in enumerate((0.0, 0.25, 0.5))
    ]
    drawn = share_plot(phases, START + timedelta(days=4))
    assert drawn is not None
    points = [tuple(map(float, point.split(","))) for point in drawn.curves[0].points.split()]
    assert [x for x, _ in points] == [0.0, 250.0, 250.0, 500.0, 500.0, 1000.0]
    assert [y for _, y in points[::2]] == [y for _, y in points[1::2]]
    assert share_plot([], START) is None


def test_an_experiment_is_drawn_from_the_looks_that_were_kept(
    session: Session, get, running: Experiment
) -> None:
    for n in range(3):
        for arm in ("control", "treatment"):
            session.add(
                Assignment(
                    experiment_id=running.id,
                    unit=f"{arm}{n}",
                    arm=arm,
                    outcome=arm == "treatment",
                    outcome_at=now(),
                )
            )
        session.flush()
        experiment.evaluate(session, running)
    session.commit()
    page = pages.detail(session, running.id)
    assert page.against_time is not None
    assert page.shares is not None
    assert len(page.against_time.data.rows) == 3
    shown = get(f"/admin/experiments/{running.id}").text
    assert 'aria-label="E-value against time' in shown
    assert 'hx-swap="outerMorph"' in shown
    assert "As a table" in shown


def test_the_page_shows_whose_word_the_evidence_is(session: Session, running, get) -> None:
    eve, _ = create_key(session, "eve")
    ci, _ = create_key(session, "ci")

    def say(n: int, key_id: UUID | None) -> None:
        for number in range(n):
            unit = new_id()
            experiment.assign(session, running, str(unit), "sum|day")
            value = float(key_id != eve.id or number % 2)
            call = Interaction(role="coder", episode_id=unit, key_id=key_id)
            said = {"kind": "success", "value": value, "source": "test", "key_id": key_id}
            session.add_all([call, Feedback(episode_id=unit, **said)])

    say(40, None)
    session.commit()
    assert pages.detail(session, running.id).sources == [], "the machine's alone is no question"
    say(60, eve.id)
    say(20, ci.id)
    trust.change(session, "key:ci", TRUSTED, reason="our tests", actor="ada")
    watch(session, "coder")
    session.commit()
    rows = {row.name: row for row in pages.detail(session, running.id).sources}
    assert list(rows) == ["key:eve", "the machine", "key:ci"]
    assert (rows["key:eve"].statements, rows["key:eve"].share) == (60, 0.5)
    assert rows["key:eve"].rate < 0.7 < rows["key:ci"].rate == 1.0
    assert {"volume", "rate"} <= rows["key:eve"].flags.keys()
    assert (rows["key:ci"].trust, rows["key:ci"].flags) == ("trusted", {})
    shown = get(f"/admin/experiments/{running.id}").text
    assert "Whose word it is" in shown
    assert "50% of all statements" in shown
    newest = read_words(session, running, experiment.plan_of(running), 20)
    assert {word.source for word in newest} == {f"key:{ci.id}"}, "the newest units alone"


def test_the_list_sorts_filters_and_is_exported(
    session: Session, get, running: Experiment, hostile: str
) -> None:
    old = Experiment(
        role="coder",
        control_model_version_id=running.control_model_version_id,
        treatment_model_version_id=running.treatment_model_version_id,
        salt="s",
        status=HALTED,
        state={
            "e_value": 40.0,
            "assigned": {"control": 3, "treatment": 4},
            "reasons": [hostile],
        },
        ended_at=now(),
    )
    session.add(old)
    session.commit()

    def ids(sort: str = "", **filters: str) -> list[object]:
        table = pages.list_page(session, pages.Filters(**filters), Asked(sort, "", "")).table
        return [row.experiment.id for row in table.rows]

    assert set(ids()) == {running.id, old.id}
    assert ids("-e_value")[0] == old.id
    assert ids("-units")[0] == old.id, "what has none comes last, in both orders"
    assert ids("units")[0] == old.id
    assert ids(status="halted") == [old.id]
    assert ids(status="proposed") == []
    running.proposed_at = now()
    session.add(running)
    session.commit()
    assert ids(status="proposed") == [running.id]
    exported = get("/admin/experiments?format=jsonl").text.splitlines()
    rows = {row["id"]: row for row in map(json.loads, exported)}
    assert rows[str(old.id)]["units"] == 7
    assert rows[str(running.id)]["status"] == "proposed"
    assert "<script>alert" not in get("/admin/experiments").text


def test_units_are_listed_by_arm_and_outcome_and_lead_to_their_calls(
    session: Session, get, running: Experiment, hostile: str
) -> None:
    episode = new_id()
    made = [
        Assignment(experiment_id=running.id, unit=str(episode), arm="treatment", outcome=True),
        Assignment(experiment_id=running.id, unit=hostile, arm="control", stratum=hostile),
        Assignment(
            experiment_id=running.id, unit="u", arm="control", outcome=False, timed_out=True
        ),
    ]
    call = new_id()
    session.add_all([*made, Interaction(id=call, role="coder", episode_id=episode)])
    session.commit()

    def shown(**filters: str) -> list[str]:
        page = units.units_page(session, running, units.Filters(**filters), Asked("", "", ""))
        return [row.outcome for row in page.table.rows]

    assert shown() == ["timed out", "open", "success"]
    assert shown(arm="treatment") == ["success"]
    assert shown(outcome="open") == ["open"]
    assert shown(outcome="timed out") == ["timed out"]
    assert shown(outcome="failed") == [], "what timed out is told apart"
    here = f"/admin/experiments/{running.id}/units"
    assert "<script>alert" not in get(here).text
    assert get(f"{here}?sort=-calls").status_code == 200
    assert get(f"{here}?format=csv").text.count("\n") == 4
    found = get(f"{here}/{made[0].id}/calls")
    assert (found.status_code, found.headers["location"]) == (303, f"/admin/interactions/{call}")
    gone = get(f"{here}/{made[1].id}/calls")
    assert gone.status_code == 404
    assert "left it" in gone.text
    other = f"/admin/experiments/{new_id()}/units/{made[0].id}/calls"
    assert get(other).status_code == 404, "a unit is of its experiment only"
    assert get(f"/admin/experiments/{new_id()}/units").status_code == 404


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"alpha": "1"}, {"alpha": 0.01}),
        ({"share": "50 %"}, {"treatment_share": 0.5, "ramp": ()}),
        ({"ramp": "0, 5,50"}, {"ramp": (0.0, 0.05, 0.5)}),
        ({"max_per_arm": "200", "min_days": "0.5"}, {"max_per_arm": 200, "min_days": 0.5}),
        ({"unit_kind": "user"}, {"unit_kind": "user"}),
    ],
    ids=["empty", "percent", "share", "ramp", "numbers", "choice"],
)
def test_what_is_typed_becomes_fields_of_the_plan(given: dict[str, str], expected: object) -> None:
    assert starting.changes_of(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"alpha": "much"},
        {"alpha": "1, 2"},
        {"alpha": "nan"},
        {"min_days": "inf"},
        {"max_per_arm": "12.5"},
        {"max_per_arm": "1e9"},
        {"looks": "5000"},
        {"share": "50", "ramp": "5, 50"},
        {"ramp": ","},
    ],
    ids=["word", "two", "nan", "endless", "half a unit", "too many", "looks", "both", "no ramp"],
)
def test_what_makes_no_sense_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        starting.changes_of(given)


def test_every_knob_is_a_field_of_the_plan() -> None:
    plan = experiment.plan_from("default")
    shown = {knob.name: knob.in_plan(plan) for knob in starting.KNOBS.values()}
    assert shown["ramp"] == "0, 5, 25, 50"
    assert shown["alpha"] == "5"
    assert shown["share"] == "", "there is a ramp"
    typed = {name: text for name, text in shown.items() if text}
    assert experiment.plan_from("default", **starting.changes_of(typed)) == plan


def test_an_experiment_is_started_exactly_as_it_was_previewed(
    session: Session, get, send: Send, versions: list[ModelVersion], prepared: list[str]
) -> None:
    asked = f"/admin/experiments/new?version={versions[1].id}&profile=demo&share=30&baseline=80"
    page = get(asked).text
    assert "points, the smallest gain" in page
    fields = dict(re.findall(r'type="hidden" name="(version|profile|given)" value="([^"]*)"', page))
    fields["given"] = fields["given"].replace("&#34;", '"')
    assert json.loads(fields["given"]) == {"share": "30"}
    answer = send("/experiments/new", **fields, reason="it did well")
    assert answer.status_code == 303, answer.text
    row = session.scalars(select(Experiment)).one()
    assert answer.headers["location"] == f"/admin/experiments/{row.id}"
    assert (row.status, row.treatment_share, prepared) == (RUNNING, 0.3, ["coder-v2"])
    decision = session.scalars(select(Decision).where(col(Decision.kind) == "router.start")).one()
    assert (decision.actor, decision.reasons[-1]) == ("a-operator", "it did well")
    entry = session.scalars(
        select(AuditEntry).where(col(AuditEntry.action) == "experiment.start")
    ).one()
    assert (entry.subject_id, entry.reason) == (str(row.id), "it did well")

    again = send("/experiments/new", **fields, reason="a second click")
    assert again.status_code == 409
    assert "no running experiment" in again.text
    assert len(session.scalars(select(Experiment)).all()) == 1


def test_what_cannot_be_made_answerable_is_not_started(
    session: Session, send: Send, versions: list[ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(session: Session, version: ModelVersion) -> None:
        raise Conflict("engine", None, "a model server that answers", "Start it: flywheel engine")

    monkeypatch.setattr("serving.deploy.prepare", refuse)
    fields = {"version": str(versions[1].id), "profile": "demo", "reason": "r"}
    answer = send("/experiments/new", **fields)
    assert answer.status_code == 409
    assert "flywheel engine" in answer.text
    assert session.scalars(select(Experiment)).all() == []
    assert session.scalars(select(AuditEntry)).all() == [], "what was not done is not written down"


@pytest.mark.parametrize("stage", ["quarantined", "control", "serving"])
def test_who_may_not_be_compared_is_told_so(
    session: Session,
    get,
    send: Send,
    versions: list[ModelVersion],
    prepared: list[str],
    stage: str,
) -> None:
    wanted = versions[0] if stage == "serving" else versions[1]
    if stage == "quarantined":
        wanted.stage = "quarantined"
    wanted.is_control = stage == "control"
    session.add(wanted)
    session.commit()
    page = get(f"/admin/experiments/new?version={wanted.id}&profile=demo").text
    said = {"quarantined": "quarantined", "control": "control", "serving": "serves coder already"}
    assert said[stage] in page
    assert 'name="given"' not in page, "nothing to be confirmed"
    answer = send("/experiments/new", version=str(wanted.id), profile="demo", reason="r")
    assert answer.status_code in (400, 409)
    assert session.scalars(select(Experiment)).all() == []


def test_the_preview_says_what_is_in_the_way(
    session: Session, get, versions: list[ModelVersion], prepared: list[str]
) -> None:
    address = f"/admin/experiments/new?version={versions[2].id}&profile=demo"
    emergency.stop(session, "it loops", "ada", "coder")
    session.commit()
    assert "stopped by an emergency" in get(address).text
    emergency.resume(session, "mended", "ada", "coder")
    row = experiment.start(session, "coder", versions[1], experiment.plan_from("demo"), "ada")
    session.commit()
    page = get(address).text
    assert "Another experiment of coder runs" in page
    assert f"/admin/experiments/{row.id}" in page
    row.kind = HOLD_BACK
    session.add(row)
    session.commit()
    assert "hold-back that runs ends" in get(address).text
    wrong = get(f"{address}&alpha=lots")
    assert wrong.status_code == 200, "what is wrong with a plan is said beside its form"
    assert "expected a number" in wrong.text
    partial = get(address, **{"HX-Request-Type": "partial"}).text
    assert partial.lstrip().startswith('<section class="panel" id="preview"')


def test_starting_is_for_operators(
    session: Session, get, send: Send, versions: list[ModelVersion], prepared: list[str]
) -> None:
    fields = {"version": str(versions[1].id), "profile": "demo", "reason": "r"}
    assert send("/experiments/new", role="reviewer", **fields).status_code == 403
    assert send("/experiments/new", **{**fields, "given": "[]"}).status_code == 400
    assert send("/experiments/new", **{**fields, "given": '{"salt": "x"}'}).status_code == 400
    assert send("/experiments/new", **{**fields, "profile": "x"}).status_code == 404
    assert prepared == []
    assert session.scalars(select(Experiment)).all() == []


def test_what_ended_badly_or_waits_is_an_alarm(
    session: Session, versions: list[ModelVersion]
) -> None:
    def add(status: str, days_ago: float | None, *, proposed: bool = False) -> None:
        session.add(
            Experiment(
                role="coder",
                control_model_version_id=versions[0].id,
                treatment_model_version_id=versions[1].id,
                salt="s",
                status=status,
                proposed_at=now() if proposed else None,
                ended_at=None if days_ago is None else now() - timedelta(days=days_ago),
            )
        )
        session.flush()

    assert pages.alarms(session) == []
    add(HALTED, 1)
    add(ROLLED_BACK, 2)
    add(HALTED, 8)
    add("stayed", 0)
    add(RUNNING, None, proposed=True)
    assert [alarm.what for alarm in pages.alarms(session)] == ["proposed", ROLLED_BACK, HALTED]
