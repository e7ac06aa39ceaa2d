"""The routes of keys, budgets and usage."""

from collections.abc import Iterator

import httpx
import pytest
from upstream_app import Server

from flywheel.app import create_app
from foundation.database import session_scope
from router.keys import take


@pytest.fixture
def client(database) -> Iterator[httpx.Client]:
    with Server(create_app()) as server, httpx.Client(base_url=server.url) as open_client:
        yield open_client


def test_a_key_from_its_making_to_its_end(client: httpx.Client) -> None:
    wanted = {
        "name": "ci", "roles": ["coder"], "requests_per_minute": 60, "tokens_per_day": 1e6,
        "expires_at": "2100-01-01T00:00:00Z", "actor": "ada",
    }  # fmt: skip
    made = client.post("/v1/keys", json=wanted)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    secret = made.json()["key"]
    (listed,) = client.get("/v1/keys").json()
    assert {**listed, "key": secret} == made.json()
    assert (listed["actor"], listed["limits"]) == ("ada", {"requests_per_minute": 60})
    assert "key_hash" not in listed
    rotated = client.post("/v1/keys/ci/rotate").json()["key"]
    with session_scope() as session:
        ring = take(session)
    assert ring.identify({"x-api-key": rotated}).name == "ci"
    assert client.post("/v1/keys/ci/revoke").json()["revoked_at"]
    assert client.post("/v1/keys", json=wanted).status_code == 409
    assert client.post("/v1/keys/nobody/revoke").status_code == 404
    assert (
        client.post("/v1/keys", json={"name": "x", "expires_at": "2100-01-01"}).status_code == 422
    )
    ((budget,)) = [b for b in client.get("/v1/budgets").json() if b["scope"] == "key:ci"]
    assert (budget["measure"], budget["amount"]) == ("tokens_per_day", 1e6)


def test_a_key_whose_budget_is_refused_is_not_made(client: httpx.Client) -> None:
    refused = client.post("/v1/keys", json={"name": "ci", "tokens_per_day": -1})
    assert refused.status_code == 400
    assert client.get("/v1/keys").json() == []


def test_budgets_are_set_listed_and_unset(client: httpx.Client) -> None:
    wanted = {"scope": "role:coder", "measure": "tokens_per_day", "amount": 5e6}
    assert client.put("/v1/budgets", json=wanted).json() == wanted
    told = {b["scope"]: b["amount"] for b in client.get("/v1/budgets").json()
            if b["measure"] == "tokens_per_day"}  # fmt: skip
    assert told == {"all": 100e6, "role:coder": 5e6}
    place = {"scope": "role:coder", "measure": "tokens_per_day"}
    assert client.delete("/v1/budgets", params=place).json() == place
    assert client.delete("/v1/budgets", params=place).status_code == 404
    assert client.put("/v1/budgets", json={**wanted, "scope": "team:x"}).status_code == 400


def test_usage(client: httpx.Client) -> None:
    assert client.get("/v1/usage", params={"by": "key", "days": 7}).json() == []
    assert client.get("/v1/usage", params={"by": "team"}).status_code == 400
