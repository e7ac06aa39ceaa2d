"""Commands about who serves: experiments, promotion, rollback."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from flywheel.cli.output import AsJson, as_uuid, percent, print_fields, print_json, print_table

Reason = Annotated[str, typer.Option(help="Why, in a sentence; kept in the Decision.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    experiments = typer.Typer(help="Live A/B experiments.", no_args_is_help=True)
    experiments.command("list")(list_all)
    experiments.command("start")(start)
    experiments.command("show")(show)
    experiments.command("stop")(stop)
    app.add_typer(experiments, name="experiment")
    app.command()(promote)
    app.command()(rollback)


def list_all(
    role: Annotated[str | None, typer.Option(help="Only of this role.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the experiments, newest first."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.experiment import list_experiments

    require_current()
    with session_scope() as session:
        found = list_experiments(session, role)
    if as_json:
        print_json([experiment.model_dump(mode="json") for experiment in found])
        return
    print_table(
        ("experiment", "role", "status", "started", "ended"),
        [(e.id, e.role, e.status, e.started_at, e.ended_at) for e in found],
        "No experiments yet: flywheel experiment start VERSION",
    )


def start(
    version: Annotated[str, typer.Argument(help="Model version that gets a share of the tasks.")],
    share: Annotated[float, typer.Option(help="Share of tasks for it, 0-1.")] = 0.5,
    profile: Annotated[str, typer.Option(help="Plan: default or demo.")] = "default",
    as_json: AsJson = False,
) -> None:
    """Start comparing a version with who serves its role now."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.experiment import plan_from
    from router.experiment import start as start_experiment
    from trainer.registry import get_version

    require_current()
    with session_scope() as session:
        treatment = get_version(session, version)
        plan = plan_from(profile, treatment_share=share)
        actor = get_settings().admin_user
        experiment = start_experiment(session, treatment.role, treatment, plan, actor)
    found = experiment.model_dump(mode="json")
    print_json(found) if as_json else print_fields(found)


def show(
    experiment: Annotated[str, typer.Argument(help="Experiment id.")], as_json: AsJson = False
) -> None:
    """Show how an experiment stands: evidence, estimate, samples still needed."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.experiment import get_experiment
    from router.experiment import status as status_of

    require_current()
    with session_scope() as session:
        found = asdict(
            status_of(session, get_experiment(session, as_uuid("experiment", experiment)))
        )
    print_json(found) if as_json else print_fields(_readable(found))


def stop(
    experiment: Annotated[str, typer.Argument(help="Experiment id.")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Stop an experiment without a winner; the control goes on serving."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.experiment import get_experiment
    from router.experiment import stop as stop_experiment

    require_current()
    with session_scope() as session:
        found = get_experiment(session, as_uuid("experiment", experiment))
        decision = stop_experiment(session, found, reason, get_settings().admin_user)
    answer = decision.model_dump(mode="json")
    print_json(answer) if as_json else print_fields(answer)


def promote(
    version: Annotated[str, typer.Argument(help="Model version, such as coder-v3.")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Let a version serve its role from now on."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.promote import initial, serving_version
    from router.promote import promote as promote_version
    from trainer.registry import get_version

    require_current()
    with session_scope() as session:
        found = get_version(session, version)
        actor = get_settings().admin_user
        if serving_version(session, found.role) is None:
            promotion = initial(session, found.role, found, reason=reason, actor=actor)
        else:
            promotion = promote_version(session, found.role, found, reason=reason, actor=actor)
    answer = promotion.model_dump(mode="json")
    print_json(answer) if as_json else print_fields(answer)


def rollback(
    role: Annotated[str, typer.Argument(help="Agent role.")],
    reason: Reason,
    to: Annotated[str | None, typer.Option(help="Version; default: the one before.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the version before back; the present one is quarantined."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.promote import rollback as roll_back
    from trainer.registry import get_version

    require_current()
    with session_scope() as session:
        target = get_version(session, to) if to else None
        actor = get_settings().admin_user
        promotion = roll_back(session, role, reason=reason, actor=actor, to=target)
    answer = promotion.model_dump(mode="json")
    print_json(answer) if as_json else print_fields(answer)


def _readable(found: dict[str, Any]) -> dict[str, Any]:
    evidence = found.pop("evidence")
    rates = {arm: percent(rate) for arm, rate in found.pop("success_rate").items()}
    return {**found, "success rate": rates, **evidence}
