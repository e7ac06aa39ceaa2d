"""Observe the HTTP exchanges of a provider's client, from the request as sent to the last byte.

The clients of openai (1, 2 and 3) and anthropic are made by one generator: every method, helper and
raw variant ends in `client.request`, and a successful answer passes `_process_response` once, after
all retries. A wrapped client's class becomes a subclass of itself in which these two are observed.
A streamed body is observed below all parsing, so it is recorded however it is read and however it
ends: to its end, by `close()`, by an early `break`, by cancellation, or by nobody's holding it.

An answer with the header `x-flywheel-interaction-id` has been recorded by whoever set it, our
gateway for one; it is not recorded again. Raw answers recorded here carry it from here on.
"""

import asyncio
import atexit
import inspect
import json
import os
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import UUID

from collector.calls import INTERACTION_HEADER
from collector.context import Episode, current_episode, note_interaction
from collector.record import CUT, ERROR, SUCCESS, AsSent
from collector.shapes import Event, Json, Told, sse
from collector.wrappers.abandoned import recovery
from collector.wrappers.announced import taken_above
from collector.wrappers.operation import Operation
from foundation.errors import BadInput
from foundation.ids import new_id
from foundation.trace_context import traceparent

if TYPE_CHECKING:
    from collector.client import Flywheel

Client = TypeVar("Client")

RAW_HEADER = "X-Stainless-Raw-Response"
"""Header by which the clients' raw variants ask for an answer that is not read yet."""

GATEWAY_MODEL = "role:"
"""Model names that only our gateway understands start with this."""

INTERACTION_ATTRIBUTE = "flywheel_interaction_id"
"""Where answers, streams and errors of a wrapped client say which interaction they are."""

WIRING = "flywheel_wiring"
"""Attribute of a wrapped client."""

_under_way: ContextVar["Exchange | None"] = ContextVar("flywheel_exchange", default=None)
_open: set["Exchange"] = set()
"""Exchanges that are not recorded yet; whoever takes one out records it, so nobody does twice."""


@dataclass
class Wiring:
    """What a wrapped client knows: whom it records for, and what."""

    flywheel: "Flywheel"
    role: str | None
    provider: str
    operations: Mapping[str, Operation]
    gateways: set[str] = field(default_factory=set)
    """Base URLs, ending with a slash, that are declared or have answered as our gateway."""

    def operation_of(self, options: Any) -> Operation | None:
        """Return the recorded operation that a request is, or None."""
        if options.method.lower() != "post":
            return None
        return self.operations.get(options.url.partition("?")[0])


class _Answer(NamedTuple):
    """The head of an answer; not the response itself, which must be free to be forgotten."""

    response_class: Any
    headers: Any

    @property
    def is_event_stream(self) -> bool:
        return "event-stream" in str(self.headers.get("content-type"))

    def decoded(self, raw: bytes) -> bytes:
        """Return a body without its content encoding, as far as it can be read."""
        if not raw or not self.headers.get("content-encoding"):
            return raw
        try:
            return bytes(self.response_class(200, headers=self.headers, content=raw).content)
        except Exception as error:  # DecodingError, of either httpx: cut in the middle
            if "Decoding" not in type(error).__name__:
                raise
            return b""


