"""Remove secrets and personal data from text and JSON, leaving a typed placeholder for each.

A value becomes `<KIND_N>`, such as `<EMAIL_1>` or `<AWS_ACCESS_KEY_2>`: equal values get the same
number for as long as one `Scrubber` lives (a record, or an episode in the client), so the text
stays trainable. Where code has a bare token (`card = 4111111111111111`, `password=hunter2abc9`) the
placeholder has no angle brackets (`CARD_1`), so that code still parses. Scrubbing twice changes
nothing and counts nothing the second time.

One table of rules. Each text is first searched for the rules' literals and cheap guards; only the
rules that could match are tried, in one combined regular expression, left to right, the first rule
of the table winning. A rule may check what it found (Luhn, IBAN's mod 97, entropy).

The rules follow the public token formats (gitleaks, detect-secrets); names and places in prose are
not looked for.
"""

import base64
import binascii
import ipaddress
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any


@dataclass(frozen=True)
class Rule:
    """One kind of secret or personal data.

    Attributes:
        kind: its name in counts, and in capitals in the placeholder.
        pattern: what to find; the group `value`, if there is one, is what is replaced.
        literals: lower-case strings of which one must occur for the rule to be tried.
        guard: or a cheap expression that must be found.
        accept: says whether a match (whole text, value) is really one.
    """

    kind: str
    pattern: str
    literals: tuple[str, ...] = ()
    guard: re.Pattern[str] | None = None
    accept: Callable[[str, str], bool] = lambda whole, value: True


def _entropy_bits(text: str) -> float:
    """Return the Shannon entropy of the characters of `text`, in bits per character."""
    total = len(text)
    return -sum(n / total * math.log2(n / total) for n in Counter(text).values())


_SLOT = re.compile(r"\$\{[^{}]*\}|\{\{[^{}]*\}\}|\{[\w.!:]*\}|\$\([^()]*\)|^\$\w+|%\(\w+\)s|%s")
_PLACEHOLDER = re.compile(
    r"^<.*>$|^[A-Z][A-Z_]*_\d+$|^\*+$|^[xX]{3,}$|^\.+$|^os\.|^env\b"
    r"|(?i:your[-_ ]|changeme|change_me|placeholder|redacted|example\.com|not[-_ ]?real|dummy)"
)
_ORDINARY_WORDS = frozenset(
    "password passwd passphrase secret token string none null true false key value text bearer "
    "basic access refresh auth apikey api_key undefined required optional default hidden "
    "user username email submit input name type prod test username_or_password".split()
)
_PASSWORD_WORD = re.compile(r"(?i)pass|pwd")
_KEY_WORD = re.compile(r"(?i)api|access|secret|private|auth")


def _is_placeholder(value: str) -> bool:
    if _PLACEHOLDER.search(value) or value.lower() in _ORDINARY_WORDS:
        return True
    return len(_SLOT.sub("", value)) < 4


def _looks_typed(value: str) -> bool:
    """Say whether `value` mixes punctuation as chosen passwords do."""
    return len({c for c in value if not c.isalnum()}) >= 4 and _entropy_bits(value) >= 3.5


def _looks_random(value: str) -> bool:
    has_digit = any(character.isdigit() for character in value)
    has_letter = any(character.isalpha() for character in value)
    return len(value) >= 8 and has_digit and has_letter and _entropy_bits(value) >= 2.5


def assigned_secret(name: str, value: str) -> bool:
    """Say whether `value`, assigned to something called `name`, is a secret written out.

    Passwords are taken from 4 characters on; tokens and keys must look random, since both words
    have other uses in code. Sentences and template slots are neither.
    """
    stripped = value.strip()
    if len(stripped) < 4 or _is_placeholder(stripped):
        return False
    if _PASSWORD_WORD.search(name):
        return stripped.count(" ") < 2
    if " " in stripped or "://" in stripped:
        return False
    return _looks_random(stripped) or bool(_KEY_WORD.search(name) and _looks_typed(stripped))


def _accept_quoted(whole: str, value: str) -> bool:
    return assigned_secret(whole[: whole.find(value)], value)


def _accept_compared(whole: str, value: str) -> bool:
    return assigned_secret(whole[whole.find(value) + len(value) :], value)


def _accept_bare(whole: str, value: str) -> bool:
    if value[-1] in "+-*/%&|" or re.fullmatch(r"[A-Za-z_][\w.]*[_.][\w.]*", value):
        return False  # an expression or a dotted or underscored name: code
    return "://" not in value and not _is_placeholder(value) and _looks_random(value)


def _accept_bearer(whole: str, value: str) -> bool:
    return not _is_placeholder(value) and _looks_random(value)


