"""Commands about keys to gateway and service."""

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from flywheel.cli.output import AsJson, console, print_fields, print_json, print_table

SOON = timedelta(days=14)
"""Keys that end within this time are pointed out."""

Name = Annotated[str, typer.Argument(help="Name of the key.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    commands = typer.Typer(help="Keys to gateway and service.", no_args_is_help=True)
    for command in (create, rotate, revoke, records):
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
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it opens, repeatable; default: gateway. See docs/keys.md."),
    ] = None,
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
            scopes=scope or (),
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
        (
            *("key", "begins with", "opens", "kind", "roles", "projects", "limits"),
            *("used last", "expires", "revoked"),
        ),
        [
            (
                *(key["name"], f"{key['prefix']}…", ", ".join(key["scopes"]), key["kind"]),
                *(", ".join(key[scope] or ["all"]) for scope in ("roles", "projects")),
                ", ".join(f"{name} {limit:,}" for name, limit in key["limits"].items()) or None,
                *(key["last_used_at"], key["expires_at"], key["revoked_at"]),
            )
            for key in found
        ],
        f"No keys: {_who_opens()}. Make one: flywheel key create NAME",
    )
    for warning in _warnings(found):
        console.print(warning)


def _who_opens() -> str:
    """Say what opens gateway and service while no key was made."""
    from foundation.settings import get_settings

    if get_settings().api_key is None:
        return "the gateway is open on this machine"
    return "FLYWHEEL_API_KEY alone opens gateway and service"


def _warnings(found: list[dict[str, Any]]) -> list[str]:
    """Return what should be seen to: keys that end soon, and old secrets that open still."""
    moment, said = datetime.now(UTC), list[str]()
    for key in found:
        if key["revoked_at"]:
            continue
        ends, grace = _time(key["expires_at"]), _time(key["previous_expires_at"])
        if ends and moment < ends <= moment + SOON:
            said.append(f"{key['name']} ends in {_in_words(ends - moment)}.")
        if grace and moment < grace:
            said.append(f"{key['name']}: the old secret opens for {_in_words(grace - moment)}.")
    return said


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _in_words(left: timedelta) -> str:
    hours = left.total_seconds() / 3600
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{max(1, hours):.0f} h"


def rotate(
    name: Name,
    grace: Annotated[
        str | None,
        typer.Option(help="How long the old secret opens still (30m, 24h, 7d); default: not."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret and show it, this once; the old one is refused, or after a grace."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.keys import explain_key, rotate_key

    require_current()
    with session_scope() as session:
        row, secret = rotate_key(session, name, _duration(grace) if grace else None)
    _show_once({"key": secret, **explain_key(row)}, as_json)


def revoke(name: Name, as_json: AsJson = False) -> None:
    """Let a key open nothing any more; running processes know within about a second."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.keys import explain_key, revoke_key

    require_current()
    with session_scope() as session:
        answer = explain_key(revoke_key(session, name))
    print_json(answer) if as_json else print_fields(answer)


def records(
    name: Name,
    days: Annotated[int, typer.Option(min=1, help="How far back.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Show what came by a key: calls, feedback and refused records, by role, project and sender."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from router.key_records import records_of

    require_current()
    with session_scope() as session:
        found = records_of(session, name, days)
    if as_json:
        print_json([asdict(group) for group in found])
        return
    print_table(
        ("what", "role", "project", "sent by", "number", "first", "last"),
        [
            (
                *(group.what, group.role, group.project, group.source, group.n),
                *(group.first_at.isoformat(), group.last_at.isoformat()),
            )
            for group in found
        ],
        f"Nothing came by {name} in the last {days} days.",
    )


def _duration(text: str) -> timedelta:
    """Return the time that `30m`, `24h` or `7d` says; raises BadInput."""
    from foundation.errors import BadInput

    found = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if found is None:
        raise BadInput("--grace", text, "such as 30m, 24h or 7d", "Give a number and its unit.")
    unit = {"m": "minutes", "h": "hours", "d": "days"}[found[2]]
    return timedelta(**{unit: int(found[1])})


def _show_once(answer: dict[str, object], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    print_fields(answer)
    console.print("The key is not kept: nobody can show it again.")
