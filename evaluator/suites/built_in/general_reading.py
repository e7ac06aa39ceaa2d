"""General questions about given texts and tables: what happened, where things are, what fits."""

import random
from collections.abc import Sequence
from typing import Final

from evaluator.suites.built_in.general_question import (
    EASY,
    HARD,
    MEDIUM,
    Family,
    Question,
    number,
    word,
)

_PEOPLE: Final = ("Anneke", "Bram", "Carla", "Dilip", "Esther", "Farid", "Greta", "Henrik", "Ines")
_TOWNS: Final = ("Arden", "Belmont", "Corby", "Dunmore", "Eastleigh", "Farnham", "Galway", "Hythe")

_DIARIES: Final = (
    (
        "The reading circle met at {p0}'s house. {p1} had brought a novel about {t0}, although "
        "everybody expected poems. {p2} left early, because the last bus to {t1} goes at nine. "
        "Before that, {p3} had read a letter from {t2} aloud. {p0} washed the cups.",
        (("Who read a letter aloud?", 3), ("Who went home before the end?", 2)),
    ),
    (
        "Four people applied for the post of ranger. {p0} grew up in {t0} and knows the birds. "
        "{p1} can repair a motor saw but has no driving licence. The only one with a licence, "
        "{p2}, wants to stay in {t1}. In the end the post went to {p3}, whom nobody had "
        "interviewed.",
        (("Who was given the post?", 3), ("Who is allowed to drive?", 2)),
    ),
    (
        "On the ferry to {t0}, {p0} lost a glove, which {p1} found under a bench. {p1} handed it "
        "to the purser. The purser asked {p2}, who said no, and then {p3}, who mistook it for "
        "their own and took it ashore at {t1}. The glove's owner is still looking.",
        (("Whose glove was it?", 0), ("Who left the ferry with the glove?", 3)),
    ),
    (
        "Since {p0} moved to {t0}, the chess club has had no treasurer. {p1} counted the money "
        "once, and it was right. {p2} refused the office twice. At the meeting in {t1} the members "
        "therefore asked {p3}, and {p3} said yes, on the condition that {p1} checks the books.",
        (("Who is the treasurer now?", 3), ("Who was the treasurer before?", 0)),
    ),
)


def _diaries(dice: random.Random, variant: int) -> Question:
    frame, asks = _DIARIES[variant]
    people, towns = dice.sample(_PEOPLE, 4), dice.sample(_TOWNS, 3)
    names = {f"p{at}": one for at, one in enumerate(people)}
    names |= {f"t{at}": one for at, one in enumerate(towns)}
    ask, place = dice.choice(asks)
    text = f"{frame.format(**names)}\n\n{ask} Answer with the name."
    return word(dice, text, people[place], EASY)


_PLACES: Final = ("drawer", "cupboard", "basket", "attic", "cellar", "wardrobe")
_THINGS: Final = ("key", "lamp", "map", "violin", "passport", "kettle")
_MOVES: Final = (
    ("At first the {x} is in the {p}.", "Then somebody carries the {x} to the {p}.",
     "Where is the {x} in the end?"),
    ("In the morning the {x} lay in the {p}.", "Later the {x} went into the {p}.",
     "In the evening, where is the {x}?"),
    ("Grandmother keeps the {x} in the {p}.", "She changes her mind and puts the {x} in the {p}.",
     "Where will she find the {x}?"),
    ("The inventory lists the {x} under {p}.", "The next entry moves the {x} to: {p}.",
     "According to the last entry, where is the {x} kept?"),
)  # fmt: skip


def _moves(dice: random.Random, variant: int) -> Question:
    start, move, ask = _MOVES[variant]
    things = dice.sample(_THINGS, 3)
    where = {thing: dice.choice(_PLACES) for thing in things}
    told = [start.format(x=thing, p=place) for thing, place in where.items()]
    for _ in range(5):
        thing = dice.choice(things)
        where[thing] = dice.choice([place for place in _PLACES if place != where[thing]])
        told.append(move.format(x=thing, p=where[thing]))
    if variant % 2:
        one, other = dice.sample(things, 2)
        where[one], where[other] = where[other], where[one]
        told.append(f"Last of all, the {one} and the {other} change places.")
    asked = dice.choice(things)
    answers = [where[asked], f"the {where[asked]}", f"in the {where[asked]}"]
    return word(dice, f"{' '.join(told)} {ask.format(x=asked)}", answers, MEDIUM)


