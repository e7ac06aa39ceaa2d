"""Remove secrets and personal data from text and JSON, leaving a typed placeholder for each.

A value becomes `<KIND_N>`, such as `<EMAIL_1>` or `<AWS_ACCESS_KEY_2>`: equal values get the same
number for as long as one `Scrubber` lives (a record, or an episode in the client), so the text
stays trainable. Where code has a bare token (`card = 4111111111111111`, `password=hunter2abc9`) the
placeholder has no angle brackets (`CARD_1`), so that code still parses. Scrubbing twice changes
nothing and counts nothing the second time.

The rules are a table (`rules`) in gitleaks' shape, what they find is checked (`checks`)
and looked for only where it can be (`search`). A team adds rules by a file (`custom`).
`RULES_VERSION` says which rules were active; every record carries it as `scrub_version`. A rule or
check that raises stops the record with `ScrubFailed`; nothing half scrubbed comes back.
"""

import importlib.metadata
import inspect
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from types import ModuleType
from typing import Any

from collector.scrub import assignments, checks, contents, custom, domains, names, rules, search
from collector.scrub.custom import VARIABLE, CustomRules, load
from collector.scrub.rules import RULES, Rule
from collector.scrub.search import Finding, ScrubFailed, candidates_in, resolve

__all__ = [
    "ACTIVE",
    "RULES",
    "RULES_VERSION",
    "Finding",
    "Rule",
    "RuleSet",
    "ScrubFailed",
    "Scrubber",
    "findings",
    "kept_name",
    "scrub_json",
    "scrub_record",
    "scrub_text",
    "server_rules",
]

_CACHED_LENGTH = 16_384
_CACHED_TEXTS = 1024
_SHORT_LENGTH = 48
_SHORT_TEXTS = 16_384


class RuleSet:
    """The rules in force: the built-in ones and a team's own, and what they find.

    What was found in a text is remembered for the texts seen last (at most 16 MiB), because an
    agent sends its system prompt and its history again with every turn. A record is made of some
    sixty short texts, keys and names of models mostly, and the same in all records: of those it
    remembers which hold nothing, so that one look into a set is all that they cost.

    Attributes:
        harmless: short texts that were searched and hold nothing.
        custom: what a team's rule file added.
        find_names: what finds names in prose, if that is wanted.
        version: 12 hexadecimal digits that change when any rule changes, or the model of names.
    """

    def __init__(
        self,
        custom: CustomRules | None = None,
        find_names: names.Finder | None = None,
        names_model: str = names.DEFAULT_MODEL,
    ) -> None:
        self.custom = custom or CustomRules()
        self.find_names = find_names
        self.version = rules_version(self.custom, names_model if find_names is not None else None)
        self.harmless: set[str] = set()
        self._recent = lru_cache(maxsize=_CACHED_TEXTS)(self.search)

    def findings(self, text: str) -> tuple[Finding, ...]:
        """Return what is to be removed from `text`, from left to right, without overlap.

        Raises:
            ScrubFailed: a rule's check raised.
        """
        length = len(text)
        if length > _SHORT_LENGTH:
            return self._recent(text) if length <= _CACHED_LENGTH else self.search(text)
        if text in self.harmless:
            return ()
        found = self.search(text)
        # What a data URL stands for is searched elsewhere.
        if not found and contents.DATA_URL_MARK not in text:
            if len(self.harmless) >= _SHORT_TEXTS:
                self.harmless.clear()
            self.harmless.add(text)
        return found

    def forget(self) -> None:
        """Forget what was found in the texts seen last."""
        self.harmless.clear()
        self._recent.cache_clear()

    def search(self, text: str) -> tuple[Finding, ...]:
        """Return the same without remembering it."""
        candidates = candidates_in(text)
        if self.custom.rules:
            lowered = text.lower()
            for rule in self.custom.rules:
                candidates.extend(rule.search(text, lowered))
        if self.find_names is not None:
            candidates.extend(self.find_names(text))
        if not candidates:
            return ()
        allow = self.custom.allow
        return tuple(f for f in resolve(candidates) if not allow.holds(text[f.start : f.end]))


