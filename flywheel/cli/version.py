"""The one option of the command line itself."""

from typing import Annotated

import typer

from foundation.version import VERSION


def _show(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"flywheel {VERSION}")
        raise typer.Exit


def show_version(
    version: Annotated[
        bool, typer.Option("--version", callback=_show, is_eager=True, help="Say which this is.")
    ] = False,
) -> None:
    """Take what stands before a command."""
