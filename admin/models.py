"""Models: the versions with their stages, and one version with where it came from and went."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import or_, select
from sqlmodel import Session, col

from admin.paging import Narrowing, Slice, newest_first
from admin.rendering import Reading, render, wants_rows
from curation.tables import Dataset
from evaluator.tables import Evaluation, Suite
from foundation.errors import NotFound
from foundation.settings import get_settings
from router.tables import Experiment, Promotion, RoleServing
from trainer.tables import (
    CANDIDATE,
    EXPERIMENTAL,
    PRODUCTION,
    QUARANTINED,
    RETIRED,
    ModelVersion,
    TrainingRun,
)

routes = APIRouter(prefix="/models")

RELATED_LIMIT = 30


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    role: str = ""
    stage: str = ""


@dataclass(frozen=True)
class Row:
    """One version, and whether it serves its role now."""

    version: ModelVersion
    serves: bool
    dataset: Dataset | None
    success_rate: float | None


@dataclass(frozen=True)
class ListPage:
    """Model versions, newest first."""

    filters: Filters
    rows: Slice[Row]
    roles: Sequence[str]
    stages: Sequence[str] = (CANDIDATE, EXPERIMENTAL, PRODUCTION, RETIRED, QUARANTINED)


@dataclass(frozen=True)
class DetailPage:
    """One version with its lineage, its evaluations, and its time in traffic."""

    version: ModelVersion
    serves: bool
    parent: ModelVersion | None
    children: Sequence[ModelVersion]
    dataset: Dataset | None
    training: TrainingRun | None
    evaluations: Sequence[tuple[Evaluation, Suite]]
    experiments: Sequence[Experiment]
    promotions: Sequence[Promotion]


@routes.get("", name="models.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    before: UUID | None = None,
) -> HTMLResponse:
    """Show model versions."""
    template = "models/_rows.html" if wants_rows(request) else "models/list.html"
    page = ListPage(filters, list_rows(session, filters, before), get_settings().roles)
    return render(request, template, page)


@routes.get("/{id}", name="models.detail")
def show_detail(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show one version."""
    return render(request, "models/detail.html", detail(session, id))


def list_rows(session: Session, filters: Filters, before: UUID | None = None) -> Slice[Row]:
    """Return one page of versions, each with its dataset and its newest measured success rate."""
    newest_rate = (
        select(col(Evaluation.success_rate))
        .where(col(Evaluation.model_version_id) == col(ModelVersion.id))
        .order_by(col(Evaluation.id).desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(ModelVersion, RoleServing, Dataset, newest_rate)
        .outerjoin(RoleServing, col(RoleServing.model_version_id) == col(ModelVersion.id))
        .outerjoin(Dataset, col(Dataset.id) == col(ModelVersion.dataset_id))
    )
    if filters.role:
        query = query.where(col(ModelVersion.role) == filters.role)
    if filters.stage:
        query = query.where(col(ModelVersion.stage) == filters.stage)
    found = newest_first(session, query, col(ModelVersion.id), before)
    return found.map(lambda row: Row(row[0], row[1] is not None, row[2], row[3]))


def detail(session: Session, identifier: UUID) -> DetailPage:
    """Return the page of one version; raises NotFound."""
    version = session.get(ModelVersion, identifier)
    if version is None:
        raise NotFound("model version", str(identifier), "the id of a version", "See the list.")
    serving = session.get(RoleServing, version.role)
    children = session.scalars(
        select(ModelVersion)
        .where(col(ModelVersion.parent_id) == identifier)
        .order_by(col(ModelVersion.id).desc())
        .limit(RELATED_LIMIT)
    ).all()
    evaluations = session.execute(
        select(Evaluation, Suite)
        .join(Suite, col(Suite.id) == col(Evaluation.suite_id))
        .where(col(Evaluation.model_version_id) == identifier)
        .order_by(col(Evaluation.id).desc())
        .limit(RELATED_LIMIT)
    ).all()
    return DetailPage(
        version=version,
        serves=serving is not None and serving.model_version_id == identifier,
        parent=session.get(ModelVersion, version.parent_id) if version.parent_id else None,
        children=children,
        dataset=session.get(Dataset, version.dataset_id) if version.dataset_id else None,
        training=(
            session.get(TrainingRun, version.training_run_id) if version.training_run_id else None
        ),
        evaluations=[(evaluation, suite) for evaluation, suite in evaluations],
        experiments=_in_traffic(session, identifier),
        promotions=_promotions(session, identifier),
    )


def _in_traffic(session: Session, identifier: UUID) -> Sequence[Experiment]:
    arms = (Experiment.control_model_version_id, Experiment.treatment_model_version_id)
    return session.scalars(
        select(Experiment)
        .where(or_(*(col(arm) == identifier for arm in arms)))
        .order_by(col(Experiment.id).desc())
        .limit(RELATED_LIMIT)
    ).all()


def _promotions(session: Session, identifier: UUID) -> Sequence[Promotion]:
    ends = (Promotion.from_model_version_id, Promotion.to_model_version_id)
    return session.scalars(
        select(Promotion)
        .where(or_(*(col(end) == identifier for end in ends)))
        .order_by(col(Promotion.id).desc())
        .limit(RELATED_LIMIT)
    ).all()
