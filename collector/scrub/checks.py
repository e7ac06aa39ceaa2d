"""Say whether something that looks like a secret or a personal number really is one: pure checks.

Checksums (Luhn, IBAN's mod 97), decodable structure (JWT, basic credentials), randomness, and the
judgement of values assigned to a telling name, such as `db_password = "hunter2"`.
"""

import base64
import binascii
import ipaddress
import json
import math
import re
from collections import Counter
from functools import lru_cache

from collector.scrub import domains


def entropy_bits(text: str) -> float:
    """Return the Shannon entropy of the characters of `text`, in bits per character; 0 if empty."""
    total = len(text)
    return -sum(n / total * math.log2(n / total) for n in Counter(text).values())


def luhn_holds(digits: str) -> bool:
    """Say whether the last digit of a card number is its Luhn check digit (ISO/IEC 7812-1)."""
    total = 0
    for index, character in enumerate(reversed(digits)):
        digit = int(character)
        doubled = digit * 2 if index % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def iban_holds(value: str) -> bool:
    """Say whether an IBAN's check digits hold (ISO 13616, mod 97-10)."""
    compact = re.sub(r"[\s-]", "", value).upper()
    if not (15 <= len(compact) <= 34 and compact.isascii() and compact.isalnum()):
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


_CARD_PREFIX = re.compile(r"[3-6]|2[1-7]|1800|0604")


def is_card(value: str) -> bool:
    """Say whether `value` is a payment card number: 12 to 19 digits, an issuer's prefix, Luhn."""
    digits = re.sub(r"[^0-9]", "", value)
    if not 12 <= len(digits) <= 19 or not _CARD_PREFIX.match(digits):
        return False
    return len(set(digits)) > 1 and luhn_holds(digits)


_COMMON_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"
    r"|3[47]\d{13}|(?:6011|65\d\d|64[4-9]\d|35\d\d|62\d\d|220[0-4])\d{12}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|(?:1800|2131)\d{11}"
)


def is_common_card(value: str) -> bool:
    """Say whether prefix and length are those of a large card network (ISO/IEC 7812 ranges).

    Maestro's and other ranges take any length, so a tenth of all long numbers would pass: they
    need the word card beside them.
    """
    return bool(_COMMON_CARD.fullmatch(re.sub(r"[^0-9]", "", value)))


_PUBLIC_RESOLVERS = frozenset("1.1.1.1 1.0.0.1 8.8.8.8 8.8.4.4 9.9.9.9".split())


def is_public_address(value: str) -> bool:
    """Say whether an IP address could lead to somebody.

    Private, loopback, link-local, documentation and other reserved ranges could not (`is_global`),
    nor could the well-known public resolvers.
    """
    if value in _PUBLIC_RESOLVERS:
        return False
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast


def is_jwt(value: str) -> bool:
    """Say whether the head of a dotted token decodes to a JSON object."""
    head = value.split(".", 1)[0]
    try:
        decoded = base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))
        return isinstance(json.loads(decoded), dict)
    except (binascii.Error, ValueError, RecursionError):
        return False


def is_basic_credentials(value: str) -> bool:
    """Say whether `value` is base64 of `user:password` (RFC 7617)."""
    try:
        return b":" in base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False


def looks_random(value: str) -> bool:
    """Say whether letters and digits are mixed as in a generated value of 8 or more characters."""
    has_digit = any(character.isdigit() for character in value)
    has_letter = any(character.isalpha() for character in value)
    return len(value) >= 8 and has_digit and has_letter and entropy_bits(value) >= 2.5


_CLASS_RUNS = re.compile(r"[A-Z]+|[a-z]+|[0-9]+")


def looks_generated(value: str) -> bool:
    """Say whether `value` changes between letters and digits too often to be a name.

    `symbol2label` and `utf-8-sig` are names; `9f8e7d6c5b4a` is not. A long run of one case without
    any separator is taken as generated too.
    """
    if not looks_random(value):
        return len(value) >= 20 and value.isalnum() and value.islower() and entropy_bits(value) >= 3
    return len(_CLASS_RUNS.findall(value)) >= 4 or (len(value) >= 20 and " " not in value)


