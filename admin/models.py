"""Models: the versions with their stages, and one version with where it came from and went."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from sqlalchemy import BigInteger, Select, or_, select
from sqlalchemy.orm import aliased, defer
from sqlmodel import Session, col

from admin.formats import leaves
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, link_to, render, wants_rows
from admin.tables import AuditEntry
from admin.trainings import Difference, config, differences, named
from admin.writing import ByOperator, Reason, see
from curation.tables import Dataset
from evaluator.tables import Evaluation, Suite, Verdict
from foundation import artifacts
from foundation.database import explain_row
from foundation.errors import ArtifactStoreUnavailable, BadInput, Conflict, NotFound
from foundation.lone_page import CONTENT_POLICY
from foundation.settings import get_settings
from foundation.tables import Decision, Run
from router.service_record import record_of
from router.tables import RUNNING, TREATMENT, Experiment, Promotion, RoleServing
from trainer.card import card
from trainer.card import page as card_page
from trainer.diff import diff
from trainer.registry import (
    BASE,
    EXTERNAL,
    MADE,
    REWARD,
    STAGE_BY_HAND,
    TRANSITIONS,
    set_stage_by_hand,
)
from trainer.tables import (
    CANDIDATE,
    EXPERIMENTAL,
    PRODUCTION,
    QUARANTINED,
    RETIRED,
    ModelExport,
    ModelVersion,
    TrainingRun,
)

routes = APIRouter(prefix="/models")

RELATED_LIMIT: Final = 30
FILES_SHOWN: Final = 50
HASHED_BYTES: Final = 64 * 2**20
"""Of the files of one version that are hashed for its page; larger ones are hashed as a whole."""
BY_HAND: Final = (CANDIDATE, RETIRED, QUARANTINED)
"""Stages that a person may set; the others come with traffic (`router.promote`)."""


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    role: str = ""
    stage: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """One version: where it is from, how it was judged, whom it serves now."""

    version: ModelVersion
    parent: str | None
    dataset: Dataset | None
    success_rate: float | None
    verdict: str | None
    serves: bool
    arm: str | None
    """Its side of a running experiment, with the share of traffic."""

    @property
    def size_bytes(self) -> int | None:
        """Of its files."""
        return self.version.metrics.get("size_bytes")

    @property
    def served(self) -> str | None:
        """Where it serves now, in words."""
        if self.serves:
            return f"serves {self.version.role}"
        return self.arm


def _newest_rate() -> Any:
    return (
        select(col(Evaluation.success_rate))
        .where(col(Evaluation.model_version_id) == col(ModelVersion.id))
        .order_by(col(Evaluation.id).desc())
        .limit(1)
        .scalar_subquery()
    )


def _newest_verdict() -> Any:
    return (
        select(col(Verdict.outcome))
        .join(Evaluation, col(Evaluation.id) == col(Verdict.candidate_evaluation_id))
        .where(col(Evaluation.model_version_id) == col(ModelVersion.id))
        .order_by(col(Verdict.id).desc())
        .limit(1)
        .correlate(ModelVersion)
        .scalar_subquery()
    )


_Parent: Final = aliased(ModelVersion, name="parent")

LISTING: Listing[Row] = Listing(
    [
        Column("name", "Version", lambda row: row.version.name, col(ModelVersion.name), first="up"),
        Column("role", "Role", lambda row: row.version.role, col(ModelVersion.role), first="up"),
        Column(
            "stage", "Stage", lambda row: row.version.stage, col(ModelVersion.stage), first="up"
        ),
        Column("served", "", lambda row: row.served),
        Column(
            "kind", "Kind, from", lambda row: row.version.kind, col(ModelVersion.kind), first="up"
        ),
        Column("parent", "", lambda row: row.parent or row.version.base_model),
        Column("dataset", "Dataset", lambda row: named(row.dataset) if row.dataset else None),
        Column(
            "size_bytes",
            "Size",
            lambda row: row.size_bytes,
            col(ModelVersion.metrics)["size_bytes"].astext.cast(BigInteger),
            numeric=True,
        ),
        Column(
            "success_rate", "Success", lambda row: row.success_rate, _newest_rate(), numeric=True
        ),
        Column("verdict", "Verdict", lambda row: row.verdict),
        Column(
            "created_at", "Made", lambda row: row.version.created_at, col(ModelVersion.created_at)
        ),
        Column("id", "", lambda row: str(row.version.id)),
        Column("content_hash", "", lambda row: row.version.content_hash),
        Column("metrics", "", lambda row: row.version.metrics),
    ],
    key=col(ModelVersion.id),
    name="models",
)


@dataclass(frozen=True)
class ListPage:
    """Model versions, newest first."""

    filters: Filters
    table: Table[Row]
    roles: Sequence[str]
    stages: Sequence[str] = (CANDIDATE, EXPERIMENTAL, PRODUCTION, RETIRED, QUARANTINED)
    kinds: Sequence[str] = (*MADE, REWARD, BASE, EXTERNAL)


@dataclass(frozen=True)
class File:
    """One file of a version; None: too much to hash for a page."""

    name: str
    size_bytes: int
    sha256: str | None


@dataclass(frozen=True)
class Happening:
    """One thing that happened to a version: a promotion, a decision, a change by hand."""

    at: datetime
    what: str
    reason: str
    actor: str
    route: str | None = None
    id: UUID | None = None


@dataclass(frozen=True)
class Compared:
    """What differs from another version."""

    other: ModelVersion
    differences: Sequence[Difference]


@dataclass(frozen=True)
class DetailPage:
    """One version with its lineage, its evaluations, and its time in traffic."""

    version: ModelVersion
    serves: bool
    parent: ModelVersion | None
    children: Sequence[ModelVersion]
    dataset: Dataset | None
    training: TrainingRun | None
    run: Run | None
    evaluations: Sequence[tuple[Evaluation, Suite]]
    verdict: Verdict | None
    experiments: Sequence[Experiment]
    happenings: Sequence[Happening]
    files: Sequence[File]
    files_gone: bool
    """Whether it should have files and the store has none."""
    exports: Sequence[File]
    published: Sequence[ModelExport]
    """Exports that passed their parity gate."""
    against: Compared | None
    others: Sequence[tuple[UUID, str]]

    @property
    def stages(self) -> list[str]:
        """Stages that a person may set it to now."""
        if self.serves or any(one.status == RUNNING for one in self.experiments):
            return []
        return [stage for stage in TRANSITIONS[self.version.stage] if stage in BY_HAND]

    @property
    def first_promotion(self) -> Happening | None:
        """Its first step into traffic, the end of its chain."""
        steps = [one for one in self.happenings if one.what in ("initial", "promote")]
        return steps[-1] if steps else None


@routes.get("", name="models.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show model versions."""
    if asked.format:
        return LISTING.export(_matching(filters), asked, _rows)
    table = LISTING.page(session, _matching(filters), asked, filters.query, _rows)
    template = "models/_rows.html" if wants_rows(request) else "models/list.html"
    return render(request, template, ListPage(filters, table, get_settings().roles))


