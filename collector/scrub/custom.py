"""Rules of a team's own, from a TOML file in gitleaks' shape; a broken file is an error at start.

    [[rules]]
    id = "acme-token"
    regex = '''acme_([a-z0-9]{32})'''
    secretGroup = 1
    keywords = ["acme_"]
    entropy = 3.0
    [rules.allowlist]
    stopwords = ["example"]

    [allowlist]
    regexes = ['''^acme_0+$''']

`[allowlist]` and `[[allowlists]]` hold for every rule, the built-in ones too. What names files
(`path`, `paths`, `commits`) is read and has no effect: a text has no file name. gitleaks' own rule
file may be given too, Go's syntax is turned into Python's.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.scrub import checks as checks
from collector.scrub.search import Candidate, ScrubFailed
from foundation.errors import BadInput

VARIABLE = "FLYWHEEL_SCRUB_RULES"
"""Environment variable with the file's path."""


@dataclass(frozen=True)
class Allowlist:
    """Values to leave alone: an expression is found in them, or they hold a stopword."""

    regexes: tuple[re.Pattern[str], ...] = ()
    stopwords: tuple[str, ...] = ()

    def holds(self, value: str) -> bool:
        """Say whether `value` is to be left alone."""
        lowered = value.lower()
        return any(word in lowered for word in self.stopwords) or any(
            pattern.search(value) for pattern in self.regexes
        )


@dataclass(frozen=True)
class CustomRule:
    """One rule of the file; `group` is the number of the group that is replaced, 0 for all."""

    kind: str
    pattern: re.Pattern[str]
    keywords: tuple[str, ...]
    entropy: float
    group: int
    allow: Allowlist

    def search(self, text: str, lowered: str) -> Iterator[Candidate]:
        """Yield what the rule finds, ahead of every built-in rule.

        Raises:
            ScrubFailed: the expression could not be applied.
        """
        if self.keywords and not any(word in lowered for word in self.keywords):
            return
        try:
            yield from self._accepted(text)
        except (re.error, RecursionError, MemoryError) as error:
            raise ScrubFailed(self.kind, error) from error

    def _accepted(self, text: str) -> Iterator[Candidate]:
        for match in self.pattern.finditer(text):
            value = match[self.group]
            if not value or self.allow.holds(value):
                continue
            if checks.is_own_mark(value) or checks.entropy_bits(value) < self.entropy:
                continue
            yield Candidate(*match.span(self.group), -1, self.kind)


@dataclass(frozen=True)
class CustomRules:
    """What a rule file adds; `source` is its text, for the rules' version."""

    rules: tuple[CustomRule, ...] = ()
    allow: Allowlist = Allowlist()
    source: str = ""


def load(path: str | None) -> CustomRules:
    """Return the rules of the file at `path`; none if `path` is empty or None.

    Raises:
        BadInput: the file cannot be read, is no TOML, or has a rule that cannot be applied.
    """
    if not path:
        return CustomRules()
    try:
        source = Path(path).read_text(encoding="utf-8")
        table = tomllib.loads(source)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _bad(path, str(error), "a readable TOML file of rules") from error
    unknown = set(table) - _TOP_KEYS
    if unknown:
        raise _bad("keys", sorted(unknown), f"some of {', '.join(sorted(_TOP_KEYS))}")
    rules = table.get("rules", [])
    if not isinstance(rules, list):
        raise _bad("rules", rules, "a list of tables, [[rules]]")
    return CustomRules(tuple(_rule(rule) for rule in rules), _allowlists(table, "file"), source)


_TOP_KEYS = {"title", "description", "extend", "minVersion", "rules", "allowlist", "allowlists"}
_RULE_KEYS = {
    *("id", "description", "regex", "keywords", "entropy", "secretGroup", "allowlist"),
    *("allowlists", "path", "tags", "skipReport", "required"),
}
_ALLOW_KEYS = {
    *("description", "regexes", "stopwords", "paths", "commits", "regexTarget", "condition"),
    "targetRules",
}


def _bad(what: str, value: object, expected: str) -> BadInput:
    return BadInput(
        f"{VARIABLE}: {what}", value, expected, "Repair the file, or unset the variable."
    )


