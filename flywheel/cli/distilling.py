"""Commands that have a teacher teach by its answers."""

from typing import Annotated

import typer

from flywheel.cli.output import AsJson, finish_run, print_fields, print_json


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(help="Learning from a teacher.", no_args_is_help=True)
    group.callback()(_group)
    group.command("answers")(answers)
    app.add_typer(group, name="distill")


def _group() -> None:
    """Keep `answers` a command of its group."""


def answers(
    role: Annotated[str, typer.Option(help="Agent role whose training prompts are answered.")],
    teacher: Annotated[
        str,
        typer.Option(help="Model version that our server runs, upstream's model, litellm name."),
    ],
    prompts: Annotated[int, typer.Option(min=1, help="Prompts at most.")] = 100,
    check: Annotated[
        str | None, typer.Option(help="module:function that says whether an answer is right.")
    ] = None,
    trust: Annotated[
        bool, typer.Option(help="Rate every whole answer 5 that no check spoke about.")
    ] = False,
    queue: Annotated[bool, typer.Option(help="Hand it to a worker, do not wait.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have a teacher answer a role's training prompts, those it failed first, for its dataset."""
    from flywheel.schema import require_current
    from flywheel.teaching import TEACH_JOB, start_teaching
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        order = start_teaching(session, role, teacher, prompts, check=check, trust=trust)
        run_id = order.id
    result = finish_run("asking the teacher", TEACH_JOB, run_id, queue=queue, quiet=as_json)
    print_json(result) if as_json else print_fields(result)
