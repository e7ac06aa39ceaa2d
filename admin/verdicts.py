"""Verdicts: a candidate beside its baseline, what was decided and why; comparing two by hand.

What is decided is `evaluator.compare`'s, and every figure is one that it stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from admin.access.people import OPERATOR
from admin.charts import DotPlot, IntervalChart, PartedBars, dot_plot, interval_chart, parted_bars
from admin.formats import points
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, link_to, render, wants_rows
from admin.writing import ByOperator, ByReviewer, needs, see
from evaluator.compare import compare
from evaluator.report import as_html, get_verdict, verdict_report, verdict_summary
from evaluator.report.checks import Check, checks_of
from evaluator.report.views import (
    Pair,
    by_attribute,
    judge_rows,
    measured_pairs,
    panel_words,
    sandbox_pairs,
    section_pairs,
    setting_pairs,
)
from evaluator.report.words import rows_of
from evaluator.run import get_evaluation
from evaluator.tables import Evaluation, Suite, Verdict
from evaluator.tasks import start_comparison
from evaluator.taskwise import PEOPLE_AT_MOST, AskedPeople, Fates, ask_people, fates, paired_tasks
from foundation.errors import NotFound
from foundation.ids import first_id_at
from foundation.lone_page import CONTENT_POLICY
from foundation.settings import get_settings
from foundation.tables import Decision, now

routes = APIRouter(prefix="/verdicts")

AT_ONCE: Final = 8_000
"""Answers of both sides that are compared while the browser waits, about a second; else a job."""
OFFERED: Final = 200
"""Newest evaluations that can be chosen to be compared."""
PEOPLE: Final = 20
SECOND_CLICK: Final = timedelta(seconds=30)


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    role: str = ""
    outcome: str = ""
    suite: str = ""


@dataclass(frozen=True)
class Row:
    """One verdict with its two sides and the suite."""

    verdict: Verdict
    suite: Suite
    baseline: Evaluation
    candidate: Evaluation
    chart: IntervalChart | None


@dataclass(frozen=True)
class ListPage:
    """Verdicts, newest first."""

    filters: Filters
    table: Table[Row]
    roles: Sequence[str]
    outcomes: Sequence[str]
    suites: Sequence[str]


@dataclass(frozen=True)
class Section:
    """Values of both sides, and what is said of them together."""

    title: str
    pairs: Sequence[Pair]
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Judges:
    """What judges of pairs said, with how far each is to be trusted."""

    words: str
    names: Sequence[str]
    rows: Sequence[tuple[str, tuple[str, ...]]]
    notes: Sequence[str]
    rated: int
    drawn: int


@dataclass(frozen=True)
class DetailPage:
    """One verdict."""

    row: Row
    report: Mapping[str, Any]
    """Of `evaluator.report.verdict_summary`."""
    decision: Decision | None
    checks: Sequence[tuple[str, Sequence[Check]]]
    rates: IntervalChart | None
    gains: Sequence[tuple[str, DotPlot]]
    """Overall and by attribute, all on one axis."""
    fates: Fates
    shares: PartedBars | None
    judges: Judges | None
    measured: Sequence[Pair]
    settings: Sequence[Pair]
    sandbox: Sequence[Pair]
    sections: Sequence[Section]
    roi: Decision | None
    n_people: int = PEOPLE
    most_people: int = PEOPLE_AT_MOST


@dataclass(frozen=True)
class Choice:
    """An evaluation that can be compared."""

    evaluation: Evaluation
    suite: Suite

    @property
    def said(self) -> str:
        """Name, rate and day, as an option says them."""
        rate = self.evaluation.success_rate
        shown = "no rate" if rate is None else f"{rate:.1%}"
        return (
            f"{self.evaluation.subject}: {shown}, {self.evaluation.created_at:%Y-%m-%d %H:%M} UTC"
        )


@dataclass(frozen=True)
class ComparePage:
    """The form for a comparison by hand."""

    suites: Sequence[tuple[str, Sequence[Choice]]]
    baseline: UUID | None
    candidate: UUID | None


@dataclass(frozen=True)
class AskedPage:
    """What became of the wish that people compare answers."""

    verdict_id: UUID
    asked: AskedPeople


_baseline, _candidate = aliased(Evaluation, name="baseline"), aliased(Evaluation, name="candidate")

LISTING: Listing[Row] = Listing(
    [
        Column(
            "candidate",
            "Candidate",
            lambda row: row.candidate.subject,
            col(_candidate.subject),
            first="up",
        ),
        Column("role", "Role", lambda row: row.verdict.role, col(Verdict.role), first="up"),
        Column(
            "suite",
            "Suite",
            lambda row: f"{row.suite.name}@{row.suite.version}",
            col(Suite.name),
            first="up",
        ),
        Column("success", "Success", None, col(_candidate.success_rate)),
        Column(
            "improvement_points",
            "Points",
            lambda row: row.verdict.improvement_points,
            col(Verdict.improvement_points),
            numeric=True,
        ),
        Column("interval", "95 % interval", None, col(Verdict.ci_low)),
        Column(
            "outcome", "Outcome", lambda row: row.verdict.outcome, col(Verdict.outcome), first="up"
        ),
        Column("created_at", "Made", lambda row: row.verdict.created_at, col(Verdict.created_at)),
        Column("baseline", "", lambda row: row.baseline.subject),
        Column("baseline_rate", "", lambda row: row.baseline.success_rate),
        Column("candidate_rate", "", lambda row: row.candidate.success_rate),
        Column("ci_low", "", lambda row: row.verdict.ci_low),
        Column("ci_high", "", lambda row: row.verdict.ci_high),
        Column("p_value", "", lambda row: row.verdict.p_value),
        Column("speed_ratio", "", lambda row: row.verdict.speed_ratio),
        Column("n_tasks", "", lambda row: row.verdict.n_tasks),
        Column("id", "", lambda row: row.verdict.id),
        Column("decision_id", "", lambda row: row.verdict.decision_id),
    ],
    key=col(Verdict.id),
    name="verdicts",
)


@routes.get("", name="verdicts.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show verdicts."""
    if asked.format:
        return LISTING.export(_matching(filters), asked, _rows)
    template = "verdicts/_rows.html" if wants_rows(request) else "verdicts/list.html"
    return render(request, template, list_page(session, filters, asked))


