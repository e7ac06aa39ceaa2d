"""Find secrets written out beside a telling name: `db_password = "hunter2"`, `API_KEY=…`.

Works outwards from one occurrence of a word such as `pass` or `token`, within a bounded stretch of
text, so that the cost grows with the number of such words and not with the length of the text.
"""

import re

from collector.scrub import checks as checks

_OPERATOR = re.compile(
    r"(?P<tail>[\w.-]{0,40}(?:\[\])?)(?P<close>\\{0,3}[\"'`]?\]?)"
    r"(?:\s{0,3}:\s{0,3}(?:str|string|String)\b(?=\s{0,3}=))?"
    r"(?P<operator>\s{0,3}(?:=>|={1,3}|!={1,2}|:{1,2}=?|,|\(|>)|)\s{0,4}"
)
_QUOTED = re.compile(
    r"[@bruflLBRUF]{0,2}\\{0,3}(?:"
    r"\"(?P<double>(?:[^\"\n\\]|\\[^\"\n]){4,4096})(?=\\{0,3}\")"
    r"|'(?P<single>(?:[^'\n\\]|\\[^'\n]){4,4096})(?=\\{0,3}')"
    r"|`(?P<back>[^`\n]{4,4096})(?=`))"
)
_PLAIN = re.compile(r"[^\s\"'`,;(){}<>\[\]$\\]{4,512}+(?=[\s,;)}\]\"'`\\]|$)")
_ODD = re.compile(r"[^\s\"'`\\]{8,128}+")
_LINE = re.compile(r"[^\s\"'`\\]{4,512}+(?=\r?\n|$)")
_ELEMENT = re.compile(r"[^<>\s]{4,256}+(?=</)")
_REVERSED = re.compile(r"[\"'`]\s{0,2}[!=]={1,2}\s{0,2}[\w.]{0,20}$")
_NAME_CHARACTERS = re.compile(r"[\w.$-]*$")

Span = tuple[int, int]


def assigned_at(text: str, position: int) -> tuple[Span, bool] | None:
    """Return where the value assigned to the name around `position` stands, if it is a secret.

    Args:
        text: whole text.
        position: index of a telling word in the name.

    Returns:
        The value's `(start, end)` and whether the name is a password's; None if there is none.
    """
    match = _OPERATOR.match(text, position)
    if match is None:
        return None
    operator = match["operator"].strip()
    span = _quoted(text, match, operator) if operator else _directive(text, match)
    if span is None and operator in ("=", ":", ":=", "=>", "::"):
        span = _bare(text, match, operator)
    if span is None and operator == ">":
        span = _element(text, match)
    if span is None:
        return _compared(text, position, match)
    return span, _is_password(_name(text, match))


def _name(text: str, match: re.Match[str]) -> str:
    before = _NAME_CHARACTERS.search(text[max(0, match.start() - 40) : match.start()])
    return (before[0] if before else "") + match["tail"].rstrip(".-[]")


def _is_password(name: str) -> bool:
    return checks.name_strength(name) == checks.PASSWORD


def _value_of(match: re.Match[str]) -> Span:
    return match.span(match.lastgroup or 0)


def _quoted(text: str, match: re.Match[str], operator: str) -> Span | None:
    quoted = _QUOTED.match(text, match.end())
    if quoted is None:
        return None
    start, end = _value_of(quoted)
    name = _name(text, match)
    if operator == "," and not _is_first_argument(text, match, name):
        return None
    if operator in (",", "("):
        return (start, end) if _stands_alone(name, text[start:end]) else None
    if match["tail"].endswith("[]") and quoted.lastgroup != "double":
        return None  # C writes an array of characters in double quotes
    return (start, end) if checks.assigned_secret(name, text[start:end]) else None


def _is_first_argument(text: str, match: re.Match[str], name: str) -> bool:
    """Say whether the name is quoted and comes first, as in `putenv("TOKEN", "value")`."""
    start = match.end("tail") - len(name)
    before = text[max(0, start - 4) : start].replace("\\", "")
    return before[-1:] in ('"', "'") and before[-2:-1] in ("(", "{", "[")


def _stands_alone(name: str, value: str) -> bool:
    """Say whether `value` is a secret even where the name before it may be an ordinary word."""
    if " " in value or checks.name_strength(name) is None or checks.is_placeholder(value):
        return False
    if not checks.assigned_secret(name, value):
        return False
    typed = checks.looks_typed(value, kinds=6) and not checks.brackets_balance(value)
    return typed or checks.looks_generated(value)


def _directive(text: str, match: re.Match[str]) -> Span | None:
    """Find `password "value";` of configuration files, and `--password value`."""
    gap = text[match.end("close") : match.end()]
    if not gap or "\n" in gap:
        return None
    name = _name(text, match)
    quoted = _QUOTED.match(text, match.end())
    if quoted is not None:
        start, end = _value_of(quoted)
        return (start, end) if _stands_alone(name, text[start:end]) else None
    if not name.startswith("--"):
        return None
    plain = _PLAIN.match(text, match.end())
    if plain is None or plain[0].startswith("-"):
        return None
    return plain.span() if checks.env_secret(name, plain[0]) else None


def _bare(text: str, match: re.Match[str], operator: str) -> Span | None:
    name = _name(text, match)
    if operator == "=" and _begins_line(text, match, name):
        line = _LINE.match(text, match.end("operator"))
        if line is not None and checks.env_secret(name, line[0]):
            return line.span()
    for pattern in (_PLAIN, _ODD):
        bare = pattern.match(text, match.end())
        if bare is not None and checks.bare_secret(name, bare[0]):
            return bare.span()
    return None


def _begins_line(text: str, match: re.Match[str], name: str) -> bool:
    """Say whether an environment variable's name begins its line or follows `export `."""
    start = match.end("tail") - len(name)
    before = text[max(0, start - 7) : start]
    return name.isupper() and (not before or before[-1] == "\n" or before == "export ")


def _element(text: str, match: re.Match[str]) -> Span | None:
    """Find the text of an XML element, `<password>value</password>`."""
    element = _ELEMENT.match(text, match.end("operator"))
    if element is None or not checks.assigned_secret(_name(text, match), element[0]):
        return None
    return element.span()


def _compared(text: str, position: int, match: re.Match[str]) -> tuple[Span, bool] | None:
    """Find a value that is compared with the name after it, `"value" == password`."""
    before = text[max(0, position - 30) : position]
    reversed_ = _REVERSED.search(before) if "=" in before else None
    if reversed_ is None:
        return None
    end = position - len(before) + reversed_.start()
    start = text.rfind(text[end], max(0, end - 256), end) + 1
    name = _name(text, match)
    if not start or "\n" in text[start:end] or not checks.assigned_secret(name, text[start:end]):
        return None
    return (start, end), _is_password(name)
