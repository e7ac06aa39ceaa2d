"""Commands that train: one adapter, several at once, a search for knobs; and what a recipe is."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from flywheel.cli.output import (
    AsJson,
    console,
    finish_run,
    print_fields,
    print_json,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from sqlmodel import Session

    from trainer.launch import Launch
    from trainer.recipe import Recipe
    from trainer.tables import ModelVersion

Roles = Annotated[list[str], typer.Option("--role", help="Agent role; several train jointly.")]
DatasetName = Annotated[
    str | None,
    typer.Option(help="Dataset id or ROLE\\[/KIND]\\[@NUMBER]; default: the newest that fits."),
]
Base = Annotated[
    str | None,
    typer.Option(help="Base model folder or hub name; default: the one that the role uses."),
]
Preset = Annotated[
    str | None, typer.Option(help="Recipe preset: default, plan, hafs or demo; see: recipe list.")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="Recipe YAML file; else that of the role, if any.")
]
Knobs = Annotated[
    list[str] | None,
    typer.Option("--set", help="A knob, as lr=1e-3 or preference.beta=0.2; repeatable."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(train)
    app.command()(search)
    recipes = typer.Typer(help="Recipes of trainings.", no_args_is_help=True)
    recipes.command("list")(list_recipes)
    recipes.command("show")(show_recipe)
    recipes.command("check")(check_recipe)
    app.add_typer(recipes, name="recipe")


def train(
    role: Roles,
    dataset: DatasetName = None,
    suite: Annotated[
        str | None, typer.Option(help="Tasks to learn from, for grpo, rloo and ppo.")
    ] = None,
    base: Base = None,
    method: Annotated[str | None, typer.Option(help="Method; see: recipe list.")] = None,
    preset: Preset = None,
    recipe_file: RecipeFile = None,
    knobs: Knobs = None,
    earlier: Annotated[
        str | None, typer.Option("--from", help="Model version to go on from.")
    ] = None,
    continual: Annotated[
        str | None,
        typer.Option(
            help="What keeps earlier skills: replay, ewc, si, lwf, packnet, progressive or "
            "orthogonal; needs --from."
        ),
    ] = None,
    launcher: Annotated[
        str | None, typer.Option(help="torchrun or accelerate, for several processes.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes of the launcher on each machine.")
    ] = 1,
    nodes: Annotated[
        int, typer.Option(min=1, help="Machines; MASTER_ADDR and MASTER_PORT name the first.")
    ] = 1,
    sharding: Annotated[
        str | None,
        typer.Option(help="fsdp2 or zero3: the base's weights are spread over the processes."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Only say what it would take, and whether it fits here.")
    ] = False,
    queue: Annotated[bool, typer.Option(help="Hand it to a worker, do not wait.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model for a role, or adapters of several roles at once; the result is a candidate."""
    import evaluator.rewards  # noqa: F401  knows which suites there are
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.registry import get_version, require_role
    from trainer.tasks import TRAIN_JOB, start_training

    require_current()
    for one in role:
        require_role(one)
    launch = _launch(role, launcher, processes, nodes, sharding)
    changes = _changes(method, continual, knobs)
    with session_scope() as session:
        went_on = get_version(session, earlier) if earlier else None
        recipes = {one: chosen_recipe(one, preset, recipe_file, changes) for one in role}
        data = {one: _dataset_id(session, one, dataset, recipes[one]) for one in role}
    if dry_run:
        _say_what_it_takes(recipes, data, base, suite, went_on, as_json)
        return
    if len(role) > 1:
        _train_jointly(recipes, data, base, earlier, suite, queue, as_json)
        return
    with session_scope() as session:
        training = start_training(
            session,
            role[0],
            data[role[0]],
            base,
            recipes[role[0]],
            suite=suite,
            earlier=went_on,
            launch=launch,
        )
        run_id = training.run_id
    result = finish_run("training", TRAIN_JOB, run_id, queue=queue, quiet=as_json)
    print_json(result) if as_json else _print_trained(result, recipes[role[0]].method)


def _print_trained(result: Mapping[str, Any], method: str) -> None:
    """Print what came of a training, a line each, and what to do with it."""
    from trainer.methods import METHODS, TASKS
    from trainer.recipe import REWARD

    metrics = result.get("metrics")
    if metrics is None:
        _print_queued(result)
        return
    shown = {name: value for name, value in result.items() if name != "metrics"}
    told = {name: _short(metrics[name]) for name in _SHOWN if metrics.get(name) not in _NOTHING}
    print_fields({**shown, **told})
    name = result["name"]
    if method == REWARD:
        next_step = f"Rank by it: flywheel pairs generate --rank reward --reward-model {name}"
    elif METHODS[method].reads == TASKS:
        next_step = f"Measure it, by tasks it did not learn: flywheel evaluate SUITE {name}"
    else:
        next_step = f"Measure it: flywheel evaluate SUITE {name}"
    console.print(next_step, highlight=False, soft_wrap=True)


