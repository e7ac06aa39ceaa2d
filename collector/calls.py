"""Make a chat call and log it: through a gateway by httpx, or through litellm.

Our gateway logs what passes through it and answers with `x-flywheel-interaction-id`; such a call is
not logged a second time here. A server without that header is an ordinary one, and is logged.

One call is one record, also where litellm tries again (`num_retries`): the record tells how the
last attempt ended, and its latency is that of all of them.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from collector.context import current_episode, entered
from collector.record import CUT, ERROR, SUCCESS, plain
from collector.streams import assemble
from foundation.chat import answer_text
from foundation.errors import BadInput
from foundation.http import async_client
from foundation.ids import new_id
from foundation.trace_context import traceparent

if TYPE_CHECKING:
    import httpx

    from collector.client import Flywheel

INTERACTION_HEADER = "x-flywheel-interaction-id"
RECORDED = "flywheel_interaction_id"
"""Metadata key of calls that `completion` logs itself, so that our litellm callback skips them."""

DONE = "[DONE]"


class Completion(dict[str, Any]):
    """An OpenAI-shaped response that knows its interaction."""

    interaction_id: UUID

    @property
    def text(self) -> str:
        """The text of the first choice; empty if there is none."""
        return answer_text(self)


class _Call:
    """One call under way: what to log about it, and its clock."""

    def __init__(
        self, client: "Flywheel", role: str | None, request: dict[str, Any], provider: str
    ) -> None:
        self.client, self.request, self.provider = client, request, provider
        episode = current_episode()
        self.role = role or (episode.role if episode else None) or client.role
        self.id: UUID = new_id()
        self.logged_elsewhere = False
        self.ttft_ms: float | None = None
        self._episode = episode
        self._started_at, self._started = datetime.now(UTC), time.perf_counter()

    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self._started) * 1000

    def log(self, response: Any, status: str = SUCCESS, error: BaseException | None = None) -> None:
        if self.logged_elsewhere:
            return
        columns: dict[str, Any] = {
            "status": status,
            "completed": status == SUCCESS,
            "error_type": type(error).__name__ if error is not None else None,
            "attributes": {"error": str(error)} if error is not None else None,
            "latency_ms": self.elapsed_ms(),
            "ttft_ms": self.ttft_ms,
            "started_at": self._started_at,
            "gen_ai_provider_name": self.provider,
        }
        # A stream may be finished outside the episode's block.
        with entered(self._episode) if self._episode is not None else nullcontext():
            self.client.record(
                request=self.request, response=response, role=self.role, id=self.id, **columns
            )

    def headers(self) -> dict[str, str]:
        """Return what tells the gateway whose call this is."""
        episode = self._episode
        given = {
            "x-flywheel-role": self.role,
            "x-flywheel-project": self.client.project,
            "x-flywheel-episode": episode and episode.id,
            "x-flywheel-task-type": episode and episode.task_type,
            "x-flywheel-unit": episode and episode.unit,
            "x-flywheel-parent": episode and episode.parent_id,
            "traceparent": traceparent(),
        }
        return {name: str(value) for name, value in given.items() if value}


class _Arriving:
    """The chunks of a streamed answer so far; logged once, however the stream ends."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._seen: list[dict[str, Any]] = []
        self._logged = False

    @property
    def interaction_id(self) -> UUID:
        """Id of the interaction; the gateway's own once the first chunk has arrived."""
        return self._call.id

    @property
    def response(self) -> dict[str, Any] | None:
        """What has arrived so far, as a chat completion."""
        return assemble(self._seen)

    def _note(self, chunk: dict[str, Any]) -> dict[str, Any]:
        if self._call.ttft_ms is None:
            self._call.ttft_ms = self._call.elapsed_ms()
        self._seen.append(chunk)
        return chunk

    def _fail(self, error: BaseException) -> None:
        self._log(CUT if self._seen else ERROR, error)

    def _leave(self) -> None:
        """Log what has arrived: whole if the model had finished, cut otherwise."""
        finished = any(
            choice.get("finish_reason")
            for chunk in self._seen[-2:]
            for choice in chunk.get("choices") or []
        )
        self._log(SUCCESS if finished else CUT, None)

    def _log(self, status: str, error: BaseException | None) -> None:
        if not self._logged:
            self._logged = True
            self._call.log(self.response, status, error)

    def __del__(self) -> None:
        if not self._logged:
            self._leave()


