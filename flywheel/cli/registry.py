"""Commands on a version's papers and files: what it is, how two differ, what may go."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli import provenance
from flywheel.cli.output import AsJson, console, print_fields, print_json, print_table

_OWN = (
    *("name", "id", "role", "number", "kind", "stage", "base_model", "is_control", "created_at"),
    "use",
)

Version = Annotated[str, typer.Argument(help="Name or id of the model version.")]


def register(versions: typer.Typer) -> None:
    """Add the commands of this file to the group `model`."""
    versions.command("show")(show)
    versions.command("card")(card)
    versions.command("diff")(diff)
    versions.command("gc")(collect)
    versions.command("pin")(pin)
    versions.command("unpin")(unpin)
    provenance.register(versions)


def show(version: Version, as_json: AsJson = False) -> None:
    """Show what a version is: its row, where it comes from, its files."""
    shown = _card(version)
    lineage, files = shown["lineage"], shown["files"]
    fields = {
        **{name: shown[name] for name in _OWN},
        "parent": lineage["parent"],
        "went on from": ", ".join(lineage["went_on_from"]) or None,
        "children": ", ".join(lineage["children"]) or None,
        "dataset": (shown["dataset"] or {}).get("name"),
        "method": (shown["training"] or {}).get("method"),
        "content hash": files["content_hash"],
        "bytes": files["size_bytes"],
        "files removed": files["removed_at"],
        "pinned": files["pinned_because"],
    }
    print_json(fields) if as_json else print_fields(fields)


def card(
    version: Version,
    html: Annotated[Path | None, typer.Option(help="Write it as a page to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the model card of a version, or write it as one HTML page."""
    from trainer.card import page, rows_of

    shown = _card(version)
    if html is not None:
        html.write_text(page(shown))
        said = {"version": shown["name"], "page": str(html)}
        print_json(said) if as_json else print_fields(said)
    elif as_json:
        print_json(shown)
    else:
        training = {**(shown["training"] or {}), "history": None}
        rows = rows_of({**shown, "training": training})
        print_fields({name: value for name, value in rows if value not in (None, "")})


def diff(
    version: Version,
    other: Annotated[str, typer.Argument(help="Name or id of the version to compare it with.")],
    as_json: AsJson = False,
) -> None:
    """Compare two versions: recipe, data, base, code, measures, weights, size."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.card import rows_of
    from trainer.diff import diff as difference
    from trainer.registry import get_version

    require_current()
    with session_scope() as session:
        pair = get_version(session, version), get_version(session, other)
        found = difference(session, *pair).as_json()
    if as_json:
        print_json(found)
        return
    pairs = ("what", "recipe", "base", "code", "metrics")
    print_table(
        ("what", version, other),
        [(name, *two) for group in pairs for name, two in found[group].items()],
        "Recipe, base, code and measures are the same.",
    )
    rest = {name: found[name] for name in ("dataset", "size_bytes", "weights")}
    print_fields(dict(rows_of(rest)))


def _card(name: str) -> dict[str, Any]:
    from flywheel.model_cards import whole_card
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        return whole_card(session, name)


def collect(
    days: Annotated[int, typer.Option(help="Age from which a version may lose its files.")] = 30,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; else it is only told.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell, or remove, files that nobody needs; rows and cards of versions stay."""
    from flywheel.garbage import collect as collect_garbage
    from flywheel.schema import require_current

    require_current()
    found = collect_garbage(days, remove=yes)
    if as_json:
        print_json(found.as_json())
        return
    print_table(
        ("kind", "what", "bytes", "why"),
        [(p.kind, p.name, f"{p.size_bytes:,}", p.why) for p in found.pieces],
        "There is nothing to remove.",
    )
    if found.pieces:
        done = "removed" if found.is_done else "would be removed; do it with: --yes"
        console.print(f"{len(found.pieces)} pieces, {found.size_bytes:,} bytes {done}")
    if found.kept:
        console.print(f"{len(found.kept)} versions keep their files; why each does: --json")


def pin(
    version: Version,
    reason: Annotated[str, typer.Option(help="Why its files are to stay.")],
    as_json: AsJson = False,
) -> None:
    """Keep a version's files whatever becomes of it."""
    _pin(version, reason, as_json)


def unpin(version: Version, as_json: AsJson = False) -> None:
    """Let go of a pinned version: its files are collected once nobody needs them."""
    _pin(version, None, as_json)


def _pin(name: str, because: str | None, as_json: bool) -> None:
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.registry import get_version
    from trainer.registry import pin as pin_version

    require_current()
    with session_scope() as session:
        found = pin_version(session, get_version(session, name), because)
        said = {"version": found.name, "pinned": found.pinned_because}
    print_json(said) if as_json else print_fields(said)
