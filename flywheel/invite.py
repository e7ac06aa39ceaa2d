"""One-time links to the admin view, as a terminal of this machine prints them.

Whoever reads the terminal may sign in by them. So they are printed to people who asked, or on
loopback, and never to what is kept as a log.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlmodel import Session

from admin.access import codes, users
from admin.access.people import ADMIN, Person
from admin.access.trail import COMMAND
from admin.tables import User
from admin.writing import By, Change
from foundation.database import session_scope
from foundation.errors import Conflict, NotFound
from foundation.settings import LOOPBACK, get_settings


def link_for(name: str | None = None, port: int | None = None) -> str:
    """Return a one-time link for a user; by default FLYWHEEL_ADMIN_USER and FLYWHEEL_PORT.

    Where there is no user yet at all, that one is made, an admin; nobody else ever is.

    Raises:
        NotFound: no such user.
        Conflict: they are disabled.
    """
    wanted = name or get_settings().admin_user
    with by_command("user.link", wanted) as change:
        session = change.session
        is_first = users.is_empty(session)
        if is_first and name is None:
            change.after(users.create(session, wanted, ADMIN, actor="flywheel"))
        user = users.get(session, wanted)
        if user.disabled_at is not None:
            raise Conflict(
                "user", user.name, "one who may sign in", "Run: flywheel user enable NAME"
            )
        return one_time_link(session, user, port)


def link_if_any(port: int | None = None) -> str | None:
    """Return the link of FLYWHEEL_ADMIN_USER for who starts the service, or None.

    None off loopback, where what is printed ends in logs; and where others are users, but not they.
    """
    if get_settings().host not in LOOPBACK:
        return None
    try:
        return link_for(port=port)
    except (NotFound, Conflict):
        return None


def first_link(port: int | None = None) -> str | None:
    """Return the link of the first user, who is made; None where there is one, or off loopback."""
    with session_scope() as session:
        is_first = users.is_empty(session)
    return link_if_any(port) if is_first else None


def one_time_link(session: Session, user: User, port: int | None = None) -> str:
    """Return a link to where the service answers by the settings, with a fresh code."""
    settings = get_settings()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    code = codes.make_code(session, user)
    return f"http://{host}:{port or settings.port}/admin/login#code={code}"


@contextmanager
def by_command(action: str, name: str) -> Iterator[Change]:
    """Open the transaction of a command about a user, with its entry in the audit log."""
    by = By(Person(get_settings().admin_user, ADMIN, COMMAND), "", ADMIN)
    with by.changing(action, "users", name) as change:
        yield change
