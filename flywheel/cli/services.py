"""Commands that run the product's processes, and the database schema."""

import os
import signal
import sys
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any
from uuid import UUID

import typer

from flywheel.cli.output import AsJson, console, print_fields, print_json, print_line, print_table

Workers = Annotated[int, typer.Option(min=1, help="Processes that share the port.")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="TCP port; default from the settings.")
]

MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=0, max=65535, help="Port of /healthz, /readyz and /metrics; default from the settings."
    ),
]

START_S = 60
"""Seconds in which one of several processes must have begun to answer its parent: on a busy machine
its imports alone take longer than uvicorn's five, after which it would be killed, for ever."""

STOP_AFTER_S = 10
"""Seconds that requests under way are given when the service is stopped."""


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (up, serve, gateway, engine, worker, scheduler, status):
        app.command()(command)
    database = typer.Typer(help="The database schema.", no_args_is_help=True)
    database.command()(upgrade)
    database.command()(check)
    database.command()(downgrade)
    app.add_typer(database, name="db")


def up(as_json: AsJson = False) -> None:
    """Run everything on this machine: database, worker, scheduler, engine, gateway, admin view."""
    from flywheel.up import run_everything

    run_everything(print_json if as_json else _print_addresses)


def _print_addresses(addresses: dict[str, str | None]) -> None:
    shown = {name: url for name, url in addresses.items() if name != "sign in"}
    print_fields({name: url or "no base model to serve yet" for name, url in shown.items()})
    _print_link(addresses["sign in"], "Sign in, once, within 15 minutes (later: flywheel login):")
    console.print("Ctrl-C stops everything.")


def _print_link(link: str | None, title: str) -> None:
    """Print a one-time link, whole on a line; where nobody reads along, how to get one instead."""
    if link and sys.stdout.isatty():
        console.print(title)
        print_line(link)
    else:
        console.print("To sign in to the admin view: flywheel login")


def serve(
    port: Port = None,
    workers: Workers = 1,
    as_json: AsJson = False,
) -> None:
    """Serve the ingest and stage APIs and the admin view; prints how the first user signs in."""
    from flywheel.doors import PROCESSES
    from flywheel.invite import first_link
    from flywheel.schema import require_current
    from foundation.settings import get_settings, require_safe_binding
    from router.connections import MOST_CONNECTIONS, bounded_options

    require_current()
    settings = get_settings()
    require_safe_binding(settings.host, settings.api_key, settings.metrics_key)
    port = settings.port if port is None else port
    # Not where the output is a log: whoever reads that later is not who started this.
    link = first_link(port) if as_json or sys.stdout.isatty() else None
    if not as_json:
        _print_link(link, "Nobody can sign in yet. The first one can by this link, in 15 minutes:")
    told = {"sign in": link} if link else {}
    # A page that follows a run would else hold a stop up for as long as its stream lasts.
    stopping = {"timeout_graceful_shutdown": STOP_AFTER_S}
    bounds = {**bounded_options(), "limit_concurrency": MOST_CONNECTIONS}
    os.environ[PROCESSES] = str(workers)  # each holds its share of the limits of keys
    app = "flywheel.app:create_process_app"
    _run_server("serve", app, port, as_json, workers, told, **stopping, **bounds)


def gateway(port: Port = None, workers: Workers = 1, as_json: AsJson = False) -> None:
    """Serve the OpenAI-compatible gateway that agents talk to."""
    from flywheel.schema import require_current
    from foundation.settings import get_settings
    from router import upstreams
    from router.connections import server_options

    require_current()
    upstreams.configured()  # what is wrong there is said once, and not by every process
    port = get_settings().gateway_port if port is None else port
    app = "router.gateway:create_process_app"
    _run_server("gateway", app, port, as_json, workers, {}, **server_options())


