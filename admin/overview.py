"""The overview: the wheel at a glance, one number per stage, one line per role, what runs now."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import select, text
from sqlmodel import Session, SQLModel, col

from admin import experiments, formats, runs
from admin.attention import Attention, attention
from admin.charts import IntervalChart, Trend
from admin.paging import Count, about, bounded_count
from admin.rendering import Reading, render
from admin.trends import Trends, trends
from admin.verdicts import Row as VerdictRow
from admin.verdicts import gain_chart, points_axis, verdict_rows
from admin.wheel import Stage, Wheel, draw
from collector.tables import Interaction
from curation.tables import SFT, Dataset
from evaluator.tables import Verdict
from foundation.ids import first_id_at
from foundation.settings import get_settings
from foundation.tables import Decision, Run, now
from router.promote import PROMOTE, ROLLBACK
from router.tables import RUNNING, Experiment, Promotion, RoleServing
from trainer.registry import BASE, EXTERNAL
from trainer.tables import ModelVersion, TrainingRun

routes = APIRouter()

RECENT_DECISIONS = 5
OPEN_RUNS_SHOWN = 6
DEFAULT_VARIANT = "default"

Row = TypeVar("Row", bound=SQLModel)


@dataclass(frozen=True)
class RoleLine:
    """One role: where it stands at each stage of the wheel."""

    role: str
    logged: Count
    dataset: Dataset | None
    training: TrainingRun | None
    training_run: Run | None
    verdict: VerdictRow | None
    experiment: experiments.Row | None
    serves: ModelVersion | None
    serves_since: datetime | None
    rolled_back: bool
    """Whether it serves because a better one broke."""
    chart: IntervalChart | None

    @property
    def kept(self) -> int:
        """Examples in its newest dataset."""
        d = self.dataset
        return d.n_train + d.n_validation + d.n_test if d else 0

    @property
    def in_experiment(self) -> bool:
        """Whether live traffic is split between two of its versions now."""
        return self.experiment is not None and self.experiment.experiment.status == RUNNING


@dataclass(frozen=True)
class OpenRuns:
    """The runs that are queued or running; the panel refreshes itself."""

    open_runs: Sequence[runs.Row]


@dataclass(frozen=True)
class OverviewPage(OpenRuns):
    """Everything on the first page."""

    wheel: Wheel
    trends: Trends
    attention: Attention
    last_turn: datetime | None
    turns: int
    roles: Sequence[RoleLine]
    decisions: Sequence[Decision]
    address: str

    @property
    def tiles(self) -> list[tuple[str, Stage, Trend | None]]:
        """The stages with their colour and how each went lately."""
        return [
            (spoke.hue, spoke.stage, getattr(self.trends, spoke.stage.name))
            for spoke in self.wheel.spokes
        ]

    @property
    def empty(self) -> bool:
        """Whether nothing was ever logged."""
        return all(line.logged.n == 0 for line in self.roles)


@routes.get("/", name="overview")
def show(request: Request, session: Reading) -> HTMLResponse:
    """Show the wheel."""
    address = str(request.base_url).removesuffix("/").removesuffix("/admin")
    return render(request, "overview/index.html", overview(session, address))


@routes.get("/open-runs", name="overview.open_runs")
def show_open_runs(request: Request, session: Reading) -> HTMLResponse:
    """Answer the panel of open runs, as it asks for itself every two seconds."""
    return render(request, "overview/_open_runs.html", OpenRuns(open_runs(session)))


def overview(session: Session, address: str) -> OverviewPage:
    """Return the first page. Empty database: zeros, no lines but the configured roles."""
    lines = role_lines(session)
    working = open_runs(session)
    verdicts = _last_by_time(session, Verdict)
    promotions = _last_by_time(session, Promotion)
    last_turn = max((r.created_at for r in (verdicts, promotions) if r is not None), default=None)
    decided = session.scalars(
        select(Decision).order_by(col(Decision.id).desc()).limit(RECENT_DECISIONS)
    ).all()
    return OverviewPage(
        open_runs=working,
        wheel=draw(stages(session, lines), turning=bool(working)),
        last_turn=last_turn,
        trends=trends(session),
        attention=attention(session),
        turns=bounded_count(session, select(col(Verdict.id))).n,
        roles=lines,
        decisions=decided,
        address=address,
    )


def stages(session: Session, lines: Sequence[RoleLine]) -> list[Stage]:
    """Return the six stages of the wheel with one number each."""
    logged, today = logged_in_all(session), logged_since(session, timedelta(days=1))
    kept = sum(line.kept for line in lines)
    n_models = bounded_count(session, select(col(ModelVersion.id)).where(_was_trained()))
    latest = _latest_verdict(lines)
    running = [line for line in lines if line.in_experiment]
    promoted = bounded_count(
        session, select(col(Promotion.id)).where(col(Promotion.kind) == PROMOTE)
    )
    learned = [line for line in lines if line.serves and line.serves.kind not in (BASE, EXTERNAL)]
    return [
        Stage(
            "collector",
            _said(logged),
            ("calls logged", f"{_said(today)} in a day"),
            "interactions.list",
            logged.n > 0,
            ", ",
        ),
        Stage("curation", formats.compact(kept), ("examples", "kept"), "datasets.list", kept > 0),
        Stage(
            "trainer",
            formats.compact(n_models.n),
            ("models", "trained"),
            "models.list",
            n_models.n > 0,
        ),
        Stage(
            "evaluator",
            formats.points(latest.verdict.improvement_points) if latest else formats.MISSING,
            ("points", latest.verdict.role) if latest else ("no verdict", "yet"),
            "verdicts.list",
            latest is not None,
            ", " if latest else " ",
        ),
        Stage(
            "router",
            formats.compact(promoted.n),
            ("promoted", f"{len(running)} in A/B"),
            "experiments.list",
            promoted.n > 0 or bool(running),
            ", ",
        ),
        Stage(
            "agents",
            f"{len(learned)}/{len(lines)}",
            ("roles on", "learned models"),
            "models.list",
            bool(learned),
        ),
    ]


def _said(count: Count) -> str:
    return f"{count.mark}{formats.compact(count.n)}"


def _was_trained() -> Any:
    return col(ModelVersion.training_run_id).is_not(None)


def _latest_verdict(lines: Iterable[RoleLine]) -> VerdictRow | None:
    verdicts = [line.verdict for line in lines if line.verdict is not None]
    return max(verdicts, key=lambda row: row.verdict.created_at, default=None)


def logged_in_all(session: Session) -> Count:
    """Return the size of the log: exact while small, then PostgreSQL's own estimate."""
    return about(session, [select(col(Interaction.id))])[0]


