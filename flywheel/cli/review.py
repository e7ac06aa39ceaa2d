"""Commands of review: look at what waits, say something, see how it goes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flywheel.cli.output import (
    AsJson,
    as_uuid,
    console,
    notes,
    percent,
    print_fields,
    print_json,
    print_table,
)


class StartOrCommand(TyperGroup):
    """A group that starts reviewing where no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line; an empty one means `start`."""
        return super().parse_args(ctx, args or ["start"])


commands = typer.Typer(
    cls=StartOrCommand,
    help="Review what is learned: accept, reject, edit, rate, compare. "
    "`flywheel review` alone goes through the queue key by key.",
)

ItemId = Annotated[str, typer.Argument(help="Id of the item.")]
Reviewer = Annotated[str | None, typer.Option(help="Who reviews; by default FLYWHEEL_ADMIN_USER.")]
Role = Annotated[str | None, typer.Option(help="Only this agent role.")]
Kind = Annotated[str | None, typer.Option(help="Only example, pair, likeness or sample.")]
Reason = Annotated[str | None, typer.Option(help="Why, in a few words.")]
Since = Annotated[datetime | None, typer.Option(help="Labels from this time (UTC) on.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(commands, name="review")


@commands.command()
def start(
    role: Role = None, kind: Kind = None, reviewer: Reviewer = None, as_json: AsJson = False
) -> None:
    """Go through the queue in the terminal, one key for each verdict; q ends it."""
    from flywheel.cli.review_keys import Review
    from flywheel.schema import require_current

    require_current()
    counts = Review(_name(reviewer), role, kind, notes if as_json else console).run()
    print_json(counts) if as_json else print_fields(counts or {"labels": 0})


@commands.command("next")
def take_next(
    role: Role = None, kind: Kind = None, reviewer: Reviewer = None, as_json: AsJson = False
) -> None:
    """Lease the next item and show it; the same one until it is labelled or the lease ends."""
    from curation.review.cards import card_of
    from curation.review.leases import next_item
    from flywheel.cli.review_keys import show
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        item = next_item(session, _name(reviewer), role, kind=kind)
        card = None if item is None else card_of(session, item.id, _name(reviewer))
    if as_json:
        print_json(None if card is None else card.as_json())
    elif card is None:
        console.print("Nothing waits.")
    else:
        show(card, console)


@commands.command()
def label(
    item_id: ItemId,
    action: Annotated[str, typer.Argument(help="accept, reject, edit, rate, relabel, compare.")],
    reason: Reason = None,
    rating: Annotated[int | None, typer.Option(help="1 to 5.")] = None,
    task_type: Annotated[str | None, typer.Option(help="The right task type.")] = None,
    difficulty: Annotated[str | None, typer.Option(help="easy, medium or hard.")] = None,
    answer: Annotated[Path | None, typer.Option(help="File of the edited answer.")] = None,
    choice: Annotated[
        str | None, typer.Option(help="Of a comparison: first, second or tie.")
    ] = None,
    reviewer: Reviewer = None,
    as_json: AsJson = False,
) -> None:
    """Say something of an item."""
    from curation.review import labels
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope

    require_current()
    given = {
        "rating": rating,
        "task_type": task_type,
        "difficulty": difficulty,
        "answer": None if answer is None else _read(answer),
        "choice": choice,
    }
    value = {name: said for name, said in given.items() if said is not None}
    identifier = as_uuid("review item", item_id)
    with session_scope() as session:
        said = explain_row(
            labels.label(session, identifier, _name(reviewer), action, value, reason)
        )
    print_json(said) if as_json else print_fields({"label": said["id"], "action": action})


@commands.command()
def skip(
    item_id: ItemId, reason: Reason = None, reviewer: Reviewer = None, as_json: AsJson = False
) -> None:
    """Leave an item to others."""
    from curation.review import labels
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope

    require_current()
    identifier = as_uuid("review item", item_id)
    with session_scope() as session:
        said = explain_row(labels.skip(session, identifier, _name(reviewer), reason))
    print_json(said) if as_json else print_fields({"skipped": said["item_id"]})


@commands.command()
def undo(
    label_id: Annotated[
        str | None, typer.Argument(help="Id of a label; by default your last.")
    ] = None,
    reviewer: Reviewer = None,
    as_json: AsJson = False,
) -> None:
    """Take a label back; its item waits again."""
    from curation.review import labels
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope

    require_current()
    identifier = None if label_id is None else as_uuid("review label", label_id)
    with session_scope() as session:
        said = explain_row(labels.undo(session, _name(reviewer), identifier))
    fields = {"undone": said["action"], "item": said["item_id"]}
    print_json(said) if as_json else print_fields(fields)


@commands.command()
def stats(role: Role = None, since: Since = None, as_json: AsJson = False) -> None:
    """Show what waits, and who reviewed how much and how fast."""
    from dataclasses import asdict

    from curation.review.workload import reviewers, waiting
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        queue = waiting(session, role)
        people = reviewers(session, role, _utc(since))
    if as_json:
        print_json(
            {
                "waiting": [asdict(one) for one in queue],
                "reviewers": [asdict(one) for one in people],
            }
        )
        return
    print_table(
        ("role", "kind", "because", "open", "second", "in hand", "done"),
        [(w.role, w.kind, w.reason, w.open, w.second, w.leased, w.done) for w in queue],
        "The queue is empty. Fill it with: flywheel review fill",
    )
    if people:
        print_table(
            ("reviewer", "labels", "skipped", "undone", "median s", "per hour", "assigned"),
            [
                (p.reviewer, p.n_labels, p.n_skipped, p.n_undone)
                + (_rounded(p.median_s), _rounded(p.labels_per_hour), p.n_assigned)
                for p in people
            ],
            "",
        )


@commands.command("agreement")
def show_agreement(role: Role = None, since: Since = None, as_json: AsJson = False) -> None:
    """Show how far reviewers agree on what two or more of them labelled."""
    from dataclasses import asdict

    from curation.review.agreement import agreement
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        found = agreement(session, role, _utc(since))
    if as_json:
        print_json(asdict(found))
        return
    print_fields(
        {
            "items labelled twice": found.n_items,
            "same verdict": percent(found.percent),
            "Krippendorff's alpha": _rounded(found.alpha, 3),
            "alpha of ratings": _rounded(found.rating_alpha, 3),
        }
    )
    print_table(
        ("reviewers", "items", "same", "Cohen's kappa"),
        [
            (" and ".join(p.reviewers), p.n, percent(p.percent), _rounded(p.kappa, 3))
            for p in found.pairs
        ],
        "No item has been labelled by two people yet.",
    )
    for case in found.disagreements:
        said = ", ".join(f"{name}: {verdict}" for name, verdict in case.verdicts.items())
        console.out(f"{case.item_id}  {said}", highlight=False)


@commands.command()
def fill(
    role: Annotated[str, typer.Option(help="Whose queue.")],
    task_type: Annotated[str | None, typer.Option(help="Only examples of this task type.")] = None,
    drop_reason: Annotated[
        str | None, typer.Option(help="Only what was left out for this reason.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Only from this score on.")] = None,
    max_score: Annotated[float | None, typer.Option(help="Only up to this score.")] = None,
    contains: Annotated[str | None, typer.Option(help="Only answers with this text.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Filtered items at most.")] = 100,
    reviewers: Annotated[int, typer.Option(min=1, help="Labels that each item needs.")] = 1,
    assign_to: Annotated[str | None, typer.Option(help="The one reviewer who gets them.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fill a queue from the newest dataset, or with the examples that match the filters."""
    from curation.review.filters import Filters, add_matching
    from curation.review.queue import fill_queue
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    given = {
        "task_type": task_type,
        "drop_reason": drop_reason,
        "min_score": min_score,
        "max_score": max_score,
        "contains": contains,
    }
    filters = {name: value for name, value in given.items() if value is not None}
    with session_scope() as session:
        if filters or assign_to:
            n = add_matching(
                session,
                role,
                Filters.from_json(filters),
                limit=limit,
                n_wanted=reviewers,
                assigned_to=assign_to,
            )
            counts = {"filter": n}
        else:
            counts = fill_queue(session, role)
    print_json(counts) if as_json else print_fields(counts or {"added": 0})


@commands.command()
def export(
    file: Annotated[Path, typer.Argument(help="File to write, JSON lines.")],
    role: Role = None,
    since: Since = None,
    undone: Annotated[bool, typer.Option(help="Undone labels, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write labels with what they are about to a file, oldest first."""
    import json

    from curation.review.export import exported
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    n = 0
    with session_scope() as session, _writable(file).open("w", encoding="utf-8") as lines:
        for row in exported(session, role, _utc(since), undone=undone):
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            n += 1
    done = {"labels": n, "file": str(file)}
    print_json(done) if as_json else print_fields(done)


def _name(reviewer: str | None) -> str:
    from foundation.settings import get_settings

    return reviewer or get_settings().admin_user


def _read(path: Path) -> str:
    from foundation.errors import BadInput

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("answer", str(path), "a text in UTF-8", str(error)) from None


def _writable(path: Path) -> Path:
    from foundation.errors import BadInput

    if not path.parent.is_dir():
        raise BadInput("file", str(path), "a file in a folder that exists", "Make the folder.")
    return path


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _rounded(value: float | None, digits: int = 1) -> float | None:
    return None if value is None else round(value, digits)
