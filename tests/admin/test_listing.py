"""Tables: order, keyset pages, addresses and exports, against rows that make each of them hard."""

import asyncio
import base64
import csv
import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Float, Select, Uuid, cast, func, select, text
from sqlmodel import Session, col

from admin import listing
from admin.listing import Asked, Column, Listing
from foundation.errors import BadInput
from foundation.ids import first_id_at
from foundation.tables import DONE, QUEUED, Run

START = datetime(2026, 3, 1, tzinfo=UTC)

LISTING: Listing[Run] = Listing(
    [
        Column("kind", "Job", lambda run: run.kind, col(Run.kind), first="up"),
        Column("role", "Role", lambda run: run.role, col(Run.role)),
        Column("attempts", "Tries", lambda run: run.attempts, col(Run.attempts), numeric=True),
        Column("started_at", "Began", lambda run: run.started_at, col(Run.started_at)),
        Column(
            "done",
            "Done",
            lambda run: (run.progress or {}).get("done"),
            col(Run.progress)["done"].as_float(),
        ),
        Column("note", "Note", lambda run: run.params, col(Run.params)["note"].astext),
        Column(
            "took",
            "Took",
            None,
            func.extract("epoch", col(Run.finished_at) - col(Run.started_at)),
        ),
        Column("share", "Share", None, func.round(cast(col(Run.attempts), Float) / 3)),
        Column("parent", "Parent", None, cast(col(Run.params)["parent"].astext, Uuid)),
        Column("error", "", lambda run: run.error),
        Column("unsorted", "Unsorted"),
    ],
    key=col(Run.id),
    name="runs",
    size=3,
)

SORTS = sorted(LISTING.sortable)


def run(n: int, **columns: Any) -> Run:
    moment = START + timedelta(minutes=n)
    return Run(id=first_id_at(moment), created_at=moment, **{"kind": "k", **columns})


def mixed() -> list[Run]:
    """Runs with ties and unknown values in every column."""
    return [
        run(
            n,
            kind=["b", "a", "B", "ä"][n % 4],
            role=[None, "coder", "tester"][n % 3],
            attempts=n % 4,
            started_at=[None, START, START + timedelta(microseconds=1)][n % 3],
            finished_at=[None, START + timedelta(hours=n % 2, microseconds=7)][n % 2],
            progress=[None, {"done": None}, {"done": n % 5 / 3}, {}][n % 4],
            params=[{}, {"note": "x"}, {"note": ""}, {"parent": str(UUID(int=n % 2))}][n % 4],
        )
        for n in range(17)
    ]


def as_they_are(session: Session, found: Sequence[Any]) -> Sequence[Any]:
    return found


def walk(session: Session, sort: str, query: Select[Any] | None = None) -> list[Run]:
    seen: list[Run] = []
    before: str | None = ""
    while before is not None:
        asked = Asked(sort, before, "")
        found, before = LISTING.rows(session, select(Run) if query is None else query, asked, 3)
        assert len(found) <= 3
        seen += found
        assert len(seen) < 100, "the pages go round in a circle"
    return seen


@pytest.mark.parametrize("direction", ["", "-"])
@pytest.mark.parametrize("name", SORTS)
def test_pages_follow_one_another_over_ties_and_unknown_values(
    session: Session, name: str, direction: str
) -> None:
    session.add_all(mixed())
    session.flush()
    value = LISTING.sortable[name].sort
    order = value.desc() if direction else value.asc()
    expected = session.scalars(select(Run).order_by(order.nulls_last(), col(Run.id).desc())).all()
    assert [one.id for one in walk(session, direction + name)] == [one.id for one in expected]


def test_without_an_order_the_newest_come_first(session: Session) -> None:
    rows = mixed()
    session.add_all(rows)
    session.flush()
    assert [one.id for one in walk(session, "")] == [one.id for one in reversed(rows)]


