"""Commands for long jobs: look at them, stop one, let one go on."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli.output import (
    AsJson,
    as_uuid,
    console,
    finish_run,
    print_fields,
    print_json,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from foundation.tables import Run

commands = typer.Typer(help="Long jobs: builds, trainings, evaluations.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Id of the run.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(commands, name="run")


@commands.command("list")
def list_runs(
    status: Annotated[
        str | None, typer.Option(help="queued, running, done, failed or cancelled.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Job, such as curation.build.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Runs at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    from sqlmodel import col, select

    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.tables import Run

    require_current()
    query = select(Run).order_by(col(Run.id).desc()).limit(limit)
    if status is not None:
        query = query.where(Run.status == status)
    if kind is not None:
        query = query.where(Run.kind == kind)
    with session_scope() as session:
        shown = [_summary(run) for run in session.exec(query)]
    if as_json:
        print_json(shown)
        return
    print_table(
        ("run", "job", "role", "status", "progress", "since"),
        [
            (s["id"], s["kind"], s["role"], s["status"], s["progress"], _minute(s["since"]))
            for s in shown
        ],
        "No jobs yet.",
    )


@commands.command()
def show(run_id: Id, as_json: AsJson = False) -> None:
    """Show one job with what it was told, how far it is, what came of it or why it failed."""
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope
    from foundation.runs import get_run
    from trainer.card import rows_of

    require_current()
    with session_scope() as session:
        row = explain_row(get_run(session, as_uuid("run", run_id)))
    print_json(row) if as_json else print_fields(dict(rows_of(row)))


@commands.command()
def cancel(run_id: Id, as_json: AsJson = False) -> None:
    """Cancel a queued or running job; its worker stops at its next safe point."""
    import foundation.runs
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        run = foundation.runs.cancel(session, as_uuid("run", run_id))
        said = f"{run.kind} {run.id}: cancelled. What it had stored stays."
        if as_json:
            print_json({"run_id": str(run.id), "status": run.status})
            return
    console.print(said, soft_wrap=True)
    console.print(f"Undone by: flywheel run retry {run_id}", soft_wrap=True, highlight=False)


@commands.command()
def retry(
    run_id: Id,
    here: Annotated[
        bool, typer.Option(help="Do it in this process and wait, instead of a worker's.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a failed, cancelled or lost job again: the same run goes on from what it left."""
    import flywheel.worker  # noqa: F401  registers every room's jobs
    import foundation.runs
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.card import rows_of

    require_current()
    with session_scope() as session:
        run = foundation.runs.retry(session, as_uuid("run", run_id))
        kind, id_ = run.kind, run.id
    result = finish_run(kind, kind, id_, queue=not here, quiet=as_json)
    if as_json:
        print_json(result)
    elif here:
        print_fields(dict(rows_of(result)))
    else:
        console.print(f"{kind}: queued again, for a worker (flywheel worker)", soft_wrap=True)
        print_line(f"flywheel run show {id_}")


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _summary(run: "Run") -> dict[str, Any]:
    progress = run.progress or {}
    done = f"{progress['done']:g} of {progress['total']:g} {progress['unit']}" if progress else None
    return {
        "id": str(run.id),
        "kind": run.kind,
        "role": run.role,
        "status": run.status,
        "progress": done,
        "since": (run.started_at or run.created_at).isoformat(timespec="seconds"),
    }
