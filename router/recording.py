"""What the gateway writes down of each call: into the spool at once, from there into the database.

One `write` of the very bytes that were asked and answered puts a call into the spool, before the
last byte of the answer leaves: whoever has seen an answer will find its record, also when the
gateway is killed right after. Everything else waits for a thread beside the event loop: a stream is
put together, the record built, scrubbed and shipped through `collector.ingest`, which counts the
call for its experiment in the same transaction, so a record that is sent twice counts once.

That thread works in bursts. Both threads share one interpreter, and a thread that wakes for every
record costs the loop more than its work does.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from sqlmodel import Session

from collector.bodies import exact
from collector.delivery import Delivery, Line
from collector.direct import DirectTransport
from collector.record import LONGEST_NAME, USAGE_COLUMNS, AsSent, plain, snapshot
from collector.sender import INTERACTION, Sender
from collector.spool import Spool
from collector.spool.prepare import Preparer
from collector.tables import CUT, ERROR, SUCCESS
from foundation.prices import cost_usd
from router import usage
from router.behaviour import behaviour_of
from router.call import Call, Ending
from router.dialects import CHAT, DIALECTS, recorded_answer, recorded_stream
from router.experiments.units import UnitCall, record_calls
from router.faults import counts_for_version
from router.shadow import SHADOW

log = logging.getLogger(__name__)

SOURCE = "gateway"

SHIP_EVERY_S = 0.25
"""Seconds between two bursts of the thread that prepares and ships."""

BURST = 256
"""Records that are prepared before some are shipped."""

BOOKS_EVERY_S = 2.0
"""Seconds between two times that the books are told while nothing waits."""

SYNC_EVERY_S = 1.0
"""Seconds between two times that the disk is forced, against a loss of power."""

ANY_SIZE = 1 << 40
"""A call that was answered is kept whatever its size: prompts are bounded when they come in."""

MAX_LEVELS = 200
"""Levels of nesting that are kept of a request or response which has too many; the log takes 254,
the record's own among them."""

KEY_ID = "key_id"
"""Member of our spooled lines that says by which key a call came; of no record from outside."""

TOO_DEEP = "[left out: nested too deeply]"

STREAM = "stream"
"""Member of a spooled line that holds the text of a stream, where another has its response."""


def line_of(call: Call, ending: Ending, latency_ms: float) -> bytes:
    """Return the spool's line of a finished call, its request and response as they went by.

    A response is known to be JSON; of a stream nothing is known yet.
    """
    line: dict[str, Any] = {
        "kind": INTERACTION,
        "id": str(call.id),
        "role": call.role,
        "at": call.at,
        "columns": _columns(call, ending, latency_ms),
    }
    if call.asked is not None and call.asked.dialect is not CHAT:
        line |= {"dialect": call.asked.dialect.name, "native": ending.is_native}
    if call.key_id is not None:
        line[KEY_ID] = str(call.key_id)
    if call.episode_id is not None:
        line["episode"] = str(call.episode_id)
    line["request"] = AsSent(call.asked.body) if call.asked is not None else {}
    if ending.is_stream:
        line[STREAM] = AsSent(orjson.dumps(b"".join(ending.pieces).decode("utf-8", "replace")))
    else:
        line["response"] = AsSent(b"".join(ending.pieces)) if ending.pieces else None
    return snapshot(line)


def _columns(call: Call, ending: Ending, latency_ms: float) -> dict[str, Any]:
    columns = {
        "project": call.project,
        "task_type": call.task_type,
        "episode_id": call.episode_id and str(call.episode_id),
        "parent_id": call.parent_id and str(call.parent_id),
        "unit_id": call.unit,
        "experiment_id": call.experiment_id and str(call.experiment_id),
        "arm": call.arm,
        "status": ending.status,
        "error_type": ending.error_type,
        "completed": ending.status == SUCCESS,
        "latency_ms": latency_ms,
        "ttft_ms": call.ttft_ms,
        "cost_usd": call.cost_usd,
        "source": SOURCE,
        "attributes": _attributes(call, ending),
    }
    target = call.answered_by or call.target
    if target is not None:
        columns["model_version_id"] = target.version_id and str(target.version_id)
        columns["gen_ai_provider_name"] = target.upstream.name if target.upstream else "litellm"
        columns["gen_ai_request_model"] = target.model[:LONGEST_NAME]
    return {name: value for name, value in columns.items() if value is not None}