@pytest.mark.parametrize("sort", ["", "attempts", "-attempts"])
def test_rows_that_come_between_two_pages_are_neither_skipped_nor_shown_twice(
    session: Session, sort: str
) -> None:
    session.add_all(run(n, attempts=1) for n in range(6))
    session.flush()
    first, cursor = LISTING.rows(session, select(Run), Asked(sort, "", ""), 3)
    session.add_all(run(n, attempts=n % 3) for n in range(10, 16))
    session.flush()
    assert cursor is not None
    rest, _ = LISTING.rows(session, select(Run), Asked(sort, cursor, ""), 50)
    ids = [one.id for one in [*first, *rest]]
    assert len(set(ids)) == len(ids)
    assert {one.id for one in (run(n) for n in range(6))} <= set(ids)


def test_several_columns_are_paged_like_one_entity(session: Session) -> None:
    session.add_all(mixed())
    session.flush()
    query = select(Run, func.upper(Run.kind))
    found, older = LISTING.rows(session, query, Asked("kind", "", ""), 3)
    assert [upper for _, upper in found] == [one.kind.upper() for one, _ in found]
    ids: Select[Any] = query.with_only_columns(col(Run.id), col(Run.kind))
    by_id, cursor = LISTING.rows(session, ids, Asked("kind", "", ""), 3)
    assert [identifier for identifier, _ in by_id] == [one.id for one, _ in found]
    assert cursor == older


def test_an_order_is_that_of_the_newest_rows_that_fit_and_says_so(session: Session) -> None:
    small: Listing[Run] = Listing(LISTING.columns, key=col(Run.id), name="r", size=2, window=4)
    session.add_all(run(n, attempts=n) for n in range(9))
    session.flush()
    asked = Asked("attempts", "", "")
    table = small.page(session, select(Run), asked, {}, as_they_are)
    assert [one.attempts for one in table.rows] == [5, 6]
    assert table.window == 4
    assert table.older is not None
    last = small.page(
        session, select(Run), Asked("attempts", table.older["before"], ""), {}, as_they_are
    )
    assert ([one.attempts for one in last.rows], last.older) == ([7, 8], None)
    unsorted = small.page(session, select(Run), Asked("", "", ""), {}, as_they_are)
    assert unsorted.window is None


