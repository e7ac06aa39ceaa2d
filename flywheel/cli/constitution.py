"""Commands for critique and revision by principles: do a round, look at what came of it."""

from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.output import AsJson, do_job, print_fields, print_json, print_table

_SHOWN_CHARS = 60


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(help="Critique and revision by principles.", no_args_is_help=True)
    group.command("run")(run)
    group.command("show")(show)
    group.command("principles")(principles)
    app.add_typer(group, name="constitution")


PrinciplesFile = Annotated[
    Path | None,
    typer.Option("--principles", help="YAML file of principles; by default the four of ours."),
]


def run(
    role: Annotated[str, typer.Option(help="Agent role whose training prompts are taken.")],
    model: Annotated[str, typer.Option(help="Model that criticises and revises.")],
    file: PrinciplesFile = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts at most.")] = 100,
    calls: Annotated[
        int | None, typer.Option(min=1, help="Calls of the model at most; by default 3 a prompt.")
    ] = None,
    answers: Annotated[
        str, typer.Option(help="What is revised: fresh answers, or logged ones.")
    ] = "fresh",
    queue: Annotated[bool, typer.Option(help="Hand it to a worker, do not wait.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have a model criticise answers under a principle and revise them; keep revisions as pairs."""
    from curation.constitution.principles import load
    from curation.constitution.revise import CALLS_OF_A_PROMPT, Round
    from curation.recipe import CurationRecipe
    from flywheel.schema import require_current

    constitution = load(file)
    calls = calls or prompts * CALLS_OF_A_PROMPT
    Round(role, model, constitution, prompts, calls, answers)  # checks what was given
    require_current()
    params = {
        "role": role,
        "recipe": CurationRecipe().as_json(),
        "model": model,
        "principles": constitution.as_json(),
        "n_prompts": prompts,
        "calls": calls,
        "answers": answers,
    }
    kind = "curation.constitution"
    result = do_job("revising answers", kind, params, role, queue=queue, quiet=as_json)
    print_json(result) if as_json else print_fields(result)


def show(
    role: Annotated[str, typer.Option(help="Agent role.")],
    outcome: Annotated[
        str | None,
        typer.Option(help="revised, nothing_wrong, unchanged, unreadable or cut."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Prompts at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List what came of a role's prompts, newest first: principle, critique, revision."""
    from sqlmodel import col, select

    from curation.tables import ConstitutionRevision
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope

    require_current()
    query = select(ConstitutionRevision).where(ConstitutionRevision.role == role)
    if outcome is not None:
        query = query.where(ConstitutionRevision.outcome == outcome)
    with session_scope() as session:
        newest = query.order_by(col(ConstitutionRevision.id).desc()).limit(limit)
        rows = [explain_row(row) for row in session.exec(newest)]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("principle", "outcome", "critique", "answer", "revision"),
        [
            (
                row["principle"],
                row["outcome"],
                *(_beginning(row[name] or "") for name in ("critique", "original", "revision")),
            )
            for row in rows
        ],
        f"Nothing yet. Begin: flywheel constitution run --role {role} --model MODEL",
    )


def principles(file: PrinciplesFile = None, as_json: AsJson = False) -> None:
    """Print the principles as the YAML file that they are; with a file, check it."""
    from curation.constitution.principles import default_text, load

    constitution = load(file)
    if as_json:
        print_json(constitution.as_json())
        return
    typer.echo(file.read_text() if file else default_text(), nl=False)


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else f"{line[: _SHOWN_CHARS - 1]}…"
