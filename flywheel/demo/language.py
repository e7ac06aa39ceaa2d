"""The compositional task family of the demo: "return AGGREGATE of MAP of FILTER of a list".

A `Meaning` is one of about 35,000 combinations; everything else (wording, names, answers, planted
bugs, reviews) is rendered from it. Tasks are split by the hash of the *semantic key*, never of the
text, so a paraphrase of a held-out task can not reach training, whichever role asks it. Pure
Python: nothing here executes generated code or loads torch; `Meaning.value` computes the truth.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

Items: TypeAlias = tuple[int, ...]

ROLES: Final = ("coder", "tester", "reviewer")
PARTS: Final = ("aggregate", "map", "filter")
CONSTANTS: Final = tuple(range(2, 13))
NAMES: Final = (
    "compute",
    "gather",
    "combine",
    "select",
    "measure",
    "digest",
    "transform",
    "evaluate",
    "extract",
    "resolve",
)
ARGUMENTS: Final = ("items", "values", "numbers", "data", "entries", "series")
VARIABLES: Final = ("x", "n", "v", "k", "a", "item")

CODER_VERBS: Final = (
    "Write a function {signature} that returns {request}.",
    "Define {signature} returning {request}.",
    "Implement {signature} so that it returns {request}.",
    "Please write {signature}, which gives back {request}.",
)
TESTER_VERBS: Final = (
    "Write a parametrised test for {signature}, which returns {request}.",
    "Test the function {signature} that returns {request}.",
    "Write a test of {signature}: it returns {request}.",
    "Please check {signature}, which gives back {request}, with a test.",
)
REVIEWER_VERB: Final = "Review this function. It should return {request}.\n{code}"

_NUMBER_WORDS: Final = (
    "nothing one two three four five six seven eight nine ten eleven twelve".split()
)

INPUTS: Final[tuple[Items, ...]] = (
    (),
    (0,),
    (1, 2),
    (3,),
    (4, 3),
    (5, 4),
    (6, 5, 6),
    (7, 6),
    (8, 7, 9),
    (10, 9),
    (11, 10, 11),
    (12, 11),
    (13, 12, 24),
    tuple(range(-4, 27)),
    tuple(range(26, -4, -1)),
    (9, 2, 14, 3, 3, 21, 8, -6, 2),
    (-3, -12, 0, -7, -1),
    (30, 5, 48, 7, 12, 60, 5, 11, 36, 10, 55, 77),
    (6, 1, 4, 12, 2, 10, 3, 8, 5, 11, 7, 9, 0, 13),
)
"""The 19 fixed lists on which functions are compared; they hit every boundary constant."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One choice of a part: its code over `{v}` and `{c}`, its wordings, and what it computes."""

    code: str
    wordings: tuple[str, ...]
    apply: Callable[[int, int], int]
    has_constant: bool = True


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregator: its code around the generator `{g}`, its wordings, and what it computes."""

    code: str
    wordings: tuple[str, ...]
    apply: Callable[[Sequence[int]], object]


AGGREGATES: Final[dict[str, Aggregate]] = {
    "sum": Aggregate("sum({g})", ("the sum of", "the total of", "the grand total of"), sum),
    "max": Aggregate(
        "max(({g}), default=0)",
        ("the largest of", "the maximum of", "the biggest of"),
        lambda found: max(found, default=0),
    ),
    "min": Aggregate(
        "min(({g}), default=0)",
        ("the smallest of", "the minimum of", "the lowest of"),
        lambda found: min(found, default=0),
    ),
    "list": Aggregate("[{g}]", ("a list of", "the list of", "a plain list of"), list),
    "sorted": Aggregate(
        "sorted({g})",
        ("the sorted list of", "the ascending list of", "the ordered list of"),
        sorted,
    ),
    "reversed": Aggregate(
        "[{g}][::-1]",
        ("the reversed list of", "the backward list of", "the flipped list of"),
        lambda found: list(found)[::-1],
    ),
    "first": Aggregate(
        "next(({g}), None)",
        ("the first of", "the earliest of", "the leading one of"),
        lambda found: next(iter(found), None),
    ),
    "unique": Aggregate(
        "sorted(set({g}))",
        ("the sorted unique values of", "the sorted distinct values of", "the ordered set of"),
        lambda found: sorted(set(found)),
    ),
}
MAPS: Final[dict[str, Operation]] = {
    "same": Operation(
        "{v}", ("the numbers", "the elements", "the members"), lambda x, c: x, has_constant=False
    ),
    "add": Operation(
        "{v} + {c}",
        ("the numbers plus {c}", "the elements increased by {c}", "{c} added to the members"),
        lambda x, c: x + c,
    ),
    "subtract": Operation(
        "{v} - {c}",
        ("the numbers minus {c}", "the elements lowered by {c}", "{c} taken from the members"),
        lambda x, c: x - c,
    ),
    "multiply": Operation(
        "{v} * {c}",
        ("the numbers times {c}", "the elements multiplied by {c}", "{c} times the members"),
        lambda x, c: x * c,
    ),
    "square": Operation(
        "{v} * {v}",
        ("the squares of the numbers", "the elements squared", "the squared members"),
        lambda x, c: x * x,
        has_constant=False,
    ),
    "remainder": Operation(
        "{v} % {c}",
        ("the numbers modulo {c}", "the remainders of the elements by {c}", "the members mod {c}"),
        lambda x, c: x % c,
    ),
    "divide": Operation(
        "{v} // {c}",
        (
            "the numbers floor divided by {c}",
            "the whole quotients of the elements by {c}",
            "the members integer divided by {c}",
        ),
        lambda x, c: x // c,
    ),
}
FILTERS: Final[dict[str, Operation]] = {
    "above": Operation(
        "{v} > {c}",
        ("greater than {c}", "above {c}", "exceeding {c}"),
        lambda x, c: x > c,
    ),
    "below": Operation(
        "{v} < {c}", ("less than {c}", "below {c}", "under {c}"), lambda x, c: x < c
    ),
    "at_least": Operation(
        "{v} >= {c}",
        ("at least {c}", "not below {c}", "from {c} upwards"),
        lambda x, c: x >= c,
    ),
    "at_most": Operation(
        "{v} <= {c}",
        ("at most {c}", "not above {c}", "up to {c}"),
        lambda x, c: x <= c,
    ),
    "multiple": Operation(
        "{v} % {c} == 0",
        ("divisible by {c}", "that are multiples of {c}", "that {c} divides"),
        lambda x, c: x % c == 0,
    ),
    "not_multiple": Operation(
        "{v} % {c} != 0",
        ("not divisible by {c}", "that are no multiples of {c}", "that {c} does not divide"),
        lambda x, c: x % c != 0,
    ),
    "unequal": Operation(
        "{v} != {c}",
        ("not equal to {c}", "other than {c}", "different from {c}"),
        lambda x, c: x != c,
    ),
    "even": Operation(
        "{v} % 2 == 0",
        ("that are even", "of even value", "without odd ones"),
        lambda x, c: x % 2 == 0,
        has_constant=False,
    ),
}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a task asks for, free of wording. A constant is 0 where its operation takes none."""

    aggregate: str
    map: str
    map_constant: int
    filter: str
    filter_constant: int

    @property
    def key(self) -> str:
        """The semantic key; filters that agree on every integer (`x >= 5`, `x > 4`) share it."""
        name, constant = self.filter, self.filter_constant
        if name == "at_least":
            name, constant = "above", constant - 1
        elif name == "at_most":
            name, constant = "below", constant + 1
        elif name == "even":
            name, constant = "multiple", 2
        return f"{self.aggregate}/{self.map}:{self.map_constant}/{name}:{constant}"

    def value(self, items: Sequence[int]) -> object:
        """The right answer for `items`."""
        keep, change = FILTERS[self.filter].apply, MAPS[self.map].apply
        kept = [change(x, self.map_constant) for x in items if keep(x, self.filter_constant)]
        return AGGREGATES[self.aggregate].apply(kept)

    def map_code(self, variable: str) -> str:
        """The map as an expression over `variable`, such as `x * 3`."""
        return MAPS[self.map].code.format(v=variable, c=self.map_constant)

    def filter_code(self, variable: str) -> str:
        """The filter as a condition over `variable`, such as `x > 4`."""
        return FILTERS[self.filter].code.format(v=variable, c=self.filter_constant)

    def expression(self, argument: str, variable: str) -> str:
        """The whole computation as one expression over the list named `argument`."""
        generator = (
            f"{self.map_code(variable)} for {variable} in {argument}"
            f" if {self.filter_code(variable)}"
        )
        return AGGREGATES[self.aggregate].code.format(g=generator)

    def request(self, wording: tuple[int, int, int]) -> str:
        """The English request; `wording` picks the paraphrase (0-2) of each of the `PARTS`."""
        aggregate = AGGREGATES[self.aggregate].wordings[wording[0]]
        mapped = MAPS[self.map].wordings[wording[1]].format(c=self.map_constant)
        kept = FILTERS[self.filter].wordings[wording[2]].format(c=self.filter_constant)
        return f"{aggregate} {mapped} for those {kept}"