class Exchange:
    """One call under way: what was asked, what has come back, and its clock."""

    def __init__(self, wiring: Wiring, operation: Operation, base_url: Any, options: Any) -> None:
        self.wiring, self.operation, self._base_url = wiring, operation, base_url
        self.id: UUID = new_id()
        self.recorded_elsewhere = False
        given = options.json_data if isinstance(options.json_data, Mapping) else {}
        self._asked = {**given, **options.extra_json} if options.extra_json else given
        self._headers = options.headers if isinstance(options.headers, Mapping) else {}
        self._context, self._episode = copy_context(), current_episode()
        self._body: bytes | None = None
        self._whole: bytes | None = None
        self._pieces: list[bytes] = []
        self._arrivals_ms: list[float] = []
        self._answer: _Answer | None = None
        self._retries = 0
        self._started_at, self._started = datetime.now(UTC), time.perf_counter()
        _open.add(self)

    @property
    def base_url(self) -> str:
        """Where the request goes, ending with a slash."""
        return str(self._base_url).rstrip("/") + "/"

    @property
    def is_streaming(self) -> bool:
        """Whether the body comes after the call has returned."""
        return self._answer is not None and self._whole is None

    def elapsed_ms(self) -> float:
        """Return milliseconds since the call began."""
        return (time.perf_counter() - self._started) * 1000

    def take_answer(self, response: Any, retries: int) -> None:
        """Note an answer, observe its body if it is yet to come, and say its interaction."""
        self._answer, self._retries = _Answer(type(response), response.headers), retries
        self._body = _sent(response.request)
        if self._is_recorded_by_gateway(response.headers):
            return
        if RAW_HEADER in self._headers:  # nobody else sees the headers
            response.headers[INTERACTION_HEADER] = str(self.id)
        if response.is_closed:
            self._whole = response.content
            self._arrivals_ms.append(self.elapsed_ms())
        else:
            recovery.ensure_running()
            response.stream = _observed(response.stream, self)

    def take_piece(self, piece: bytes) -> None:
        """Note a piece of the body."""
        self._pieces.append(piece)
        self._arrivals_ms.append(self.elapsed_ms())

    def _is_recorded_by_gateway(self, headers: Any) -> bool:
        if INTERACTION_HEADER not in headers:
            return False
        given = _uuid(headers.get(INTERACTION_HEADER))
        if given is None or given == self.id:  # that one we have set ourselves
            return False
        self.id, self.recorded_elsewhere = given, True
        self.wiring.gateways.add(self.base_url)
        _open.discard(self)
        return True

    def fail(self, error: BaseException) -> None:
        """Record a call that raised."""
        request, response = getattr(error, "request", None), getattr(error, "response", None)
        elsewhere = response is not None and self._is_recorded_by_gateway(response.headers)
        _tell_id(error, self.id)
        if elsewhere:
            return
        if self._body is None and request is not None:
            self._body = _sent(request)
            self._retries = int(request.headers.get("x-stainless-retry-count") or 0)
        self.finish(error)

    def leave(self, error: BaseException | None = None) -> None:
        """Record what has come of a body that nobody reads further."""
        reason = None if isinstance(error, GeneratorExit) else error
        if self not in _open:
            return
        if recovery.is_collecting():
            recovery.put(partial(self.finish, reason))
        else:
            self.finish(reason)

    def finish(self, error: BaseException | None = None) -> None:
        """Record what has come, unless that is done already; what fails here is counted."""
        try:
            _open.remove(self)
        except KeyError:
            return
        try:
            self._context.run(self._record, error)
        except BadInput as fault:  # no role: said in the counts, never in the agent's call
            self.wiring.flywheel.spool.drop("no_role", fault)
        except Exception as fault:
            self.wiring.flywheel.spool.drop("wrapper_error", f"{type(fault).__name__}: {fault}")

    def _record(self, error: BaseException | None) -> None:
        told, told_at_ms = self._told(is_read=error is None and RAW_HEADER not in self._headers)
        status, error_type, text = _outcome(told, error)
        attributes: Json = {}
        if text is not None:
            attributes["error"] = text
        if self._retries:
            attributes["attempts"] = self._retries + 1
        request, answer, operation = self._request(), told.answer, self.operation
        if operation.api is not None:
            attributes["exact"] = {"api": operation.api, "request": request, "response": answer}
            request = operation.chat_request(request)
            answer = operation.chat_response(answer) if answer is not None else None
        role, columns = _said_by_caller(self._asked, self._headers)
        self.wiring.flywheel.record(
            id=self.id,
            request=request,
            response=answer,
            role=role or self.wiring.role,
            status=status,
            completed=status == SUCCESS,
            error_type=error_type,
            started_at=self._started_at.isoformat(),
            latency_ms=self._arrivals_ms[-1] if status == SUCCESS else self.elapsed_ms(),
            ttft_ms=told_at_ms,
            attributes=attributes or None,
            gen_ai_provider_name=self.wiring.provider,
            gen_ai_operation_name=operation.name,
            **columns,
        )

    def _told(self, is_read: bool) -> tuple[Told, float | None]:
        """Return what has come, and when the first word of a stream came (milliseconds).

        A whole answer that the client has read already (`is_read`) is JSON, and kept as it came.
        """
        if self._answer is None:
            return Told(None, ended=False), None
        if self._whole is not None:
            sent = _as_sent(self._whole) if is_read and self.operation.api is None else None
            answer = sent or _json_object(self._whole)
            return Told(answer, ended=answer is not None), None
        raw = b"".join(self._pieces)
        body = self._answer.decoded(raw)
        if not self._answer.is_event_stream:
            answer = _json_object(body)
            return Told(answer, ended=answer is not None), None
        events = list(sse.events(body))
        told = self.operation.tell(events)
        if sse.is_done(body):
            told = told._replace(ended=True)
        return told, self._first_word_ms(events, same_bytes=body is raw)

    def _first_word_ms(self, events: Sequence[Event], *, same_bytes: bool) -> float | None:
        first = next((event for event in events if self.operation.speaks(event.data)), None)
        if first is None:
            return None
        if not same_bytes:  # compressed: offsets say nothing of arrivals
            return self._arrivals_ms[0]
        ends = list(accumulate(len(piece) for piece in self._pieces))
        return self._arrivals_ms[min(bisect_left(ends, first.end), len(ends) - 1)]

    def _request(self) -> Any:
        """Return the body that was sent; what was to be sent, if nothing was."""
        if self._body is not None and self.operation.api is None and "model" in self._asked:
            sent = _as_sent(self._body)
            if sent is not None:
                return sent
        body = _json_object(self._body)
        if body is None:
            return dict(self._asked)
        return body if "model" in body else {"model": self._asked.get("model"), **body}

    def gateway_headers(self) -> dict[str, str]:
        """Return what tells our gateway whose call this is."""
        episode: Episode | None = self._episode
        flywheel = self.wiring.flywheel
        given = {
            "x-flywheel-role": self.wiring.role or (episode and episode.role) or flywheel.role,
            "x-flywheel-project": flywheel.project,
            "x-flywheel-episode": episode and episode.id,
            "x-flywheel-task-type": episode and episode.task_type,
            "x-flywheel-unit": episode and episode.unit,
            "x-flywheel-parent": episode and episode.parent_id,
            "traceparent": traceparent(),
        }
        return {name: str(value) for name, value in given.items() if value}

    def goes_to_gateway(self) -> bool:
        """Whether the server is known to be our gateway; no other is told whose call it is."""
        gateways = self.wiring.gateways
        return str(self._asked.get("model")).startswith(GATEWAY_MODEL) or (
            bool(gateways) and self.base_url in gateways
        )


