"""What the gateway writes down of each call: into the spool at once, from there into the database.

A record is built and appended by one writer thread, off the event loop, and is in the spool before
the last byte of the answer leaves: whoever has seen an answer will find its record, also when the
gateway is killed right after. The spool's own threads scrub it, and ship it through
`collector.ingest`, which counts the call for its experiment in the same transaction, so a record
that is sent twice counts once.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from collector.ingest import DATABASE_AWAY, STORED, store_batch
from collector.record import interaction_record
from collector.schemas import IngestBatch
from collector.sender import INTERACTION, Sender
from collector.spool import Spool
from collector.streams import assemble
from collector.tables import CUT, ERROR, SUCCESS
from collector.transport import Batch, Result, Unreachable
from foundation.database import session_scope
from foundation.errors import DatabaseUnavailable
from foundation.ids import new_id
from router.experiment import record_call
from router.guard import counts_for_version
from router.roster import Target
from router.wire import ChatBody, read_answer, read_stream

log = logging.getLogger(__name__)

SOURCE = "gateway"
SHIP_EVERY_S = 0.5


@dataclass
class Call:
    """One call on its way through the gateway, and its clock."""

    role: str
    target: Target
    chat: ChatBody
    id: UUID = field(default_factory=new_id)
    project: str | None = None
    task_type: str | None = None
    episode_id: UUID | None = None
    parent_id: UUID | None = None
    unit: str | None = None
    experiment_id: UUID | None = None
    arm: str | None = None
    ttft_ms: float | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.perf_counter)

    def elapsed_ms(self) -> float:
        """Return the milliseconds since the call came in."""
        return (time.perf_counter() - self.started) * 1000

    def headers(self) -> dict[str, str]:
        """Return what the caller is told about its call."""
        told = {
            "x-flywheel-interaction-id": str(self.id),
            "x-flywheel-arm": self.arm,
            "x-flywheel-model-version": self.target.version_name,
        }
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True)
class Ending:
    """How a call ended: the bytes of its answer, and what went wrong if something did."""

    status: str
    pieces: Sequence[bytes] = ()
    is_stream: bool = False
    error_type: str | None = None
    error: str | None = None


def record_of(call: Call, ending: Ending, latency_ms: float) -> dict[str, Any]:
    """Return the wire record of a finished call, unscrubbed; pure.

    A stream that did not end as it should is `cut`, and one that says an error is an `error`,
    whatever the bytes around it.
    """
    response, status, error_type = None, ending.status, ending.error_type
    if ending.is_stream:
        read = read_stream(ending.pieces)
        response = assemble(read.chunks)
        if read.error is not None:
            status, error_type = ERROR, str(read.error.get("code") or read.error.get("type"))
        elif status == SUCCESS and not read.ended:
            status, error_type = CUT, "upstream_cut"
    elif ending.pieces:
        response = read_answer(b"".join(ending.pieces))
    columns: dict[str, Any] = {
        "project": call.project,
        "task_type": call.task_type,
        "episode_id": call.episode_id,
        "parent_id": call.parent_id,
        "unit_id": call.unit,
        "experiment_id": call.experiment_id,
        "arm": call.arm,
        "model_version_id": call.target.version_id,
        "gen_ai_provider_name": call.target.upstream.name if call.target.upstream else "litellm",
        "gen_ai_request_model": call.target.model,
        "status": status,
        "error_type": error_type,
        "completed": status == SUCCESS,
        "latency_ms": latency_ms,
        "ttft_ms": call.ttft_ms,
        "source": SOURCE,
        "attributes": {"error": ending.error} if ending.error else None,
    }
    return interaction_record(
        call.id, call.role, call.chat.values, response, started_at=call.started_at, **columns
    )


class IngestTransport:
    """Stores batches, and counts their calls for the experiments, in one transaction each."""

    def send(self, batch: Batch) -> list[Result]:
        """Store a batch; raises Unreachable when the database does not answer."""
        checked = IngestBatch.model_validate(batch)
        try:
            with session_scope() as session:
                results = store_batch(session, checked)
                for record, result in zip(batch["interactions"], results, strict=False):
                    if record.get("source") != SOURCE:
                        continue
                    counts = counts_for_version(record["status"], record.get("error_type"))
                    if counts and result.status == STORED and record.get("experiment_id"):
                        record_call(
                            session,
                            UUID(record["experiment_id"]),
                            record["unit_id"],
                            error=record["status"] == ERROR,
                            latency_ms=record.get("latency_ms"),
                        )
        except (*DATABASE_AWAY, DatabaseUnavailable) as error:
            raise Unreachable(str(error).splitlines()[0]) from error
        return [result.model_dump() for result in results]

    def close(self) -> None:
        """Nothing to release: the engine is the process's."""


class Recorder:
    """Keeps the calls of one gateway process in a spool and ships them into the database."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder, source=SOURCE)
        self._sender = Sender(self.spool, IngestTransport(), interval_s=SHIP_EVERY_S)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="gateway-records")

    def start(self) -> None:
        """Begin to ship, also what a killed gateway left."""
        self._sender.ensure_running()

    async def keep(self, call: Call, ending: Ending) -> None:
        """Write a finished call into the spool and return when it is there.

        Never raises for the record's sake: what cannot be kept is counted as dropped and logged.
        """
        latency_ms = call.elapsed_ms()
        loop = asyncio.get_running_loop()
        # Shielded: a caller that leaves while its record is being written must not lose it.
        await asyncio.shield(
            loop.run_in_executor(self._writer, self._append, call, ending, latency_ms)
        )

    def _append(self, call: Call, ending: Ending, latency_ms: float) -> None:
        try:
            record = record_of(call, ending, latency_ms)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            log.exception("call %s: its answer cannot be read and is left out", call.id)
            record = record_of(call, Ending(ERROR, error_type="unreadable_answer"), latency_ms)
        line: dict[str, Any] = {"kind": INTERACTION, "record": record}
        if call.episode_id is not None:
            line["episode"] = str(call.episode_id)
        self.spool.append(line)
        self._sender.ensure_running()

    def counts(self) -> dict[str, Any]:
        """Return what became of the calls of this process."""
        return self.spool.counts()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write and ship what is left; what does not get through waits for the next gateway."""
        self._writer.shutdown(wait=True)
        self._sender.flush(timeout_s)
        self._sender.stop()
        self.spool.close()
