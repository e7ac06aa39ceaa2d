"""The command that sends the log on to an OpenTelemetry backend."""

import time
from datetime import datetime
from typing import Annotated

import typer

from flywheel.cli.output import AsJson, print_fields, print_json, progress_bar

FOLLOW_EVERY_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(help="The log for OpenTelemetry backends.", no_args_is_help=True)
    group.command()(export)
    app.add_typer(group, name="otel")


def export(
    endpoint: Annotated[
        str, typer.Option(help="OTLP/HTTP base URL; /v1/traces and /v1/logs are added.")
    ],
    since: Annotated[
        datetime | None,
        typer.Option(help="Send again what was ingested from this UTC time on."),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="Header of every request as name=value; repeatable.")
    ] = None,
    content: Annotated[
        bool, typer.Option(help="Send messages, tools and texts too, not only figures.")
    ] = False,
    follow: Annotated[bool, typer.Option(help="Go on with what comes, until interrupted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send interactions as gen_ai spans and feedback as events; again sends only what is new."""
    from datetime import UTC

    from collector.otel.export import Exporter
    from flywheel.schema import require_current

    require_current()
    exporter = Exporter(endpoint, _headers(header or []), content)
    start = since.replace(tzinfo=UTC) if since is not None and since.tzinfo is None else since
    with progress_bar("exporting", as_json) as update:
        try:
            exporter.export(start)
            while follow:
                update(exporter.done.interactions, None, "interactions")
                time.sleep(FOLLOW_EVERY_S)
                exporter.export()
        finally:
            exporter.client.close()
            done = exporter.done.as_dict()
            print_json(done) if as_json else print_fields(done)


def _headers(given: list[str]) -> dict[str, str]:
    """Return headers by name; raises BadInput."""
    from foundation.errors import BadInput

    headers = {}
    for header in given:
        name, equals, value = header.partition("=")
        if not equals or not name.strip():
            raise BadInput("--header", name, "name=value", "Write for example x-api-key=KEY.")
        headers[name.strip().lower()] = value
    return headers
