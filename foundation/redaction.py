"""Takes secrets out of what a job says: the ground floor's own small share of scrubbing.

`collector.scrub` knows far more, and stands higher. Here are the secrets that this process itself
holds (settings, environment) and the shapes in which libraries print one into an error.
"""

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from pydantic import SecretStr

from foundation.settings import get_settings

HIDDEN: Final = "***"

_SHORTEST: Final = 8
"""Characters of the shortest value that is hidden wherever it stands: `dev` would hide words."""

# None begins with a run of any characters: on a long text of hyphens that would take minutes, and
# would hold up every thread of the process.
_PASSWORD = re.compile(r"(://[^\s:/@]*:)[^\s/]+@")
_BEARER = re.compile(r"\b((?i:bearer)\s+|(?i:basic)\s+(?=[\w.~+/-]*[A-Z\d=]))[\w.~+/=-]{8,}")
"""What follows `basic` in prose is a word of small letters."""
_NAMED = re.compile(
    r"(?i)(api[_-]?key|secret|password|passwd|token)(\"?'?\s*[=:]\s*\"?'?)"
    r"(?=[^\s\"',;&]*[^\s\"',;&\d.])[^\s\"',;&]{8,}"
)
"""`api_key=…`, `"password": "…"`; a number, such as a count of tokens, is none."""
_SHAPED = re.compile(r"\b(sk-|fw_|hf_|gh[pousr]_|xox[abprs]-|AKIA|glpat-)[\w-]{12,}")
_HOLDS_ONE = re.compile(r"(?i)(api_?key|secret|password|passwd|token|credential)s?$")


def redact(text: str) -> str:
    """Return `text` without secrets, and such that PostgreSQL stores it: no NUL, no half pairs."""
    for secret in _secrets():
        text = text.replace(secret, HIDDEN)
    text = _PASSWORD.sub(rf"\1{HIDDEN}@", text)
    text = _BEARER.sub(rf"\1{HIDDEN}", text)
    text = _NAMED.sub(rf"\1\2{HIDDEN}", text)
    text = _SHAPED.sub(rf"\1{HIDDEN}", text)
    return text.replace("\x00", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()


def _secrets() -> list[str]:
    """Return the secrets of this process, longest first: one may be the start of another."""
    known = {secret for secret in [*_of_settings(), *_of_environment()] if len(secret) >= _SHORTEST}
    return sorted(known, key=lambda secret: (-len(secret), secret))


def _of_settings() -> Iterator[str]:
    settings = get_settings()
    for value in vars(settings).values():
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
    for upstream in settings.upstreams.values():
        if isinstance(key := upstream.get("api_key"), str):
            yield key


def _of_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        if _holds_one(name) and not value.isdecimal():
            yield value


@lru_cache(maxsize=4096)
def _holds_one(name: str) -> bool:
    """Say whether a variable of this name holds a secret; asked for each line of the log."""
    return _HOLDS_ONE.search(name) is not None
