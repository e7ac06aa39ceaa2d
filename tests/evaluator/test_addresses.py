"""Who orders an evaluation learns no key, and has nobody asked but who is known."""

import json
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlmodel import Session

from evaluator.addresses import api_key_of
from flywheel.app import create_app
from foundation.settings import get_settings
from router import keys

MASTER = "the-master-key-of-all"
FAR = {"base_url": "http://far.example/v1/", "api_key": "far-key"}


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch, settings: object) -> Iterator[None]:
    monkeypatch.setenv("FLYWHEEL_API_KEY", MASTER)
    monkeypatch.setenv(
        "FLYWHEEL_UPSTREAMS",
        json.dumps(
            {"far": FAR, "open": {**FAR, "base_url": "http://open.example/v1", "api_key": None}}
        ),
    )
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_the_master_key_goes_to_our_own_engine_alone(deployment: None) -> None:
    assert api_key_of(get_settings().engine_base_url) == MASTER
    assert api_key_of("http://far.example/v1") == "far-key"
    for foreign in (
        "http://evil.example/v1",
        "http://open.example/v1",
        "http://127.0.0.1:8712.evil.example/v1",
    ):
        assert api_key_of(foreign) is None


def test_a_key_of_building_names_no_address_of_its_own(session: Session) -> None:
    _, secret = keys.create_key(session, "pipeline", scopes=["build"])
    session.commit()
    client = TestClient(create_app(), "http://127.0.0.1")
    order = {"suite": "x", "subjects": ["y"], "base_url": "http://169.254.169.254/v1"}
    answer = client.post("/v1/evaluations", json=order, headers={"x-api-key": secret})
    assert answer.status_code == 403
    assert answer.json()["error"]["message"].startswith("base_url: got 'http://169.254")
    known = {**order, "base_url": get_settings().engine_base_url}
    answer = client.post("/v1/evaluations", json=known, headers={"x-api-key": secret})
    assert answer.status_code == 404, "no such suite"
