"""Commands that make a smaller version of a version."""

from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.export import in_short
from flywheel.cli.output import AsJson, as_uuid, finish_run, print_fields, print_json

Version = Annotated[str, typer.Argument(help="Name or id of the model version.")]
Queue = Annotated[bool, typer.Option(help="Hand it to a worker, do not wait.")]


def register(versions: typer.Typer) -> None:
    """Add the commands of this file to the group `model`."""
    versions.command("quantize")(quantize)
    versions.command("prune")(prune)


def quantize(
    version: Version,
    to: Annotated[str, typer.Option(help="int8, int4, nf4 or fp8.")] = "int8",
    queue: Queue = False,
    as_json: AsJson = False,
) -> None:
    """Make a version with fewer bits per weight; its size, speed and error are measured."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.compress.tasks import QUANTIZE_JOB, start_quantize
    from trainer.registry import get_version

    require_current()
    with session_scope() as session:
        run_id = start_quantize(session, get_version(session, version), to).id
    result = finish_run("quantising", QUANTIZE_JOB, run_id, queue=queue, quiet=as_json)
    print_json(result) if as_json else print_fields(in_short(result))


def prune(
    version: Version,
    share: Annotated[float, typer.Option(help="Of them that leaves each layer, 0-1.")] = 0.3,
    what: Annotated[str, typer.Option(help="heads or neurons.")] = "neurons",
    dataset: Annotated[
        str | None, typer.Option(help="Dataset id; default: what the version learned from.")
    ] = None,
    recover: Annotated[
        Path | None, typer.Option(help="Recipe YAML file of a training afterwards (sft-full).")
    ] = None,
    queue: Queue = False,
    as_json: AsJson = False,
) -> None:
    """Make a version with fewer attention heads or MLP neurons, in smaller matrices."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.compress.tasks import PRUNE_JOB, start_prune
    from trainer.recipe import Recipe
    from trainer.registry import get_version

    require_current()
    recipe = Recipe.from_yaml(recover) if recover else None
    dataset_id = as_uuid("dataset", dataset) if dataset else None
    with session_scope() as session:
        parent = get_version(session, version)
        order = start_prune(
            session, parent, share, what=what, dataset_id=dataset_id, recover=recipe
        )
        run_id = order.id
    result = finish_run("pruning", PRUNE_JOB, run_id, queue=queue, quiet=as_json)
    print_json(result) if as_json else print_fields(result)
