"""Commands on sources of feedback: who says what, who stands out, whom to trust."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from flywheel.cli.output import AsJson, print_fields, print_json, print_table

Source = Annotated[str, typer.Argument(help="key:NAME or user:ACTOR.")]
Reason = Annotated[str, typer.Option(help="Why, in a few words.")]


def register(feedback: typer.Typer) -> None:
    """Add the commands of this file to the group `feedback`."""
    for command in (sources, trust, distrust, undo):
        feedback.command()(command)


def sources(
    role: Annotated[str | None, typer.Option(help="One role; default: all.")] = None,
    days: Annotated[float, typer.Option(min=0.01, help="How far back.")] = 28.0,
    as_json: AsJson = False,
) -> None:
    """List who said what of each role lately, and what stands out."""
    from collector.feedback import anomalies
    from collector.feedback.sources import MACHINE, list_trust
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.trust import shown_names
    from trainer.registry import require_role

    if role is not None:
        require_role(role)
    require_current()
    limits = anomalies.AnomalyThresholds(days=days)
    with session_scope() as session:
        trust = {row.source: row.trust for row in list_trust(session)}
        spared = {MACHINE, *(one for one, said in trust.items() if said == "trusted")}
        rows = [
            {"role": name, **row, "trust": trust.get(row["source"])}
            for name in ([role] if role else get_settings().roles)
            for row in anomalies.by_source(anomalies.count(session, name, limits), limits, spared)
        ]
        names = shown_names(session, [row["source"] for row in rows] + list(trust))
    for row in rows:
        row["name"] = names.get(row["source"], row["source"]) or "(master key, or none)"
    left_out = [names.get(one, one) for one, said in trust.items() if said == "distrusted"]
    if as_json:
        print_json({"sources": rows, "distrusted": left_out})
        return
    print_table(
        ("role", "source", "said", "share", "success", "trust", "stands out"),
        [
            (r["role"], r["name"], r["n"], f"{r['share']:.0%}", f"{r['success_rate']:.0%}")
            + (r["trust"], "; ".join(f"{k}: {v}" for k, v in r["flags"].items()) or None)
            for r in rows
        ],
        "Nobody said anything that counts.",
    )
    if left_out:
        print_fields({"left out": ", ".join(left_out)})


def trust(source: Source, reason: Reason, as_json: AsJson = False) -> None:
    """Let one source alone prove a version better."""
    _change(source, "trusted", reason, as_json)


def distrust(
    source: Source,
    reason: Reason,
    since: Annotated[
        datetime | None, typer.Option(help="Time (UTC) from which on; default: all it ever said.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Leave out what a source said, wherever it counts; say what holds it."""
    begins = since.replace(tzinfo=UTC) if since and since.tzinfo is None else since
    _change(source, "distrusted", reason, as_json, begins)


def undo(source: Source, reason: Reason, as_json: AsJson = False) -> None:
    """Take trust or distrust of a source back."""
    _change(source, "plain", reason, as_json)


def _change(
    source: str, trust: str, reason: str, as_json: bool, since: datetime | None = None
) -> None:
    from dataclasses import asdict

    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.trust import change

    require_current()
    actor = get_settings().admin_user
    with session_scope() as session:
        reach = change(session, source, trust, reason=reason, actor=actor, since=since)
    if as_json:
        print_json(asdict(reach))
        return
    reached = {
        "datasets": ", ".join(reach.datasets) or None,
        "models": ", ".join(reach.models) or None,
    }
    print_fields({**asdict(reach), "source": source, **reached})
