"""What agents and people wrote, as safe HTML: messages, answers, tool calls, code in colour.

Every text is hostile. It is kept as written, cut where it is very long, its control characters are
revealed, and it is escaped before anything is put around it: only `Markup` made of escaped parts
leaves. `templates/_texts.html` shows what is made here; two texts beside each other are in
`admin.differences`.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from markupsafe import Markup, escape

from admin import colours
from admin.colours import highlight, language_of
from admin.formats import pretty, reveal
from foundation.chat import Message

AT_ONCE: Final = 12_000
"""Characters of a text that are shown at once; the others wait behind "show all"."""
IN_ALL: Final = 200_000
"""Characters beyond which a text is cut for good; a longer answer becomes no example anyway."""
BLOCKS: Final = 200
"""Fenced blocks of one text that are told apart."""
OPEN_MESSAGES: Final = 6
"""Newest messages of a conversation that are open; earlier ones are folded."""
LONG_SYSTEM: Final = 600
"""Characters of a system message from which on it is folded: it is the same in every card."""
SPEAKERS: Final = ("system", "developer", "user", "assistant", "tool")

_COLOURED_S: Final = 0.25
"""Processor time for the colours of one text or conversation; the rest stays plain."""

_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})([^\n]*)")
_COLUMNS: Final = re.compile(r"\S {3,}\S|\t|^ {2,}\S|^\|", re.MULTILINE)
"""What stands in columns, which a proportional font would move."""
_PYTHON: Final = re.compile(
    r"^(?:(?:async )?def \w+\(.*|class \w+.*:|from [\w.]+ import .+|import [\w.]+|@\w+.*)$",
    re.MULTILINE,
)
_DIFF: Final = re.compile(r"^(?:diff --git |@@ -\d|--- .+\n\+\+\+ )", re.MULTILINE)


@dataclass
class Budget:
    """How much may still be coloured of one text or conversation."""

    characters: int = colours.CHARACTERS
    seconds: float = _COLOURED_S

    def allows(self, n: int) -> bool:
        """Whether `n` more characters may be coloured."""
        return n <= self.characters and self.seconds > 0


@dataclass(frozen=True)
class Block:
    """A stretch of a text: prose, code, or a note in place of what cannot be shown."""

    kind: Literal["prose", "code", "note"]
    html: Markup
    label: str = ""
    """Of code, its language as the fence says it."""
    is_columns: bool = False
    """Of prose: it stands in columns, so that it needs a font of one width."""
    is_unclosed: bool = False
    """Of code: its fence never ends."""


@dataclass(frozen=True)
class Shown:
    """A text as a page shows it."""

    blocks: Sequence[Block] = ()
    rest: Sequence[Block] = ()
    """What waits behind "show all"; empty if nothing does."""
    n_characters: int = 0
    n_left_out: int = 0
    """Characters beyond `IN_ALL`, which are not shown at all."""


@dataclass(frozen=True)
class Call:
    """A tool call, readable."""

    name: str
    arguments: Block | None
    """None: it has none."""
    identifier: str = ""
    is_broken: bool = False
    """Whether the arguments are not the JSON that they should be; then they stand as written."""


@dataclass(frozen=True)
class ShownMessage:
    """One message of a conversation."""

    speaker: str
    """One of `SPEAKERS`, or `other`."""
    title: str
    """The role as written."""
    name: str
    body: Shown
    calls: Sequence[Call]
    is_folded: bool = False
    summary: str = ""
    """Its first words, of one that is folded."""


def shown(
    text: str, language: str | None = None, budget: Budget | None = None, at_once: int = AT_ONCE
) -> Shown:
    """Return a text as safe HTML, its code in colour.

    Args:
        text: as written.
        language: of the text as a whole, if it is code without a fence; None: guessed.
        budget: shared by the texts of a page; None: one of its own.
        at_once: characters before "show all".
    """
    budget = budget or Budget()
    kept = text[:IN_ALL]
    first, rest = _cut_at(_stretches(kept, language), at_once)
    plain = Budget(0, 0)
    return Shown(
        [_block(one, budget) for one in first],
        [_block(one, plain) for one in rest],
        len(text),
        len(text) - len(kept),
    )


def message(given: Message, budget: Budget | None = None, *, fold: bool = False) -> ShownMessage:
    """Return a message with its text, its parts and its tool calls."""
    budget = budget or Budget()
    role = str(given.get("role") or "?")
    body = _content(given.get("content"), budget)
    calls = given.get("tool_calls")
    found = [_call(one, budget) for one in calls[:50]] if isinstance(calls, list) else []
    if isinstance(given.get("function_call"), Mapping):  # the older form of one call
        found.append(_call({"function": given["function_call"]}, budget))
    is_long = role in ("system", "developer") and body.n_characters > LONG_SYSTEM
    return ShownMessage(
        role if role in SPEAKERS else "other",
        role[:80],
        str(given.get("name") or given.get("tool_call_id") or "")[:80],
        body,
        found,
        fold or is_long,
        _first_words(given) if fold or is_long else "",
    )


def conversation(messages: Sequence[Message]) -> list[ShownMessage]:
    """Return the messages of a prompt; the newest are coloured first, the early ones folded."""
    budget = Budget()
    last_open = max(0, len(messages) - OPEN_MESSAGES)
    found = [
        message(one, budget, fold=place < last_open)
        for place, one in reversed(list(enumerate(messages)))
    ]
    return found[::-1]


def guessed_language(text: str) -> str | None:
    """Return the language of a text that is code as a whole, cheaply guessed, or None."""
    head = text[:4_000]
    if head.lstrip()[:1] in ("{", "[") and _is_json(text):
        return "json"
    if _DIFF.search(head):
        return "diff"
    lines = [line for line in head.splitlines() if line.strip()]
    if len(_PYTHON.findall(head)) >= max(1, len(lines) // 12) and _reads_as_code(lines):
        return "python"
    return None


@dataclass(frozen=True)
class _Stretch:
    kind: Literal["prose", "code"]
    text: str
    label: str = ""
    language: str | None = None
    is_unclosed: bool = False


def _stretches(text: str, language: str | None) -> list[_Stretch]:
    found = list(_fenced(text))
    if len(found) == 1 and found[0].kind == "prose":
        known = language_of(language) if language else guessed_language(text)
        if known:
            return [_Stretch("code", text, "", known)]
    return found


def _fenced(text: str) -> Iterator[_Stretch]:
    """Yield prose and fenced code as CommonMark tells them apart, in one pass over the lines."""
    prose: list[str] = []
    code: list[str] = []
    fence = info = ""
    n = 0
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if fence:
            if found and found[1].startswith(fence) and not found[2].strip():
                yield _code(code, info)
                fence, code = "", []
                n += 1
            else:
                code.append(line)
        elif found and n < BLOCKS and not (found[1][0] == "`" and "`" in found[2]):
            yield from _prose(prose)
            prose = []
            fence, info = found[1], found[2].strip()
        else:
            prose.append(line)
    if fence:
        yield _code(code, info, is_unclosed=True)
    yield from _prose(prose)


def _code(lines: Sequence[str], info: str, *, is_unclosed: bool = False) -> _Stretch:
    name = info.split(maxsplit=1)[0] if info else ""
    return _Stretch("code", "\n".join(lines), info[:80], language_of(name), is_unclosed)


def _prose(lines: Sequence[str]) -> Iterator[_Stretch]:
    text = "\n".join(lines).strip("\n")
    if text:
        yield _Stretch("prose", text)


def _cut_at(
    stretches: Sequence[_Stretch], at_once: int
) -> tuple[Sequence[_Stretch], Sequence[_Stretch]]:
    """Return what is shown at once and what is not, cut at the end of a line where one is near."""
    left = at_once
    for place, one in enumerate(stretches):
        if len(one.text) > left:
            at = one.text.rfind("\n", max(0, left - 2_000), left) + 1 or left
            head = _part(one, 0, at)
            first = [*stretches[:place], *([head] if head.text else [])]
            return first, [_part(one, at, len(one.text)), *stretches[place + 1 :]]
        left -= len(one.text)
    return stretches, ()


def _part(one: _Stretch, start: int, end: int) -> _Stretch:
    text = one.text[start:end]
    return _Stretch(one.kind, text, one.label, one.language, one.is_unclosed and end > start)


def _block(one: _Stretch, budget: Budget) -> Block:
    if one.kind == "prose":
        is_columns = _COLUMNS.search(one.text[:20_000]) is not None
        return Block("prose", escape(reveal(one.text)), is_columns=is_columns)
    html = _within(budget, one.text, one.language)
    return Block("code", html, one.label, is_unclosed=one.is_unclosed)


def _within(budget: Budget, text: str, language: str | None) -> Markup:
    if language is None or not budget.allows(len(text)):
        return escape(reveal(text))
    started = time.thread_time()
    html = highlight(text, language)
    budget.characters -= len(text)
    budget.seconds -= time.thread_time() - started
    return html


def _content(content: Any, budget: Budget) -> Shown:
    if not isinstance(content, list):
        return shown("" if content is None else str(content), budget=budget)
    blocks: list[Block] = []
    rest: list[Block] = []
    n = 0
    left_out = 0
    for part in content[:BLOCKS]:
        one = _of_part(part, budget)
        # Once something is folded all that follows is, so that the order stays.
        (rest if rest else blocks).extend(one.blocks)
        rest.extend(one.rest)
        n += one.n_characters
        left_out += one.n_left_out
    if len(content) > BLOCKS:
        blocks.append(_note(f"{len(content) - BLOCKS:,} more parts"))
    return Shown(blocks, rest, n, left_out)


def _of_part(part: Any, budget: Budget) -> Shown:
    if isinstance(part, str):
        return shown(part, budget=budget)
    if isinstance(part, Mapping):
        if isinstance(part.get("text"), str):
            return shown(part["text"], budget=budget)
        kind = str(part.get("type") or "part")[:40]
        for name in ("image_url", "input_image", "image", "input_audio", "audio", "file"):
            if kind == name or name in part:
                return Shown([_note(_placeholder(kind, part.get(name)))])
    return Shown([Block("code", _within(budget, pretty(part, 20_000), "json"), "json")])


def _placeholder(kind: str, value: Any) -> str:
    """Return words in place of an image or a sound: nothing is fetched, where it is is shown."""
    if isinstance(value, Mapping):
        value = value.get("url") or value.get("data")
    address = str(value or "")
    noun = kind.removeprefix("input_").removesuffix("_url")
    if address.startswith(("http://", "https://")):
        return f"{noun} at {address[:200]}"
    kept = address.partition(";")[0].removeprefix("data:")[:40] if ";" in address[:80] else ""
    return f"{noun}{f' ({kept})' if kept else ''}, {len(address):,} characters of data"


def _note(text: str) -> Block:
    return Block("note", escape(reveal(text)))


def _call(given: Any, budget: Budget) -> Call:
    about = given if isinstance(given, Mapping) else {}
    function = about.get("function")
    if not isinstance(function, Mapping):
        function = about
    name = str(function.get("name") or "?")[:200]
    arguments = function.get("arguments", function.get("input"))
    identifier = str(about.get("id") or "")[:80]
    if arguments in (None, "", {}):
        return Call(name, None, identifier)
    if not isinstance(arguments, str):
        return Call(name, _json_block(pretty(arguments), budget), identifier)
    if not _is_json(arguments):
        return Call(name, _json_block(arguments, budget), identifier, is_broken=True)
    return Call(name, _json_block(pretty(json.loads(arguments)), budget), identifier)


def _json_block(text: str, budget: Budget) -> Block:
    kept = text[: colours.CHARACTERS]
    note = f"\n… cut, {len(text):,} characters" if len(text) > len(kept) else ""
    return Block("code", _within(budget, kept, "json") + note)


def _first_words(given: Message) -> str:
    content = given.get("content")
    if isinstance(content, list):
        content = next((p["text"] for p in content if isinstance(p, Mapping) and p.get("text")), "")
    line = " ".join(str(content or "")[:400].split())
    return f"{line[:139].rstrip()}…" if len(line) > 140 else line


def _is_json(text: str) -> bool:
    if len(text) > IN_ALL:
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _reads_as_code(lines: Sequence[str]) -> bool:
    """Whether most lines are indented or end or begin as code does: prose with an import is not."""
    ends = (":", ")", "(", ",", "]", "[", "}", "{", '"', "'")
    starts = ("#", "@", "import ", "from ", "return ", "assert ", "def ", "class ")
    code = sum(
        line.startswith((" ", "\t", *starts)) or line.rstrip().endswith(ends) or " = " in line
        for line in lines
    )
    return code >= 0.7 * len(lines)


@dataclass(frozen=True)
class Answer:
    """An answer as a page shows it: its text, and the tool calls of the whole message."""

    body: Shown
    calls: Sequence[Call] = ()


def answer(text: str, given: Message | None = None, language: str | None = None) -> Answer:
    """Return an answer; of `given`, the whole message, only the tool calls are added."""
    budget = Budget()
    body = shown(text, language, budget)
    return Answer(body, message({**given, "content": None}, budget).calls if given else ())
