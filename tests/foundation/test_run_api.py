import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlmodel import Session

import foundation.api
from foundation.errors import Conflict, NotFound
from foundation.ids import new_id
from foundation.tables import CANCELLED, FAILED, QUEUED, Run


def ask(method: str, path: str) -> dict[str, Any]:
    app = FastAPI()
    app.include_router(foundation.api.routes)

    async def visit() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://door/v1") as client:
            return await client.request(method, path)

    answer = asyncio.run(visit())
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_job_is_read_queued_again_and_cancelled(session: Session) -> None:
    run = Run(kind="test.elsewhere", status=FAILED, error="the disk is full", attempts=2)
    session.add(run)
    session.commit()
    read = ask("GET", f"/runs/{run.id}")
    assert (read["status"], read["error"], read["attempts"]) == (FAILED, "the disk is full", 2)
    assert ask("POST", f"/runs/{run.id}/retry")["status"] == QUEUED
    with pytest.raises(Conflict, match="is queued"):
        ask("POST", f"/runs/{run.id}/retry")
    assert ask("POST", f"/runs/{run.id}/cancel")["status"] == CANCELLED
    with pytest.raises(NotFound):
        ask("GET", f"/runs/{new_id()}")
