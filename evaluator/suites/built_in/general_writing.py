"""General tasks of following instructions: texts under rules that can be checked, and JSON.

Each text task carries an example that keeps its rules, put together from banks of words.
"""

import random
from collections.abc import Sequence
from typing import Any, Final

from evaluator.suites.built_in.general_question import (
    EASY,
    HARD,
    MEDIUM,
    Family,
    Question,
    json_value,
    rules,
)

_Variants = tuple[tuple[str, list[dict[str, Any]], str], ...]
"""Text, rules and an example, per variant."""

_NOUNS: Final = (
    *("harbour", "bridge", "market", "winter", "garden", "river", "library", "mountain", "station"),
    *("kitchen", "forest", "island"),
)
_BANK: Final = (
    *("a", "old", "cold", "silent", "green", "boats", "birds", "roofs", "trees", "lights", "wind"),
    *("rain", "wander", "drift", "hum", "glow", "turn", "rest", "along", "under", "near", "past"),
    *(
        "both",
        "many",
        "small",
        "tall",
        "blue",
        "grey",
        "slow",
        "quick",
        "softly",
        "onward",
        "still",
    ),
    *("again", "today", "calm", "cliffs", "gulls", "ships", "paths", "hills", "lamps", "stones"),
)


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _bank(avoid: str = "") -> list[str]:
    return [one for one in _BANK if not set(one) & set(avoid)]


def _sentence(words: Sequence[str]) -> str:
    text = " ".join(words)
    return f"{text[0].upper()}{text[1:]}."


def _counted(dice: random.Random, variant: int) -> Question:
    topic, n = dice.choice(_NOUNS), dice.randint(9, 17)
    other = dice.choice([one for one in _NOUNS if one != topic])
    words = [topic, *dice.sample(_bank(), n - 1)]
    variants: _Variants = (
        (
            f'Write one sentence of exactly {n} words that contains the word "{topic}". Answer '
            f'with '
            "the sentence only.",
            [{"kind": "words", "min": n, "max": n}, {"kind": "has", "words": [topic]},
             {"kind": "sentences", "min": 1, "max": 1}],
            _sentence(words),
        ),
        (
            f"Describe {_a(topic)} in two sentences. Use between {n} and {n + 3} words in all, and "
            f'never the word "the". Give nothing but the description, which must name the {topic}.',
            [{"kind": "words", "min": n, "max": n + 3}, {"kind": "has", "words": [topic]},
             {"kind": "no_words", "words": ["the"]}, {"kind": "sentences", "min": 2, "max": 2}],
            f"{_sentence(words[:5])} {_sentence(words[5:])}",
        ),
        (
            f'A caption is wanted: at most {n * 6} characters, at least six words, with "{topic}" '
            f'before "{other}", and no comma. Write only the caption.',
            [{"kind": "characters", "max": n * 6}, {"kind": "words", "min": 6},
             {"kind": "order", "words": [topic, other]},
             {"kind": "count", "text": ",", "times": 0}],
            _sentence([topic, "lights", "near", "a", "cold", other]),
        ),
        (
            f'Use the word "{topic}" exactly three times in a text of {n} to {n + 10} words. No '
            f'two lines: keep it in a single one. Print the text alone.',
            [{"kind": "words", "min": n, "max": n + 10}, {"kind": "has", "words": [topic],
             "times": 3}, {"kind": "count", "text": topic, "times": 3},
             {"kind": "lines", "min": 1, "max": 1}],
            _sentence([*dice.sample(_bank(), n - 3), topic, topic, topic]),
        ),
    )  # fmt: skip
    text, kept, example = variants[variant]
    return rules(text, kept, example, MEDIUM)


def _lipograms(dice: random.Random, variant: int) -> Question:
    letter, n = dice.choice("esti"), dice.randint(7, 11)
    free = [one for one in _NOUNS if letter not in one]
    topic = dice.choice(free)
    words = [topic, *dice.sample(_bank(letter), n - 1)]
    size = [{"kind": "words", "min": n}]
    without: list[dict[str, Any]] = [{"kind": "no_letters", "letters": letter}]
    named: list[dict[str, Any]] = [{"kind": "has", "words": [topic]}]
    shorts = [one for one in _bank() if len(one) <= 5]
    variants: _Variants = (
        (
            f'Write a sentence of {n} words or more about {_a(topic)} without using the letter '
            f'"{letter}" anywhere. The word "{topic}" must occur. Write nothing else.',
            size + without + named,
            _sentence(words),
        ),
        (
            f'My keyboard has lost its "{letter}". Give me {n} different words that I can still '
            f'type, among them "{topic}", each on its own line.',
            [{"kind": "lines", "min": n, "max": n}, {"kind": "each_line", "pattern": r"[\w'-]+"},
             {"kind": "distinct_words"}, *without, *named],
            "\n".join(words),
        ),
        (
            f"Compose a line of at least {n} words in which no word repeats and no word has more "
            "than five letters. Answer with the line, without quotation marks.",
            [*size, {"kind": "distinct_words"}, {"kind": "word_length", "max": 5},
             {"kind": "lines", "max": 1}],
            " ".join(dice.sample(shorts, n)),
        ),
        (
            f'Praise the {topic} in {n} to {n + 6} words. Neither "{letter}" nor a full stop may '
            f'appear, and "{topic}" has to. Only the praise, please.',
            [{"kind": "words", "min": n, "max": n + 6}, *without, *named,
             {"kind": "count", "text": ".", "times": 0}],
            f"{' '.join(words)}!",
        ),
    )  # fmt: skip
    text, kept, example = variants[variant]
    return rules(text, kept, example, HARD)


