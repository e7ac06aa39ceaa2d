"""What a call may take before it is made: tokens of its prompt and answer, and their price.

An estimate is what a budget reserves, so it is meant to be too high rather than too low; what the
call really took replaces it when it has ended.
"""

import re
from dataclasses import dataclass
from typing import Final

from foundation.prices import cost_usd

BYTES_PER_TOKEN: Final = 3
"""Of a request in ASCII, its JSON included; English and code have about four."""
BYTES_PER_TOKEN_OTHERWISE: Final = 2
ANSWER_TOKENS: Final = 4096
"""Of an answer whose length the caller does not limit."""
MEDIA_TOKENS: Final = 2000
"""Of one image, sound or file within a request."""

_MEDIA: Final = re.compile(rb'"(?:data:[^",]{1,200},)?[A-Za-z0-9+/=]{1000,}+"')
_MEDIA_MARKS: Final = (b"base64", b"input_audio")


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a call may take."""

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
) -> Estimate:
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
    return Estimate(asked, said, cost_usd(model, provider, asked, said) or 0.0)


def input_tokens(body: bytes) -> int:
    """Return how many tokens a request may have."""
    n_media = 0
    if any(mark in body for mark in _MEDIA_MARKS):
        body, n_media = _MEDIA.subn(b"", body)
    ratio = BYTES_PER_TOKEN if body.isascii() else BYTES_PER_TOKEN_OTHERWISE
    return len(body) // ratio + n_media * MEDIA_TOKENS