def _print_queued(result: Mapping[str, Any]) -> None:
    print_fields(result)
    console.print("A worker does it (flywheel worker, or flywheel up). Follow it with:")
    print_line(f"flywheel run show {result['run_id']}")


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


_SHOWN = (
    *("rows", "validation_rows", "dropped", "steps", "planned_steps", "tokens", "stopped_early"),
    *("best_step", "best_validation_loss", "validation_accuracy", "best_validation_reward"),
    *("last_loss", "size_bytes"),
)
_NOTHING: tuple[Any, ...] = (None, {}, False)
"""What is not worth a line; 0 equals False, and no measure that is shown says much by being 0."""


def _launch(
    roles: list[str], launcher: str | None, processes: int, nodes: int, sharding: str | None
) -> "Launch | None":
    from foundation.errors import BadInput
    from trainer.launch import Launch

    asked = {"--processes": processes > 1, "--nodes": nodes > 1, "--sharding": sharding is not None}
    if launcher is None:
        for name in (name for name, is_asked in asked.items() if is_asked):
            raise BadInput(name, "no launcher", "one to start them", "Add: --launcher torchrun")
        return None
    if len(roles) > 1:
        shown = "one role with it"
        raise BadInput("--launcher", launcher, shown, "Joint trainings are done in one process.")
    return Launch(launcher, processes, nodes, sharding)


def _train_jointly(
    recipes: Mapping[str, "Recipe"],
    data: Mapping[str, UUID | None],
    base: str | None,
    earlier: str | None,
    suite: str | None,
    queue: bool,
    as_json: bool,
) -> None:
    from foundation.database import session_scope
    from foundation.errors import BadInput
    from trainer.joint.tasks import JOINT_JOB, JointOrder, start_joint

    if earlier is not None:
        raise BadInput("--from", earlier, "one role with it", "Joint trainings begin anew.")
    if suite is not None:
        raise BadInput("--suite", suite, "one role with it", "Joint trainings read datasets.")
    orders = [JointOrder(role, data[role], recipe) for role, recipe in recipes.items()]
    with session_scope() as session:
        run_id = start_joint(session, orders, base).id
    result = finish_run("joint training", JOINT_JOB, run_id, queue=queue, quiet=as_json)
    if as_json:
        print_json(result)
    elif queue:
        _print_queued(result)
    else:
        _print_joint(result, recipes)


def _print_joint(result: Mapping[str, Any], roles: Iterable[str]) -> None:
    """Print what came of a joint training, a column for each role."""
    measured = [result["metrics"][role] for role in roles]
    print_table(
        ("version", *result["names"]),
        [
            (name, *(_short(one.get(name)) for one in measured))
            for name in _SHOWN
            if any(one.get(name) not in _NOTHING for one in measured)
        ],
        "No version was made.",
    )
    console.print("Measure each: flywheel evaluate SUITE VERSION", highlight=False)


def _say_what_it_takes(
    recipes: Mapping[str, "Recipe"],
    data: Mapping[str, UUID | None],
    base: str | None,
    suite: str | None,
    earlier: "ModelVersion | None",
    as_json: bool,
) -> None:
    from curation.export import get_dataset
    from foundation.database import session_scope
    from trainer.foretell import what_it_takes
    from trainer.tasks import require_trainable

    told = {}
    with session_scope() as session:
        for role, recipe in recipes.items():
            dataset_id = data[role]
            model = require_trainable(
                session, role, dataset_id, base, recipe, suite=suite, earlier=earlier
            )
            dataset = get_dataset(session, dataset_id) if dataset_id else None
            told[role] = what_it_takes(session, recipe, model, dataset, suite)
    if as_json:
        print_json(told)
        return
    for role, said in told.items():
        console.print(f"[bold]{role}[/bold]", highlight=False)
        print_fields(said)


