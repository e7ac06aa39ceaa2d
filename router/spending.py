"""What a call took, told from the bytes of its answer, so that its budgets can be settled at once.

The record's own counts are made later, by whoever builds it; these need not wait for that.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.record import usage_columns
from foundation.prices import cost_usd
from router.roster import Target

_USAGE = b'"usage"'
_EVENT = b"data:"
_BYTES_PER_TOKEN = 4
_DECODER = json.JSONDecoder()
_LONGEST_USAGE = 4096


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens of a call and what they cost; None where nobody can tell."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None


def spent_on(
    target: Target | None, pieces: Sequence[bytes], *, is_stream: bool, input_tokens: int
) -> Spent:
    """Return what an answer took.

    Args:
        target: who answered.
        pieces: of the answer, whole or as far as it came.
        is_stream: whether they are events; where none states its usage, each counts as a token.
        input_tokens: of the prompt as estimated, for an answer that states none.
    """
    body = b"".join(pieces)
    usage = {**_usage_at(body, body.find(_USAGE)), **_usage_at(body, body.rfind(_USAGE))}
    columns = usage_columns(usage)
    asked = columns["gen_ai_usage_input_tokens"]
    said = columns["gen_ai_usage_output_tokens"]
    if said is None:
        said = body.count(_EVENT) if is_stream else len(body) // _BYTES_PER_TOKEN
    asked = input_tokens if asked is None else asked
    if target is None:
        return Spent(asked, said)
    provider = target.upstream.name if target.upstream else None
    cached = columns["gen_ai_usage_cache_read_input_tokens"] or 0
    return Spent(asked, said, cost_usd(target.model, provider, asked, said, cached) or 0.0)


def _usage_at(body: bytes, start: int) -> Mapping[str, Any]:
    """Return the `usage` object whose name begins at `start`, without what it leaves open."""
    if start < 0:
        return {}
    text = body[start + len(_USAGE) : start + len(_USAGE) + _LONGEST_USAGE]
    value = text.decode("utf-8", "replace").lstrip().removeprefix(":").lstrip()
    try:
        found, _ = _DECODER.raw_decode(value)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: count for name, count in found.items() if count is not None}
