"""What a page of the admin view costs: server time and queries, at 1 M calls and 200k examples.

    python -m benchmarks.admin [--quick]

The service runs in this process on an embedded PostgreSQL of its own; each page is asked for by a
signed-in admin through the whole application, pages by turns. Queries are counted on a database
with a handful of rows, too: a page that asks more of the large one asks once for each row.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import psycopg
from fastapi import FastAPI
from fastapi.routing import APIRoute
from psycopg import sql
from rich.console import Console
from sqlalchemy import event, text

from admin.access import sessions, users
from admin.pages import NOUNS, create_admin_app
from benchmarks.admin_seed import FEW, QUICK, WHOLE, Size, seed
from benchmarks.bars import Figure, report
from collector.partitions import ensure_partitions
from flywheel.schema import upgrade
from foundation import embedded
from foundation.database import forget_connections, get_engine, session_scope
from foundation.settings import get_settings
from foundation.tables import now

PAGE_BAR_MS: Final = 150.0
CARD_BAR_MS: Final = 50.0
MORE_QUERIES: Final = 3
"""How many more a page may ask of the large database: it has what the small one lacks."""

_NOT_TIMED: Final = ("login", "asset", "interactions.find", "erasing.", "experiments.unit")
"""Routes outside of the door, or that lead elsewhere, by how their names begin."""

_PARTS: Final = {
    "sample": "SELECT id FROM sample WHERE evaluation_id = "
    "(SELECT id FROM evaluation ORDER BY id DESC LIMIT 1) LIMIT 1",
    "task": "SELECT id FROM suite_task ORDER BY id DESC LIMIT 1",
    "example_id": "SELECT row_id FROM shard_row WHERE shard = 'train0' LIMIT 1",
    "other": "SELECT one.id FROM dataset AS one JOIN dataset AS other USING (role, kind) "
    "WHERE other.id = (SELECT id FROM dataset ORDER BY id DESC LIMIT 1) AND one.id < other.id "
    "ORDER BY one.id DESC LIMIT 1",
}
"""What stands for further parts of an address."""

_IDS: Final = {
    "interactions": "SELECT id FROM interaction ORDER BY id DESC OFFSET 7 LIMIT 1",
    "episodes": "SELECT episode_id FROM interaction ORDER BY id DESC OFFSET 7 LIMIT 1",
    "review": "SELECT id FROM review_item WHERE status = 'open' ORDER BY priority DESC LIMIT 1",
    "datasets": "SELECT id FROM dataset ORDER BY id DESC LIMIT 1",
    "trainings": "SELECT id FROM training_run ORDER BY id DESC LIMIT 1",
    "models": "SELECT id FROM model_version ORDER BY id DESC LIMIT 1",
    "evaluations": "SELECT id FROM evaluation ORDER BY id DESC LIMIT 1",
    "verdicts": "SELECT id FROM verdict ORDER BY id DESC LIMIT 1",
    "experiments": "SELECT id FROM experiment ORDER BY id DESC LIMIT 1",
    "decisions": "SELECT id FROM decision ORDER BY id DESC LIMIT 1",
    "runs": "SELECT run_id FROM training_run ORDER BY id DESC LIMIT 1",
    "audit": "SELECT id FROM audit_entry ORDER BY id DESC LIMIT 1",
    "keys": "SELECT id FROM gateway_key ORDER BY id DESC LIMIT 1",
    "users": "SELECT id FROM admin_user ORDER BY id DESC LIMIT 1",
}
"""What stands for `{id}` in the addresses of a noun."""


@dataclass
class Counted:
    """Statements sent to the database while counting."""

    n: int = 0


@dataclass
class Asked:
    """What one page took."""

    name: str
    address: str
    status: int = 0
    n_queries: int = 0
    times_ms: list[float] = field(default_factory=list)

    @property
    def p95_ms(self) -> float:
        """The 95th percentile of its times."""
        return statistics.quantiles(self.times_ms, n=20)[-1]


def measure(quick: bool = False) -> list[Figure]:
    """Measure every page, lists in other orders, searches, and the review queue."""
    rounds = 10 if quick else 40
    with tempfile.TemporaryDirectory(prefix="bench-admin-") as folder:
        server = embedded.start_embedded(Path(folder))
        few = asyncio.run(_ask_all(_filled(server, "few", FEW), folder, rounds=1))
        url = _filled(server, "whole", QUICK if quick else WHOLE)
        pages = asyncio.run(_ask_all(url, folder, rounds=rounds))
        cards = asyncio.run(_label(url, folder, n=20 if quick else 100))
    return _figures(pages, few, cards)


def _figures(pages: list[Asked], few: list[Asked], cards: Asked) -> list[Figure]:
    before = {page.name: page for page in few}
    figures = []
    for page in sorted(pages, key=lambda page: -page.p95_ms):
        detail = {
            "address": page.address,
            "status": page.status,
            "median_ms": round(statistics.median(page.times_ms), 1),
            "queries": page.n_queries,
            "queries_small": before[page.name].n_queries,
        }
        worked = page.status < 400
        figures.append(
            Figure(
                f"{page.name}: p95 ({page.n_queries} queries)",
                round(page.p95_ms, 1) if worked else None,
                "ms",
                at_most=PAGE_BAR_MS,
                detail=detail,
                note="" if worked else f"answered {page.status}",
            )
        )
    grown = [p for p in pages if p.n_queries > before[p.name].n_queries + MORE_QUERIES]
    figures += [
        Figure(
            "pages that ask the database once for each row",
            len(grown),
            "pages",
            at_most=0,
            detail={p.name: [before[p.name].n_queries, p.n_queries] for p in grown},
        ),
        Figure(
            f"review: label and next card, p95 of {len(cards.times_ms)}",
            round(cards.p95_ms, 1) if cards.times_ms else None,
            "ms",
            at_most=CARD_BAR_MS,
            detail={"median_ms": statistics.median(cards.times_ms) if cards.times_ms else None},
            note="" if cards.times_ms else f"answered {cards.status}",
        ),
    ]
    return figures


def _filled(server: str, name: str, size: Size) -> str:
    """Make and fill a database on the embedded server; return its URL."""
    head, _, query = server.partition("?")
    url = f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    _use(url)
    upgrade()
    with session_scope() as session:
        ensure_partitions(session.connection(), now() - timedelta(days=28), 5)
    started = time.perf_counter()
    seed(url, size)
    Console(stderr=True).print(f"{name}: filled in {time.perf_counter() - started:.0f} s")
    return url


def _use(url: str) -> None:
    os.environ["FLYWHEEL_DATABASE_URL"] = url
    get_settings.cache_clear()
    forget_connections()


async def _ask_all(url: str, folder: str, rounds: int) -> list[Asked]:
    os.environ["FLYWHEEL_HOME"] = folder
    _use(url)
    app = _service()
    pages = list(_pages())
    async with _client(app) as client:
        for page in pages:
            await client.get(page.address)  # templates, plans and lexers are made once
            with _counting() as counted:
                page.status = (await client.get(page.address)).status_code
            page.n_queries = counted.n
        for _ in range(rounds + 1):
            for page in pages:
                await _time(client, page)
    return pages


async def _time(client: httpx.AsyncClient, page: Asked) -> None:
    started = time.perf_counter()
    await client.get(page.address)
    page.times_ms.append((time.perf_counter() - started) * 1000)


async def _label(url: str, folder: str, n: int) -> Asked:
    """Accept `n` examples as the page does: each answer is the next card."""
    _use(url)
    found = Asked("review.label", "/admin/review/next")
    headers = {"HX-Request": "true", "HX-Request-Type": "partial"}
    async with _client(_service(), "reviewer", "grace") as client:
        answer = await client.post("/admin/review/next", headers=headers)
        for _ in range(n):
            found.status = answer.status_code
            item = _leased("grace")
            if item is None:
                break
            started = time.perf_counter()
            answer = await client.post(
                f"/admin/review/items/{item}/label", data={"action": "accept"}, headers=headers
            )
            took_ms = (time.perf_counter() - started) * 1000
            if answer.status_code >= 400:
                found.status = answer.status_code
                break
            found.times_ms.append(took_ms)
    return found


def _leased(reviewer: str) -> UUID | None:
    with session_scope() as session:
        found: UUID | None = session.scalar(
            text("SELECT id FROM review_item WHERE leased_by = :reviewer AND status = 'open'"),
            {"reviewer": reviewer},
        )
    return found


def _pages() -> Iterator[Asked]:
    """Every page that has an address, and lists as people narrow and sort them."""
    for route in (route for noun in NOUNS for route in noun.routes.routes):
        if not isinstance(route, APIRoute) or "GET" not in (route.methods or ()):
            continue
        name = str(route.name)
        if name.startswith(("sign_in", *_NOT_TIMED)) or "stream" in name or "events" in name:
            continue
        address = _address(route.path)
        if address is not None:
            yield Asked(name, f"/admin{address}")
    for name, address in _VARIANTS.items():
        yield Asked(name, f"/admin{_narrowed(address)}")


_VARIANTS: Final[Mapping[str, str]] = {
    "interactions, one role": "/interactions?role=coder",
    "interactions, one day": "/interactions?within=day",
    "interactions, slowest": "/interactions?sort=-latency_ms",
    "interactions, errors": "/interactions?status=error",
    "decisions, one kind": "/decisions?kind=evaluator.deploy",
    "runs, failed": "/runs?status=failed",
    "datasets, dropped": "/datasets/{datasets}?show=dropped",
}


def _narrowed(address: str) -> str:
    head, _, query = address.partition("?")
    return (
        "/".join(
            str(_first(_IDS[part.strip("{}")])) if part.startswith("{") else part
            for part in head.split("/")
        )
        + f"?{query}"
    )


def _address(path: str) -> str | None:
    """Return a route's path with what stands for its parts; None where nothing is known to."""
    parts = []
    noun = path.split("/")[1]
    for part in path.split("/"):
        if not part.startswith("{"):
            parts.append(part)
            continue
        value = _value_of(part.strip("{}").partition(":")[0], noun)
        if value is None:
            return None
        parts.append(value)
    return "/".join(parts)