def looks_typed(value: str, kinds: int = 4) -> bool:
    """Say whether `value` mixes at least `kinds` punctuation marks, as chosen passwords do."""
    marks = {c for c in value if not c.isalnum() and not c.isspace()}
    return len(marks) >= kinds and entropy_bits(value) >= 3 and any(c.isalnum() for c in value)


_CLOSES = {")": "(", "]": "[", "}": "{"}


def brackets_balance(value: str) -> bool:
    """Say whether every bracket in `value` is closed in order, as in an expression of code."""
    opened: list[str] = []
    for character in value:
        if character in "([{":
            opened.append(character)
        elif character in _CLOSES and (not opened or opened.pop() != _CLOSES[character]):
            return False
    return not opened


_SLOT = re.compile(
    r"\$\{[^{}]*\}|\{\{[^{}]*\}\}|\{[\w.!:]*\}|\$\([^()]*\)|^\$\w+|%\(\w+\)s|%s|<%[^%]*%>"
)
_PLACEHOLDER = re.compile(
    r"^<.*>$|^[A-Z][A-Z_]*_\d+$|^\*+$|^[xX]{3,}$|^\.+$|^os\.|^env\b|^process\.env"
    r"|(?i:your[-_ ]|changeme|change_me|placeholder|redacted|example\.com|not[-_ ]?real|dummy|fake)"
)
_ORDINARY_WORDS = frozenset(
    "password passwd passphrase secret token string none null true false key value text bearer "
    "basic access refresh auth apikey api_key undefined required optional default hidden "
    "user username email submit input name type prod test pass username_or_password".split()
)
_NAME_WORDS = re.compile(r"(?i)passw(?:or)?d|passphrase|secret|token|credential|api[-_ ]?key")
_PATH = re.compile(r"(?:~|\.{1,2})?/[\w./ -]*$|[A-Za-z]:\\")


_OWN_MARK = re.compile(r"<?[A-Z][A-Z0-9_]*_\d+>?")


def is_own_mark(value: str) -> bool:
    """Say whether `value` is a placeholder that scrubbing left."""
    return bool(_OWN_MARK.fullmatch(value))


def is_placeholder(value: str) -> bool:
    """Say whether `value` only stands for a secret: a slot, a word of its kind, our own mark."""
    if _PLACEHOLDER.search(value) or value.lower() in _ORDINARY_WORDS:
        return True
    return len(_SLOT.sub("", value)) < 4


def is_slot(value: str) -> bool:
    """Say whether a URL's password is a template slot or one of our marks."""
    return bool(_PLACEHOLDER.search(value)) or _SLOT.sub("", value) == ""


PASSWORD, KEY, TOKEN = "password", "key", "token"
_PASSWORD_NAME = re.compile(
    r"(?i)passw(?:or)?[dt]|passphrase|passcode|keypass|contrase[nñ]a"
    r"|(?<![a-z])passe?(?![a-z])|pwd|(?<![a-z0-9])pw(?![a-z0-9])"
)
_PASS_CAMEL = re.compile(r"(?<=[a-z])Pass(?![a-z])")
_KEY_NAME = re.compile(
    r"(?i)secret|(?:api|app|application|access|private|priv|auth|encryption|service|account|client|db|database"
    r"|signing|master|subscription|license|storage)[_-]?key"
    r"|(?:ibm|iam|softlayer|cloudant|(?<![a-z])(?:sl|cl|cos))[\w-]{0,12}?(?:key|api)"
)
_TOKEN_NAME = re.compile(r"(?i)token|credential|(?<![a-z])auth(?![a-z])")
_DESCRIBES = re.compile(
    r"(?i)[_-](?:file|path|dir|url|uri|name|type|field|prompt|help|label|hint|message|msg|error"
    r"|policy|length|len|title|text|description|regex|pattern|header|param|env|var|id|ids|count"
    r"|limit|format|column|index|class|version|manager|provider|source|status|state|expiry"
    r"|expires|usage|node|list|map|required|enabled)$"
)


@lru_cache(maxsize=2048)
def name_strength(name: str) -> str | None:
    """Return what a name promises: `PASSWORD`, `KEY` or `TOKEN`; None if it is of no interest.

    A name that describes a secret without holding it (`password_file`, `token_type`) is of none.
    """
    if _DESCRIBES.search(name):
        return None
    if _PASSWORD_NAME.search(name) or _PASS_CAMEL.search(name):
        return PASSWORD
    if _KEY_NAME.search(name):
        return KEY
    return TOKEN if _TOKEN_NAME.search(name) else None


