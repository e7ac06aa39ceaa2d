"""Is it the adapter that answers? Asked of the server before an adapter is evaluated.

A server that ignores an adapter answers for it with the base model, and every comparison after
that compares the base with itself. So both score the same probes first: equal log-probabilities
refuse the evaluation, and those within the server's own noise prove nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from foundation.errors import FlywheelError
from serving.backends.openai_compatible import (
    EngineRefused,
    EngineUnavailable,
    list_models,
    send,
)
from serving.backends.prompt_logprobs import NoPromptLogprobs, prompt_logprobs

PROBES: Final = (
    "def add(a, b):\n    return a + b\n",
    "The capital of France is Paris. Two and three make five.",
    '{"name": "probe", "steps": ["plan", "write", "test"], "done": false}',
)
"""Texts that are scored; code, prose and data, as adapters differ in what they change."""
QUESTIONS: Final = (
    "What is 3 + 4?",
    "Write a Python function that reverses a string.",
    "Name three colours.",
    "Say hello in two words.",
)
"""What is answered greedily where a server scores no texts."""
NOISE_FACTOR: Final = 3.0
"""Times the base's difference from itself that proves another model."""
SAME: Final = 1e-6
"""Largest difference of log-probabilities (nats) that is rounding: those are the base's."""
_MAX_TOKENS: Final = 32

LOGPROBS, GREEDY, NONE = "log-probabilities", "greedy answers", "none"


class AdapterIgnored(FlywheelError):
    """A server answers for an adapter as its base does."""

    http_status = 409

    def __init__(self, adapter: str, base: str, base_url: str, largest: float) -> None:
        self.adapter, self.base, self.base_url, self.largest = adapter, base, base_url, largest
        super().__init__(
            f"adapter {adapter!r} at {base_url}: its log-probabilities differ from those of "
            f"{base!r} by {largest:.2g} at most, expected other ones. The server ignores the "
            "adapter, or the adapter changes nothing (it was not trained, or its weights are "
            "zero): an evaluation would measure the base. Look at the server's log, load the "
            "adapter again, or train it."
        )


@dataclass(frozen=True)
class Identity:
    """What is known of who answers for an adapter.

    Attributes:
        adapter: its name at the server.
        base: what the server calls the base.
        content_hash: of the adapter's files, as registered; None if unknown.
        is_proven: its answers are not the base's.
        method: what they were told apart by.
        largest_difference: of the log-probabilities of one token; None by another method.
        noise: the same between two scorings by the base.
        n_compared: tokens, or answers, that were compared.
        note: what stands in the way of a proof, or of a better one.
    """

    adapter: str
    base: str
    content_hash: str | None
    is_proven: bool
    method: str
    largest_difference: float | None = None
    noise: float | None = None
    n_compared: int = 0
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return asdict(self)


def probe_identity(
    base_url: str,
    adapter: str,
    base: str,
    content_hash: str | None = None,
    api_key: str | None = None,
) -> Identity:
    """Tell an adapter from its base by log-probabilities, or else by greedy answers.

    Args:
        base_url: of the server (…/v1), where the adapter is loaded.
        adapter: its name there.
        base: the base model's name, where the server does not say whose adapter it is.
        content_hash: of the adapter's files.
        api_key: bearer key, if the server asks for one.

    Returns:
        What was found; equal answers, or none, leave it not proven. So does a server that fails:
        whether it answers at all is for the evaluation to say.

    Raises:
        AdapterIgnored: the log-probabilities are the base's.
    """
    unproven = Identity(adapter, base, content_hash, False, NONE)
    try:
        parent = _base_of(base_url, adapter, api_key)
        unproven = replace(unproven, base=parent or base)
        return _by_logprobs(base_url, unproven, api_key)
    except NoPromptLogprobs as missing:
        unproven = replace(unproven, note=missing.reason)
    except (EngineRefused, EngineUnavailable) as error:
        return replace(unproven, note=error.reason)
    try:
        return _by_answers(base_url, unproven, api_key)
    except (EngineRefused, EngineUnavailable) as error:
        return replace(unproven, note=f"{unproven.note}; {error.reason}")


def _base_of(base_url: str, adapter: str, api_key: str | None) -> str | None:
    """Return whose adapter the server says it is, if it says so."""
    models = list_models(base_url, api_key)
    return next((model.parent for model in models if model.name == adapter), None)


def _by_logprobs(base_url: str, asked: Identity, api_key: str | None) -> Identity:
    """Compare the scores of the probes, each time the same batch; the base's twice, for noise."""

    def score(model: str) -> list[float | None]:
        scored = prompt_logprobs(base_url, model, list(PROBES), api_key)
        return [logprob for one in scored for logprob in one.logprobs]

    first, candidate, second = score(asked.base), score(asked.adapter), score(asked.base)
    noise, largest = largest_difference(first, second), largest_difference(first, candidate)
    if largest <= SAME:
        raise AdapterIgnored(asked.adapter, asked.base, base_url, largest)
    is_proven = largest > NOISE_FACTOR * noise
    return replace(
        asked,
        is_proven=is_proven,
        method=LOGPROBS,
        largest_difference=largest,
        noise=noise,
        n_compared=len(first),
        note="" if is_proven else "the base differs from itself by nearly as much",
    )


def largest_difference(first: Sequence[float | None], second: Sequence[float | None]) -> float:
    """Return how far two scorings of the same tokens are apart; infinite if tokens differ."""
    if len(first) != len(second):
        return float("inf")
    pairs = zip(first, second, strict=True)
    return max((abs(a - b) for a, b in pairs if a is not None and b is not None), default=0.0)


def _by_answers(base_url: str, asked: Identity, api_key: str | None) -> Identity:
    """Compare greedy answers; equal ones prove nothing, and a base unlike itself neither."""

    def answer(model: str) -> list[str]:
        return [_greedy(base_url, model, question, api_key) for question in QUESTIONS]

    first, candidate, second = answer(asked.base), answer(asked.adapter), answer(asked.base)
    why = why_unproven(first, candidate, second)
    return replace(
        asked,
        is_proven=not why,
        method=GREEDY,
        n_compared=len(first),
        note=f"{why}no log-probabilities: {asked.note}",
    )


def why_unproven(first: Sequence[str], candidate: Sequence[str], second: Sequence[str]) -> str:
    """Return why greedy answers of base, candidate and base again prove nothing; else nothing."""
    if list(first) != list(second):
        return "the base's own greedy answers vary; "
    if list(first) == list(candidate):
        return f"all {len(first)} greedy answers are the base's; "
    return ""


def _greedy(base_url: str, model: str, question: str, api_key: str | None) -> str:
    url = f"{base_url.rstrip('/')}/chat/completions"
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": _MAX_TOKENS,
    }
    answer = send("POST", url, api_key, body)
    try:
        return str(answer.json()["choices"][0]["message"]["content"])
    except (ValueError, LookupError, TypeError) as error:
        raise EngineUnavailable(url, "answers something else than a chat completion") from error
