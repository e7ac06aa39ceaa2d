"""Find everything to remove from a text: cheap tests of the whole first, rules where they may hold.

The text is read once as bytes, one per character, so that literals, runs of token characters and
rows of digits are found at the speed of `memchr`. A rule's expression is tried only at the literals
and runs found, within a bounded stretch, so that time grows with the text's length and hostile
text costs no more.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from collector.scrub import checks as checks
from collector.scrub.assignments import assigned_at
from collector.scrub.rules import (
    ASSIGNMENT,
    DOTTED_RULES,
    EMAIL,
    IBAN,
    IPV4,
    IPV6,
    LONG_RULES,
    NUMBER_RULES,
    PHONE_RULES,
    RULES,
    SECRETS,
    TOKEN_RULES,
    WORD_RULES,
    Rule,
)


class ScrubFailed(Exception):
    """A rule or a check raised: what it was given is not known to be clean and must not pass."""

    def __init__(self, rule: str, cause: Exception) -> None:
        self.rule = rule
        super().__init__(
            f"scrubbing: the rule {rule} raised {type(cause).__name__}, expected an answer. "
            "The text is held back; repair the rule."
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to remove: its kind and its place, `[start, end)` in characters."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one rule found; the rule with the lowest `rank` names what overlaps."""

    start: int
    end: int
    rank: int
    kind: str


_RANKS = {id(rule): rank for rank, rule in enumerate(RULES)}
_FIRST_PERSONAL = len(SECRETS)
compiled = lru_cache(maxsize=None)(re.compile)


def _table(inside: str, otherwise: str = " ", mark: str = "a") -> bytes:
    """Return a table for `bytes.translate` that marks the characters of `inside`."""
    return bytes(ord(mark if chr(code) in inside else otherwise) for code in range(256))


_DIGITS = "0123456789"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RUNS = _table(_DIGITS + _LETTERS + "_-")
_RUN = b"a" * 12
_ROWS = _table(_DIGITS, mark="0")
_ROW = b"0" * 7
_ROW_SEPARATORS = b" ().-/\t"
_DOTS = bytes(code if chr(code) in "." else mark for code, mark in enumerate(_ROWS))
_DOTTED = b"0.0"
_HEXADECIMAL = b"abcdefABCDEF"
_LETTERS_ONLY = frozenset((b"AB", b"AC", b"AK", b"AP", b"AS", b"SK"))
"""First letters of tokens that may do without a digit."""
_NO_NAME = 24
"""A run of so many characters is looked at without a digit in it too."""


def _by_start(rules: Sequence[Rule]) -> dict[bytes, tuple[Rule, ...]]:
    """Return the rules by the first two characters of their tokens."""
    found: dict[bytes, list[Rule]] = {}
    for rule in rules:
        for head in dict.fromkeys(word[:2].encode() for word in rule.keywords):
            found.setdefault(head, []).append(rule)
    return {head: tuple(rules) for head, rules in found.items()}


_TOKENS_BY_START = _by_start(TOKEN_RULES)
_DOTTED_STARTS = frozenset(b"MNOp")

Words = tuple[tuple[bytes, tuple[tuple[bytes, Rule], ...]], ...]


def _by_neighbour(rules: Sequence[Rule]) -> Words:
    """Return each rule's keywords under the literal that they need beside them."""
    found: dict[bytes, list[tuple[bytes, Rule]]] = {}
    for rule in rules:
        words = found.setdefault(rule.beside.encode(), [])
        words += [(word.encode(), rule) for word in rule.keywords]
    return tuple((beside, tuple(words)) for beside, words in found.items())


_LONG_WORDS = re.compile(
    b"|".join(re.escape(word.encode()) for rule in LONG_RULES for word in rule.keywords)
)
_LONG_RULES_OF: dict[bytes, list[Rule]] = {}
for _rule in LONG_RULES:
    for _word in _rule.keywords:
        _LONG_RULES_OF.setdefault(_word.encode(), []).append(_rule)
_LONG_BEFORE, _LONG_AFTER = 72, 8
_WORDS = _by_neighbour(WORD_RULES)
_ASSIGNED_WORDS = tuple(word.encode() for word in ASSIGNMENT.keywords)