def _starting_with(letter: str) -> str:
    return {
        "a": "apples", "b": "bells", "c": "clouds", "d": "doors", "e": "echoes", "f": "foxes",
        "g": "gates", "h": "hills", "i": "isles", "k": "kites", "l": "lamps", "m": "moons",
        "n": "nests", "o": "oaks", "p": "pears", "r": "roads", "s": "seas", "t": "towers",
        "u": "urns", "v": "vines", "w": "wells", "y": "yarns",
    }[letter]  # fmt: skip


def _lines(dice: random.Random, variant: int) -> Question:
    topic = dice.choice([one for one in _NOUNS if len(one) == 6])
    n = dice.randint(4, 7)
    poem = "\n".join(f"{_starting_with(one)} {dice.choice(_bank())}" for one in topic)
    words = sorted(dice.sample([one for one in _bank() if len(one) > 3], n))
    variants: _Variants = (
        (
            f'Write a poem whose lines begin with the letters of "{topic}", one line per letter, '
            f'in '
            "order, with two words or more in each line. No title.",
            [{"kind": "acrostic", "text": topic}, {"kind": "lines", "min": 6, "max": 6},
             {"kind": "each_line", "pattern": r"\S+ .*\S"}],
            poem,
        ),
        (
            f"List {n} things that one may meet in {_a(topic)}, one word per line, in alphabetical "
            "order, all in small letters, without numbers or dashes before them.",
            [{"kind": "lines", "min": n, "max": n}, {"kind": "sorted_lines"},
             {"kind": "case", "case": "lower"}, {"kind": "each_line", "pattern": r"[a-z]+"},
             {"kind": "distinct_words"}],
            "\n".join(words),
        ),
        (
            f"Give {n} pieces of advice for a day at the {topic}. Each is a line that begins with "
            'a dash and a space and ends with an exclamation mark. Write only these lines.',
            [{"kind": "lines", "min": n, "max": n}, {"kind": "each_line", "pattern": r"- .+!"}],
            "\n".join(f"- Rest near {one}!" for one in words),
        ),
        (
            f'Make a numbered list of {n} words that are longer than three letters, like "1) '
            f'word". '
            "Nothing stands before or after the list.",
            [{"kind": "lines", "min": n, "max": n},
             {"kind": "each_line", "pattern": r"\d\) [A-Za-z]{4,}"},
             *({"kind": "count", "text": f"{at})", "times": 1} for at in range(1, n + 1))],
            "\n".join(f"{at}) {one}" for at, one in enumerate(words, start=1)),
        ),
    )  # fmt: skip
    text, kept, example = variants[variant]
    return rules(text, kept, example, MEDIUM)


def _shapes(dice: random.Random, variant: int) -> Question:
    topic, other = dice.sample(_NOUNS, 2)
    n = dice.randint(5, 9)
    words = dice.sample(_bank(), n)
    variants: _Variants = (
        (
            f"Shout a warning about the {topic} in capital letters only. Use {n} words or more, "
            f'"{topic.upper()}" among them, and end with two exclamation marks. Only the warning.',
            [{"kind": "case", "case": "upper"}, {"kind": "words", "min": n},
             {"kind": "has", "words": [topic]}, {"kind": "ends", "text": "!!"},
             {"kind": "count", "text": "!", "times": 2}],
            f"{' '.join([topic, *words]).upper()}!!",
        ),
        (
            f'Begin your answer with "Dear {other.capitalize()}," and end it with "Yours truly". '
            f'In between put one sentence of at least {n} words that names the {topic}. Three '
            f'lines.',
            [{"kind": "starts", "text": f"Dear {other.capitalize()},"},
             {"kind": "ends", "text": "Yours truly"}, {"kind": "has", "words": [topic]},
             {"kind": "lines", "min": 3, "max": 3}, {"kind": "words", "min": n + 4}],
            f"Dear {other.capitalize()},\n{_sentence([topic, *words])}\nYours truly",
        ),
        (
            f"Answer in small letters and without any punctuation: what would {_a(topic)} say to a "
            f"{other}? Use {n} words or more and mention both of them.",
            [{"kind": "case", "case": "lower"}, {"kind": "words", "min": n},
             {"kind": "has", "words": [topic, other]},
             {"kind": "each_line", "pattern": r"[a-z0-9 ]+"}],
            " ".join([topic, *words, other]),
        ),
        (
            f'Join the words "{topic}", "{words[0]}", "{words[1]}" and "{other}" into one sentence '
            "in exactly this order; other words may stand between them. It must be a question of "
            "at most 15 words. Write the question only.",
            [{"kind": "order", "words": [topic, words[0], words[1], other]},
             {"kind": "words", "max": 15}, {"kind": "ends", "text": "?"},
             {"kind": "sentences", "max": 1}],
            f"{_sentence([topic, words[0], words[1], other])[:-1]}?",
        ),
    )  # fmt: skip
    text, kept, example = variants[variant]
    return rules(text, kept, example, EASY)


