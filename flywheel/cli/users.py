"""Commands of who may sign in to the admin view."""

import sys
from typing import Annotated

import typer

from flywheel.cli.output import AsJson, console, print_fields, print_json, print_line, print_table

commands = typer.Typer(
    help="Users of the admin view: who may sign in, as what.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="Name of the user.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(commands, name="user")
    app.command()(login)


def login(
    name: Annotated[
        str | None, typer.Argument(help="Who signs in; by default FLYWHEEL_ADMIN_USER.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a one-time link to the admin view; where nobody is a user yet, make the first admin."""
    from flywheel.invite import link_for
    from flywheel.schema import require_current

    require_current()
    link = link_for(name)
    if as_json:
        print_json({"sign in": link})
        return
    print_line(link)


@commands.command()
def create(
    name: Name,
    role: Annotated[
        str, typer.Option(help="viewer, reviewer, operator or admin: what they may do.")
    ] = "reviewer",
    as_json: AsJson = False,
) -> None:
    """Make a user and print a one-time link for them; they set a password on their own page."""
    from admin.access import users
    from flywheel.invite import by_command, one_time_link
    from flywheel.schema import require_current
    from foundation.settings import get_settings

    require_current()
    actor = get_settings().admin_user
    with by_command("user.create", name) as change:
        user = users.create(change.session, name, role, actor=actor)
        change.about("users", user.name)
        change.after(user)
        link = one_time_link(change.session, user)
    told = {"user": user.name, "role": user.role, "sign in": link}
    print_json(told) if as_json else _print_with_link(told)


@commands.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List the users by name, disabled ones too."""
    from admin.access import users
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope

    require_current()
    with session_scope() as session:
        found = [explain_row(user) for user in users.list_users(session)]
    for user in found:
        has_password = user.pop("password_hash") is not None
        user["proof"] = "provider" if user["oidc_subject"] else None
        user["proof"] = user["proof"] or ("password" if has_password else "one-time link")
    if as_json:
        print_json(found)
        return
    print_table(
        ("user", "role", "signs in by", "disabled", "signed in last", "made by"),
        [
            (u["name"], u["role"], u["proof"], u["disabled_at"], u["seen_at"], u["actor"])
            for u in found
        ],
        "Nobody yet. Make the first, an admin: flywheel login",
    )


@commands.command("role")
def set_role(
    name: Name,
    role: Annotated[str, typer.Argument(help="viewer, reviewer, operator or admin.")],
    as_json: AsJson = False,
) -> None:
    """Give a user another role, from their next request on; one admin always remains."""
    from admin.access import users
    from flywheel.invite import by_command
    from flywheel.schema import require_current

    require_current()
    with by_command("user.role", name) as change:
        user = users.locked(change.session, users.get(change.session, name).id)
        change.before(user)
        users.set_role(change.session, user, role)
        change.after(user)
    told = {"user": user.name, "role": user.role}
    print_json(told) if as_json else print_fields(told)


@commands.command()
def disable(name: Name, as_json: AsJson = False) -> None:
    """Let a user in no more, and end their sessions; one admin always remains."""
    from admin.access import users
    from flywheel.invite import by_command
    from flywheel.schema import require_current

    require_current()
    with by_command("user.disable", name) as change:
        user = users.locked(change.session, users.get(change.session, name).id)
        change.before(user)
        users.disable(change.session, user)
        change.after(user)
    told = {"user": user.name, "disabled": True}
    print_json(told) if as_json else print_fields(told)


@commands.command()
def enable(name: Name, as_json: AsJson = False) -> None:
    """Let a user sign in again."""
    from admin.access import users
    from flywheel.invite import by_command
    from flywheel.schema import require_current

    require_current()
    with by_command("user.enable", name) as change:
        user = users.locked(change.session, users.get(change.session, name).id)
        change.before(user)
        users.enable(change.session, user)
        change.after(user)
    told = {"user": user.name, "disabled": False}
    print_json(told) if as_json else print_fields(told)


@commands.command("password")
def set_password(name: Name, as_json: AsJson = False) -> None:
    """Set a user's password, asked for or read from standard input; their sessions end."""
    from admin.access import passwords, users
    from flywheel.invite import by_command
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        user = users.get(session, name)  # before anybody types
    made = passwords.hash_of(passwords.require_good(_given_password(), user.name))
    with by_command("user.password", user.name) as change:
        users.set_password(change.session, users.locked(change.session, user.id), made)
    told = {"user": user.name, "password": "set"}
    print_json(told) if as_json else print_fields(told)


def _given_password() -> str:
    """Return what is typed twice unseen, or the first line of what is piped in."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _print_with_link(told: dict[str, str]) -> None:
    """Print fields, and the link whole on a line of its own."""
    print_fields({name: value for name, value in told.items() if name != "sign in"})
    console.print("One-time link, for 15 minutes:")
    print_line(told["sign in"])
