"""Commands about the decision ledger."""

from typing import Annotated

import typer

from flywheel.cli.output import AsJson, as_uuid, print_fields, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    decisions = typer.Typer(help="Decisions: list, show, replay.", no_args_is_help=True)
    decisions.command("list")(list_newest)
    decisions.command("show")(show)
    decisions.command("replay")(replay)
    app.add_typer(decisions, name="decide")


def list_newest(
    role: Annotated[str | None, typer.Option(help="Only of this role.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the newest decisions."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.decisions import newest

    require_current()
    with session_scope() as session:
        found = newest(session, role, limit)
    if as_json:
        print_json([decision.model_dump(mode="json") for decision in found])
        return
    print_table(
        ("decision", "kind", "role", "outcome", "actor", "because"),
        [(d.id, d.kind, d.role, d.outcome, d.actor, (d.reasons or ["–"])[0]) for d in found],
        "No decisions yet.",
    )


def show(
    decision: Annotated[str, typer.Argument(help="Decision id.")], as_json: AsJson = False
) -> None:
    """Show a decision whole: inputs, thresholds, outcome, reasons."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.decisions import get_decision

    require_current()
    with session_scope() as session:
        found = get_decision(session, as_uuid("decision", decision)).model_dump(mode="json")
    print_json(found) if as_json else print_fields(found)


def replay(
    decision: Annotated[str, typer.Argument(help="Decision id.")], as_json: AsJson = False
) -> None:
    """Recompute a decision from its stored inputs; exit code 1 if the outcome differs."""
    import flywheel.worker  # noqa: F401  registers every room's rules
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.decisions import replay as replay_decision

    require_current()
    with session_scope() as session:
        found = replay_decision(session, as_uuid("decision", decision))
    answer = {
        "decision": str(found.decision.id),
        "kind": found.decision.kind,
        "stored_outcome": found.decision.outcome,
        "replayed_outcome": found.ruling.outcome,
        "agrees": found.agrees,
        "reasons": list(found.ruling.reasons),
    }
    print_json(answer) if as_json else print_fields(answer)
    raise typer.Exit(0 if found.agrees else 1)