_PROSE_WORDS = frozenset(
    "a an the is are was be been being will would shall should can could may might must do does "
    "did has have had not no nor of for to in on at by from or if when then than that this these "
    "those it its you your we our they their he she who which what where how why please enter "
    "provide specify type input set get use used uses using new old current confirm repeat forgot "
    "reset change invalid wrong incorrect missing required optional expected error failed fails "
    "password passwords passphrase secret token tokens key keys user username login account api "
    "credential credentials auth hash hashed field string default".split()
)
_PHRASE = re.compile(r"[a-z0-9]+(?: [a-z0-9]+){3,7}")


def is_passphrase(value: str) -> bool:
    """Say whether `value` is four to eight plain lower-case words that make no sentence."""
    return bool(_PHRASE.fullmatch(value)) and _PROSE_WORDS.isdisjoint(value.split())


def assigned_secret(name: str, value: str) -> bool:
    """Say whether `value`, written in quotes and assigned to `name`, is a secret written out.

    Passwords are taken from 4 characters on; tokens and keys must look generated, since both words
    have other uses in code. Sentences, paths and template slots are neither.
    """
    stripped = value.strip()
    strength = name_strength(name)
    if strength is None or len(stripped) < 4 or is_placeholder(stripped):
        return False
    if _PATH.match(stripped) or not any(c.isalnum() for c in stripped):
        return False
    if " " in stripped and strength != TOKEN and is_passphrase(stripped):
        return True
    if strength == PASSWORD:
        return _is_password(stripped)
    if " " in stripped or "://" in stripped:
        return False
    return looks_generated(stripped) or (strength == KEY and looks_typed(stripped))


def _is_password(value: str) -> bool:
    if value.count(" ") >= 2:
        return False
    named = _NAME_WORDS.search(value)
    return not named or any(c.isdigit() for c in value) or looks_typed(value, kinds=2)


_DOTTED_NAME = re.compile(r"[A-Za-z_][\w.]*[_.][\w.]*")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PLAIN = re.compile(r"[\w+/=.~:@!#%^&*?-]+")


def bare_secret(name: str, value: str) -> bool:
    """Say whether an unquoted `value` assigned to `name` is a secret and not an expression.

    A dotted or underscored name, a call and a bare UUID (an identifier as a rule) are none;
    punctuation as no expression has it makes one.
    """
    strength = name_strength(name)
    if strength is None or "://" in value or is_placeholder(value):
        return False
    if not _PLAIN.fullmatch(value):
        return strength != TOKEN and len(value) >= 8 and _is_no_expression(value)
    if value[-1] in "+-*/%&|" or _DOTTED_NAME.fullmatch(value) or _UUID.fullmatch(value):
        return False
    if looks_typed(value, kinds=6):
        return True
    return looks_generated(value) or (strength == PASSWORD and looks_random(value))


def _is_no_expression(value: str) -> bool:
    return looks_typed(value, kinds=6) and not brackets_balance(value.rstrip(",;"))


def env_secret(name: str, value: str) -> bool:
    """Say whether `value` of a line `NAME=value`, as in an environment file, is a secret."""
    if name_strength(name) != PASSWORD:
        return bare_secret(name, value)
    return not (is_placeholder(value) or _PATH.match(value) or _DOTTED_NAME.fullmatch(value))


_NOBODY = frozenset(
    "foo bar baz spam eggs user username name you me myemail youremail email example test xxx yyy "
    "zzz someone somebody nobody noreply no-reply donotreply admin root postmaster webmaster "
    "mailer-daemon git hg svn".split()
)
_NOWHERE = re.compile(
    r"(?i)(?:.+\.)?(?:example\.(?:com|org|net|edu)|example|(?:foo|bar|baz|host|domain|mydomain"
    r"|yourdomain|xxx|yyy|zzz)\.(?:com|org|net|edu))$"
)


