"""Commands about specialists: learn which version suits which task of a role, and show it."""

from typing import Annotated

import typer

from flywheel.cli.output import AsJson, percent, print_fields, print_json, print_table

Role = Annotated[str, typer.Argument(help="The agent role.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    specialists = typer.Typer(help="Which version suits which task.", no_args_is_help=True)
    specialists.command("fit")(fit)
    specialists.command("show")(show)
    app.add_typer(specialists, name="specialist")


def fit(role: Role, as_json: AsJson = False) -> None:
    """Learn from the role's experiments; used if it proves itself on tasks held out."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.specialist.fitting import learn

    require_current()
    with session_scope() as session:
        row = learn(session, role, actor=get_settings().admin_user)
        report, n_outcomes = row.report, row.n_outcomes
    if as_json:
        print_json({"role": role, "n_outcomes": n_outcomes, **report})
        return
    print_fields(
        {
            "role": role,
            "outcomes": n_outcomes,
            "held out": report["n"],
            "success of the choice": percent(report["chosen"]),
            "success of who serves": percent(report["default"]),
            "decision": report["outcome"],
            "because": "; ".join(report["reasons"]),
        }
    )


def show(role: Role, as_json: AsJson = False) -> None:
    """Show what the newest classifier of a role goes by."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.promote import require_role
    from router.specialist.classifier import Fit
    from router.specialist.store import newest

    require_current()
    require_role(role)
    with session_scope() as session:
        row = newest(session, role)
        found = row.model_dump(mode="json") if row else None
    if as_json:
        print_json(found)
        return
    if found is None:
        print_table((), [], f"Nothing was learned yet: flywheel specialist fit {role}")
        return
    fitted = Fit.from_json(found["fitted"])
    print_fields({"decision": found["report"]["outcome"], "learned": found["created_at"]})
    print_table(
        ("feature", *fitted.weights),
        [
            (name, *(f"{row[place]:+.2f}" for row in fitted.weights.values()))
            for place, name in enumerate((*fitted.columns, "constant"))
        ],
        "",
    )