def _value_of(name: str, noun: str) -> str | None:
    if name == "role":
        return "coder"
    query = _PARTS.get(name) or _IDS.get(noun)
    found = _first(query) if query else None
    return str(found) if found else None


def _first(query: str) -> Any:
    with session_scope() as session:
        return session.scalar(text(query))


def _service() -> FastAPI:
    service = FastAPI()
    service.mount("/admin", create_admin_app())
    return service


def _client(app: FastAPI, role: str = "admin", name: str = "ada") -> httpx.AsyncClient:
    with session_scope() as session:
        user = users.find(session, name) or users.create(session, name, role, actor="benchmark")
        token = sessions.open_session(session, user, "code")
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://127.0.0.1:8710",
        cookies={sessions.COOKIE: token},
        timeout=60,
    )


@contextmanager
def _counting() -> Iterator[Counted]:
    counted = Counted()

    def count(*_: object) -> None:
        counted.n += 1

    event.listen(get_engine(), "before_cursor_execute", count)
    try:
        yield counted
    finally:
        event.remove(get_engine(), "before_cursor_execute", count)


def main() -> int:
    """Measure and report; the exit status says whether a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds, for a look")
    return report("admin", measure(parser.parse_args().quick))


if __name__ == "__main__":
    raise SystemExit(main())