@routes.get("/compare", name="verdicts.compare", dependencies=[Depends(needs(OPERATOR))])
def show_compare(
    request: Request,
    session: Reading,
    baseline: UUID | None = None,
    candidate: UUID | None = None,
) -> HTMLResponse:
    """Show the form for a comparison by hand."""
    page = ComparePage(choices(session), baseline, candidate)
    return render(request, "verdicts/compare.html", page)


@routes.post("/compare", name="verdicts.order")
def order(
    request: Request,
    by: ByOperator,
    baseline: Annotated[UUID, Form()],
    candidate: Annotated[UUID, Form()],
) -> Response:
    """Compare two evaluations of one suite: at once if they are small, else as a job."""
    with by.changing("verdict.make", "verdicts") as change:
        pair = [get_evaluation(change.session, one) for one in (baseline, candidate)]
        change.alone(f"verdict {baseline} {candidate}")
        if sum(one.n_samples for one in pair) > AT_ONCE:
            run = start_comparison(change.session, baseline, candidate, by.name)
            change.about("runs", run.id)
            change.after({"baseline": str(baseline), "candidate": str(candidate)})
            return see(link_to(request, "runs.detail", id=run.id))
        verdict = _just_made(change.session, baseline, candidate) or compare(
            change.session, *pair, actor=by.name
        )
        change.about("verdicts", verdict.id)
        change.after({"baseline": str(baseline), "candidate": str(candidate)})
        return see(link_to(request, "verdicts.detail", id=verdict.id))


