"""The demo command."""

import sys
from typing import Annotated

import typer

from flywheel.cli.output import AsJson, console, notes, print_json, print_line


def demo(
    seed: Annotated[int, typer.Option(help="Draws tasks, answers and adapters.")] = 0,
    rounds: Annotated[int, typer.Option(help="How often to turn the wheel.")] = 1,
    sabotage: Annotated[
        str | None, typer.Option(help="Role to train on failing answers: it must not win.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn the whole wheel on this machine with a tiny model: under five minutes, all real."""
    from flywheel.demo.report import print_report
    from flywheel.demo.screen import Screen
    from flywheel.demo.story import DemoOptions, run_demo
    from flywheel.invite import link_if_any
    from foundation.settings import get_settings

    port = get_settings().port  # the demo takes free ones for itself
    screen = Screen(notes, quiet=as_json)
    with screen.heeding_interrupts():
        report = run_demo(DemoOptions(seed, rounds, sabotage), screen)
    link = link_if_any(port)
    if as_json:
        print_json({**report.as_json(), "sign in": link})
        return
    print_report(report, console)
    if link and sys.stdout.isatty():
        console.print("\nAfter flywheel up, sign in by its link, or in 15 minutes by this one:")
        print_line(link)
