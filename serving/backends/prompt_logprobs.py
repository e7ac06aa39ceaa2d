"""Have a server score texts: `POST /completions` with `echo`, as OpenAI once did and vLLM does."""

import math
from dataclasses import dataclass
from typing import Any, Final

from foundation.errors import FlywheelError
from serving.backends.openai_compatible import EngineRefused, send

TIMEOUT_S: Final = 600.0
_NOT_OFFERED: Final = (400, 404, 405, 422, 501)


class NoPromptLogprobs(FlywheelError):
    """The server does not tell the log-probabilities of a prompt's tokens."""

    http_status = 501

    def __init__(self, url: str, model: str, reason: str) -> None:
        self.url, self.model, self.reason = url, model, reason
        super().__init__(
            f"model {model!r} at {url}: {reason}, expected the log-probability of each token of a "
            "prompt (POST /completions with echo, logprobs and max_tokens 0). "
            "Our engine and vLLM offer it; chat APIs of providers do not."
        )


@dataclass(frozen=True)
class ScoredText:
    """A text as the server's model reads it.

    Attributes:
        text: as it was sent.
        tokens: its tokens, as the server writes them.
        logprobs: natural logarithm of each token's probability; None for what nothing stands
            before.
    """

    text: str
    tokens: list[str]
    logprobs: list[float | None]


def prompt_logprobs(
    base_url: str, model: str, texts: list[str], api_key: str | None = None
) -> list[ScoredText]:
    """Return the texts with the log-probabilities of their tokens, scored as one batch.

    Args:
        base_url: of the server (…/v1).
        model: as the server calls it.
        texts: at least one, none empty.
        api_key: bearer key, if the server asks for one.

    Raises:
        NoPromptLogprobs: the server refuses, or answers something else.
        EngineUnavailable: no answer.
        EngineRefused: any other error, such as a wrong key.
    """
    url = f"{base_url.rstrip('/')}/completions"
    body = {"model": model, "prompt": texts, "echo": True, "logprobs": 0, "max_tokens": 0}
    try:
        answer = send("POST", url, api_key, body, TIMEOUT_S)
    except EngineRefused as error:
        if error.status not in _NOT_OFFERED:
            raise
        reason = f"answered {error.status}: {error.reason}"
        raise NoPromptLogprobs(base_url, model, reason) from error
    try:
        choices = sorted(answer.json()["choices"], key=lambda choice: choice["index"])
        scored = [_scored(text, one) for text, one in zip(texts, choices, strict=True)]
    except (ValueError, KeyError, TypeError) as error:
        raise NoPromptLogprobs(base_url, model, f"scores no prompt ({error})") from error
    return scored


def _scored(text: str, choice: dict[str, Any]) -> ScoredText:
    """Return a choice as a scored text; raises ValueError where it is none."""
    if choice["text"] != text:
        raise ValueError("it echoes another text")
    said = choice["logprobs"]
    tokens, logprobs = said["tokens"], said["token_logprobs"]
    if len(tokens) != len(logprobs):
        raise ValueError(f"{len(tokens)} tokens have {len(logprobs)} log-probabilities")
    known = [float(logprob) for logprob in logprobs if logprob is not None]
    if not all(math.isfinite(logprob) and logprob <= 1e-3 for logprob in known):
        raise ValueError("some are no logarithms of probabilities")
    return ScoredText(text, list(tokens), list(logprobs))
