"""Users: who may sign in, as what; made and changed by admins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import Select, case, select
from sqlmodel import Session, col

from admin.access import codes, users
from admin.access.codes import LIFE
from admin.access.people import ADMIN, ROLES, require_role
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, link_to, render, wants_rows
from admin.tables import User
from admin.writing import By, ByAdmin, Reason, needs, see
from foundation.errors import Conflict

routes = APIRouter(prefix="/users")

MAY, DISABLED = "may sign in", "disabled"


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    role: str = ""
    status: str = ""


@dataclass(frozen=True)
class Row:
    """One user, and how they prove who they are."""

    user: User

    @property
    def status(self) -> str:
        """Whether they may sign in."""
        return DISABLED if self.user.disabled_at else MAY

    @property
    def proof(self) -> str:
        """By what they sign in."""
        if self.user.oidc_subject:
            return "provider"
        return "password" if self.user.password_hash else "one-time link"


LISTING: Listing[Row] = Listing(
    [
        Column("name", "Name", lambda row: row.user.name, col(User.name), first="up"),
        Column("role", "Role", lambda row: row.user.role, col(User.role), first="up"),
        Column(
            "status",
            "Status",
            lambda row: row.status,
            case((col(User.disabled_at).is_(None), MAY), else_=DISABLED),
            first="up",
        ),
        Column("proof", "Signs in by", lambda row: row.proof),
        Column("seen_at", "Signed in last", lambda row: row.user.seen_at, col(User.seen_at)),
        Column("created_at", "Made", lambda row: row.user.created_at, col(User.created_at)),
        Column("actor", "", lambda row: row.user.actor),
        Column("change", "Change"),
        Column("id", "", lambda row: str(row.user.id)),
    ],
    key=col(User.id),
    name="users",
)


@dataclass(frozen=True)
class ListPage:
    """Everybody who may sign in, or might."""

    filters: Filters
    table: Table[Row]
    roles: Sequence[tuple[str, str]] = tuple(ROLES.items())
    statuses: Sequence[str] = (MAY, DISABLED)

    @property
    def role_names(self) -> list[str]:
        """The four roles."""
        return [name for name, _ in self.roles]


@dataclass(frozen=True)
class LinkPage:
    """A one-time link, this once."""

    user: User
    link: str
    is_new: bool
    minutes: int = int(LIFE.total_seconds() // 60)


@routes.get("", name="users.list", dependencies=[Depends(needs(ADMIN))])
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show who may sign in."""
    if asked.format:
        return LISTING.export(_matching(filters), asked, _rows)
    template = "users/_rows.html" if wants_rows(request) else "users/list.html"
    table = LISTING.page(session, _matching(filters), asked, filters.query, _rows)
    return render(request, template, ListPage(filters, table))


@routes.post("", name="users.create")
def create(
    request: Request, by: ByAdmin, name: Annotated[str, Form()], role: Annotated[str, Form()]
) -> HTMLResponse:
    """Make a user; the answer shows their one-time link, this once."""
    with by.changing("user.create", "users", name[:200]) as change:
        user = users.create(change.session, name, role, actor=by.name)
        change.about("users", user.name)
        change.after(user)
        code = codes.make_code(change.session, user)
    return _link_page(request, user, code, is_new=True)


@routes.post("/{id}/role", name="users.role")
def set_role(
    request: Request,
    by: ByAdmin,
    id: UUID,
    role: Annotated[str, Form()],
    reason: Reason,
    sure: Annotated[bool, Form()] = False,
) -> Response:
    """Give a user another role."""
    require_role(role)
    _require_sure(by, id, sure, lowers=role != ADMIN)
    with by.changing("user.role", "users", id, reason) as change:
        user = users.locked(change.session, id)
        change.about("users", user.name)
        change.before(user)
        users.set_role(change.session, user, role)
        change.after(user)
    return see(link_to(request, "users.list" if by.person.user_id != id else "overview"))


@routes.post("/{id}/disable", name="users.disable")
def disable(
    request: Request,
    by: ByAdmin,
    id: UUID,
    reason: Reason,
    sure: Annotated[bool, Form()] = False,
) -> Response:
    """Let a user in no more; their sessions end."""
    _require_sure(by, id, sure, lowers=True)
    with by.changing("user.disable", "users", id, reason) as change:
        user = users.locked(change.session, id)
        change.about("users", user.name)
        change.before(user)
        users.disable(change.session, user)
        change.after(user)
    return see(
        link_to(request, "users.list"),
        "They may sign in no more, and their sessions have ended. Enable takes it back.",
    )


@routes.post("/{id}/enable", name="users.enable")
def enable(request: Request, by: ByAdmin, id: UUID, reason: Reason) -> Response:
    """Let a user sign in again."""
    with by.changing("user.enable", "users", id, reason) as change:
        user = users.locked(change.session, id)
        change.about("users", user.name)
        change.before(user)
        users.enable(change.session, user)
        change.after(user)
    return see(link_to(request, "users.list"), "They may sign in again.")


@routes.post("/{id}/reset", name="users.reset")
def reset(
    request: Request,
    by: ByAdmin,
    id: UUID,
    reason: Reason,
    sure: Annotated[bool, Form()] = False,
) -> HTMLResponse:
    """Forget a user's password and end their sessions; the answer shows a link, this once."""
    _require_sure(by, id, sure, lowers=True)
    with by.changing("user.reset", "users", id, reason) as change:
        user = users.locked(change.session, id)
        change.about("users", user.name)
        code = users.reset(change.session, user)
    return _link_page(request, user, code, is_new=False)


def _require_sure(by: By, identifier: UUID, sure: bool, *, lowers: bool) -> None:
    """Check that nobody takes their own role, or way in, by a slip."""
    if lowers and by.person.user_id == identifier and not sure:
        raise Conflict(
            "user", by.name, "your own account only on purpose", "Tick the box that says so."
        )


def _link_page(request: Request, user: User, code: str, *, is_new: bool) -> HTMLResponse:
    link = f"{request.url_for('sign_in')}#code={code}"
    return render(request, "users/link.html", LinkPage(user, link, is_new))


def _rows(session: Session, found: Sequence[User]) -> list[Row]:
    return [Row(user) for user in found]


def _matching(filters: Filters) -> Select[Any]:
    query = select(User)
    if filters.role:
        query = query.where(col(User.role) == filters.role)
    if filters.status:
        is_in = col(User.disabled_at).is_(None)
        query = query.where(is_in if filters.status == MAY else ~is_in)
    return query