def observe(
    client: Client, flywheel: "Flywheel", operations: Sequence[Operation], role: str | None
) -> Client:
    """Wire a client to `flywheel`, and return it; one that is wired already is wired anew."""
    provider = next(
        name
        for name in (base.__module__.partition(".")[0] for base in type(client).__mro__)
        if name in ("openai", "anthropic")
    )
    declared = os.environ.get("FLYWHEEL_GATEWAY_URL")
    gateways = {declared.rstrip("/") + "/"} if declared else set()
    wiring = Wiring(flywheel, role, provider, {one.path: one for one in operations}, gateways)
    if not hasattr(client, WIRING):
        base: Any = type(client)
        client.__class__ = _observed_class(base)
    setattr(client, WIRING, wiring)
    return client


@lru_cache
def _observed_class(base: Any) -> type:
    """Return the observed subclass of a client's class; it goes by the same name.

    It has `base` for its only base and adds no slots: an instance can change its class to no other.
    """
    is_async = inspect.iscoroutinefunction(base.request)
    methods = _async_methods(base) if is_async else _sync_methods(base)
    names = {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}

    def copy(self: Any, *args: Any, **kwargs: Any) -> Any:
        twin = base.copy(self, *args, **kwargs)
        setattr(twin, WIRING, getattr(self, WIRING))
        return twin

    names |= {"__slots__": (), WIRING: None, "copy": copy, "with_options": copy}
    return type(base.__name__, (base,), {**names, **methods})


def _sync_methods(base: Any) -> dict[str, Any]:
    def request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = _begin(self, options)
        token = _under_way.set(exchange)
        try:
            answer = base.request(self, cast_to, options, *args, **kwargs)
        except BaseException as error:
            if exchange is not None:
                exchange.fail(error)
            raise
        finally:
            _under_way.reset(token)
        return _returned(exchange, answer)

    def _process_response(self: Any, *, response: Any, **kwargs: Any) -> Any:
        _answered(response, kwargs)
        return base._process_response(self, response=response, **kwargs)

    return {"request": request, "_process_response": _process_response}


def _async_methods(base: Any) -> dict[str, Any]:
    async def request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = _begin(self, options)
        token = _under_way.set(exchange)
        try:
            answer = await base.request(self, cast_to, options, *args, **kwargs)
        except BaseException as error:
            if exchange is not None:
                exchange.fail(error)
            raise
        finally:
            _under_way.reset(token)
        return _returned(exchange, answer)

    async def _process_response(self: Any, *, response: Any, **kwargs: Any) -> Any:
        _answered(response, kwargs)
        return await base._process_response(self, response=response, **kwargs)

    return {"request": request, "_process_response": _process_response}


def _begin(client: Any, options: Any) -> Exchange | None:
    wiring: Wiring | None = getattr(client, WIRING)
    operation = wiring.operation_of(options) if wiring is not None else None
    if wiring is None or operation is None or taken_above():
        return None
    exchange = Exchange(wiring, operation, client.base_url, options)
    if exchange.goes_to_gateway():
        given = options.headers if isinstance(options.headers, Mapping) else {}
        options.headers = {**exchange.gateway_headers(), **given}
    note_interaction(exchange.id)
    return exchange


