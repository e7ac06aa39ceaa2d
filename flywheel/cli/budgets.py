"""Commands about budgets, and what was used."""

from dataclasses import asdict
from typing import Annotated

import typer

from flywheel.cli.output import AsJson, console, percent, print_fields, print_json, print_table

Scope = Annotated[
    str, typer.Argument(help="all, role:ROLE, project:PROJECT, key:NAME, role:* or key:*.")
]
Measure = Annotated[str, typer.Argument(help="tokens_per_day or cost_usd_per_month.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    commands = typer.Typer(help="Budgets of tokens and money.", no_args_is_help=True)
    commands.command("list")(list_all)
    commands.command("set")(set_budget)
    commands.command("unset")(unset_budget)
    app.add_typer(commands, name="budget")
    app.command("usage")(usage)


def list_all(as_json: AsJson = False) -> None:
    """List the budgets with what is used of them, and when they are new."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.windows import as_said, standings

    require_current()
    with session_scope() as session:
        found = standings(session)
    if as_json:
        print_json([asdict(standing) for standing in found])
        return
    print_table(
        ("scope", "measure", "limit", "used", "promised", "share", "new at"),
        [
            (
                *(s.scope, s.measure),
                as_said(s.measure, s.amount) + (" (default)" if s.is_default else ""),
                *(None if n is None else as_said(s.measure, n) for n in (s.used, s.promised)),
                None if s.used is None or not s.amount else percent(s.used / s.amount),
                f"{s.resets_at:%Y-%m-%d %H:%M} UTC",
            )
            for s in found
        ],
        "No budgets.",
    )


def set_budget(
    scope: Scope,
    measure: Measure,
    amount: Annotated[float, typer.Argument(help="Tokens or US dollars; 0 refuses every call.")],
    as_json: AsJson = False,
) -> None:
    """Set a budget; what was used in the day or month under way counts."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.windows import set_limit

    require_current()
    with session_scope() as session:
        set_limit(session, scope, measure, amount, get_settings().admin_user)
    answer = {"scope": scope, "measure": measure, "amount": amount}
    print_json(answer) if as_json else print_fields(answer)


def unset_budget(scope: Scope, measure: Measure, as_json: AsJson = False) -> None:
    """Let the default hold again."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.windows import unset_limit

    require_current()
    with session_scope() as session:
        unset_limit(session, scope, measure)
    answer = {"scope": scope, "measure": measure}
    print_json(answer) if as_json else print_fields(answer)


def usage(
    by: Annotated[str, typer.Option(help="role, model, project, key or day.")] = "role",
    days: Annotated[int, typer.Option(min=1, help="Days of UTC, today among them.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Sum up what was asked of the gateway and what it cost, the costliest first."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.usage import summed

    require_current()
    with session_scope() as session:
        found = summed(session, by, days)
    if as_json:
        print_json([asdict(group) for group in found])
        return
    print_table(
        (by, "calls", "errors", "cached", "prompt tokens", "answer tokens", "US dollars"),
        [
            (
                g.group or None,
                *(f"{n:,}" for n in (g.n_calls, g.n_errors, g.n_cached)),
                *(f"{n:,}" for n in (g.input_tokens, g.output_tokens)),
                f"{g.cost_usd:,.4f}",
            )
            for g in found
        ],
        f"No calls in the last {days} days.",
    )
    estimated, unpriced = (sum(g.n_estimated for g in found), sum(g.n_unpriced for g in found))
    if estimated:
        console.print(f"Of {estimated:,} calls nobody stated the tokens: they are estimated.")
    if unpriced:
        console.print(f"{unpriced:,} calls are of models without a price: they cost 0 here.")
