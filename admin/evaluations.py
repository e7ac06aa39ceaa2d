"""Evaluations: one model over one suite, and the watch over what serves; ordering a new one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import StringConstraints
from sqlalchemy import Float, cast, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import Session, col

from admin.access.people import OPERATOR
from admin.charts import (
    Bar,
    DotPlot,
    Gauge,
    IntervalChart,
    bars,
    dot_plot,
    evidence_gauge,
    interval_chart,
)
from admin.formats import percent
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, link_to, render, wants_rows
from admin.verdicts import by_group
from admin.writing import ByOperator, needs, see
from evaluator import drift
from evaluator.evidence import e_value
from evaluator.expected import Expected, expected
from evaluator.report import as_html, evaluations_report
from evaluator.report.views import by_attribute, measured_of, settings_of
from evaluator.report.words import doubts_of_one, probes_of, rows_of
from evaluator.run import get_evaluation
from evaluator.sandbox import Status
from evaluator.tables import Evaluation, Suite, Verdict
from evaluator.tasks import (
    EVALUATE_JOB,
    EvaluationPlan,
    evaluation_params,
    open_order,
    start_evaluation,
)
from evaluator.taskwise import answered
from foundation.database import explain_row
from foundation.errors import BadInput, NotFound
from foundation.lone_page import CONTENT_POLICY
from foundation.settings import get_settings
from router.promote import serving_version
from trainer.tables import CANDIDATE, EXPERIMENTAL, PRODUCTION, RETIRED, ModelVersion

routes = APIRouter(prefix="/evaluations")

MEANWHILE: Final = 20
"""Verdicts on an evaluation that its page names."""
SUBJECTS: Final = 200
LOOKED_BACK: Final = 1_000
UNRUNNABLE: Final = tuple(
    str(one) for one in (Status.CRASH, Status.TIMEOUT, Status.MEMORY, Status.FORBIDDEN)
)
"""Statuses of answers that did not run to their end."""
WALLS: Final = {
    "A": "Namespaces, a read-only system, seccomp, Landlock and limits: everything there is.",
    "D": "Seccomp, Landlock and limits, without namespaces: host files can be seen to exist.",
    "weak": "Limits only: this is no isolation.",
}
"""What a tier of the sandbox holds, in a sentence."""
_SUCCESS: Final = "success"


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    role: str = ""
    suite: str = ""
    subject: str = ""


@dataclass(frozen=True)
class Row:
    """One evaluation with its suite and, if it has one, its model version."""

    evaluation: Evaluation
    suite: Suite
    model: ModelVersion | None
    chart: IntervalChart | None = None

    @property
    def cost_usd(self) -> float | None:
        """What its answers cost, if that is known."""
        cost = (self.evaluation.metrics or {}).get("cost_usd")
        return float(cost) if isinstance(cost, (int, float)) else None


@dataclass(frozen=True)
class Watch:
    """The watch over one version in service."""

    report: drift.DriftReport
    gauge: Gauge | None
    threshold: float

    @property
    def state(self) -> str:
        """In a word: gathering its reference, steady, suspected (no alarm yet), or alarm."""
        if self.report.alarm_decision_id is not None:
            return drift.ALARM
        if self.gauge is not None and self.gauge.reached:
            return "suspected"
        return "gathering" if self.report.inputs is None else drift.STEADY

    @property
    def e(self) -> float | None:
        """The evidence against it, as an E-value; None while the reference is gathered."""
        return e_value(self.report.inputs.log_e) if self.report.inputs else None


@dataclass(frozen=True)
class ListPage:
    """Evaluations, newest first, and the watches over who serves."""

    filters: Filters
    table: Table[Row]
    roles: Sequence[str]
    suites: Sequence[str]
    subjects: Sequence[str]
    watches: Sequence[Watch]


@dataclass(frozen=True)
class Wall:
    """One attack of the sandbox's self-test, and what it said."""

    name: str
    said: str

    @property
    def holds(self) -> bool:
        """Whether the attack was blocked, or the ordinary program worked."""
        return self.said in ("blocked", "work")


@dataclass(frozen=True)
class SandboxStatus:
    """The machine that graded: its tier, its walls, and the answers that did not run to an end."""

    tier: str | None
    words: str
    walls: Sequence[Wall]
    refused: Sequence[tuple[str, str]]
    rest: Sequence[tuple[str, str]]
    unrunnable: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class DetailPage:
    """One evaluation: its rate, what became of its answers, and how far to believe it."""

    row: Row
    chart: IntervalChart | None
    figures: Sequence[tuple[str, str]]
    statuses: Sequence[Bar]
    kinds: Sequence[tuple[str, DotPlot]]
    """By attribute, all on one axis."""
    doubts: Sequence[str]
    sandbox: SandboxStatus
    measured: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    judged: Sequence[tuple[str, str]]
    """What graders by rubric measured of themselves; empty where none graded."""
    verdicts: Sequence[Verdict]


