"""Decisions: the ledger, and one decision with all it was made of, taken again on request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import Select, Text, Uuid, cast, false, func, literal, or_, select, union_all
from sqlmodel import Session, col

# Each of these registers the rules that it holds: what is known here can be replayed.
import evaluator.compare
import evaluator.drift
import evaluator.report  # noqa: F401
import router.experiment
import router.guard
import router.specialist.rule  # noqa: F401
import trainer.estimate
import trainer.plan
import trainer.schedule  # noqa: F401
from admin.formats import leaves, plain
from admin.listing import Asked, Column, Listing, Table
from admin.paging import WITHIN, Narrowing
from admin.rendering import Reading, render, wants_rows
from curation.tables import Dataset
from evaluator.tables import DriftWatch, Evaluation, Suite, Verdict
from foundation import decisions as ledger
from foundation.errors import FlywheelError, NotFound
from foundation.ids import first_id_at
from foundation.settings import get_settings
from foundation.tables import Decision, now
from router.tables import Experiment, Promotion
from trainer.tables import ModelVersion, TrainingRun

routes = APIRouter(prefix="/decisions")

AROUND: Final = 5
"""Decisions before and after that are shown on the page of one."""
LOOKED_BACK: Final = 1_000
"""Newest decisions whose kinds, outcomes and actors the filters offer."""
_FOLDED_FROM: Final = 8
_FOLDED_CHARACTERS: Final = 160
_WHOLE_FROM: Final = 10_000


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the ledger is narrowed to; empty means all."""

    kind: str = ""
    role: str = ""
    outcome: str = ""
    actor: str = ""
    within: str = ""
    subject: str = ""
    """Id of the row that decisions are about."""


@dataclass(frozen=True)
class Subject:
    """A row that a decision is about or rests on: what it is, its name, where it is shown."""

    noun: str
    name: str
    route: str
    id: UUID


@dataclass(frozen=True)
class Row:
    """One decision and what it is about; None where that is gone or was nothing."""

    decision: Decision
    subject: Subject | None

    @property
    def because(self) -> str:
        """Its first reason."""
        return self.decision.reasons[0] if self.decision.reasons else ""


@dataclass(frozen=True)
class ListPage:
    """The ledger."""

    filters: Filters
    table: Table[Row]
    kinds: Sequence[str]
    outcomes: Sequence[str]
    actors: Sequence[str]
    roles: Sequence[str]
    subject: Subject | None
    """Whose decisions alone are shown."""
    within: Sequence[str] = tuple(WITHIN)


@dataclass(frozen=True)
class Fact:
    """One value that a decision rests on; what is long is folded behind its beginning."""

    name: str
    value: str
    whole: str | None = None


@dataclass(frozen=True)
class Stored:
    """What a decision keeps of its inputs or thresholds, to be read."""

    known: Sequence[Fact]
    nested: Sequence[tuple[str, Sequence[Fact]]]
    """What stands beside, by its name; folded."""
    unknown: Sequence[str]


@dataclass(frozen=True)
class DetailPage:
    """One decision."""

    decision: Decision
    subject: Subject | None
    inputs: Stored
    rule: Stored
    evidence: Sequence[Subject]
    """Rows that name this decision: what it set off, or what it was taken on."""
    earlier: Sequence[Decision]
    later: Sequence[Decision]

    @property
    def by_rule(self) -> bool:
        """Whether a rule of this process can take it again."""
        return self.decision.kind in ledger.rule_names()

    @property
    def replay_command(self) -> str:
        """The command that recomputes it from what is stored."""
        return f"flywheel decide replay {self.decision.id}"


@dataclass(frozen=True)
class ReplayPage:
    """A stored decision beside what its rule says of the same inputs today."""

    decision: Decision
    outcome: str | None
    """None: it could not be taken again, and `problem` says why."""
    reasons: Sequence[str]
    problem: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the outcome is the stored one."""
        return self.outcome == self.decision.outcome

    @property
    def says_the_same(self) -> bool:
        """Whether the reasons are those that are stored, too."""
        return list(self.reasons) == self.decision.reasons


LISTING: Listing[Row] = Listing(
    [
        Column("created_at", "When", lambda row: row.decision.created_at, col(Decision.created_at)),
        Column("kind", "Kind", lambda row: row.decision.kind, col(Decision.kind), first="up"),
        Column("role", "Role", lambda row: row.decision.role, col(Decision.role), first="up"),
        Column(
            "outcome",
            "Outcome",
            lambda row: row.decision.outcome,
            col(Decision.outcome),
            first="up",
        ),
        Column("about", "About", lambda row: row.subject.name if row.subject else None),
        Column("because", "First reason", lambda row: row.because),
        Column("actor", "By", lambda row: row.decision.actor, col(Decision.actor), first="up"),
        Column("id", "", lambda row: str(row.decision.id)),
        Column("subject_id", "", lambda row: row.decision.subject_id),
        Column("reasons", "", lambda row: row.decision.reasons),
        Column("inputs", "", lambda row: row.decision.inputs),
        Column("rule", "", lambda row: row.decision.rule),
    ],
    key=col(Decision.id),
    name="decisions",
)


@routes.get("", name="decisions.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show the ledger, newest first."""
    if asked.format:
        return LISTING.export(_matching(filters), asked, _rows)
    template = "decisions/_rows.html" if wants_rows(request) else "decisions/list.html"
    return render(request, template, list_page(session, filters, asked))