def candidates_in(text: str) -> list[Candidate]:
    """Return what the built-in rules find in `text`, in no order, overlaps included.

    Raises:
        ScrubFailed: a rule's check raised.
    """
    if len(text) < _SHORTEST or (len(text) <= _LONGEST_ID and _ID.fullmatch(text)):
        return []
    octets = text.encode("latin-1", "replace")
    lowered = octets.lower()
    candidates = [
        *_near(_WORDS, text, lowered),
        *_assignments(text, lowered),
        *_tokens(text, octets, lowered),
    ]
    if b"@" in octets:
        candidates += _mail(text, octets)
    rows = octets.translate(_ROWS, _ROW_SEPARATORS)
    if _ROW in rows:
        candidates += _numbers(text)
    without_digits = octets.translate(None, _DIGITS.encode())
    if b"..." in without_digits and _DOTTED in octets.translate(_DOTS):
        candidates += _everywhere(IPV4, text)
    if b":::" in without_digits.translate(None, _HEXADECIMAL):
        candidates += _everywhere(IPV6, text)
    return candidates


_SHORTEST = 6
"""No rule finds anything in fewer characters."""
_ID = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\d{4}-\d\d-\d\d[T ][\d:.]{5,15}(?:Z|[+-][\d:]{4,6})?"
    r"|(?:chatcmpl|cmpl|call|msg|toolu|resp|run|req|fc|rs|fp|gen)[-_][A-Za-z0-9]{8,48}"
)
_LONGEST_ID = 64
"""A UUID, a time or a provider's id alone is nothing to remove: every record has several."""


def _occurrences(octets: bytes, word: bytes) -> Iterator[int]:
    position = octets.find(word)
    while position >= 0:
        yield position
        position = octets.find(word, position + len(word))


def _accepted(rule: Rule, match: re.Match[str]) -> Candidate | None:
    """Return the candidate of a match that the rule accepts.

    Raises:
        ScrubFailed: the rule's check raised.
    """
    group = "value" if "value" in match.re.groupindex and match["value"] is not None else 0
    value = match[group]
    try:
        if rule.entropy and checks.entropy_bits(value) < rule.entropy:
            return None
        if not rule.accept(match):
            return None
    except Exception as error:  # whatever a check raises, its text is not known to be clean
        raise ScrubFailed(rule.kind, error) from error
    return Candidate(match.start(group), match.end(group), _RANKS[id(rule)], rule.kind)


def _at(rule: Rule, text: str, position: int) -> Candidate | None:
    """Return what `rule` finds at or around one of its keywords."""
    pattern = compiled(rule.pattern)
    if rule.around is None:
        match = pattern.match(text, position)
    else:
        before, after = rule.around
        match = pattern.search(text, max(0, position - before), position + after)
    return _accepted(rule, match) if match is not None else None


def _near(words: Words, text: str, lowered: bytes) -> Iterator[Candidate]:
    for beside, rules in words:
        if beside not in lowered:
            continue
        for word, rule in rules:
            if word in lowered:
                yield from _at_each(word, rule, text, lowered)


def _at_each(word: bytes, rule: Rule, text: str, lowered: bytes) -> Iterator[Candidate]:
    end = 0
    for position in _occurrences(lowered, word):
        found = _at(rule, text, position) if position >= end else None
        if found is not None:
            yield found
            end = found.end


def _assignments(text: str, lowered: bytes) -> Iterator[Candidate]:
    for word in _ASSIGNED_WORDS:
        end = 0
        for position in _occurrences(lowered, word):
            found = assigned_at(text, position) if position >= end else None
            if found is not None:
                (start, end), is_password = found
                kind = "password" if is_password else ASSIGNMENT.kind
                yield Candidate(start, end, _RANKS[id(ASSIGNMENT)], kind)


def _long_runs(octets: bytes) -> Iterator[tuple[int, int]]:
    """Yield where twelve and more letters, digits, `_` and `-` stand together.

    Words without a digit are left out, unless a token may begin so or they are very long.
    """
    marked = octets.translate(_RUNS) + b" "
    digits = octets.translate(_ROWS) + b"0"
    digit = 0
    start = marked.find(_RUN)
    while start >= 0:
        end = marked.find(b" ", start)
        if digit < start:
            digit = digits.find(b"0", start)
        if (
            start <= digit < end
            or end - start >= _NO_NAME
            or octets[start : start + 2] in _LETTERS_ONLY
        ):
            yield start, end
        start = marked.find(_RUN, end)


def _tokens(text: str, octets: bytes, lowered: bytes) -> Iterator[Candidate]:
    looked = 0
    for start, end in _long_runs(octets):
        found_end = 0
        for position in _starts(octets, start, end):
            found = _token_at(text, position, octets) if position >= found_end else None
            if found is not None:
                yield found
                found_end = found.end
        if octets[end : end + 1] == b"." and octets[start] in _DOTTED_STARTS:
            yield from filter(None, (_at(rule, text, start) for rule in DOTTED_RULES))
        low = max(looked, start - _LONG_BEFORE)
        for word in _LONG_WORDS.finditer(lowered, low, end + _LONG_AFTER):
            looked = word.end()
            rules = _LONG_RULES_OF[word[0]]
            yield from filter(None, (_at(rule, text, word.start()) for rule in rules))