_TABLES: Final = (
    (("hut", "beds", "height", "dogs"), "Alpine huts with their height in metres",
     "Which hut takes dogs and has the most beds?"),
    (("boat", "seats", "length", "sail"), "The hire boats of the lake, length in centimetres",
     "Of the boats with a sail, which one seats the most people?"),
    (("room", "chairs", "area", "screen"), "Meeting rooms and their area in square metres",
     "We need a screen. Which room that has one offers most chairs?"),
    (("stall", "helpers", "turnover", "open"), "Market stalls, turnover in euros",
     "Look only at stalls that are open: where do most helpers work?"),
)  # fmt: skip


def _grid(dice: random.Random, names: Sequence[str]) -> list[tuple[str, int, int, bool]]:
    small = dice.sample(range(4, 60), len(names))
    large = dice.sample(range(110, 2900), len(names))
    flags = [at % 2 == 0 for at in range(len(names))]
    dice.shuffle(flags)
    return list(zip(names, small, large, flags, strict=True))


def _drawn(head: Sequence[str], rows: Sequence[tuple[str, int, int, bool]], separator: str) -> str:
    lines = [separator.join(head)]
    lines += [
        separator.join((name, str(small), str(large), "yes" if flag else "no"))
        for name, small, large, flag in rows
    ]
    return "\n".join(lines)


def _lookups(dice: random.Random, variant: int) -> Question:
    head, title, ask = _TABLES[variant]
    rows = _grid(dice, dice.sample(_TOWNS, 7))
    best = max((row for row in rows if row[3]), key=lambda row: row[1])
    table = _drawn(head, rows, (" | ", ";", "\t", " | ")[variant])
    return word(dice, f"{title}:\n\n{table}\n\n{ask}", best[0], EASY)


def _sums(dice: random.Random, variant: int) -> Question:
    head, title, _ = _TABLES[(variant + 1) % 4]
    rows = _grid(dice, dice.sample(_TOWNS, 6))
    limit = sorted(row[1] for row in rows)[2]
    variants: tuple[tuple[str, int], ...] = (
        (
            f"Add up column 3 ({head[2]}) over the rows whose {head[1]} is above {limit}.",
            sum(row[2] for row in rows if row[1] > limit),
        ),
        (
            f'What is the sum of "{head[1]}" over all rows that say "yes" in the last column?',
            sum(row[1] for row in rows if row[3]),
        ),
        (
            f"By how much does the largest {head[2]} exceed the smallest, leaving out the rows "
            f"with "
            '"yes"?',
            max(row[2] for row in rows if not row[3]) - min(row[2] for row in rows if not row[3]),
        ),
        (
            f'In how many rows is {head[1]} smaller than {limit} or the last column "no"?',
            sum(row[1] < limit or not row[3] for row in rows),
        ),
    )
    ask, value = variants[variant]
    table = _drawn(head, rows, (";", " | ", ",", "\t")[variant])
    text = f"{title}, one per line:\n\n{table}\n\n{ask}"
    return number(dice, text, value, HARD)


_RULES: Final = (
    ("A parcel is LARGE above {a} kilograms or {b} centimetres, SMALL below {c} kilograms and 30 "
     "centimetres, and MEDIUM otherwise.", "kilograms", "centimetres"),
    ("Our desk calls a matter LARGE if it takes more than {a} hours or concerns more than {b} "
     "people. Below {c} hours and 30 people it is SMALL. The rest is MEDIUM.", "hours", "people"),
    ("Storms count as LARGE from above {a} hours' length or above {b} millimetres of rain, as "
     "SMALL if under {c} hours and under 30 millimetres, else as MEDIUM.", "hours", "millimetres"),
    ("The census has three sorts of farms. LARGE: more than {a} cows or more than {b} hectares. "
     "SMALL: fewer than {c} cows and fewer than 30 hectares. MEDIUM: what is left.", "cows",
     "hectares"),
)  # fmt: skip