def _accept_basic(whole: str, value: str) -> bool:
    try:
        return b":" in base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False


def _accept_jwt(whole: str, value: str) -> bool:
    head = value.split(".")[0]
    try:
        return isinstance(json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))), dict)
    except (binascii.Error, ValueError):
        return False


def _accept_url_password(whole: str, value: str) -> bool:
    return not _PLACEHOLDER.search(value) and _SLOT.sub("", value) != ""


def _accept_mixed(whole: str, value: str) -> bool:
    return any(c.isdigit() for c in value) and _entropy_bits(value) >= 3


_MATRIX_ATTRIBUTES = frozenset(
    "dot data grad weight shape values transpose reshape view inv conj real imag detach".split()
)


def _accept_email(whole: str, value: str) -> bool:
    local, _, domain = value.rpartition("@")
    if local == "git" or domain.rpartition(".")[2] in _MATRIX_ATTRIBUTES:
        return False  # an SSH remote; `a@b.dot` is a matrix product
    return True


def luhn_holds(digits: str) -> bool:
    """Say whether the last digit of a card number is its Luhn check digit (ISO/IEC 7812-1)."""
    total = 0
    for index, character in enumerate(reversed(digits)):
        digit = int(character)
        doubled = digit * 2 if index % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


_CARD_PREFIX = re.compile(r"[3-6]|2[1-7]|1800|0604")


def _accept_card(whole: str, value: str) -> bool:
    digits = re.sub(r"\D", "", value)
    if not 12 <= len(digits) <= 19 or not _CARD_PREFIX.match(digits):
        return False
    return len(set(digits)) > 1 and luhn_holds(digits)


def iban_holds(value: str) -> bool:
    """Say whether an IBAN's check digits hold (ISO 13616, mod 97-10)."""
    compact = re.sub(r"[\s-]", "", value).upper()
    if not 15 <= len(compact) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _accept_iban(whole: str, value: str) -> bool:
    return iban_holds(value)


def _accept_phone(whole: str, value: str) -> bool:
    digits = sum(character.isdigit() for character in value)
    return 9 <= digits <= 17


def _accept_ip(whole: str, value: str) -> bool:
    try:
        return ipaddress.IPv4Address(value).is_global
    except ValueError:
        return False


_DIGITS = re.compile(r"\d(?:[ .()/-]{0,2}\d){7}")
_DOTTED = re.compile(r"\d\.\d{1,3}\.\d")
_IBAN_HEAD = re.compile(r"\b[A-Z]{2}\d{2}[ -]?[A-Z0-9]{4}")

_SECRET_WORD = (
    r"(?i:passw(?:or)?d|passphrase|_pass\b|\bpass\b|pwd|secret|token|credential"
    r"|(?:api|access|private|auth|encryption|service|account)[_-]?key"
    r"|(?:ibm|softlayer|\bsl)[\w-]{0,10}?(?:key|api))"
)
_ASSIGN = r"\s{0,3}(?:=>|:=|={1,3}|!={1,2}|:|,(?=\s?[\"']))\s{0,3}"
_QUOTED = (
    r"[@bruf]{0,2}\\?[\"'`](?P<value>(?:(?<=\")(?:[^\"\n\\]|\\[^\"\n]){4,200}(?=\\?\")"
    r"|(?<=')(?:[^'\n\\]|\\[^'\n]){4,200}(?=\\?')|(?<=`)[^`\n]{4,200}(?=`)))"
)