def is_mail_address(value: str) -> bool:
    """Say whether `value` is an address of somebody.

    The top-level domain must be one that mail is written to: `a@b.transpose` is a matrix product,
    `a@b.py` a file.
    An SSH remote (`git@github.com`) and an address of nobody nowhere (`user@example.com`) are none.
    """
    local, _, domain = value.rpartition("@")
    top = domain.rpartition(".")[2].lower()
    if top not in domains.ALL and not top.startswith("xn--"):
        return False
    if local in ("git", "hg") or (top == "py" and domain.count(".") == 1):
        return False
    return not (local.lower() in _NOBODY and _NOWHERE.match(domain))


_PHONE_BEFORE = re.compile(
    r"(?i)(?:\b(?:tele)?phone|\btel\.?|\bmobile|\bmob|\bcell(?:phone)?|\bfax|\boffice|\bdesk|\bdial"
    r"|\bwhatsapp|\bhotline|\bhandy|\bcontact number|\bmy (?:new |old )?number"
    r"|\bt[eé]l[eé](?:f[oó]+n[eo]?|phone)(?:nummer)?|\b(?:handy|mobil|ruf|fax)nummer"
    r"|\bm(?:obil|[oó]vil)|\bcel(?:ular|lulare)|\b(?:an|erreichbar) unter"
    r"|\bтел(?:ефон)?\.?|\bмоб\.?|电话|電話|手机|携帯|전화"
    r"|\b(?:call|reach|ring|text|phone)(?: (?:me|us|him|her|them|back|you|the \w+))?"
    r"(?: (?:back|up|now|today|directly))?(?: (?:on|at|under|via))?)"
    r"(?:[ _-]?(?:no|nr|num|number)\b\.?)?[\"'\]]?"
    r"(?: is| was| to| at| now| on| for| under)?[\s:：#=\"'(\[+]{0,4}$"
)
_PHONE_AFTER = re.compile(
    r"(?i)[\s\-,;(\\]{1,3}(?:office|fax|mobile|home|cell|work|desk|phone|tel)\b"
)
_DATE = re.compile(
    r"(?:19|20)\d\d[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./ ]\d{1,2}[-./ ](?:19|20)\d\d"
)


_FEW_DOTTED = re.compile(r"\d{1,3}(?:\.\d{1,3}){2,3}")  # an IP address or a version


_NO_WORDS = " \t\n,.;:|()[]{}<>+-*/=0123456789"


def is_named_phone(text: str, start: int, end: int) -> bool:
    """Say whether the words around `text[start:end]` call a row of digits a telephone number."""
    value = text[start:end]
    if _DATE.match(value) or _FEW_DOTTED.fullmatch(value):
        return False
    if not 7 <= sum(c.isdigit() for c in value) <= 22:
        return False
    before = text[max(0, start - 48) : start]
    called_before = before.strip(_NO_WORDS) and _PHONE_BEFORE.search(before)
    return bool(called_before or _PHONE_AFTER.match(text, end, end + 16))


def is_phone(value: str) -> bool:
    """Say whether a strictly formatted number may be dialled: 9 to 22 digits with an extension.

    Written without any separator it has at most 15 (E.164).
    """
    digits = [character for character in value if character.isdigit()]
    if _DATE.match(value) or _FEW_DOTTED.fullmatch(value) or len(set(digits)) <= 2:
        return False
    return 9 <= len(digits) <= (15 if value.lstrip("+").isdigit() else 22)


_PHONE_NAME = re.compile(r"(?i)phone|mobile|(?:^|[_-])(?:tel|cell|fax|whatsapp)(?:$|[_-])")
_SSN_NAME = re.compile(r"(?i)(?:^|[_-])ssn(?:$|[_-])|social_?security")
_DIAL = re.compile(r"\+?[0-9 ().\-/]{7,24}")


@lru_cache(maxsize=2048)
def number_named(name: str) -> str | None:
    """Return what kind of personal number a JSON member of this name holds: phone, ssn or None."""
    if _PHONE_NAME.search(name):
        return "phone"
    return "ssn" if _SSN_NAME.search(name) else None


def is_number_named(kind: str, value: str) -> bool:
    """Say whether `value` has the digits of what its name says it is."""
    digits = sum(character.isdigit() for character in value)
    least, most = (9, 9) if kind == "ssn" else (7, 15)
    return bool(_DIAL.fullmatch(value)) and least <= digits <= most