def _attributes(call: Call, ending: Ending) -> dict[str, Any] | None:
    """Return what is kept beside the columns; attempts only where one was not enough."""
    found = {
        **call.attributes,
        "key": call.key,
        "difficulty": call.difficulty,
        "attempts": call.attempts if len(call.attempts) > 1 else None,
        "fallback_of": call.fallback_of,
        usage.CACHED: call.cached,
        "error": ending.error,
    }
    return {name: value for name, value in found.items() if value} or None


class CallPreparer(Preparer):
    """Builds the records of calls from what went by in any dialect, and scrubs them.

    Any process can: the streams of a killed gateway are put together by the next one.
    """

    def read(self, payload: bytes) -> dict[str, Any]:
        """Return the values of a raw line, nearly always in a quarter of the usual time."""
        line: dict[str, Any] = exact(payload) or plain(super().read(payload))
        return line

    def write(self, line: Mapping[str, Any]) -> bytes:
        """Return the scrubbed line as it is spooled."""
        try:
            return orjson.dumps(line)
        except TypeError:  # an integer beyond 64 bits, or half a character
            return super().write(line)

    def clean(self, line: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the scrubbed record of a raw line, with the key by which the call came."""
        clean = super().clean(line, record)
        return {**clean, KEY_ID: line[KEY_ID]} if KEY_ID in line else clean

    def build(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Return the record of a raw line; what cannot be read of its answer is left out.

        So is what is nested deeper than the log takes: the call must have its row all the same.
        """
        line = _shallow(line)
        if STREAM not in line and "dialect" not in line:
            return super().build(line)
        try:
            return super().build(_shallow(_as_chat(line)))
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            log.exception("call %s: its answer cannot be read and is left out", line["id"])
            columns = line["columns"] | _ended(ERROR, "unreadable_answer")
            return super().build({**line, "columns": columns, "response": None})


def _shallow(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a line whose request and response are nested less deeply than orjson can write."""
    said = {name: line[name] for name in ("request", "response") if name in line}
    try:
        orjson.dumps(said)
    except TypeError:
        return {**line, **_cut_below(said, MAX_LEVELS)}
    return line


def _cut_below(value: Any, levels: int) -> Any:
    if not isinstance(value, dict | list):
        return value
    if levels == 0:
        return TOO_DEEP
    if isinstance(value, dict):
        return {name: _cut_below(item, levels - 1) for name, item in value.items()}
    return [_cut_below(item, levels - 1) for item in value]


def _as_chat(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line with its call as a chat.

    A stream that did not end as it should is `cut`, and one that says an error is an `error`,
    whatever the bytes around it.
    """
    dialect, is_native = DIALECTS[line.get("dialect", CHAT.name)], line.get("native", True)
    asked, columns = line["request"], {**line["columns"]}
    if STREAM in line:
        told = recorded_stream(dialect, asked, line[STREAM].encode(), is_native=is_native)
        if told.error is not None:
            columns |= _ended(ERROR, str(told.error.get("code") or told.error.get("type")))
        elif columns["status"] == SUCCESS and not told.ended:
            columns |= _ended(CUT, "upstream_cut")
    else:
        told = recorded_answer(dialect, asked, line["response"], is_native=is_native)
    columns["gen_ai_operation_name"] = dialect.operation
    if told.exact is not None:
        columns["attributes"] = {**(columns.get("attributes") or {}), "exact": told.exact}
    said = {"request": told.request, "response": told.response, "columns": columns}
    return {**line, **plain(said)}


def _ended(status: str, error_type: str) -> dict[str, Any]:
    return {"status": status, "completed": False, "error_type": error_type}


class IngestTransport(DirectTransport):
    """Stores batches, and counts their calls for the experiments, in one transaction each."""

    def __init__(self) -> None:
        super().__init__(max_record_bytes=ANY_SIZE)

    def read(self, head: Mapping[str, Any], lines: Sequence[bytes]) -> Delivery:
        """Return what the gateway wrote down, each line with the key by which the call came."""
        delivery = super().read(head, lines)
        return replace(delivery, lines=[_with_key(line) for line in delivery.lines])

    def note(self, session: Session, records: Sequence[dict[str, Any]]) -> None:
        """Count the calls that the gateway answered, for their experiments and for the usage."""
        own = [record for record in records if record.get("source") == SOURCE]
        record_calls(session, [_unit_call(record) for record in own if _counts_for_arm(record)])
        usage.count(session, own)


def _with_key(line: Line) -> Line:
    stated = line.record.pop(KEY_ID, None) if isinstance(line.record, dict) else None
    return line if stated is None else replace(line, key_id=UUID(stated))


def _counts_for_arm(record: Mapping[str, Any]) -> bool:
    if not record.get("experiment_id") or record.get("arm") == SHADOW:
        return False
    return counts_for_version(record["status"], record.get("error_type"))


def _unit_call(record: Mapping[str, Any]) -> UnitCall:
    attributes, response = record.get("attributes") or {}, record.get("response")
    asked, said = (record.get(name) or 0 for name in USAGE_COLUMNS)
    model, provider = record.get("gen_ai_request_model"), record.get("gen_ai_provider_name")
    behaved, is_cached = behaviour_of(record["request"], response), attributes.get(usage.CACHED)
    return UnitCall(
        UUID(record["experiment_id"]),
        record["unit_id"],
        error=record["status"] == ERROR,
        latency_ms=None if is_cached else record.get("latency_ms"),
        cost_usd=0.0 if is_cached else cost_usd(model or "", provider, asked, said) or 0.0,
        tokens=0 if is_cached else asked + said,
        refused=behaved.refused,
        tool_calls=behaved.tool_calls,
        bad_tool_calls=behaved.bad_tool_calls,
        fallback="fallback_of" in attributes,
    )


class Recorder:
    """Keeps the calls of one gateway process in a spool and ships them into the database."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder, source=SOURCE, prepare=CallPreparer())
        self._sender = Sender(self.spool, IngestTransport(), interval_s=SHIP_EVERY_S)
        self._stop = threading.Event()
        self._resting_until = self._books_at = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to ship, also what a killed gateway left."""
        self._thread = threading.Thread(target=self._keep_on, name="gateway-records", daemon=True)
        self._thread.start()

    def keep(self, call: Call, ending: Ending) -> None:
        """Write a finished call into the spool.

        Never raises for the record's sake: what cannot be kept is counted as dropped and logged.
        """
        try:
            line = line_of(call, ending, call.elapsed_ms())
        except (ValueError, TypeError, RecursionError) as error:
            self.spool.drop("not_json", error)
            return
        self.spool.append_line(line)

    def counts(self) -> dict[str, Any]:
        """Return what became of the calls of this process."""
        return self.spool.counts()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write and ship what is left; what does not get through waits for the next gateway."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        until = time.monotonic() + timeout_s
        while self._sender.ship_once() and time.monotonic() < until:
            continue
        self.spool.close(timeout_s)

    # The thread

    def _keep_on(self) -> None:
        told, synced = "", 0.0
        while not self._stop.wait(SHIP_EVERY_S):
            try:
                self._work_off()
                if time.monotonic() - synced >= SYNC_EVERY_S:
                    self.spool.sync()
                    synced = time.monotonic()
            except Exception as error:  # whatever it is, the next records must not wait for ever
                if str(error) != told:
                    log.exception("records are not shipped; it is tried again, and again")
                told = str(error)

    def _work_off(self) -> None:
        """Prepare and ship by turns until nothing is left, or the database is away."""
        while any([self.spool.prepare(BURST), self._ship()]) and not self._stop.is_set():
            continue

    def _ship(self) -> bool:
        """Ship a batch; also now and then if none waits: to tell the books, and to adopt."""
        now = time.monotonic()
        due = self._books_at if not self.spool.waiting_bytes() else self._resting_until
        if now < due:
            return False
        shipped = self._sender.ship_once(prepare=False)
        self._resting_until = now + self._sender.pause_s
        self._books_at = now + max(BOOKS_EVERY_S, self._sender.pause_s)
        return shipped
