"""Code in colour, by Pygments: escaped HTML with a class for each kind of token, no style.

Its expressions can take quadratic time on hostile text, so that only languages are coloured which
stop when told to, and only so many characters for so many milliseconds; the rest stays plain.
"""

import time
from functools import lru_cache
from typing import Any, Final

from markupsafe import Markup, escape
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES, Token

from admin.formats import reveal

CHARACTERS: Final = 20_000
"""Of one block of code; a longer one stays plain."""
_BLOCK_S: Final = 0.08
"""Processor time for one block."""

# Measured on 60 hostile repetitions of 20,000 characters each: a pass over one of these can be
# stopped between two tokens within 10 ms. Not so console, pycon, ini, make and powershell.
_LANGUAGES: Final = frozenset(
    "python pytb javascript typescript jsx tsx json bash sql html xml css scss yaml toml diff go "
    "rust java kotlin scala swift c cpp csharp ruby php lua r perl haskell elixir dart julia "
    "docker markdown graphql protobuf hcl nginx http".split()
)
_ALIASES: Final = {
    **{"py": "python", "python3": "python", "js": "javascript", "ts": "typescript", "sh": "bash"},
    **{"shell": "bash", "zsh": "bash", "node": "javascript", "yml": "yaml", "rs": "rust"},
    **{"c++": "cpp", "cs": "csharp", "c#": "csharp", "rb": "ruby", "patch": "diff", "kt": "kotlin"},
    **{"golang": "go", "dockerfile": "docker", "md": "markdown", "jsonc": "json", "tf": "hcl"},
    **{"terraform": "hcl", "proto": "protobuf", "svg": "xml", "postgresql": "sql", "hs": "haskell"},
}


def highlight(text: str, language: str | None) -> Markup:
    """Return code as escaped HTML with a `<span class="t-…">` around each coloured token."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    known = language_of(language)
    if known is None or len(text) > CHARACTERS:
        return escape(reveal(text))
    return _coloured(reveal(text), known)


def language_of(name: str | None) -> str | None:
    """Return the language that is coloured for a name such as `py`, or None."""
    wanted = (name or "").strip().lower()
    wanted = _ALIASES.get(wanted, wanted)
    return wanted if wanted in _LANGUAGES else None


@lru_cache(maxsize=256)
def _coloured(text: str, language: str) -> Markup:
    parts: list[str] = []
    done, stop_at = 0, time.thread_time() + _BLOCK_S
    for kind, value in _lexer(language).get_tokens(text):
        parts.append(_span(kind, value))
        done += len(value)
        if time.thread_time() > stop_at:
            parts.append(str(escape(text[done:])))
            break
    return Markup("".join(parts))


def _span(kind: Any, value: str) -> str:
    name = _class_of(kind)
    return f'<span class="t-{name}">{escape(value)}</span>' if name else str(escape(value))


@lru_cache(maxsize=512)
def _class_of(kind: Any) -> str:
    """Return the short name of a token, or of the nearest that has one; empty: not coloured."""
    while kind not in STANDARD_TYPES:
        kind = kind.parent
    is_plain = kind in Token.Text or kind in (Token, Token.Error, Token.Name, Token.Punctuation)
    return "" if is_plain else STANDARD_TYPES[kind]


@lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer:
    found: Lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    return found
