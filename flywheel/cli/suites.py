"""Commands that keep benchmark suites."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from flywheel.cli.output import AsJson, console, print_fields, print_json, print_table, printable

if TYPE_CHECKING:
    from evaluator.suites import Task
    from evaluator.tables import SuiteTask

commands = typer.Typer(help="Benchmark suites.", no_args_is_help=True)

_COUNTED = ("difficulty", "task_type", "domain")
_SHOWN_CHARS = 2000

ALL = "all"
FORMATS = (
    *("tasks", "bugsinpy", "humaneval", "inspect", "lm_eval", "mbpp", "mbpp_plus", "quixbugs"),
)
"""Names of `evaluator.suites.READERS`, which is not loaded to print a help text."""


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(commands, name="suite")


@commands.command()
def add(
    name: Annotated[
        str | None, typer.Argument(help="Name of the suite; with --built-in also: all.")
    ] = None,
    path: Annotated[Path | None, typer.Argument(help="File of tasks, .jsonl or .jsonl.gz.")] = None,
    role: Annotated[
        str | None,
        typer.Option(help="Agent role that it measures; default: coder (bugsinpy: reviewer)."),
    ] = None,
    format: Annotated[str, typer.Option(help=f"{', '.join(FORMATS)}.")] = "tasks",
    draft: Annotated[bool, typer.Option("--draft", help="More is to come: do not freeze it.")] = (
        False
    ),
    built_in: Annotated[
        bool,
        typer.Option("--built-in", help="NAME comes with the product; without NAME: list those."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Store a benchmark suite; the same content again is the same version."""
    from evaluator import suites
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope

    require_current()
    if built_in and name is None:
        _print_built_in(as_json)
        return
    orders = _built_in(name, role) if built_in else [_from_file(name, path, role, format)]
    with session_scope() as session:
        found = [
            explain_row(
                suites.add_suite(session, one.name, one.role, one.tasks, one.origin, is_draft=draft)
            )
            for one in orders
        ]
    if name == ALL and built_in:
        print_json(found) if as_json else _print_suites(found)
    else:
        print_json(found[0]) if as_json else print_fields(found[0])


class _Order(NamedTuple):
    """A suite to be stored."""

    name: str
    role: str
    tasks: "list[Task]"
    origin: str


def _built_in(name: str | None, role: str | None) -> list[_Order]:
    """Return the built-in suite of a name, or all of them."""
    from evaluator.suites.built_in import BUILT_IN
    from foundation.errors import BadInput, NotFound
    from trainer.registry import require_role

    if name != ALL and name not in BUILT_IN:
        known = ", ".join(f"{n} ({r}, {len(make())} tasks)" for n, (r, make) in BUILT_IN.items())
        raise NotFound("built-in suite", name, f"one of {known}; or {ALL}", "Choose one.")
    if name == ALL and role is not None:
        raise BadInput("--role", role, f"none with {ALL}", "Each suite has its own.")
    if role is not None:  # general and safety suites are of no agent role
        require_role(role)
    chosen = BUILT_IN if name == ALL else {str(name): BUILT_IN[str(name)]}
    return [_Order(n, role or own, make(), "built in") for n, (own, make) in chosen.items()]


def _from_file(name: str | None, path: Path | None, role: str | None, format: str) -> _Order:
    from evaluator.suites import READERS
    from foundation.errors import BadInput
    from trainer.registry import require_role

    if name is None:
        raise BadInput("name of the suite", None, "a name, or --built-in", "Give it one.")
    if path is None:
        raise BadInput("file of tasks", None, "a file, or --built-in", "Name the file.")
    if format not in READERS:
        raise BadInput("suite format", format, f"one of {', '.join(READERS)}", "Correct --format.")
    measured = role or ("reviewer" if format == "bugsinpy" else "coder")
    require_role(measured)
    return _Order(name, measured, READERS[format](path), path.name)


