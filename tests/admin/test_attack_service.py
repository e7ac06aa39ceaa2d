"""Attacks on the whole service: under another name, by what no column holds, by many at once."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.exc import TimeoutError

from admin import formats, texts
from admin.access import attempts, users
from admin.access.sessions import COOKIE
from admin.pages import create_admin_app
from flywheel.app import create_app
from foundation.database import get_engine
from foundation.settings import get_settings
from router import windows


def cursor(value: object) -> str:
    return urlsafe_b64encode(json.dumps([value, str(UUID(int=0))]).encode()).decode()


# A site whose name leads to this machine


@pytest.fixture(scope="module")
def service() -> FastAPI:
    return create_app()


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/datasets", "/openapi.json", "/metrics"])
@pytest.mark.parametrize(
    "base", ["http://evil.example:8710", "http://127.0.0.1.evil.example", "http://10.0.0.1"]
)
def test_a_site_that_calls_itself_this_machine_reads_nothing(
    session, visit, service: FastAPI, path: str, base: str
) -> None:
    answer = visit(app=service, base=base).ask("GET", path)
    assert answer.status_code == 403
    assert "host of the request" in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8710", "localhost", "[::1]:8710"])
def test_this_machine_is_called_by_its_own_names(
    session, visit, service: FastAPI, host: str
) -> None:
    assert visit(app=service, base=f"http://{host}").ask("GET", "/v1/keys").status_code == 200


def test_with_a_key_any_name_will_do(session, visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_API_KEY", "the-key")
    get_settings.cache_clear()
    try:
        browser = visit(app=create_app(), base="https://wheel.example")
        assert browser.ask("GET", "/v1/keys").status_code == 401
        given = {"authorization": "Bearer the-key"}
        assert browser.ask("GET", "/v1/keys", headers=given).status_code == 200
    finally:
        get_settings.cache_clear()


# What no column holds


@pytest.mark.parametrize(
    "path",
    [
        "/decisions?kind=a%00b",
        "/runs?role=%00",
        "/keys?kind=%00",
        "/review/items?role=%00",
        "/evaluations?suite=%00",
        "/models/%00",
        "/roles/%00",
        f"/keys?sort=name&before={cursor(True)}",
        f"/models?sort=-role&before={cursor('a' * 10)}",
    ],
)
def test_what_the_database_cannot_read_is_the_senders_mistake(filled, get, path: str) -> None:
    answer = get(f"/admin{path}")
    assert answer.status_code in (200, 400, 404, 422)
    assert "does not answer" not in answer.text


# Names and how often they may be tried


def test_a_name_kept_as_a_hash_has_no_second_number_of_attempts(session, visit) -> None:
    user = users.create(session, "ada@example.com", "admin", actor="test")
    session.commit()
    assert user.name != "ada@example.com"
    browser = visit()
    for n in range(attempts.PER_NAME):
        name = ["ada@example.com", user.name][n % 2]
        assert browser.post("/login", name=name, password="wrong").status_code == 401
    for name in ("ada@example.com", f" {user.name} "):
        assert browser.post("/login", name=name, password="wrong").status_code == 429


# Many at once


def test_one_budget_may_be_set_and_unset_by_many_at_once(session, visit, audited) -> None:
    browsers = [visit("admin", f"admin {n}") for n in range(6)]
    about = {"scope": "all", "measure": "tokens_per_day", "reason": "many"}

    def change(n: int) -> int:
        where = "/traffic/budgets/unset" if n % 3 == 2 else "/traffic/budgets"
        return int(browsers[n % 6].post(where, **about, amount=1_000 + n).status_code)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(change, range(24)))
    assert {*answers} <= {303, 404}  # 404: the default holds already
    entries = audited(session, answers.count(303))
    assert {entry.action for entry in entries} == {"budget.set", "budget.unset"}
    row = windows.held_limit(session, "all", "tokens_per_day")
    # Each begins where another one ended: none took what the page showed before it for how it is.
    begun = Counter([entry.before["limit"] for entry in entries] + [row and row.amount])
    assert begun == Counter([entry.after["limit"] for entry in entries] + [None])


# Texts that grow when they are shown


def nested(levels: int, n: int) -> str:
    return "[" * levels + ",".join(["1"] * n) + "]" * levels


def test_what_is_nested_deeply_is_not_laid_out_beyond_what_is_shown(monkeypatch) -> None:
    written: list[str] = []
    encode = formats._INDENTED.iterencode

    def counted(value: object) -> Iterator[str]:
        for part in encode(value):
            written.append(part)
            yield part

    monkeypatch.setattr(formats._INDENTED, "iterencode", counted)
    shown = texts.message({"role": "assistant", "tool_calls": [call(nested(250, 60_000))]})
    assert "cut" in shown.calls[0].arguments.html
    assert sum(map(len, written)) < 250_000  # all of it: 30 million


@pytest.mark.parametrize("levels", range(900, 1_000, 7))
def test_no_depth_of_a_tool_call_breaks_a_page(levels: int) -> None:
    shown = texts.message({"role": "assistant", "tool_calls": [call(nested(levels, 1))]})
    assert shown.calls[0].arguments is not None


def call(arguments: str) -> dict[str, object]:
    return {"function": {"name": "f", "arguments": arguments}}


def test_json_that_is_short_is_laid_out_as_ever() -> None:
    value = {"a": [1, {"b": None}], "c": "é", "d": UUID(int=0)}
    assert formats.pretty(value) == json.dumps(value, indent=2, ensure_ascii=False, default=str)
    assert formats.pretty("x" * 50, 20).startswith('"' + "x" * 19 + "\n… cut")


def test_many_pages_at_once_do_not_wait_for_each_others_threads(session, signed_in) -> None:
    """As many as a process has threads and more, with fewer connections to the database."""
    service = FastAPI()
    service.mount("/admin", create_admin_app())
    cookies = {COOKIE: signed_in(session)}

    async def ask_all() -> list[int]:
        transport = httpx.ASGITransport(service)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", cookies=cookies
        ) as client:
            answers = await asyncio.gather(*(client.get("/admin/runs") for _ in range(120)))
        return [answer.status_code for answer in answers]

    assert {*asyncio.run(ask_all())} == {200}


def test_who_finds_no_connection_free_is_told_to_come_again(session, get) -> None:
    engine = get_engine()
    seconds = engine.pool._timeout  # type: ignore[attr-defined]
    engine.pool._timeout = 0.01  # type: ignore[attr-defined]
    with ExitStack() as held:
        try:
            while True:
                held.enter_context(engine.connect())
        except TimeoutError:
            answer = get("/admin/runs")
        finally:
            engine.pool._timeout = seconds  # type: ignore[attr-defined]
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "Too many at once" in answer.text
    assert answer.headers["cache-control"] == "no-store"
