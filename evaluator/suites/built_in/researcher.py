"""Suite `researcher-comparisons`: compare things by what the given sources say of them.

A task holds sources in several forms (tables, lists, letters, prose) and asks for one JSON object:
the facts per item, "unknown" where the sources do not settle one, and the winner per criterion. The
answer is computed from the same statements that the sources are written from, by the rules that the
prompt gives. Difficulty grows with items, fields, conversions, gaps and contradictions.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from evaluator.graders.facts import UNKNOWN
from evaluator.suites.built_in.researcher_topics import TOPICS, Field, Topic, Unit
from evaluator.suites.built_in.researcher_writing import (
    NEWEST,
    RANK,
    Source,
    Statement,
    prompt_of,
)
from evaluator.suites.task import Task
from foundation.chat import message

NAME: Final = "researcher-comparisons"
ORIGIN: Final = "built in, generated"
_PER_TOPIC: Final = 5
_CLOSE: Final = 0.06
"""Values of one field differ by at least this share: no winner hangs on rounding."""


@dataclass(frozen=True)
class Level:
    """How hard a task is.

    Attributes:
        n_items: compared things.
        n_fields: fields asked for.
        n_sources: texts given.
        foreign: share of the statements in another unit than the field's.
        n_gaps: facts that no source states.
        n_settled: contradictions that the prompt's rule settles.
        n_open: contradictions that nothing settles.
        n_distractors: things said that decide nothing.
    """

    n_items: int
    n_fields: int
    n_sources: int
    foreign: float
    n_gaps: int
    n_settled: int
    n_open: int
    n_distractors: int


LEVELS: Final[dict[str, tuple[Level, ...]]] = {
    "easy": (
        Level(2, 3, 2, 0.0, 1, 0, 0, 0),
        Level(3, 3, 2, 0.15, 0, 0, 0, 1),
        Level(2, 4, 2, 0.1, 1, 0, 0, 1),
    ),
    "medium": (
        Level(3, 4, 3, 0.3, 1, 1, 0, 1),
        Level(4, 3, 3, 0.25, 1, 2, 0, 1),
        Level(3, 4, 3, 0.3, 1, 1, 1, 0),
    ),
    "hard": (
        Level(4, 5, 4, 0.45, 2, 2, 1, 2),
        Level(5, 4, 4, 0.5, 2, 3, 1, 2),
        Level(6, 4, 4, 0.4, 2, 3, 1, 2),
    ),
}


def make_tasks() -> list[Task]:
    """Return the 100 tasks, the same each time."""
    return [
        _task(topic, number, variant)
        for number, topic in enumerate(TOPICS)
        for variant in range(_PER_TOPIC)
    ]


def reference_answer(task: Task) -> str:
    """Return the right answer to a task of this suite."""
    reference = task.reference
    items = {
        item: {
            field: value[0] if isinstance(value, list) else value for field, value in row.items()
        }
        for item, row in reference["items"].items()
    }
    return json.dumps({"items": items, "winners": reference["winners"]}, indent=1)


def settle(statements: Sequence[Statement], rule: str) -> float | str:
    """Return what the statements on one fact come to; "unknown" without any or where they clash.

    Args:
        statements: about one field of one item.
        rule: `NEWEST` or `RANK`: which source counts where they differ.
    """
    if not statements:
        return UNKNOWN
    weights = [one.source.day if rule == NEWEST else one.source.rank for one in statements]
    best = [
        one.in_own_unit()
        for one, weight in zip(statements, weights, strict=True)
        if weight == max(weights)
    ]
    return best[0] if all(_agree(best[0], other) for other in best) else UNKNOWN


def winner_of(values: Mapping[str, float | str], wins: str) -> str:
    """Return the item with the best known value; "unknown" where fewer than two are known."""
    known = {item: value for item, value in values.items() if not isinstance(value, str)}
    if len(known) < 2:
        return UNKNOWN
    return (min if wins == "lowest" else max)(known, key=lambda item: known[item])


def _task(topic: Topic, number: int, variant: int) -> Task:
    difficulty = ("easy", "medium", "hard")[(number + variant) % 3]
    level = LEVELS[difficulty][(number + 2 * variant) % 3]
    rule = NEWEST if (number + variant) % 2 else RANK
    dice = random.Random(f"{NAME}/{topic.key}/{variant}")
    while True:
        items = sorted(dice.sample(topic.names, level.n_items))
        fields = _choose_fields(topic, level.n_fields, dice)
        sources = _sources(level.n_sources, rule, dice)
        statements = _statements(items, fields, sources, level, rule, dice)
        table = _table(items, fields, statements, rule)
        if _is_clear(table, fields):
            break
    prompt = prompt_of(topic, items, fields, sources, statements, rule, level.n_distractors, dice)
    winners = {
        field.key: winner_of({item: table[item][field.key] for item in items}, field.wins)
        for field in fields
        if field.wins
    }
    units = {field.key: [field.units[0].symbol] for field in fields if field.units[0].symbol}
    return Task(
        f"{NAME}/{topic.key}-{variant + 1}",
        [message("user", prompt)],
        "facts",
        {"items": table, "winners": winners, "units": units},
        {
            "task_type": "comparison",
            "difficulty": difficulty,
            "domain": topic.domain,
            "family": topic.key,
            "origin": ORIGIN,
            "licence": "Apache-2.0",
        },
    )


def _choose_fields(topic: Topic, count: int, dice: random.Random) -> list[Field]:
    return sorted(dice.sample(topic.fields, count), key=topic.fields.index)


def _table(
    items: Sequence[str], fields: Sequence[Field], statements: Sequence[Statement], rule: str
) -> dict[str, dict[str, Any]]:
    return {
        item: {
            field.key: settle(
                [one for one in statements if one.item == item and one.field == field], rule
            )
            for field in fields
        }
        for item in items
    }


def _is_clear(table: Mapping[str, Mapping[str, Any]], fields: Sequence[Field]) -> bool:
    """Tell whether no two known values of a field are close to each other."""
    for field in fields:
        if field.wins:
            known = sorted(
                row[field.key] for row in table.values() if not isinstance(row[field.key], str)
            )
            if any(high - low < _CLOSE * high for low, high in zip(known, known[1:], strict=False)):
                return False
    return True


# --- what is said --------------------------------------------------------------------------------

_TITLES: Final = {
    "table": ("Data sheet", "Overview of the maker", "Price list", "Comparison chart"),
    "csv": ("Export", "Spreadsheet", "Survey results", "Inventory"),
    "bullets": ("Notes of a visit", "Minutes", "Test report", "Call notes"),
    "mail": ("E-mail from Ines", "Letter from a dealer", "Message from Tomasz", "Mail of a user"),
    "prose": ("Magazine article", "Blog post", "Forum entry", "Newsletter"),
}


def _sources(count: int, rule: str, dice: random.Random) -> list[Source]:
    """Return sources whose order is clear but for the last two, which weigh the same."""
    styles = ["table", *dice.sample(["csv", "bullets", "mail", "prose"], count - 1)]
    if dice.random() < 0.4:
        styles[0] = dice.choice(["csv", "bullets"])
        styles = list(dict.fromkeys(styles))
        spare = [style for style in _TITLES if style not in styles]
        styles += spare[: count - len(styles)]
    days = sorted(dice.sample(range(3, 230), count), reverse=True)
    weights = list(range(count, 0, -1))
    days[-1], weights[-1] = days[-2], weights[-2]
    if count == 2:
        days, weights = [days[0], days[0]], [1, 1]
    dice.shuffle(styles)
    made = [
        Source(dice.choice(_TITLES[style]), style, day, weight)
        for style, day, weight in zip(styles, days, weights, strict=True)
    ]
    if rule == RANK:
        return [replace(one, day=dice.randrange(3, 230)) for one in made]
    return made


def _statements(
    items: Sequence[str],
    fields: Sequence[Field],
    sources: Sequence[Source],
    level: Level,
    rule: str,
    dice: random.Random,
) -> list[Statement]:
    cells = [(item, field) for item in items for field in fields]
    dice.shuffle(cells)
    values = _values(items, fields, dice)
    gaps = cells[: level.n_gaps]
    disputed = cells[level.n_gaps : level.n_gaps + level.n_settled]
    clashing = cells[level.n_gaps + level.n_settled :][: level.n_open]
    column_units = {
        (source.title, field.key): _unit(field, level.foreign, dice)
        for source in sources
        for field in fields
    }

    def say(item: str, field: Field, value: float | str, source: Source) -> Statement:
        unit = column_units[source.title, field.key]
        if source.style in ("mail", "prose", "bullets"):
            unit = _unit(field, level.foreign, dice)
        number = value if isinstance(value, str) else _rounded(value / unit.factor)
        return Statement(item, field, number, unit, source)

    said = []
    for item, field in cells:
        value = values[item, field.key]
        if (item, field) in disputed:
            better, worse = _two_sources(sources, rule, dice)
            said += [say(item, field, value, better)]
            said += [say(item, field, _other(field, value, dice), worse)]
        elif (item, field) in clashing:
            first, second = sources[-2:]
            said += [say(item, field, value, first)]
            said += [say(item, field, _other(field, value, dice), second)]
        elif (item, field) not in gaps:
            said.append(say(item, field, value, dice.choice(sources)))
    return said


def _values(
    items: Sequence[str], fields: Sequence[Field], dice: random.Random
) -> dict[tuple[str, str], float | str]:
    values: dict[tuple[str, str], float | str] = {}
    for field in fields:
        pool = list(field.values)
        chosen = dice.sample(pool, len(items)) if len(pool) >= len(items) else pool
        if not field.wins or len(chosen) < len(items):
            chosen = [dice.choice(pool) for _ in items]
        values.update({(item, field.key): one for item, one in zip(items, chosen, strict=True)})
    return values


def _two_sources(
    sources: Sequence[Source], rule: str, dice: random.Random
) -> tuple[Source, Source]:
    """Return two sources, the one that counts first."""
    while True:
        first, second = dice.sample(sources, 2)
        weights = [one.day if rule == NEWEST else one.rank for one in (first, second)]
        if weights[0] > weights[1]:
            return first, second


def _other(field: Field, value: float | str, dice: random.Random) -> float | str:
    return dice.choice([one for one in field.values if not _agree(one, value)])


def _agree(first: float | str, second: float | str) -> bool:
    if isinstance(first, str) or isinstance(second, str):
        return first == second
    return abs(first - second) <= _CLOSE * max(abs(first), abs(second))


def _unit(field: Field, foreign: float, dice: random.Random) -> Unit:
    if len(field.units) > 1 and dice.random() < foreign:
        return dice.choice(field.units[1:])
    return field.units[0]


def _rounded(number: float) -> float:
    return round(number, 0 if number >= 100 else 1 if number >= 10 else 3)
