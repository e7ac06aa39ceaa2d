"""Commands on when a role is trained by itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli.output import AsJson, notes, print_fields, print_json, print_table

Role = Annotated[str, typer.Argument(help="Agent role.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    schedules = typer.Typer(help="Training that starts by itself.", no_args_is_help=True)
    schedules.command("set")(set_schedule)
    schedules.command("list")(list_schedules)
    schedules.command("show")(show)
    schedules.command("off")(turn_off)
    schedules.command("on")(turn_on)
    schedules.command("run-now")(run_now)
    app.add_typer(schedules, name="schedule")


def set_schedule(
    role: Role,
    every: Annotated[
        str | None, typer.Option(help="hourly, daily, weekly or monthly, UTC.")
    ] = None,
    on_new_examples: Annotated[
        int | None, typer.Option(help="Answered calls since the last training.")
    ] = None,
    on_corrections: Annotated[
        int | None, typer.Option(help="Corrected, preferred or badly rated answers since.")
    ] = None,
    on_drift: Annotated[bool, typer.Option(help="An alarm on who serves.")] = False,
    promote: Annotated[
        str, typer.Option(help="What becomes of a candidate: off, experiment or guarded.")
    ] = "off",
    suite: Annotated[str | None, typer.Option(help="Benchmark of the role.")] = None,
    general: Annotated[
        str | None, typer.Option(help="Suite to see what was forgotten by; default: general.")
    ] = None,
    without_suite: Annotated[
        bool, typer.Option(help="Swap unmeasured: the guard alone watches.")
    ] = False,
    margin: Annotated[
        float, typer.Option(help="Points on the suite that a guarded swap may cost, by the bound.")
    ] = 10.0,
    preset: Annotated[
        str | None, typer.Option(help="Recipe preset; default: the role's own recipe.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe YAML file, instead.")] = None,
    base: Annotated[str | None, typer.Option(help="Base model; default: of who serves.")] = None,
    as_json: AsJson = False,
) -> None:
    """Have a role trained by itself: at times, or by what happens; the scheduler orders it."""
    from flywheel import scheduling
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.promote import serving_version
    from trainer.schedule import Orders, Triggers

    require_current()
    orders = Orders(
        recipe=_recipe(preset, recipe),
        base_model=base,
        suite=suite,
        general=general,
        promote=promote,
        without_suite=without_suite,
        margin_points=margin,
    )
    triggers = Triggers(every, on_new_examples, on_corrections, on_drift)
    with session_scope() as session:
        row = scheduling.set_schedule(session, role, triggers, orders, actor=_actor())
        found = scheduling.explain(session, row)
        is_served = serving_version(session, role) is not None
    _print(found, as_json)
    _note_unserved(role, is_served)


def _recipe(preset: str | None, file: Path | None) -> dict[str, Any]:
    """Return the fields of a recipe; none for the role's own."""
    from foundation.errors import BadInput
    from trainer.recipe import Recipe

    if preset is not None and file is not None:
        raise BadInput("--preset", preset, "either a preset or a recipe file", "Leave one out.")
    if file is not None:
        return Recipe.from_yaml(file).to_dict()
    return {"preset": preset} if preset is not None else {}


def list_schedules(as_json: AsJson = False) -> None:
    """List the schedules: when each fires, what has come since, how the last iteration went."""
    from flywheel import scheduling
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        found = scheduling.list_explained(session)
    if as_json:
        print_json(found)
        return
    print_table(
        ("role", "on", "fires", "due", "examples", "corrections", "last", "iteration", "reason"),
        [_cells(one) for one in found],
        "No role is trained by itself: flywheel schedule set ROLE --every daily",
    )


def show(role: Role, as_json: AsJson = False) -> None:
    """Show a role's schedule: what it orders, what has come since, how the last one went."""
    from flywheel import scheduling
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.schedule import get_schedule

    require_current()
    with session_scope() as session:
        found = scheduling.explain(session, get_schedule(session, role))
    _print(found, as_json)


def turn_on(role: Role, as_json: AsJson = False) -> None:
    """Let a role's schedule hold again, as it was set; what came meanwhile counts."""
    from flywheel import scheduling
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.schedule import turn_on as turn_schedule_on

    require_current()
    with session_scope() as session:
        found = scheduling.explain(session, turn_schedule_on(session, role, _actor()))
    _print(found, as_json)


def turn_off(role: Role, as_json: AsJson = False) -> None:
    """Train a role by hand alone from now on; a run under way goes on. Undo it with: on."""
    from flywheel import scheduling
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.schedule import turn_off as turn_schedule_off

    require_current()
    with session_scope() as session:
        found = scheduling.explain(session, turn_schedule_off(session, role, _actor()))
    _print(found, as_json)


def run_now(role: Role, as_json: AsJson = False) -> None:
    """Order now what a role's schedule says, whatever its triggers say; a worker does it."""
    import flywheel.worker  # noqa: F401  registers the job
    from flywheel import scheduling
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.promote import serving_version

    require_current()
    with session_scope() as session:
        found = scheduling.explain(session, scheduling.run_now(session, role, _actor()))
        is_served = serving_version(session, role) is not None
    _print(found, as_json)
    _note_unserved(role, is_served)


def _note_unserved(role: str, is_served: bool) -> None:
    if not is_served:
        notes.print(
            f"Nobody serves {role} yet, so it would fail: flywheel promote VERSION --reason WHY",
            soft_wrap=True,
        )


def _actor() -> str:
    import getpass

    return getpass.getuser()


def _print(found: Mapping[str, Any], as_json: bool) -> None:
    from trainer.card import rows_of

    if as_json:
        print_json(found)
        return
    last = found["last"] or {}
    shown = {**found, "last": {**last, "reasons": " ".join(last.get("reasons", []))}}
    print_fields({name: value for name, value in rows_of(shown) if value not in (None, "")})


def _cells(one: Mapping[str, Any]) -> tuple[Any, ...]:
    last, triggers = one["last"] or {}, one["triggers"]
    fires = [
        *([one["every"]] if one["every"] else []),
        *(f"{triggers[name]} {name.replace('_', ' ')}" for name in _COUNTED if triggers.get(name)),
        *(["drift"] if triggers.get("drift") else []),
    ]
    state = f"run {one['under_way']}" if one["under_way"] else last.get("outcome")
    took = last.get("iteration_s")
    return (
        one["role"],
        "yes" if one["is_on"] else "no",
        ", ".join(fires),
        one["retry_at"] or one["due_at"],
        one["n_new_examples"],
        one["n_corrections"],
        state or last.get("status"),
        None if took is None else f"{took:,.0f} s",
        " ".join(last.get("reasons") or []) or None,
    )


_COUNTED = ("new_examples", "corrections")
