"""The service's door: every route has a scope, a key opens its own and nothing else."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import select, text
from sqlmodel import Session, col
from starlette.exceptions import HTTPException
from typer.testing import CliRunner

from collector.record import feedback_record, interaction_record
from collector.replay import replay
from collector.tables import DeadLetter, Feedback, Interaction
from flywheel import doors
from flywheel.app import create_app
from flywheel.cli import app
from foundation.ids import new_id
from foundation.settings import get_settings
from router import key_picture, keys
from router.key_records import records_of
from router.keys import KeyLimits
from router.scopes import (
    ADMIN,
    BUILD,
    FEEDBACK,
    GATEWAY,
    INGEST,
    METRICS,
    PROMOTE,
    READ,
    SCOPES,
    opens,
)
from router.tables import GatewayKey

FIXED = {"/", "/healthz", "/readyz"}


def endpoints(routes: Any, prefix: str = "") -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for route in routes:
        if hasattr(route, "original_router"):
            found |= endpoints(route.original_router.routes, prefix + route.include_context.prefix)
        elif isinstance(route, APIRoute):
            found |= {(method, f"{prefix}{route.path_format}") for method in route.methods}
    return found


ROUTES = sorted((method, path) for method, path in endpoints(create_app().routes))


@pytest.fixture
def client(session: Session) -> Iterator[TestClient]:
    with TestClient(create_app(), "http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def make(session: Session, name: str, *scopes: str, **fields: Any) -> dict[str, str]:
    """Make a key; return the headers of who carries it."""
    _, secret = keys.create_key(session, name, scopes=scopes, **fields)
    session.commit()
    return {"authorization": f"Bearer {secret}"}


def a_moment_later() -> None:
    """Wait until the picture of the keys is renewed."""
    time.sleep(key_picture.FRESH_S + 0.1)


def call(role: str = "coder", **columns: Any) -> dict[str, Any]:
    request = {"model": "m", "messages": [{"role": "user", "content": "write f"}]}
    return interaction_record(columns.pop("id", new_id()), role, request, None, **columns)


def batch(*interactions: Any, feedback: Any = ()) -> dict[str, Any]:
    return {"source": "test", "interactions": [*interactions], "feedback": [*feedback]}


def test_every_route_has_a_scope_or_another_door() -> None:
    forgotten = [
        (method, path)
        for method, path in ROUTES
        if not doors.is_open(path) and doors.scope_of(method, path) is None
    ]
    assert forgotten == [], "say in flywheel/doors.py which scope they take"
    nouns = {path.split("/")[2] for _, path in ROUTES if path.startswith("/v1/")}
    assert nouns == doors.NOUNS.keys(), "a noun without a route is a mistake, too"


def test_an_unknown_route_is_closed_to_all_but_admin(client, session) -> None:
    reader, admin = make(session, "reader", READ), make(session, "admin", ADMIN)
    for path in ("/v1/new-thing", "/v2/keys", "/v1", "/v1/", "/internal"):
        assert doors.scope_of("GET", path) is None
        assert client.get(path, headers=reader).status_code == 403
        assert client.get(path, headers=admin).status_code == 404


def test_a_stolen_ingest_key_opens_nothing_but_the_ways_in(client, session) -> None:
    """Every route with it, and no such route answers: neither read, nor change, nor promote."""
    thief = make(session, "agent", INGEST)
    opened = set()
    for method, path in ROUTES:
        if doors.is_open(path):
            continue
        address = re.sub(r"\{[^}]*\}", str(new_id()), path)
        status = client.request(method, address, headers=thief).status_code
        assert status != 401, "the key is known"
        if status != 403:
            opened.add((method, path))
    assert opened == {
        ("POST", "/v1/ingest"),
        ("POST", "/otlp/v1/traces"),
        ("POST", "/otlp/v1/logs"),
        ("POST", "/v1/feedback"),
        ("POST", "/v1/feedback/ci/junit"),
        ("POST", "/v1/feedback/ci/github"),
    }
    assert client.get("/admin/", headers=thief, follow_redirects=False).status_code == 303
    tricks = ["/v1//keys", "/v1/ingest/../keys", "/V1/keys", "/v1/keys/", "//v1/keys", "/v1/%6beys"]
    for path in tricks:
        answer = client.get(path, headers=thief, follow_redirects=False)
        assert answer.status_code == 403, path


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (METRICS, {("GET", "/metrics")}),
        (
            FEEDBACK,
            {
                (method, path)
                for method, path in ROUTES
                if method == "POST" and path.startswith(("/v1/ingest", "/v1/feedback", "/otlp"))
            },
        ),
        (GATEWAY, set()),
        (ADMIN, {(m, p) for m, p in ROUTES if not doors.is_open(p)}),
    ],
)
def test_what_a_scope_opens(scope: str, allowed: set[tuple[str, str]]) -> None:
    taken = {(m, p): doors.scope_of(m, p) for m, p in ROUTES if not doors.is_open(p)}
    assert {route for route, wanted in taken.items() if opens({scope}, wanted)} == allowed


def test_only_promote_and_admin_change_who_serves() -> None:
    for method, path in ROUTES:
        decides = re.match(r"/v1/(roles|experiments|emergency|schedules)", path)
        if decides and method != "GET":
            assert {s for s in SCOPES if opens({s}, doors.scope_of(method, path))} == {
                *(PROMOTE, ADMIN),
            }


def test_the_service_asks_for_a_key_from_the_first_one_on_that_opens_it(client, session) -> None:
    assert client.get("/v1/datasets").status_code == 200
    make(session, "agent", GATEWAY)
    a_moment_later()
    assert client.get("/v1/datasets").status_code == 200, "the gateway is another door"
    reader = make(session, "reader", READ)
    a_moment_later()
    refused = client.get("/v1/datasets")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic")
    assert "--scope" in refused.json()["error"]["message"]
    assert client.get("/v1/datasets", headers=reader).status_code == 200
    keys.revoke_key(session, "reader")
    session.commit()
    a_moment_later()
    assert client.get("/v1/datasets", headers=reader).status_code == 401, "within about a second"
    assert client.get("/v1/datasets").status_code == 401, "closed it stays"


def test_the_master_key_opens_everything(client, session, monkeypatch) -> None:
    monkeypatch.setenv("FLYWHEEL_API_KEY", "a-long-master-key")
    get_settings.cache_clear()
    reader = make(session, "reader", READ)
    master = {"authorization": "Bearer a-long-master-key"}
    for headers, status in ((master, 200), (reader, 403), ({}, 401)):
        assert client.get("/v1/keys", headers=headers).status_code == status


def test_while_the_database_is_away_known_keys_open_and_unknown_ones_wait(
    client, session, monkeypatch
) -> None:
    reader = make(session, "reader", READ)
    assert client.get("/openapi.json", headers=reader).status_code == 200

    def away(*_: Any) -> None:
        from foundation.errors import DatabaseUnavailable

        raise DatabaseUnavailable("postgresql://gone", "refused")

    monkeypatch.setattr(key_picture, "session_scope", away)
    a_moment_later()
    assert client.get("/openapi.json", headers=reader).status_code == 200
    assert client.get("/openapi.json", headers={"x-api-key": "fw_no"}).status_code == 401
    with TestClient(create_app(), "http://127.0.0.1") as started_meanwhile:
        answer = started_meanwhile.get("/openapi.json", headers=reader)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "KeysUnknown")


def test_records_say_by_which_key_they_came_whatever_they_claim(client, session) -> None:
    agent = make(session, "agent", INGEST)
    key_id = keys.get_key(session, "agent").id
    mine, forged = call(), call() | {"key_id": str(new_id())}
    said = feedback_record(new_id(), "rating", value=5, interaction_id=mine["id"])
    sent = batch(mine, forged, feedback=[said, said | {"id": str(new_id()), "key_id": "x"}])
    answer = client.post("/v1/ingest", json=sent, headers=agent).json()["results"]
    assert [one["status"] for one in answer] == ["stored", "rejected", "stored", "rejected"]
    assert client.post("/v1/feedback", json={**said, "id": None}, headers=agent).status_code == 200
    span = {
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331",
        "name": "chat m", "startTimeUnixNano": str(time.time_ns()),
        "endTimeUnixNano": str(time.time_ns()),
        "attributes": [
            {"key": name, "value": {"stringValue": value}} for name, value in
            {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}.items()
        ],
    }  # fmt: skip
    traces = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [span]}]}]}
    otlp = {**agent, "x-flywheel-role": "coder"}
    assert client.post("/otlp/v1/traces", json=traces, headers=otlp).json() == {}
    assert set(session.scalars(select(col(Interaction.key_id)))) == {key_id}
    assert set(session.scalars(select(col(Feedback.key_id)))) == {key_id}
    assert set(session.scalars(select(col(DeadLetter.key_id)))) == {key_id}
    groups = {(g.what, g.role, g.source): g.n for g in records_of(session, "agent")}
    assert groups == {
        ("calls", "coder", "client"): 1,
        ("calls", "coder", "otlp"): 1,
        ("feedback", None, "human"): 2,
        ("refused", None, "test"): 2,
    }


def test_a_key_of_one_role_and_project_writes_theirs_alone(client, session) -> None:
    # Before any key there is an operator, who writes what belongs to somebody else.
    theirs = call("tester", project="blog", key="run-1", episode_id=new_id())
    older, mixed = call(project="shop", key="twice"), new_id()
    newer = call("tester", project="shop", key="twice")
    beside = call(project="blog", episode_id=mixed)
    first = client.post("/v1/ingest", json=batch(theirs, newer, beside)).json()["results"]
    assert {one["status"] for one in first} == {"stored"}
    narrow = make(session, "narrow", INGEST, roles=["coder"], projects=["shop"])
    a_moment_later()
    mine, of_role, of_project = call(), call("tester"), call(project="blog")

    def about(record: Any, **named: Any) -> Any:
        named = named or {"interaction_id": record["id"]}
        return feedback_record(new_id(), "success", value=1, **named)

    pair = feedback_record(
        new_id(), "preference", interaction_id=mine["id"], loser_interaction_id=theirs["id"]
    )
    said = [
        about(mine),
        about(theirs),
        about(theirs, interaction_key="run-1", project="blog"),
        about(theirs, episode_id=theirs["episode_id"]),
        pair,
        about(older, interaction_key="twice", project="shop"),  # it would be joined to the newer
        about(older, episode_id=str(mixed)),
    ]
    own = batch(mine, {**older, "episode_id": str(mixed)})
    stored = client.post("/v1/ingest", json=own, headers=narrow).json()["results"]
    assert {one["status"] for one in stored} == {"stored"}
    sent = batch(of_role, of_project, feedback=said)
    answer = client.post("/v1/ingest", json=sent, headers=narrow).json()["results"]
    assert [one["status"] for one in answer] == [
        *("rejected", "rejected", "stored", *["rejected"] * 6),
    ]
    assert all(one["reason"].startswith("not_allowed") for one in answer if one["reason"])
    stored = session.get_one(Interaction, mine["id"])
    assert stored.project == "shop", "a key of one project need not say it"

    # What was refused waits for a person; tried again by one, it is still said to be the key's.
    letter = session.scalars(
        select(DeadLetter).where(col(DeadLetter.record_id) == of_role["id"])
    ).one()
    assert replay(session, letter).status == "stored"
    assert session.get_one(Interaction, of_role["id"]).key_id == stored.key_id


def test_a_letter_is_tried_again_with_the_rights_of_who_asks(client, session) -> None:
    theirs = call(project="blog")
    client.post("/v1/ingest", json=batch(theirs))
    narrow = make(session, "narrow", INGEST, roles=["coder"], projects=["shop"])
    builder = make(session, "builder", BUILD)
    writer = make(session, "writer", BUILD, INGEST)
    a_moment_later()
    said = feedback_record(new_id(), "success", value=1, interaction_id=theirs["id"])
    sent = batch(call(project="blog"), call(project="wiki"), feedback=[said])
    client.post("/v1/ingest", json=sent, headers=narrow)
    found = {one.record_id: str(one.id) for one in session.scalars(select(DeadLetter))}
    session.rollback()
    refused = (*sent["interactions"], *sent["feedback"])
    first, second, statement = (found[one["id"]] for one in refused)

    def tried(letter: str, headers: Any) -> Any:
        return client.post(f"/v1/dead-letters/{letter}/replay", headers=headers)

    assert [tried(one, builder).status_code for one in (first, statement)] == [403, 403]
    waiting = session.get_one(DeadLetter, UUID(second))
    waiting.code = "unknown_role"  # whatever else it was refused for
    session.commit()
    assert tried(second, builder).json()["reason"].startswith("not_allowed")
    session.refresh(waiting)
    assert (waiting.code, waiting.settled_at) == ("unknown_role", None)
    assert tried(first, writer).json()["status"] == "stored"

    def commanded(*words: str) -> dict[str, int]:
        done = CliRunner().invoke(app, ["dead-letters", "replay", *words, "--json"])
        counted: dict[str, int] = json.loads(done.stdout)
        return counted

    assert commanded("--all") == {"stored": 1, "not allowed, name its id": 1}
    assert commanded("--code", "not_allowed") == {"not allowed, name its id": 1}
    assert commanded(statement) == {"stored": 1}


def test_a_feedback_key_says_what_became_of_calls_and_writes_none(client, session) -> None:
    ci = make(session, "ci", FEEDBACK)
    made_up = call()
    said = feedback_record(new_id(), "success", value=1, interaction_id=made_up["id"])
    answer = client.post("/v1/ingest", json=batch(made_up, feedback=[said]), headers=ci).json()
    assert [one["status"] for one in answer["results"]] == ["rejected", "stored"]


def test_an_old_secret_opens_for_its_grace_and_uses_are_noted(client, session) -> None:
    old = make(session, "agent", READ)
    row, fresh = keys.rotate_key(session, "agent", timedelta(hours=1))
    session.commit()
    new = {"x-api-key": fresh}
    for headers in (old, new):
        assert client.get("/openapi.json", headers=headers).status_code == 200
    session.refresh(row)
    assert row.last_used_at is not None
    row.previous_expires_at = row.created_at
    session.add(row)
    session.commit()
    a_moment_later()
    assert client.get("/openapi.json", headers=old).status_code == 401
    assert client.get("/openapi.json", headers=new).status_code == 200


def test_a_key_is_as_fast_as_it_may_be(client, session) -> None:
    slow = make(session, "slow", READ, limits=KeyLimits(requests_per_minute=2))
    answers = [client.get("/openapi.json", headers=slow) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) > 0


def test_what_is_too_large_or_too_deep_is_refused_without_being_read(client, session) -> None:
    builder = make(session, "builder", "build", "review")
    stated = {**builder, "content-length": str(10 << 20), "content-type": "application/json"}
    answer = client.post("/v1/trainings", headers=stated, content=b"{}")
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "TooLarge")
    parts = (b" " * (1 << 20) for _ in range(20))
    assert client.post("/v1/trainings", headers=builder, content=parts).status_code == 413
    for body in (b"[" * 200_000, b'{"a":' * 100_000):
        kind = {**builder, "content-type": "application/json"}
        status = client.post("/v1/trainings", headers=kind, content=body).status_code
        assert 400 <= status < 500


def test_a_body_that_never_ends_is_not_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(doors, "BODY_S", 0.02)

    async def silent() -> Any:
        await asyncio.sleep(60)

    with pytest.raises(HTTPException) as caught:
        asyncio.run(doors.Body(silent, 10).receive())
    assert caught.value.status_code == 408


def test_a_narrow_key_is_never_one_of_reading_or_deciding(session) -> None:
    for scope in SCOPES.keys() - {GATEWAY, INGEST, FEEDBACK}:
        with pytest.raises(keys.BadInput, match="some roles or projects"):
            keys.create_key(session, "x", scopes=[scope], roles=["coder"])
    with pytest.raises(keys.BadInput, match="scope of a key"):
        keys.create_key(session, "x", scopes=["everything"])


def test_what_was_made_before_there_were_scopes_opens_the_gateway_alone(session) -> None:
    keys.create_key(session, "old")
    session.flush()
    assert session.scalar(select(col(GatewayKey.scopes))) is None
    assert keys.explain_key(keys.get_key(session, "old"))["scopes"] == [GATEWAY]
    assert session.execute(text("SELECT scopes IS NULL FROM gateway_key")).scalar()


def test_the_api_makes_scoped_keys_rotates_them_with_grace_and_tells_their_records(
    client, session
) -> None:
    wanted = {"name": "ci", "scopes": ["feedback"]}
    made = client.post("/v1/keys", json=wanted).json()
    assert made["scopes"] == ["feedback"]
    a_moment_later()
    assert client.post("/v1/keys/ci/rotate", json={"grace_hours": 2}).status_code == 401
    admin = make(session, "admin", ADMIN)
    a_moment_later()
    rotated = client.post("/v1/keys/ci/rotate", json={"grace_hours": 2}, headers=admin)
    assert rotated.json()["previous_expires_at"]
    assert "hash" not in json.dumps(rotated.json())
    assert client.get("/v1/keys/ci/records", headers=admin).json() == []
    too_long = client.post("/v1/keys/ci/rotate", json={"grace_hours": 9999}, headers=admin)
    assert too_long.status_code == 400


def test_another_sites_page_gets_nothing_done(client, session) -> None:
    crossed = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
    assert client.post("/v1/emergency/stop", json={}, headers=crossed).status_code == 403
    reader = make(session, "reader", READ)
    foreign = httpx.Headers({**reader, "host": "wheel.example"})
    a_moment_later()
    assert client.get("/openapi.json", headers=foreign).status_code == 200, "keys are no ambience"


def test_no_key_takes_the_id_of_what_another_sender_will_say(client, session) -> None:
    """Ids made of a request's key are the sender's own, and nobody may state one."""
    thief, ci = make(session, "thief", FEEDBACK), make(session, "ci", FEEDBACK)
    a_moment_later()
    word = {"kind": "success", "value": 1, "episode_key": "PR-1", "project": "shop"}
    report = b'<testsuite><testcase name="a"/></testsuite>'
    check = {"id": 7, "head_sha": "c0ffee", "status": "completed", "conclusion": "success"}
    check["completed_at"] = "2026-03-02T10:00:00Z"
    sent: list[tuple[str, dict[str, Any]]] = [
        ("/v1/feedback", {"json": word, "headers": {"idempotency-key": "job-7"}}),
        ("/v1/feedback/ci/junit?episode_key=PR-1", {"content": report}),
        ("/v1/feedback/ci/github", {"json": {"action": "completed", "check_run": check}}),
    ]
    for path, request in sent:
        named = request.pop("headers", {})
        ids = list[str]()
        for bearer, status in ((thief, "stored"), (ci, "stored"), (ci, "duplicate")):
            answer = client.post(path, **request, headers=bearer | named).json()["results"]
            assert {one["status"] for one in answer} == {status}
            ids.append(answer[0]["id"])
        assert ids[0] != ids[1] == ids[2]
        for way, body in (
            ("/v1/feedback", {**word, "id": ids[0].upper()}),
            ("/v1/ingest", batch(feedback=[{**word, "id": ids[0]}])),
        ):
            (refused,) = client.post(way, json=body, headers=thief).json()["results"]
            assert refused["status"] == "rejected"
            assert "UUID version 5" in refused["reason"]
