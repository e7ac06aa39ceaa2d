"""Chance by hash: what is drawn for a share follows from its id, here and in SQL alike.

Nobody can choose what is drawn, everybody can draw it again, and what was drawn stays drawn while
the data grows.
"""

from hashlib import sha256
from typing import Final

SAMPLE, SECOND, ORDER, PAIR = "review-sample", "review-second", "review-order", "review-pair"
"""What a draw is for; draws for different purposes are independent."""

_SPAN: Final = 2**32


def draw(purpose: str, identifier: object) -> float:
    """Return a number in [0, 1), the same for the same purpose and id always."""
    return int(sha256(f"{purpose}:{identifier}".encode()).hexdigest()[:8], 16) / _SPAN


def draw_in_sql(purpose: str, identifier: str) -> str:
    """Return the SQL expression of `draw` for an expression that gives the id as a text."""
    text = f"convert_to('{purpose}:' || {identifier}, 'UTF8')"
    return f"(('x' || left(encode(sha256({text}), 'hex'), 8))::bit(32)::bigint / {_SPAN}::float8)"
