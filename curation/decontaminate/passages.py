"""What of a protected text is searched for: its statement, freed of what its whole suite repeats.

"Answer with the whole function in one code block" is in every task of a suite and in thousands of
honest prompts. A line, or a run of words, that more than `FEW` and more than `COMMON_SHARE` of the
tasks of one list hold is their wrapping, and no evidence. Commonness is counted within one list, so
that what one list blocks does not depend on which others are registered.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

from curation.decontaminate.reading import Reading, read, spaced, words_of

T = TypeVar("T", bound=Hashable)

FEW: Final = 5
"""Tasks of one list that may be the same task in other words (languages, versions)."""
COMMON_SHARE: Final = 0.05
_LEAST_STATEMENT: Final = 4
"""Words; a task with a shorter statement is known by all of its words."""


@dataclass(frozen=True, slots=True)
class ProtectedItem:
    """A protected text as it is searched for."""

    id: UUID
    source: str
    item_id: str
    prompt: str
    solution: str
    keys: tuple[str, ...]

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self.prompt}\n{self.solution}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A statement to be found again, and what else its task is known by."""

    owner: int
    """Index of its item."""
    source: str
    words: tuple[str, ...]
    names: frozenset[str]
    """Names of what it defines or calls, as written, but for those common in its list."""
    examples: frozenset[str]
    is_task: bool
    """Whether it is what is asked; the reference answer otherwise."""


def passages_of(items: Sequence[ProtectedItem]) -> list[Passage]:
    """Return the passages of the items: of the prompt, and of a reference in prose."""
    by_source: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        by_source.setdefault(item.source, []).append(index)
    found = []
    for indexes in by_source.values():
        readings = [read(items[index].prompt) for index in indexes]
        wrapping = common(reading.lines for reading in readings)
        usual = common(reading.names for reading in readings)
        for index, reading in zip(indexes, readings, strict=True):
            words = _own_words(items[index].prompt, reading, wrapping)
            source = items[index].source
            found.append(_passage(index, source, words, reading, usual, is_task=True))
            answer = read(items[index].solution)
            if answer.statement:
                words = answer.statement
                found.append(_passage(index, source, words, answer, usual, is_task=False))
    return found


def common(groups: Iterable[Iterable[T]]) -> frozenset[T]:
    """Return the entries that so many different groups hold that they tell none of them apart."""
    distinct = {frozenset(group) for group in groups}
    counts = Counter(entry for group in distinct for entry in group)
    limit = max(FEW, COMMON_SHARE * len(distinct))
    return frozenset(entry for entry, count in counts.items() if count > limit)


def _own_words(
    prompt: str, reading: Reading, wrapping: frozenset[tuple[str, ...]]
) -> tuple[str, ...]:
    words = tuple(word for line in reading.lines if line not in wrapping for word in line)
    return words if len(words) >= _LEAST_STATEMENT else tuple(words_of(spaced(prompt)))


def _passage(
    owner: int,
    source: str,
    words: tuple[str, ...],
    reading: Reading,
    usual: frozenset[str],
    *,
    is_task: bool,
) -> Passage:
    return Passage(owner, source, words, reading.names - usual, reading.examples, is_task)
