"""Commands about keys to the gateway."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from flywheel.cli.output import AsJson, console, print_fields, print_json, print_table

Name = Annotated[str, typer.Argument(help="Name of the key.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    commands = typer.Typer(help="Keys to the gateway.", no_args_is_help=True)
    for command in (create, rotate, revoke):
        commands.command()(command)
    commands.command("list")(list_all)
    app.add_typer(commands, name="key")


def create(
    name: Name,
    kind: Annotated[str, typer.Option(help="Who carries it: agent, user or service.")] = "agent",
    role: Annotated[
        list[str] | None, typer.Option(help="Role it may call for, repeatable; default: every one.")
    ] = None,
    project: Annotated[list[str] | None, typer.Option(help="Project likewise, repeatable.")] = None,
    expires: Annotated[datetime | None, typer.Option(help="Time (UTC) it ends.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Calls.")] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Of prompts and answers.")
    ] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Calls at the same time.")] = None,
    tokens_per_day: Annotated[float | None, typer.Option(min=0, help="Budget of tokens.")] = None,
    cost_per_month: Annotated[float | None, typer.Option(min=0, help="US dollars.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it, this once."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.settings import get_settings
    from router.keys import KeyLimits, create_key, explain_key
    from router.windows import limit_key

    require_current()
    limits = KeyLimits(requests_per_minute, tokens_per_minute, concurrent)
    ends = expires.replace(tzinfo=UTC) if expires and expires.tzinfo is None else expires
    actor = get_settings().admin_user
    with session_scope() as session:
        row, secret = create_key(
            session,
            name,
            kind=kind,
            roles=role or (),
            projects=project or (),
            limits=limits,
            expires_at=ends,
            actor=actor,
        )
        limit_key(session, name, tokens_per_day, cost_per_month, actor)
    _show_once({"key": secret, **explain_key(row)}, as_json)


def list_all(as_json: AsJson = False) -> None:
    """List the keys by name, revoked ones too; what opens is not kept."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.keys import explain_key, list_keys

    require_current()
    with session_scope() as session:
        found = [explain_key(row) for row in list_keys(session)]
    if as_json:
        print_json(found)
        return
    print_table(
        ("key", "begins with", "kind", "roles", "projects", "limits", "expires", "revoked"),
        [
            (
                *(key["name"], f"{key['prefix']}…", key["kind"]),
                *(", ".join(key[scope] or ["all"]) for scope in ("roles", "projects")),
                ", ".join(f"{name} {limit:,}" for name, limit in key["limits"].items()) or None,
                *(key["expires_at"], key["revoked_at"]),
            )
            for key in found
        ],
        "No keys: the gateway is open on this machine. Make one: flywheel key create NAME",
    )


def rotate(name: Name, as_json: AsJson = False) -> None:
    """Give a key a new secret and show it, this once; the old one is refused from now on."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.keys import explain_key, rotate_key

    require_current()
    with session_scope() as session:
        row, secret = rotate_key(session, name)
    _show_once({"key": secret, **explain_key(row)}, as_json)


def revoke(name: Name, as_json: AsJson = False) -> None:
    """Let a key open nothing any more; running gateways know within about a second."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.keys import explain_key, revoke_key

    require_current()
    with session_scope() as session:
        answer = explain_key(revoke_key(session, name))
    print_json(answer) if as_json else print_fields(answer)


def _show_once(answer: dict[str, object], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    print_fields(answer)
    console.print("The key is not kept: nobody can show it again.")