RULES: tuple[Rule, ...] = (
    Rule(
        "private_key",
        r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
        r"(?P<value>(?:[A-Za-z0-9+/=\s\\\"',.:()-](?!----END)){16,20000})",
        ("private key",),
    ),
    Rule("jwt", r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]+)?", ("eyj",), None, _accept_jwt),
    Rule(
        "aws_access_key",
        r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}(?![A-Za-z0-9])",
        ("akia", "asia", "abia", "acca", "a3t"),
    ),
    Rule(
        "aws_secret_key",
        r"(?i:aws)[\w .-]{0,20}?(?i:secret|key)[\w .-]{0,20}?[\"'=:,\s>\]]{1,6}"
        r"(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        ("aws",),
    ),
    Rule(
        "github_token",
        r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    ),
    Rule(
        "gitlab_token",
        r"(?<![\w-])(?:gl(?:pat|dt|ft|soat|rt|cbt|ptt|agent|oas)-[\w-]{20,}|GR1348941[\w-]{20})",
        (
            "glpat-",
            "gldt-",
            "glft-",
            "glsoat-",
            "glrt-",
            "glcbt-",
            "glptt-",
            "glagent-",
            "gloas-",
            "gr1348941",
        ),
    ),
    Rule("anthropic_key", r"(?<![\w-])sk-ant-[\w-]{20,}", ("sk-ant-",)),
    Rule("openai_key", r"(?<![\w-])sk-[\w-]{20,}", ("sk-",), None, _accept_mixed),
    Rule(
        "slack_token",
        r"(?<![A-Za-z0-9])(?i:xox[abeopsr])-[A-Za-z0-9.-]{10,}",
        ("xox",),
    ),
    Rule(
        "slack_webhook",
        r"hooks\.slack\.com/(?:services|workflows)/(?P<value>[\w/-]{20,})",
        ("hooks.slack.com",),
    ),
    Rule(
        "google_key",
        r"(?<![\w-])(?:AIza[\w-]{35}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,})",
        ("aiza", "ya29.", "gocspx-"),
    ),
    Rule(
        "stripe_key",
        r"(?<![A-Za-z0-9])(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}",
        ("sk_live_", "rk_live_", "sk_test_", "rk_test_"),
    ),
    Rule(
        "npm_token",
        r"npm_[A-Za-z0-9]{36}|_authToken=(?P<value>[\w./+=-]{16,})",
        ("npm_", "_authtoken="),
    ),
    Rule("pypi_token", r"pypi-[\w-]{50,}", ("pypi-",)),
    Rule("huggingface_token", r"(?<!\w)hf_[A-Za-z0-9]{30,}", ("hf_",)),
    Rule("sendgrid_key", r"(?<!\w)SG\.[\w-]{16,32}\.[\w-]{16,64}", ("sg.",)),
    Rule("square_token", r"(?<!\w)sq0(?:atp|csp)-[\w-]{22,43}", ("sq0",)),
    Rule("twilio_key", r"(?<!\w)(?:AC|SK)[0-9a-z]{32}(?!\w)", ("ac", "sk")),
    Rule("mailchimp_key", r"(?<!\w)[0-9a-f]{32}-us\d{1,2}(?!\w)", ("-us",)),
    Rule("telegram_token", r"(?<!\w)\d{8,10}:[\w-]{35}(?![\w-])", (":aa",)),
    Rule(
        "discord_token",
        r"(?<![\w-])[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,38}(?![\w-])",
        (),
        re.compile(r"\.[\w-]{6}\.[\w-]{27}"),
    ),
    Rule("azure_key", r"(?i:AccountKey=)(?P<value>[A-Za-z0-9+/=]{80,100})", ("accountkey=",)),
    Rule("artifactory_token", r"(?<![\w/+-])AKC[A-Za-z0-9]{10,}", ("akc",)),
    Rule(
        "bearer_token",
        r"(?i:\bbearer)[\s:]{1,3}(?P<value>[\w.~+/-]{16,}=*)",
        ("bearer",),
        None,
        _accept_bearer,
    ),
    Rule(
        "basic_credentials",
        r"(?i:\bbasic)\s{1,3}(?P<value>[A-Za-z0-9+/]{8,}={0,2})",
        ("basic",),
        None,
        _accept_basic,
    ),
    Rule(
        "url_password",
        r"(?i:[a-z][a-z0-9+.-]{1,15})://[^\s:/@\"'<>]{0,64}:"
        r"(?P<value>[^\s:/@\"'<>]{1,128})@(?=[\w\[])",
        ("://",),
        None,
        _accept_url_password,
    ),
    Rule(
        "password",
        _SECRET_WORD + r"[\w.-]{0,20}\\?[\"']?\]?(?:\s{0,3}:\s{0,3}str\b)?" + _ASSIGN + _QUOTED,
        ("pass", "pwd", "secret", "token", "credential", "key", "slapi"),
        None,
        _accept_quoted,
    ),
    Rule(
        "password",
        _SECRET_WORD + r"[\w.-]{0,20}\s{0,3}(?::?=|:)\s{0,3}"
        r"(?P<value>[^\s\"'`,;(){}<>\[\]$\\]{8,200})(?=[\s,;)}\]\"'`\\]|$)",
        ("pass", "pwd", "secret", "token", "credential", "key"),
        None,
        _accept_bare,
    ),
    Rule(
        "password",
        _QUOTED.removeprefix(r"[@bruf]{0,2}\\?")
        + r"[\"'`]\s{0,2}[!=]={1,2}\s{0,2}[\w.]{0,20}"
        + _SECRET_WORD,
        (),
        re.compile(r"[\"'`]\s{0,2}[!=]={1,2}\s{0,2}[\w.]{0,20}" + _SECRET_WORD),
        _accept_compared,
    ),
    Rule(
        "email",
        r"(?<![\w.%+-])[A-Za-z0-9_][\w.%+-]{0,63}@"
        r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,5}[A-Za-z]{2,24}(?![\w(\[])",
        ("@",),
        None,
        _accept_email,
    ),
    Rule(
        "iban",
        r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?"
        r"(?![A-Za-z0-9])",
        (),
        _IBAN_HEAD,
        _accept_iban,
    ),
    Rule(
        "card",
        r"(?<![\w.-])(?:\d{12,19}|\d{4}(?:[ -]\d{4}){2,3}(?:[ -]\d{1,4})?"
        r"|\d{4}[ -]\d{6}[ -]\d{4,5})"
        r"(?![\w-]|\.\d)",
        (),
        _DIGITS,
        _accept_card,
    ),
    Rule(
        "ssn",
        r"(?<![\w.-])(?!000|666|9)"
        r"(?:\d{3}-(?!00)\d{2}-(?!0000)\d{4}|\d{3} (?!00)\d{2} (?!0000)\d{4})"
        r"(?![\w-]|\.\d)",
        (),
        _DIGITS,
    ),
    Rule(
        "ssn",
        r"(?i:\bssn|social security)[^\d\n]{1,20}(?P<value>\d{9})(?!\d)",
        ("ssn", "social security"),
    ),
    Rule(
        "phone",
        r"(?<![\w.+/-])(?:"
        r"\+\d{1,3}(?:[ .-]?(?:\(\d{1,4}\)\d{0,5}|\d{2,5})){2,6}"
        r"|00\d{1,3}(?:[ .-](?:\(\d{1,4}\)|\d{2,5})){2,6}"
        r"|(?:1[ .-])?\(\d{2,4}\)[ .-]?\d{2,4}[ .-]?\d{3,4}(?:[ .-]?\d{1,4})?"
        r"|(?:1[ .-]|001-)?[2-9]\d{2}(?:-\d{3}-|\.\d{3}\.| \d{3} |-\d{3} )\d{4}"
        r"|0\d{1,4}(?:[ .-]\d{2,4}){2,4}"
        r")(?: ?(?:x|ext\.?) ?\d{1,6})?(?!\w|[.-]\d)",
        (),
        _DIGITS,
        _accept_phone,
    ),
    Rule(
        "ip_address",
        r"(?<![\w.=-])(?<!version )\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)",
        (),
        _DOTTED,
        _accept_ip,
    ),
)
"""Most specific first: at one place of a text the first rule that accepts wins."""


