"""Commands that run the product's processes, and the database schema."""

import signal
import threading
from typing import Annotated, Any

import typer

from flywheel.cli.output import AsJson, console, print_fields, print_json, print_table

Port = Annotated[int | None, typer.Option(help="TCP port; default from the settings.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (up, serve, gateway, engine, worker, scheduler, status):
        app.command()(command)
    database = typer.Typer(help="The database schema.", no_args_is_help=True)
    database.command()(upgrade)
    database.command()(check)
    app.add_typer(database, name="db")


def up() -> None:
    """Run everything on this machine: database, worker, scheduler, engine, gateway, admin view."""
    from flywheel.up import run_everything

    run_everything(console.print)


def serve(port: Port = None) -> None:
    """Serve the ingest and stage APIs and the admin view."""
    from flywheel.app import create_app
    from flywheel.schema import require_current
    from foundation.settings import get_settings

    require_current()
    _run_server(create_app(), get_settings().port if port is None else port)


def gateway(port: Port = None) -> None:
    """Serve the OpenAI-compatible gateway that agents talk to."""
    from router.gateway import create_gateway_app

    from flywheel.schema import require_current
    from foundation.settings import get_settings

    require_current()
    _run_server(create_gateway_app(), get_settings().gateway_port if port is None else port)


def engine(
    base: Annotated[
        str | None, typer.Option(help="Folder of the base model; default: who serves now.")
    ] = None,
    port: Port = None,
) -> None:
    """Serve a base model and its adapters, OpenAI-compatible, in this process."""
    from flywheel.up import base_to_serve
    from foundation.settings import get_settings
    from serving.api import create_engine_app

    settings = get_settings()
    app = create_engine_app(base or base_to_serve(), settings.torch_threads or None)
    _run_server(app, settings.engine_port if port is None else port)


def worker(
    queues: Annotated[str, typer.Option(help="Queues to work on.")] = "ingest,cpu,gpu",
    concurrency: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
) -> None:
    """Work on jobs until told to stop."""
    from flywheel.worker import run_worker

    run_worker(queues.split(","), concurrency)


def scheduler() -> None:
    """Sweep lost runs, watch experiments, make partitions; one of several leads."""
    from flywheel.scheduler import run_scheduler

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run_scheduler(stop)


def status(as_json: AsJson = False) -> None:
    """Show per role what was logged, learned and decided, and what runs now."""
    from flywheel.schema import require_current
    from flywheel.status import wheel_status

    require_current()
    found = wheel_status()
    if as_json:
        print_json(found)
        return
    columns = ("logged", "dataset", "trainings", "versions", "verdict", "serving", "experiment")
    rows = [(role, *(row.get(name) for name in columns)) for role, row in found["roles"].items()]
    print_table(("role", *columns), rows, "No roles are configured: set FLYWHEEL_ROLES.")
    console.print()
    print_table(
        ("run", "kind", "role", "status", "progress"),
        [(r["id"], r["kind"], r["role"], r["status"], _progress(r)) for r in found["runs"]],
        "No runs under way.",
    )


def upgrade(as_json: AsJson = False) -> None:
    """Bring the schema to this version of the code."""
    from flywheel import schema

    revision = schema.upgrade()
    print_json({"revision": revision}) if as_json else print_fields({"schema revision": revision})


def check(as_json: AsJson = False) -> None:
    """Check that the schema is the one of this code; exit code 1 if anything differs."""
    from flywheel import schema

    schema.require_current()
    differing = schema.differences()
    if as_json:
        print_json({"revision": schema.expected_revision(), "differences": differing})
    else:
        revision = schema.expected_revision()
        print_fields({"schema revision": revision, "differences": len(differing)})
        for line in differing:
            console.print(line)
    raise typer.Exit(1 if differing else 0)


def _progress(run: dict[str, Any]) -> str:
    progress = run["progress"]
    return f"{progress['done']:g}/{progress['total']:g} {progress['unit']}" if progress else "–"


def _run_server(app: Any, port: int) -> None:
    import uvicorn

    from foundation.settings import get_settings, require_safe_binding

    settings = get_settings()
    require_safe_binding(settings.host, settings.api_key)
    uvicorn.run(app, host=settings.host, port=port, log_level=settings.log_level.lower())
