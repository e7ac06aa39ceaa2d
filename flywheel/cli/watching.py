"""Commands that watch what was learned: drift in service, knowledge gaps, return on investment."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli.output import (
    AsJson,
    as_uuid,
    console,
    percent,
    print_json,
    print_table,
    printable,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(drift)
    app.command()(gaps)
    app.command()(roi)


def drift(
    role: Annotated[str | None, typer.Option(help="Show only this role.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look whether versions in service fail more often than they used to; exit code 1 if one does.

    Takes in what was said since the last look, as the scheduler does.
    """
    import flywheel.worker  # noqa: F401  registers every room's rules
    from evaluator.drift import reports, watch_all
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        watch_all(session)
        found = reports(session, role)
    if as_json:
        print_json([one.as_json() for one in found])
    else:
        print_table(
            ("role", "version", "reference", "outcomes", "failed", "E", "drop", "alarm"),
            [_watch_cells(one.as_json()) for one in found],
            "No version is in service yet: flywheel promote VERSION --reason …",
        )
        for one in found:
            for reason in one.reasons:
                console.out(f"  {printable(reason)}", highlight=False)
    raise typer.Exit(1 if any(one.alarm_decision_id for one in found) else 0)


def _watch_cells(watch: dict[str, Any]) -> tuple[Any, ...]:
    seen = watch["inputs"] or {}
    return (
        watch["role"],
        watch["version"],
        percent(seen.get("reference_rate")),
        seen.get("n"),
        seen.get("n_failed"),
        f"{watch['e_value']:.3g}" if seen else None,
        f"{watch['drop_points']:.1f} points" if seen else None,
        watch["alarm_decision_id"],
    )


def gaps(
    role: Annotated[str, typer.Option(help="Agent role.")],
    days: Annotated[int, typer.Option(min=1, help="How far back outcomes count.")] = 30,
    version: Annotated[str | None, typer.Option(help="Only what this version answered.")] = None,
    campaign: Annotated[
        Path | None, typer.Option(help="Campaign file to draft from the gaps, without starting it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show where a role fails, by what there is to win; optionally draft a campaign for it."""
    from dataclasses import asdict

    from evaluator.gaps import difficulties_for, gaps_of, recipe_for, topics_for
    from flywheel.handover import draft_campaign
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.registry import get_version, require_role

    require_current()
    require_role(role)
    with session_scope() as session:
        version_id = get_version(session, version).id if version else None
        found = gaps_of(session, role, days, version_id)
        drafted = draft_campaign(session, campaign, role, found).name if campaign else None
    answer = {
        "role": role,
        "gaps": [asdict(gap) for gap in found],
        "topics": topics_for(found),
        "difficulties": difficulties_for(found),
        "recipe": recipe_for(found),
        "campaign": drafted,
    }
    if as_json:
        print_json(answer)
        return
    print_table(
        ("from", "by", "kind", "tasks", "share", "fails", "95 % interval", "worth", "shown"),
        [
            (
                gap.source,
                gap.attribute,
                gap.value,
                gap.n_tasks,
                percent(gap.share),
                percent(gap.failure_rate),
                f"{percent(gap.failure_low)} to {percent(gap.failure_high)}",
                f"{gap.worth_points:.1f} points",
                "yes" if gap.is_shown else "no",
            )
            for gap in found
        ],
        f"No failures of {role} are known: it has no outcomes and no evaluation, or no failure.",
    )
    if answer["recipe"]:
        console.out(f"Curate with: {answer['recipe']}", highlight=False)
    if drafted:
        console.out(f"Drafted; start it with: flywheel campaign resume {printable(drafted)}")


def roi(
    file: Annotated[Path, typer.Argument(help="YAML file of costs and values.")],
    verdict: Annotated[
        str | None, typer.Option(help="Take the improvement and its interval from this verdict.")
    ] = None,
    months: Annotated[float, typer.Option(help="Within which it must have paid.")] = 12.0,
    as_json: AsJson = False,
) -> None:
    """Say whether a better model pays, from what it costs and what it saves."""
    from evaluator.roi import decide_roi, read_inputs
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    known = read_inputs(file)
    verdict_id = as_uuid("verdict", verdict) if verdict else None
    with session_scope() as session:
        decision = decide_roi(session, known, months, verdict_id)
        answer = decision.model_dump(mode="json")
    if as_json:
        print_json(answer)
        return
    console.print(f"[bold]{answer['outcome']}[/bold]  decision {answer['id']}")
    for reason in answer["reasons"]:
        console.out(f"  {printable(reason)}", highlight=False)
