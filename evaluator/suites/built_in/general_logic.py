"""General questions of logic: puzzles whose only solution is found by trying every case."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any, Final

from evaluator.suites.built_in.general_question import (
    EASY,
    HARD,
    MEDIUM,
    Family,
    Question,
    number,
    word,
)

_NAMES: Final = ("Ada", "Bo", "Cleo", "Dan", "Edda", "Finn", "Gita", "Hugo")


Holds = Callable[[Any], bool]
"""Whether a case agrees with something said."""


@dataclass(frozen=True)
class Clue:
    """A sentence and whether a case agrees with it."""

    text: str
    holds: Holds


def only_case(cases: Sequence[Any], clues: Sequence[Clue]) -> Any | None:
    """Return the one case that agrees with every clue, None where there is none or several."""
    left = [case for case in cases if all(clue.holds(case) for clue in clues)]
    return left[0] if len(left) == 1 else None


def _few_clues(cases: Sequence[Any], possible: Sequence[Clue], dice: random.Random) -> list[Clue]:
    """Return clues that leave one case, none of which can be spared."""
    clues = list(possible)
    dice.shuffle(clues)
    for clue in list(clues):
        rest = [one for one in clues if one is not clue]
        if only_case(cases, rest) is not None:
            clues = rest
    return clues


_QUEUES: Final = (
    ("{names} stand in a queue.", "{a} stands somewhere before {b}.", "{a} is right behind {b}.",
     "{a} is not at the front.", "Who is number {n} in the queue, counted from the front?"),
    ("{names} ran a race, and no two arrived together.", "{a} was faster than {b}.",
     "{a} came in directly after {b}.", "{a} did not win.", "Who finished in place {n}?"),
    ("On a shelf lie books by {names}, in a row.", "{a}'s book lies further left than {b}'s.",
     "{a}'s book is the right-hand neighbour of {b}'s.", "{a}'s book is not the leftmost.",
     "Whose book is number {n} from the left?"),
    ("{names} live in a tower, one on each floor.", "{a} lives lower than {b}.",
     "{a} lives exactly one floor above {b}.", "{a} does not live on the lowest floor.",
     "Who lives on floor {n}, where floor 1 is the lowest?"),
)  # fmt: skip


def _queues(dice: random.Random, variant: int) -> Question:
    opening, before, right_after, not_first, ask = _QUEUES[variant]
    names = dice.sample(_NAMES, 5)
    cases = list(permutations(names))
    truth = dice.choice(cases)
    clues = []
    for one, other in permutations(names, 2):
        if truth.index(one) < truth.index(other):
            text = before.format(a=one, b=other)
            clues.append(Clue(text, _is_before(one, other)))
        if truth.index(one) == truth.index(other) + 1:
            text = right_after.format(a=one, b=other)
            clues.append(Clue(text, _is_right_after(one, other)))
    clues += [Clue(not_first.format(a=one), _is_not_first(one)) for one in truth[1:]]
    few = _few_clues(cases, clues, dice)
    solution: Any = only_case(cases, few)
    place = dice.randint(2, 4)
    told = " ".join(clue.text for clue in few)
    text = f"{opening.format(names=_listed(names))} {told} {ask.format(n=place)}"
    return word(dice, text, solution[place - 1], MEDIUM)


_OWNERS: Final = (
    ("{names} each keep one animal: a {a}, a {b}, a {c} or a {d}, no two the same.",
     "{name} does not keep the {x}.",
     "The {x} belongs to {one} or to {two}.", "Who keeps the {x}?",
     ("goat", "cat", "parrot", "tortoise")),
    ("A prize was given for each of four arts: {a}, {b}, {c} and {d}. {names} won one each.",
     "{name}'s prize was not the one for {x}.",
     "The prize for {x} went to {one} or {two}.", "Who won the prize for {x}?",
     ("dance", "poetry", "pottery", "song")),
    ("Four drinks were ordered, {a}, {b}, {c} and {d}, one by each of {names}.",
     "{name} would never drink {x}.",
     "It was {one} or {two} who ordered {x}.", "Who ordered the {x}?",
     ("tea", "cocoa", "cider", "water")),
    ("{names} have different trades: {a}, {b}, {c} and {d}.",
     "The {x} is somebody else than {name}.",
     "Either {one} or {two} is the {x}.", "Which of them is the {x}?",
     ("baker", "smith", "pilot", "nurse")),
)  # fmt: skip


def _owners(dice: random.Random, variant: int) -> Question:
    opening, is_not, either, ask, things = _OWNERS[variant]
    names = dice.sample(_NAMES, 4)
    cases = [dict(zip(names, order, strict=True)) for order in permutations(things)]
    truth = dice.choice(cases)
    clues = []
    for name, thing in product(names, things):
        if truth[name] != thing:
            text = is_not.format(name=name, x=thing)
            clues.append(Clue(text, _lacks(name, thing)))
            owner = next(one for one in names if truth[one] == thing)
            pair = sorted((owner, name))
            text = either.format(one=pair[0], two=pair[1], x=thing)
            clues.append(Clue(text, _one_has(pair, thing)))
    few = _few_clues(cases, clues, dice)
    solution: Any = only_case(cases, few)
    asked = dice.choice(things)
    a, b, c, d = dice.sample(things, 4)
    told = " ".join(clue.text for clue in few)
    start = opening.format(names=_listed(names), a=a, b=b, c=c, d=d)
    answer = next(name for name in names if solution[name] == asked)
    return word(dice, f"{start} {told} {ask.format(x=asked)}", answer, HARD)


_LIARS: Final = (
    "On an island, knights always tell the truth and knaves always lie. You meet {names}.",
    "Each of {names} either speaks only the truth (a knight) or only lies (a knave).",
    "Three masks hide {names}. Behind a white mask is a knight, who never lies, behind a black one "
    "a knave, who never says a true word.",
    "In the court there are two sorts of people: knights, whose every sentence is true, and "
    "knaves, whose every sentence is false. Before the judge stand {names}.",
)


def _liars(dice: random.Random, variant: int) -> Question:
    while True:
        names = dice.sample(_NAMES, 3)
        cases = [dict(zip(names, kinds, strict=True)) for kinds in product((True, False), repeat=3)]
        clues = [_claim(name, names, dice) for name in names]
        solution = only_case(cases, clues)
        if solution is not None and 0 < sum(solution.values()) < 3:
            break
    told = " ".join(clue.text for clue in clues)
    knights = [name for name in names if solution[name]]
    if len(knights) == 1:
        ask, answer = "Exactly one of them is a knight. Who?", knights[0]
    else:
        ask = "Exactly one of them is a knave. Who?"
        answer = next(name for name in names if not solution[name])
    return word(dice, f"{_LIARS[variant].format(names=_listed(names))} {told} {ask}", answer, HARD)


def _claim(speaker: str, names: Sequence[str], dice: random.Random) -> Clue:
    """Return something said by `speaker`, true exactly where they are a knight."""
    one, other = [name for name in names if name != speaker]
    said: tuple[tuple[str, Holds], ...] = (
        (f"{one} is a knave", lambda c: not c[one]),
        (f"{other} is a knight", lambda c: c[other]),
        (f"{one} and {other} are of the same kind", lambda c: c[one] == c[other]),
        ("at least one of us three is a knave", lambda c: not all(c.values())),
        (f"{other} and I are of different kinds", lambda c: c[other] != c[speaker]),
        (f"{one} is a knight, or {other} is a knave", lambda c: c[one] or not c[other]),
    )
    text, is_true = dice.choice(said)
    return Clue(
        f'{speaker} says: "{text[0].upper()}{text[1:]}."',
        lambda c: bool(c[speaker]) == bool(is_true(c)),
    )


def _is_before(one: str, other: str) -> Holds:
    return lambda case: case.index(one) < case.index(other)


def _is_right_after(one: str, other: str) -> Holds:
    return lambda case: case.index(one) == case.index(other) + 1


def _is_not_first(one: str) -> Holds:
    return lambda case: case[0] != one


def _lacks(name: str, thing: str) -> Holds:
    return lambda case: case[name] != thing


def _one_has(names: Sequence[str], thing: str) -> Holds:
    return lambda case: any(case[name] == thing for name in names)


def _sequences(dice: random.Random, variant: int) -> Question:
    a, b, c = dice.randint(2, 9), dice.randint(2, 5), dice.randint(1, 7)
    series: list[int] = [a]
    for at in range(1, 7):
        last = series[-1]
        series.append((last + b * at, last * b - c, last + (b if at % 2 else -c),
                       last + (series[-2] if at > 1 else c))[variant])  # fmt: skip
    shown = ", ".join(map(str, series[:-1]))
    text = (
        f"The gaps between the numbers {shown} grow by the same amount each time. Which number is "
        "next?",
        f"Each number of the row {shown} is made from the one before by one multiplication and "
        "then one subtraction, always the same. What follows?",
        f"Two rules take turns in this row: {shown}. Continue it by one number.",
        f"From the third on, each number here is the sum of the two before it: {shown}. Name the "
        "next.",
    )[variant]
    return number(dice, text, series[-1], (EASY, HARD, MEDIUM, EASY)[variant])


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


FAMILIES: Final[dict[str, dict[str, Family]]] = {
    "logic": {"queues": _queues, "owners": _owners, "liars": _liars, "sequences": _sequences},
}
"""Skill -> family -> maker."""
