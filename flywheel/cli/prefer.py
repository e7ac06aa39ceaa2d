"""The command of an online preference round: new feedback to pairs, pairs to a candidate."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from flywheel.cli.output import AsJson, finish_run, print_fields, print_json


def prefer(
    role: Annotated[str, typer.Option(help="Agent role that somebody serves.")],
    method: Annotated[str, typer.Option(help="How pairs are learned: dpo, kto or orpo.")] = "dpo",
    preset: Annotated[
        str | None, typer.Option(help="Recipe preset: default, plan, hafs or demo.")
    ] = None,
    recipe_file: Annotated[
        Path | None, typer.Option("--recipe", help="Recipe YAML file; else that of the role.")
    ] = None,
    knobs: Annotated[
        list[str] | None,
        typer.Option("--set", help="A knob, as lr=5e-6 or preference.beta=0.2; repeatable."),
    ] = None,
    least_pairs: Annotated[
        int, typer.Option(min=1, help="Training pairs below which nothing is trained.")
    ] = 20,
    queue: Annotated[bool, typer.Option(help="Hand it to a worker, do not wait.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make pairs of all feedback so far, and train on from who serves; the result is a candidate.

    With nothing new since the last round, nothing is trained.
    """
    import flywheel.worker  # noqa: F401  registers every room's jobs
    from flywheel.cli.training import chosen_recipe
    from flywheel.preference_round import JOB, ORDERED, preference_round
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.search import parse_knob
    from trainer.tasks import TRAIN_JOB

    require_current()
    changes = {**dict(map(parse_knob, knobs or [])), "method": method}
    recipe = chosen_recipe(role, preset, recipe_file, changes)
    with session_scope() as session:
        run_id = preference_round(session, role, recipe, least_pairs).id
    result = finish_run("making pairs", JOB, run_id, queue=queue, quiet=as_json)
    if not queue and result["outcome"] == ORDERED:
        training = UUID(result["training_job"])
        result["trained"] = finish_run("training", TRAIN_JOB, training, queue=False, quiet=as_json)
    print_json(result) if as_json else print_fields(result)
