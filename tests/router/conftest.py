"""Rows that the tests of the router start from."""

from collections.abc import Callable

import pytest
from sqlmodel import Session

from trainer.tables import ModelVersion

MakeVersion = Callable[..., ModelVersion]


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
