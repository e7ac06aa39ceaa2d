"""Commands of active collection: run a campaign, look at it, stop it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from flywheel.cli.output import (
    AsJson,
    console,
    do_job,
    notes,
    percent,
    print_fields,
    print_json,
    print_table,
    progress_bar,
)

if TYPE_CHECKING:
    from collector.campaign import Progress
    from collector.tables import Campaign


class FileOrCommand(TyperGroup):
    """A group in which a YAML file in the place of a command means `run`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments ask for."""
        if args and args[0].endswith((".yaml", ".yml")):
            args = ["run", *args]
        return super().resolve_command(ctx, args)


commands = typer.Typer(
    cls=FileOrCommand,
    help="Active collection: let models answer tasks for a role, within limits. "
    "`flywheel campaign FILE.yaml` runs one.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="Name of the campaign.")]
Queue = Annotated[bool, typer.Option("--queue", help="Hand it to a worker, do not wait.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(commands, name="campaign")


@commands.command("run")
def run_file(
    file: Annotated[Path, typer.Argument(help="YAML file of the campaign.")],
    queue: Queue = False,
    as_json: AsJson = False,
) -> None:
    """Start the campaign of a file, or go on with it; Ctrl-C pauses, a second one quits."""
    from collector.campaign import create
    from collector.campaign.spec import read_spec
    from flywheel.schema import require_current
    from foundation.database import session_scope

    spec = read_spec(file)
    require_current()
    with session_scope() as session:
        name, role = create(session, spec).name, spec.role
    _run(name, role, queue, as_json)


@commands.command()
def resume(name: Name, queue: Queue = False, as_json: AsJson = False) -> None:
    """Go on with a campaign that was paused, interrupted or killed; what failed is tried again."""
    from collector.campaign import find
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        role = find(session, name).role
    _run(name, role, queue, as_json)


@commands.command()
def pause(name: Name) -> None:
    """Stop a campaign for now, wherever it runs; the calls in hand are finished."""
    from collector import campaign

    _tell(campaign.pause, name)


@commands.command()
def cancel(name: Name) -> None:
    """End a campaign for good; what it collected stays."""
    from collector import campaign

    _tell(campaign.cancel, name)


@commands.command()
def status(name: Name, as_json: AsJson = False) -> None:
    """Show how far a campaign is."""
    from collector.campaign import find
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        fields = _fields(session, find(session, name))
    print_json(fields) if as_json else print_fields(fields)


@commands.command("list")
def list_campaigns(as_json: AsJson = False) -> None:
    """Show all campaigns, the newest first."""
    from collector.campaign import everyone
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        rows = [_fields(session, campaign) for campaign in everyone(session)]
    if as_json:
        print_json(rows)
        return
    columns = ("name", "role", "status", "done", "target", "cost_usd", "reason")
    shown = [[row[column] for column in columns] for row in rows]
    print_table(columns, shown, "No campaign yet. Start one: flywheel campaign run FILE.yaml")


@commands.command()
def report(name: Name, as_json: AsJson = False) -> None:
    """Show what a campaign has brought so far: its quality report."""
    from collector.campaign import find, report_of
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        found = report_of(session, find(session, name))
    print_json(found) if as_json else _print_report(found)


def _run(name: str, role: str, queue: bool, as_json: bool) -> None:
    from collector import campaign
    from collector.campaign.answering import DONE
    from collector.campaign.spec import spec_of
    from flywheel.campaigns import checker_for
    from foundation.database import session_scope

    if queue:
        fields = do_job(
            "campaign", "collector.campaign", {"name": name}, role, queue=True, quiet=True
        )
        print_json(fields) if as_json else print_fields(fields)
        return
    with session_scope() as session:
        spec = spec_of(campaign.find(session, name).spec)
    with checker_for(spec) as check, progress_bar(name, as_json) as update:

        def show(progress: "Progress") -> None:
            done = progress.n_target - progress.n_left
            update(done, progress.n_target, _told(progress))

        ended = campaign.run(name, check=check, on_progress=show)
    if as_json:
        print_json({"name": name, "status": ended.status, "reason": ended.reason, **_report(ended)})
    else:
        _print_report(_report(ended))
    if ended.status != DONE:
        notes.print(f"{ended.status}: {ended.reason}. Go on: flywheel campaign resume {name}")
        sys.exit(130 if ended.reason == "interrupted" else 1)


def _report(campaign: "Campaign") -> dict[str, Any]:
    return dict(campaign.report or {})


def _told(progress: "Progress") -> str:
    """Return what a bar says beside its count: cost, time left, why it waits."""
    words = [f"${progress.cost_usd:.4f}"]
    if progress.eta_s is not None:
        minutes, seconds = divmod(round(progress.eta_s), 60)
        words.append(f"{minutes}:{seconds:02} left")
    if progress.n_duplicate or progress.n_failed:
        words.append(f"{progress.n_duplicate} duplicate, {progress.n_failed} failed")
    if progress.waiting:
        words.append(f"waiting: {progress.waiting}")
    return " · ".join(words)


def _tell(say: Any, name: str) -> None:
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        told = say(session, name)
    console.print(f"{name}: {told.status}")


def _fields(session: Any, campaign: "Campaign") -> dict[str, Any]:
    from collector.campaign import progress_of, status_of

    progress = progress_of(session, campaign)
    return {
        "name": campaign.name,
        "role": campaign.role,
        "status": status_of(session, campaign),
        "reason": campaign.reason,
        "target": progress.n_target,
        "done": progress.n_done,
        "duplicates": progress.n_duplicate,
        "failed": progress.n_failed,
        "cost_usd": round(progress.cost_usd, 6),
        "created_at": campaign.created_at.isoformat(),
    }


def _print_report(found: dict[str, Any]) -> None:
    counts = ("target", "answered", "accepted", "duplicates", "failed", "refusals", "truncations")
    lengths = found["length"] or {}
    print_fields(
        {
            **{name: found[name] for name in counts},
            "pass rate": f"{percent(found['pass_rate'])} of {found['checked']} checked",
            "unique answers": percent(found["unique_ratio"]),
            "length": ", ".join(f"{name} {value}" for name, value in lengths.items()) or None,
            "cost": f"${found['cost_usd']:.6f}",
            "cost per accepted": _dollars(found["cost_per_accepted_usd"]),
        }
    )
    for title in ("model", "topic", "difficulty"):
        groups = found[f"by_{title}"]
        if groups:
            console.print()
            rows = [
                (name, group["answered"], group["accepted"], percent(group["pass_rate"]))
                for name, group in groups.items()
            ]
            print_table((title, "answered", "accepted", "pass rate"), rows, "")
    if found["failures"]:
        console.print()
        print_table(("failed because", "tasks"), list(found["failures"].items()), "")


def _dollars(amount: float | None) -> str | None:
    return None if amount is None else f"${amount:.6f}"