@routes.get("/{id}", name="decisions.detail")
def show_detail(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show one decision."""
    return render(request, "decisions/detail.html", detail(session, id))


@routes.get("/{id}/replay", name="decisions.replay")
def show_replay(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Take a decision again from its stored inputs and show what comes out; nothing is written."""
    page = replayed(session, id)
    template = "decisions/_replay.html" if wants_rows(request) else "decisions/replay.html"
    return render(request, template, page)


def list_page(session: Session, filters: Filters, asked: Asked) -> ListPage:
    """Return one page of the ledger."""
    recent = session.execute(
        select(col(Decision.kind), col(Decision.outcome), col(Decision.actor))
        .order_by(col(Decision.id).desc())
        .limit(LOOKED_BACK)
    ).all()
    kinds, outcomes, actors = ({row[place] for row in recent} for place in range(3))
    about = _as_id(filters.subject)
    return ListPage(
        filters,
        LISTING.page(session, _matching(filters), asked, filters.query, _rows),
        sorted(kinds),
        sorted(outcomes),
        sorted(actors),
        get_settings().roles,
        subjects(session, [about]).get(about) if about else None,
    )


def _matching(filters: Filters) -> Select[Any]:
    query = select(Decision)
    for column, value in (
        (Decision.kind, filters.kind),
        (Decision.role, filters.role),
        (Decision.outcome, filters.outcome),
        (Decision.actor, filters.actor),
    ):
        if value:
            query = query.where(col(column) == value)
    if filters.within in WITHIN:
        query = query.where(col(Decision.id) >= first_id_at(now() - WITHIN[filters.within]))
    if filters.subject:
        about = _as_id(filters.subject)
        query = query.where(col(Decision.subject_id) == about if about else false())
    return query


def _as_id(given: str) -> UUID | None:
    """Return the id of an address; what is none fits no row."""
    try:
        return UUID(given)
    except ValueError:
        return None


def _rows(session: Session, found: Sequence[Decision]) -> list[Row]:
    about = subjects(session, [one.subject_id for one in found if one.subject_id])
    return [Row(one, about.get(one.subject_id) if one.subject_id else None) for one in found]


def detail(session: Session, identifier: UUID) -> DetailPage:
    """Return the page of one decision; raises NotFound."""
    decision = _get(session, identifier)
    about = decision.subject_id
    return DetailPage(
        decision,
        subjects(session, [about]).get(about) if about else None,
        stored(decision.inputs),
        stored(decision.rule),
        evidence_of(session, decision),
        _on_the_same(session, decision, is_later=False),
        _on_the_same(session, decision, is_later=True),
    )


def _get(session: Session, identifier: UUID) -> Decision:
    decision = session.get(Decision, identifier)
    if decision is None:
        raise NotFound("decision", str(identifier), "the id of a stored decision", "See the list.")
    return decision


def _on_the_same(session: Session, decision: Decision, *, is_later: bool) -> Sequence[Decision]:
    """Return the nearest decisions on the same subject, the nearest first."""
    if decision.subject_id is None:
        return ()
    query = select(Decision).where(col(Decision.subject_id) == decision.subject_id)
    key = col(Decision.id)
    if is_later:
        query = query.where(key > decision.id).order_by(key)
    else:
        query = query.where(key < decision.id).order_by(key.desc())
    return session.scalars(query.limit(AROUND)).all()


def replayed(session: Session, identifier: UUID) -> ReplayPage:
    """Return a decision taken again; raises NotFound for no such decision only."""
    decision = _get(session, identifier)
    try:
        found = ledger.replay(session, identifier)
    except FlywheelError as error:
        return ReplayPage(decision, None, (), str(error))
    except (ValueError, ArithmeticError, LookupError) as error:
        return ReplayPage(decision, None, (), f"The rule cannot read its inputs: {error}")
    return ReplayPage(decision, found.ruling.outcome, found.ruling.reasons)


def stored(tree: Mapping[str, Any]) -> Stored:
    """Return JSON to be read: what is known, what is nested in it, and what nobody knew."""
    nested = {name: value for name, value in tree.items() if isinstance(value, Mapping) and value}
    plain_ones = {name: value for name, value in tree.items() if name not in nested}
    return Stored(
        [_fact(name, one) for name, one in leaves(plain_ones) if one is not None],
        [(name, [_fact(*one) for one in leaves(value)]) for name, value in sorted(nested.items())],
        [name for name, one in leaves(plain_ones) if one is None],
    )


def _fact(name: str, value: Any) -> Fact:
    said = (
        f"{value:,.4g}" if isinstance(value, float) and abs(value) < _WHOLE_FROM else plain(value)
    )
    if isinstance(value, list) and len(value) > _FOLDED_FROM:
        first = ", ".join(plain(one) for one in value[:3])
        return Fact(name, f"{len(value):,} values: {first[:_FOLDED_CHARACTERS]}, …", said)
    if len(said) > _FOLDED_CHARACTERS:
        return Fact(name, f"{said[:_FOLDED_CHARACTERS].rstrip()}…", said)
    return Fact(name, said)


def subjects(session: Session, ids: Sequence[UUID]) -> dict[UUID, Subject]:
    """Return the rows that ids name, of all tables that decisions are about, by one query."""
    if not ids:
        return {}
    given = set(ids)
    v, e, s = Verdict, Evaluation, Suite
    sources = (
        (ModelVersion, "model version", "models.detail", col(ModelVersion.name)),
        (Experiment, "experiment", "experiments.detail", func.concat("of ", col(Experiment.role))),
        (
            Dataset,
            "dataset",
            "datasets.detail",
            func.concat(
                *(col(Dataset.role), " ", col(Dataset.variant), " v", col(Dataset.number)),
            ),
        ),
        (Evaluation, "evaluation", "evaluations.detail", col(Evaluation.subject)),
    )
    queries = [
        _named(noun, route, col(table.id), name).where(col(table.id).in_(given))
        for table, noun, route, name in sources
    ]
    queries.append(
        _named("verdict", "verdicts.detail", col(v.id), func.concat(col(e.subject), " on ", s.name))
        .join(e, col(e.id) == col(v.candidate_evaluation_id))
        .join(s, col(s.id) == col(v.suite_id))
        .where(col(v.id).in_(given))
    )
    queries.append(
        # The page of a training is that of its run.
        _named(
            "training run",
            "runs.detail",
            col(TrainingRun.run_id),
            col(TrainingRun.base_model),
            col(TrainingRun.id),
        ).where(col(TrainingRun.id).in_(given))
    )
    rows = session.execute(union_all(*queries)).all()
    return {row.about: Subject(row.noun, row.name, row.route, row.id) for row in rows}


def _named(noun: str, route: str, identity: Any, name: Any, about: Any = None) -> Select[Any]:
    return select(
        literal(noun).label("noun"),
        literal(route).label("route"),
        identity.label("id"),
        cast(name, Text).label("name"),
        cast(identity if about is None else about, Uuid).label("about"),
    )


def evidence_of(session: Session, decision: Decision) -> list[Subject]:
    """Return the rows that name a decision, such as verdicts and promotions, by one query."""
    v, x, p, d, m = Verdict, Experiment, Promotion, DriftWatch, ModelVersion
    queries = [
        _named("verdict", "verdicts.detail", col(v.id), func.concat(v.role, " ", v.outcome)).where(
            or_(col(v.decision_id) == decision.id, col(v.id) == decision.subject_id)
        ),
        _named(
            "experiment", "experiments.detail", col(x.id), func.concat(x.role, " ", x.status)
        ).where(col(x.decision_id) == decision.id),
        _named(
            "promotion of",
            "models.detail",
            col(m.id),
            func.concat(m.name, " for ", p.role, ", ", p.kind),
        )
        .join(p, col(p.to_model_version_id) == col(m.id))
        .where(col(p.decision_id) == decision.id),
        _named("drift of", "models.detail", col(m.id), m.name)
        .join(d, col(d.model_version_id) == col(m.id))
        .where(col(d.alarm_decision_id) == decision.id),
    ]
    rows = session.execute(union_all(*queries)).all()
    found = [Subject(row.noun, row.name, row.route, row.id) for row in rows]
    return [one for one in found if one.id != decision.subject_id or one.noun != "verdict"]