def _classes(dice: random.Random, variant: int) -> Question:
    rule, first, second = _RULES[variant]
    a, b, c = dice.randint(24, 30), dice.randint(80, 99), dice.randint(6, 12)
    kinds: list[str] = []
    while len(set(kinds)) < 3:
        cases = [(dice.randint(2, 40), dice.randint(10, 120)) for _ in range(5)]
        kinds = [
            "large" if x > a or y > b else "small" if x < c and y < 30 else "medium"
            for x, y in cases
        ]
    listed = "\n".join(
        f"{at}. {x} {first}, {y} {second}" for at, (x, y) in enumerate(cases, start=1)
    )
    text = (
        f"{rule.format(a=a, b=b, c=c)}\n\n{listed}\n\nClassify the five cases in their order, as "
        "words with a comma and a space between them."
    )
    return word(dice, text, [", ".join(kinds), ",".join(kinds)], MEDIUM)


def _sorting(dice: random.Random, variant: int) -> Question:
    names = dice.sample(_PEOPLE, 5)
    points = dice.sample((3, 5, 5, 8, 8), 5)
    ages = dice.sample(range(19, 70), 5)
    rows = list(zip(names, points, ages, strict=True))
    order = (
        "by points, highest first; with equal points the younger one comes first",
        "from the fewest points to the most, and among equals the older before the younger",
        "alphabetically by name, but everybody over forty before everybody else",
        "the ones with 5 points first, then the others; inside each of the two groups by age, "
        "youngest first",
    )[variant]
    keys = (
        lambda row: (-row[1], row[2]),
        lambda row: (row[1], -row[2]),
        lambda row: (row[2] <= 40, row[0]),
        lambda row: (row[1] != 5, row[2]),
    )
    listed = "; ".join(f"{name}, {age} years, {score} points" for name, score, age in rows)
    text = (
        f"Members: {listed}. Sort them {order}. Write the names in that order, with a comma and a "
        "space between them.",
        f"Put the following people in a row, {order}: {listed}. Names only, each followed by comma "
        "and space but the last.",
        f"A list is to be read out {order}. On it are {listed}. Give the names as they will be "
        "heard, separated by a comma and a space.",
        f"These five wait for a prize: {listed}. It is handed out in this order: {order}. Name "
        "them in turn, with comma and space in between.",
    )[variant]
    answer = ", ".join(row[0] for row in sorted(rows, key=keys[variant]))
    return word(dice, text, [answer, answer.replace(", ", ",")], MEDIUM)


_TOPICS: Final = (
    ("money", ("The hall costs 400 euros a night.", "We owe the printer 90 euros.",
               "Each ticket brings in twelve euros.", "The music costs 700 euros.")),
    ("dates and times", ("The rehearsal is on the third of May.", "Doors open at seven on Friday.",
               "The posters must hang by April.", "The last bus leaves at midnight.")),
    ("people", ("Lena will sit at the till.", "Two cousins of Paul play the horn.",
                "The mayor has agreed to speak.", "Our cook is called Samir.")),
    ("the building", ("The hall lies behind the mill.", "There are steps at the side entrance.",
                   "The stage is six metres wide.", "The cellar floods when it rains.")),
)  # fmt: skip
_SELECTS: Final = (
    "Which of the numbered sentences are about {topic}? Give their numbers in rising order, with a "
    "comma and a space between them.",
    "Somebody is interested in {topic} only. List the numbers of the sentences to be kept, "
    "smallest first, separated by a comma and a space.",
    "Shorten these notes to what concerns {topic}: name the sentences that stay, by number, in "
    "ascending order, like 1, 2.",
    "For a summary on {topic} one needs some of these sentences. Write their numbers from low to "
    "high, comma and space in between.",
)


def _selecting(dice: random.Random, variant: int) -> Question:
    topic, own = _TOPICS[variant]
    others = [one for name, group in _TOPICS if name != topic for one in group]
    sentences = dice.sample(own, 3) + dice.sample(others, 6)
    dice.shuffle(sentences)
    numbers = [str(at) for at, one in enumerate(sentences, start=1) if one in own]
    listed = "\n".join(f"{at}. {one}" for at, one in enumerate(sentences, start=1))
    text = f"{listed}\n\n{_SELECTS[variant].format(topic=topic)}"
    return word(dice, text, [", ".join(numbers), ",".join(numbers)], MEDIUM)


FAMILIES: Final[dict[str, dict[str, Family]]] = {
    "reading": {"diaries": _diaries, "moves": _moves, "selecting": _selecting},
    "tables": {"lookups": _lookups, "sums": _sums},
    "sorting": {"classes": _classes, "sorting": _sorting},
}
"""Skill -> family -> maker."""
