"""Commands that back everything up, restore it into an empty database, and export it."""

from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.output import AsJson, console, notes, print_fields, print_json, print_table

Root = Annotated[Path, typer.Argument(help="Folder that keeps the backups.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(backup)
    app.command()(restore)
    app.command("export-all")(export_all)


def backup(
    folder: Root,
    keep: Annotated[
        int | None, typer.Option(help="Backups that stay, the newest; default: all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Back up database, artifacts and spools into a folder, with the checksums of each table."""
    from flywheel.backup import back_up
    from flywheel.schema import require_current

    require_current()
    made = back_up(folder, keep)
    names = ("made_at", "revision", "n_rows", "n_artifacts", "spool_files", "dump_bytes")
    said = {"folder": str(made.folder), **{name: made.manifest[name] for name in names}}
    damaged = made.manifest["artifacts_damaged"]
    said["artifacts_damaged"] = damaged if as_json else ", ".join(damaged) or None
    print_json(said) if as_json else print_fields(said)
    _tell_damaged(damaged, "backup")


def _tell_damaged(names: list[str], kind: str) -> None:
    """Say which artifacts could not be copied, and end with 1 if any."""
    if names:
        notes.print(
            f"{len(names)} artifacts are damaged in the store and not in the {kind}: "
            f"{', '.join(names)}. Bring them back from an older backup, or make them again."
        )
        raise typer.Exit(1)


def restore(
    folder: Root,
    name: Annotated[str | None, typer.Option(help="Which one; default: the newest.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look whether the backup is whole and sound.")
    ] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Only list the backups.")] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty database, and prove that each table is what it was."""
    from flywheel.backup import backups, damage, newest
    from flywheel.restore import restore as bring_back

    if list_only:
        _list(folder, as_json)
        return
    chosen = newest(folder, name)
    if check:
        found = damage(chosen)
        said = {"backup": chosen.folder.name, "damage": found, "of": len(backups(folder))}
        print_json(said) if as_json else print_fields({**said, "damage": "; ".join(found) or None})
        if found:
            raise typer.Exit(1)
        return
    done = bring_back(chosen)
    fields = {
        "backup": chosen.folder.name,
        "made": chosen.manifest["made_at"],
        "rows, all as they were": done.n_rows,
        "tables": done.n_tables,
        "artifacts": done.n_artifacts,
        "schema": done.revision,
        "spool to drain": str(done.spool) if done.spool else None,
    }
    if as_json:
        print_json(fields)
        return
    print_fields(fields)
    if done.spool:
        console.print("Store what had waited: flywheel spool drain")
    notes.print(
        f"What was erased since {chosen.manifest['made_at']} is back: flywheel erase --again "
        "--certificates FILE, of each erasure since"
    )


def export_all(
    folder: Annotated[Path, typer.Argument(help="New folder, or one of an export cut off.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only look whether an export is whole and sound.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write every table as JSON lines, and every artifact, without what opens doors."""
    from flywheel import export_all as exporting
    from flywheel.schema import require_current

    if check:
        found = exporting.damage(folder)
        print_json({"damage": found}) if as_json else console.print(
            "\n".join(found) or "Whole: each file is as it was written."
        )
        if found:
            raise typer.Exit(1)
        return
    require_current()
    made = exporting.export_all(folder, lambda name: notes.print(f"{name} …"))
    tables = made["tables"]
    said = {
        "folder": str(folder),
        "tables": len(tables),
        "rows": sum(one["rows"] for one in tables.values()),
        "artifacts": len(made["artifacts"]),
        "moments": len({one["as_of"] for one in tables.values()}),
    }
    damaged = made["artifacts_damaged"]
    said["artifacts_damaged"] = damaged if as_json else ", ".join(damaged) or None
    print_json(said) if as_json else print_fields(said)
    _tell_damaged(damaged, "export")


def _list(folder: Path, as_json: bool) -> None:
    from flywheel.backup import backups

    names = ("made_at", "revision", "n_rows", "n_artifacts", "dump_bytes")
    rows = [
        {"backup": one.folder.name, **{name: one.manifest[name] for name in names}}
        for one in backups(folder)
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("backup", *names),
        [tuple(row.values()) for row in rows],
        "No whole backup here. Make one: flywheel backup DIR",
    )
