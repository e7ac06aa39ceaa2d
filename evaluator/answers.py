"""Where answers come from: anything with `generate`, such as an OpenAI-compatible server."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from evaluator.replies import Reply, UnreadableReply, decoded, read_reply, reply_of
from foundation.chat import Message
from foundation.errors import BadInput, FlywheelError
from foundation.http import ThreadClients
from foundation.llm import ProviderError, complete
from foundation.prices import cost_usd
from foundation.settings import LOOPBACK

RETRY_AFTER_S = 0.5
"""Pause before a failed request is sent again: a busy server needs it."""
_WORTH_ANOTHER_TRY = (408, 425, 429)


@dataclass(frozen=True)
class Answer:
    """One answer of a model.

    Attributes:
        text: what it said, possibly nothing; None if the answer was lost on the way.
        output_tokens: tokens made, an equal share where several answers came at once; None if
            unknown.
        seconds: time of this answer; None if unknown.
        detail: why it was lost.
        ttft_s: time to its first token; None if unknown.
        n_chars: how long it was, where it was too long to keep; else None.
        finish: why the model stopped, if it says so; `length`: at the limit of tokens.
        cost_usd: its share of what the request cost; None if unknown.
        was_repaired: some of its bytes were no UTF-8 and were replaced.
        is_cached: it was given to an earlier question, and was not asked for again.
    """

    text: str | None
    output_tokens: float | None = None
    seconds: float | None = None
    detail: str = ""
    ttft_s: float | None = None
    n_chars: int | None = None
    finish: str | None = None
    cost_usd: float | None = None
    was_repaired: bool = False
    is_cached: bool = False


Generate = Callable[[list[list[Message]], list[int]], Iterable[Answer]]
"""`generate(prompts, seeds)` answers every prompt, in order; its seed makes each repeatable."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        name: what reports call it.
        generate: its way to answer.
        model_version_id: the version of ours that it is, if it is one.
        settings: what a report states.
        model_hash: content of the model; empty if unknown, and then no later run uses its answers.
        decoding: all that its answers depend on beside model, prompt and seed.
    """

    name: str
    generate: Generate
    model_version_id: UUID | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    model_hash: str = ""
    decoding: dict[str, Any] = field(default_factory=dict)


class ModelServerUnavailable(FlywheelError):
    """The server that should answer does not."""

    http_status = 503

    def __init__(self, base_url: str, reason: str, kept: str = "") -> None:
        self.base_url, self.reason = base_url, reason
        super().__init__(
            f"model server {base_url}: no answer to any request ({reason}), expected an "
            f"OpenAI-compatible server. Start it, or set FLYWHEEL_ENGINE_URL to its address.{kept}"
        )

    def after(self, n_answers: int, total: int) -> "ModelServerUnavailable":
        """Return the same error of an evaluation that has so many of its answers already."""
        kept = f" {n_answers} of {total} answers are kept: the same order again asks for the rest."
        return ModelServerUnavailable(self.base_url, self.reason, kept)


class RequestLost(Exception):
    """A request brought no answers; the text says why. It is tried again, then counted."""


class AnswersByRequest(ABC):
    """Answers batches of prompts by requests of the OpenAI shape, many at once; close after use.

    Args:
        address: of who answers, for messages.
        temperature: of sampling; 0 is greedy.
        max_tokens: the longest answer.
        concurrency: requests in flight at once.
    """

    def __init__(self, address: str, temperature: float, max_tokens: int, concurrency: int) -> None:
        self.address = address
        self.is_priced = True
        self.settings: dict[str, Any] = {
            "temperature": temperature,
            "max_tokens": max_tokens,
            "concurrency": concurrency,
        }
        self._sampling = {"temperature": temperature, "max_tokens": max_tokens}
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="answers")

    @abstractmethod
    def send(self, request: dict[str, Any]) -> Reply:
        """Send a chat request; return what came back.

        Raises:
            BadInput: the request itself is refused, such as an unknown model.
            RequestLost: anything else went wrong.
        """

    def subject(
        self, model: str, name: str | None = None, model_version_id: UUID | None = None
    ) -> Subject:
        """Return a model as a subject, named `name`."""

        def generate(prompts: list[list[Message]], seeds: list[int]) -> Iterable[Answer]:
            return self.answer(model, prompts, seeds)

        return Subject(
            name or model,
            generate,
            model_version_id,
            {**self.settings, "model": model},
            decoding=dict(self._sampling),
        )

    def answer(
        self, model: str, prompts: Sequence[list[Message]], seeds: Sequence[int]
    ) -> Iterator[Answer]:
        """Answer all prompts at once, yielding in order as they come.

        A run of equal prompts is one request for as many choices, with the seed of its first. A
        request that fails twice is as many lost answers.

        Raises:
            ModelServerUnavailable: no request was answered, said when all have failed.
            BadInput: the request itself is refused, such as an unknown model.
        """
        requests = [
            {"model": model, "messages": prompt, "seed": seeds[start], "n": n, **self._sampling}
            for start, prompt, n in _runs(prompts)
        ]
        was_answered, reason = not requests, ""
        for answers in self._threads.map(self._ask, requests):
            was_answered |= any(answer.text is not None for answer in answers)
            reason = reason or answers[0].detail
            yield from answers
        if not was_answered:
            raise ModelServerUnavailable(self.address, reason)

    def _ask(self, request: dict[str, Any]) -> list[Answer]:
        """Return `n` answers; a server that gives fewer choices is asked for the rest."""
        answers: list[Answer] = []
        while (missing := request["n"] - len(answers)) > 0:
            rest = {**request, "n": missing, "seed": request["seed"] + len(answers)}
            more = self._try(rest)
            if all(answer.text is None for answer in more):
                time.sleep(RETRY_AFTER_S)
                more = self._try(rest)
            answers += more
        return answers

    def _try(self, request: dict[str, Any]) -> list[Answer]:
        """Send a request; return at least one answer and at most `n`, or `n` lost ones."""
        started = time.perf_counter()
        try:
            reply = self.send(request)
        except RequestLost as lost:
            return [Answer(None, detail=str(lost)[:300])] * int(request["n"])
        seconds = time.perf_counter() - started
        return _answers(reply, seconds, self._cost(request["model"], reply))

    def _cost(self, model: str, reply: Reply) -> float | None:
        """Return what a request cost by the public price list; None if that does not say."""
        if not self.is_priced or reply.input_tokens is None or reply.output_tokens is None:
            return None
        return cost_usd(model, None, reply.input_tokens, reply.output_tokens)

    def close(self) -> None:
        """Close the threads, and whatever connections there are."""
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ChatServer(AnswersByRequest):
    """An OpenAI-compatible server that answers batches of prompts; close it after use.

    Args:
        base_url: up to and with `/v1`.
        temperature: of sampling; 0 is greedy.
        max_tokens: the longest answer.
        concurrency: requests in flight at once.
        timeout_s: of one request, with all of its reply.
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
        super().__init__(self.base_url, temperature, max_tokens, concurrency)
        self.settings = {"base_url": self.base_url, **self.settings}
        self._timeout_s = timeout_s
        is_local = urlsplit(base_url).hostname in LOOPBACK
        self.is_priced = not is_local
        self._connections = ThreadClients(
            timeout=timeout_s,
            headers={
                "accept-encoding": "identity",
                **({"authorization": f"Bearer {api_key}"} if api_key else {}),
            },
            # A proxy meant for the internet must not catch calls to this machine.
            trust_env=not is_local,
        )

    def send(self, request: dict[str, Any]) -> Reply:
        """Post a request; raises as `AnswersByRequest.send`."""
        url = f"{self.base_url}/chat/completions"
        deadline = time.monotonic() + self._timeout_s
        try:
            with self._connections.get().stream(
                "POST", url, json=_without_default(request)
            ) as response:
                status, chunks = response.status_code, _chunks(response, deadline)
                if response.is_client_error and status not in _WORTH_ANOTHER_TRY:
                    reason = decoded(next(chunks, b"")[:300])[0]
                    raise BadInput(
                        f"model server {self.base_url}, model",
                        request["model"],
                        f"a request that it accepts; it said {status} {reason}",
                        f"Its models: GET {self.base_url}/models",
                    )
                response.raise_for_status()
                return read_reply(chunks, request["n"])
        except (httpx.HTTPError, UnreadableReply) as error:
            name = "" if isinstance(error, UnreadableReply) else f"{type(error).__name__}: "
            raise RequestLost(f"{name}{error}") from error

    def close(self) -> None:
        """Close the connections and threads."""
        super().close()
        self._connections.close()