_GIVEN: Final = ("Noor", "Piet", "Rosa", "Sven", "Tilda", "Umar", "Vera", "Wim")


def _records(dice: random.Random, variant: int) -> Question:
    one, two, three = dice.sample(_GIVEN, 3)
    age, n, price = dice.randint(21, 69), dice.randint(2, 9), dice.randint(3, 40)
    item = dice.choice(("chairs", "lamps", "rugs", "clocks"))
    expected: Any
    text, expected = (
        (
            f"{one} is {age} years old and lives without pets; {two}, three years younger, has {n} "
            'cats. Return only a JSON list with one object per person, keys "name", "age" and '
            '"pets" (a number), in the order of the text.',
            [{"name": one, "age": age, "pets": 0}, {"name": two, "age": age - 3, "pets": n}],
        ),
        (
            f"{one} ordered {n} {item} at {price} euros each, to be paid later. Give the order "
            f"as a "
            'JSON object and nothing else: "customer", "item", "quantity", "total" (a number) and '
            '"paid" (true or false).',
            {"customer": one, "item": item, "quantity": n, "total": n * price, "paid": False},
        ),
        (
            f"{one} works under {two}, and {two} under {three}; nobody is above {three}. As JSON "
            "alone, map each name to the name of the superior, or to null.",
            {one: two, two: three, three: None},
        ),
        (
            f"The {item} in stock: {n} red, {n + 2} blue, none green. Answer with one JSON object "
            f'that has the key "{item}" with an object of the three colours and their counts, and '
            'the key "total".',
            {item: {"red": n, "blue": n + 2, "green": 0}, "total": 2 * n + 2},
        ),
    )[variant]
    return _as_json(text, expected, EASY)


def _nested(dice: random.Random, variant: int) -> Question:
    names = dice.sample(_GIVEN, 4)
    teams = [dice.choice(("north", "south")) for _ in range(3)]
    teams.append("north" if "north" not in teams else "south")
    scores = dice.sample(range(10, 99), 4)
    rows = ", ".join(f"{a} ({b}, {c})" for a, b, c in zip(names, teams, scores, strict=True))
    groups: dict[str, list[str]] = {team: [] for team in sorted(set(teams))}
    best: dict[str, str] = {}
    for name, team, score in sorted(zip(names, teams, scores, strict=True)):
        groups[team].append(name)
        if team not in best or score > scores[names.index(best[team])]:
            best[team] = name
    expected: Any
    text, expected = (
        (
            f"Players with team and score: {rows}. Group the names by team: one JSON object whose "
            "keys are the teams and whose values are alphabetical lists of names. Only JSON.",
            groups,
        ),
        (
            f"{rows}: that is name, team and score of four players. Who scored most in each team? "
            "Reply with JSON only, team as key and name as value.",
            best,
        ),
        (
            f'From "{rows}" (name, team, score) make a JSON list of the scores, highest first, and '
            "print just that list.",
            sorted(scores, reverse=True),
        ),
        (
            f'Score sheet: {rows}. Output a JSON object with "players" (how many), "teams" (a list '
            'of the distinct teams, alphabetical) and "top" (the name with the highest score).',
            {"players": 4, "teams": sorted(groups), "top": names[scores.index(max(scores))]},
        ),
    )[variant]
    return _as_json(text, expected, MEDIUM)


def _as_json(text: str, expected: Any, difficulty: str) -> Question:
    schema = {"type": "array" if isinstance(expected, list) else "object"}
    return json_value(text, schema, expected, difficulty)


FAMILIES: Final[dict[str, dict[str, Family]]] = {
    "instructions": {
        "counted": _counted,
        "lipograms": _lipograms,
        "lines": _lines,
        "shapes": _shapes,
    },
    "formats": {"records": _records, "nested": _nested},
}
"""Skill -> family -> maker."""