@dataclass(frozen=True)
class OrderPage:
    """The form for an evaluation, with what it will take."""

    suites: Sequence[Suite]
    suite: Suite | None
    candidates: Sequence[ModelVersion]
    serving: ModelVersion | None
    subject: str
    other: str
    against: str
    plan: EvaluationPlan
    expected: Expected | None
    """None until it is said what is to be evaluated."""


@dataclass(frozen=True)
class Order:
    """What an evaluation is asked for, as its form says it."""

    suite: str = ""
    subject: str = ""
    other: str = ""
    """A name that a server knows, in place of a version of ours."""
    against: str = ""
    """The version that serves, to be compared with; empty: the model alone."""
    samples_per_task: int = 5
    temperature: float = 1.0
    max_tokens: int = 512
    seed: int = 0

    @property
    def name(self) -> str:
        """Whose answers are asked for."""
        return self.other.strip() or self.subject

    @property
    def subjects(self) -> list[str]:
        """All who are asked, who is compared with first."""
        named = [self.against, self.name] if self.against != self.name else [self.name]
        return [one for one in named if one]

    @property
    def plan(self) -> EvaluationPlan:
        """How to ask; raises BadInput."""
        return EvaluationPlan(self.samples_per_task, self.temperature, self.max_tokens, self.seed)


_COST = cast(col(Evaluation.metrics)["cost_usd"].astext, Float)

LISTING: Listing[Row] = Listing(
    [
        Column(
            "subject", "Model", lambda r: r.evaluation.subject, col(Evaluation.subject), first="up"
        ),
        Column("role", "Role", lambda r: r.suite.role, col(Suite.role), first="up"),
        Column(
            "suite",
            "Suite",
            lambda r: f"{r.suite.name}@{r.suite.version}",
            col(Suite.name),
            first="up",
        ),
        Column(
            "success_rate",
            "Success",
            lambda r: r.evaluation.success_rate,
            col(Evaluation.success_rate),
            numeric=True,
        ),
        Column("interval", "95 % interval", None, col(Evaluation.ci_low)),
        Column(
            "n_samples",
            "Answers",
            lambda r: r.evaluation.n_samples,
            col(Evaluation.n_samples),
            numeric=True,
        ),
        Column(
            "tokens_per_s",
            "Tokens/s",
            lambda r: r.evaluation.tokens_per_s,
            col(Evaluation.tokens_per_s),
            numeric=True,
        ),
        Column("cost_usd", "Cost", lambda r: r.cost_usd, _COST, numeric=True),
        Column("created_at", "Made", lambda r: r.evaluation.created_at, col(Evaluation.created_at)),
        Column("ci_low", "", lambda r: r.evaluation.ci_low),
        Column("ci_high", "", lambda r: r.evaluation.ci_high),
        Column("samples_per_task", "", lambda r: r.evaluation.samples_per_task),
        Column("n_lost", "", lambda r: r.evaluation.n_lost),
        Column("id", "", lambda r: r.evaluation.id),
        Column("model_version_id", "", lambda r: r.evaluation.model_version_id),
        Column("run_id", "", lambda r: r.evaluation.run_id),
    ],
    key=col(Evaluation.id),
    name="evaluations",
)