_LITERALS = tuple((text, i) for i, rule in enumerate(RULES) for text in rule.literals)
_GUARDS = tuple((rule.guard, i) for i, rule in enumerate(RULES) if rule.guard is not None)
_SHORT = 40


def _active_rules(text: str) -> tuple[int, ...]:
    """Return the rules worth a search of `text`: a literal or the guard of each occurs in it."""
    lowered = text.lower()
    active = {i for literal, i in _LITERALS if literal in lowered}
    active.update(i for guard, i in _GUARDS if guard.search(text))
    return tuple(sorted(active))


# JSON is full of the same short strings: its keys, roles, types and model names.
_active_rules_of_short = lru_cache(maxsize=4096)(_active_rules)


class Scrubber:
    """Scrubs texts with one numbering: the same value gets the same placeholder every time."""

    def __init__(self) -> None:
        self._placeholders: dict[tuple[str, str], int] = {}
        self._numbers: Counter[str] = Counter()

    def text(self, text: str) -> tuple[str, Counter[str]]:
        """Return `text` without secrets and personal data, and what was removed by kind."""
        counts: Counter[str] = Counter()
        pieces: list[str] = []
        position = 0
        for found in findings(text):
            counts[found.kind] += 1
            pieces += text[position : found.start], self._placeholder(text, found)
            position = found.end
        if not counts:
            return text, counts
        return "".join(pieces) + text[position:], counts

    def json(self, value: Any) -> tuple[Any, Counter[str]]:
        """Return any JSON value scrubbed, keys and long numbers too, with the counts by kind."""
        counts: Counter[str] = Counter()
        return self._walk(value, counts), counts

    def _walk(self, value: Any, counts: Counter[str]) -> Any:
        if isinstance(value, str):
            clean, found = self.text(value)
            counts.update(found)
            return clean
        if isinstance(value, Mapping):
            return {
                self._walk(key, counts): self._member(key, item, counts)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._walk(item, counts) for item in value]
        if isinstance(value, int) and value >= 10**11 and _accept_card("", str(value)):
            counts["card"] += 1
            return f"<{self._named('card', str(value))}>"
        return value

    def _member(self, key: Any, item: Any, counts: Counter[str]) -> Any:
        secret = isinstance(item, str) and isinstance(key, str) and _SECRET_KEY.search(key)
        if secret and assigned_secret(key, item):
            counts["password"] += 1
            return f"<{self._named('password', item)}>"
        return self._walk(item, counts)

    def _named(self, kind: str, value: str) -> str:
        number = self._placeholders.get((kind, value))
        if number is None:
            self._numbers[kind] += 1
            number = self._placeholders[kind, value] = self._numbers[kind]
        return f"{kind.upper()}_{number}"

    def _placeholder(self, text: str, found: "Finding") -> str:
        name = self._named(found.kind, text[found.start : found.end])
        return name if _is_bare_token(text, found) else f"<{name}>"


