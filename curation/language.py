"""Which natural language a prompt is in, and which programming language an answer's code is in.

Tags for balance and for looking at; no model and no dictionary: scripts and the commonest words for
prose, fences, shebangs and telling syntax for code. What is not clear is None, never a guess.
"""

import re
from collections import Counter
from functools import cache
from typing import Final

_LOOKED_AT: Final = 2000
"""Characters of a text that are looked at."""
_LEAST_WORDS: Final = 4
_LEAST_SHARE: Final = 0.12
"""Share of a text's words that must be common words of its language."""
_LEAD: Final = 1.5
"""How many times as many of them as the next language's there must be."""

_CODE_PARTS = re.compile(r"```.*?(?:```|\Z)|`[^`\n]{1,200}`|https?://\S+", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*([\w+#.-]{0,20})", re.MULTILINE)

_COMMON_WORDS: Final = {
    "en": "the of and to in is that it for with as on be this are was not by an if from you "
    "which or have should return when what how does please can will",
    "de": "der die das und ist nicht ein eine mit von zu den dem für auf im sich des auch als "
    "wenn wie bitte wird sind oder werden kann soll diese einen",
    "fr": "le la les des et est une un dans que pour qui pas sur avec ce au du par plus en ne "
    "sont cette si comment vous ou être fonction",
    "es": "el la los las de y que en un una es por con para no se del al como lo más si esta "
    "este función debe cuando o su",
    "it": "il di che è e la per un una con non sono del della le si da in questo come gli dei "
    "alla se più nel funzione",
    "pt": "o os as de que e um uma para com não em do da dos das por se mais como ao no na "
    "função deve esta este ou",
    "nl": "de het een en van is niet dat op te met voor zijn die aan er als ook maar wordt "
    "deze functie kan of bij naar",
    "pl": "nie się na jest że do to w i z jak dla po od przez która który czy funkcja lub oraz",
    "sv": "och att det som en är på av för med den till inte ett om har jag eller när",
    "tr": "bir ve bu için ile olarak da de çok daha olan gibi ne mi değil fonksiyon",
}


def _languages_of() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for language, words in _COMMON_WORDS.items():
        for word in words.split():
            if len(word) > 1:  # single letters are names in code
                found.setdefault(word, []).append(language)
    return found


_LANGUAGES_OF: Final = _languages_of()

_SCRIPTS: Final = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7af]")),
    ("zh", re.compile("[\u4e00-\u9fff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
    ("el", re.compile("[\u0370-\u03ff]")),
)
"""Scripts that one language of those we tell apart is written in; kana before the shared Han."""
_CYRILLIC = re.compile("[\u0400-\u04ff]")
_UKRAINIAN = re.compile("[іїєґ]", re.IGNORECASE)
_LEAST_SCRIPT: Final = 0.3
"""Share of letters in a script; kana need less, as Han stands beside them."""
_LEAST_KANA: Final = 0.05

_ALIASES: Final = {
    alias: name
    for name, aliases in {
        "python": "python py python3 pycon ipython",
        "javascript": "javascript js jsx node mjs",
        "typescript": "typescript ts tsx",
        "rust": "rust rs",
        "go": "go golang",
        "java": "java",
        "kotlin": "kotlin kt",
        "c": "c h",
        "cpp": "cpp c++ cc cxx hpp",
        "csharp": "csharp c# cs",
        "ruby": "ruby rb",
        "php": "php",
        "swift": "swift",
        "scala": "scala",
        "haskell": "haskell hs",
        "lua": "lua",
        "perl": "perl pl",
        "r": "r",
        "julia": "julia jl",
        "shell": "shell sh bash zsh console shell-session",
        "sql": "sql postgresql psql mysql sqlite",
        "html": "html htm",
        "css": "css scss",
        "json": "json jsonl json5",
        "yaml": "yaml yml",
        "toml": "toml",
        "diff": "diff patch",
        "dockerfile": "dockerfile docker",
    }.items()
    for alias in aliases.split()
}
_SHEBANG = re.compile(r"#![^\n]{0,80}?\b(python|node|bash|sh|zsh|ruby|perl|php|lua|Rscript)\d?\b")
_CUES: Final[dict[str, tuple[tuple[tuple[str, ...], str], ...]]] = {
    "python": (
        (("def ",), r"^[ \t]*(?:async )?def \w+\([^\n]{0,300}\)[^\n{]{0,80}:[ \t]*(?:#|$)"),
        (("class ",), r"^[ \t]*class \w+(?:\([^)\n]{0,200}\))?:[ \t]*$"),
        ((" import ",), r"^from [\w.]+ import "),
        (("import ",), r"^import \w+(?:\.\w+)*(?: as \w+)?[ \t]*$"),
        (("if ",), r"^[ \t]*(?:el)?if [^\n{]{1,200}:[ \t]*$"),
        (("for ",), r"^[ \t]*for \w+(?:, ?\w+)* in [^\n{]{1,200}:[ \t]*$"),
    ),
    "rust": (
        (("fn ",), r"\bfn \w+(?:<[^>\n]{1,80}>)?\([^)\n]{0,300}\)[^\n]{0,80}\{"),
        (("let mut ",), r"\blet mut \w+"),
        (("::",), r"^use (?:std|crate|super)::"),
        (("impl ", "impl<"), r"\bimpl(?:<[^>\n]{1,80}>)? \w+"),
        (("println!(", "vec!(", "format!("), r"\b(?:println|vec|format)!\("),
    ),
    "go": (
        (("package ",), r"^package \w+$"),
        (("func ",), r"^func (?:\(\w+ \*?\w+\) )?\w+\("),
        (("fmt.",), r"\bfmt\.\w+\("),
        ((" := ",), r"\w+ := "),
    ),
    "typescript": (
        (("interface ",), r"^[ \t]*(?:export )?interface \w+ \{"),
        (("type ",), r"^[ \t]*(?:export )?type \w+ = "),
        (
            (": string", ": number", ": boolean", ": void", ": any"),
            r"\b(?:const|let|function) \w+[^\n=]{0,80}: (?:string|number|boolean|void|any)\b",
        ),
        (("): ",), r"\): (?:string|number|boolean|void|Promise<)"),
    ),
    "javascript": (
        (("const ", "let ", "var "), r"\b(?:const|let|var) \w+ = "),
        (("function",), r"\bfunction \w*\([^)\n]{0,200}\) ?\{"),
        (("console.log(",), r"\bconsole\.log\("),
        (("=>",), r"=> ?[{(]"),
        (("require(",), r"\brequire\(['\"]"),
    ),
    "java": (
        (
            ("public ",),
            r"\bpublic (?:static |final |abstract )*(?:class|interface|void|int|String|boolean)\b",
        ),
        (("system.out.print",), r"\bSystem\.out\.print"),
        (("import java",), r"^import java[.x]"),
    ),
    "cpp": (
        (("#include",), r"^#include <\w+>$"),
        (("std::",), r"\bstd::\w+"),
        (("cout <<",), r"\bcout <<"),
        (("using namespace ",), r"^using namespace "),
    ),
    "c": (
        (("#include",), r"^#include <\w+\.h>"),
        (('printf("',), r"\bprintf\(\""),
        (
            ("int ", "void ", "char ", "static "),
            r"^(?:int|void|char|static \w+) \*?\w+\([^)\n]{0,200}\) ?\{?$",
        ),
    ),
    "csharp": (
        (("using system",), r"^using System"),
        (("console.write",), r"\bConsole\.Write"),
        (("namespace ",), r"^namespace [\w.]+"),
    ),
    "ruby": (
        (("def ",), r"^[ \t]*def \w+[?!]?(?:\([^)\n]{0,200}\))?[ \t]*$"),
        (("end",), r"^[ \t]*end[ \t]*$"),
    ),
    "php": ((("<?php",), r"<\?php"), (("$",), r"\$\w+ = [^\n]{1,200};$")),
    "shell": (
        (("$ ",), r"^\$ \w+"),
        (("fi", "done", "esac"), r"^[ \t]*(?:fi|done|esac)[ \t]*$"),
        (("echo ",), r"^[ \t]*echo [\"$]"),
        (
            ("sudo ", "apt-get ", "pip ", "cd ", "grep ", "git ", "mkdir ", "export "),
            r"^(?:sudo|apt-get|pip|cd|grep|git|mkdir|export) \S",
        ),
    ),
    "sql": (
        (("select",), r"^[ \t]*(?i:select)\b[^;]{1,300}\b(?i:from)\b"),
        (("create ",), r"\b(?i:create (?:table|index))\b"),
    ),
    "diff": (
        (("diff --git ",), r"^diff --git "),
        (("@@ -",), r"^@@ -\d+"),
        (("+++ ", "--- "), r"^(?:\+\+\+|---) [ab]/"),
    ),
    "html": (
        (("<!doctype html",), r"(?i:<!doctype html)"),
        (("<html", "<body", "<div", "<script", "<head"), r"<(?i:html|body|div|script|head)\b"),
    ),
    "json": (
        (('"',), r"\A\s*[\[{]\s*\"\w+\"\s*:"),
        (('"',), r"\A\s*\[\s*\{\s*\"\w+\"\s*:"),
    ),
}
"""Language -> its cues, each after lower-case literals without one of which it cannot be there."""
_LITERALS: Final = frozenset(one for cues in _CUES.values() for needed, _ in cues for one in needed)
_BEFORE: Final = {"typescript": ("javascript",), "cpp": ("c",), "diff": tuple(_CUES)}
"""Language -> those whose cues it shows too: one of its own decides."""


def prose_language(text: str) -> str | None:
    """Return the ISO 639-1 code of the prose in `text`, or None when that is not sure.

    Code in fences or backticks and addresses are left out; only the beginning is looked at.
    """
    prose = _CODE_PARTS.sub(" ", text[:_LOOKED_AT])
    words = _WORD.findall(prose.lower())
    n_letters = sum(map(len, words))
    by_script = _language_of_script("".join(words), n_letters)
    if by_script is not None or len(words) < _LEAST_WORDS:
        return by_script
    counts = Counter(language for word in words for language in _LANGUAGES_OF.get(word, ()))
    (best, n_best), (_, n_next), *_ = [*counts.most_common(2), ("", 0), ("", 0)]
    if n_best < max(2, _LEAST_SHARE * len(words)) or n_best < _LEAD * n_next:
        return None
    return best


def code_language(answer: str) -> str | None:
    """Return the name of the programming language of an answer's code, or None when not sure.

    The tag of most fences, else the shebang, else the language most of whose cues are there.
    """
    opening = [tag.lower() for tag in _FENCE.findall(answer[: 10 * _LOOKED_AT])[::2]]
    tagged = Counter(_ALIASES[tag] for tag in opening if tag in _ALIASES)
    if tagged:
        return tagged.most_common(1)[0][0]
    code = _unfenced(answer[:_LOOKED_AT])
    shebang = _SHEBANG.match(code)
    if shebang:
        return _ALIASES.get(shebang.group(1).lower())
    return _language_of_cues(code)


def _language_of_script(letters: str, n_letters: int) -> str | None:
    if not n_letters or letters.isascii():
        return None
    for language, script in _SCRIPTS:
        least = _LEAST_KANA if language == "ja" else _LEAST_SCRIPT
        if len(script.findall(letters)) >= least * n_letters:
            return language
    if len(_CYRILLIC.findall(letters)) >= _LEAST_SCRIPT * n_letters:
        return "uk" if _UKRAINIAN.search(letters) else "ru"
    return None


def _language_of_cues(code: str) -> str | None:
    lowered = code.lower()
    held = {literal for literal in _LITERALS if literal in lowered}
    counts = Counter(
        {
            language: n_found
            for language, cues in _CUES.items()
            if (patterns := tuple(cue for needed, cue in cues if not held.isdisjoint(needed)))
            and (n_found := sum(1 for _ in _any_of(patterns).finditer(code)))
        }
    )
    for language, shared in _BEFORE.items():
        if language in counts:
            for other in shared:
                if other != language:
                    counts.pop(other, None)
    ranked = counts.most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


@cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.MULTILINE)


def _unfenced(answer: str) -> str:
    """Return the code between untagged fences, or the whole answer where there are none."""
    parts = re.split(r"^[ \t]*(?:```|~~~)[^\n]*\n?", answer, flags=re.MULTILINE)
    return "\n".join(parts[1::2]).lstrip() if len(parts) > 1 else answer.lstrip()
