"""The command that erases calls, and everything that was made of them, at somebody's request."""

import getpass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from flywheel.cli.output import AsJson, console, notes, print_fields, print_json, print_table

if TYPE_CHECKING:
    from curation.tables import Erasure

_NOTHING: Final = "Nothing: no logged call has this name. It may be erased already."


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(erase)


def erase(
    interaction: Annotated[list[str] | None, typer.Option(help="Id of a call, repeatable.")] = None,
    episode: Annotated[str | None, typer.Option(help="Id of an episode: all of its calls.")] = None,
    unit: Annotated[str | None, typer.Option(help="Unit, such as a person: all calls.")] = None,
    project: Annotated[str | None, typer.Option(help="Project: all of its calls.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept.")] = None,
    actor: Annotated[str | None, typer.Option(help="Who asks; default: this user.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase calls, what was made of them, and their rows in published datasets; for good."""
    from curation import erase as erasing
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.errors import BadInput
    from trainer.lineage import learned_from

    named = {"interaction": interaction, "episode": episode, "unit": unit, "project": project}
    given = {scope: names for scope, names in named.items() if names}
    if len(given) != 1:
        expected = "one of --interaction, --episode, --unit, --project"
        raise BadInput("what to erase", sorted(given), expected, "See: flywheel erase --help")
    (scope, names), *_ = given.items()
    if as_json and not (yes or dry_run):
        raise BadInput("--json", True, "with --dry-run or --yes", "A program cannot be asked.")
    take_out = partial(
        erasing.erase,
        subject=erasing.Subject(scope, (names,) if isinstance(names, str) else tuple(names)),
        actor=actor or getpass.getuser(),
        reason=reason,
        learned_from=learned_from,
    )
    require_current()
    with session_scope() as session:
        tried = take_out(session, dry_run=True)
    if dry_run:
        _print(tried, as_json, done=False)
        return
    if not yes:
        _print(tried, False, done=False)
        typer.confirm("Erase it for good?", abort=True, err=True)
    with session_scope() as session:
        account = take_out(session)
    with session_scope() as session:
        erasing.delete_files(session)
    _print(account, as_json, done=True)


def _print(account: "Erasure", as_json: bool, *, done: bool) -> None:
    from curation.erase import FILES, NEIGHBOURS

    counts = {name: n for name, n in account.counts.items() if name != FILES}
    neighbours = counts.pop(NEIGHBOURS, 0)
    said: dict[str, Any] = {
        "erased": done,
        "counts": counts,
        "datasets": account.dataset_ids,
        "models": account.model_versions,
        "other_calls_of_the_episodes": neighbours,
    }
    if as_json:
        print_json(said)
        return
    print_table(("rows", "erased" if done else "would go"), sorted(counts.items()), _NOTHING)
    print_fields(
        {
            "datasets that held it": ", ".join(account.dataset_ids) or None,
            "models that learned from it": ", ".join(account.model_versions) or None,
        }
    )
    if neighbours:
        notes.print(
            f"{neighbours} other calls of the same episodes stay, and their prompts may quote it: "
            "--episode erases them too."
        )
    if done and counts:
        console.print("Curate again: what repeated it takes its place.")
