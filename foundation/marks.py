"""Strangers' texts in a prompt, set off by marks that they cannot forge, and JSON out of a reply.

What a judge is shown was written by others, and may speak to it. So each text stands between two
lines with a mark that hangs on a hash of all of them (nobody can write a text that holds its own
hash), and a reply counts only if it repeats the mark.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

MAX_CHARS: Final = 24_000
"""Of one text that a judge is shown; the middle of a longer one is left out."""


def key_of(*asked: str) -> str:
    """Return the hash under which the answer to a question of these parts is kept."""
    return hashlib.sha256("\0".join(asked).encode("utf-8", "replace")).hexdigest()


def mark_of(key: str) -> str:
    """Return the word that sets off the texts of the question `key`: 16 hexadecimal digits."""
    return hashlib.sha256(f"mark {key}".encode()).hexdigest()[:16]


def between(mark: str, name: str, shown: str) -> str:
    """Return a text, shortened to `MAX_CHARS`, between two lines that carry the mark."""
    return f"<<<{name} {mark}\n{shortened(shown)}\n{mark} {name}>>>"


def shortened(shown: str) -> str:
    """Return a text of at most about `MAX_CHARS`: of a longer one, beginning and end."""
    if len(shown) <= MAX_CHARS:
        return shown
    half = MAX_CHARS // 2
    return f"{shown[:half]}\n[{len(shown) - 2 * half} characters left out]\n{shown[-half:]}"


def json_objects(reply: str) -> Iterator[dict[str, Any]]:
    """Yield every JSON object that stands in a reply, in prose or in a fence."""
    decoder, place = json.JSONDecoder(), reply.find("{")
    while place >= 0:
        try:
            found, end = decoder.raw_decode(reply, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            if isinstance(found, dict):
                yield found
        place = reply.find("{", end)
