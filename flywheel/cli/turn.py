"""The command that turns the wheel once for real."""

from typing import Annotated

import typer

from flywheel.cli.output import AsJson, console, notes, print_json


def turn(
    roles: Annotated[list[str], typer.Argument(help="Agent roles to turn the wheel for.")],
    suite: Annotated[
        list[str] | None, typer.Option(help="Benchmark of a role, as role=suite; repeatable.")
    ] = None,
    general: Annotated[
        str | None,
        typer.Option(
            help="Suite to see what was forgotten by; default: general, where that is stored."
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Base model; default: what trainer.choose_base says.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Training recipe preset; default: the role's own recipe.")
    ] = None,
    profile: Annotated[str, typer.Option(help="Thresholds: standard or demo.")] = "standard",
    budget_usd: Annotated[float | None, typer.Option(help="Budget of the project.")] = None,
    timeline_weeks: Annotated[float | None, typer.Option(help="Weeks until it is due.")] = None,
    time_budget_h: Annotated[
        float | None, typer.Option(help="Hours that a training on a CPU may take.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Retrain even where the rule says wait.")] = False,
    as_json: AsJson = False,
) -> None:
    """Curate, decide, train, benchmark and start an experiment; needs a worker and an engine."""
    from flywheel.cycle import TurnRecipe, explain
    from flywheel.cycle import turn as turn_wheel
    from flywheel.demo.screen import Screen
    from flywheel.schema import require_current
    from foundation.errors import BadInput
    from router.experiment import PLANS
    from trainer.recipe import preset as preset_of
    from trainer.registry import require_role

    require_current()
    suites = {}
    for pair in suite or []:
        role, equals, name = pair.partition("=")
        if not equals or not name:
            raise BadInput("--suite", pair, "role=suite, such as coder=humaneval", "Correct it.")
        suites[role] = name
    for role in (*roles, *suites):
        require_role(role)
    recipe = TurnRecipe(
        suites=suites,
        general=general,
        training=dict.fromkeys(roles, preset_of(preset)) if preset else {},
        experiment=PLANS["demo" if profile == "demo" else "default"],
        profile=profile,
        base_models=dict.fromkeys(roles, base) if base else {},
        budget_usd=budget_usd,
        timeline_weeks=timeline_weeks,
        time_budget_h=time_budget_h,
        is_asked_for=force,
    )
    screen = Screen(notes, quiet=as_json)
    with screen.step("turn", f"Turning the wheel for {', '.join(roles)}") as tell:
        done = turn_wheel(roles, recipe, lambda stage, part, whole: tell(part, whole))
    if as_json:
        print_json({role: explain(found) for role, found in done.items()})
        return
    for role, found in done.items():
        ending = found.ended_because or f"experiment {found.experiment_id} has started"
        console.print(f"[bold]{role}[/bold]: {ending}", highlight=False)
