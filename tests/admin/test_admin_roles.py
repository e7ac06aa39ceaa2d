"""Roles and the emergency stop: the whole policy by form, who served, and who sees which button."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event, select
from sqlmodel import Session, col

from admin import emergency as stops
from admin import roles
from admin.access.sessions import COOKIE
from admin.pages import create_admin_app
from admin.tables import AuditEntry
from foundation.database import get_engine
from foundation.tables import Decision
from router import emergency, policy, promote
from router.tables import RolePolicy
from trainer.tables import ModelVersion

OURS = {"origin": "http://wheel", "sec-fetch-site": "same-origin"}
Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(session: Session, signed_in: Callable[..., str]) -> Ask:
    """Get a page or send its form, as somebody of a role."""
    service = FastAPI()
    service.mount("/admin", create_admin_app())

    def go(path: str, role: str = "admin", **fields: object) -> httpx.Response:
        token = signed_in(session, role, f"a-{role}")

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(service, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://wheel", cookies={COOKIE: token}
            ) as client:
                if not fields:
                    return await client.get(f"/admin{path}")
                return await client.post(f"/admin{path}", data=fields, headers=OURS)

        return asyncio.run(call())

    return go


@pytest.fixture
def versions(session: Session) -> list[ModelVersion]:
    made = [
        ModelVersion(role="coder", number=n, name=f"coder-v{n}", kind="adapter", base_model="tiny")
        for n in range(1, 4)
    ]
    session.add_all(made)
    session.flush()
    promote.initial(session, "coder", made[0])
    promote.promote(session, "coder", made[1], reason="it is better", actor="ada")
    session.commit()
    return made


def policy_now(session: Session) -> RolePolicy:
    session.expire_all()
    return policy.policy_of(session, "coder")


WHOLE = {
    "whole": "true",
    "auto_promote": "assisted",
    "hold_back": "10",
    "baseline": "coder-v1",
    "error_limit": "3",
    "slow_limit_ms": "5000",
    "access": ["production:agent", "production:user", "production:service", "candidate:service"],
    "reason": "we want to see it first",
}


def test_the_whole_policy_is_set_with_its_reason_before_and_after(
    session: Session, ask: Ask, versions: list[ModelVersion]
) -> None:
    assert ask("/roles/coder/policy", **WHOLE).status_code == 303
    row = policy_now(session)
    assert (row.auto_promote, row.hold_back_share) == ("assisted", 0.1)
    assert row.baseline_model_version_id == versions[0].id
    assert row.settings["guard"] == {"error_limit": 0.03, "slow_limit_ms": 5000.0}
    assert row.settings["access"] == {"plain": [], "experimental": [], "retired": []}
    decision = session.scalars(select(Decision).where(col(Decision.kind) == "router.policy")).one()
    assert decision.reasons[-1] == "we want to see it first"
    entry = session.scalars(select(AuditEntry).where(col(AuditEntry.action) == "role.policy")).one()
    assert entry.reason == "we want to see it first"
    assert entry.before is not None
    assert entry.after is not None
    assert (entry.before["auto_promote"], entry.after["auto_promote"]) == ("on", "assisted")

    page = ask("/roles/coder").text
    assert 'name="error_limit" value="3"' in page
    assert 'name="hold_back" value="10"' in page
    cleared = {"whole": "true", "hold_back": "0", "reason": "as it comes"}
    opened = [f"{stage}:{kind}" for stage, kinds in policy.ACCESS.items() for kind in kinds]
    assert ask("/roles/coder/policy", **cleared, access=opened).status_code == 303
    row = policy_now(session)
    assert row.baseline_model_version_id is None
    assert (row.hold_back_share, row.settings["guard"], row.settings["access"]) == (0.0, {}, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"hold_back": "60"},
        {"hold_back": "much"},
        {"error_limit": "nan"},
        {"slow_limit_ms": "inf"},
        {"error_limit": "0"},
        {"access": "quarantined:service"},
        {"access": "production:everybody"},
        {"baseline": "nobody"},
        {"auto_promote": "sometimes"},
    ],
    ids=[
        *("too much", "a word", "no number", "endless", "nothing", "quarantine", "no kind"),
        *("no version", "no mode"),
    ],
)
def test_a_policy_that_makes_no_sense_changes_nothing(
    session: Session, ask: Ask, versions: list[ModelVersion], wrong: dict[str, str]
) -> None:
    answer = ask("/roles/coder/policy", **{**WHOLE, **wrong})
    assert answer.status_code in (400, 404), answer.text
    assert session.get(RolePolicy, "coder") is None


def test_a_policy_is_an_admins_and_shown_to_all(ask: Ask, versions: list[ModelVersion]) -> None:
    assert ask("/roles/coder/policy", role="operator", **WHOLE).status_code == 403
    page = ask("/roles/coder", role="operator").text
    assert "An admin can change it." in page
    assert "Roll back…" in page
    page = ask("/roles/coder", role="viewer").text
    assert "Roll back…" not in page
    assert "Promote…" not in page


def test_the_latest_change_says_how_to_undo_it(
    session: Session, ask: Ask, versions: list[ModelVersion]
) -> None:
    page = ask("/roles/coder").text
    assert "To undo it, roll back: coder-v1 serves again at once" in page
    promote.rollback(session, "coder", reason="it is worse", actor="ada")
    session.commit()
    page = ask("/roles/coder").text
    assert "It cannot be taken back: coder-v2 is quarantined" in page
    assert "To undo it, roll back" not in page, "only the latest is to be undone"


def test_roles_cost_the_same_queries_however_many_are_served(
    session: Session, versions: list[ModelVersion]
) -> None:
    def queries(read: Callable[[], object]) -> int:
        seen: list[str] = []

        def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
            seen.append(statement)

        session.expire_all()
        event.listen(get_engine(), "before_cursor_execute", note)
        try:
            read()
        finally:
            event.remove(get_engine(), "before_cursor_execute", note)
        return len(seen)

    def both() -> list[int]:
        names = emergency.served_roles(session)
        return [
            queries(lambda: roles.role_rows(session, names)),
            queries(lambda: stops.rows(session)),
        ]

    few = both()
    for role in ("tester", "reviewer", "researcher"):
        made = ModelVersion(role=role, number=1, name=f"{role}-v1", kind="adapter", base_model="t")
        session.add(made)
        session.flush()
        promote.initial(session, role, made)
    emergency.stop(session, "a drill", "ada", "tester")
    session.commit()
    assert both() == few


def test_a_stop_shows_the_baseline_that_the_router_would_take(
    session: Session, ask: Ask, versions: list[ModelVersion]
) -> None:
    def told() -> str:
        (row,) = stops.rows(session)
        found = emergency.baseline_of(session, policy.policy_of(session, "coder"))
        assert found is not None
        assert found.name == row.baseline.name
        return row.baseline.name

    assert told() == "coder-v1"
    policy.set_policy(session, "coder", actor="ada", baseline="coder-v3")
    assert told() == "coder-v3"
    versions[2].stage = "quarantined"
    session.add(versions[2])
    session.commit()
    assert told() == "coder-v1", "what is quarantined is no baseline"


def test_a_stop_is_undone_in_place_and_said_to_be(
    session: Session, ask: Ask, versions: list[ModelVersion]
) -> None:
    assert ask("/emergency/stop", role="operator", reason="it loops").status_code == 303
    page = ask("/emergency", role="operator").text
    assert 'action="/admin/emergency/resume"' in page
    assert 'action="/admin/emergency/resume"' not in ask("/emergency", role="viewer").text
    assert ask("/emergency/resume", role="operator", reason="mended").status_code == 303
    page = ask("/emergency", role="viewer").text
    assert "Resumed" in page
    assert "mended" in page
    assert 'action="/admin/emergency/stop"' not in page
    assert "An operator can stop it here." in page


def test_the_stop_is_the_second_thing_a_key_reaches_on_every_page(ask: Ask) -> None:
    for path in ("/", "/experiments", "/roles", "/traffic", "/decisions"):
        page = ask(path, role="operator").text
        body = page[page.index("<body") :]
        assert body.index('href="/admin/emergency">Emergency stop</a>') < body.index("<nav"), path
        assert "Emergency stop</a>" not in ask(path, role="viewer").text, path


def test_of_two_promotions_from_one_page_the_later_one_is_refused(
    session: Session, visit, versions: list[ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a while to make a version answerable, and who serves may change meanwhile."""
    both_prepare = Barrier(2, timeout=30)
    monkeypatch.setattr(roles.deploy, "prepare", lambda *_: both_prepare.wait())
    asking = [visit("operator", name) for name in ("olga", "otto")]
    sent = {"seen": str(versions[1].id), "reason": "it is better"}

    def promoted(browser, version: ModelVersion) -> int:
        return browser.post("/roles/coder/promote", version=str(version.id), **sent).status_code

    with ThreadPoolExecutor(2) as threads:
        said = list(threads.map(promoted, asking, [versions[0], versions[2]]))
    assert sorted(said) == [303, 409]
    winner = versions[0] if said[0] == 303 else versions[2]
    session.expire_all()
    assert promote.serving_version(session, "coder").id == winner.id


def test_of_two_stops_at_once_one_is_written_down_as_the_one_that_stopped(
    session: Session, visit, versions: list[ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    both_looked = Barrier(2)
    look = stops._stopped

    def look_together(*given) -> dict:
        found = look(*given)
        with suppress(BrokenBarrierError):  # the other waits for us, as it should
            both_looked.wait(timeout=0.5)
        return found

    monkeypatch.setattr(stops, "_stopped", look_together)
    asking = [visit("operator", name) for name in ("olga", "otto")]
    with ThreadPoolExecutor(2) as threads:
        said = list(threads.map(lambda one: one.post("/emergency/stop", reason="all red"), asking))
    assert [answer.status_code for answer in said] == [303, 303]
    entries = session.scalars(select(AuditEntry).where(col(AuditEntry.action) == "emergency.stop"))
    assert sorted(str(entry.before) for entry in entries) == ["{'stopped': []}", "{}"]
