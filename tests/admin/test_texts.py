"""Texts as safe HTML: nothing that is written can leave its place, hang the page, or be lost."""

import html
import re
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from admin import colours, texts
from admin.colours import highlight, language_of
from admin.differences import side_by_side
from admin.rendering import FOLDER
from admin.texts import Block, Shown

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "script in a fence": "```html\n<script>alert(1)</script>\n```",
    "script in an info string": "```<script>alert(1)</script>\nx\n```",
    "closing pre": "```\n</pre></code></div><img src=x onerror=alert(1)>\n```",
    "nested fences": "````md\n```js\n<b>\n```\n````\nafter <i>",
    "unterminated fence": "```python\nprint('<b>')\n",
    "attribute": "\" onmouseover=alert(1) x='",
    "template": "{{7*7}} {% raw %} ${7*7}",
    "entities": "&lt;script&gt; &amp; &#60;",
    "python string": "```python\nx = '</span><script>alert(1)</script>'\n```",
    "json": '{"</script><script>": "<img src=x onerror=alert(1)>"}',
    "diff": "diff --git a b\n+<script>alert(1)</script>\n-</pre>",
    "markdown link": "[x](javascript:alert(1)) <javascript:alert(1)>",
    "null and escape": "\x00\x1b[31mred\x1b[0m",
    "direction": "```c\n/* \u202e } \u2066if (admin)\u2069 \u2066 */\n```",
}
OURS = re.compile(r"</?(?:span|del|ins)(?: class=\"t-[a-z0-9]+\")?>")


def inner(shown: Shown) -> str:
    return "\n".join(str(block.html) for block in (*shown.blocks, *shown.rest))


def read(markup: str) -> str:
    """Return what a reader sees of our HTML."""
    return html.unescape(OURS.sub("", markup))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_but_our_spans_is_markup(text: str) -> None:
    found = inner(texts.shown(text))
    assert "<" not in OURS.sub("", found)
    assert not re.search("[\x00-\x08\x1b\u202a-\u202e\u2066-\u2069]", found)


@pytest.mark.parametrize("language", sorted(colours._LANGUAGES))
def test_each_language_keeps_the_text_and_escapes_it(language: str) -> None:
    text = (
        '\n\n  <a href="x">&amp;</a> \'q\' """ /* */ # // `${x}` \\ \t\n\ndef f(): return 1  \n\n'
    )
    found = str(highlight(text, language))
    assert "<" not in OURS.sub("", found)
    assert read(found) == text


def test_prose_and_fences_are_told_apart_as_commonmark_does() -> None:
    found = texts.shown("Try:\n\n```py\nx = 1\n```\n\nor\n~~~\ny ``` z\n~~~\n")
    kinds = [(block.kind, block.label, read(str(block.html))) for block in found.blocks]
    assert kinds == [
        ("prose", "", "Try:"),
        ("code", "py", "x = 1"),
        ("prose", "", "or"),
        ("code", "", "y ``` z"),
    ]
    assert '<span class="t-' in found.blocks[1].html


def test_a_longer_fence_holds_a_shorter_one() -> None:
    (block,) = texts.shown("````\n```js\nx\n```\n````").blocks
    assert read(str(block.html)) == "```js\nx\n```"


def test_a_fence_without_end_says_so() -> None:
    (block,) = texts.shown("```python\nx = 1").blocks
    assert block.is_unclosed
    assert read(str(block.html)) == "x = 1"


def test_backticks_within_a_line_are_no_fence() -> None:
    (block,) = texts.shown("```x``` and text").blocks
    assert block.kind == "prose"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("def f(x):\n    return x + 1\n", "python"),
        ('{"a": [1, 2]}', "json"),
        ("diff --git a/x b/x\n@@ -1 +1 @@\n-a\n+b", "diff"),
        ("We import data from many places.\nimport taxes are high.", None),
        ("{not json", None),
        ("Plain words.", None),
        ("", None),
    ],
)
def test_a_whole_text_is_guessed(text: str, language: str | None) -> None:
    assert texts.guessed_language(text) == language


def test_a_named_language_wins_over_the_guess_but_not_over_a_fence() -> None:
    assert texts.shown("SELECT 1", "sql").blocks[0].kind == "code"
    assert texts.shown("Hm.\n```\nSELECT 1\n```", "sql").blocks[0].kind == "prose"


def test_names_of_languages_are_known_by_what_people_write() -> None:
    assert [language_of(name) for name in ("PY", "ts", "c++", "console", None, "nope")] == [
        *("python", "typescript", "cpp"),
        *(None, None, None),
    ]


