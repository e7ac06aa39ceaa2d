"""The two lanes to a model: bytes straight to an OpenAI-compatible server, or through litellm.

Both give an `Opened` answer: a status, headers, and bytes as they arrive: in the dialect that was
asked where the upstream speaks it, else those of a chat. What fails before there is an answer is an
`UpstreamFailed` with the status the client will see.
"""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import aiohttp
from starlette.concurrency import run_in_threadpool

from foundation import llm, trace_context, tracing
from foundation.errors import FlywheelError
from router import http1
from router.call import RawHeaders
from router.dialects import CHAT, Asked, Dialect
from router.dialects.chat import as_event
from router.faults import UNREACHABLE
from router.roster import Target

log = logging.getLogger(__name__)

DONE_EVENT = b"data: [DONE]\n\n"

Headers = tuple[tuple[str, str], ...]

SENT_HEADERS: Headers = (("content-type", "application/json"), ("accept-encoding", "identity"))

PASSED_HEADERS = ("content-type", "x-request-id", "retry-after", "openai-processing-ms")

EVENT_STREAM = "text/event-stream"

MAX_ANSWER_BYTES = 64 << 20
"""Bytes of an answer at most; all of it is in memory until it is recorded."""

GARBAGE, TOO_LARGE = "upstream_garbage", "upstream_too_large"

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
    """An answer that has begun: its status, the headers to pass on, and its bytes.

    `is_native` says that they are in the dialect that was asked, not those of a chat.
    """

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes]
    aclose: Callable[[], Awaitable[None]]
    is_native: bool = True

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
    client: Client, target: Target, asked: Asked, given: Mapping[str, str] = MappingProxyType({})
) -> Opened:
    """Send a request to its target, as a chat where it does not speak the request's dialect.

    Args:
        client: of this process.
        target: who is asked.
        asked: what.
        given: the caller's headers; the dialect says which are the upstream's to read.

    Raises:
        UpstreamFailed: no answer.
        BadInput: it asks for what a chat cannot do.
    """
    upstream = target.upstream
    if upstream is None:
        return await _open_litellm(target, asked)
    is_native = asked.dialect.name in upstream.dialects
    dialect = asked.dialect if is_native else CHAT
    body = asked.with_model(target.model) if is_native else asked.as_chat(target.model)
    url = f"{upstream.base_url}{dialect.native_path}"
    headers = _head(_headers(dialect, upstream.api_key, given))
    if tracing.is_on() and (trace := trace_context.traceparent()) is not None:
        headers += b"traceparent: %b\r\n" % trace.encode()
    if upstream.proxy is not None:
        return await _open_proxied(client.proxied(), target, url, headers, body, is_native)
    with _said(target.model):
        answer = await client.direct.post(url, headers, body, upstream.timeouts)
    try:
        kept = _passed(target.model, answer.status, answer.headers)
    except UpstreamFailed:
        answer.close()
        raise

    async def close() -> None:
        answer.close()

    pieces = _pieces(answer.pieces(), target.model)
    return Opened(answer.status, kept, pieces, close, is_native)


def _headers(dialect: Dialect, key: str | None, given: Mapping[str, str]) -> Headers:
    return (*SENT_HEADERS, *dialect.headers(key, given).items())


@lru_cache(maxsize=1024)
def _head(headers: Headers) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")


async def _open_proxied(
    client: aiohttp.ClientSession,
    target: Target,
    url: str,
    head: bytes,
    body: bytes,
    is_native: bool,
) -> Opened:
    assert target.upstream is not None
    headers = dict(line.split(": ", 1) for line in head.decode("latin-1").splitlines())
    waits, proxy = target.upstream.timeouts, target.upstream.proxy
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=waits.connect_s, sock_read=max(waits.answer_s, waits.idle_s)
    )
    with _said(target.model):
        answer = await client.post(
            url, data=body, headers=headers, proxy=proxy, timeout=timeout, allow_redirects=False
        )
    try:
        kept = _passed(target.model, answer.status, answer.headers)
    except UpstreamFailed:
        answer.close()
        raise

    async def close() -> None:
        answer.close()  # of an answer read to its end, this leaves the connection open

    pieces = _pieces(answer.content.iter_any(), target.model)
    return Opened(answer.status, kept, pieces, close, is_native)


def _passed(model: str, status: int, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that the caller is sent too.

    A redirect is not followed: it would lead the prompt and our key to where nobody configured.

    Raises:
        UpstreamFailed: it is neither an answer nor an error, or not in the encoding asked for.
    """
    if not (200 <= status < 300 or 400 <= status < 600):
        raise UpstreamFailed(model, GARBAGE, f"status {status}")
    encoding = headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise UpstreamFailed(model, GARBAGE, f"content-encoding {encoding[:40]!r}, not asked for")
    return {name: headers[name] for name in PASSED_HEADERS if name in headers}


async def _pieces(pieces: AsyncIterator[bytes], model: str) -> AsyncIterator[bytes]:
    n_bytes = 0
    with _said(model, "upstream_cut"):
        async for piece in pieces:
            n_bytes += len(piece)
            if n_bytes > MAX_ANSWER_BYTES:
                raise UpstreamFailed(model, TOO_LARGE, f"more than {MAX_ANSWER_BYTES} bytes")
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


async def _open_litellm(target: Target, asked: Asked) -> Opened:
    chat, is_native = asked.chat, asked.dialect is CHAT
    request = {name: chat[name] for name in CHAT_PARAMETERS & chat.keys()}
    request["model"] = target.model
    # Its first use imports litellm, which takes seconds: not on the loop that everybody shares.
    await run_in_threadpool(llm.custom_logger_base)
    try:
        if not asked.stream:
            answer = json.dumps(await llm.acomplete(request)).encode()
            return Opened(
                200, {"content-type": "application/json"}, _one(answer), _nothing, is_native
            )
        chunks = llm.astream(request)
        first = await anext(chunks, None)  # a refusal comes with the first chunk, not before
    except llm.ProviderError as error:
        raise UpstreamFailed(target.model, error.kind, str(error), error.status) from error
    events = _events(first, chunks, target)
    return Opened(200, {"content-type": EVENT_STREAM}, events, events.aclose, is_native)


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
    yield DONE_EVENT


async def _one(answer: bytes) -> AsyncIterator[bytes]:
    yield answer


async def _nothing() -> None:
    return None