def _rule(table: Mapping[str, Any]) -> CustomRule:
    name = table.get("id")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w-]*", name):
        raise _bad("rule's id", name, "letters, digits, - and _, starting with a letter")
    unknown = set(table) - _RULE_KEYS
    if unknown:
        raise _bad(f"rule {name}", sorted(unknown), f"keys of {', '.join(sorted(_RULE_KEYS))}")
    pattern = _pattern(f"rule {name}, regex", table.get("regex"))
    entropy = table.get("entropy", 0)
    if isinstance(entropy, bool) or not isinstance(entropy, int | float):
        raise _bad(f"rule {name}, entropy", entropy, "a number of bits per character")
    keywords = tuple(word.lower() for word in _strings(table, "keywords", f"rule {name}"))
    group = table.get("secretGroup", min(pattern.groups, 1))
    if not isinstance(group, int) or not 0 <= group <= pattern.groups:
        raise _bad(f"rule {name}, secretGroup", group, f"0 to {pattern.groups}")
    kind = re.sub(r"\W", "_", name).lower()
    return CustomRule(kind, pattern, keywords, float(entropy), group, _allowlists(table, name))


def _allowlists(table: Mapping[str, Any], owner: str) -> Allowlist:
    tables = [*table.get("allowlists", []), *filter(None, [table.get("allowlist")])]
    regexes: list[re.Pattern[str]] = []
    stopwords: list[str] = []
    for entry in tables:
        unknown = set(entry) - _ALLOW_KEYS
        if unknown:
            raise _bad(f"allowlist of {owner}", sorted(unknown), ", ".join(sorted(_ALLOW_KEYS)))
        if entry.get("condition", "OR") != "OR" or entry.get("targetRules"):
            continue  # holds for some values only, which would need the file's name to tell
        if entry.get("regexTarget", "secret") in ("secret", "match"):
            where = f"allowlist of {owner}, regexes"
            regexes += [_pattern(where, text) for text in _strings(entry, "regexes", where)]
        stopwords += [word.lower() for word in _strings(entry, "stopwords", owner)]
    return Allowlist(tuple(regexes), tuple(stopwords))


def _strings(table: Mapping[str, Any], key: str, owner: str) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _bad(f"{owner}, {key}", value, "a list of strings")
    return value


def _pattern(what: str, regex: object) -> re.Pattern[str]:
    if not isinstance(regex, str) or not regex:
        raise _bad(what, regex, "a regular expression")
    if "[[:" in regex or "[:^" in regex:
        raise _bad(what, regex, "no POSIX classes such as [[:alnum:]]; write [A-Za-z0-9]")
    try:
        pattern = re.compile(from_go(regex))
    except re.error as error:
        raise _bad(what, regex, f"a valid regular expression ({error})") from error
    if pattern.search("") is not None:
        raise _bad(what, regex, "an expression that does not match the empty text")
    return pattern


_FLAGS = re.compile(r"\(\?([imsU-]+)\)")


def from_go(regex: str) -> str:
    r"""Return a Go regular expression in Python's syntax.

    Go takes flags anywhere, `ab(?i)cd`, valid to the end of the group: here `ab(?i:cd)`. Go's `\z`
    is Python's `\Z`.
    """
    out: list[str] = []
    opened = [0]  # scoped groups that each open parenthesis has to close besides itself
    in_class = False
    index = 0
    while index < len(regex):
        flags = None if in_class else _FLAGS.match(regex, index)
        character = regex[index]
        if flags:
            out.append(f"(?{flags[1]}:")
            opened[-1] += 1
            index = flags.end()
            continue
        if character == "\\":
            escape = regex[index : index + 2]
            out.append(r"\Z" if escape == r"\z" else escape)
            index += 2
            continue
        if in_class:
            in_class = character != "]" or regex[index - 1] == "["
        elif character == "[":
            in_class = True
        elif character == "(":
            opened.append(0)
        elif character == ")" and len(opened) > 1:
            out.append(")" * opened.pop())
        out.append(character)
        index += 1
    return "".join(out) + ")" * opened[0]
