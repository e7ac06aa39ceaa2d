"""Two texts beside each other: line by line, the changed words marked; bounded, as pure data."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, Literal

from markupsafe import Markup, escape

from admin.formats import reveal

DIFF_LINES: Final = 600
"""Lines of either side up to which a diff looks for what stayed in between: that is quadratic."""
_WORDS_OF_A_LINE: Final = 300
_COMPARED_LINES: Final = 200
"""Changed lines of a diff whose words are compared too."""
_WORD: Final = re.compile(r"\w+|\s+|[^\w\s]")

Kind = Literal["same", "changed", "gone", "came", "skipped"]


@dataclass(frozen=True)
class DiffLine:
    """One row of a diff: a line of either side, or how many equal ones are left out."""

    kind: Kind
    before_number: int | None = None
    before: Markup = Markup()
    after_number: int | None = None
    after: Markup = Markup()
    n_skipped: int = 0


@dataclass(frozen=True)
class Diff:
    """Two texts line by line; changed words are in `<del>` and `<ins>`."""

    lines: Sequence[DiffLine] = ()
    n_gone: int = 0
    n_came: int = 0
    is_cut: bool = False
    """Whether one of the texts goes on beyond what was compared."""

    @property
    def is_same(self) -> bool:
        """Whether the texts do not differ, as far as they were compared."""
        return self.n_gone == self.n_came == 0


@dataclass
class _Left:
    """How many changed lines may still have their words compared."""

    lines: int = _COMPARED_LINES


def side_by_side(
    before: str, after: str, context: int | None = 3, characters: int = 60_000
) -> Diff:
    """Return the difference of two texts, for `templates/_texts.html`.

    Args:
        before: the one text.
        after: the other.
        context: equal lines shown around each change; None: all of them.
        characters: of either text that are compared.
    """
    old, new = before[:characters].splitlines(), after[:characters].splitlines()
    left = _Left()
    lines: list[DiffLine] = []
    n_gone = n_came = 0
    for tag, i, i_end, j, j_end in _opcodes(old, new):
        if tag == "equal":
            lines += _equal(old, i, i_end, j, context, i > 0 or j > 0, i_end < len(old))
        else:
            n_gone, n_came = n_gone + i_end - i, n_came + j_end - j
            lines += _changed(old[i:i_end], new[j:j_end], i, j, left)
    is_cut = max(len(before), len(after)) > characters
    return Diff(lines, n_gone, n_came, is_cut)


def _opcodes(old: Sequence[str], new: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """Return what changed, as `SequenceMatcher.get_opcodes`; equal ends come off first."""
    shorter = min(len(old), len(new))
    head = next((n for n in range(shorter) if old[n] != new[n]), shorter)
    tail = next((n for n in range(shorter - head) if old[-1 - n] != new[-1 - n]), shorter - head)
    a, b = old[head : len(old) - tail], new[head : len(new) - tail]
    middle: Sequence[tuple[str, int, int, int, int]] = ()
    if max(len(a), len(b)) > DIFF_LINES:
        middle = [("replace", 0, len(a), 0, len(b))]
    elif a or b:
        middle = SequenceMatcher(None, a, b).get_opcodes()
    found = [(tag, i + head, i2 + head, j + head, j2 + head) for tag, i, i2, j, j2 in middle]
    before = [("equal", 0, head, 0, head)] if head else []
    ends = ("equal", len(old) - tail, len(old), len(new) - tail, len(new))
    return [*before, *found, *([ends] if tail else [])]


def _equal(
    old: Sequence[str], i: int, i_end: int, j: int, context: int | None, above: bool, below: bool
) -> Iterator[DiffLine]:
    n = i_end - i
    first = context if above and context is not None else 0
    last = context if below and context is not None else 0
    if context is None or n <= first + last + 1:
        first, last = n, 0
    for k in range(n):
        if k < first or k >= n - last:
            text = escape(reveal(old[i + k]))
            yield DiffLine("same", i + k + 1, text, j + k + 1, text)
        elif k == first:
            yield DiffLine("skipped", n_skipped=n - first - last)


def _changed(
    gone: Sequence[str], came: Sequence[str], i: int, j: int, left: _Left
) -> Iterator[DiffLine]:
    both = min(len(gone), len(came))
    for k in range(both):
        before, after = _words(gone[k], came[k], left)
        yield DiffLine("changed", i + k + 1, before, j + k + 1, after)
    for k in range(both, len(gone)):
        yield DiffLine("gone", i + k + 1, escape(reveal(gone[k])))
    for k in range(both, len(came)):
        yield DiffLine("came", after_number=j + k + 1, after=escape(reveal(came[k])))


def _words(before: str, after: str, left: _Left) -> tuple[Markup, Markup]:
    """Return two lines with marks around the words that differ; whole where they share little."""
    whole = _marked("del", before), _marked("ins", after)
    left.lines -= 1
    if left.lines < 0 or max(len(before), len(after)) > 4 * _WORDS_OF_A_LINE:
        return whole
    old, new = _WORD.findall(before), _WORD.findall(after)
    if max(len(old), len(new)) > _WORDS_OF_A_LINE:
        return whole
    matcher = SequenceMatcher(None, old, new)
    if matcher.real_quick_ratio() < 0.3 or matcher.ratio() < 0.3:
        return whole
    gone, came = [], []
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        a, b = "".join(old[i:i_end]), "".join(new[j:j_end])
        gone.append(escape(reveal(a)) if tag == "equal" else _marked("del", a))
        came.append(escape(reveal(b)) if tag == "equal" else _marked("ins", b))
    return Markup().join(gone), Markup().join(came)


def _marked(tag: Literal["del", "ins"], text: str) -> Markup:
    return Markup(f"<{tag}>{escape(reveal(text))}</{tag}>") if text else Markup()
