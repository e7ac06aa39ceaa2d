"""Rows that the tests of the router start from."""

import random
from collections.abc import Callable, Iterator

import httpx
import pytest
from fastapi import FastAPI
from sqlmodel import Session
from upstream_app import Server

from flywheel.app import answer_error
from foundation.errors import FlywheelError
from router.api import routes
from router.assign import BUCKETS, arm_of
from router.experiments import units
from trainer.tables import ModelVersion

MakeVersion = Callable[..., ModelVersion]


@pytest.fixture(autouse=True)
def same_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let units draw the same arms in each run: of a few dozen, some draws are too uneven."""
    dice = random.Random(1)
    monkeypatch.setattr(
        units, "draw_arm", lambda *drawn: arm_of(dice.randrange(BUCKETS), drawn[-1])
    )


@pytest.fixture
def make_version(session: Session) -> MakeVersion:
    numbers: dict[str, int] = {}

    def make(role: str = "coder", **fields: object) -> ModelVersion:
        numbers[role] = numbers.get(role, 0) + 1
        values = {"kind": "adapter", "base_model": "tiny", "name": f"{role}-v{numbers[role]}"}
        version = ModelVersion(role=role, number=numbers[role], **{**values, **fields})
        session.add(version)
        session.flush()
        return version

    return make


@pytest.fixture
def client(database) -> Iterator[httpx.Client]:
    """A client of the router's routes, over a real port."""
    app = FastAPI()
    app.include_router(routes)
    app.add_exception_handler(FlywheelError, answer_error)
    with Server(app) as server, httpx.Client(base_url=server.url) as open_client:
        yield open_client