def test_a_long_text_is_cut_at_a_line_and_nothing_is_lost() -> None:
    text = "\n".join(f"line {n} <b>" for n in range(3_000))
    found = texts.shown(text)
    shown_at_once = sum(len(read(str(block.html))) for block in found.blocks)
    assert shown_at_once <= texts.AT_ONCE
    assert "".join(read(str(block.html)) for block in (*found.blocks, *found.rest)) == text
    assert found.n_characters == len(text)


def test_a_fence_that_is_cut_goes_on_as_code() -> None:
    text = "```python\n" + "x = 1\n" * 3_000 + "```\nend"
    found = texts.shown(text)
    assert [block.kind for block in found.rest] == ["code", "prose"]
    assert read(str(found.rest[-1].html)) == "end"


def test_what_is_beyond_all_measure_is_counted() -> None:
    found = texts.shown("x" * 1_000_000)
    assert found.n_left_out == 1_000_000 - texts.IN_ALL
    assert len(inner(found)) == texts.IN_ALL + 1


@pytest.mark.parametrize(
    "text",
    [
        "```typescript\n" + "a." * 9_999,
        "```js\n" + '"\\' * 9_999,
        "```html\n" + "<!--" * 4_999,
        "```yaml\n" + "*" * 19_999,
        ("```js\n" + '"\\' * 500 + "\n```\n") * 60,
        "```\n" * 50_000,
        "`" * 200_000,
        " " * 199_999 + "x",
    ],
    ids=["typescript", "javascript", "html", "yaml", "many", "fences", "ticks", "blanks"],
)
def test_what_would_take_seconds_is_shown_all_the_same(text: str) -> None:
    found = texts.shown(text)
    assert "<" not in OURS.sub("", inner(found))
    assert inner(found).count("<span") <= colours.CHARACTERS
    assert len(found.blocks) <= texts.BLOCKS + 1


def test_what_a_stopped_lexer_left_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colours, "_BLOCK_S", 0.0)
    text = "x = 1\ny = '<never coloured before>'\n"
    found = str(highlight(text, "python"))
    assert read(found) == text
    assert "<" not in OURS.sub("", found)


def test_a_message_has_its_parts_in_order() -> None:
    found = texts.message(
        {
            "role": "user",
            "name": "<b>",
            "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "https://x.y/<z>.png"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                "and",
                {"type": "weird", "value": "<script>"},
                7,
            ],
        }
    )
    assert [block.kind for block in found.body.blocks] == [
        *("prose", "note", "note"),
        *("prose", "code", "code"),
    ]
    notes = [read(str(block.html)) for block in found.body.blocks if block.kind == "note"]
    assert notes == ["image at https://x.y/<z>.png", "image (image/png), 26 characters of data"]
    assert "<script" not in inner(found.body)


def test_tool_calls_are_readable_or_stand_as_written() -> None:
    found = texts.message(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "function": {"name": "run", "arguments": '{"b": [1], "a": "<i>"}'}},
                {"id": "2", "function": {"name": "run", "arguments": '{"cut": "of'}},
                {"function": {"name": "none", "arguments": ""}},
                {"function": "broken"},
                "nonsense",
            ],
        }
    )
    first, second, third, *others = found.calls
    assert first.arguments is not None
    assert second.arguments is not None
    assert read(str(first.arguments.html)) == '{\n  "b": [\n    1\n  ],\n  "a": "<i>"\n}'
    assert "<i>" not in first.arguments.html
    assert second.is_broken
    assert read(str(second.arguments.html)) == '{"cut": "of'
    assert third.arguments is None
    assert [call.name for call in others] == ["?", "?"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"role": None, "content": {"a": 1}},
        {"role": 7, "content": [None, [], {"type": None}], "tool_calls": "x"},
        {"role": "<b>", "content": 5, "function_call": {"name": None}},
    ],
    ids=["empty", "object", "odd parts", "odd types"],
)
def test_messages_of_any_shape_are_shown(given: dict[str, Any]) -> None:
    found = texts.message(given)
    assert found.speaker == "other"


def test_early_messages_and_long_system_prompts_are_folded() -> None:
    system = {"role": "system", "content": "You are careful. " * 60}
    turns = [{"role": "user", "content": f"turn {n}"} for n in range(9)]
    found = texts.conversation([system, *turns])
    assert [one.is_folded for one in found] == [True] * 4 + [False] * 6
    assert found[0].summary.startswith("You are careful.")
    assert found[1].summary == "turn 0"


def test_the_newest_message_is_coloured_before_the_budget_ends() -> None:
    long = {"role": "tool", "content": "```json\n" + "[1]," * 4_000 + "\n```"}
    newest = {"role": "user", "content": "```json\n[2]\n```"}
    first, second, last = texts.conversation([long, long, newest])
    assert "t-mi" in inner(last.body)
    assert "t-mi" in inner(second.body)
    assert "t-mi" not in inner(first.body)


