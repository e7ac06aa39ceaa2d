"""The audit log: what each person changed, with before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import Select, select
from sqlmodel import Session, col

from admin.access.people import ADMIN
from admin.listing import Asked, Column, Listing, Table
from admin.paging import WITHIN, Narrowing
from admin.rendering import Reading, render, wants_rows
from admin.tables import AuditEntry
from admin.writing import needs
from foundation.errors import BadInput, NotFound
from foundation.ids import first_id_at
from foundation.tables import now

routes = APIRouter(prefix="/audit", dependencies=[Depends(needs(ADMIN))])

_LOOKED_AT: Final = 1_000
"""Newest entries whose actors and actions the filters offer."""


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    actor: str = ""
    action: str = ""
    kind: str = ""
    subject: str = ""
    within: str = ""


@dataclass(frozen=True)
class Field:
    """One value of what was changed, before and after; None: there was, or is, none."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Row:
    """One entry."""

    entry: AuditEntry

    @property
    def fields(self) -> list[Field]:
        """Every value that is known of before or after, by name."""
        before, after = self.entry.before or {}, self.entry.after or {}
        return [
            Field(name, before.get(name), after.get(name))
            for name in sorted(before.keys() | after.keys())
            if before.get(name) is not None or after.get(name) is not None
        ]


LISTING: Listing[Row] = Listing(
    [
        Column("created_at", "When", lambda row: row.entry.created_at, col(AuditEntry.created_at)),
        Column("actor", "Who", lambda row: row.entry.actor, col(AuditEntry.actor), first="up"),
        Column("action", "Did", lambda row: row.entry.action, col(AuditEntry.action), first="up"),
        Column("kind", "", lambda row: row.entry.subject_kind),
        Column(
            "subject",
            "To what",
            lambda row: row.entry.subject_id,
            col(AuditEntry.subject_id),
            first="up",
        ),
        Column("reason", "Why", lambda row: row.entry.reason),
        Column("role", "", lambda row: row.entry.role),
        Column("via", "", lambda row: row.entry.via),
        Column(
            "address", "From", lambda row: row.entry.address, col(AuditEntry.address), first="up"
        ),
        Column("before", "", lambda row: row.entry.before),
        Column("after", "", lambda row: row.entry.after),
        Column("id", "", lambda row: str(row.entry.id)),
    ],
    key=col(AuditEntry.id),
    name="audit",
)


@dataclass(frozen=True)
class ListPage:
    """Entries, newest first, and what the filters offer."""

    filters: Filters
    table: Table[Row]
    actors: Sequence[str]
    actions: Sequence[str]
    kinds: Sequence[str]
    within: Sequence[str] = tuple(WITHIN)


@dataclass(frozen=True)
class RowPage:
    """One entry: as its row, closed or with what stands below it, or as a page."""

    row: Row
    width: int = sum(1 for column in LISTING.columns if column.label)


@routes.get("", name="audit.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show who changed what, newest first."""
    if asked.format:
        return LISTING.export(_matching(filters), asked, _rows)
    template = "audit/_rows.html" if wants_rows(request) else "audit/list.html"
    return render(request, template, list_page(session, filters, asked))


@routes.get("/{id}", name="audit.detail")
def show_entry(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show one entry; to a list that asks for it, as an open row."""
    template = "audit/_open.html" if wants_rows(request) else "audit/detail.html"
    return render(request, template, RowPage(_get(session, id)))


@routes.get("/{id}/row", name="audit.row")
def show_row(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Answer the closed row of one entry."""
    return render(request, "audit/_closed.html", RowPage(_get(session, id)))


def list_page(session: Session, filters: Filters, asked: Asked) -> ListPage:
    """Return one page of the log."""
    newest = session.execute(
        select(col(AuditEntry.actor), col(AuditEntry.action), col(AuditEntry.subject_kind))
        .order_by(col(AuditEntry.id).desc())
        .limit(_LOOKED_AT)
    ).all()
    actors, actions, kinds = ({row[place] for row in newest} for place in range(3))
    table = LISTING.page(session, _matching(filters), asked, filters.query, _rows)
    return ListPage(filters, table, sorted(actors), sorted(actions), sorted(kinds - {""}))


def _rows(session: Session, found: Sequence[AuditEntry]) -> list[Row]:
    return [Row(entry) for entry in found]


def _get(session: Session, identifier: UUID) -> Row:
    entry = session.get(AuditEntry, identifier)
    if entry is None:
        raise NotFound(
            "audit entry", str(identifier), "the id of an entry", "See the list of the audit log."
        )
    return Row(entry)


def _matching(filters: Filters) -> Select[Any]:
    query = select(AuditEntry)
    for column, value in (
        (AuditEntry.actor, filters.actor),
        (AuditEntry.action, filters.action),
        (AuditEntry.subject_kind, filters.kind),
        (AuditEntry.subject_id, filters.subject),
    ):
        if value:
            query = query.where(col(column) == value.replace("\0", ""))
    if filters.within:
        if filters.within not in WITHIN:
            raise BadInput("within", filters.within, f"one of {', '.join(WITHIN)}", "Choose one.")
        query = query.where(col(AuditEntry.id) >= first_id_at(now() - WITHIN[filters.within]))
    return query
