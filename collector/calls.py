"""Make a chat call and log it: through a gateway by httpx, or through litellm.

Our gateway logs what passes through it and answers with `x-flywheel-interaction-id`; such a call is
not logged a second time here. A server without that header is an ordinary one, and is logged.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from collector.context import current_episode
from collector.record import CUT, ERROR, SUCCESS, plain
from collector.streams import assemble
from foundation.chat import answer_text
from foundation.errors import BadInput
from foundation.ids import new_id

if TYPE_CHECKING:
    import httpx

    from collector.client import Flywheel

INTERACTION_HEADER = "x-flywheel-interaction-id"
RECORDED = "flywheel_interaction_id"
"""Metadata key of calls that `completion` logs itself, so that our litellm callback skips them."""


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
        if self._episode is not None:  # a stream may be finished outside the episode's block
            columns["episode_id"] = self._episode.id
            columns["task_type"] = self._episode.task_type
            columns["unit_id"] = self._episode.unit
            columns["parent_id"] = self._episode.parent_id
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
        }
        return {name: str(value) for name, value in given.items() if value}


class CompletionStream(Iterator[dict[str, Any]]):
    """The chunks of a streamed answer; logged when it ends, however it ends.

    Reading to the end logs a success; `close()`, leaving a `with` block early or dropping the
    iterator logs what has arrived as cut.
    """

    def __init__(self, call: _Call, chunks: Iterator[dict[str, Any]]) -> None:
        self._call, self._chunks = call, chunks
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

    def __next__(self) -> dict[str, Any]:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self._log(SUCCESS, None)
            raise
        except Exception as error:
            self._log(CUT if self._seen else ERROR, error)
            raise
        if self._call.ttft_ms is None:
            self._call.ttft_ms = self._call.elapsed_ms()
        self._seen.append(chunk)
        return chunk

    def _log(self, status: str, error: BaseException | None) -> None:
        if not self._logged:
            self._logged = True
            self._call.log(self.response, status, error)

    def close(self) -> None:
        """End the stream here."""
        finished = any(
            choice.get("finish_reason")
            for chunk in self._seen[-2:]
            for choice in chunk.get("choices") or []
        )
        self._log(SUCCESS if finished else CUT, None)
        closing = getattr(self._chunks, "close", None)
        if closing is not None:
            closing()

    def __enter__(self) -> "CompletionStream":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._logged:
            self.close()


def completion(
    client: "Flywheel",
    *,
    messages: Sequence[Mapping[str, Any]],
    model: str | None,
    role: str | None,
    base_url: str | None,
    api_key: str | None,
    timeout_s: float,
    stream: bool,
    parameters: dict[str, Any],
) -> Completion | CompletionStream:
    """Make the call of `Flywheel.completion`."""
    request: dict[str, Any] = {"model": model, "messages": plain(messages), **plain(parameters)}
    if stream:
        request["stream"] = True
    call = _Call(client, role, request, "openai" if base_url else "litellm")
    if not call.role:
        raise BadInput(
            "role of a call", None, "an agent role, such as 'coder'", "Pass role=…, or open one."
        )
    if base_url is not None:
        request["model"] = model or f"role:{call.role}"
        door = partial(
            _open_http, client.connections.get(), call, base_url, _headers(call, api_key), timeout_s
        )
    elif model is None:
        raise BadInput(
            "model", None, "a litellm model name", "Pass model=…, or set FLYWHEEL_GATEWAY_URL."
        )
    else:
        connection = {
            "api_key": api_key,
            "timeout": timeout_s,
            "metadata": {RECORDED: str(call.id)},
        }
        door = partial(_open_litellm, request, connection)
    return CompletionStream(call, door(stream=True)) if stream else _answer(call, door)


def _answer(call: _Call, door: Callable[..., Iterator[dict[str, Any]]]) -> Completion:
    try:
        (response,) = door(stream=False)
    except BaseException as error:
        call.log(None, ERROR, error)
        raise
    call.log(response)
    answer = Completion(response)
    answer.interaction_id = call.id
    return answer


def _headers(call: _Call, api_key: str | None) -> dict[str, str]:
    key = api_key or os.environ.get("FLYWHEEL_API_KEY")
    return call.headers() | ({"authorization": f"Bearer {key}"} if key else {})


def _open_litellm(
    request: dict[str, Any], connection: dict[str, Any], *, stream: bool
) -> Iterator[dict[str, Any]]:
    """Yield the chunks of the answer, or the whole answer once."""
    from foundation import llm

    if stream:
        yield from llm.stream(request, **connection)
    else:
        yield llm.complete(request, **connection)


def _open_http(
    http: "httpx.Client",
    call: _Call,
    base_url: str,
    headers: dict[str, str],
    timeout_s: float,
    *,
    stream: bool,
) -> Iterator[dict[str, Any]]:
    """Yield the chunks of the answer, or the whole answer once."""
    import httpx

    url = f"{base_url.rstrip('/')}/chat/completions"
    with http.stream("POST", url, json=call.request, headers=headers, timeout=timeout_s) as answer:
        _note_gateway(call, answer.headers)
        if answer.is_error or not stream:
            answer.read()
        answer.raise_for_status()
        if not stream:
            yield answer.json()
            return
        for line in answer.iter_lines():
            data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
            if data == "[DONE]":
                return
            if data:
                yield json.loads(data)
        raise httpx.RemoteProtocolError("the stream ended without [DONE]")


def _note_gateway(call: _Call, headers: Mapping[str, str]) -> None:
    """Take over the gateway's interaction id; it has logged the call."""
    given = headers.get(INTERACTION_HEADER)
    if given:
        call.id, call.logged_elsewhere = UUID(given), True
