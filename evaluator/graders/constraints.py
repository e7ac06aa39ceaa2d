"""Following instructions: an answer that can be anything as long as it keeps every stated rule.

Reference keys:
    rules: list of objects, each with a `kind` of `RULES` and what that kind needs:
        words, sentences, lines, characters: `min` and/or `max` of them.
        no_letters: none of the letters of `letters`; no_words: none of `words`.
        has: every one of `words`, each `times` (default 1) or more.
        order: the words of `words` appear, each first after the one before it.
        count: the text `text` occurs exactly `times`.
        case: `case` is "upper" or "lower", for every letter.
        starts, ends: with `text`.
        acrostic: the first letters of the lines spell `text`.
        each_line: every line matches the whole of `pattern`.
        sorted_lines: lines in alphabetical order.
        distinct_words: no word occurs twice.
        word_length: every word has `min` to `max` letters.
    example: optional, an answer that keeps the rules; the grader does not read it.

An answer in one code fence is taken out of it. Words are runs of letters, digits, apostrophes and
hyphens; sentences end in . ! or ?; lines without text do not count.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from evaluator.graders.grades import LOST, Grade, GradedTask
from evaluator.sandbox import Sandbox, Status
from foundation.errors import BadInput

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?]+")
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.S)
LONGEST: Final = 20_000
"""Characters of an answer that are read; a longer one keeps no rule."""

Rule = Mapping[str, Any]


def words_of(text: str) -> list[str]:
    """Return the words of a text, lower case."""
    return [word.casefold() for word in _WORD.findall(text)]


def lines_of(text: str) -> list[str]:
    """Return the lines that hold text, stripped."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def sentences_of(text: str) -> list[str]:
    """Return what stands between the ends of sentences, where it holds a word."""
    return [part for part in _SENTENCE_END.split(text) if re.search(r"\w", part)]


def _within(count: int, rule: Rule) -> bool:
    return bool(rule.get("min", 0) <= count <= rule.get("max", count))


def _in_order(text: str, rule: Rule) -> bool:
    words = words_of(text)
    wanted = [word.casefold() for word in rule["words"]]
    if not set(wanted) <= set(words):
        return False
    return all(words.index(one) < words.index(other) for one, other in pairwise(wanted))


def _has(text: str, rule: Rule) -> bool:
    words = words_of(text)
    return all(words.count(word.casefold()) >= rule.get("times", 1) for word in rule["words"])


def _no_words(text: str, rule: Rule) -> bool:
    return not set(words_of(text)) & {word.casefold() for word in rule["words"]}


def _case(text: str, rule: Rule) -> bool:
    return text == (text.upper() if rule["case"] == "upper" else text.lower())


def _acrostic(text: str, rule: Rule) -> bool:
    initials = "".join(line[0] for line in lines_of(text))
    return initials.casefold() == str(rule["text"]).casefold()


def _each_line(text: str, rule: Rule) -> bool:
    return all(re.fullmatch(rule["pattern"], line) for line in lines_of(text))


def _sorted_lines(text: str, rule: Rule) -> bool:
    lines = [line.casefold() for line in lines_of(text)]
    return lines == sorted(lines)


def _distinct(text: str, rule: Rule) -> bool:
    words = words_of(text)
    return len(set(words)) == len(words)


RULES: Final[dict[str, Callable[[str, Rule], bool]]] = {
    "words": lambda text, rule: _within(len(words_of(text)), rule),
    "sentences": lambda text, rule: _within(len(sentences_of(text)), rule),
    "lines": lambda text, rule: _within(len(lines_of(text)), rule),
    "characters": lambda text, rule: _within(len(text), rule),
    "no_letters": lambda text, rule: not set(text.casefold()) & set(rule["letters"].casefold()),
    "no_words": _no_words,
    "has": _has,
    "order": _in_order,
    "count": lambda text, rule: text.count(rule["text"]) == rule["times"],
    "case": _case,
    "starts": lambda text, rule: text.startswith(rule["text"]),
    "ends": lambda text, rule: text.endswith(rule["text"]),
    "acrostic": _acrostic,
    "each_line": _each_line,
    "sorted_lines": _sorted_lines,
    "distinct_words": _distinct,
    "word_length": lambda text, rule: all(_within(len(word), rule) for word in words_of(text)),
}
"""Kind of rule -> whether a text keeps it."""


def grade_many(
    tasks: Sequence[GradedTask], answers: Sequence[str], sandbox: Sandbox
) -> list[Grade]:
    """Grade answers; the score is the share of rules kept. The sandbox is not used.

    Raises:
        BadInput: a task has no rules, an unknown one, or one that lacks what it needs.
    """
    return [_grade(task, answer) for task, answer in zip(tasks, answers, strict=True)]


def broken_rules(rules: Sequence[Rule], answer: str) -> list[Rule]:
    """Return the rules that an answer breaks, all of them where it is empty or far too long."""
    text = answer.strip()
    fenced = _FENCE.match(text) if len(text) <= LONGEST else None
    text = fenced[1].strip() if fenced else text
    if not text or len(text) > LONGEST:
        return list(rules)
    return [rule for rule in rules if not RULES[rule["kind"]](text, rule)]


def _grade(task: GradedTask, answer: str) -> Grade:
    rules = _rules(task)
    if not answer.strip():
        return LOST
    try:
        broken = broken_rules(rules, answer)
    except KeyError as error:
        raise _bad_rules(task, rules, f"{error} in the rule that needs it") from None
    score = 1 - len(broken) / len(rules)
    if broken:
        return Grade.of(Status.WRONG, "breaks " + "; ".join(map(_in_words, broken)), score)
    return Grade.of(Status.PASS, "", 1.0)


def _rules(task: GradedTask) -> list[Rule]:
    rules = task.reference.get("rules")
    if not isinstance(rules, list) or not rules:
        raise _bad_rules(task, rules, "a list of rules that is not empty")
    if not all(isinstance(rule, dict) and rule.get("kind") in RULES for rule in rules):
        raise _bad_rules(task, rules, f"rules whose kind is one of {sorted(RULES)}")
    return list(rules)


def _bad_rules(task: GradedTask, rules: Any, expected: str) -> BadInput:
    return BadInput(
        f"task {task.task_id}: reference['rules']", rules, expected, "Correct the suite."
    )


def _in_words(rule: Rule) -> str:
    needs = ", ".join(f"{name} {value!r}" for name, value in rule.items() if name != "kind")
    return f"{rule['kind']} ({needs})" if needs else str(rule["kind"])