@routes.get("/{id}", name="models.detail")
def show_detail(
    request: Request, session: Reading, id: UUID, against: UUID | None = None
) -> HTMLResponse:
    """Show one version, and what differs from another one."""
    return render(request, "models/detail.html", detail(session, id, against))


@routes.get("/{id}/card", name="models.card")
def show_card(session: Reading, id: UUID) -> HTMLResponse:
    """Show the card of a version as a page of its own, under its own content policy."""
    version = _get(session, id)
    shown = card_page(card(session, version, record_of(session, version)))
    return HTMLResponse(shown, headers={"Content-Security-Policy": CONTENT_POLICY})


@routes.get("/{id}/diff/{other}.json", name="models.diff")
def download_difference(session: Reading, id: UUID, other: UUID) -> JSONResponse:
    """Answer all that differs from another version: datasets and weights, too."""
    return JSONResponse(diff(session, _get(session, other), _get(session, id)).as_json())


@routes.get("/{id}/manifest.json", name="models.manifest")
def download_manifest(session: Reading, id: UUID) -> JSONResponse:
    """Answer what a version is, what made it, and what making the same again takes."""
    version = _get(session, id)
    training = _training(session, version)
    said = {
        "version": explain_row(version),
        "recipe": training.recipe if training else None,
        "manifest": training.manifest if training else None,
        "files": [
            {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256}
            for file in files_of(version)[0]
        ],
    }
    name = "".join(c if c.isalnum() and c.isascii() or c in "-." else "-" for c in version.name)
    return JSONResponse(
        said, headers={"Content-Disposition": f'attachment; filename="{name}.manifest.json"'}
    )


@routes.post("/{id}/stage", name="models.stage")
def change_stage(
    request: Request, by: ByOperator, id: UUID, stage: Annotated[str, Form()], reason: Reason
) -> Response:
    """Set a version's stage by hand: candidate, retired or quarantined, never of who serves."""
    with by.changing("model.stage", "model", id, reason) as change:
        change.alone(f"model {id}")
        version = _get(change.session, id)
        change.before({"name": version.name, "stage": version.stage})
        _require_idle(change.session, version, stage)
        set_stage_by_hand(change.session, version, stage, reason=reason, actor=by.name)
        change.after({"name": version.name, "stage": version.stage})
    return see(link_to(request, "models.detail", id=id), "The stage is set.")