class CompletionStream(_Arriving, Iterator[dict[str, Any]]):
    """The chunks of a streamed answer; logged when it ends, however it ends.

    Reading to the end logs a success; `close()`, leaving a `with` block early or dropping the
    iterator logs what has arrived as cut.
    """

    def __init__(self, call: _Call, chunks: Iterator[dict[str, Any]]) -> None:
        super().__init__(call)
        self._chunks = chunks

    def __next__(self) -> dict[str, Any]:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self._log(SUCCESS, None)
            raise
        except Exception as error:
            self._fail(error)
            raise
        return self._note(chunk)

    def close(self) -> None:
        """End the stream here."""
        self._leave()
        closing = getattr(self._chunks, "close", None)
        if closing is not None:
            closing()

    def __enter__(self) -> "CompletionStream":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class AsyncCompletionStream(_Arriving, AsyncIterator[dict[str, Any]]):
    """As `CompletionStream`, read by `async for`; `aclose()` or leaving `async with` ends it."""

    def __init__(self, call: _Call, chunks: AsyncGenerator[dict[str, Any], None]) -> None:
        super().__init__(call)
        self._chunks = chunks

    async def __anext__(self) -> dict[str, Any]:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._log(SUCCESS, None)
            raise
        except asyncio.CancelledError as error:
            self._log(CUT, error)
            raise
        except Exception as error:
            self._fail(error)
            raise
        return self._note(chunk)

    async def aclose(self) -> None:
        """End the stream here."""
        self._leave()
        await self._chunks.aclose()

    async def __aenter__(self) -> "AsyncCompletionStream":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


@dataclass(frozen=True)
class Asked:
    """The arguments of `Flywheel.completion`."""

    messages: Sequence[Mapping[str, Any]]
    model: str | None
    role: str | None
    base_url: str | None
    api_key: str | None
    timeout_s: float
    stream: bool
    parameters: dict[str, Any]


def completion(client: "Flywheel", asked: Asked) -> Completion | CompletionStream:
    """Make the call of `Flywheel.completion`."""
    call = _begin(client, asked)
    if asked.base_url is not None:
        chunks = _over_http(client.connections.get(), call, asked)
    else:
        chunks = _through_litellm(call, asked)
    return CompletionStream(call, chunks) if asked.stream else _answer(call, chunks)


async def acompletion(client: "Flywheel", asked: Asked) -> Completion | AsyncCompletionStream:
    """Make the call of `Flywheel.acompletion`."""
    call = _begin(client, asked)
    if asked.base_url is not None:
        chunks = _over_http_async(call, asked)
    else:
        chunks = _through_litellm_async(call, asked)
    return (
        AsyncCompletionStream(call, chunks) if asked.stream else await _answer_async(call, chunks)
    )


def _begin(client: "Flywheel", asked: Asked) -> _Call:
    """Return the call, its clock running.

    Raises:
        BadInput: no role, or no model where litellm makes the call.
    """
    request: dict[str, Any] = {
        "model": asked.model,
        "messages": plain(asked.messages),
        **plain(asked.parameters),
    }
    if asked.stream:
        request["stream"] = True
    call = _Call(client, asked.role, request, "openai" if asked.base_url else "litellm")
    if not call.role:
        raise BadInput(
            "role of a call", None, "an agent role, such as 'coder'", "Pass role=…, or open one."
        )
    if asked.base_url is not None:
        request["model"] = asked.model or f"role:{call.role}"
    elif asked.model is None:
        raise BadInput(
            "model", None, "a litellm model name", "Pass model=…, or set FLYWHEEL_GATEWAY_URL."
        )
    return call


