"""What an error of the database says, and what locks that are held for long leave alone."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from locks import holders
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from collector import campaign
from curation import builds


def test_an_error_tells_no_parameter(session: Session) -> None:
    with pytest.raises(SQLAlchemyError) as failed:
        session.execute(text("SELECT 1 FROM nowhere WHERE request = :r"), {"r": "my own prompt"})
    assert "nowhere" in str(failed.value)
    assert "my own prompt" not in str(failed.value)


@pytest.mark.parametrize(
    "held",
    [
        lambda: builds.alone("coder", "default", lambda: False),
        lambda: campaign._only_runner(SimpleNamespace(id=uuid4(), name="one")),
    ],
    ids=["build", "campaign"],
)
def test_a_lock_that_is_held_for_long_keeps_no_vacuum_back(database: str, held: Any) -> None:
    with held():
        assert holders() == [("idle in transaction", None, None)]
    assert holders() == []
