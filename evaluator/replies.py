"""Reading what a model server replies: no more than a limit, invalid text repaired, long ones cut.

A reply is as hostile as the code in it. One that does not end would fill the memory; one whose
bytes are no UTF-8 is an answer all the same. Both arrived, so neither is a lost answer: a model
must not leave a comparison by saying too much.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from foundation.chat import answer_texts

ANSWER_CHARS = 1024 * 1024
"""Characters of one answer; a longer one counts as wrong."""
KEPT_CHARS = 20_000
"""Characters that are stored of an answer that is too long."""
REPLY_BYTES = 4 * 1024 * 1024
"""Bytes read of a reply, for each answer that it should hold."""

_MOST_TOKENS = 10**9
"""A count beyond this, or one that is no number, is no count."""
_CONTENT = re.compile(rf'"(?:content|text)"\s*:\s*"((?:[^"\\]|\\.){{0,{KEPT_CHARS}}})', re.DOTALL)


@dataclass(frozen=True)
class Said:
    """One answer of a reply.

    Attributes:
        text: what was said, cut if it is too long.
        n_chars: how long it was, at least; None unless it was cut.
        finish: why the model stopped (`stop`, `length`), if the reply says so.
    """

    text: str
    n_chars: int | None = None
    finish: str | None = None


@dataclass(frozen=True)
class Reply:
    """A reply as read: its answers, its token counts, and whether its bytes had to be repaired."""

    said: list[Said]
    input_tokens: int | None = None
    output_tokens: int | None = None
    was_repaired: bool = False


class UnreadableReply(ValueError):
    """A reply without answers; its text says why."""


def read_reply(chunks: Iterable[bytes], n: int) -> Reply:
    """Read a chat completion of `n` answers from the bytes of a response.

    Reading stops at `n` times `REPLY_BYTES`; what was said until then is found in the torso, and
    each answer of it counts as too long.

    Raises:
        UnreadableReply: it is no JSON object, or one without choices.
    """
    raw, limit = bytearray(), n * REPLY_BYTES
    for chunk in chunks:
        raw += chunk
        if len(raw) > limit:
            return Reply(_torso(bytes(raw[:limit]), n, len(raw)))
    text, was_repaired = decoded(bytes(raw))
    try:
        body = json.loads(text, parse_constant=lambda _: None)  # NaN is no JSON, yet is sent
    except (ValueError, RecursionError) as error:  # a number may have too many digits, too
        raise UnreadableReply(f"{type(error).__name__}: {error}") from error
    return reply_of(body, n, was_repaired)


def reply_of(body: Any, n: int, was_repaired: bool = False) -> Reply:
    """Return the answers of a parsed chat completion; raises as `read_reply`."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not all(map(_is_choice, choices)):
        raise UnreadableReply("the response has no choices")
    finishes = [choice.get("finish_reason") for choice in choices]
    said = [
        Said(*cut(text), finish if isinstance(finish, str) else None)
        for text, finish in zip(answer_texts(body)[:n], finishes, strict=False)
    ]
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Reply(
        said,
        _tokens(counts.get("prompt_tokens")),
        _tokens(counts.get("completion_tokens")),
        was_repaired,
    )


def _is_choice(choice: Any) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict | None)


def _tokens(count: Any) -> int | None:
    """Return a count of tokens; None where the server says something else, such as NaN."""
    is_count = isinstance(count, int | float) and not isinstance(count, bool)
    return int(count) if is_count and 0 <= count <= _MOST_TOKENS else None


def cut(text: str) -> tuple[str, int | None]:
    """Return a text and None, or its beginning and its length where it is too long."""
    if len(text) <= ANSWER_CHARS:
        return text, None
    return text[:KEPT_CHARS], len(text)


def decoded(raw: bytes) -> tuple[str, bool]:
    """Return bytes as text, and whether some of them were no UTF-8 and had to be replaced."""
    try:
        return raw.decode(), False
    except UnicodeDecodeError:
        return raw.decode(errors="replace"), True


def _torso(raw: bytes, n: int, n_bytes: int) -> list[Said]:
    """Return `n` answers from the beginning of a reply that was too long to read."""
    found = _CONTENT.findall(raw.decode(errors="replace"))[:n]
    texts = [_unescaped(text[: 6 * KEPT_CHARS])[:KEPT_CHARS] for text in found]
    return [Said(text, n_bytes) for text in texts + [""] * (n - len(texts))]


def _unescaped(text: str) -> str:
    """Return the value of the beginning of a JSON string; an escape that is cut off is left out."""
    whole = re.sub(r"\\(u[0-9a-fA-F]{0,3})?$", "", text)
    try:
        return str(json.loads(f'"{whole}"', strict=False))
    except json.JSONDecodeError:
        return whole
