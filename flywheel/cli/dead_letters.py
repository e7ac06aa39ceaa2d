"""Commands for records that were refused: see them, try them again, or let them go."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli.output import AsJson, as_uuid, console, print_fields, print_json, print_table

if TYPE_CHECKING:
    from sqlmodel import Session

    from collector.tables import DeadLetter

Code = Annotated[str | None, typer.Option(help="Only those refused with this code.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of letters.")]
All = Annotated[bool, typer.Option("--all", help="Every letter that waits.")]

Settle = Callable[["Session", "DeadLetter"], str]
"""Settles one letter and returns its outcome."""


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(help="Records that were refused at ingest.", no_args_is_help=True)
    group.command("list")(list_letters)
    group.command("show")(show)
    group.command("replay")(replay_letters)
    group.command("discard")(discard_letters)
    app.add_typer(group, name="dead-letters")


def list_letters(
    code: Code = None,
    settled: Annotated[bool, typer.Option(help="Those that are settled, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Letters at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List refused records, newest first."""
    from collector.dead_letters import letters
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        found = letters(session, code, settled, limit)
    if as_json:
        print_json([letter.model_dump(mode="json", exclude={"record"}) for letter in found])
        return
    for letter in found:
        settled_as = f", settled as {letter.outcome}" if letter.outcome else ""
        received = f"{letter.received_at:%Y-%m-%d %H:%M:%S}"
        console.print(f"[bold]{letter.id}[/bold]  {received}{settled_as}")
        console.out(f"  {letter.kind} from {letter.source}", highlight=False)
        console.out(f"  {letter.reason}", highlight=False)
    if not found:
        console.print("No refused record waits.")


def show(
    letter_id: Annotated[str, typer.Argument(help="Id of a letter.")], as_json: AsJson = False
) -> None:
    """Show one refused record with its text, scrubbed."""
    from collector.dead_letters import get_letter
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        letter = get_letter(session, as_uuid("dead letter", letter_id)).model_dump(mode="json")
    print_json(letter) if as_json else print_fields(letter)


def replay_letters(
    letter_ids: Ids = None, code: Code = None, every: All = False, as_json: AsJson = False
) -> None:
    """Store refused records again, now that their cause is mended; the rest keeps waiting.

    What a key was not allowed to write (not_allowed) is stored only where its id is named.
    """
    from collector.dead_letters import UNKEPT
    from collector.replay import replay
    from collector.rights import NOT_ALLOWED

    def settle(session: "Session", letter: "DeadLetter") -> str:
        if letter.record == UNKEPT:
            return "not kept"
        if letter.code == NOT_ALLOWED and not letter_ids:
            return "not allowed, name its id"
        result = replay(session, letter)
        return str(result.reason).partition(":")[0] if result.reason else result.status

    _settle_each(letter_ids, code, every, settle, as_json)


def discard_letters(
    letter_ids: Ids = None, code: Code = None, every: All = False, as_json: AsJson = False
) -> None:
    """Let refused records go; they stay listed as discarded."""
    from collector.dead_letters import discard

    _settle_each(
        letter_ids, code, every, lambda session, letter: str(discard(session, letter).outcome),
        as_json,
    )  # fmt: skip


def _settle_each(
    letter_ids: list[str] | None, code: str | None, every: bool, settle: Settle, as_json: bool
) -> None:
    """Settle the chosen letters, each in its transaction, and print how many became what."""
    from collector.dead_letters import get_letter, open_ids
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.errors import BadInput

    require_current()
    if bool(letter_ids) + bool(code) + every != 1:
        raise BadInput(
            "choice of dead letters",
            {"ids": letter_ids, "code": code, "all": every},
            "ids, or --code, or --all",
            "List them with: flywheel dead-letters list",
        )
    with session_scope() as session:
        chosen = [as_uuid("dead letter", x) for x in letter_ids or []] or open_ids(session, code)
    outcomes: Counter[str] = Counter()
    for identifier in chosen:
        with session_scope() as session:
            outcomes[settle(session, get_letter(session, identifier))] += 1
    if as_json:
        print_json(dict(outcomes))
    else:
        print_table(("outcome", "letters"), list(outcomes.items()), "No refused record waits.")