def encoded(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


ID = "01a1fd57-1352-7000-8000-000000000000"
HOSTILE_CURSORS = [
    "x",
    "é",
    "====",
    "\x00",
    ID,
    encoded(1),
    encoded(1, 2),
    encoded(1, "no id"),
    encoded({}, ID),
    encoded({"a": 1, "b": 2}, ID),
    encoded({"time": "yesterday"}, ID),
    encoded({"time": 7}, ID),
    encoded({"number": "NaN;"}, ID),
    encoded({"id": "x"}, ID),
    encoded([1], ID),
    encoded("\x00", ID),
    encoded("\ud800", ID),
    "W1tbW1tbW1tb" * 4000,
    "MTExMTEx" * 1000,
]


@pytest.mark.parametrize("place", range(len(HOSTILE_CURSORS)))
@pytest.mark.parametrize("sort", ["", "attempts", "started_at", "note", "took", "parent"])
def test_a_cursor_of_anybody_s_making_is_refused(session: Session, sort: str, place: int) -> None:
    cursor = HOSTILE_CURSORS[place]
    if not sort and cursor == ID:
        return
    with pytest.raises(BadInput, match="before"):
        LISTING.rows(session, select(Run), Asked(sort, cursor, ""), 3)


@pytest.mark.parametrize(
    ("sort", "value"),
    [
        ("attempts", "text"),
        ("attempts", 10**30),
        ("attempts", {"time": "2026-01-01T00:00:00+00:00"}),
        ("started_at", 5),
        ("started_at", "text"),
        ("took", "text"),
        ("parent", "text"),
        ("done", {"id": ID}),
    ],
)
def test_a_value_of_another_kind_is_refused_or_harmless(
    session: Session, sort: str, value: Any
) -> None:
    with pytest.raises(BadInput, match="before"):
        LISTING.rows(session, select(Run), Asked(sort, encoded(value, ID), ""), 3)


@pytest.mark.parametrize("sort", ["nothing", "-", "--kind", "unsorted", "error", "id; DROP TABLE"])
def test_an_unknown_column_is_refused(session: Session, sort: str) -> None:
    with pytest.raises(BadInput, match="sort"):
        LISTING.rows(session, select(Run), Asked(sort, "", ""), 3)


def test_filters_survive_heads_and_pages(session: Session) -> None:
    session.add_all(run(n, status=QUEUED if n % 2 else DONE, attempts=n) for n in range(16))
    session.flush()
    filters = {"status": QUEUED, "role": "a&b=c"}
    query = select(Run).where(col(Run.status) == QUEUED)
    table = LISTING.page(session, query, Asked("-attempts", "", ""), filters, as_they_are)
    assert table.query == {**filters, "sort": "-attempts"}
    assert table.older is not None
    assert filters.items() <= table.older.items()
    for head in table.heads:
        assert head.query is None or filters.items() <= head.query.items()
        assert head.query is None or "before" not in head.query
    assert table.width == len([column for column in LISTING.columns if column.label])


def test_a_head_turns_from_its_first_order_to_the_other_and_to_none() -> None:
    def turn(sort: str, name: str) -> tuple[str, str]:
        heads = {head.label: head for head in LISTING.heads(Asked(sort, "", ""), {})}
        head = heads[{"attempts": "Tries", "kind": "Job"}[name]]
        assert head.query is not None
        return head.order, head.query.get("sort", "")

    assert turn("", "attempts") == ("none", "-attempts")
    assert turn("-attempts", "attempts") == ("descending", "attempts")
    assert turn("attempts", "attempts") == ("ascending", "")
    assert turn("", "kind") == ("none", "kind")
    assert turn("kind", "kind") == ("ascending", "-kind")
    assert turn("-attempts", "kind") == ("none", "kind")


# Exports


def exported(query: Select[Any], form: Any, sort: str = "", **given: Any) -> str:
    async def whole() -> str:
        answer = LISTING.export(query, Asked(sort, "", form), as_they_are, **given)
        return "".join([str(part) async for part in answer.body_iterator])

    return asyncio.run(whole())


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "EXPORT_PAGE", 4)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("sort", ["", "-attempts", "started_at"])
def test_an_export_has_every_row_once_in_the_order_of_the_page(session: Session, sort: str) -> None:
    session.add_all(mixed())
    session.commit()
    lines = [json.loads(line) for line in exported(select(Run), "jsonl", sort).splitlines()]
    rows = list(csv.DictReader(io.StringIO(exported(select(Run), "csv", sort))))
    expected = walk(session, sort)
    assert len(lines) == len(rows) == len(expected) == 17
    assert [line["attempts"] for line in lines] == [one.attempts for one in expected]
    assert [row["attempts"] for row in rows] == [str(one.attempts) for one in expected]
    assert "unsorted" not in lines[0]


def test_an_export_of_nothing_is_its_head(session: Session) -> None:
    assert exported(select(Run), "jsonl") == ""
    assert exported(select(Run), "csv").strip() == ("kind,role,attempts,started_at,done,note,error")


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"]


@pytest.mark.parametrize("place", range(len(FORMULAS)))
def test_no_cell_is_a_formula(session: Session, place: int) -> None:
    session.add(run(0, error=FORMULAS[place], attempts=-3))
    session.commit()
    (row,) = csv.DictReader(io.StringIO(exported(select(Run), "csv"), newline=""))
    assert row["error"] == f"'{FORMULAS[place]}"
    assert row["attempts"] == "-3", "a number is none"
    assert json.loads(exported(select(Run), "jsonl"))["error"] == FORMULAS[place]