_SECRET_KEY = re.compile(_SECRET_WORD)


@dataclass(frozen=True)
class Finding:
    """Something to remove: its kind and its place, `[start, end)` in characters."""

    kind: str
    start: int
    end: int


def findings(text: str) -> Iterator[Finding]:
    """Yield what is to be removed from `text`, from left to right, without overlap."""
    active = _active_rules(text) if len(text) > _SHORT else _active_rules_of_short(text)
    if not active:
        return
    combined = _combined(active)
    position = 0
    while match := combined.search(text, position):
        found = _first_accepted(match, active, text)
        if found is None:
            position = match.start() + 1
        else:
            yield found
            position = max(found.end, match.start() + 1)


@lru_cache(maxsize=512)
def _combined(rules: tuple[int, ...]) -> re.Pattern[str]:
    parts = (f"(?P<k{i}>{RULES[i].pattern.replace('?P<value>', f'?P<v{i}>')})" for i in rules)
    return re.compile("|".join(parts))


def _first_accepted(match: re.Match[str], active: tuple[int, ...], text: str) -> Finding | None:
    """Return the finding of the matched rule, or of a later rule at the same place."""
    first = int((match.lastgroup or "k0")[1:])
    for i in active[active.index(first) :]:
        candidate = match if i == first else _combined((i,)).match(text, match.start())
        if candidate is None:
            continue
        group = f"v{i}" if f"(?P<v{i}>" in candidate.re.pattern else f"k{i}"
        if candidate[group] is None:
            group = f"k{i}"
        if RULES[i].accept(candidate[f"k{i}"], candidate[group]):
            return Finding(RULES[i].kind, candidate.start(group), candidate.end(group))
    return None


_BARE_KINDS = frozenset({"card", "ssn", "phone"})


def _is_bare_token(text: str, found: Finding) -> bool:
    """Say whether a value stands where code would have a number or a name."""
    before = text[max(0, found.start - 3) : found.start].rstrip(" ")[-1:]
    after = text[found.end : found.end + 3].lstrip(" ")[:1]
    if found.kind in _BARE_KINDS:
        return before in ("=", "(", "[", ",") and after in ("", ")", "]", ",", ";", "\n", "#", ":")
    return found.kind == "password" and before in ("=", ":") and after not in ('"', "'", "`", "\\")


def scrub_text(text: str) -> tuple[str, Counter[str]]:
    """Return `text` scrubbed with a numbering of its own, and the counts by kind."""
    return Scrubber().text(text)


def scrub_json(value: Any) -> tuple[Any, dict[str, int]]:
    """Return a JSON value scrubbed with one numbering throughout, and the counts by kind."""
    clean, counts = Scrubber().json(value)
    return clean, dict(counts)


_EXACT_COLUMNS = frozenset(
    "id episode_id parent_id experiment_id model_version_id interaction_id loser_interaction_id "
    "started_at created_at scrub".split()
)


def scrub_record(record: Mapping[str, Any], scrubber: Scrubber | None = None) -> dict[str, Any]:
    """Return a wire record with every text in it scrubbed, and the counts added to `scrub`.

    A unit that is itself personal (an e-mail address) becomes `unit-<hash>`, so that assignment
    stays sticky without saying whom it is about. Records without findings come back equal.
    """
    own = scrubber or Scrubber()
    clean: dict[str, Any] = {}
    counts: Counter[str] = Counter(record.get("scrub") or {})
    for name, value in record.items():
        if name in _EXACT_COLUMNS or value is None:
            clean[name] = value
            continue
        clean[name], found = own.json(value)
        counts.update(found)
        if name == "unit_id" and found:
            clean[name] = f"unit-{sha256(str(value).encode()).hexdigest()[:16]}"
    if counts:
        clean["scrub"] = dict(counts)
    return clean