def _answered(response: Any, kwargs: Mapping[str, Any]) -> None:
    exchange = _under_way.get()
    if exchange is not None and response.status_code < 400:
        exchange.take_answer(response, int(kwargs.get("retries_taken") or 0))


def _returned(exchange: Exchange | None, answer: Any) -> Any:
    """Let the answer know its interaction, and record it if it is whole."""
    if exchange is None:
        return answer
    if exchange.recorded_elsewhere:
        note_interaction(exchange.id)
    _tell_id(answer, exchange.id)
    if not exchange.is_streaming:
        exchange.finish()
    return answer


def _tell_id(outcome: Any, identifier: UUID) -> None:
    """Let an answer, a stream or an error know its interaction."""
    try:
        # Past pydantic's own `__setattr__`, which would make it a field of the answer's dump.
        object.__setattr__(outcome, INTERACTION_ATTRIBUTE, identifier)
    except (AttributeError, TypeError):  # an answer without attributes, such as text
        return


# The body of a stream


class _ObservedBody:
    """A response body that tells its exchange what passes, and how it ends."""

    def __init__(self, body: Any, exchange: Exchange) -> None:
        self._body, self._exchange = body, exchange

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._body:
                self._exchange.take_piece(piece)
                yield piece
        except BaseException as error:
            self._exchange.leave(error)
            raise
        self._exchange.finish()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body:
                self._exchange.take_piece(piece)
                yield piece
        except BaseException as error:
            self._exchange.leave(error)
            raise
        self._exchange.finish()

    def close(self) -> None:
        self._exchange.leave()
        self._body.close()

    async def aclose(self) -> None:
        self._exchange.leave()
        await self._body.aclose()

    def __del__(self) -> None:
        self._exchange.leave()


def _observed(body: Any, exchange: Exchange) -> Any:
    base: Any = type(body)
    return _observed_body_class(base)(body, exchange)


@lru_cache
def _observed_body_class(body: type) -> type:
    """Return an observed body of the httpx (or httpx2) base class that `body` is of."""
    bases = [
        base for base in body.__mro__ if base.__name__ in ("SyncByteStream", "AsyncByteStream")
    ]
    return type("ObservedBody", (_ObservedBody, *bases), {})


def _finish_all() -> None:
    """Record what is open at the end of the process, as cut."""
    for exchange in list(_open):
        exchange.finish()


atexit.register(_finish_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open.clear)  # the parent's open calls are the parent's


# What was said and what it means


def _outcome(told: Told, error: BaseException | None) -> tuple[str, str | None, str | None]:
    """Return status, error type and error text of an ended exchange."""
    if told.error is not None:
        kind = told.error.get("type") or told.error.get("code") or "StreamError"
        return (CUT if told.answer else ERROR), str(kind), str(told.error.get("message"))
    if error is not None:
        is_cut = bool(told.answer) and not told.ended
        interrupted = isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
        status = CUT if is_cut or (interrupted and not told.ended) else ERROR
        return status, type(error).__name__, str(error)
    return (SUCCESS if told.ended else CUT), None, None


def _said_by_caller(
    asked: Mapping[str, Any], headers: Mapping[str, Any]
) -> tuple[str | None, Json]:
    """Return the role and columns that a call names in `extra_headers` or `metadata`."""
    metadata = asked.get("metadata")
    if not headers and not metadata:
        return None, {}
    said = {str(name).lower(): value for name, value in headers.items()}
    metadata = metadata if isinstance(metadata, Mapping) else {}
    role = metadata.get("agent_role") or said.get("x-flywheel-role")
    columns = {
        "task_type": metadata.get("task_type") or said.get("x-flywheel-task-type"),
        "unit_id": metadata.get("unit") or said.get("x-flywheel-unit"),
        "episode_id": said.get("x-flywheel-episode"),
        "parent_id": said.get("x-flywheel-parent"),
    }
    return role, {name: value for name, value in columns.items() if value}


def _as_sent(body: bytes) -> AsSent | None:
    """Return a JSON object to be kept as it is; None if it must be read to be sure of that."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return None
    return AsSent(body) if body[:1] == b"{" else None


def _sent(request: Any) -> bytes | None:
    try:
        content: bytes = request.content
    except Exception as error:  # a streamed upload: httpx's RequestNotRead, of either httpx
        if "NotRead" not in type(error).__name__:
            raise
        return None
    return content


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _json_object(body: bytes | None) -> Json | None:
    try:
        parsed = json.loads(body or b"null")
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