def test_the_templates_show_it_all_and_escape_what_is_no_markup() -> None:
    environment = Environment(loader=FileSystemLoader(FOLDER / "templates"), autoescape=True)
    environment.filters["number"] = str
    macros = environment.get_template("_texts.html").module
    hostile = "<script>"
    shown = Shown(
        [Block("code", Markup("x"), label=hostile), Block("note", Markup("n"))],
        [Block("prose", Markup("more"))],
        9,
        3,
    )
    page = str(macros.text(shown))  # type: ignore[attr-defined]
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "Show all 9 characters" in page
    assert "3 more characters" in page
    diff = side_by_side("a\n<b>", "a\n<c>")
    table = str(macros.diff(diff, hostile, "after"))  # type: ignore[attr-defined]
    assert "<script" not in table
    assert "<b>" not in table


# ---- differences


def lines(before: str, after: str, **options: Any) -> list[tuple[str, str, str]]:
    return [
        (line.kind, str(line.before), str(line.after))
        for line in side_by_side(before, after, **options).lines
    ]


def test_changed_words_are_marked_within_their_line() -> None:
    assert lines("x\nreturn a + b\n", "x\nreturn a - b\nend") == [
        ("same", "x", "x"),
        ("changed", "return a <del>+</del> b", "return a <ins>-</ins> b"),
        ("came", "", "end"),
    ]


def test_lines_that_share_little_are_marked_whole() -> None:
    assert lines("alpha beta", "12345") == [
        ("changed", "<del>alpha beta</del>", "<ins>12345</ins>")
    ]


def test_equal_lines_far_from_a_change_are_counted() -> None:
    same = "\n".join(f"line {n}" for n in range(20))
    found = side_by_side(f"a\n{same}\nb", f"A\n{same}\nB", context=2)
    assert [line.kind for line in found.lines] == [
        *("changed", "same", "same", "skipped", "same", "same", "changed")
    ]
    assert next(line.n_skipped for line in found.lines if line.kind == "skipped") == 16
    assert (found.n_gone, found.n_came) == (2, 2)
    everything = side_by_side(f"a\n{same}", f"A\n{same}", context=None)
    assert [line.kind for line in everything.lines] == ["changed", *["same"] * 20]


def test_equal_texts_have_no_difference() -> None:
    assert side_by_side("a\nb", "a\nb").is_same
    assert side_by_side("", "").is_same
    assert not side_by_side("", "a").is_same


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_difference_escapes_and_reveals(text: str) -> None:
    found = "".join(before + after for _, before, after in lines(text, f"{text} changed <u>"))
    assert "<" not in OURS.sub("", found)
    assert "\u202e" not in found
    assert "\x1b" not in found


def test_line_numbers_are_those_of_each_side() -> None:
    found = side_by_side("a\nb\nc", "a\nc")
    assert [(line.before_number, line.after_number) for line in found.lines] == [
        (1, 1),
        (2, None),
        (3, 2),
    ]


def test_a_difference_of_long_texts_is_bounded() -> None:
    old = "\n".join("ab"[n % 2] for n in range(20_000))
    new = "\n".join("ab"[n % 3 == 0] for n in range(20_000))
    found = side_by_side(old, new)
    assert {line.kind for line in found.lines[:-1]} == {"changed"}
    assert sum("<del>" in line.before for line in found.lines) > 10_000
    cut = side_by_side("x" * 100_000, "x" * 100_000 + "y")
    assert cut.is_cut


# ---- colours that everybody can read


def _luminance(colour: str) -> float:
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _variables(css: str, *, dark: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for block in re.finditer(
        r"(@media \(prefers-color-scheme: dark\) \{\s*)?:root \{([^}]*)\}", css
    ):
        if not block[1] or dark:
            found |= dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6})", block[2]))
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_of_code_have_a_contrast_of_wcag_aa(dark: bool) -> None:
    css = (Path(FOLDER) / "static" / "admin.css").read_text()
    known = _variables(css, dark=dark)
    tokens = {name: colour for name, colour in known.items() if name.startswith("--t-")}
    assert len(tokens) == 7
    weak = {
        (name, ground): round(_contrast(colour, known[ground]), 2)
        for name, colour in tokens.items()
        for ground in ("--sunk", "--panel")
        if _contrast(colour, known[ground]) < 4.5
    }
    assert weak == {}
    marks = [("--gone-ink", "--gone"), ("--came-ink", "--came"), ("--ink", "--gone-word")]
    marks += [("--ink", "--came-word"), ("--ink", "--gone"), ("--ink", "--came")]
    marks += [("--gone-ink", "--sunk"), ("--came-ink", "--sunk")]
    assert [pair for pair in marks if _contrast(known[pair[0]], known[pair[1]]) < 4.5] == []