def _starts(octets: bytes, start: int, end: int) -> list[int]:
    """Return where in a run a token may start: at once, after an escape, after `_` or `-`."""
    starts = [start]
    if start and octets[start - 1] in b"\\%":
        starts += (start + 1, start + 2, start + 3, start + 5)
    for mark in (b"_", b"-"):
        position = octets.find(mark, start, end)
        while position >= 0:
            starts.append(position + 1)
            position = octets.find(mark, position + 1, end)
    return starts


def _token_at(text: str, position: int, octets: bytes) -> Candidate | None:
    for rule in _TOKENS_BY_START.get(octets[position : position + 2], ()):
        found = _at(rule, text, position)
        if found is not None:
            return found
    return None


_MAIL_NAME = frozenset((_DIGITS + _LETTERS + "_.%+-").encode())
_MAIL_START = frozenset((_DIGITS + _LETTERS + "_@").encode())
_ESCAPES = frozenset(b"nrtfvb")
_LONGEST_NAME, _LONGEST_ADDRESS = 65, 400


def _mail(text: str, octets: bytes) -> Iterator[Candidate]:
    pattern = compiled(EMAIL.pattern)
    for position in _occurrences(octets, b"@"):
        if position == 0 or octets[position - 1] not in _MAIL_NAME:
            continue
        start = position - 1
        while start and octets[start - 1] in _MAIL_NAME and position - start < _LONGEST_NAME:
            start -= 1
        while octets[start] not in _MAIL_START:
            start += 1
        if octets[start - 1 : start] == b"\\" and octets[start] in _ESCAPES:
            start += 1
        match = pattern.match(text, start, position + _LONGEST_ADDRESS)
        found = _accepted(EMAIL, match) if match is not None else None
        if found is not None:
            yield found


_ROW_OF_DIGITS = re.compile(r"\d(?:[ ().\-/\t]{0,3}\d){6,}")
_DATE_ROW = re.compile(r"(?:19|20)\d\d([-./]?)[01]\d\1[0-3]\d(?: [0-2]\d)?")
_IBAN_BEFORE, _NUMBER_BEFORE, _NUMBER_AFTER = 34, 3, 24
_LONGEST_ROW = 64
"""A longer row of digits is a table and holds no telephone number."""


def _numbers(text: str) -> Iterator[Candidate]:
    for row in _ROW_OF_DIGITS.finditer(text):
        start, end = row.span()
        if _DATE_ROW.fullmatch(text, start, end):
            continue
        yield from _everywhere(IBAN, text, max(0, start - _IBAN_BEFORE), end + _NUMBER_AFTER)
        rules = NUMBER_RULES if end - start > _LONGEST_ROW else NUMBER_RULES + PHONE_RULES
        for rule in rules:
            yield from _everywhere(rule, text, max(0, start - _NUMBER_BEFORE), end + _NUMBER_AFTER)


def _everywhere(
    rule: Rule, text: str, low: int = 0, high: int | None = None
) -> Iterator[Candidate]:
    pattern = compiled(rule.pattern)
    high = len(text) if high is None else high
    while match := pattern.search(text, low, high):
        found = _accepted(rule, match)
        if found is not None:
            yield found
        low = match.end() if found is not None else match.start() + 1


def resolve(candidates: Sequence[Candidate]) -> tuple[Finding, ...]:
    """Return findings without overlap that leave nothing of a secret standing.

    Secrets that overlap become one finding under the name of the more specific rule; personal data
    within or across a secret gives way to it.
    """
    secrets = _merged([c for c in candidates if c.rank < _FIRST_PERSONAL])
    personal = _merged([c for c in candidates if c.rank >= _FIRST_PERSONAL])
    kept = secrets + [c for c in personal if not _overlaps(c, secrets)]
    return tuple(Finding(c.kind, c.start, c.end) for c in sorted(kept, key=_place))


def _place(candidate: Candidate) -> tuple[int, int]:
    return candidate.start, candidate.rank


def _merged(candidates: list[Candidate]) -> list[Candidate]:
    merged: list[Candidate] = []
    for new in sorted(candidates, key=_place):
        last = merged[-1] if merged else None
        if last is None or new.start >= last.end:
            merged.append(new)
            continue
        best = min(last, new, key=lambda c: c.rank)
        merged[-1] = Candidate(last.start, max(last.end, new.end), best.rank, best.kind)
    return merged


def _overlaps(candidate: Candidate, sorted_secrets: list[Candidate]) -> bool:
    index = bisect_left(sorted_secrets, candidate.end, key=lambda c: c.start)
    return index > 0 and sorted_secrets[index - 1].end > candidate.start
