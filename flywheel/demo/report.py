"""What the demo found: per role from logged calls to who serves now. Every number is read back."""

from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table
from sqlalchemy import func
from sqlmodel import Session, col, select

from collector.tables import Interaction
from curation.export import get_dataset
from flywheel.cycle import RoleTurn
from router.experiment import get_experiment
from router.experiment import status as experiment_status
from router.promote import serving_version


@dataclass(frozen=True)
class RoleReport:
    """One role after a turn; rates are 0-1, None where a stage was not reached."""

    logged: int
    kept: int
    dropped_by_reason: dict[str, int]
    dataset_version: str
    baseline_success: float | None
    candidate_success: float | None
    control_success: float | None
    gain_ci95: tuple[float, float] | None
    gain_over_control_ci95: tuple[float, float] | None
    deploy_outcome: str | None
    experiment_outcome: str | None
    experiment_n: int
    promoted: bool
    serving_model_version: str
    reasons: list[str]


@dataclass(frozen=True)
class DemoReport:
    """The whole demo: seconds per step, the last round per role, and every round."""

    seed: int
    seconds: dict[str, float]
    roles: dict[str, RoleReport]
    rounds: list[dict[str, RoleReport]]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def report_role(session: Session, turn: RoleTurn) -> RoleReport:
    """Read a role's turn back from the database."""
    logged = session.exec(
        select(func.count()).select_from(Interaction).where(col(Interaction.role) == turn.role)
    ).one()
    card = _card(session, turn.dataset_id)
    rates = _rates(turn)
    experiment = get_experiment(session, turn.experiment_id) if turn.experiment_id else None
    state = experiment_status(session, experiment) if experiment else None
    serving = serving_version(session, turn.role)
    name = serving.name if serving else "nobody"
    reasons = list(turn.verdict["reasons"]) if turn.verdict else []
    reasons += state.reasons if state else [turn.ended_because or ""]
    return RoleReport(
        logged=logged,
        kept=card.get("kept", 0),
        dropped_by_reason=card.get("dropped_by_reason", {}),
        dataset_version=_dataset_name(session, turn.dataset_id),
        baseline_success=rates.get(turn.baseline.name),
        candidate_success=rates.get(turn.candidate),
        control_success=rates.get(turn.control),
        gain_ci95=_interval(turn.verdict),
        gain_over_control_ci95=_interval(turn.control_verdict),
        deploy_outcome=turn.verdict["verdict"]["outcome"] if turn.verdict else None,
        experiment_outcome=experiment.status if experiment else None,
        experiment_n=sum(state.evidence.analysed.values()) if state else 0,
        promoted=turn.candidate is not None and name == turn.candidate,
        serving_model_version=name,
        reasons=reasons,
    )


def _card(session: Session, dataset_id: UUID | None) -> dict[str, Any]:
    return get_dataset(session, dataset_id).card if dataset_id else {}


def _dataset_name(session: Session, dataset_id: UUID | None) -> str:
    if dataset_id is None:
        return "none"
    dataset = get_dataset(session, dataset_id)
    return f"{dataset.role}-{dataset.variant}-{dataset.number}"


def _rates(turn: RoleTurn) -> dict[str | None, float]:
    found = [v for v in (turn.verdict, turn.control_verdict) if v]
    return {e["subject"]: e["success_rate"] for v in found for e in v["evaluations"]}


def _interval(verdict: dict[str, Any] | None) -> tuple[float, float] | None:
    """Return a verdict's gain interval in 0-1, from percentage points."""
    if verdict is None:
        return None
    return verdict["verdict"]["ci_low"] / 100, verdict["verdict"]["ci_high"] / 100


def print_report(report: DemoReport, console: Console) -> None:
    """Print a table per round, the reasons per role, and what to try next."""
    for number, roles in enumerate(report.rounds, start=1):
        title = f"Round {number}" if len(report.rounds) > 1 else None
        console.print(_table(roles, title))
    for role, found in report.roles.items():
        console.print(f"\n[bold]{role}[/bold]: {found.serving_model_version} serves now.")
        for reason in found.reasons:
            console.print(f"  {reason}", highlight=False)
    total = sum(report.seconds.values())
    steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report.seconds.items())
    console.print(f"\n{total:.0f} s in all: {steps}.", highlight=False)
    console.print(
        "\nThe tiny base is made to be fixable: about half of the answers it was trained on"
        "\ncarry a planted bug. These are figures of the loop, not of a language model. Next:"
        "\n  flywheel up                  browse it all at http://127.0.0.1:8710/admin/"
        "\n  flywheel status              the wheel at a glance"
        "\n  flywheel decide list         every decision, with its reasons"
        "\n  flywheel demo --rounds 3     turn the wheel three times"
        "\n  flywheel demo --sabotage coder   train on failures: the baseline must stay",
        highlight=False,
    )


def _table(roles: dict[str, RoleReport], title: str | None) -> Table:
    table = Table("", *roles, title=title, title_justify="left", box=None, pad_edge=False)
    rows: list[tuple[str, list[str]]] = [
        ("logged / kept", [f"{r.logged} / {r.kept}" for r in roles.values()]),
        ("dataset", [r.dataset_version for r in roles.values()]),
        ("baseline success", [_rate(r.baseline_success) for r in roles.values()]),
        ("candidate success", [_rate(r.candidate_success) for r in roles.values()]),
        ("control success", [_rate(r.control_success) for r in roles.values()]),
        ("gain, 95 % interval", [_points(r.gain_ci95) for r in roles.values()]),
        ("gain over control", [_points(r.gain_over_control_ci95) for r in roles.values()]),
        ("benchmark decides", [r.deploy_outcome or "–" for r in roles.values()]),
        ("live experiment", [_experiment(r) for r in roles.values()]),
        ("serves now", [r.serving_model_version for r in roles.values()]),
    ]
    for label, cells in rows:
        table.add_row(f"[bold]{label}[/bold]", *cells)
    return table


def _rate(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.1f} %"


def _points(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}"


def _experiment(found: RoleReport) -> str:
    if found.experiment_outcome is None:
        return "none"
    return f"{found.experiment_outcome}, n = {found.experiment_n}"