@routes.get("/{id}", name="verdicts.detail")
def show_detail(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show one verdict."""
    return render(request, "verdicts/detail.html", detail(session, id))


@routes.get("/{id}/report", name="verdicts.report")
def show_report(session: Reading, id: UUID) -> HTMLResponse:
    """Show the report of a verdict as a page of its own, under its own content policy."""
    page = as_html(verdict_report(session, get_verdict(session, id)))
    return HTMLResponse(page, headers={"content-security-policy": CONTENT_POLICY})


@routes.post("/{id}/people", name="verdicts.people")
def ask_for_people(
    request: Request, by: ByReviewer, id: UUID, n: Annotated[int, Form(ge=1, le=PEOPLE_AT_MOST)]
) -> Response:
    """Put answers on which the two differ into the review queue, to be compared blind."""
    with by.changing("verdict.ask_people", "verdicts", id) as change:
        verdict = get_verdict(change.session, id)
        pair = [
            get_evaluation(change.session, one)
            for one in (verdict.baseline_evaluation_id, verdict.candidate_evaluation_id)
        ]
        asked = ask_people(change.session, verdict.role, pair[0], pair[1], n)
        change.after({"drawn": asked.n_drawn, "new": asked.n_new})
    if wants_rows(request):
        return render(request, "verdicts/_asked.html", AskedPage(id, asked))
    return see(link_to(request, "verdicts.detail", id=id))


def _just_made(session: Session, baseline: UUID, candidate: UUID) -> Verdict | None:
    """Return the verdict of a first click, for a second one, which has waited for it."""
    return session.scalars(
        select(Verdict)
        .where(
            col(Verdict.baseline_evaluation_id) == baseline,
            col(Verdict.candidate_evaluation_id) == candidate,
            col(Verdict.id) >= first_id_at(now() - SECOND_CLICK),
        )
        .limit(1)
    ).first()


def list_page(session: Session, filters: Filters, asked: Asked) -> ListPage:
    """Return one page of verdicts."""
    outcomes = session.scalars(
        select(col(Verdict.outcome)).order_by(col(Verdict.id).desc()).limit(1_000)
    ).all()
    return ListPage(
        filters,
        LISTING.page(session, _matching(filters), asked, filters.query, _rows),
        get_settings().roles,
        sorted(set(outcomes)),
        suite_names(session),
    )


def suite_names(session: Session) -> Sequence[str]:
    """Return the names of suites, by name."""
    names = select(col(Suite.name)).distinct().order_by(col(Suite.name)).limit(500)
    return session.scalars(names).all()


def _matching(filters: Filters) -> Any:
    query: Any = (
        select(Verdict, Suite, _baseline, _candidate)
        .join(Suite, col(Suite.id) == col(Verdict.suite_id))
        .join(_baseline, col(_baseline.id) == col(Verdict.baseline_evaluation_id))
        .join(_candidate, col(_candidate.id) == col(Verdict.candidate_evaluation_id))
    )
    for column, value in (
        (Verdict.role, filters.role),
        (Verdict.outcome, filters.outcome),
        (Suite.name, filters.suite),
    ):
        if value:
            query = query.where(col(column) == value)
    return query


def _rows(session: Session, found: Sequence[Any]) -> list[Row]:
    axis = points_axis([one[0] for one in found])
    return [
        Row(verdict, suite, baseline, candidate, gain_chart(verdict, axis))
        for verdict, suite, baseline, candidate in found
    ]


def verdict_rows(session: Session, verdicts: Sequence[Verdict]) -> list[Row]:
    """Return verdicts with their two evaluations and suites, in their order, by one query."""
    wanted = [one.id for one in verdicts]
    rows = _rows(
        session, session.execute(_matching(Filters()).where(col(Verdict.id).in_(wanted))).all()
    )
    found = {row.verdict.id: row for row in rows}
    return [found[one] for one in wanted]


def points_axis(verdicts: Sequence[Verdict]) -> tuple[float, float]:
    """Return the range in points that shows zero and all these verdicts beside each other."""
    edges = [edge for v in verdicts for edge in (v.ci_low, v.ci_high)]
    return min([0.0, *edges]), max([0.0, *edges])


def gain_chart(verdict: Verdict, axis: tuple[float, float]) -> IntervalChart | None:
    """Return a verdict's improvement with its interval on a shared small axis."""
    row = ("gain", "gain", verdict.improvement_points, verdict.ci_low, verdict.ci_high)
    return interval_chart([row], unit="", scale=1.0, width=130, axis=axis)


def choices(session: Session) -> list[tuple[str, list[Choice]]]:
    """Return the newest evaluations by suite; only those of one suite can be compared."""
    rows = session.execute(
        select(Evaluation, Suite)
        .join(Suite, col(Suite.id) == col(Evaluation.suite_id))
        .order_by(col(Evaluation.id).desc())
        .limit(OFFERED)
    ).all()
    ordered = sorted((Choice(e, s) for e, s in rows), key=lambda c: (c.suite.name, c.suite.version))
    named = groupby(ordered, key=lambda c: f"{c.suite.name}@{c.suite.version}")
    return [(name, list(members)) for name, members in named]


def detail(session: Session, identifier: UUID) -> DetailPage:
    """Return the page of one verdict; raises NotFound."""
    verdict = session.get(Verdict, identifier)
    if verdict is None:
        raise NotFound("verdict", str(identifier), "the id of a verdict", "See the list.")
    report = verdict_summary(session, verdict)
    row = _rows(
        session, session.execute(_matching(Filters()).where(col(Verdict.id) == identifier)).all()
    )[0]
    b, c = row.baseline, row.candidate
    decision = session.get(Decision, verdict.decision_id) if verdict.decision_id else None
    found = fates(session, paired_tasks(b.id, c.id))
    roi = report["roi"]
    return DetailPage(
        row=row,
        report=report,
        decision=decision,
        checks=_grouped(checks_of(decision.inputs, decision.rule)) if decision else (),
        rates=interval_chart(
            [
                (f"baseline {b.subject}", "baseline", b.success_rate, b.ci_low, b.ci_high),
                (f"candidate {c.subject}", "candidate", c.success_rate, c.ci_low, c.ci_high),
            ],
            bounds=(0, 100),
        ),
        gains=gains(report),
        fates=found,
        shares=parted_bars(
            {"tasks": {"better": found.better, "alike": found.same, "worse": found.worse}},
            label="Tasks that the candidate solved better, alike and worse",
            tones={"better": "c-good", "alike": "c-calm", "worse": "c-bad"},
        ),
        judges=_judges(report["judge"]) if report["judge"] else None,
        measured=measured_pairs(report["baseline"], report["candidate"]),
        settings=setting_pairs(report["baseline"], report["candidate"]),
        sandbox=sandbox_pairs(report["baseline"], report["candidate"]),
        sections=[_section(name, one) for name, one in _extra(report).items()],
        roi=session.get(Decision, UUID(roi["id"])) if roi else None,
    )


def _grouped(checks: Sequence[Check]) -> list[tuple[str, list[Check]]]:
    return [(group, list(found)) for group, found in groupby(checks, key=lambda one: one.group)]


def gains(report: Mapping[str, Any]) -> list[tuple[str, DotPlot]]:
    """Return the paired improvement, overall and by slice, in points with its 95 % intervals."""
    verdict = report["verdict"]
    slices = sorted((report.get("slices") or {}).get("rows") or [], key=by_attribute)
    rows = [("all tasks", f"{verdict['n_tasks']:,}", verdict)]
    rows += [
        (
            str(one.get("value")),
            f"{one.get('n_tasks', 0):,}{', shown to differ' if one.get('is_shown') else ''}",
            one,
        )
        for one in slices
    ]
    plot = dot_plot(
        [
            (
                name,
                note,
                [("gain", one.get("improvement_points"), one.get("ci_low"), one.get("ci_high"))],
            )
            for name, note, one in rows
        ],
        label="Improvement in points, with 95 % intervals",
        zero=0.0,
        tones={"gain": "c2"},
        value_format=points,
    )
    return by_group(plot, ["", *(str(one.get("attribute", "")) for one in slices)])


def by_group(plot: DotPlot | None, groups: Sequence[str]) -> list[tuple[str, DotPlot]]:
    """Return the rows of a plot in groups that follow each other, each on the axis of all."""
    if plot is None:
        return []
    placed = zip(groups, plot.rows, strict=True)
    return [
        (name.replace("_", " ").capitalize(), replace(plot, rows=tuple(row for _, row in found)))
        for name, found in groupby(placed, key=lambda one: one[0])
    ]


def _judges(judge: Mapping[str, Any]) -> Judges | None:
    """Return the judges' section; None if it was stored by another version of the product."""
    try:
        return Judges(
            panel_words(judge),
            [one["model"] for one in judge["judges"]],
            judge_rows(judge) + _questions(judge),
            [*judge["why"], *judge["notes"]],
            judge["people"]["rated"],
            judge["people"]["drawn"],
        )
    except (KeyError, TypeError):
        return None


def _questions(judge: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    asked = [one.get("questions") or {} for one in judge["judges"]]
    labels = {"asked": "questions", "unreadable": "unreadable answers", "unanswered": "unanswered"}
    return [
        (label, tuple(f"{one[name]:,}" if name in one else "not recorded" for one in asked))
        for name, label in labels.items()
    ]


def _extra(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections that are values of both sides, and those that only the report knows."""
    known = {name: report[name] for name in ("identity", "likelihood", "cost") if report[name]}
    return {**known, **report["others"]}


def _section(name: str, section: Any) -> Section:
    title = name.replace("_", " ").capitalize()
    if not isinstance(section, Mapping):
        return Section(title, (), [("value", str(section))])
    if all(isinstance(section.get(side), Mapping) for side in ("baseline", "candidate")):
        rest = {k: v for k, v in section.items() if k not in ("baseline", "candidate")}
        return Section(title, section_pairs(section), rows_of(rest))
    return Section(title, (), rows_of(section))
