"""Trainings: live curves, what each learned from and made, and what differs from the one before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import Float, Select, func, select
from sqlalchemy.orm import defer
from sqlmodel import Session, col

from admin import runs
from admin.charts import Plot
from admin.formats import leaves, model_name
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, render, wants_rows
from curation.tables import PREFERENCE, SFT, Dataset
from evaluator.tables import Evaluation, Verdict
from foundation.errors import BadInput, NotFound
from foundation.settings import get_settings
from foundation.tables import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Run
from trainer.methods import METHODS as KINDS
from trainer.methods import TASKS
from trainer.recipe import CONTINUAL, METHODS
from trainer.tables import ModelVersion, TrainingRun

routes = APIRouter(prefix="/trainings")

OTHERS_SHOWN: Final = 30
"""Trainings of the role that one may be compared with."""


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    role: str = ""
    status: str = ""
    method: str = ""


@dataclass(frozen=True)
class Row(runs.Row):
    """One training: its run, what it learned from, what it made."""

    training: TrainingRun
    dataset: Dataset | None
    model: ModelVersion | None
    verdict: Verdict | None

    @property
    def best_loss(self) -> float | None:
        """The lowest validation loss, or where it is at while it runs."""
        best = self.training.metrics.get("best_validation_loss")
        return best if best is not None else self._progress("validation_loss")

    @property
    def last_loss(self) -> float | None:
        """The training loss of its last logged step."""
        last = self.training.metrics.get("last_loss")
        return last if last is not None else self._progress("loss")

    @property
    def tokens_per_s(self) -> float | None:
        """How fast it trains, or did at its end."""
        return self._progress("tokens_per_s")

    @property
    def dataset_name(self) -> str:
        """What it learned from, as people say it."""
        return source_of(self.training, self.dataset)

    @property
    def own_knobs(self) -> dict[str, Any]:
        """Its recipe without the groups of knobs that its method does not use."""
        return own_knobs(self.training)

    def _progress(self, name: str) -> float | None:
        value = (self.run.progress or {}).get(name)
        return value if isinstance(value, (int, float)) else None


_BEST: Final = func.coalesce(
    col(TrainingRun.metrics)["best_validation_loss"].astext.cast(Float),
    col(Run.progress)["validation_loss"].astext.cast(Float),
)

LISTING: Listing[Row] = Listing(
    [
        Column("role", "Role", lambda row: row.training.role, col(TrainingRun.role), first="up"),
        Column(
            "method",
            "Method, base",
            lambda row: row.training.method,
            col(TrainingRun.method),
            first="up",
        ),
        Column("dataset", "Dataset", lambda row: row.dataset_name, col(Dataset.number)),
        Column("status", "Status", lambda row: row.state, col(Run.status), first="up"),
        Column(
            "validation_loss",
            "Loss",
            lambda row: row.best_loss,
            _BEST,
            numeric=True,
            first="up",
        ),
        Column(
            "tokens_per_s",
            "Tokens/s",
            lambda row: row.tokens_per_s,
            col(Run.progress)["tokens_per_s"].astext.cast(Float),
            numeric=True,
        ),
        Column(
            "took_s",
            "Took",
            lambda row: row.took_s,
            func.extract("epoch", col(Run.finished_at) - col(Run.started_at)),
            numeric=True,
        ),
        Column("model", "Made", lambda row: row.model.name if row.model else None),
        Column("verdict", "Verdict", lambda row: row.verdict.outcome if row.verdict else None),
        Column(
            "created_at",
            "Asked for",
            lambda row: row.training.created_at,
            col(TrainingRun.created_at),
        ),
        Column("base", "", lambda row: row.training.base_model, col(TrainingRun.base_model)),
        Column("id", "", lambda row: str(row.training.id)),
        Column("run_id", "", lambda row: str(row.run.id)),
        Column("recipe", "", lambda row: row.training.recipe),
        Column("metrics", "", lambda row: row.training.metrics),
    ],
    key=col(TrainingRun.id),
    name="trainings",
)


@dataclass(frozen=True)
class ListPage:
    """Trainings, newest first."""

    filters: Filters
    table: Table[Row]
    roles: Sequence[str]
    methods: Sequence[str] = METHODS
    statuses: Sequence[str] = (QUEUED, RUNNING, DONE, FAILED, CANCELLED)


@dataclass(frozen=True)
class RowPage:
    """One row alone, as its own refresh asks for it."""

    row: Row


@dataclass(frozen=True)
class Difference:
    """One knob in which two trainings differ; None: the one does not have it."""

    name: str
    here: Any
    there: Any


@dataclass(frozen=True)
class Compared:
    """What differs from another training, and which others there are."""

    other: TrainingRun
    other_name: str
    differences: Sequence[Difference]


@dataclass(frozen=True)
class DetailPage:
    """One training, live while it runs."""

    row: Row
    cursor: str
    plots: Sequence[Plot]
    log: runs.Lines
    against: Compared | None
    others: Sequence[tuple[UUID, str]]
    evaluations: Sequence[Evaluation]
    went_on_from: ModelVersion | None = None
    together: Sequence[TrainingRun] = ()
    """Others of the same run, where several adapters learned jointly."""
    levels: Sequence[str] = runs.LEVELS


@routes.get("", name="trainings.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show trainings, newest first."""
    if asked.format:
        return LISTING.export(_matching(filters), asked, _rows)
    table = LISTING.page(session, _matching(filters), asked, filters.query, _rows)
    template = "trainings/_rows.html" if wants_rows(request) else "trainings/list.html"
    return render(request, template, ListPage(filters, table, get_settings().roles))


