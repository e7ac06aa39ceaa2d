"""Commands about who serves: promotion, rollback, the roles' policies, the emergency stop."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from flywheel.cli import experiments
from flywheel.cli.experiments import Reason
from flywheel.cli.output import AsJson, print_fields, print_json, print_table

OneRole = Annotated[str | None, typer.Option("--role", help="Only this role; default: all.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file and of experiments."""
    experiments.register(app)
    app.command()(promote)
    app.command()(rollback)
    policies = typer.Typer(help="What a role's router may do by itself.", no_args_is_help=True)
    policies.command("show")(show_policy)
    policies.command("set")(set_policy)
    app.add_typer(policies, name="policy")
    emergency = typer.Typer(help="Send everything to the baseline.", no_args_is_help=True)
    emergency.command("stop")(stop)
    emergency.command("resume")(resume)
    app.add_typer(emergency, name="emergency")


def promote(
    version: Annotated[str, typer.Argument(help="Model version, such as coder-v3.")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Let a version serve its role from now on; its server must have it ready before."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.promote import serve
    from serving.deploy import prepare
    from trainer.registry import get_version

    require_current()
    with session_scope() as session:
        found = get_version(session, version)
        actor = get_settings().admin_user
        promotion = serve(session, found.role, found, reason=reason, actor=actor, prepare=prepare)
    answer = promotion.model_dump(mode="json")
    print_json(answer) if as_json else print_fields(answer)


def rollback(
    role: Annotated[str, typer.Argument(help="Agent role.")],
    reason: Reason,
    to: Annotated[str | None, typer.Option(help="Version; default: the one before.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the version before back; the present one is quarantined."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.promote import rollback as roll_back
    from trainer.registry import get_version

    require_current()
    with session_scope() as session:
        target = get_version(session, to) if to else None
        actor = get_settings().admin_user
        promotion = roll_back(session, role, reason=reason, actor=actor, to=target)
    answer = promotion.model_dump(mode="json")
    print_json(answer) if as_json else print_fields(answer)


def show_policy(role: OneRole = None, as_json: AsJson = False) -> None:
    """Show what the router may do for each role by itself."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.policy import policy_of
    from router.promote import require_role

    require_current()
    if role:
        require_role(role)
    with session_scope() as session:
        found = [policy_of(session, one) for one in ([role] if role else get_settings().roles)]
    if as_json:
        print_json([policy.model_dump(mode="json") for policy in found])
        return
    print_table(
        ("role", "auto_promote", "held back", "stopped since", "settings"),
        [
            (p.role, p.auto_promote, f"{p.hold_back_share:.0%}", p.emergency_since, p.settings)
            for p in found
        ],
        "No roles.",
    )


def set_policy(
    role: Annotated[str, typer.Argument(help="Agent role.")],
    auto_promote: Annotated[
        str | None, typer.Option(help="off (only propose), assisted (one click) or on (alone).")
    ] = None,
    hold_back: Annotated[
        float | None, typer.Option(help="Share of tasks held back after a promotion, 0-0.5.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Version that an emergency stop sends everything to.")
    ] = None,
    guard: Annotated[
        list[str] | None,
        typer.Option(help="Changed threshold of the guard, such as slow_limit_ms=5000."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, in a sentence; kept in the Decision.")] = "",
    as_json: AsJson = False,
) -> None:
    """Change what the router may do for a role by itself."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.policy import set_policy as change

    require_current()
    with session_scope() as session:
        policy = change(
            session,
            role,
            actor=get_settings().admin_user,
            auto_promote=auto_promote,
            hold_back_share=hold_back,
            baseline=baseline,
            guard=experiments.plan_changes(guard) if guard else None,
            reason=reason,
        )
    answer = policy.model_dump(mode="json")
    print_json(answer) if as_json else print_fields(answer)


def stop(reason: Reason, role: OneRole = None, as_json: AsJson = False) -> None:
    """Send everything to the baseline, within a second; no experiment gets traffic."""
    from router.emergency import stop as stop_traffic

    _emergency(stop_traffic, reason, role, as_json, "Nothing was running that is not stopped.")


def resume(reason: Reason, role: OneRole = None, as_json: AsJson = False) -> None:
    """Serve as before the emergency stop."""
    from router.emergency import resume as resume_traffic

    _emergency(resume_traffic, reason, role, as_json, "Nothing is stopped.")


def _emergency(
    change: Callable[..., Sequence[Any]], reason: str, role: str | None, as_json: bool, nothing: str
) -> None:
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings

    require_current()
    with session_scope() as session:
        found = change(session, reason, get_settings().admin_user, role)
    if as_json:
        print_json([decision.model_dump(mode="json") for decision in found])
        return
    rows = [(d.role, d.outcome, (d.reasons or ["–"])[-1]) for d in found]
    print_table(("role", "outcome", "now"), rows, nothing)
