"""Commands about experiments: plan, start, show, accept, stop."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from flywheel.cli.output import AsJson, as_uuid, percent, print_fields, print_json, print_table

Reason = Annotated[str, typer.Option(help="Why, in a sentence; kept in the Decision.")]
Profile = Annotated[str, typer.Option(help="Plan: default or demo.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Changed field of the plan, such as alpha=0.01; repeatable."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    experiments = typer.Typer(help="Live A/B experiments.", no_args_is_help=True)
    experiments.command("plan")(plan)
    experiments.command("list")(list_all)
    experiments.command("start")(start)
    experiments.command("show")(show)
    experiments.command("accept")(accept)
    experiments.command("stop")(stop)
    app.add_typer(experiments, name="experiment")


def plan(
    role: Annotated[str, typer.Argument(help="Agent role.")],
    profile: Profile = "default",
    changes: Changes = None,
    baseline: Annotated[
        float | None, typer.Option(help="Success rate to reckon with, 0-1; default: the present.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what an experiment could show at the role's traffic, and in how many days."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.experiment import outlook, plan_from

    require_current()
    with session_scope() as session:
        found = asdict(
            outlook(session, role, plan_from(profile, **plan_changes(changes or [])), baseline)
        )
    if as_json:
        print_json(found)
        return
    sizes, advice = found.pop("sizes"), found.pop("advice")
    print_fields(_outlook_readable(found))
    print_table(
        ("gain", "units per arm: half of cases", "4 of 5", "days: half of cases", "4 of 5"),
        [
            (
                f"{100 * size['effect']:g} points",
                size["median"],
                size["p80"],
                _days(size["days_median"]),
                _days(size["days_p80"]),
            )
            for size in sizes
        ],
        "No success rate is known yet.",
    )
    for sentence in advice:
        typer.echo(sentence)


def _outlook_readable(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **found,
        "tasks_per_day": f"{found['tasks_per_day']:.1f}",
        "units_per_day": f"{found['units_per_day']:.1f}",
        "baseline": percent(found["baseline"]),
        "smallest_gain": percent(found["smallest_gain"]),
        "ramp_days": _days(found["ramp_days"]),
    }


def _days(days: float | None) -> str | None:
    return None if days is None else f"{days:.0f}"


def plan_changes(said: Sequence[str]) -> dict[str, Any]:
    """Return the fields that `--set name=value` changes; a value is JSON, or else a word."""
    from foundation.errors import BadInput

    changes = {}
    for one in said:
        name, equals, value = one.partition("=")
        if not equals:
            raise BadInput(
                "--set", one, "name=value, such as alpha=0.01", "See docs/experiments.md."
            )
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value
    return changes


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
        ("experiment", "role", "kind", "status", "share", "started", "ended"),
        [
            (
                e.id,
                e.role,
                e.kind,
                "proposed" if e.proposed_at and not e.ended_at else e.status,
                f"{e.treatment_share:.0%}",
                e.started_at,
                e.ended_at,
            )
            for e in found
        ],
        "No experiments yet: flywheel experiment start VERSION",
    )


def start(
    version: Annotated[str, typer.Argument(help="Model version that gets a share of the tasks.")],
    share: Annotated[
        float | None, typer.Option(help="Share of tasks for it at once, 0-1; default: the ramp.")
    ] = None,
    profile: Profile = "default",
    unit: Annotated[
        str | None, typer.Option(help="What keeps its arm: episode, user or agent.")
    ] = None,
    outcome: Annotated[
        str | None, typer.Option(help="What is compared: success, score or preference.")
    ] = None,
    changes: Changes = None,
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
    wanted = plan_changes(changes or [])
    if share is not None:
        wanted |= {"treatment_share": share, "ramp": ()}
    wanted |= {"unit_kind": unit} if unit else {}
    wanted |= {"outcome_kind": outcome} if outcome else {}
    with session_scope() as session:
        treatment = get_version(session, version)
        chosen = plan_from(profile, **wanted)
        actor = get_settings().admin_user
        experiment = start_experiment(session, treatment.role, treatment, chosen, actor)
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


def _readable(found: dict[str, Any]) -> dict[str, Any]:
    evidence = found.pop("evidence")
    rates = {arm: percent(rate) for arm, rate in found.pop("success_rate").items()}
    return {**found, "success rate": rates, **evidence}


def accept(
    experiment: Annotated[str, typer.Argument(help="Experiment id.")],
    reason: Reason = "accepted",
    as_json: AsJson = False,
) -> None:
    """Promote what an experiment proposes, where the role's auto_promote leaves that to you."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.experiment import accept as accept_experiment
    from router.experiment import get_experiment
    from serving.deploy import prepare

    require_current()
    with session_scope() as session:
        found = get_experiment(session, as_uuid("experiment", experiment))
        actor = get_settings().admin_user
        decision = accept_experiment(session, found, actor, reason, prepare)
    answer = decision.model_dump(mode="json")
    print_json(answer) if as_json else print_fields(answer)


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
