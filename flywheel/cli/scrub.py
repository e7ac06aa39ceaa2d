"""Commands for scrubbing: try a text, see the rules, scrub again what is stored."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from flywheel.cli.output import AsJson, console, print_fields, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from sqlmodel import Session


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(help="Removal of secrets and personal data.", no_args_is_help=True)
    group.command("test")(try_text)
    group.command("rules")(rules)
    group.command("rescan")(rescan_stored)
    app.add_typer(group, name="scrub")


def try_text(
    text: Annotated[str, typer.Argument(help="The text, or - to read it from standard input.")],
    as_json: AsJson = False,
) -> None:
    """Show what would be removed from a text: kinds and places, never the values."""
    from collector.scrub import Scrubber, server_rules

    read = sys.stdin.read() if text == "-" else text
    active = server_rules()
    found = active.findings(read)
    clean, counts = Scrubber(active).text(read)
    if as_json:
        places = [{"kind": f.kind, "start": f.start, "end": f.end} for f in found]
        print_json({"counts": dict(counts), "findings": places, "text": clean})
        return
    print_table(
        ("kind", "line", "column", "characters"),
        [(f.kind, *_place(read, f.start), f.end - f.start) for f in found],
        "Nothing would be removed.",
    )
    if found:
        console.print()
        console.out(clean, highlight=False)


def _place(text: str, start: int) -> tuple[int, int]:
    """Return line and column of a character, both from 1."""
    return text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)


def rules(as_json: AsJson = False) -> None:
    """List the kinds that are removed, and the version of the rules."""
    from collector.scrub import RULES, server_rules

    active = server_rules()
    listed: dict[str, dict[str, Any]] = {}
    for rule in RULES:
        entry = listed.setdefault(rule.kind, {"kind": rule.kind, "rules": 0, "keywords": []})
        entry["rules"] += 1
        entry["keywords"] += rule.keywords
    for custom in active.custom.rules:
        entry = listed.setdefault(custom.kind, {"kind": custom.kind, "rules": 0, "keywords": []})
        entry["rules"] += 1
        entry["keywords"] += custom.keywords
    names = active.find_names is not None
    if as_json:
        version = {"version": active.version, "names": names, "kinds": list(listed.values())}
        print_json(version)
        return
    print_table(
        ("kind", "rules", "keywords"),
        [(e["kind"], e["rules"], " ".join(e["keywords"]) or None) for e in listed.values()],
        "No rules.",
    )
    print_fields(
        {
            "version": active.version,
            "custom rules": len(active.custom.rules),
            "names and places": "by Presidio" if names else "not looked for",
        }
    )


def rescan_stored(
    role: Annotated[str | None, typer.Option(help="Only records of this role.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only what came at or after this time (UTC).")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Count what would be removed only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Scrub stored records again that were scrubbed by other rules; stopped, it can go on."""
    from collector.scrub.rescan import Scope, rescan
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    scope = Scope(role, since.replace(tzinfo=UTC) if since else None)
    with progress_bar("scrubbing again", as_json) as update:
        report = rescan(
            scope, dry_run=dry_run, progress=lambda done, total: update(done, total, "rows")
        )
    with session_scope() as session:
        stale = stale_copies(session, report.interactions)
    if as_json:
        print_json(report.as_dict() | stale | {"dry_run": dry_run})
        return
    tables = sorted(report.seen)
    print_table(
        ("table", "looked at", "would change" if dry_run else "changed"),
        [(name, report.seen[name], report.changed[name]) for name in tables],
        "Nothing was scrubbed by other rules.",
    )
    print_fields(
        {
            "version": report.version,
            "removed": ", ".join(f"{n} {kind}" for kind, n in report.removed.most_common()) or None,
        }
    )
    if stale["examples"]:
        console.print(
            f"{stale['examples']} examples in {stale['datasets']} datasets are copies of changed "
            "interactions and still hold the old text: curate again, and do not export or train "
            "on those versions."
        )


_AT_ONCE = 5000


def stale_copies(session: "Session", interactions: Sequence[UUID]) -> dict[str, int]:
    """Return how many examples, and datasets with such examples, copy these interactions."""
    from sqlmodel import col, select

    from curation.tables import DatasetExample, Example

    examples = 0
    datasets: set[UUID] = set()
    for start in range(0, len(interactions), _AT_ONCE):
        some = interactions[start : start + _AT_ONCE]
        ids = list(session.exec(select(Example.id).where(col(Example.interaction_id).in_(some))))
        examples += len(ids)
        datasets |= set(
            session.exec(
                select(DatasetExample.dataset_id)
                .join(Example, col(Example.id) == col(DatasetExample.example_id))
                .where(col(Example.interaction_id).in_(some))
                .distinct()
            )
        )
    return {"examples": examples, "datasets": len(datasets)}