@dataclass(frozen=True, slots=True)
class Wrong:
    """A planted wrong function and the one part of the request that it gets wrong."""

    part: str
    code: str


@dataclass(frozen=True, slots=True)
class Style:
    """The free choices of one task's text: names, paraphrases, and which verb phrase asks it."""

    name: str
    argument: str
    variable: str
    wording: tuple[int, int, int]
    verb: int


@dataclass(frozen=True, slots=True)
class DemoTask:
    """One task of one role, with everything that its grader needs.

    Attributes:
        role: `coder`, `tester` or `reviewer`.
        key: the semantic key, by which the splits are made.
        prompt: the user message.
        reference: a right answer.
        entry_point: the function asked for (coder), or under test (tester), or shown (reviewer).
        inputs: the argument lists on which functions are compared or tests are run.
        subject: the right function (coder, tester), or the function shown (reviewer).
        wrong: planted wrong functions under the same entry point; for a reviewer the function
            shown, or nothing when that one is right.
        verdict: the last line of a right review; empty for the other roles.
        meaning: what is asked.
        shown: what the subject computes; `meaning` but for a reviewer's wrong function.
        style: how it is said.
    """

    role: str
    key: str
    prompt: str
    reference: str
    entry_point: str
    inputs: tuple[Items, ...]
    subject: str
    wrong: tuple[Wrong, ...]
    verdict: str
    meaning: Meaning
    shown: Meaning
    style: Style

    @property
    def task_type(self) -> str:
        """A coarse kind for balancing: the aggregator asked for."""
        return self.meaning.aggregate

    @property
    def test_name(self) -> str:
        """The name of the test function that a tester is to write."""
        return f"test_{self.entry_point}"


