"""How comparisons are told: sources with what they say, and the prompt around them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from evaluator.suites.built_in.researcher_topics import Field, Topic, Unit

NEWEST, RANK = "newest", "rank"
"""Rules for sources that differ: the newest counts, or the one that is trusted most."""

_MONTHS: Final = ("January", "February", "March", "April", "May", "June", "July", "August")


@dataclass(frozen=True)
class Source:
    """A text: its heading, how it is written, when, and how far it is to be trusted."""

    title: str
    style: str
    day: int
    rank: int


@dataclass(frozen=True)
class Statement:
    """One thing that a source says; `value` is a number in `unit`, or a word."""

    item: str
    field: Field
    value: float | str
    unit: Unit
    source: Source

    def in_own_unit(self) -> float | str:
        """Return the value in the field's own unit."""
        if isinstance(self.value, str):
            return self.value
        return round(self.value * self.unit.factor, 4)

    def shown(self) -> str:
        """Return the value as a source writes it."""
        if isinstance(self.value, str):
            return self.value
        return f"{_digits(self.value)} {self.unit.symbol}".strip()


_TASKS: Final = (
    "Read the sources below and compare {items}.",
    "Please put {items} side by side, using nothing but what follows.",
    "We have boiled it down to {items}. What do our papers say about them?",
    "Only {items} are left on the list. Work from these documents alone.",
    "Your job is to bring order into what we know about {items}.",
    "Prepare a comparison of {items} from the material underneath.",
    "Three of us collected material on {items}; nobody has sorted it yet. Please do.",
)
_ASKS: Final = (
    "Fill in these fields for each {thing}:",
    "What we need to know about every {thing}:",
    "The comparison has one row per {thing} with the following fields:",
    "Collect, for each {thing}:",
)
_NEWEST_RULES: Final = (
    "Where two sources contradict each other, believe the newer one; if both are of the same day, "
    "the fact is unknown.",
    "A later date beats an earlier one. Contradictions of the same date leave the fact unknown.",
    "If they disagree, go by the most recent; with equal dates nobody can tell, so say unknown.",
)
_RANK_RULES: Final = (
    "Dates do not matter here. Where sources disagree, trust them in this order: {order}.",
    "If two of them contradict each other, this is the order of trust, whatever their dates: "
    "{order}.",
    "We rank the sources like this, and the better one is right: {order}. Their age plays no part.",
)
_RANK_TIES: Final = (
    " Between equals that contradict each other, the fact is unknown.",
    " Two equally trusted sources that disagree leave it unknown.",
)
_GAP_RULES: Final = (
    'Write "unknown" for what no source states. Plans, guesses and rumours state nothing.',
    'What is not written anywhere is "unknown"; do not fill gaps from memory, and leave out what '
    "is only hoped or announced.",
    'Do not guess: a missing fact is "unknown", and hearsay about the future is no fact.',
)
_WIN_RULES: Final = (
    'Then name the winner per criterion among the known values ("unknown" if fewer than two are '
    "known): {criteria}.",
    "Next, the best by each criterion, of those whose value is known: {criteria}. With fewer than "
    'two known values the winner is "unknown".',
    'Finally say who wins: {criteria}. A criterion with less than two known values has "unknown" '
    "as its winner.",
)
_SHAPES: Final = (
    "End with one JSON object of this shape, numbers as plain numbers in the units named above:",
    "Give the result as JSON in exactly this form (numbers without their unit):",
    "Answer with this JSON and keep the names as they are; numbers are bare, in those units:",
)


def prompt_of(
    topic: Topic,
    items: Sequence[str],
    fields: Sequence[Field],
    sources: Sequence[Source],
    statements: Sequence[Statement],
    rule: str,
    n_distractors: int,
    dice: random.Random,
) -> str:
    """Write a task.

    Args:
        topic: what is compared.
        items: the things, by name.
        fields: what is asked of each.
        sources: what the task gives to read.
        statements: all that the sources say.
        rule: which source counts where they differ.
        n_distractors: sentences to add that decide nothing.
        dice: for the choice of words and order.
    """
    shown = list(sources)
    dice.shuffle(shown)
    distractors = dict(_distractors(topic, items, fields, shown, n_distractors, dice))
    texts = [
        _source_text(
            one, [said for said in statements if said.source == one], fields,
            distractors.get(one.title, ()), dice,
        )
        for one in shown
    ]  # fmt: skip
    criteria = ", ".join(f"{field.wins} {field.key}" for field in fields if field.wins)
    asked = "\n".join(f"- {field.key}: {field.meaning}" for field in fields)
    rules = " ".join(
        [
            _conflict_rule(rule, sources, dice),
            dice.choice(_GAP_RULES),
            dice.choice(_WIN_RULES).format(criteria=criteria),
        ]
    )
    opening = f"{topic.asker} {dice.choice(_TASKS).format(items=_listed(items))}"
    ask = f"{dice.choice(_ASKS).format(thing=topic.thing)}\n{asked}"
    conversions = _conversions(statements)
    shape = f"{dice.choice(_SHAPES)}\n{_shape(items, fields)}"
    if dice.random() < 0.5:
        parts = [opening, ask, *texts, conversions, rules, shape]
    else:
        parts = [opening, *texts, ask, rules, conversions, shape]
    return "\n\n".join(part for part in parts if part)


