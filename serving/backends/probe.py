"""Does a loaded version answer by itself, or does the base answer in its name? No torch.

A server may load an adapter and never apply it: names of modules that do not match, a scale of 0, a
rank it ignores. So the base and the version read the same texts, and the base reads them twice: the
version must differ from the base by more than the base differs from itself.

Three ways, the first that the server offers: log-probabilities of a prompt's tokens (our engine,
vLLM), log-probabilities of the first answer tokens (llama.cpp, Ollama), the greedy answers' text.
Equal text is no proof of anything, so the last way may end in "could not tell".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from serving.backends.door import Door
from serving.backends.openai_compatible import EngineRefused, EngineUnavailable, send
from serving.backends.prompt_logprobs import NoPromptLogprobs, prompt_logprobs

TEXTS: Final = (
    "def add(a, b):\n    return a + b\n",
    "The quick brown fox jumps over the lazy dog.",
    '{"name": "probe", "ok": true, "count": 3}',
)
QUESTIONS: Final = (
    "Write a Python function that adds two numbers.",
    "Review this change: it deletes a test that fails.",
    "Say which file you would read first, and why.",
)
SMALLEST: Final = 1e-4
"""Least difference of a log-probability (nats) that counts: fp16 kernels repeat below it."""

ANSWER_TOKENS: Final = 8
TOP: Final = 5
TIMEOUT_S: Final = 120.0

Reading = list[dict[str, float]]
"""What a model said of one text: per position, log-probabilities by token."""


@dataclass(frozen=True)
class Check:
    """What the probe found.

    Attributes:
        differs: whether version and base are told apart; None if that could not be told.
        reason: the figures, in a sentence.
    """

    differs: bool | None
    reason: str


def check(door: Door, name: str, base: str) -> Check:
    """Compare what version `name` says with what `base` says.

    Raises:
        EngineUnavailable: no answer.
        EngineRefused: the server answers for one of the two with an error.
    """
    ways: tuple[Callable[[Door, str], list[Reading]], ...] = (read_prompts, read_answers)
    for read in ways:
        try:
            first, again, other = (read(door, model) for model in (base, base, name))
        except NoPromptLogprobs:
            continue
        return compare(first, again, other)
    return compare_texts(*(greedy_texts(door, model) for model in (base, base, name)))


def compare(first: list[Reading], again: list[Reading], other: list[Reading]) -> Check:
    """Judge three readings of the same texts: the base's, the base's again, the version's. Pure.

    A gap within what the base differs from itself proves nothing; none at all proves sameness.
    """
    noise, gap = distance(first, again), distance(first, other)
    said = (
        f"log-probabilities differ from the base's by up to {gap:.3g} nats; "
        f"the base from itself by {noise:.3g}"
    )
    if gap > max(SMALLEST, 3 * noise):
        return Check(True, said)
    return Check(False if gap <= SMALLEST else None, said)


def compare_texts(first: Sequence[str], again: Sequence[str], other: Sequence[str]) -> Check:
    """Judge three sets of greedy answers, likewise. Pure."""
    if list(first) != list(again):
        return Check(None, "the base does not repeat its own greedy answers: could not tell")
    changed = sum(mine != theirs for mine, theirs in zip(first, other, strict=True))
    if not changed:
        return Check(
            None, f"{len(first)} greedy answers equal the base's, and the server tells no logits"
        )
    return Check(True, f"{changed} of {len(first)} greedy answers differ from the base's")


def distance(one: list[Reading], two: list[Reading]) -> float:
    """Return the largest difference of a token's log-probability where the contexts are the same.

    Positions are compared up to the first where the likeliest token differs: after it, the two have
    read different texts. A token that only one side names was at most as likely on the other as the
    least that is named there.
    """
    worst = 0.0
    for mine, theirs in zip(one, two, strict=True):
        for here, there in zip(mine, theirs, strict=False):
            worst = max(worst, _gap(here, there), _gap(there, here))
            if max(here, key=here.__getitem__) != max(there, key=there.__getitem__):
                break
    return worst


def _gap(here: dict[str, float], there: dict[str, float]) -> float:
    least = min(there.values())
    return max(
        abs(value - there[token]) if token in there else value - least
        for token, value in here.items()
    )


def read_prompts(door: Door, model: str) -> list[Reading]:
    """Return the log-probability of each token of the probe texts; raises NoPromptLogprobs."""
    if door.fields(model):  # a model that is told by a field of chats: the other way knows it
        raise NoPromptLogprobs(door.base_url, model, "is asked through chats")
    scored = prompt_logprobs(door.base_url, model, list(TEXTS), door.api_key)
    return [
        [{str(i): value} for i, value in enumerate(text.logprobs) if value is not None]
        for text in scored
    ]


def read_answers(door: Door, model: str) -> list[Reading]:
    """Return the likeliest tokens at each place of short answers; raises NoPromptLogprobs."""
    return [
        _positions(door, model, _ask(door, model, question, logprobs=True, top_logprobs=TOP))
        for question in QUESTIONS
    ]


def greedy_texts(door: Door, model: str) -> list[str]:
    """Return the model's greedy answers to the probe questions."""
    answers = [_ask(door, model, question, max_tokens=24) for question in QUESTIONS]
    return [str(answer.get("message", {}).get("content")) for answer in answers]


def _ask(door: Door, model: str, question: str, **options: Any) -> dict[str, Any]:
    """Return the first choice of a greedy answer."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        **{"temperature": 0, "seed": 1, "max_tokens": ANSWER_TOKENS},
        **door.exact,
        **door.fields(model),
        **options,
    }
    url = f"{door.base_url.rstrip('/')}/chat/completions"
    try:
        choice = send("POST", url, door.api_key, body, TIMEOUT_S).json()["choices"][0]
    except EngineRefused as error:
        if "logprobs" in options and error.status in (400, 422, 501):
            raise NoPromptLogprobs(door.base_url, model, f"refuses logprobs: {error}") from error
        raise
    except (ValueError, LookupError, TypeError) as error:
        raise EngineUnavailable(url, "answers something else than a chat completion") from error
    return choice if isinstance(choice, dict) else {}


def _positions(door: Door, model: str, choice: dict[str, Any]) -> Reading:
    try:
        places = choice["logprobs"]["content"]
        found = [
            {str(top["token"]): float(top["logprob"]) for top in place["top_logprobs"]}
            for place in places
        ]
    except (LookupError, TypeError, ValueError) as error:
        raise NoPromptLogprobs(door.base_url, model, "tells no logprobs of answers") from error
    if not found or not all(found):
        raise NoPromptLogprobs(door.base_url, model, "tells no logprobs of answers")
    return found
