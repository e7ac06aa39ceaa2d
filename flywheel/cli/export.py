"""Commands that bring versions into the formats of others, merge them and combine them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli.output import (
    AsJson,
    finish_run,
    print_fields,
    print_json,
    print_line,
    print_table,
)

Version = Annotated[str, typer.Argument(help="Name or id of the model version.")]
Queue = Annotated[bool, typer.Option(help="Hand it to a worker, do not wait.")]


def register(versions: typer.Typer) -> None:
    """Add the commands of this file to the group `model`."""
    versions.command("export")(export)
    versions.command("exports")(exports)
    versions.command("formats")(formats)
    versions.command("merge")(merge)
    versions.command("combine")(combine)


def export(
    version: Version,
    format: Annotated[str, typer.Option(help="One of: flywheel model formats.")] = "gguf-q8_0",
    to: Annotated[Path | None, typer.Option(help="New folder for a copy of the files.")] = None,
    suite: Annotated[str | None, typer.Option(help="Suite to compare pass rates by.")] = None,
    queue: Queue = False,
    as_json: AsJson = False,
) -> None:
    """Write a version in a format of others, read it again, publish it if it is the same."""
    import evaluator.rewards  # noqa: F401  knows which suites there are
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.export.tasks import EXPORT_JOB, find_export, start_export, write_out
    from trainer.registry import get_version

    require_current()
    _require_target(to, queue)
    with session_scope() as session:
        run_id = start_export(session, get_version(session, version), format, suite).id
    result = finish_run("exporting", EXPORT_JOB, run_id, queue=queue, quiet=as_json)
    if to is not None:
        with session_scope() as session:
            found = find_export(session, get_version(session, version), format)
            result["folder"] = str(write_out(found, to))
    print_json(result) if as_json else print_fields(in_short(result))


def exports(
    version: Annotated[str | None, typer.Argument(help="Only of this version.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what is published, newest first."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.export.tasks import list_exports
    from trainer.registry import get_version, list_versions

    require_current()
    with session_scope() as session:
        names = {one.id: one.name for one in list_versions(session)}
        found = list_exports(session, get_version(session, version) if version else None)
    if as_json:
        print_json([row.model_dump(mode="json") for row in found])
        return
    print_table(
        ("version", "format", "MiB", "logits off by", "equal text", "made"),
        [
            (
                names[row.model_version_id],
                row.format,
                f"{row.size_bytes / 2**20:,.1f}",
                f"{row.parity['logit_error']:.2g}",
                f"{row.parity['agreement']:.0%}",
                row.created_at,
            )
            for row in found
        ],
        "No exports yet: flywheel model export VERSION --format gguf-q8_0",
    )


def formats(as_json: AsJson = False) -> None:
    """List the formats that versions can be exported in."""
    from trainer.export import FORMATS

    if as_json:
        print_json({name: {"kinds": f.kinds, "about": f.about} for name, f in FORMATS.items()})
        return
    print_table(
        ("format", "of", ""), [(n, ", ".join(f.kinds), f.about) for n, f in FORMATS.items()], ""
    )


def merge(version: Version, queue: Queue = False, as_json: AsJson = False) -> None:
    """Merge an adapter into its base: a version of its own, if it is equal to both."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.export.tasks import MERGE_JOB, start_merge
    from trainer.registry import get_version

    require_current()
    with session_scope() as session:
        run_id = start_merge(session, get_version(session, version)).id
    result = finish_run("merging", MERGE_JOB, run_id, queue=queue, quiet=as_json)
    print_json(result) if as_json else print_fields(in_short(result))


def combine(
    parts: Annotated[list[str], typer.Argument(help="VERSION=WEIGHT, two or more.")],
    role: Annotated[str, typer.Option(help="Whose version it will be.")],
    how: Annotated[str, typer.Option(help="cat (exact), svd, linear, ties or dare.")] = "cat",
    rank: Annotated[int | None, typer.Option(help="Of the result; one that servers take.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Only show how far each way is off.")] = False,
    queue: Queue = False,
    as_json: AsJson = False,
) -> None:
    """Make one adapter of several over one base; how far each way is off is shown before."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.export.tasks import COMBINE_JOB, combine_errors, start_combine
    from trainer.registry import get_version

    require_current()
    names, weights = _weighted(parts)
    with session_scope() as session:
        versions = [get_version(session, name) for name in names]
        table = combine_errors(versions, weights, rank)
        run_id = None
        if not dry_run:
            run_id = start_combine(session, versions, weights, how, role, rank).id
    if not as_json:
        rows = [
            (way, one["rank"], _shown(one["error"]), one.get("why")) for way, one in table.items()
        ]
        print_table(("way", "rank", "off the weighted sum by", "why not"), rows, "")
    if run_id is None:
        if as_json:
            print_json(table)
        return
    result = finish_run("combining", COMBINE_JOB, run_id, queue=queue, quiet=as_json)
    if as_json:
        print_json(result)
    else:
        print_line(f"made {result.get('name', result['run_id'])} by {how}")


def _require_target(to: Path | None, queue: bool) -> None:
    """Check before the work that its files can be copied afterwards."""
    from foundation.errors import BadInput
    from trainer.export.tasks import require_free

    if to is None:
        return
    if queue:
        raise BadInput("--to", str(to), "no --queue", "Wait for the files, or leave out --to.")
    require_free(to)


def _weighted(parts: Sequence[str]) -> tuple[list[str], list[float]]:
    from foundation.errors import BadInput

    names, weights = [], []
    for part in parts:
        name, _, weight = part.partition("=")
        try:
            weights.append(float(weight))
        except ValueError:
            raise BadInput("part", part, "VERSION=WEIGHT", "Such as coder-v3=0.5.") from None
        names.append(name)
    return names, weights


def _shown(error: float | None) -> str | None:
    return None if error is None else f"{error:.2%}"


def in_short(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result with the verdict in three figures."""
    parity = result.get("parity")
    if parity is None:
        return result
    told = {key: parity[key] for key in ("n_prompts", "logit_error", "agreement")}
    return {key: value for key, value in result.items() if key != "parity"} | told