def rules_version(custom: CustomRules, names_model: str | None = None) -> str:
    """Return the hash of what decides over a finding: code, custom rules, the model of names.

    Any change of that code counts, so that none can be forgotten; a comment costs a rescan. Of a
    model its package or folder counts, as it is called; None: names are kept.
    """
    code = [_source(module) for module in _DECIDING]
    return sha256(repr((code, custom.source, names_model)).encode()).hexdigest()[:12]


_DECIDING = (
    *(assignments, checks, contents, custom, domains, names, rules, search),
    sys.modules[__name__],
)
"""Everything here but `rescan`, which only goes through the rows."""


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except OSError:
        return importlib.metadata.version("agent-flywheel")  # installed without sources


def _names(in_client: bool) -> names.Finder | None:
    if not names.wanted(os.environ, in_client):
        return None
    return names.presidio(names.model_of(os.environ))


ACTIVE = RuleSet(load(os.environ.get(VARIABLE)), _names(in_client=True), names.model_of(os.environ))
"""The rules of this process."""

RULES_VERSION = ACTIVE.version


@lru_cache(maxsize=1)
def server_rules() -> RuleSet:
    """Return the rules where records are stored: those of any process, and names if wanted.

    Raises:
        MissingExtra: names are wanted and Presidio is not installed.
        BadInput: its model is not on this machine.
    """
    find_names = _names(in_client=False)
    if find_names is ACTIVE.find_names:
        return ACTIVE
    return RuleSet(ACTIVE.custom, find_names, names.model_of(os.environ))


def findings(text: str) -> tuple[Finding, ...]:
    """Return what the active rules remove from `text`; see `RuleSet.findings`."""
    return ACTIVE.findings(text)


_EXACT_SCALARS = frozenset((bool, float, type(None)))