def logged_since(session: Session, length: timedelta) -> Count:
    """Return about how many calls the last `length` of time logged, by the range of their ids."""
    since = first_id_at(now() - length)
    return about(session, [select(col(Interaction.id)).where(col(Interaction.id) >= since)])[0]


def logged_by(session: Session, roles: Sequence[str]) -> dict[str, Count]:
    """Return about how many calls each role logged."""
    queries = [select(col(Interaction.id)).where(col(Interaction.role) == role) for role in roles]
    return dict(zip(roles, about(session, queries), strict=True))


def role_lines(session: Session) -> list[RoleLine]:
    """Return one line per configured or served role, each from the newest row of its tables."""
    serving = {row.role: row for row in session.scalars(select(RoleServing)).all()}
    roles = list(dict.fromkeys([*get_settings().roles, *sorted(serving)]))
    datasets = _newest_by_role(
        session, Dataset, col(Dataset.variant) == DEFAULT_VARIANT, col(Dataset.kind) == SFT
    )
    trainings = _newest_by_role(session, TrainingRun)
    verdicts = _newest_by_role(session, Verdict)
    shown = {row.verdict.role: row for row in verdict_rows(session, list(verdicts.values()))}
    trials = _newest_by_role(session, Experiment)
    axis = points_axis([row.verdict for row in shown.values()])
    rows = experiments.with_versions(session, list(trials.values()))
    trial = {row.experiment.role: row for row in rows}
    versions = _by_id(session, ModelVersion, [row.model_version_id for row in serving.values()])
    came = _by_id(session, Promotion, [row.promotion_id for row in serving.values()])
    jobs = _by_id(session, Run, [training.run_id for training in trainings.values()])
    logged = logged_by(session, roles)
    return [
        RoleLine(
            role=role,
            logged=logged[role],
            dataset=datasets.get(role),
            training=trainings.get(role),
            training_run=jobs.get(trainings[role].run_id) if role in trainings else None,
            verdict=shown.get(role),
            experiment=trial.get(role),
            serves=versions.get(serving[role].model_version_id) if role in serving else None,
            serves_since=serving[role].updated_at if role in serving else None,
            rolled_back=role in serving and came[serving[role].promotion_id].kind == ROLLBACK,
            chart=gain_chart(shown[role].verdict, axis) if role in shown else None,
        )
        for role in roles
    ]


def open_runs(session: Session) -> list[runs.Row]:
    """Return the newest runs that are queued or running."""
    rows = session.scalars(
        select(Run)
        .where(col(Run.status).in_(runs.UNFINISHED))
        .order_by(col(Run.id).desc())
        .limit(OPEN_RUNS_SHOWN)
    ).all()
    return [runs.Row(run) for run in rows]


def _newest_by_role(session: Session, table: Any, *conditions: Any) -> dict[str, Any]:
    rows = session.scalars(
        select(table)
        .where(*conditions)
        .prefix_with(text(f"DISTINCT ON ({table.__tablename__}.role)"))
        .order_by(col(table.role), col(table.id).desc())
    ).all()
    return {row.role: row for row in rows}


def _by_id(session: Session, table: type[Row], ids: Sequence[Any]) -> dict[Any, Row]:
    key = col(table.id)  # type: ignore[attr-defined]
    rows = session.scalars(select(table).where(key.in_(ids))).all()
    return {row.id: row for row in rows}  # type: ignore[attr-defined]


def _last_by_time(session: Session, table: Any) -> Any:
    return session.scalars(select(table).order_by(col(table.id).desc()).limit(1)).first()
