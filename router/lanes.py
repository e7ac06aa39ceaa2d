"""The two lanes to a model: bytes straight to an OpenAI-compatible server, or through litellm.

Both give an `Opened` answer: a status, headers, and bytes in OpenAI's shape as they arrive. What
fails before there is an answer is an `UpstreamFailed` with the status the client will see.
"""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import httpx
from starlette.concurrency import run_in_threadpool

from foundation import llm
from foundation.errors import FlywheelError
from router.roster import Target
from router.wire import DONE, ChatBody, as_event

log = logging.getLogger(__name__)

CONNECT_S, ANSWER_S = 5.0, 600.0
"""Longest wait for a connection, and between two parts of an answer, in seconds."""

PASSED_HEADERS = ("content-type", "x-request-id", "retry-after", "openai-processing-ms")

EVENT_STREAM = "text/event-stream"

CHAT_PARAMETERS = frozenset(
    "messages model stream stream_options tools tool_choice parallel_tool_calls response_format "
    "temperature top_p n stop seed max_tokens max_completion_tokens presence_penalty "
    "frequency_penalty logit_bias logprobs top_logprobs reasoning_effort user".split()
)
"""What a caller may say to litellm. Not its own parameters: `api_base` would send our key, the
provider's, to an address of the caller's."""


class UpstreamFailed(FlywheelError):
    """An upstream gave no answer, or stopped in the middle of one."""

    def __init__(self, model: str, kind: str, detail: str, status: int = 502) -> None:
        self.model, self.kind, self.status = model, kind, status
        super().__init__(
            f"model {model!r}: {kind} ({detail or 'no detail'}), expected an answer of its server. "
            "Check that it runs and is reached from here."
        )


@dataclass
class Opened:
    """An answer that has begun: its status, the headers to pass on, and its bytes."""

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes]
    aclose: Callable[[], Awaitable[None]]

    @property
    def is_stream(self) -> bool:
        """Whether the bytes are server-sent events."""
        return self.headers.get("content-type", "").startswith(EVENT_STREAM)

    async def read(self) -> bytes:
        """Return all of the bytes and close."""
        try:
            return b"".join([piece async for piece in self.body])
        finally:
            await self.aclose()


def new_client() -> httpx.AsyncClient:
    """Return a client that keeps its connections and waits as long as models take."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S, pool=None),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=200),
        mounts={f"all://{host}": None for host in ("127.0.0.1", "[::1]", "localhost")},  # no proxy
    )


async def open_answer(client: httpx.AsyncClient, target: Target, chat: ChatBody) -> Opened:
    """Send a chat request to its target.

    Raises:
        UpstreamFailed: no answer.
    """
    if target.upstream is None:
        return await _open_litellm(target, chat)
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if target.upstream.api_key:
        headers["authorization"] = f"Bearer {target.upstream.api_key}"
    request = client.build_request(
        "POST", target.upstream.chat_url, content=chat.with_model(target.model), headers=headers
    )
    try:
        answer = await client.send(request, stream=True)
    except httpx.TimeoutException as error:
        raise UpstreamFailed(target.model, "upstream_timeout", str(error), 504) from error
    except httpx.HTTPError as error:
        raise UpstreamFailed(target.model, "upstream_unreachable", str(error)) from error
    kept = {name: answer.headers[name] for name in PASSED_HEADERS if name in answer.headers}
    return Opened(answer.status_code, kept, _pieces(answer, target.model), answer.aclose)


async def _pieces(answer: httpx.Response, model: str) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_bytes():
            yield piece
    except httpx.TimeoutException as error:
        raise UpstreamFailed(model, "upstream_timeout", str(error), 504) from error
    except httpx.HTTPError as error:
        raise UpstreamFailed(model, "upstream_cut", str(error)) from error


async def _open_litellm(target: Target, chat: ChatBody) -> Opened:
    request = {name: chat.values[name] for name in CHAT_PARAMETERS & chat.values.keys()}
    request["model"] = target.model
    # Its first use imports litellm, which takes seconds: not on the loop that everybody shares.
    await run_in_threadpool(llm.custom_logger_base)
    try:
        if not chat.stream:
            answer = json.dumps(await llm.acomplete(request)).encode()
            return Opened(200, {"content-type": "application/json"}, _one(answer), _nothing)
        chunks = llm.astream(request)
        first = await anext(chunks, None)  # a refusal comes with the first chunk, not before
    except llm.ProviderError as error:
        raise UpstreamFailed(target.model, error.kind, str(error), error.status) from error
    events = _events(first, chunks, target)
    return Opened(200, {"content-type": EVENT_STREAM}, events, events.aclose)


async def _events(
    first: dict[str, object] | None, rest: AsyncIterator[dict[str, object]], target: Target
) -> AsyncGenerator[bytes]:
    try:
        if first is not None:
            yield as_event(first)
        async for chunk in rest:
            yield as_event(chunk)
    except llm.ProviderError as error:
        raise UpstreamFailed(target.model, error.kind, str(error)) from error
    yield b"data: " + DONE + b"\n\n"


async def _one(answer: bytes) -> AsyncIterator[bytes]:
    yield answer


async def _nothing() -> None:
    return None