@routes.get("", name="evaluations.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show evaluations."""
    if asked.format:
        return LISTING.export(_matching(filters), asked, _rows)
    template = "evaluations/_rows.html" if wants_rows(request) else "evaluations/list.html"
    return render(request, template, list_page(session, filters, asked))


@routes.get("/new", name="evaluations.new", dependencies=[Depends(needs(OPERATOR))])
def show_order(
    request: Request, session: Reading, order: Annotated[Order, Depends()]
) -> HTMLResponse:
    """Show the form for an evaluation, and what it will take as it is filled in."""
    template = "evaluations/_order.html" if wants_rows(request) else "evaluations/new.html"
    return render(request, template, order_page(session, order))


@routes.post("/new", name="evaluations.order")
def start(
    request: Request,
    by: ByOperator,
    suite: Annotated[str, StringConstraints(min_length=1, max_length=200), Form()],
    subject: Annotated[str, StringConstraints(max_length=300), Form()] = "",
    other: Annotated[str, StringConstraints(max_length=300), Form()] = "",
    against: Annotated[str, StringConstraints(max_length=300), Form()] = "",
    samples_per_task: Annotated[int, Form(ge=1, le=100)] = 5,
    temperature: Annotated[float, Form(ge=0, le=2)] = 1.0,
    max_tokens: Annotated[int, Form(ge=1, le=100_000)] = 512,
    seed: Annotated[int, Form(ge=0)] = 0,
) -> Response:
    """Queue an evaluation, or find the same one that has not ended; show its run."""
    order = Order(
        *(suite, subject, other, against),
        *(samples_per_task, temperature, max_tokens, seed),
    )
    if not order.name:
        raise BadInput("model", "", "a version, or a name that a server knows", "Choose one.")
    with by.changing("evaluation.start", "runs") as change:
        params = evaluation_params(suite, order.subjects, order.plan)
        against_whom = order.against if len(order.subjects) > 1 else None
        wanted = params | ({"against": against_whom} if against_whom else {})
        change.alone(f"evaluation {suite}")
        run = open_order(change.session, EVALUATE_JOB, wanted) or start_evaluation(
            change.session, suite, order.subjects, order.plan, against_whom, by.name
        )
        change.about("runs", run.id)
        change.after(run.params)
        return see(link_to(request, "runs.detail", id=run.id))


@routes.get("/{id}", name="evaluations.detail")
def show_detail(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show one evaluation."""
    return render(request, "evaluations/detail.html", detail(session, id))


@routes.get("/{id}/report", name="evaluations.report")
def show_report(session: Reading, id: UUID) -> HTMLResponse:
    """Show the report of an evaluation as a page of its own, under its own content policy."""
    page = as_html(evaluations_report(session, [get_evaluation(session, id)]))
    return HTMLResponse(page, headers={"content-security-policy": CONTENT_POLICY})


def list_page(session: Session, filters: Filters, asked: Asked) -> ListPage:
    """Return one page of evaluations."""
    subjects = session.scalars(
        select(col(Evaluation.subject)).order_by(col(Evaluation.id).desc()).limit(LOOKED_BACK)
    ).all()
    suites = session.scalars(
        select(col(Suite.name)).distinct().order_by(col(Suite.name)).limit(LOOKED_BACK)
    ).all()
    return ListPage(
        filters,
        LISTING.page(session, _matching(filters), asked, filters.query, _rows),
        get_settings().roles,
        suites,
        list(dict.fromkeys(subjects))[:SUBJECTS],
        watches(session),
    )


def _matching(filters: Filters) -> Any:
    query: Any = (
        select(Evaluation, Suite, ModelVersion)
        .join(Suite, col(Suite.id) == col(Evaluation.suite_id))
        .outerjoin(ModelVersion, col(ModelVersion.id) == col(Evaluation.model_version_id))
    )
    for column, value in (
        (Suite.role, filters.role),
        (Suite.name, filters.suite),
        (Evaluation.subject, filters.subject),
    ):
        if value:
            query = query.where(col(column) == value)
    return query


def _rows(session: Session, found: Sequence[Any]) -> list[Row]:
    return [Row(e, suite, model, _small_rate(e)) for e, suite, model in found]


def _small_rate(e: Evaluation) -> IntervalChart | None:
    row = ("rate", "candidate", e.success_rate, e.ci_low, e.ci_high)
    chart = interval_chart([row], width=110, axis=(0, 100))
    return replace(chart, zero=None) if chart else None  # no rate is below 0: no line to cross


def watches(session: Session) -> list[Watch]:
    """Return the watches over versions in service, by role: a version a role, so a bounded list."""
    threshold = drift.DriftThresholds().alarm_e
    return [
        Watch(
            one,
            evidence_gauge(e_value(one.inputs.log_e), threshold) if one.inputs else None,
            threshold,
        )
        for one in drift.reports(session)
    ]


def drift_alarms(session: Session) -> list[drift.DriftReport]:
    """Return the watches over versions in service that have given alarm."""
    return [one for one in drift.reports(session) if one.alarm_decision_id is not None]


def detail(session: Session, identifier: UUID) -> DetailPage:
    """Return the page of one evaluation; raises NotFound."""
    found = session.execute(
        _matching(Filters()).where(col(Evaluation.id) == identifier)
    ).one_or_none()
    if found is None:
        raise NotFound("evaluation", str(identifier), "the id of an evaluation", "See the list.")
    row = Row(*found)
    e, told = row.evaluation, answered(session, row.evaluation)
    shown = explain_row(e)
    verdicts = session.scalars(
        select(Verdict)
        .where(
            (col(Verdict.baseline_evaluation_id) == identifier)
            | (col(Verdict.candidate_evaluation_id) == identifier)
        )
        .order_by(col(Verdict.id).desc())
        .limit(MEANWHILE)
    ).all()
    measured = measured_of(shown)
    return DetailPage(
        row,
        interval_chart(
            [(e.subject, "candidate", e.success_rate, e.ci_low, e.ci_high)], bounds=(0, 100)
        ),
        figures_of(e),
        bars(told.statuses),
        kinds_plot(told.kinds),
        doubts_of_one(shown),
        sandbox_of(e.sandbox, told.statuses),
        [one for one in measured if not one[0].startswith("judge")],
        list(settings_of(shown).items()),
        [one for one in measured if one[0].startswith("judge")],
        verdicts,
    )


def figures_of(e: Evaluation) -> list[tuple[str, str]]:
    """Return the figures beside the success rate; what was not recorded is left out."""
    metrics = e.metrics or {}
    rows = rows_of(metrics.get("pass_k") or {})
    found = [(name, percent(float(value))) for name, value in rows if _is_number(value)]
    for label, name in (("latency", "latency_ms"), ("first token", "ttft_ms")):
        timed = metrics.get(name) or {}
        found += [
            (f"{label} {part}, ms", f"{timed[part]:,.0f}")
            for part in ("p50", "p95")
            if part in timed
        ]
    return found


def _is_number(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def kinds_plot(kinds: Sequence[Mapping[str, Any]]) -> list[tuple[str, DotPlot]]:
    """Return the success by kind of task, with 95 % intervals; empty where all are of one kind."""
    kinds = sorted(kinds, key=by_attribute)
    plot = dot_plot(
        [
            (
                str(one["value"]),
                f"{one['n_tasks']:,}",
                [(_SUCCESS, *_percents(one["rate"], one["ci_low"], one["ci_high"]))],
            )
            for one in kinds
        ],
        label="Success by kind of task, with 95 % intervals",
        within=(0.0, 100.0),
        tones={_SUCCESS: "c0"},
        value_format=lambda value: f"{value:.0f} %",
    )
    return by_group(plot, [str(one["attribute"]) for one in kinds])


def _percents(
    rate: float | None, low: float | None, high: float | None
) -> tuple[float | None, float | None, float | None]:
    return _percent(rate), _percent(low), _percent(high)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def sandbox_of(sandbox: Mapping[str, Any], statuses: Mapping[str, int]) -> SandboxStatus:
    """Return what is known of where answers ran; an older row may have kept nothing of it."""
    tier = sandbox.get("tier")
    refused = sandbox.get("refused")
    rest = {k: v for k, v in sandbox.items() if k not in ("tier", "probes", "refused")}
    return SandboxStatus(
        None if tier is None else str(tier),
        WALLS.get(str(tier), "This version of the product does not know the tier."),
        [Wall(name, said) for name, said in probes_of(sandbox).items()],
        rows_of(refused) if isinstance(refused, Mapping) else (),
        rows_of(rest),
        [(name, statuses.get(name, 0)) for name in UNRUNNABLE],
    )


def order_page(session: Session, order: Order) -> OrderPage:
    """Return the form for an evaluation, filled in as asked for."""
    suites = session.scalars(
        select(Suite)
        .ext(distinct_on(col(Suite.name)))
        .order_by(col(Suite.name), col(Suite.version).desc())
        .limit(SUBJECTS)
    ).all()
    name = order.suite.partition("@")[0]
    suite = next((one for one in suites if one.name == name), suites[0] if suites else None)
    serving = serving_version(session, suite.role) if suite else None
    versions = _candidates(session, suite.role) if suite else ()
    is_ready = suite is not None and bool(order.name)
    return OrderPage(
        suites,
        suite,
        versions,
        serving,
        order.subject,
        order.other,
        order.against,
        order.plan,
        expected(session, suite, order.subjects, order.samples_per_task)
        if suite is not None and is_ready
        else None,
    )


def _candidates(session: Session, role: str) -> Sequence[ModelVersion]:
    """Return the newest versions of a role that may be asked: candidates first."""
    stages = [CANDIDATE, EXPERIMENTAL, PRODUCTION, RETIRED]
    found = session.scalars(
        select(ModelVersion)
        .where(col(ModelVersion.role) == role)
        .order_by(col(ModelVersion.number).desc())
        .limit(SUBJECTS)
    ).all()
    last = len(stages)
    return sorted(found, key=lambda v: stages.index(v.stage) if v.stage in stages else last)
