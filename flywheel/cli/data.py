"""Commands that bring records in and make datasets of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli.output import (
    AsJson,
    console,
    do_job,
    print_fields,
    print_json,
    print_table,
    progress_bar,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("import")(import_records)
    app.command()(curate)


def import_records(
    format: Annotated[str, typer.Argument(help="Format: coder_outputs or chat_jsonl.")],
    paths: Annotated[list[Path], typer.Argument(help="Files, gzipped too, or folders.")],
    dry_run: Annotated[bool, typer.Option(help="Read and check, store nothing.")] = False,
    rejects: Annotated[Path | None, typer.Option(help="File for rejected lines.")] = None,
    as_json: AsJson = False,
) -> None:
    """Import recorded interactions; importing the same file again stores nothing twice."""
    from collector.direct import DirectTransport
    from collector.importers.run import run_import
    from flywheel.schema import require_current
    from foundation.errors import BadInput

    require_current()
    with progress_bar("importing", as_json) as update:
        report = run_import(
            format,
            paths,
            DirectTransport(),
            dry_run=dry_run,
            progress=lambda lines: update(lines, None, "lines"),
            rejects_path=rejects,
        )
    print_json(report.as_dict()) if as_json else print_fields(report.as_dict())
    if report.rejected:
        raise BadInput(
            f"import of {', '.join(str(path) for path in paths)}",
            f"{report.rejected} rejected of {report.read} lines",
            f"lines of the format {format!r}",
            f"The good lines are stored; see {report.rejects_file or 'the reasons'}, mend and "
            "import again.",
        )


def curate(
    role: Annotated[str, typer.Option(help="Agent role whose log to curate.")],
    variant: Annotated[
        str, typer.Option(help="default, unverified (control) or sabotage (failures only).")
    ] = "default",
    max_examples: Annotated[int | None, typer.Option(min=1, help="Examples at most.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws splits and quotas.")] = 0,
    queue: Annotated[bool, typer.Option(help="Hand it to a worker, do not wait.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a dataset version of a role's log; unchanged, the last version is returned."""
    from curation.build import require_logged_role
    from curation.export import get_dataset
    from curation.recipe import CurationRecipe
    from flywheel.cli.output import as_uuid
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    recipe = CurationRecipe(variant=variant, max_examples=max_examples, seed=seed)
    with session_scope() as session:
        require_logged_role(session, role)
    params = {"role": role, "recipe": recipe.as_json()}
    result = do_job("curating", "curation.build", params, role, queue=queue, quiet=as_json)
    if "dataset_id" not in result:
        print_json(result) if as_json else print_fields(result)
        return
    with session_scope() as session:
        card = get_dataset(session, as_uuid("dataset", result["dataset_id"])).card
    print_json({**result, "card": card}) if as_json else _print_card(result, card)


def _print_card(result: dict[str, Any], card: dict[str, Any]) -> None:
    print_fields(result)
    console.print()
    drops = card.get("dropped_by_reason", {})
    print_table(("dropped because", "examples"), list(drops.items()), "Nothing was dropped.")
