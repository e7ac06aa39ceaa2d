"""Commands that bring records in and make datasets of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli.output import (
    AsJson,
    console,
    do_job,
    notes,
    print_fields,
    print_json,
    print_table,
    progress_bar,
)

if TYPE_CHECKING:
    from collector.importers.run import Place
    from collector.transport import Transport


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("import")(import_records)
    app.command()(curate)


def import_records(
    format: Annotated[
        str | None, typer.Argument(help="Name of a format (see --list), or auto.")
    ] = None,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files, gzipped too, or folders.")
    ] = None,
    list_formats: Annotated[bool, typer.Option("--list", help="Show the formats.")] = False,
    role: Annotated[str, typer.Option(help="Role of records that name none.")] = "coder",
    project: Annotated[str | None, typer.Option(help="Project of records that name none.")] = None,
    task_type: Annotated[str | None, typer.Option(help="Task type, likewise.")] = None,
    mapping: Annotated[
        Path | None, typer.Option("--map", help="YAML that says what the columns mean (mapped).")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Read, scrub and check, store nothing.")] = False,
    from_start: Annotated[
        bool, typer.Option(help="Do not go on where an interrupted import stopped.")
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(help="File for rejected lines and why, else NAME.rejects.jsonl here."),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Service to send to, instead of the database.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import recorded interactions; importing the same file again stores nothing twice.

    Exits with 2 when lines were rejected; the others are stored all the same.
    """
    from collector.importers.run import Options, Place, run_import
    from collector.importers.source import Defaults
    from foundation.errors import BadInput
    from foundation.settings import get_settings

    if list_formats:
        _print_formats(as_json)
        return
    if format is None or not paths:
        raise BadInput("import", format, "a format and files", "See: flywheel import --list")
    settings = get_settings()
    sink, target = _sink(url, dry_run)
    options = Options(
        defaults=Defaults(role, project or settings.project, task_type),
        mapping=mapping,
        dry_run=dry_run,
        rejects_path=rejects,
        target=target,
        marks=settings.home / "imports",
        from_start=from_start,
    )
    last: list[Place] = []
    try:
        with progress_bar("importing", as_json, in_bytes=True) as update:

            def show(place: Place) -> None:
                last[:] = [place]
                update(place.done_bytes, place.total_bytes, "")

            report = run_import(format, paths, sink, options, show)
    except (KeyboardInterrupt, SystemExit):
        notes.print(_where_it_stopped(last[0] if last else None, dry_run))
        raise
    finally:
        sink.close()
    print_json(report.as_dict()) if as_json else print_fields(report.as_dict())
    if report.rejected:
        raise BadInput(
            f"import of {', '.join(str(path) for path in paths)}",
            f"{report.rejected} rejected of {report.read} lines",
            f"lines of the format {format!r}",
            f"The others {'would be' if dry_run else 'are'} stored; see "
            f"{report.rejects_file or 'the reasons'}, mend and import again.",
        )


def _sink(url: str | None, dry_run: bool) -> "tuple[Transport, str]":
    """Return where an import sends its batches, and what tells that place from others."""
    from collector.direct import DirectTransport
    from collector.transport import HttpTransport
    from flywheel.schema import require_current
    from foundation.database import get_engine
    from foundation.settings import get_settings

    if url is not None:
        key = get_settings().api_key
        return HttpTransport(url, key.get_secret_value() if key else None), url
    if dry_run:  # needs no database
        return DirectTransport(), ""
    require_current()
    return DirectTransport(), get_engine().url.render_as_string(hide_password=True)


def _where_it_stopped(place: "Place | None", dry_run: bool) -> str:
    if dry_run:
        return "Stopped; nothing was to be stored."
    reached = f"after line {place.line} of {place.path}" if place else "in the first batch"
    return (
        f"Stopped {reached}: what was read before is stored. The same command goes on there; "
        "--from-start reads it all again, which stores nothing twice."
    )


def _print_formats(as_json: bool) -> None:
    from collector.importers.registry import all_formats

    rows = [(format.name, format.maps) for format in all_formats()]
    if as_json:
        print_json([{"format": name, "maps": maps} for name, maps in rows])
    else:
        print_table(("format", "what maps to what"), rows, "There are no formats.")


def curate(
    role: Annotated[str | None, typer.Option(help="Agent role whose log to curate.")] = None,
    kind: Annotated[
        str, typer.Option(help="sft, preference (pairs) or eval (held-out tasks).")
    ] = "sft",
    recipe_file: Annotated[Path | None, typer.Option("--recipe", help="Recipe YAML file.")] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="default, unverified (control) or sabotage (failures only)."),
    ] = None,
    max_examples: Annotated[int | None, typer.Option(min=1, help="Examples at most.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Draws splits and quotas.")] = None,
    helpers: Annotated[
        int, typer.Option(min=0, help="Workers that are asked to help with each step.")
    ] = 0,
    show_recipe: Annotated[
        bool, typer.Option("--show-recipe", help="Print every knob of the recipe, and stop.")
    ] = False,
    queue: Annotated[bool, typer.Option(help="Hand it to a worker, do not wait.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a dataset version of a role's log; unchanged, the last version is returned.

    Stopped or killed, the same command goes on behind the last chunk that was done.
    """
    from curation.build import require_kind, require_logged_role
    from curation.export import get_dataset
    from curation.recipe import CurationRecipe
    from flywheel.cli.datasets import name_of, print_drops, rows_of
    from flywheel.cli.output import as_uuid
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope
    from foundation.errors import BadInput

    given = {"variant": variant, "max_examples": max_examples, "seed": seed}
    named = {name: value for name, value in given.items() if value is not None}
    recipe = CurationRecipe.from_json({**_knobs_in(recipe_file), **named})
    if show_recipe:
        _print_recipe(recipe.as_json(), as_json)
        return
    if role is None:
        raise BadInput("--role", role, "an agent role", "Say whose log to curate.")
    require_kind(kind)
    require_current()
    with session_scope() as session:
        require_logged_role(session, role)
    params = {"role": role, "recipe": recipe.as_json(), "kind": kind, "helpers": helpers}
    result = do_job("curating", "curation.build", params, role, queue=queue, quiet=as_json)
    if "dataset_id" not in result:
        print_json(result) if as_json else print_fields(result)
        return
    with session_scope() as session:
        version = explain_row(get_dataset(session, as_uuid("dataset", result["dataset_id"])))
    if as_json:
        print_json({**result, "card": version["card"]})
        return
    is_new = version["run_id"] == result["run_id"]
    print_fields(
        {
            "version": f"{name_of(version)}{'' if is_new else ', as before: nothing changed'}",
            "variant": version["variant"],
            "train/val./test": rows_of(version),
            "dataset": version["id"],
            "run": result["run_id"],
        }
    )
    print_drops(version["card"])


def _knobs_in(path: Path | None) -> dict[str, Any]:
    """Return the knobs that a recipe file sets; none without a file."""
    import yaml

    from foundation.errors import BadInput

    if path is None:
        return {}
    try:
        knobs = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput("recipe file", str(path), "a readable YAML file", str(error)) from error
    if not isinstance(knobs, dict):
        raise BadInput(
            *("recipe file", str(path), "a YAML mapping of knobs"),
            "Begin with: flywheel curate --show-recipe > recipe.yaml",
        )
    return knobs


def _print_recipe(knobs: dict[str, Any], as_json: bool) -> None:
    import yaml

    if as_json:
        print_json(knobs)
    else:
        console.out(yaml.safe_dump(knobs, sort_keys=False), end="", highlight=False)