def _print_built_in(as_json: bool) -> None:
    """Print the suites that come with the product: role, size, and as what they are stored."""
    from evaluator.suites import content_hash, list_suites
    from evaluator.suites.built_in import BUILT_IN
    from foundation.database import session_scope

    with session_scope() as session:
        stored = {(s.name, s.content_hash): s.version for s in list_suites(session)}
    known: list[dict[str, Any]] = []
    for name, (role, make) in sorted(BUILT_IN.items()):
        tasks = make()
        version = stored.get((name, content_hash(tasks)))
        ref = None if version is None else f"{name}@{version}"
        known.append({"name": name, "role": role, "n_tasks": len(tasks), "stored": ref})
    if as_json:
        print_json(known)
        return
    print_table(
        ("built-in suite", "role", "tasks", "stored as"),
        [(one["name"], one["role"], one["n_tasks"], one["stored"]) for one in known],
        "None.",
    )
    console.print("Store one, or all: flywheel suite add NAME --built-in", highlight=False)


@commands.command("list")
def list_all(
    built_in: Annotated[
        bool, typer.Option("--built-in", help="Those that come with the product.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the benchmark suites."""
    from evaluator import suites
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope

    require_current()
    if built_in:
        _print_built_in(as_json)
        return
    with session_scope() as session:
        found = [explain_row(suite) for suite in suites.list_suites(session)]
    print_json(found) if as_json else _print_suites(found)


def _print_suites(found: list[dict[str, Any]]) -> None:
    print_table(
        ("suite", "role", "tasks", "state", "hash", "origin"),
        [
            (
                f"{s['name']}@{s['version']}",
                s["role"],
                s["n_tasks"],
                "frozen" if s["frozen_at"] else "draft",
                s["content_hash"][:12],
                s["origin"],
            )
            for s in found
        ],
        "No suites yet: flywheel suite add --built-in",
    )


@commands.command()
def show(
    ref: Annotated[str, typer.Argument(help="Name, or name@version.")], as_json: AsJson = False
) -> None:
    """Show a suite: how many tasks of each kind, its hash, and one of its tasks."""
    from evaluator import suites
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope

    require_current()
    with session_scope() as session:
        suite = suites.load_suite(session, ref)
        tasks = suites.tasks_of(session, suite)
        counts = {name: _counts(tasks, name) for name in (*_COUNTED, "grader")}
        sample = explain_row(tasks[0]) if tasks else None
        found: dict[str, Any] = {**explain_row(suite), "counts": counts, "sample_task": sample}
    if as_json:
        print_json(found)
        return
    print_fields({k: v for k, v in found.items() if k not in ("counts", "sample_task")})
    rows = [(kind, name, n) for kind, values in counts.items() for name, n in values.items()]
    console.print()
    print_table(("by", "value", "tasks"), rows, "No tasks.")
    if sample:
        console.print(f"\n[bold]{printable(sample['task_id'])}[/bold]")
        for said in sample["prompt"]:
            text = printable(f"{said['role']}: {said.get('content')}")
            console.out(text[:_SHOWN_CHARS], highlight=False)


def _counts(tasks: "list[SuiteTask]", name: str) -> dict[str, int]:
    values = (task.grader if name == "grader" else task.attributes.get(name) for task in tasks)
    return dict(Counter(str(value or "–") for value in values).most_common())


@commands.command()
def freeze(
    ref: Annotated[str, typer.Argument(help="Name, or name@version.")], as_json: AsJson = False
) -> None:
    """Let a draft change no more; what comes next is a new version."""
    from evaluator import suites
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope

    require_current()
    with session_scope() as session:
        found = explain_row(suites.freeze(session, ref))
    print_json(found) if as_json else print_fields(found)


@commands.command()
def grow(
    name: Annotated[str, typer.Argument(help="Name of the suite.")],
    role: Annotated[str, typer.Option(help="Agent role whose log it grows from.")],
    as_json: AsJson = False,
) -> None:
    """Put a role's held-out examples and corrected failures into the draft of a suite."""
    from evaluator.suites.grown import grow_suite
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope
    from trainer.registry import require_role

    require_current()
    require_role(role)
    with session_scope() as session:
        growth = grow_suite(session, name, role)
        found = {
            "held_out": growth.n_held_out,
            "corrected": growth.n_corrected,
            "left_out": growth.n_left_out,
            **(explain_row(growth.suite) if growth.suite else {}),
        }
    print_json(found) if as_json else print_fields(found)