class Scrubber:
    """Scrubs texts with one numbering: the same value gets the same placeholder every time."""

    def __init__(self, rules: RuleSet = ACTIVE, after: Mapping[str, int] | None = None) -> None:
        """Start a numbering: at 1, or after the numbers that `after` says are taken, by kind."""
        self._rules, self._harmless = rules, rules.harmless
        self._placeholders: dict[tuple[str, str], int] = {}
        self._numbers: Counter[str] = Counter(after)

    @property
    def version(self) -> str:
        """Version of the rules it scrubs by."""
        return self._rules.version

    def text(self, text: str) -> tuple[str, Counter[str]]:
        """Return `text` without secrets and personal data, and what was removed by kind.

        Raises:
            ScrubFailed: a rule's check raised.
        """
        counts: Counter[str] = Counter()
        return self._clean(text, counts), counts

    def json(self, value: Any) -> tuple[Any, Counter[str]]:
        """Return any JSON value scrubbed, keys and long numbers too, with the counts by kind.

        Any depth: containers wait in a queue instead of on the call stack.
        """
        counts: Counter[str] = Counter()
        return self.clean(value, counts), counts

    def clean(self, value: Any, counts: Counter[str]) -> Any:
        """Return any JSON value scrubbed, as `json`; what was removed is added to `counts`."""
        harmless = self._harmless
        if type(value) in _EXACT_SCALARS or (type(value) is str and value in harmless):
            return value
        waiting: list[tuple[Any, Any]] = []
        clean = self._value(value, counts, waiting)
        for target, source in waiting:  # grows while it is read
            if type(target) is dict:
                for key, item in source.items():
                    if type(key) is not str or key in harmless:
                        clean_key = key
                    else:
                        clean_key = self._clean(key, counts)
                    if type(item) is str and item in harmless and _is_ordinary(key):
                        target[clean_key] = item
                    else:
                        target[clean_key] = self._member(source, key, item, counts, waiting)
            else:
                target.extend([self._value(item, counts, waiting) for item in source])
        return clean

    def name(self, column: str, value: str, counts: Counter[str]) -> str:
        """Return a name as `kept_name`; what is removed is added to `counts`."""
        kept = kept_name(column, value, self._rules)
        if kept != value:
            counts.update(found.kind for found in self._rules.findings(value))
        return kept

    def _value(self, value: Any, counts: Counter[str], waiting: list[tuple[Any, Any]]) -> Any:
        # Types that JSON is made of first: asking for an abstract one costs as much as a search.
        kind = type(value)
        if kind is str:
            return self._clean(value, counts)
        if kind in _EXACT_SCALARS:
            return value
        if kind is int:
            return self._number(value, counts)
        if kind is dict or kind is list or isinstance(value, Mapping | list | tuple):
            target: Any = {} if kind is dict or isinstance(value, Mapping) else []
            waiting.append((target, value))
            return target
        if isinstance(value, str):
            return self._clean(value, counts)
        if isinstance(value, int) and not isinstance(value, bool):
            return self._number(value, counts)
        return value

    def _number(self, value: int, counts: Counter[str]) -> int | str:
        if not _LEAST_CARD <= value <= _GREATEST_CARD:
            return value
        digits = str(value)
        if not (checks.is_card(digits) and checks.is_common_card(digits)):
            return value
        counts["card"] += 1
        return f"<{self._named('card', digits)}>"

    def _member(
        self,
        owner: Mapping[Any, Any],
        key: Any,
        item: Any,
        counts: Counter[str],
        waiting: list[tuple[Any, Any]],
    ) -> Any:
        if type(item) is not str or type(key) is not str or _is_ordinary(key):
            return self._value(item, counts, waiting)
        if key in contents.MEMBERS and _is_base64_of(owner, key, item):
            return self._base64(item, counts)
        kind = checks.name_strength(key)
        if kind is not None and checks.assigned_secret(key, item):
            kind = "password" if kind == checks.PASSWORD else "secret"
            counts[kind] += 1
            return f"<{self._named(kind, item)}>"
        number = checks.number_named(key)
        if number is not None and checks.is_number_named(number, item):
            counts[number] += 1
            return f"<{self._named(number, item)}>"
        return self._clean(item, counts)

    def _clean(self, text: str, counts: Counter[str]) -> str:
        if contents.DATA_URL_MARK not in text:
            return self._plain(text, counts)
        pieces: list[str] = []
        position = 0
        for url in contents.DATA_URL.finditer(text):
            start, end = url.span("data")
            pieces += self._plain(text[position:start], counts), self._base64(url["data"], counts)
            position = end
        return "".join(pieces) + self._plain(text[position:], counts)

    def _base64(self, data: str, counts: Counter[str]) -> str:
        """Return base64 with what it stands for scrubbed; what is no base64 is a text."""
        content = contents.decoded(data)
        if content is None:
            return self._plain(data, counts)
        clean = self.content(content, counts)
        return data if clean == content else contents.encoded(clean)

    def content(self, content: bytes, counts: Counter[str] | None = None) -> bytes:
        """Return bytes scrubbed if they are a text in UTF-8, else as they are."""
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return content
        return self._plain(text, Counter() if counts is None else counts).encode()

    def _plain(self, text: str, counts: Counter[str]) -> str:
        found = self._rules.findings(text)
        if not found:
            return text
        pieces: list[str] = []
        position = 0
        for finding in found:
            counts[finding.kind] += 1
            pieces += text[position : finding.start], self._placeholder(text, finding)
            position = finding.end
        return "".join(pieces) + text[position:]

    def _named(self, kind: str, value: str) -> str:
        number = self._placeholders.get((kind, value))
        if number is None:
            self._numbers[kind] += 1
            number = self._placeholders[kind, value] = self._numbers[kind]
        return f"{kind.upper()}_{number}"

    def _placeholder(self, text: str, found: Finding) -> str:
        name = self._named(found.kind, text[found.start : found.end])
        return name if _is_bare_token(text, found) else f"<{name}>"


@lru_cache(maxsize=2048)
def _is_ordinary(name: Any) -> bool:
    """Say whether a member's name promises nothing: no secret, number or base64."""
    if type(name) is not str:
        return True
    promises = checks.name_strength(name) is not None or checks.number_named(name) is not None
    return not promises and name not in contents.MEMBERS


def _is_base64_of(owner: Mapping[Any, Any], name: str, item: str) -> bool:
    """Say whether a member is base64 by what its object says; little of it is searched anyhow."""
    return len(item) >= contents.INLINE_BYTES and contents.stated_type(owner, name) is not None


_LEAST_CARD, _GREATEST_CARD = 10**11, 10**19
_BARE_NUMBERS = frozenset({"card", "ssn", "phone"})
_BARE_SECRETS = frozenset({"password", "secret"})
_ENDS = ("", ")", "]", ",", ";", "\n", "#", ":", "\\")


