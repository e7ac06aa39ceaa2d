"""One streamed answer and the times of it: to its first token, and to its end."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

from evaluator.replies import REPLY_BYTES
from foundation.chat import Message
from foundation.errors import BadInput
from foundation.settings import LOOPBACK

_WORTH_COUNTING: Final = (408, 425, 429)
"""Client errors that say something of the server's load, and nothing of the request."""


@dataclass(frozen=True)
class TimedAnswer:
    """What a streamed answer took.

    Attributes:
        seconds: from the request to the end of the stream; None if it failed.
        ttft_s: to the first piece of text, or to the end of an answer without any.
        input_tokens: of the prompt, if the stream says so.
        output_tokens: of the answer, if the stream says so.
        error: why it failed.
    """

    seconds: float | None = None
    ttft_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: str = ""

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens per second of the whole request; None where they are not known."""
        return self.output_tokens / self.seconds if self.output_tokens and self.seconds else None


@dataclass
class _Heard:
    """What a stream said until now."""

    first_at: float | None = None
    is_done: bool = False
    usage: dict[str, Any] = field(default_factory=dict)


class TimedServer:
    """Asks an OpenAI-compatible server for streamed answers, one at a time; close it after use.

    Args:
        base_url: up to and with `/v1`.
        api_key: bearer token, if the server wants one.
        timeout_s: of one answer.
    """

    def __init__(self, base_url: str, api_key: str | None = None, timeout_s: float = 300.0) -> None:
        self.base_url, self._timeout_s = base_url.rstrip("/"), timeout_s
        self._client = httpx.Client(
            timeout=timeout_s,
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            trust_env=urlsplit(base_url).hostname not in LOOPBACK,
        )

    def ask(self, model: str, prompt: list[Message], **sampling: Any) -> TimedAnswer:
        """Return the times of one answer.

        Raises:
            BadInput: the server refuses the request, such as an unknown model.
        """
        body = {
            "model": model,
            "messages": prompt,
            "stream": True,
            "stream_options": {"include_usage": True},
            **sampling,
        }
        started = time.perf_counter()
        try:
            with self._client.stream(
                "POST", f"{self.base_url}/chat/completions", json=body
            ) as response:
                self._require_accepted(response, model)
                heard = self._listen(response.iter_lines(), started)
        except (httpx.HTTPError, ValueError) as error:
            return TimedAnswer(error=f"{type(error).__name__}: {error}"[:300])
        ended = time.perf_counter()
        return TimedAnswer(
            ended - started,
            (heard.first_at or ended) - started,
            heard.usage.get("prompt_tokens"),
            heard.usage.get("completion_tokens"),
        )

    def _require_accepted(self, response: httpx.Response, model: str) -> None:
        if response.is_client_error and response.status_code not in _WORTH_COUNTING:
            response.read()
            raise BadInput(
                f"model server {self.base_url}, model",
                model,
                f"a request that it accepts; it said {response.status_code} {response.text[:300]}",
                f"Its models: GET {self.base_url}/models",
            )
        response.raise_for_status()

    def _listen(self, lines: Iterable[str], started: float) -> _Heard:
        """Read a stream to its end; raises ValueError for anything that is none, or has none."""
        heard = _Heard()
        for event in _events(lines):
            if time.perf_counter() - started > self._timeout_s:
                raise ValueError(f"no end after {self._timeout_s:g} s")
            if "error" in event:
                raise ValueError(f"the stream broke off: {event['error']}")
            heard.usage = event.get("usage") or heard.usage
            for choice in event.get("choices") or ():
                delta = choice.get("delta") or {}
                if heard.first_at is None and any(delta.get(name) for name in _SPOKEN):
                    heard.first_at = time.perf_counter()
                heard.is_done |= bool(choice.get("finish_reason"))
        if not heard.is_done:
            raise ValueError("the answer is no stream that ends")
        return heard

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()


_SPOKEN: Final = ("content", "reasoning_content", "tool_calls")


def _events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the events of a server-sent stream up to its end mark; raises ValueError."""
    read = 0
    for line in lines:
        read += len(line)
        if read > REPLY_BYTES:
            raise ValueError(f"more than {REPLY_BYTES} bytes")
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        if line.startswith("data:"):
            event = json.loads(data)
            if isinstance(event, dict):
                yield event
