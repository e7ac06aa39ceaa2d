"""A log written straight into the tables, as ingest would have stored it, and committed."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlmodel import Session

from collector.tables import Feedback, Interaction, InteractionPayload
from foundation.chat import completion, message
from foundation.ids import new_id


class Log:
    """Writes interactions and feedback; every call is a second later than the one before."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.clock = datetime.now(UTC) - timedelta(days=1)

    def tick(self) -> datetime:
        self.clock += timedelta(seconds=1)
        return self.clock

    def call(
        self,
        prompt: str | list[dict[str, Any]],
        answer: str,
        *,
        role: str = "coder",
        passed: bool | None = None,
        task_key: str | None = None,
        finish: str | None = "stop",
        ingested_at: datetime | None = None,
        **columns: Any,
    ) -> UUID:
        messages = [message("user", prompt)] if isinstance(prompt, str) else prompt
        identifier = new_id()
        moment = ingested_at or self.tick()
        self.session.add(
            Interaction(id=identifier, role=role, started_at=moment, ingested_at=moment, **columns)
        )
        self.session.add(
            InteractionPayload(
                id=identifier,
                request={"messages": messages},
                response=completion(str(identifier), "m", answer, finish, 1, 1, 0),
                attributes=None if task_key is None else {"task_key": task_key},
            )
        )
        if passed is not None:
            self.say(identifier, "success", float(passed), source="test")
        self.session.commit()
        return identifier

    def say(
        self,
        identifier: UUID | None,
        kind: str,
        value: float | None = None,
        *,
        text: str | None = None,
        source: str = "human",
        **columns: Any,
    ) -> None:
        moment = self.tick()
        self.session.add(
            Feedback(
                interaction_id=identifier,
                kind=kind,
                value=value,
                text=text,
                source=source,
                created_at=moment,
                ingested_at=columns.pop("ingested_at", moment),
                **columns,
            )
        )
        self.session.commit()


@pytest.fixture
def log(session: Session) -> Log:
    session.execute(text("SET synchronous_commit = off"))  # nothing here is to survive a power cut
    session.commit()
    return Log(session)