def search(
    role: Annotated[str, typer.Option(help="Agent role to train.")],
    dataset: DatasetName = None,
    base: Base = None,
    method: Annotated[str | None, typer.Option(help="Method; see: recipe list.")] = None,
    preset: Preset = None,
    recipe_file: RecipeFile = None,
    knobs: Knobs = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="What to search: lr=1e-4..1e-3 or r=8,16,32; repeatable. Default: the learning "
            "rate times 0.3, 1 and 3."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=2, help="Candidates of the first round.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Their optimizer steps.")] = 50,
    eta: Annotated[int, typer.Option(min=2, help="One in eta goes on, eta times as long.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds at most.")] = 2,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="After which no further trial begins.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="Tasks that trials are compared by, not your benchmark.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the proposals.")] = 0,
    queue: Annotated[bool, typer.Option(help="Hand it to a worker, do not wait.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search for better knobs: short trials of many, longer ones of the best; each is a run."""
    from flywheel.schema import require_current
    from flywheel.searching import SEARCH_JOB, start_search
    from foundation.database import session_scope
    from trainer.search import DEFAULT_SPACE, SearchPlan, parse_space

    require_current()
    space = parse_space(over) if over else dict(DEFAULT_SPACE)
    plan = SearchPlan(space, trials, steps, eta, rounds, minutes, seed, suite)
    recipe = chosen_recipe(role, preset, recipe_file, _changes(method, None, knobs))
    with session_scope() as session:
        dataset_id = _dataset_id(session, role, dataset, recipe)
        run_id = start_search(session, role, dataset_id, base, recipe, plan).id
    result = finish_run("search", SEARCH_JOB, run_id, queue=queue, quiet=as_json)
    if as_json or queue:
        print_json(result) if as_json else print_fields(result)
        return
    print_table(
        ("round", "steps", "knobs", "success" if suite else "validation loss"),
        [
            (number, trial["steps"], _said(trial["knobs"]), _scored(trial["score"], suite))
            for number, tried in enumerate(result["rounds"], start=1)
            for trial in tried
        ],
        "No trial was made.",
    )
    print_line(f"best: {_said(result['knobs'])} → {result['model_version']}")


def list_recipes(as_json: AsJson = False) -> None:
    """List the presets, and the methods that a recipe may name."""
    from trainer.methods import METHODS
    from trainer.recipe import PRESETS

    if as_json:
        print_json({name: recipe.to_dict() for name, recipe in PRESETS.items()})
        return
    print_table(
        ("preset", "method", "rank", "alpha", "layers", "rate", "epochs", "batch"),
        [
            (
                name,
                r.method,
                r.r,
                r.alpha,
                ", ".join(r.target_modules),
                f"{r.lr:g}",
                f"{r.epochs:g}",
                f"{r.batch_size} × {r.gradient_accumulation}",
            )
            for name, r in PRESETS.items()
        ],
        "No presets.",
    )
    console.print()
    print_table(
        ("method", "reads", "makes", "what it does"),
        [(name, m.reads, m.makes, m.about) for name, m in METHODS.items()],
        "No methods.",
    )


def show_recipe(
    preset: Annotated[str, typer.Argument(help="Preset, or an agent role for what it gets.")],
    as_json: AsJson = False,
) -> None:
    """Print a preset, or a role's own recipe, as YAML to begin a file with."""
    import yaml

    from trainer.recipe import PRESETS

    recipe = PRESETS[preset] if preset in PRESETS else chosen_recipe(preset, None, None, {})
    if as_json:
        print_json(recipe.to_dict())
        return
    print_line(yaml.safe_dump(recipe.to_dict(), sort_keys=False).rstrip())


def check_recipe(
    file: Annotated[Path, typer.Argument(help="Recipe YAML file.")], as_json: AsJson = False
) -> None:
    """Check a recipe file; say how it differs from the preset that it starts from."""
    from trainer.recipe import Recipe

    recipe = Recipe.from_yaml(file)
    said = {"recipe": str(file), "method": recipe.method, "hash": recipe.content_hash}
    print_json({**said, **recipe.to_dict()}) if as_json else print_fields(said)


def chosen_recipe(
    role: str, preset: str | None, file: Path | None, changes: Mapping[str, Any]
) -> "Recipe":
    """Return what a role is trained by: the file named, the preset, or the role's own recipe.

    Raises:
        BadInput: a preset and a file at once, or a knob that cannot be.
    """
    from foundation.errors import BadInput
    from trainer.recipe import preset as preset_of
    from trainer.recipe.by_role import recipe_of
    from trainer.search import changed

    if preset is not None and file is not None:
        raise BadInput("--preset", preset, "either a preset or a recipe file", "Leave one out.")
    return changed(preset_of(preset) if preset else recipe_of(role, file), changes)


def _changes(method: str | None, continual: str | None, knobs: list[str] | None) -> dict[str, Any]:
    from trainer.search import parse_knob

    changes = dict(parse_knob(text) for text in knobs or [])
    if method is not None:
        changes["method"] = method
    if continual is not None:
        changes["continual.method"] = continual
    return changes


def _dataset_id(session: "Session", role: str, name: str | None, recipe: "Recipe") -> UUID | None:
    from curation.export import find_dataset, latest_dataset
    from foundation.errors import BadInput, NotFound
    from trainer.methods import METHODS, TASKS

    reads = METHODS[recipe.method].reads
    if reads == TASKS:
        if name is not None:
            raise BadInput("--dataset", name, "a suite for this method", "Name it: --suite NAME")
        return None
    if name is not None:
        return find_dataset(session, name).id
    newest = latest_dataset(session, role, kind=reads)
    if newest is None:
        kind = "" if reads == "sft" else f" --kind {reads}"
        raise NotFound(
            "dataset",
            role,
            f"{'an' if reads == 'sft' else 'a'} {reads} dataset of this role",
            f"Run: flywheel curate --role {role}{kind}",
        )
    return newest.id


def _scored(score: float | None, suite: str | None) -> str | None:
    """Show a score as what was measured: of two losses, the negative of the lower one is better."""
    if score is None:
        return None
    return f"{score:.1%}" if suite else f"{-score:.4g}"


def _said(knobs: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in knobs.items()
    )
