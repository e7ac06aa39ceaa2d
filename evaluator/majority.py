"""Which of several answers most agree on: by what they say, or by what their code does.

Front desk for whoever asks several models at once. Answers that mean the same are one vote each for
it: equal JSON, the same program however it is laid out, the same words. Code can be held against
more: each answer's function is called in the sandbox with the inputs of the examples that the
question gives, and what gives the same results is the same (as in AlphaCode, Li et al. 2022);
results that the examples expect come before mere agreement. Nothing here is ever run elsewhere.
"""

import ast
import doctest
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluator.graders.answers import extract_code
from evaluator.sandbox import Call, Limits, Outcome, Sandbox, Status

MAX_EXAMPLES = 20
LIMITS = Limits(cpu_s=2.0, wall_s=6.0)


@dataclass(frozen=True)
class Elected:
    """Which answer won.

    Attributes:
        index: its place among the answers; the first of those that agree.
        votes: how many answers agree with it, itself included.
        n: answers that could be counted.
        reason: why, in words.
    """

    index: int
    votes: int
    n: int
    reason: str


def meaning(answer: str) -> str:
    """Return a text that is equal for answers that say the same; pure.

    JSON by its values, one block of Python by its syntax tree, anything else by its words.
    """
    text = answer.strip()
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        pass
    try:
        program = ast.parse(extract_code(text))
        if any(not isinstance(one, ast.Expr) for one in program.body):  # prose may parse too
            return ast.dump(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return " ".join(text.casefold().split())


def elect(keys: Sequence[str | None], ranks: Sequence[int] | None = None) -> Elected | None:
    """Return the answer with the most votes; pure.

    Args:
        keys: one per answer, equal where answers agree; None for one that does not count.
        ranks: what comes before votes, higher first, one per answer; None: nothing does.

    Returns:
        None if nobody counts. Of equals the earlier answer wins.
    """
    votes = Counter(key for key in keys if key is not None)
    if not votes:
        return None
    ranked = ranks or [0] * len(keys)
    index, key = max(
        ((index, key) for index, key in enumerate(keys) if key is not None),
        key=lambda one: (ranked[one[0]], votes[one[1]], -one[0]),
    )
    n = sum(votes.values())
    return Elected(index, votes[key], n, f"{votes[key]} of {n} answers agree")


def by_text(answers: Sequence[str | None]) -> Elected | None:
    """Return the answer that most say; None stands for a model that gave none."""
    return elect([None if answer is None else meaning(answer) for answer in answers])


@dataclass(frozen=True)
class Examples:
    """The calls that a question shows, and what it says they give.

    Attributes:
        entry_point: the function's name; empty if the question shows no call that can be made.
        inputs: positional arguments of each call, plain values.
        expected: the value that the question gives for each call, where it gives one.
    """

    entry_point: str = ""
    inputs: tuple[tuple[Any, ...], ...] = ()
    expected: dict[int, Any] = field(default_factory=dict)


def examples_of(question: str) -> Examples:
    """Return the examples in a question: doctests, and asserts that a call equals a value; pure.

    Calls of the function that most of them are of, with literals as arguments.
    """
    found: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = []
    for source, wanted in [*_doctests(question), *_asserts(question)]:
        call = _literal_call(source)
        if call is not None:
            found.append((*call, _literals([wanted]) if wanted else ()))
    if not found:
        return Examples()
    name = Counter(one[0] for one in found).most_common(1)[0][0]
    calls = [one for one in found if one[0] == name][:MAX_EXAMPLES]
    return Examples(
        name,
        tuple(arguments for _, arguments, _ in calls),
        {place: value[0] for place, (*_, value) in enumerate(calls) if value},
    )


def _doctests(question: str) -> list[tuple[str, str]]:
    try:
        found = doctest.DocTestParser().get_examples(question)
    except ValueError:  # prose that looks like a doctest
        return []
    return [(one.source.strip(), one.want.strip()) for one in found]


def _asserts(question: str) -> list[tuple[str, str]]:
    found = []
    for line in question.splitlines():
        if not line.strip().startswith("assert "):
            continue
        try:
            tree = ast.parse(line.strip()).body[0]
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        test = tree.test if isinstance(tree, ast.Assert) else None
        if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq):
            found.append((ast.unparse(test.left), ast.unparse(test.comparators[0])))
    return found


def _literal_call(source: str) -> tuple[str, tuple[Any, ...]] | None:
    try:
        call = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.keywords:
        return None
    arguments = _literals([ast.unparse(one) for one in call.args])
    return (call.func.id, arguments) if len(arguments) == len(call.args) else None


def _literals(sources: Sequence[str]) -> tuple[Any, ...]:
    """Return the values of texts that are literals; those that are not are left out."""
    values = []
    for source in sources:
        try:
            values.append(ast.literal_eval(source))
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            continue
    return tuple(values)


def by_execution(question: str, answers: Sequence[str | None], sandbox: Sandbox) -> Elected | None:
    """Return the answer whose code behaves as most do on the question's examples.

    Results that the question expects come first. Falls back on `by_text` where the question shows
    no call, or no answer holds such a function.

    Raises:
        SandboxUnavailable: nothing here can hold untrusted code.
    """
    examples = examples_of(question)
    if not examples.entry_point:
        return by_text(answers)
    keys: list[str | None] = []
    ranks: list[int] = []
    for answer in answers:
        outcome = _called(answer, examples, sandbox)
        keys.append(None if outcome is None else repr((outcome.values, outcome.errors)))
        ranks.append(0 if outcome is None else _as_expected(outcome, examples))
    won = elect(keys, ranks)
    if won is None:
        return by_text(answers)
    shown = len(examples.expected)
    met = f", {ranks[won.index]} of {shown} examples as the question says" if shown else ""
    return Elected(won.index, won.votes, won.n, f"{won.votes} of {won.n} answers behave alike{met}")


def _called(answer: str | None, examples: Examples, sandbox: Sandbox) -> Outcome | None:
    code = extract_code(answer or "", examples.entry_point)
    if not code.strip():
        return None
    outcome = sandbox.run(Call(code, examples.entry_point, examples.inputs, LIMITS))
    return outcome if outcome.status is Status.PASS else None


def _as_expected(outcome: Outcome, examples: Examples) -> int:
    values = outcome.values or ()
    return sum(
        outcome.errors[place] is None
        and type(values[place]) is type(wanted)
        and values[place] == wanted
        for place, wanted in examples.expected.items()
    )