def _is_bare_token(text: str, found: Finding) -> bool:
    """Say whether a value stands where code would have a number or a name."""
    before = text[max(0, found.start - 3) : found.start].rstrip(" ")[-1:]
    after = text[found.end : found.end + 3].lstrip(" ")[:1]
    if found.kind in _BARE_NUMBERS:
        return before in ("=", "(", "[", ",") and after in _ENDS
    return found.kind in _BARE_SECRETS and before in ("=", ":") and after not in _QUOTES


_QUOTES = ('"', "'", "`", "\\")


def scrub_text(text: str) -> tuple[str, Counter[str]]:
    """Return `text` scrubbed with a numbering of its own, and the counts by kind."""
    return Scrubber().text(text)


def scrub_json(value: Any) -> tuple[Any, dict[str, int]]:
    """Return a JSON value scrubbed with one numbering throughout, and the counts by kind."""
    clean, counts = Scrubber().json(value)
    return clean, dict(counts)


_ID_OR_TIME = re.compile(r"[0-9A-Fa-f-]{32,36}|\d{4}-\d\d-\d\d[T ][0-9:.,+Z-]{2,30}")
_EXACT_COLUMNS = {
    **dict.fromkeys(
        "id episode_id parent_id experiment_id model_version_id interaction_id "
        "loser_interaction_id started_at created_at".split(),
        _ID_OR_TIME,
    ),
    "scrub_version": re.compile(r"[\w.-]{1,40}"),
}
"""Columns that are not searched, as long as they hold what belongs there."""


_NAMES = {
    "unit_id": "unit",
    "actor": "actor",
    "project": "project",
    "gen_ai_conversation_id": "conversation",
    **dict.fromkeys(("key", "interaction_key", "loser_interaction_key"), "key"),
    **dict.fromkeys(("gen_ai_response_id", "response_id", "loser_response_id"), "response"),
}
"""Columns by which records are told apart and found again, and what a personal one becomes."""
_OWN_NAME = re.compile(f"(?:{'|'.join(sorted(set(_NAMES.values())))})-[0-9a-f]{{16}}")


def kept_name(column: str, value: str, rules: RuleSet | None = None) -> str:
    """Return a name as it is stored: one that is personal or secret as `<what it names>-<hash>`.

    The same everywhere and always, unlike a placeholder, so that what names the same thing agrees.

    Raises:
        ScrubFailed: a rule's check raised.
    """
    if _OWN_NAME.fullmatch(value) or not (rules or ACTIVE).findings(value):
        return value
    return f"{_NAMES[column]}-{sha256(value.encode('utf-8', 'replace')).hexdigest()[:16]}"


def _is_exact(name: str, value: Any) -> bool:
    if name == "scrub":
        return True
    shape = _EXACT_COLUMNS.get(name)
    return shape is not None and isinstance(value, str) and bool(shape.fullmatch(value))


def _counted(stated: Any) -> Counter[str]:
    """Return what a record says was removed from it, if it says kinds and numbers."""
    if not isinstance(stated, Mapping):
        return Counter()
    return Counter(
        {
            kind: n
            for kind, n in stated.items()
            if isinstance(n, int) and isinstance(kind, str) and _KIND.fullmatch(kind)
        }
    )


_KIND = re.compile(r"[a-z][a-z0-9_-]{0,40}")


def scrub_record(record: Mapping[str, Any], scrubber: Scrubber | None = None) -> dict[str, Any]:
    """Return a wire record with every text in it scrubbed, and the counts added to `scrub`.

    `scrub_version` says by which rules. A name that is itself personal, such as a unit that is an
    e-mail address, becomes a hash (`kept_name`), so that assignment stays sticky and feedback finds
    its call without saying whom it is about.

    Raises:
        ScrubFailed: a rule's check raised; the record must be held back.
    """
    own = scrubber or Scrubber()
    clean: dict[str, Any] = {}
    counts = _counted(record.get("scrub"))
    for stated, value in record.items():
        if _is_exact(stated, value):
            clean[stated] = value
        elif stated in _NAMES and isinstance(value, str):
            clean[stated] = own.name(stated, value, counts)
        else:
            clean[own.clean(stated, counts)] = own.clean(value, counts)
    if counts or "scrub" in clean:
        clean["scrub"] = dict(counts) or None
    clean["scrub_version"] = own.version
    return clean