def detail(session: Session, identifier: UUID, against: UUID | None = None) -> DetailPage:
    """Return the page of one version; raises NotFound."""
    version = _get(session, identifier)
    serving = session.get(RoleServing, version.role)
    training = _training(session, version)
    files, gone = files_of(version)
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
    verdict = session.scalar(
        select(Verdict)
        .join(Evaluation, col(Evaluation.id) == col(Verdict.candidate_evaluation_id))
        .where(col(Evaluation.model_version_id) == identifier)
        .order_by(col(Verdict.id).desc())
        .limit(1)
    )
    return DetailPage(
        version=version,
        serves=serving is not None and serving.model_version_id == identifier,
        parent=session.get(ModelVersion, version.parent_id) if version.parent_id else None,
        children=children,
        dataset=session.get(Dataset, version.dataset_id) if version.dataset_id else None,
        training=training,
        run=session.get(Run, training.run_id) if training else None,
        evaluations=[(evaluation, suite) for evaluation, suite in evaluations],
        verdict=verdict,
        experiments=_in_traffic(session, identifier),
        happenings=happenings(session, identifier),
        files=files,
        files_gone=gone,
        exports=exports_of(version),
        published=session.scalars(
            select(ModelExport)
            .where(col(ModelExport.model_version_id) == identifier)
            .order_by(ModelExport.format)
        ).all(),
        against=_compared(session, version, against) if against else None,
        others=_others(session, version),
    )


def happenings(session: Session, identifier: UUID) -> list[Happening]:
    """Return what happened to a version, newest first: promotions, decisions, changes by hand."""
    ends = (Promotion.from_model_version_id, Promotion.to_model_version_id)
    promotions = session.scalars(
        select(Promotion)
        .where(or_(*(col(end) == identifier for end in ends)))
        .order_by(col(Promotion.id).desc())
        .limit(RELATED_LIMIT)
    )
    decisions = session.scalars(
        select(Decision)
        .where(col(Decision.subject_id) == identifier, col(Decision.kind) != STAGE_BY_HAND)
        .order_by(col(Decision.id).desc())
        .limit(RELATED_LIMIT)
    )
    by_hand = session.scalars(
        select(AuditEntry)
        .where(
            col(AuditEntry.subject_kind) == "model", col(AuditEntry.subject_id) == str(identifier)
        )
        .order_by(col(AuditEntry.id).desc())
        .limit(RELATED_LIMIT)
    )
    found = [
        Happening(
            one.created_at,
            one.kind if one.to_model_version_id == identifier else f"{one.kind} of another",
            one.reason,
            one.actor,
            "decisions.detail" if one.decision_id else None,
            one.decision_id,
        )
        for one in promotions
    ]
    found += [
        Happening(
            one.created_at,
            f"{one.kind}: {one.outcome}",
            one.reasons[0] if one.reasons else "",
            one.actor,
            "decisions.detail",
            one.id,
        )
        for one in decisions
    ]
    found += [
        Happening(
            one.created_at,
            f"stage: {(one.after or {}).get('stage', '')}",
            one.reason or "",
            one.actor,
        )
        for one in by_hand
    ]
    return sorted(found, key=lambda one: one.at, reverse=True)[:RELATED_LIMIT]


def files_of(version: ModelVersion) -> tuple[Sequence[File], bool]:
    """Return a version's files, and whether it should have some and the store has none."""
    if version.artifact_uri is None or version.files_removed_at is not None:
        return (), False
    try:
        return _files(version.artifact_uri, get_settings().artifacts_root), False
    except (NotFound, ArtifactStoreUnavailable, OSError):
        return (), True


@lru_cache(maxsize=256)
def _files(uri: str, root: str) -> tuple[File, ...]:
    """Return the files of an artifact, which never change; of a remote one without their hashes."""
    if "://" in root:
        return tuple(File(name, size, None) for name, size in artifacts.listed(uri))
    return _files_in(artifacts.fetch(uri))


def exports_of(version: ModelVersion) -> tuple[File, ...]:
    """Return what was made of a version's files for other servers, as far as this machine knows."""
    folder = get_settings().home.absolute() / "served"
    names = (f"{version.name}.gguf", f"{version.name}-merged.gguf")
    if Path(version.name).name != version.name:
        return ()  # a name of another's making is no path
    found = [folder / name for name in names if (folder / name).is_file()]
    return tuple(File(path.name, path.stat().st_size, None) for path in found)