def engine(
    base: Annotated[
        str | None, typer.Option(help="Folder of the base model; default: who serves now.")
    ] = None,
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Serve a base model and its adapters, OpenAI-compatible, in this process."""
    from flywheel.up import base_to_serve
    from foundation import error_reports, meters, tracing
    from foundation.settings import get_settings, require_safe_binding
    from router.connections import bounded_options
    from serving.api import create_engine_app
    from serving.rows import Limits

    settings = get_settings()
    require_safe_binding(settings.host, settings.api_key, settings.metrics_key)
    tracing.configure(meters.ENGINE)
    error_reports.configure(meters.ENGINE)
    limits = Limits(
        rows=settings.engine_rows,
        kv_mb=settings.engine_kv_mb,
        prefix_mb=settings.engine_prefix_mb,
        adapters_mb=settings.engine_adapters_mb,
    )
    app = create_engine_app(
        base or base_to_serve(),
        settings.torch_threads or None,
        device=settings.engine_device,
        dtype=settings.engine_dtype,
        limits=limits,
        max_waiting=settings.engine_queue,
        bases_mb=settings.engine_bases_mb,
    )
    port = settings.engine_port if port is None else port
    _run_server("engine", app, port, as_json, **bounded_options())


def worker(
    queues: Annotated[str, typer.Option(help="Queues to work on.")] = "ingest,cpu,gpu",
    concurrency: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    at_most: Annotated[
        int | None, typer.Option(min=1, help="Worker processes while jobs pile up.")
    ] = None,
    max_jobs: Annotated[
        int | None, typer.Option(min=1, help="Jobs after which a process is replaced.")
    ] = None,
    max_memory_mb: Annotated[
        int | None, typer.Option(min=1, help="MiB beyond which one is, after its job.")
    ] = None,
    metrics_port: MetricsPort = None,
    as_json: AsJson = False,
) -> None:
    """Work on jobs until told to stop."""
    from flywheel.worker import Pool, run_worker

    pool = Pool(concurrency, at_most, max_jobs, max_memory_mb)

    if as_json:
        print_json({"service": "worker", "queues": queues.split(","), "concurrency": concurrency})
    run_worker(queues.split(","), pool, metrics_port)


def scheduler(metrics_port: MetricsPort = None, as_json: AsJson = False) -> None:
    """Sweep lost runs, watch experiments, make partitions; one of several leads."""
    from flywheel.ops_server import serve_ops
    from flywheel.scheduler import Standing, duties, run_scheduler
    from flywheel.schema import require_current
    from foundation import error_reports, logs, meters, tracing
    from foundation.settings import get_settings

    require_current()
    logs.configure(meters.SCHEDULER)
    tracing.configure(meters.SCHEDULER)
    error_reports.configure(meters.SCHEDULER)
    standing = Standing()
    port = get_settings().metrics_port if metrics_port is None else metrics_port
    if port is not None:
        serve_ops(port, standing.told, standing.families)
    if as_json:
        print_json({"service": "scheduler", "duties": [duty.name for duty in duties()]})
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run_scheduler(stop, standing=standing)
    tracing.stop()


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
        [(UUID(r["id"]), r["kind"], r["role"], r["status"], _progress(r)) for r in found["runs"]],
        "No runs under way.",
    )
    console.print()
    _print_books(found)


def _print_books(found: dict[str, Any]) -> None:
    """Print what became of the records of each source, and how many letters wait."""
    print_table(
        ("source", "seen", "spooled", "dropped", "stored", "again", "rejected", "missing"),
        [_books_row(books) for books in found["capture"]],
        "No record has arrived yet.",
    )
    letters = found["dead_letters"]
    if letters:
        by_code = ", ".join(f"{n} {code}" for code, n in letters.items())
        console.print(f"{sum(letters.values())} refused records wait: {by_code}. ", end="")
        console.print("See: flywheel dead-letters list")


def _books_row(books: dict[str, Any]) -> tuple[Any, ...]:
    """Return a source's line; what only writers' accounts tell is unknown without them."""
    told = books["writers"] > 0
    return (
        books["source"],
        books["seen"] if told else None,
        books["waiting"] + books["held"] if told else None,
        sum(books["dropped"].values()),
        books["stored"],
        books["duplicate"],
        sum(books["rejected"].values()),
        books["unaccounted"] if told else None,
    )


def upgrade(as_json: AsJson = False) -> None:
    """Bring the schema to this version of the code."""
    from flywheel import schema

    revision = schema.upgrade()
    print_json({"revision": revision}) if as_json else print_fields({"schema revision": revision})


def downgrade(
    revision: Annotated[str, typer.Argument(help="The older revision, such as 0007.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take revisions of the schema back; what they added is lost."""
    from flywheel import schema

    if not yes:
        typer.confirm("What newer revisions added is lost. Go on?", abort=True, err=True)
    said = {"schema revision": schema.downgrade(revision)}
    print_json(said) if as_json else print_fields(said)


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


def _run_server(
    name: str,
    app: Any,
    port: int,
    as_json: bool,
    workers: int = 1,
    told: Mapping[str, str] = MappingProxyType({}),
    **options: Any,
) -> None:
    """Run an application, or with its factory's address in `workers` processes, until stopped.

    `told` is said beside the address as JSON.
    """
    import uvicorn

    from foundation import logs, meters
    from foundation.settings import get_settings, require_safe_binding

    settings = get_settings()
    require_safe_binding(settings.host, settings.api_key, settings.metrics_key)
    if as_json:
        print_json({"service": name, "url": f"http://{settings.host}:{port}", **told})
    said_as = meters.SERVICE if name == "serve" else name
    logs.configure(said_as)
    shared = meters.make_folder(settings.home, said_as) if workers > 1 else None
    try:
        uvicorn.run(
            app,
            host=settings.host,
            port=port,
            log_level=settings.log_level.lower(),
            log_config=logs.configuration(said_as),
            factory=isinstance(app, str),
            workers=workers,
            timeout_worker_healthcheck=START_S,
            **options,
        )
    finally:
        if shared is not None:
            meters.remove_folder(shared)
