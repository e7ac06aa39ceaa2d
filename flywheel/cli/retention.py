"""Commands about retention: what is past it, and its end."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli.output import AsJson, print_fields, print_json, print_table

if TYPE_CHECKING:
    from flywheel.retention import Ending


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    retention = typer.Typer(help="How long each part of the data is kept.", no_args_is_help=True)
    retention.command("show")(show)
    retention.command("apply")(apply)
    app.add_typer(retention, name="retention")


def show(as_json: AsJson = False) -> None:
    """Show the policy, and what is past it: weeks, rows and bytes."""
    from dataclasses import asdict

    from flywheel import retention
    from flywheel.schema import require_current
    from foundation.settings import get_settings

    require_current()
    policy = retention.policy_of(get_settings())
    found = retention.show(policy)
    if as_json:
        print_json({"policy": asdict(policy), "past": [one.as_json() for one in found]})
        return
    print_fields(
        {
            part: "kept for ever" if (days := policy.days_of(part)) is None else f"{days} days"
            for part in (retention.PAYLOAD, retention.METADATA, retention.ARTIFACTS)
        }
    )
    _print(found, "Nothing is past its retention.")


def apply(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """End the retention of what is past it, now; the scheduler does it once a day."""
    from flywheel import retention
    from flywheel.schema import require_current
    from foundation.settings import get_settings

    require_current()
    policy = retention.policy_of(get_settings())
    found = retention.show(policy) if dry_run else list(retention.apply(policy))
    if as_json:
        print_json([one.as_json() for one in found])
        return
    _print(found, "Nothing is past its retention.")


def _print(found: "Iterable[Ending]", empty: str) -> None:
    rows = [
        (
            one.part,
            one.what,
            one.week,
            one.n_rows,
            one.n_bytes or None,
            "yes" if one.is_done else one.why,
        )
        for one in found
    ]
    print_table(("part", "what", "week of", "rows", "bytes", "gone"), rows, empty)
