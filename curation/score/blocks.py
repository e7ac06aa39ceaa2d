"""The code of an answer: its blocks, their language, and whether each is well formed.

Parsed once here; form and style read the same tree. Python is parsed, JSON and TOML are read, of
languages with brackets only the brackets are counted. What cannot be checked is not a fault.
"""

import ast
import json
import re
import textwrap
import tomllib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from curation.language import code_language
from curation.score.tree import Function, Tree, walked

PYTHON: Final = "python"
_ALIASES: Final = {
    **{
        "py": PYTHON,
        "python3": PYTHON,
        "pycon": "console",
        "js": "javascript",
        "jsx": "javascript",
    },
    **{"ts": "typescript", "tsx": "typescript", "c++": "cpp", "cc": "cpp", "golang": "go"},
    **{"rs": "rust", "cs": "csharp", "c#": "csharp", "sh": "bash", "shell": "bash", "kt": "kotlin"},
}
BRACKETED: Final = frozenset(
    ("c", "cpp", "csharp", "css", "go", "java", "javascript", "kotlin", "php", "rust", "scala")
) | {"swift", "typescript"}

_FENCE = re.compile(r"^[ \t]*```([\w+#-]*+)[^\n]*+\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_STARTS_LIKE_CODE = re.compile(r"(?:@\w|def |async def |class |import |from [\w.]+ import )")
_PYTHON_LINE = re.compile(
    r"^[ \t]*(?:(?:async )?def \w+\(.*\).*:|class \w+(?:\(.*\))?:|from [\w.]+ import [\w*(, ]+)"
    r"[ \t]*(?:#.*)?$|^[ \t]*def \w+\(.*\):[ \t]*\S",
    re.MULTILINE,
)
_STRINGS_AND_COMMENTS = re.compile(
    r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`", re.DOTALL
)
_CLOSES: Final = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of code in an answer."""

    language: str | None
    text: str
    well_formed: bool | None
    """None: of a language, or a piece, that is not checked here."""
    tree: Tree | None = None
    """The syntax tree of well formed Python."""
    is_body: bool = False
    """Python that is the inside of a function: the completion of a given head."""
    is_fenced: bool = True

    @property
    def functions(self) -> list[Function]:
        """Its functions, outer ones first; of a body, the one that was put around it too."""
        return self.tree.functions if self.tree else []


def read_blocks(answer: str) -> tuple[Block, ...]:
    """Return the fenced blocks of an answer, or the whole of it where it is code itself.

    An unfenced answer is Python if it starts like code and has a line that only Python has (Ruby,
    Java, Kotlin and TypeScript begin alike), or if it is an indented body that parses; otherwise
    what `curation.language` takes it for.
    """
    fenced = _FENCE.findall(answer)
    if fenced:
        return tuple(_block(_language(tag), code) for tag, code in fenced)
    if "```" in answer or not answer.strip():
        return ()
    return _whole(answer)


def has_valid_python(answer: str) -> bool:
    """Return false only if the answer is clearly Python and does not parse."""
    return not any(is_broken_python(block) for block in read_blocks(answer))


def is_broken_python(block: Block) -> bool:
    """Whether a block is clearly Python and does not parse."""
    return block.language == PYTHON and block.well_formed is False


def _whole(answer: str) -> tuple[Block, ...]:
    if _STARTS_LIKE_CODE.match(answer.lstrip()) and _PYTHON_LINE.search(answer):
        return (_block(PYTHON, answer, is_fenced=False),)
    if answer[:1] in " \t":
        body = _python(answer, is_fenced=False)
        if body.tree is not None and _does_something(body.tree):
            return (body,)
    language = code_language(answer)
    return () if language is None else (_block(language, answer, is_fenced=False),)


def _language(tag: str) -> str | None:
    return _ALIASES.get(tag.lower(), tag.lower()) or None


def _block(language: str | None, text: str, is_fenced: bool = True) -> Block:
    if language == PYTHON:
        return _python(text, is_fenced)
    check = _CHECKS.get(language or "")
    return Block(language, text, check(text) if check else None, is_fenced=is_fenced)


def _python(text: str, is_fenced: bool) -> Block:
    """Return a block of Python, which may be indented, or the body of a function."""
    tree = _parsed(text.strip()) or _parsed(textwrap.dedent(text))
    if tree is not None and not _returns_outside(tree):
        return Block(PYTHON, text, True, walked(tree), is_fenced=is_fenced)
    body = _parsed("def _():\n" + textwrap.indent(textwrap.dedent(text), "    "))
    if body is None:
        body = _parsed("def _():\n" + text)
    if body is None:
        return Block(PYTHON, text, False, is_fenced=is_fenced)
    return Block(PYTHON, text, True, walked(body), True, is_fenced)


def _returns_outside(tree: ast.Module) -> bool:
    return any(isinstance(statement, ast.Return) for statement in tree.body)


def _does_something(tree: Tree) -> bool:
    """Whether there is more than expressions: single words of prose are expressions too."""
    return any(kind in tree.by_kind for kind in (ast.Return, ast.Assign, ast.For, ast.If))


def _parsed(code: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in answers are not our warnings
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def is_json(text: str) -> bool:
    """Return whether a text is JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _closes_brackets(text: str) -> bool:
    open_brackets: list[str] = []
    for mark in re.findall(r"[()\[\]{}]", _STRINGS_AND_COMMENTS.sub("", text)):
        if mark not in _CLOSES:
            open_brackets.append(mark)
        elif not open_brackets or open_brackets.pop() != _CLOSES[mark]:
            return False
    return not open_brackets


_CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "json": is_json,
    "toml": _is_toml,
    **dict.fromkeys(BRACKETED, _closes_brackets),
}
