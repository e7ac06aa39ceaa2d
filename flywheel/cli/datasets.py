"""Commands for dataset versions: list, look at, compare, export, prove."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from flywheel.cli.output import (
    AsJson,
    console,
    percent,
    print_fields,
    print_json,
    print_table,
    printable,
)

Name = Annotated[str, typer.Argument(help="Id, or ROLE\\[/KIND]\\[@NUMBER].")]

_SHOWN_IDS = 10


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(help="Dataset versions.", no_args_is_help=True)
    group.command("list")(list_versions)
    group.command("show")(show)
    group.command("card")(card)
    group.command("diff")(compare)
    group.command("export")(export)
    group.command("prove")(prove)
    app.add_typer(group, name="dataset")


def list_versions(
    role: Annotated[str | None, typer.Option(help="Only of this role.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Versions at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dataset versions, newest first."""
    from curation.api import list_datasets
    from flywheel.schema import require_current

    require_current()
    found = list_datasets(role, limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "version", "variant", "train/val./test"),
        [(row["id"], name_of(row), row["variant"], rows_of(row)) for row in found],
        "There is no dataset yet. Make one: flywheel curate --role coder",
    )


def show(name: Name, as_json: AsJson = False) -> None:
    """Show one version: its quality against targets, its drops, its warnings."""
    from curation.export import find_dataset
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope

    require_current()
    with session_scope() as session:
        row = explain_row(find_dataset(session, name))
    if as_json:
        print_json(row)
        return
    said = row.pop("card")
    print_fields(row)
    _print_card(said)


def card(
    name: Name,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the page here instead of printing JSON.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a version's card as JSON, or write it as a page of its own."""
    from curation.export import find_dataset
    from curation.publish.page import render
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        said = find_dataset(session, name).card
    if out is not None:
        out.write_text(render(said), encoding="utf-8")
        print_json({"page": str(out)}) if as_json else console.print(f"Wrote {out}.")
        return
    print_json(said)


def compare(
    old: Annotated[str, typer.Argument(help="The older version.")],
    new: Annotated[str, typer.Argument(help="The newer version.")],
    as_json: AsJson = False,
) -> None:
    """Tell what changed between two versions: rows, counts, recipe."""
    from curation.export import find_dataset
    from curation.publish.diff import diff
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        ids = [find_dataset(session, name).id for name in (old, new)]
        found = diff(session, ids[0], ids[1]).as_json()
    if as_json:
        print_json(found)
        return
    rows = found.pop("rows")
    before, after = found.pop("old"), found.pop("new")
    between = {name: found.pop(name) for name in ("recipe", "task_types", "dropped_by_reason")}
    console.print(f"{before['role']} v{before['number']} → v{after['number']}")
    print_fields({"rows": f"{before['rows']} → {after['rows']}", **found})
    for title, changes in between.items():
        if changes:
            console.print()
            print_table(
                (title.replace("_", " "), "was", "is"), [(k, *v) for k, v in changes.items()], ""
            )
    for title, ids_of in rows.items():
        if ids_of:
            shown = ", ".join(ids_of[:_SHOWN_IDS])
            console.print(f"\n{title}: {shown}{' …' if len(ids_of) > _SHOWN_IDS else ''}")


def export(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")],
    format: Annotated[
        str,
        typer.Option(
            help="parquet, chat, prompt_completion, alpaca, tasks, dpo, kto, argilla, label_studio."
        ),
    ] = "parquet",
    as_json: AsJson = False,
) -> None:
    """Write a version as files that trainers and labelling tools read, with its card."""
    from curation.export import find_dataset, write_export
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        dataset = find_dataset(session, name)
        n_records = write_export(session, dataset.id, folder, format)
    result = {"folder": str(folder), "format": format, **n_records}
    print_json(result) if as_json else print_fields(result)


def prove(name: Name, as_json: AsJson = False) -> None:
    """Look again whether two splits share anything; exit code 1 if they do."""
    from curation.export import find_dataset
    from curation.proof import prove_whole
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        found = prove_whole(session, find_dataset(session, name))
    print_json(found) if as_json else print_fields(found)
    if any(n for what, n in found.items() if what.startswith("cross_split")):
        raise typer.Exit(1)


def name_of(version: Mapping[str, Any]) -> str:
    """Return a version as `ROLE[/KIND]@NUMBER`."""
    kind = "" if version["kind"] == "sft" else f"/{version['kind']}"
    return f"{version['role']}{kind}@{version['number']}"


def rows_of(version: Mapping[str, Any]) -> str:
    """Return how many rows a version has in train, validation and test."""
    return "/".join(str(version[name]) for name in ("n_train", "n_validation", "n_test"))


def print_drops(said: Mapping[str, Any]) -> None:
    """Print what a card says of what fell out, most first, and of what to know before training."""
    console.print()
    drops = sorted((said.get("dropped_by_reason") or {}).items(), key=lambda item: -item[1])
    print_table(("dropped because", "examples"), drops, "Nothing was dropped.")
    warnings = said.get("warnings") or ()
    if warnings:
        console.print()
    for warning in warnings:
        console.print(Text.assemble(("Warning ", "bold"), printable(warning)))


def _print_card(said: dict[str, Any]) -> None:
    quality = said.get("quality") or {}
    if quality:
        console.print()
        print_table(("measure", "value", "target", ""), _measures(quality), "")
    print_drops(said)


def _measures(quality: dict[str, Any]) -> list[tuple[str, ...]]:
    from curation.publish.page import TITLES

    verdicts = {True: "met", False: "not met", None: ""}
    return [
        (
            title,
            percent(quality[name]["value"]),
            percent(quality[name]["target"]),
            quality[name]["why_not"] or verdicts[quality[name]["met"]],
        )
        for name, title in TITLES.items()
        if name in quality
    ]