def _answer(call: _Call, chunks: Iterator[dict[str, Any]]) -> Completion:
    try:
        (response,) = chunks
    except BaseException as error:
        call.log(None, ERROR, error)
        raise
    return _completed(call, response)


async def _answer_async(call: _Call, chunks: AsyncGenerator[dict[str, Any], None]) -> Completion:
    try:
        (response,) = [chunk async for chunk in chunks]
    except BaseException as error:
        call.log(None, CUT if isinstance(error, asyncio.CancelledError) else ERROR, error)
        raise
    return _completed(call, response)


def _completed(call: _Call, response: dict[str, Any]) -> Completion:
    call.log(response)
    answer = Completion(response)
    answer.interaction_id = call.id
    return answer


# Doors: each yields the chunks of the answer, or the whole answer once.


def _through_litellm(call: _Call, asked: Asked) -> Iterator[dict[str, Any]]:
    from foundation import llm

    if asked.stream:
        yield from llm.stream(call.request, **_connection(call, asked))
    else:
        yield llm.complete(call.request, **_connection(call, asked))


async def _through_litellm_async(call: _Call, asked: Asked) -> AsyncGenerator[dict[str, Any], None]:
    from foundation import llm

    if asked.stream:
        async for chunk in llm.astream(call.request, **_connection(call, asked)):
            yield chunk
    else:
        yield await llm.acomplete(call.request, **_connection(call, asked))


def _connection(call: _Call, asked: Asked) -> dict[str, Any]:
    return {
        "api_key": asked.api_key,
        "timeout": asked.timeout_s,
        "metadata": {RECORDED: str(call.id)},
    }


def _over_http(http: "httpx.Client", call: _Call, asked: Asked) -> Iterator[dict[str, Any]]:
    with http.stream(**_post(call, asked)) as answer:
        _note_gateway(call, answer.headers)
        if answer.is_error or not asked.stream:
            answer.read()
        answer.raise_for_status()
        if not asked.stream:
            yield answer.json()
            return
        for line in answer.iter_lines():
            data = _data_of(line)
            if data == DONE:
                return
            if data:
                yield json.loads(data)
        raise _cut_off()


async def _over_http_async(call: _Call, asked: Asked) -> AsyncGenerator[dict[str, Any], None]:
    async with async_client() as http, http.stream(**_post(call, asked)) as answer:
        _note_gateway(call, answer.headers)
        if answer.is_error or not asked.stream:
            await answer.aread()
        answer.raise_for_status()
        if not asked.stream:
            yield answer.json()
            return
        async for line in answer.aiter_lines():
            data = _data_of(line)
            if data == DONE:
                return
            if data:
                yield json.loads(data)
        raise _cut_off()


def _post(call: _Call, asked: Asked) -> dict[str, Any]:
    """Return the arguments of httpx for a call."""
    assert asked.base_url is not None
    key = asked.api_key or os.environ.get("FLYWHEEL_API_KEY")
    return {
        "method": "POST",
        "url": f"{asked.base_url.rstrip('/')}/chat/completions",
        "json": call.request,
        "headers": call.headers() | ({"authorization": f"Bearer {key}"} if key else {}),
        "timeout": asked.timeout_s,
    }


def _data_of(line: str) -> str:
    """Return what a line of server-sent events carries; empty for other lines."""
    return line.removeprefix("data:").strip() if line.startswith("data:") else ""


def _cut_off() -> Exception:
    import httpx

    return httpx.RemoteProtocolError("the stream ended without [DONE]")


def _note_gateway(call: _Call, headers: Mapping[str, str]) -> None:
    """Take over the gateway's interaction id; it has logged the call."""
    given = headers.get(INTERACTION_HEADER)
    if given:
        call.id, call.logged_elsewhere = UUID(given), True
