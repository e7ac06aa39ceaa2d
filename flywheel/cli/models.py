"""Commands that train models, keep benchmark suites and evaluate on them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli.output import (
    AsJson,
    as_uuid,
    console,
    finish_run,
    percent,
    print_fields,
    print_json,
    print_table,
    progress_bar,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(train)
    app.command()(evaluate)
    versions = typer.Typer(help="Model versions.", no_args_is_help=True)
    versions.command("add")(add_version)
    versions.command("list")(list_all)
    app.add_typer(versions, name="model")
    suites = typer.Typer(help="Benchmark suites.", no_args_is_help=True)
    suites.command("add")(add_suite)
    suites.command("list")(list_suites)
    app.add_typer(suites, name="suite")


def train(
    role: Annotated[str, typer.Option(help="Agent role to train.")],
    dataset: Annotated[str | None, typer.Option(help="Dataset id; default: the newest.")] = None,
    base: Annotated[str | None, typer.Option(help="Base model folder or hub name.")] = None,
    preset: Annotated[str, typer.Option(help="Recipe preset: default, plan or demo.")] = "default",
    recipe_file: Annotated[Path | None, typer.Option("--recipe", help="Recipe YAML file.")] = None,
    queue: Annotated[bool, typer.Option(help="Hand it to a worker, do not wait.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a LoRA adapter for a role; the result is a candidate, not yet served."""
    from curation.build import latest_dataset
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.errors import NotFound
    from trainer.recipe import Recipe
    from trainer.recipe import preset as preset_of
    from trainer.registry import require_role
    from trainer.tasks import TRAIN_JOB, start_training

    require_current()
    recipe = Recipe.from_yaml(recipe_file) if recipe_file else preset_of(preset)
    with session_scope() as session:
        require_role(role)
        newest = latest_dataset(session, role, "default")
    dataset_id = as_uuid("dataset", dataset) if dataset else newest.id if newest else None
    if dataset_id is None:
        raise NotFound(
            "dataset", role, "a curated dataset of this role", f"Run: flywheel curate --role {role}"
        )
    with session_scope() as session:
        run_id = start_training(session, role, dataset_id, base, recipe).run_id
    result = finish_run("training", TRAIN_JOB, run_id, queue=queue, quiet=as_json)
    print_json(result) if as_json else print_fields(result)


def add_version(
    role: Annotated[str, typer.Argument(help="Agent role whose baseline it may be.")],
    model: Annotated[str, typer.Argument(help="Folder or hub name, or an external model's name.")],
    external: Annotated[
        bool, typer.Option(help="An upstream of FLYWHEEL_UPSTREAMS or litellm answers for it.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="What to call the version.")] = None,
    as_json: AsJson = False,
) -> None:
    """Register the model that a role uses now; let it serve with: flywheel promote."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.registry import BASE, EXTERNAL, ensure_base_version

    require_current()
    with session_scope() as session:
        kind = EXTERNAL if external else BASE
        found = ensure_base_version(session, role, model, name, kind).model_dump(mode="json")
    print_json(found) if as_json else print_fields(found)


def list_all(
    role: Annotated[str | None, typer.Option(help="Only of this role.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the model versions, newest first."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.registry import list_versions

    require_current()
    with session_scope() as session:
        found = list_versions(session, role)
    if as_json:
        print_json([version.model_dump(mode="json") for version in found])
        return
    print_table(
        ("version", "role", "kind", "stage", "base", "made"),
        [(v.name, v.role, v.kind, v.stage, v.base_model, v.created_at) for v in found],
        "No model versions yet: flywheel model add ROLE MODEL",
    )


def add_suite(
    name: Annotated[str, typer.Argument(help="Name of the suite.")],
    path: Annotated[Path, typer.Argument(help="File of tasks.")],
    role: Annotated[str, typer.Option(help="Agent role that it measures.")] = "coder",
    format: Annotated[str, typer.Option(help="tasks, humaneval or mbpp.")] = "tasks",
    as_json: AsJson = False,
) -> None:
    """Store a benchmark suite; the same content again is the same version."""
    from evaluator import suites
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.errors import BadInput
    from trainer.registry import require_role

    require_current()
    require_role(role)
    readers = {
        "tasks": suites.read_tasks,
        "humaneval": suites.read_humaneval,
        "mbpp": suites.read_mbpp,
    }
    if format not in readers:
        raise BadInput("suite format", format, f"one of {', '.join(readers)}", "Correct --format.")
    with session_scope() as session:
        suite = suites.add_suite(session, name, role, readers[format](path), origin=path.name)
    found = suite.model_dump(mode="json")
    print_json(found) if as_json else print_fields(found)


def list_suites(as_json: AsJson = False) -> None:
    """List the benchmark suites."""
    from evaluator import suites
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        found = suites.list_suites(session)
    if as_json:
        print_json([suite.model_dump(mode="json") for suite in found])
        return
    print_table(
        ("suite", "role", "tasks", "hash", "origin"),
        [
            (f"{s.name}@{s.version}", s.role, s.n_tasks, s.content_hash[:12], s.origin)
            for s in found
        ],
        "No suites yet: flywheel suite add NAME FILE",
    )


def evaluate(
    suite: Annotated[str, typer.Option(help="Suite name, or name@version.")],
    candidate: Annotated[str, typer.Option(help="Model version, or recorded run.")],
    baseline: Annotated[
        str | None, typer.Option(help="What to compare with; default: who serves the role.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help="File of recorded answers: nothing is generated.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Answers per task and model.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of sampling.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare a candidate with a baseline on the same tasks, paired, and decide."""
    from flywheel.benchmark import compare_models, compare_recorded
    from flywheel.schema import require_current
    from foundation.errors import BadInput

    require_current()
    with progress_bar("evaluating", as_json) as update:
        if answers is None:
            report = compare_models(suite, candidate, baseline, samples, seed, update)
        elif baseline is None:
            raise BadInput(
                "--baseline", None, "the recorded run to compare with", "Name one of the file."
            )
        else:
            report = compare_recorded(suite, answers, candidate, baseline, update)
    print_json(report) if as_json else _print_verdict(report)


def _print_verdict(report: dict[str, Any]) -> None:
    rows = [
        (
            e["subject"],
            percent(e["success_rate"]),
            f"{percent(e['ci_low'])} to {percent(e['ci_high'])}",
            e["n_samples"],
            e["n_lost"],
            percent(e.get("agreement")),
        )
        for e in report["evaluations"]
    ]
    print_table(
        ("evaluated", "success", "95 % interval", "answers", "lost", "agrees with its source"),
        rows,
        "Nothing was evaluated.",
    )
    verdict = report["verdict"]
    console.print(
        f"\n{verdict['improvement_points']:+.1f} points "
        f"[{verdict['ci_low']:+.1f}, {verdict['ci_high']:+.1f}] over {verdict['n_tasks']} tasks: "
        f"[bold]{verdict['outcome']}[/bold]"
    )
    for reason in report["reasons"]:
        console.print(f"  {reason}")
