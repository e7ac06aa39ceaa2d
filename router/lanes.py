"""The two lanes to a model: bytes straight to an OpenAI-compatible server, or through litellm.

Both give an `Opened` answer: a status, headers, and bytes in OpenAI's shape as they arrive. What
fails before there is an answer is an `UpstreamFailed` with the status the client will see.
"""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from starlette.concurrency import run_in_threadpool

from foundation import llm
from foundation.errors import FlywheelError
from foundation.settings import LOOPBACK
from router.call import RawHeaders
from router.guard import UNREACHABLE
from router.roster import Target
from router.wire import DONE, ChatBody, as_event

log = logging.getLogger(__name__)

CONNECT_S, ANSWER_S = 5.0, 600.0
"""Longest wait for a connection, and between two parts of an answer, in seconds."""

KEEP_S = 4.0
"""Seconds that an idle connection is kept: less than the 5 s of uvicorn, ours and vLLM's."""

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

    def raw_headers(self) -> RawHeaders:
        """Return the headers to pass on as they go over the wire."""
        return [(name.encode(), value.encode("latin-1")) for name, value in self.headers.items()]

    async def read(self) -> bytes:
        """Return all of the bytes and close."""
        try:
            return b"".join([piece async for piece in self.body])
        finally:
            await self.aclose()


def new_client() -> aiohttp.ClientSession:
    """Return a client that keeps its connections and waits as long as models take.

    Not httpx: its pool looks at every open connection for each request, which from 64 callers on
    was measured to be 70 % of the gateway's time.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_S),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S),
        auto_decompress=False,
    )


async def open_answer(client: aiohttp.ClientSession, target: Target, chat: ChatBody) -> Opened:
    """Send a chat request to its target.

    Raises:
        UpstreamFailed: no answer.
    """
    if target.upstream is None:
        return await _open_litellm(target, chat)
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if target.upstream.api_key:
        headers["authorization"] = f"Bearer {target.upstream.api_key}"
    url = target.upstream.chat_url
    try:
        answer = await client.post(
            url, data=chat.with_model(target.model), headers=headers, proxy=_proxy_for(url)
        )
    except TimeoutError as error:
        raise UpstreamFailed(target.model, "upstream_timeout", str(error), 504) from error
    except aiohttp.ClientError as error:
        raise UpstreamFailed(target.model, UNREACHABLE, str(error)) from error
    kept = {name: answer.headers[name] for name in PASSED_HEADERS if name in answer.headers}

    async def close() -> None:
        answer.close()  # of an answer read to its end, this leaves the connection open

    return Opened(answer.status, kept, _pieces(answer, target.model), close)


async def _pieces(answer: aiohttp.ClientResponse, model: str) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.content.iter_any():
            yield piece
    except TimeoutError as error:
        raise UpstreamFailed(model, "upstream_timeout", str(error), 504) from error
    except aiohttp.ClientError as error:
        raise UpstreamFailed(model, "upstream_cut", str(error)) from error


def _proxy_for(url: str) -> str | None:
    """Return the environment's proxy for a URL; calls to this machine never take one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in LOOPBACK or proxy_bypass(host):
        return None
    return getproxies().get(parts.scheme)


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
