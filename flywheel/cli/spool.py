"""Commands about the spools: what waits in them, and shipping it from here."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli.output import AsJson, console, print_fields, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from collector.spool.inspection import Totals, WriterStatus
    from collector.transport import Transport

Folders = Annotated[
    list[Path] | None,
    typer.Argument(help="Folders of spools; by default all in FLYWHEEL_HOME/spool."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    spool = typer.Typer(help="Records that wait on this machine.", no_args_is_help=True)
    spool.command("status")(status)
    spool.command("drain")(drain)
    app.add_typer(spool, name="spool")


def status(folders: Folders = None, as_json: AsJson = False) -> None:
    """Show what waits, who writes it, and the books; exit code 1 if they do not close."""
    from collector.spool.inspection import inspect, total

    found = [writer for folder in _folders(folders) for writer in inspect(folder)]
    totals = total(found)
    if as_json:
        print_json({"writers": [_as_json(writer) for writer in found], "total": _fields(totals)})
    else:
        _print_writers(found)
        if found:
            _print_books(totals)
    if totals.difference:
        raise typer.Exit(1)


def drain(
    folders: Folders = None,
    url: Annotated[
        str | None, typer.Option(help="Service to ship to; by default straight to the database.")
    ] = None,
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the service's key.")
    ] = "FLYWHEEL_API_KEY",
    follow: Annotated[
        bool, typer.Option(help="Go on with what living clients write, until interrupted.")
    ] = False,
    retry_held: Annotated[bool, typer.Option(help="Scrub and send again what is held.")] = False,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds without an answer before giving up.")
    ] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Ship what waits, each record once; exit code 1 if anything is left."""
    from collector.spool import draining
    from router.recording import CallPreparer

    with progress_bar("shipping", as_json) as update:
        left = draining.drain(
            _folders(folders),
            _transport(url, os.environ.get(api_key_env)),
            follow=follow,
            retry_held=retry_held,
            patience_s=patience,
            prepare=CallPreparer(),
            progress=lambda done, todo: update(done, max(done, todo), "records"),
        )
    print_json(_fields(left)) if as_json else _print_left(left)
    if left.waiting or left.held:
        raise typer.Exit(1)


def _transport(url: str | None, api_key: str | None) -> "Transport":
    """Return the way to the service, or to the database; the latter counts for experiments too."""
    if url is not None:
        from collector.transport import HttpTransport

        return HttpTransport(url, api_key)
    from flywheel.schema import require_current
    from router.recording import IngestTransport

    require_current()
    return IngestTransport()


def _folders(given: list[Path] | None) -> list[Path]:
    """Return the folders asked for, or each one in the home that holds a writer.

    Raises:
        BadInput: a folder does not exist.
    """
    from collector.spool.writer import WRITER_BOOK
    from foundation.errors import BadInput
    from foundation.settings import get_settings

    for folder in given or ():
        if not folder.is_dir():
            raise BadInput("folder of a spool", str(folder), "a folder", "Look at FLYWHEEL_SPOOL.")
    if given:
        return given
    home = get_settings().home / "spool"
    return sorted({book.parent.parent for book in home.rglob(WRITER_BOOK)})


def _print_writers(found: "list[WriterStatus]") -> None:
    print_table(
        ("folder", "writer", "process", "waiting", "bytes", "oldest", "held", "rejected"),
        [
            (
                one.folder,
                one.name,
                "alive" if one.alive else "gone",
                one.books["waiting"],
                one.waiting_bytes,
                _age(one.oldest),
                one.books["held"],
                one.rejected,
            )
            for one in found
        ],
        "Nothing waits.",
    )


def _print_books(totals: "Totals") -> None:
    fields = _fields(totals)
    console.print()
    print_fields(
        {
            "waiting": f"{totals.waiting} records, {totals.waiting_bytes} bytes",
            "oldest": _age(totals.oldest),
            "rejected": f"{totals.rejected} of the delivered, answered with a refusal",
            "dropped": ", ".join(f"{n} {why}" for why, n in sorted(totals.dropped.items())) or "0",
            "books": (
                f"seen {totals.seen} = delivered {totals.delivered} + waiting {totals.waiting} "
                f"+ held {totals.held} + damaged {totals.damaged} "
                f"+ dropped {sum(totals.dropped.values())}; difference {fields['difference']}"
            ),
        }
    )


def _print_left(left: "Totals") -> None:
    if not left.waiting and not left.held:
        console.print("Nothing is left.")
        return
    print_fields({"waiting": left.waiting, "held": left.held})
    if left.held:
        console.print("Held records could not be scrubbed or sent; try them with --retry-held.")


def _fields(totals: "Totals") -> dict[str, object]:
    return {**vars(totals), "difference": totals.difference}


def _as_json(one: "WriterStatus") -> dict[str, object]:
    return {**vars(one), "folder": str(one.folder), "difference": one.difference}


def _age(moment: float | None) -> str | None:
    """Return how long ago a Unix time was, such as `12 s` or `3.5 h`."""
    if moment is None:
        return None
    seconds = max(0.0, time.time() - moment)
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 3600:.1f} h"