def is_held_out(key: str) -> bool:
    """Whether a semantic key belongs to the held-out tenth; a function of the key alone."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % 10 == 0


def agree(one: Meaning, other: Meaning) -> bool:
    """Whether two meanings give the same values, of the same types, on all of `INPUTS`."""
    return all(_same(one.value(items), other.value(items)) for items in _BY_LENGTH)


def draw_meaning(rng: random.Random, rare: Sequence[str] = (), rare_share: float = 1.0) -> Meaning:
    """Draws a meaning, uniformly but for the `rare` aggregates, kept with `rare_share` only."""
    while True:
        aggregate = rng.choice(tuple(AGGREGATES))
        if aggregate not in rare or rng.random() < rare_share:
            break
    mapped, kept = rng.choice(tuple(MAPS)), rng.choice(tuple(FILTERS))
    return Meaning(aggregate, mapped, _constant(MAPS[mapped], rng), kept, _kept(kept, rng))


def draw_style(rng: random.Random, role: str) -> Style:
    """Draws names and wording; a reviewer's tasks keep to the plainest ones."""
    if role == "reviewer":
        return Style(rng.choice(NAMES), "items", "x", (0, 0, 0), 0)
    wording = (rng.randrange(3), rng.randrange(3), rng.randrange(3))
    return Style(
        rng.choice(NAMES), rng.choice(ARGUMENTS), rng.choice(VARIABLES), wording, rng.randrange(4)
    )


def misreadings(meaning: Meaning, part: str) -> list[Meaning]:
    """Every near miss of `meaning` in one part that some input of `INPUTS` shows to be wrong."""
    return [wrong for wrong in _NEAR_MISSES[part](meaning) if not agree(wrong, meaning)]


def near_miss(meaning: Meaning, part: str, rng: random.Random) -> Meaning:
    """Draws a meaning that differs in one part, whether or not any input shows it."""
    return rng.choice(list(_NEAR_MISSES[part](meaning)))


def misread(meaning: Meaning, rng: random.Random, part: str | None = None) -> tuple[str, Meaning]:
    """Draws one near miss, and says which part it gets wrong.

    A part that can not be misread visibly (the map, where the filter keeps nothing but one value)
    gives way to another one; every meaning has one.
    """
    for chosen in (part or rng.choice(PARTS), *PARTS):
        candidates = list(_NEAR_MISSES[chosen](meaning))
        rng.shuffle(candidates)
        for wrong in candidates:
            if not agree(wrong, meaning):
                return chosen, wrong
    raise AssertionError(f"{meaning} has no wrong variant")


def function_code(meaning: Meaning, style: Style) -> str:
    """The two-line function."""
    expression = meaning.expression(style.argument, style.variable)
    return f"def {style.name}({style.argument}):\n    return {expression}"