def _files_in(folder: Path) -> tuple[File, ...]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    hashed = sum(path.stat().st_size for path in paths) <= HASHED_BYTES
    return tuple(
        File(
            path.relative_to(folder).as_posix(),
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest() if hashed else None,
        )
        for path in paths
    )


def _compared(session: Session, version: ModelVersion, identifier: UUID) -> Compared:
    other = session.get(ModelVersion, identifier)
    if other is None or other.id == version.id:
        raise BadInput("against", str(identifier), "the id of another version", "Choose one.")
    return Compared(other, differences(_knobs(session, version), _knobs(session, other)))


def _knobs(session: Session, version: ModelVersion) -> Mapping[str, Any]:
    training = _training(session, version)
    dataset = session.get(Dataset, version.dataset_id) if version.dataset_id else None
    made = config(training, dataset) if training else {}
    return {
        "kind": version.kind,
        "base": version.base_model,
        "content hash": (version.content_hash or "")[:16] or None,
        **made,
        **{f"metrics.{name}": value for name, value in leaves(version.metrics)},
    }


def _others(session: Session, version: ModelVersion) -> list[tuple[UUID, str]]:
    found = session.execute(
        select(col(ModelVersion.id), col(ModelVersion.name))
        .where(col(ModelVersion.role) == version.role, col(ModelVersion.id) != version.id)
        .order_by(col(ModelVersion.id).desc())
        .limit(RELATED_LIMIT)
    )
    return [(identifier, name) for identifier, name in found]


def _require_idle(session: Session, version: ModelVersion, stage: str) -> None:
    """Check that a version answers nobody, and keep it so until the transaction ends.

    Raises:
        BadInput: a stage that no person sets.
        Conflict: it serves its role, or takes part in a running experiment.
    """
    if stage not in BY_HAND:
        raise BadInput("stage", stage, f"one of {', '.join(BY_HAND)}", "Others come with traffic.")
    # The row that every promotion locks, so that none happens meanwhile.
    serving = session.scalar(
        select(RoleServing).where(col(RoleServing.role) == version.role).with_for_update()
    )
    if serving is not None and serving.model_version_id == version.id:
        raise Conflict(
            f"stage of {version.name}",
            stage,
            "a version that serves nobody",
            "Roll the role back, or promote another one, first.",
        )
    if any(one.status == RUNNING for one in _in_traffic(session, version.id)):
        raise Conflict(
            f"stage of {version.name}",
            stage,
            "a version in no running experiment",
            "Stop the experiment first.",
        )


def _get(session: Session, identifier: UUID) -> ModelVersion:
    version = session.get(ModelVersion, identifier)
    if version is None:
        raise NotFound("model version", str(identifier), "the id of a version", "See the list.")
    return version


def _training(session: Session, version: ModelVersion) -> TrainingRun | None:
    return session.get(TrainingRun, version.training_run_id) if version.training_run_id else None


def _matching(filters: Filters) -> Select[Any]:
    query = (
        select(
            ModelVersion,
            col(_Parent.name),
            Dataset,
            _newest_rate().label("rate"),
            _newest_verdict().label("verdict"),
        )
        .select_from(ModelVersion)
        .outerjoin(_Parent, col(_Parent.id) == col(ModelVersion.parent_id))
        .outerjoin(Dataset, col(Dataset.id) == col(ModelVersion.dataset_id))
        .options(defer(Dataset.card))  # type: ignore[arg-type]
    )
    for column, value in (
        (ModelVersion.role, filters.role),
        (ModelVersion.stage, filters.stage),
        (ModelVersion.kind, filters.kind),
    ):
        if value:
            query = query.where(col(column) == value)
    return query


def _rows(session: Session, found: Sequence[Any]) -> list[Row]:
    """Return the rows with where each serves now: one row a role, and what runs."""
    serving = set(session.scalars(select(col(RoleServing.model_version_id))))
    arms: dict[UUID, str] = {}
    for one in session.scalars(select(Experiment).where(col(Experiment.status) == RUNNING)):
        share = f"{one.treatment_share:.0%}"
        arms[one.treatment_model_version_id] = f"{TREATMENT}, {share} of {one.role}"
        arms[one.control_model_version_id] = f"control of {one.role}"
    return [
        Row(version, parent, dataset, rate, verdict, version.id in serving, arms.get(version.id))
        for version, parent, dataset, rate, verdict in found
    ]


def _in_traffic(session: Session, identifier: UUID) -> Sequence[Experiment]:
    arms = (Experiment.control_model_version_id, Experiment.treatment_model_version_id)
    return session.scalars(
        select(Experiment)
        .where(or_(*(col(arm) == identifier for arm in arms)))
        .order_by(col(Experiment.id).desc())
        .limit(RELATED_LIMIT)
    ).all()