def test_cells_keep_quotes_line_ends_and_every_script(session: Session) -> None:
    said = 'a "b", c\r\nd; 漢字 עברית 🎡\u2028e'
    session.add(run(0, error=said, params={"note": said}))
    session.commit()
    (row,) = csv.DictReader(io.StringIO(exported(select(Run), "csv"), newline=""))
    assert row["error"] == said
    assert json.loads(row["note"])["note"] == said
    assert row["started_at"] == ""
    (line,) = exported(select(Run), "jsonl").removesuffix("\n").split("\n")
    assert json.loads(line)["error"] == said


def test_an_export_says_numbers_and_times_as_json_has_them(session: Session) -> None:
    values = iter([Decimal("1.5"), float("nan"), float("inf"), START])
    odd: Listing[Run] = Listing(
        [Column("value", "Value", lambda run: next(values))], key=col(Run.id), name="odd"
    )
    session.add_all(run(n) for n in range(4))
    session.commit()

    async def whole() -> str:
        answer = odd.export(select(Run), Asked("", "", "jsonl"), as_they_are)
        return "".join([str(part) async for part in answer.body_iterator])

    lines = asyncio.run(whole()).splitlines()
    assert [json.loads(line)["value"] for line in lines] == [
        1.5,
        None,
        None,
        "2026-03-01T00:00:00+00:00",
    ]


@pytest.mark.usefixtures("small_pages")
def test_between_two_pages_an_export_holds_no_transaction(session: Session) -> None:
    session.add_all(mixed())
    session.commit()
    held = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND state <> 'idle' AND backend_type = 'client backend' "
        "AND query NOT LIKE '%kombu%'"  # the broker of another test of this process
    )

    async def watched() -> list[int]:
        answer = LISTING.export(select(Run), Asked("", "", "jsonl"), as_they_are)
        counts = []
        async for _ in answer.body_iterator:
            session.rollback()
            counts.append(int(session.execute(held).scalar_one()))
        return counts

    assert asyncio.run(watched()) == [0] * 5


def test_a_wrong_address_is_refused_before_an_export_begins(session: Session) -> None:
    with pytest.raises(BadInput, match="sort"):
        LISTING.export(select(Run), Asked("nothing", "", "csv"), as_they_are)
    with pytest.raises(BadInput, match="before"):
        LISTING.export(select(Run), Asked("", "x", "csv"), as_they_are)


@pytest.fixture
def served(session: Session) -> Iterator[str]:
    """The address of a real server, whose export breaks in its third page."""
    app = FastAPI()
    pages = iter(range(10))

    def breaks(session: Session, found: Sequence[Any]) -> Sequence[Any]:
        if next(pages) == 2:
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return found

    @app.get("/export")
    def export() -> Any:
        return LISTING.export(select(Run), Asked("", "", "csv"), breaks)

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.usefixtures("small_pages")
def test_an_export_that_breaks_does_not_look_complete(session: Session, served: str) -> None:
    session.add_all(mixed())
    session.commit()
    got: list[bytes] = []
    with httpx.stream("GET", f"{served}/export") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            got.extend(answer.iter_raw())
    assert b"".join(got).count(b"\r\n") == 9, "the head and the two pages before"


def test_pages_export_and_refuse_over_http(
    session: Session, get: Callable[..., httpx.Response]
) -> None:
    session.add_all(run(n, kind="curation.build", attempts=n) for n in range(50))
    session.commit()
    answer = get("/admin/runs?kind=curation.build&sort=-created_at&format=csv")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('attachment; filename="')
    assert len(answer.text.splitlines()) == 51
    for bad in ("sort=nothing", "before=x", "sort=kind&before=x", "sort=kind&before=%00"):
        refused = get(f"/admin/runs?{bad}")
        assert refused.status_code == 400, bad
        assert "Back to the overview" in refused.text
        assert get(f"/admin/runs?{bad}&format=csv").status_code == 400, bad
    assert get("/admin/runs?format=xls").status_code == 422
    assert get("/admin/runs?format=csv", method="HEAD").status_code == 405, "nothing is exported"
