"""The two lanes to a model: bytes straight to an OpenAI-compatible server, or through litellm.

Both give an `Opened` answer: a status, headers, and bytes in OpenAI's shape as they arrive. What
fails before there is an answer is an `UpstreamFailed` with the status the client will see.
"""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from starlette.concurrency import run_in_threadpool

from foundation import llm
from foundation.errors import FlywheelError
from foundation.settings import LOOPBACK
from router import http1
from router.call import RawHeaders
from router.guard import UNREACHABLE
from router.http1 import Timeouts
from router.roster import Target
from router.wire import DONE, ChatBody, as_event

log = logging.getLogger(__name__)

WAITS = Timeouts()

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


class Client:
    """The connections of a process to its upstreams; a proxy's, where the environment names one."""

    def __init__(self) -> None:
        self.direct = http1.Client()
        self._proxied: aiohttp.ClientSession | None = None

    def proxied(self) -> aiohttp.ClientSession:
        """Return the client that goes through a proxy."""
        if self._proxied is None:
            self._proxied = aiohttp.ClientSession(auto_decompress=False)
        return self._proxied

    async def close(self) -> None:
        """Close what is open."""
        self.direct.close()
        if self._proxied is not None:
            await self._proxied.close()


async def open_answer(
    client: Client, target: Target, chat: ChatBody, timeouts: Timeouts = WAITS
) -> Opened:
    """Send a chat request to its target.

    Raises:
        UpstreamFailed: no answer.
    """
    if target.upstream is None:
        return await _open_litellm(target, chat)
    url, body = target.upstream.chat_url, chat.with_model(target.model)
    proxy = _proxy_for(url)
    if proxy is not None:
        return await _open_proxied(client.proxied(), proxy, target, body, timeouts)
    headers = _headers(target.upstream.api_key)
    with _said(target.model):
        answer = await client.direct.post(url, headers, body, timeouts)
    kept = {name: answer.headers[name] for name in PASSED_HEADERS if name in answer.headers}

    async def close() -> None:
        answer.close()

    return Opened(answer.status, kept, _pieces(answer.pieces(), target.model), close)


@lru_cache(maxsize=1024)
def _headers(api_key: str | None) -> bytes:
    lines = ["content-type: application/json", "accept-encoding: identity"]
    if api_key:
        lines.append(f"authorization: Bearer {api_key}")
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


async def _open_proxied(
    client: aiohttp.ClientSession, proxy: str, target: Target, body: bytes, timeouts: Timeouts
) -> Opened:
    assert target.upstream is not None
    lines = _headers(target.upstream.api_key).decode("latin-1").splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    waits = aiohttp.ClientTimeout(
        total=None, sock_connect=timeouts.connect_s, sock_read=timeouts.answer_s
    )
    with _said(target.model):
        answer = await client.post(
            target.upstream.chat_url, data=body, headers=headers, proxy=proxy, timeout=waits
        )
    kept = {name: answer.headers[name] for name in PASSED_HEADERS if name in answer.headers}

    async def close() -> None:
        answer.close()  # of an answer read to its end, this leaves the connection open

    pieces = _pieces(answer.content.iter_any(), target.model)
    return Opened(answer.status, kept, pieces, close)


async def _pieces(pieces: AsyncIterator[bytes], model: str) -> AsyncIterator[bytes]:
    with _said(model, "upstream_cut"):
        async for piece in pieces:
            yield piece


@contextmanager
def _said(model: str, lost: str = UNREACHABLE) -> Iterator[None]:
    """Turn what a connection raises into what the caller is told."""
    try:
        yield
    except (TimeoutError, http1.TooLong) as error:
        raise UpstreamFailed(model, "upstream_timeout", str(error), 504) from error
    except http1.Cut as error:
        raise UpstreamFailed(model, "upstream_cut", str(error)) from error
    except (aiohttp.ClientError, http1.Unreachable) as error:
        raise UpstreamFailed(model, lost, str(error)) from error


@lru_cache(maxsize=1024)
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