def _conflict_rule(rule: str, sources: Sequence[Source], dice: random.Random) -> str:
    if rule == NEWEST:
        return dice.choice(_NEWEST_RULES)
    ranks = sorted({one.rank for one in sources}, reverse=True)
    order = ", then ".join(
        " and (equally) ".join(f'"{one.title}"' for one in sources if one.rank == rank)
        for rank in ranks
    )
    return dice.choice(_RANK_RULES).format(order=order) + dice.choice(_RANK_TIES)


def _distractors(
    topic: Topic,
    items: Sequence[str],
    fields: Sequence[Field],
    sources: Sequence[Source],
    count: int,
    dice: random.Random,
) -> Iterator[tuple[str, list[str]]]:
    """Yield, per source of prose, sentences that decide nothing."""
    written = [one for one in sources if one.style not in ("table", "csv")]
    others = [name for name in topic.names if name not in items]
    for source, kind in zip(written, range(count), strict=False):
        if kind == 0:
            yield source.title, [topic.rumour.format(item=dice.choice(items))]
        elif others:
            field = dice.choice(fields)
            said = Statement(
                dice.choice(others), field, dice.choice(field.values), field.units[0], source
            )
            yield source.title, [_sentence(said, dice) + " It is not on our list."]


def _source_text(
    source: Source,
    said: Sequence[Statement],
    fields: Sequence[Field],
    extra: Sequence[str],
    dice: random.Random,
) -> str:
    heading = f"{source.title} ({_date(source.day)})"
    if not said:
        nothing = ("(nothing on these models)", "(empty)", "No figures are given here.")
        return f"{heading}\n{' '.join([dice.choice(nothing), *extra])}"
    if source.style in ("table", "csv"):
        return f"{heading}\n{_grid(source.style, said, fields, dice)}"
    if source.style == "bullets":
        lines = [f"- {sentence}" for sentence in (*_sentences(said, dice), *extra)]
        return f"{heading}\n" + "\n".join(lines)
    sentences = [*_sentences(said, dice), *extra]
    greeting = "Hello, this is what I found out. " if source.style == "mail" else ""
    greeting = dice.choice((greeting, "", greeting.replace("Hello, this", "This")))
    return f"{heading}\n{greeting}{' '.join(sentences)}"


def _grid(
    style: str, said: Sequence[Statement], fields: Sequence[Field], dice: random.Random
) -> str:
    columns = [field for field in fields if any(one.field == field for one in said)]
    rows = list(dict.fromkeys(one.item for one in said))
    dice.shuffle(rows)
    values = {(one.item, one.field.key): one for one in said}
    heads = [_head(field, said) for field in columns]
    blank = "–" if style == "table" else ""
    lines = [["name", *heads]]
    for item in rows:
        cells = [values.get((item, field.key)) for field in columns]
        lines.append([item, *(blank if one is None else _bare(one) for one in cells)])
    if style == "csv":
        return "\n".join(";".join(line) for line in lines)
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _head(field: Field, said: Sequence[Statement]) -> str:
    name = field.key.split("_")[0] if field.wins else field.key
    unit = next(one.unit.symbol for one in said if one.field == field)
    return f"{name} [{unit}]" if unit else name


def _bare(said: Statement) -> str:
    return said.value if isinstance(said.value, str) else _digits(said.value)


def _sentences(said: Sequence[Statement], dice: random.Random) -> list[str]:
    ordered = list(said)
    dice.shuffle(ordered)
    return [_sentence(one, dice) for one in ordered]


def _sentence(said: Statement, dice: random.Random) -> str:
    text = dice.choice(said.field.says).format(item=said.item, value=said.shown())
    return f"{text[0].upper()}{text[1:]}."


def _conversions(statements: Sequence[Statement]) -> str:
    notes = list(dict.fromkeys(one.unit.note for one in statements if one.unit.note))
    return f"Convert with: {'; '.join(notes)}." if notes else ""


def _shape(items: Sequence[str], fields: Sequence[Field]) -> str:
    row = ", ".join(f'"{field.key}": …' for field in fields)
    wins = ", ".join(f'"{field.key}": "name"' for field in fields if field.wins)
    return f'{{"items": {{"{items[0]}": {{{row}}}, …}}, "winners": {{{wins}}}}}'


def _listed(items: Sequence[str]) -> str:
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _date(day: int) -> str:
    month, rest = divmod(day - 1, 28)
    return f"{rest + 1} {_MONTHS[month % len(_MONTHS)]} {2025 if month < len(_MONTHS) else 2026}"


def _digits(number: float) -> str:
    return f"{number:.4f}".rstrip("0").rstrip(".")