class Providers(AnswersByRequest):
    """The models that litellm reaches, as `provider/model`; close it after use."""

    def __init__(
        self, *, temperature: float = 1.0, max_tokens: int = 512, concurrency: int = 32
    ) -> None:
        super().__init__("litellm", temperature, max_tokens, concurrency)

    def send(self, request: dict[str, Any]) -> Reply:
        """Have litellm send a request; raises as `AnswersByRequest.send`."""
        try:
            return reply_of(complete(_without_default(request), drop_params=True), request["n"])
        except UnreadableReply as error:
            raise RequestLost(str(error)) from error
        except ProviderError as error:
            if 400 <= error.status < 500 and error.status not in _WORTH_ANOTHER_TRY:
                raise BadInput(
                    "external model",
                    request["model"],
                    f"one that its provider accepts; it said: {error}"[:500],
                    "Name it as litellm does (openai/gpt-4o) and set its provider's key.",
                ) from error
            raise RequestLost(str(error)) from error


def _chunks(response: httpx.Response, deadline: float) -> Iterator[bytes]:
    """Yield the bytes of a response as they come, until its time is over.

    Compressed several times over, a few kilobytes become gigabytes at once, so that is refused.
    """
    encoding = ",".join(response.headers.get_list("content-encoding"))
    if "," in encoding:
        raise UnreadableReply(f"the response is compressed as {encoding[:100]}")
    for chunk in response.iter_bytes():
        yield chunk
        if time.monotonic() > deadline:
            raise UnreadableReply("the response did not end in time")


def _answers(reply: Reply, seconds: float, cost: float | None) -> list[Answer]:
    """Return the answers of a reply, each with its equal share of tokens and cost."""
    n, tokens = len(reply.said), reply.output_tokens
    return [
        Answer(
            said.text,
            None if tokens is None else tokens / n,
            seconds,
            n_chars=said.n_chars,
            finish=said.finish,
            cost_usd=None if cost is None else cost / n,
            was_repaired=reply.was_repaired,
        )
        for said in reply.said
    ]


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