def test_code(meaning: Meaning, style: Style) -> str:
    """The parametrised test: called with each input list, it asserts the computed value."""
    expression = meaning.expression(style.argument, style.variable)
    call = f"{style.name}({style.argument})"
    return f"def test_{style.name}({style.argument}):\n    assert {call} == {expression}"


test_code.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test of ours


def weak_test_code(style: Style, rng: random.Random) -> str:
    """A test that any function passes: what a hurried tester writes."""
    call = f"{style.name}({style.argument})"
    check = rng.choice((f"{call} == {call}", f"{style.argument} == {style.argument}"))
    return f"def test_{style.name}({style.argument}):\n    assert {check}"


def review_text(asked: Meaning, found: Meaning) -> str:
    """A review: row by row what was asked, what was found, and the mark; then the verdict.

    Each row compares two single words, numbers spelled out: a model of this size learns to compare
    adjacent words, but not the two longer spans of code (measured).
    """
    lines, differing = [], []
    for (part, row, a), (_, _, f) in zip(_review_rows(asked), _review_rows(found), strict=True):
        lines.append(f"{row} {a} {f} {'same' if a == f else 'differs'}")
        if a != f:
            differing.append(part)
    return "\n".join((*lines, f"wrong: {differing[0]}" if differing else "correct"))


def _review_rows(meaning: Meaning) -> Iterator[tuple[str, str, str]]:
    """What a review looks at, as (part, name of the row, word)."""
    name, constant = meaning.filter, meaning.filter_constant
    if name == "even":
        name, constant = "multiple", 2
    yield "aggregate", "aggregate", meaning.aggregate
    yield "map", "map", meaning.map
    yield "map", "by", _NUMBER_WORDS[meaning.map_constant]
    yield "filter", "filter", name.removeprefix("at_").replace("not_multiple", "indivisible")
    yield "filter", "at", _NUMBER_WORDS[constant]


def verdict_of(answer: str) -> str | None:
    """The verdict line of a review (`correct`, or `wrong: ` and a part); None when it has none."""
    lines = answer.strip().splitlines()
    last = lines[-1].strip() if lines else ""
    return last if last == "correct" or last in {f"wrong: {part}" for part in PARTS} else None


def make_task(role: str, meaning: Meaning, style: Style, rng: random.Random) -> DemoTask:
    """Renders one task; `rng` picks the planted wrong functions.

    Raises:
        ValueError: for a role outside `ROLES`.
    """
    if role not in ROLES:
        raise ValueError(f"role {role!r} has no demo tasks; expected one of {', '.join(ROLES)}")
    right, request = function_code(meaning, style), meaning.request(style.wording)
    signature, verdict, subject = f"{style.name}({style.argument})", "", right
    shown, wrong = meaning, tuple[Wrong, ...]()
    if role == "reviewer":
        part = ""
        if rng.random() < 0.6:
            part, shown = misread(meaning, rng)
        subject = function_code(shown, style)
        wrong = (Wrong(part, subject),) if part else ()
        reference = review_text(meaning, shown)
        verdict = f"wrong: {part}" if part else "correct"
        prompt = REVIEWER_VERB.format(request=request, code=subject)
    else:
        wrong = _planted(meaning, style, rng)
        verbs = CODER_VERBS if role == "coder" else TESTER_VERBS
        prompt = verbs[style.verb].format(signature=signature, request=request)
        reference = right if role == "coder" else test_code(meaning, style)
    return DemoTask(
        role=role,
        key=meaning.key,
        prompt=prompt,
        reference=reference,
        entry_point=style.name,
        inputs=INPUTS,
        subject=subject,
        wrong=wrong,
        verdict=verdict,
        meaning=meaning,
        shown=shown,
        style=style,
    )


def tasks(role: str, split: str, n: int, seed: int) -> list[DemoTask]:
    """Draws `n` tasks with distinct semantic keys from one split.

    Args:
        role: one of `ROLES`.
        split: `train` (nine tenths of the keys) or `held_out` (one tenth, about 3,000 keys).
        n: how many; 0 gives an empty list.
        seed: the same arguments give the same tasks.

    Raises:
        ValueError: for an unknown role or split.
    """
    if split not in ("train", "held_out"):
        raise ValueError(f"split {split!r} is unknown; expected 'train' or 'held_out'")
    rng = random.Random(f"demo/{role}/{split}/{seed}")
    seen: set[str] = set()
    drawn: list[DemoTask] = []
    while len(drawn) < n:
        meaning = draw_meaning(rng)
        if meaning.key in seen or is_held_out(meaning.key) != (split == "held_out"):
            continue
        seen.add(meaning.key)
        drawn.append(make_task(role, meaning, draw_style(rng, role), rng))
    return drawn


