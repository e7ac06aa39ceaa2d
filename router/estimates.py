"""What a call may take before it is made, and took when it has ended: tokens and their price.

An estimate is what a budget reserves, so it is meant to be too high rather than too low. What the
call took is read from the bytes of its answer, unparsed: the usage that a provider states in it.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from collector.record import usage_columns
from foundation.prices import cost_usd

BYTES_PER_TOKEN: Final = 3
"""Of a request in ASCII, its JSON included; English and code have about four."""
BYTES_PER_TOKEN_OTHERWISE: Final = 2
ANSWER_TOKENS: Final = 4096
"""Of an answer whose length the caller does not limit."""
MEDIA_TOKENS: Final = 2000
"""Of one image, sound or file within a request."""

MAX_MEDIA: Final = 1000
"""Of each way to say it; whatever more a request claims to have counts by its bytes."""

_MEDIA_MARKS: Final = (b";base64,", b'"data"')
"""What an encoded content follows: in a data URL, or as a member of its own."""
_ENCODED: Final = re.compile(rb'(?:\s*:\s*")?[A-Za-z0-9+/=]{200}')

_USAGE: Final = re.compile(rb'"usage"\s*:\s*(?=\{)')
_LONGEST_USAGE: Final = 4096
_EVENT: Final = b"data:"
ANSWER_BYTES_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Taking:
    """What a call took, or may take."""

    input_tokens: int
    output_tokens: int
    cost_usd: float
    """0 for a model without a price."""

    @property
    def tokens(self) -> int:
        """Of prompt and answer."""
        return self.input_tokens + self.output_tokens


def estimate(
    body: bytes,
    max_output_tokens: int | None,
    model: str,
    provider: str | None,
    n_answers: int = 1,
) -> Taking:
    """Return what a call may take, from its request as it came.

    Args:
        body: the request; encoded images and sounds in it count apart from its length.
        max_output_tokens: what the caller allows; None: `ANSWER_TOKENS`, 0 for embeddings.
        model: as its provider calls it.
        provider: who answers.
        n_answers: asked for at once (`n`).
    """
    asked = input_tokens(body)
    said = n_answers * (ANSWER_TOKENS if max_output_tokens is None else max_output_tokens)
    return Taking(asked, said, cost_usd(model, provider, asked, said) or 0.0)


def taken(answer: bytes, estimated: Taking, model: str, provider: str | None) -> Taking:
    """Return what a call took, from its answer as it came: whole, a stream, or a part of one.

    Where the provider does not say, the prompt counts as estimated, and the answer by the events of
    its stream, else by its length. An answer of no bytes took nothing.
    """
    if not answer:
        return Taking(0, 0, 0.0)
    asked, said, cached = _stated_usage(answer)
    if said is None:
        n_events = answer.count(_EVENT)
        said = n_events or (0 if asked is not None else len(answer) // ANSWER_BYTES_PER_TOKEN)
    asked = estimated.input_tokens if asked is None else asked
    return Taking(asked, said, cost_usd(model, provider, asked, said, cached) or 0.0)


def _stated_usage(answer: bytes) -> tuple[int | None, int | None, int]:
    """Return tokens of the prompt, of the answer, and of the prompt's cached part, where stated.

    The last statement counts; Anthropic's streams say the prompt in their first one only.
    """
    first = _USAGE.search(answer)
    if first is None:
        return None, None, 0
    last = first
    place = answer.rfind(b'"usage"')
    while place > first.start():
        found = _USAGE.match(answer, place)
        if found is not None:
            last = found
            break
        place = answer.rfind(b'"usage"', 0, place)
    told = _usage_at(answer, first.end())
    if last is not first:
        told |= _usage_at(answer, last.end())
    columns = usage_columns(told)
    return (
        columns["gen_ai_usage_input_tokens"],
        columns["gen_ai_usage_output_tokens"],
        columns["gen_ai_usage_cache_read_input_tokens"] or 0,
    )


def _usage_at(answer: bytes, start: int) -> dict[str, Any]:
    text = answer[start : start + _LONGEST_USAGE].decode("utf-8", "replace")
    try:
        said, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):  # the stream was cut in the middle of it
        return {}
    return {name: value for name, value in said.items() if value is not None}


def input_tokens(body: bytes) -> int:
    """Return how many tokens a request may have."""
    n_media, n_media_bytes = _media(body)
    ratio = BYTES_PER_TOKEN if body.isascii() else BYTES_PER_TOKEN_OTHERWISE
    return (len(body) - n_media_bytes) // ratio + n_media * MEDIA_TOKENS


def _media(body: bytes) -> tuple[int, int]:
    """Return how many encoded images, sounds and files a request has, and their bytes together."""
    n_media = n_bytes = 0
    for mark in _MEDIA_MARKS:
        place = body.find(mark)
        for _ in range(MAX_MEDIA):
            if place < 0:
                break
            start = place + len(mark)
            encoded = _ENCODED.match(body, start)
            if encoded is not None:
                start = max(encoded.end(), body.find(b'"', encoded.end()))
                n_media, n_bytes = n_media + 1, n_bytes + start - encoded.start()
            place = body.find(mark, start)
    return n_media, n_bytes