@routes.get("/{id}", name="trainings.detail")
def show_detail(
    request: Request, session: Reading, id: UUID, against: UUID | None = None
) -> HTMLResponse:
    """Show one training beside the one before it, or beside another."""
    return render(request, "trainings/detail.html", detail(session, id, against))


@routes.get("/{id}/row", name="trainings.row")
def show_row(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Answer one row of the list, as an open training asks for."""
    return render(request, "trainings/_live_row.html", RowPage(_row(session, id)))


@routes.get("/{id}/curves", name="trainings.curves")
def show_curves(
    request: Request, session: Reading, id: UUID, against: UUID | None = None
) -> HTMLResponse:
    """Answer the curves, as a live page asks for when there is more of them."""
    row = _row(session, id)
    other = _other(session, row.training, against)
    pictures = plots(session, row.training, other)
    return render(request, "runs/_curves.html", runs.CurvesPage(pictures))


def detail(session: Session, identifier: UUID, against: UUID | None = None) -> DetailPage:
    """Return the page of one training; raises NotFound."""
    row = _row(session, identifier)
    other = _other(session, row.training, against)
    log = runs.newest_lines(session, row.run.id)
    evaluations: Sequence[Evaluation] = ()
    if row.model is not None:
        evaluations = session.scalars(
            select(Evaluation)
            .where(col(Evaluation.model_version_id) == row.model.id)
            .order_by(col(Evaluation.id).desc())
            .limit(OTHERS_SHOWN)
        ).all()
    return DetailPage(
        row,
        runs.cursor_of(row.run, runs.measured(session, row.run.id), log),
        plots(session, row.training, other),
        log,
        _compared(session, row, other) if other else None,
        _others(session, row.training),
        evaluations,
        _version(session, row.training.from_version_id),
        _together(session, row.training),
    )


def _version(session: Session, identifier: UUID | None) -> ModelVersion | None:
    return session.get(ModelVersion, identifier) if identifier else None


def _together(session: Session, training: TrainingRun) -> Sequence[TrainingRun]:
    query = select(TrainingRun).options(*_LIGHT).where(col(TrainingRun.run_id) == training.run_id)
    return session.scalars(query.where(col(TrainingRun.id) != training.id)).all()


def plots(session: Session, training: TrainingRun, other: TrainingRun | None) -> list[Plot]:
    """Return the curves of a training, with the losses of another one behind its own."""
    behind: dict[str, Sequence[tuple[float, float]]] = {}
    if other is not None:
        points = points_of(session, other)
        behind = {
            "training before": runs.curve(points, "loss"),
            "validation before": runs.curve(points, "validation_loss"),
        }
    return runs.plots(points_of(session, training), behind)


def points_of(session: Session, training: TrainingRun) -> runs.Points:
    """Return what a training measured: its history once it is done, else what it has said so far.

    The history has each logged step; what is said on the way may be fewer, and has the pace too.
    """
    said = runs.measured(session, training.run_id)
    if not training.history:
        return said
    steps = [
        (float(line.get("step", place)), {k: v for k, v in line.items() if k != "step"})
        for place, line in enumerate(training.history)
    ]
    names = {name for _, measures in steps for name in measures}
    pace = [(done, {k: v for k, v in m.items() if k not in names}) for done, m in said]
    return sorted([*steps, *pace], key=lambda point: point[0])


def config(training: TrainingRun, dataset: Dataset | None) -> dict[str, Any]:
    """Return what decides what a training makes, flat, by the name of each knob."""
    manifest = training.manifest
    known = ("code_version", "libraries", "python", "machine", "device", "precision", "threads")
    return {
        "method": training.method,
        "base": training.base_model,
        "dataset": source_of(training, dataset),
        **(_sizes(dataset) if dataset else {}),
        **({"going on from": goes_on} if (goes_on := manifest.get("from_version")) else {}),
        "seed": training.seed,
        **{f"recipe.{name}": value for name, value in leaves(training.recipe)},
        **dict(leaves({name: manifest[name] for name in known if name in manifest})),
    }


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[Difference]:
    """Return the knobs whose values differ, by name; a knob that only one has is a difference."""
    return [
        Difference(name, here.get(name), there.get(name))
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]


def own_knobs(training: TrainingRun) -> dict[str, Any]:
    """Return the recipe without the groups of knobs that its method does not use."""
    recipe = dict(training.recipe)
    used = {
        "preference": KINDS[training.method].reads == PREFERENCE
        or bool(recipe.get("preference", {}).get("bases")),
        "reinforcement": KINDS[training.method].reads == TASKS,
        "distillation": recipe.get("distillation", {}).get("teacher") is not None,
        "continual": recipe.get("continual", {}).get("method") in CONTINUAL,
    }
    return {name: value for name, value in recipe.items() if used.get(name, True)}


def _sizes(dataset: Dataset) -> dict[str, Any]:
    return {"dataset rows": dataset.n_train, "validation rows": dataset.n_validation}


def source_of(training: TrainingRun, dataset: Dataset | None) -> str:
    """Return what a training learned from: a dataset's name, or the suite that it answered."""
    return named(dataset) if dataset else f"tasks of {training.suite}"


def named(dataset: Dataset) -> str:
    """Return how a dataset is called: its number, with kind and variant where they are others."""
    kind = "" if dataset.kind == SFT else f"{dataset.kind} "
    variant = "" if dataset.variant == "default" else f"{dataset.variant} "
    return f"{dataset.role} {kind}{variant}v{dataset.number}"


def _compared(session: Session, row: Row, other: TrainingRun) -> Compared:
    dataset = session.get(Dataset, other.dataset_id) if other.dataset_id else None
    here, there = config(row.training, row.dataset), config(other, dataset)
    if not (row.training.manifest and other.manifest):
        # One that has not ended does not know its libraries yet: that is no difference.
        shared = here.keys() & there.keys()
        here = {k: v for k, v in here.items() if k in shared or k.startswith("recipe.")}
        there = {k: v for k, v in there.items() if k in shared or k.startswith("recipe.")}
    return Compared(other, _title(other), differences(here, there))


def _other(session: Session, training: TrainingRun, identifier: UUID | None) -> TrainingRun | None:
    """Return the training to compare with: the one named, or the role's one before."""
    if identifier is None:
        return session.scalar(
            select(TrainingRun)
            .where(col(TrainingRun.role) == training.role, col(TrainingRun.id) < training.id)
            .order_by(col(TrainingRun.id).desc())
            .limit(1)
        )
    other = session.get(TrainingRun, identifier)
    if other is None or other.id == training.id:
        raise BadInput("against", str(identifier), "the id of another training", "Choose one.")
    return other


def _others(session: Session, training: TrainingRun) -> list[tuple[UUID, str]]:
    found = session.scalars(
        select(TrainingRun)
        .options(*_LIGHT)
        .where(col(TrainingRun.role) == training.role, col(TrainingRun.id) != training.id)
        .order_by(col(TrainingRun.id).desc())
        .limit(OTHERS_SHOWN)
    )
    return [(other.id, _title(other)) for other in found]


def _title(training: TrainingRun) -> str:
    base = model_name(training.base_model)
    return f"{training.method} on {base}, {training.created_at:%Y-%m-%d %H:%M}"


_LIGHT: Final = (defer(TrainingRun.history), defer(TrainingRun.manifest))  # type: ignore[arg-type]
"""What no list shows: hundreds of logged steps a row."""


def _matching(filters: Filters) -> Select[Any]:
    query: Any = (
        select(TrainingRun, Run, Dataset)
        .select_from(TrainingRun)
        .join(Run, col(Run.id) == col(TrainingRun.run_id))
        .outerjoin(Dataset, col(Dataset.id) == col(TrainingRun.dataset_id))
        .options(*_LIGHT, defer(Dataset.card))  # type: ignore[arg-type]
    )
    for column, value in (
        (TrainingRun.role, filters.role),
        (Run.status, filters.status),
        (TrainingRun.method, filters.method),
    ):
        if value:
            query = query.where(col(column) == value)
    matching: Select[Any] = query
    return matching


def _row(session: Session, identifier: UUID) -> Row:
    found = session.execute(
        select(TrainingRun, Run, Dataset)
        .select_from(TrainingRun)
        .join(Run, col(Run.id) == col(TrainingRun.run_id))
        .outerjoin(Dataset, col(Dataset.id) == col(TrainingRun.dataset_id))
        .where(col(TrainingRun.id) == identifier)
    ).all()
    if not found:
        raise NotFound("training", str(identifier), "the id of a stored training", "See the list.")
    return _rows(session, found)[0]


def _rows(session: Session, found: Sequence[Any]) -> list[Row]:
    """Return the rows with what each made and how that was judged, in two queries."""
    models = {
        model.training_run_id: model
        for model in session.scalars(
            select(ModelVersion).where(
                col(ModelVersion.training_run_id).in_([training.id for training, *_ in found])
            )
        )
    }
    judged = session.execute(
        select(Verdict, col(Evaluation.model_version_id))
        .join(Evaluation, col(Evaluation.id) == col(Verdict.candidate_evaluation_id))
        .where(col(Evaluation.model_version_id).in_([model.id for model in models.values()]))
        .order_by(col(Verdict.id))
    )
    verdicts = {version: verdict for verdict, version in judged}
    made = [(training, run, dataset, models.get(training.id)) for training, run, dataset in found]
    return [
        Row(run, training, dataset, model, verdicts.get(model.id) if model else None)
        for training, run, dataset, model in made
    ]
