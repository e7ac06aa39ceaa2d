"""Commands for what no dataset may teach: the list of it, and the check of any file against it."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli.output import AsJson, console, print_fields, print_json, print_table

if TYPE_CHECKING:
    from curation.decontaminate import Protected, Suspect

_AT_ONCE = 500


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(
        help="What no dataset may teach: list, add, remove, sync, check.", no_args_is_help=True
    )
    group.command("list")(list_all)
    group.command("add")(add)
    group.command("remove")(remove)
    group.command("sync")(sync)
    group.command("check")(check)
    app.add_typer(group, name="protect")


def list_all(as_json: AsJson = False) -> None:
    """List the protected suites and lists, and how many examples each blocks."""
    from curation.decontaminate import list_sources
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        found = list_sources(session)
    if as_json:
        print_json([asdict(source) for source in found])
        return
    print_table(
        ("source", "items", "blocks", "since"),
        [(s.name, s.n_items, s.n_blocked, f"{s.added_at:%Y-%m-%d %H:%M}") for s in found],
        "Nothing is protected. Suites are, from the day they are added: flywheel suite add",
    )


def add(
    name: Annotated[str, typer.Argument(help="Name of the list.")],
    path: Annotated[Path, typer.Argument(help="JSONL of items: id, prompt, solution, keys.")],
    as_json: AsJson = False,
) -> None:
    """Protect the items of a file; the same name again replaces the list.

    Of a line are read: id (or task_id, instance_id), prompt (or text, question), solution (or
    canonical_solution, code, answer), keys (names that are blocked wherever they occur).
    """
    from curation.decontaminate import protect
    from evaluator.suites.jsonl import read_rows
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    items = [_protected(path, number, row) for number, row in read_rows(path)]
    with session_scope() as session:
        n_new = protect(session, name, items)
    found = {"source": name, "items": len(items), "new": n_new}
    print_json(found) if as_json else print_fields(found)


def remove(
    name: Annotated[str, typer.Argument(help="Name of a source, see protect list.")],
    as_json: AsJson = False,
) -> None:
    """Take a source off the list; what only it blocked is judged again by the next build."""
    from curation.decontaminate import unprotect
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        n_items = unprotect(session, name)
    found = {"source": name, "removed": n_items}
    print_json(found) if as_json else print_fields(found)


def sync(as_json: AsJson = False) -> None:
    """Protect the suites that were stored before suites were protected."""
    from evaluator.suites import protect_suites
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        n_suites = protect_suites(session)
    found = {"newly protected suites": n_suites}
    print_json({"suites": n_suites}) if as_json else print_fields(found)


def check(
    path: Annotated[Path, typer.Argument(help="JSONL, plain or gzipped; all its text is read.")],
    as_json: AsJson = False,
) -> None:
    """Say which lines of a file repeat a protected text, how it was found, and how closely.

    Exits with 1 when any line does.
    """
    from curation.decontaminate import Guard, protected_items
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        items = protected_items(session)
    named = {item.id: item for item in items}
    guard = Guard(items)
    found: list[dict[str, Any]] = []
    n_lines = 0
    for some in _suspects(path):
        n_lines += len(some)
        hits = guard.check([suspect for _, suspect in some])
        found += [
            {
                "line": number,
                "source": named[hit.protected_id].source,
                "item": named[hit.protected_id].item_id,
                "method": hit.method,
                "similarity": round(hit.similarity, 3),
            }
            for (number, _), row in zip(some, hits, strict=True)
            for hit in row
        ]
    n_repeating = len({one["line"] for one in found})
    if as_json:
        print_json({"lines": n_lines, "repeating": n_repeating, "hits": found})
    else:
        columns = ("line", "source", "item", "method", "similarity")
        if found:
            print_table(columns, [[one[name] for name in columns] for one in found], "")
        console.print(f"{n_repeating} of {n_lines} lines repeat one of {len(items)} protected.")
    if n_repeating:
        raise typer.Exit(1)


def _suspects(path: Path) -> Iterator[list[tuple[int, "Suspect"]]]:
    """Yield the lines of a file with their numbers, some at once."""
    from curation.decontaminate import Suspect, strings_in
    from evaluator.suites.jsonl import read_rows

    some: list[tuple[int, Suspect]] = []
    for number, row in read_rows(path):
        prompt = _text(_first(row, "prompt", "instruction", "question", "text"))
        some.append((number, Suspect(prompt, "\n".join(strings_in(row)))))
        if len(some) == _AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _protected(path: Path, number: int, row: dict[str, Any]) -> "Protected":
    from curation.decontaminate import Protected
    from foundation.errors import BadInput

    identifier = _first(row, "id", "task_id", "item_id", "instance_id")
    prompt = _text(_first(row, "prompt", "text", "question", "problem_statement"))
    keys = row.get("keys") or []
    if not isinstance(keys, list) or not (prompt.strip() or keys):
        raise BadInput(
            f"{path.name} line {number}",
            sorted(row),
            "a prompt, or a list of keys",
            "Correct the line; nothing of the file was used.",
        )
    return Protected(
        str(number if identifier is None else identifier),
        prompt,
        _text(_first(row, "solution", "canonical_solution", "code", "answer")),
        tuple(str(key) for key in keys),
    )


def _first(row: dict[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _text(value: Any) -> str:
    """Return the text of a string or of messages."""
    from foundation.chat import joined

    if isinstance(value, list):
        return joined([one for one in value if isinstance(one, dict)])
    return "" if value is None else str(value)
