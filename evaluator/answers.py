"""Where answers come from: anything with `generate`, such as an OpenAI-compatible server."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from foundation.chat import Message, answer_texts
from foundation.errors import BadInput, FlywheelError
from foundation.http import ThreadClients
from foundation.settings import LOOPBACK


@dataclass(frozen=True)
class Answer:
    """One answer of a model.

    Attributes:
        text: what it said, possibly nothing; None if the answer was lost on the way.
        output_tokens: tokens made, an equal share where several answers came at once; None if
            unknown.
        seconds: time of this answer; None if unknown.
        detail: why it was lost.
    """

    text: str | None
    output_tokens: float | None = None
    seconds: float | None = None
    detail: str = ""


Generate = Callable[[list[list[Message]], int], list[Answer]]
"""`generate(prompts, seed)` answers every prompt, in order; the seed makes it repeatable."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a name, its way to answer, and the settings that a report states."""

    name: str
    generate: Generate
    model_version_id: UUID | None = None
    settings: dict[str, Any] = field(default_factory=dict)


class ModelServerUnavailable(FlywheelError):
    """The server that should answer does not."""

    http_status = 503

    def __init__(self, base_url: str, reason: str) -> None:
        self.base_url, self.reason = base_url, reason
        super().__init__(
            f"model server {base_url}: no answer to any request ({reason}), expected an "
            "OpenAI-compatible server. Start it, or set FLYWHEEL_ENGINE_URL to its address."
        )


class ChatServer:
    """An OpenAI-compatible server that answers batches of prompts; close it after use.

    Args:
        base_url: up to and with `/v1`.
        temperature: of sampling; 0 is greedy.
        max_tokens: the longest answer.
        concurrency: requests in flight at once.
        timeout_s: of one request.
        api_key: bearer token, if the server wants one.
    """

    def __init__(
        self,
        base_url: str,
        *,
        temperature: float = 1.0,
        max_tokens: int = 512,
        concurrency: int = 32,
        timeout_s: float = 300.0,
        api_key: str | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.settings = {
            "base_url": self.base_url,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "concurrency": concurrency,
        }
        self._sampling = {"temperature": temperature, "max_tokens": max_tokens}
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="answers")
        self._connections = ThreadClients(
            timeout=timeout_s,
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            # A proxy meant for the internet must not catch calls to this machine.
            trust_env=urlsplit(base_url).hostname not in LOOPBACK,
        )

    def subject(
        self, model: str, name: str | None = None, model_version_id: UUID | None = None
    ) -> Subject:
        """Return a model of this server (a base or an adapter) as a subject, named `name`."""

        def generate(prompts: list[list[Message]], seed: int) -> list[Answer]:
            return self.answer(model, prompts, seed)

        return Subject(name or model, generate, model_version_id, {**self.settings, "model": model})

    def answer(self, model: str, prompts: Sequence[list[Message]], seed: int) -> list[Answer]:
        """Answer all prompts at once; a run of equal prompts is one request for as many choices.

        The request that begins with prompt i is sent the seed `seed + i`. A request that fails
        twice is as many lost answers.

        Raises:
            ModelServerUnavailable: no request was answered.
            BadInput: the server refuses the request itself, such as an unknown model.
        """
        requests = [
            {"model": model, "messages": prompt, "seed": seed + start, "n": n, **self._sampling}
            for start, prompt, n in _runs(prompts)
        ]
        answers = [one for some in self._threads.map(self._ask, requests) for one in some]
        if answers and all(answer.text is None for answer in answers):
            raise ModelServerUnavailable(self.base_url, answers[0].detail)
        return answers

    def _ask(self, request: dict[str, Any]) -> list[Answer]:
        """Return `n` answers; a server that gives fewer choices is asked for the rest."""
        answers = self._try(request)
        if all(answer.text is None for answer in answers):
            answers = self._try(request)
        missing = request["n"] - len(answers)
        if missing > 0:
            more = {**request, "n": missing, "seed": request["seed"] + len(answers)}
            answers += self._ask(more)
        return answers

    def _try(self, request: dict[str, Any]) -> list[Answer]:
        """Send a request; return at least one answer and at most `n`, or `n` lost ones."""
        started, n = time.perf_counter(), int(request["n"])
        try:
            response = self._connections.get().post(
                f"{self.base_url}/chat/completions", json=_without_default(request)
            )
            if response.is_client_error and response.status_code not in (408, 425, 429):
                raise BadInput(
                    f"model server {self.base_url}, model",
                    request["model"],
                    f"a request that it accepts; it said {response.status_code} "
                    f"{response.text[:300]}",
                    f"Its models: GET {self.base_url}/models",
                )
            response.raise_for_status()
            body = response.json()
        except (httpx.HTTPError, ValueError) as error:
            return n * [Answer(None, detail=f"{type(error).__name__}: {error}"[:300])]
        if not isinstance(body, dict) or not body.get("choices"):
            return n * [Answer(None, detail="the response has no choices")]
        texts = answer_texts(body)[:n]
        tokens = (body.get("usage") or {}).get("completion_tokens")
        share = None if tokens is None else tokens / len(texts)
        seconds = time.perf_counter() - started
        return [Answer(text, share, seconds) for text in texts]

    def close(self) -> None:
        """Close the connections and threads."""
        self._threads.shutdown(cancel_futures=True)
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _runs(prompts: Sequence[list[Message]]) -> list[tuple[int, list[Message], int]]:
    """Return (start, prompt, length) of each run of equal prompts."""
    runs: list[tuple[int, list[Message], int]] = []
    for index, prompt in enumerate(prompts):
        if runs and runs[-1][1] == prompt:
            start, _, n = runs[-1]
            runs[-1] = (start, prompt, n + 1)
        else:
            runs.append((index, prompt, 1))
    return runs


def _without_default(request: dict[str, Any]) -> dict[str, Any]:
    """Leave `n` out where it is 1: not every server knows it."""
    return {name: value for name, value in request.items() if (name, value) != ("n", 1)}