def sloppy_answer(task: DemoTask, rng: random.Random) -> str:
    """A wrong answer as a careless agent gives it: one part misread, or a test that checks nothing.

    The misreading is shown to be wrong by some input; a misread review states a wrong verdict.
    """
    style = replace(task.style, variable=_variable(task, rng))
    if task.role == "reviewer":
        return _sloppy_review(task, rng)
    if task.role == "tester" and rng.random() < 0.5:
        return weak_test_code(style, rng)
    _, wrong = misread(task.meaning, rng)
    return function_code(wrong, style) if task.role == "coder" else test_code(wrong, style)


def right_answer(task: DemoTask, rng: random.Random) -> str:
    """A right answer, its variable name drawn anew (a review has only one right text)."""
    style = replace(task.style, variable=_variable(task, rng))
    if task.role == "coder":
        return function_code(task.meaning, style)
    return test_code(task.meaning, style) if task.role == "tester" else task.reference


def expert_answer(task: DemoTask, rng: random.Random, accuracy: float = 0.85) -> str:
    """The scripted expert upstream: right with probability `accuracy`, else sloppy."""
    return right_answer(task, rng) if rng.random() < accuracy else sloppy_answer(task, rng)


def paraphrase(task: DemoTask, rng: random.Random) -> DemoTask:
    """The same meaning asked in other words (and other names, but for a reviewer's)."""
    return make_task(task.role, task.meaning, draw_style(rng, task.role), rng)


def near_duplicate(task: DemoTask, rng: random.Random) -> DemoTask:
    """The same task with one trivial edit of the prompt, as a retrying agent sends it."""
    edits: tuple[Callable[[str], str], ...] = (
        lambda text: text + " Thanks!",
        lambda text: "Hello. " + text,
        lambda text: text.replace(". ", ".  ") + " ",
        lambda text: text.rstrip(".") + ", please.",
    )
    return replace(task, prompt=rng.choice(edits)(task.prompt))


def random_inputs(rng: random.Random, n: int = 20) -> tuple[Items, ...]:
    """Fresh lists of 0-14 integers in -12 to 40, against answers fitted to `INPUTS`."""
    return tuple(tuple(rng.randint(-12, 40) for _ in range(rng.randrange(15))) for _ in range(n))


def _constant(operation: Operation, rng: random.Random) -> int:
    return rng.choice(CONSTANTS) if operation.has_constant else 0


def _kept(name: str, rng: random.Random) -> int:
    return _constant(FILTERS[name], rng)


def _variable(task: DemoTask, rng: random.Random) -> str:
    return task.style.variable if task.role == "reviewer" else rng.choice(VARIABLES)


def _planted(meaning: Meaning, style: Style, rng: random.Random) -> tuple[Wrong, ...]:
    """Up to two wrong functions per part, in the order of `PARTS`."""
    found = []
    for part in PARTS:
        wrong = misreadings(meaning, part)
        for other in rng.sample(wrong, min(2, len(wrong))):
            found.append(Wrong(part, function_code(other, style)))
    return tuple(found)


def _sloppy_review(task: DemoTask, rng: random.Random) -> str:
    """A review of a misread request: a difference overlooked, or one seen where none is."""
    if task.wrong:
        return review_text(task.shown, task.shown)
    _, asked = misread(task.meaning, rng)
    return review_text(asked, task.meaning)


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _other_aggregates(meaning: Meaning) -> Iterator[Meaning]:
    for name in AGGREGATES:
        if name != meaning.aggregate:
            yield replace(meaning, aggregate=name)


def _other_maps(meaning: Meaning) -> Iterator[Meaning]:
    constant = meaning.map_constant
    if constant:
        for near in (constant - 1, constant + 1):
            if near in CONSTANTS:
                yield replace(meaning, map_constant=near)
    for name, operation in MAPS.items():
        if name != meaning.map:
            yield replace(
                meaning, map=name, map_constant=(constant or 2) if operation.has_constant else 0
            )


def _other_filters(meaning: Meaning) -> Iterator[Meaning]:
    constant = meaning.filter_constant
    if constant:
        for near in (constant - 1, constant + 1):
            if near in CONSTANTS:
                yield replace(meaning, filter_constant=near)
    for name, operation in FILTERS.items():
        if name != meaning.filter:
            yield replace(
                meaning,
                filter=name,
                filter_constant=(constant or 2) if operation.has_constant else 0,
            )


_NEAR_MISSES: Final = {
    "aggregate": _other_aggregates,
    "map": _other_maps,
    "filter": _other_filters,
}
_BY_LENGTH: Final = sorted(INPUTS, key=len, reverse=True)
