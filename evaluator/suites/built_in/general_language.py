"""General questions about words, letters and written numbers."""

import random
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

_WORDS: Final = (
    *("lantern", "harbour", "meadow", "whisper", "cabinet", "orchard", "thunder", "pillow"),
    *("granite", "voyage", "marble", "kitchen", "saddle", "copper", "feather", "window"),
    *("journal", "blanket", "sparrow", "village", "compass", "ribbon", "cellar", "mirror"),
)
_ONES: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ROMAN: Final = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L")),
    *((40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)


def in_words(value: int) -> str:
    """Return a whole number below a million in British English words."""
    if value < 20:
        return _ONES[value]
    if value < 100:
        tens, ones = divmod(value, 10)
        return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")
    if value < 1000:
        hundreds, rest = divmod(value, 100)
        return f"{_ONES[hundreds]} hundred" + (f" and {in_words(rest)}" if rest else "")
    thousands, rest = divmod(value, 1000)
    joint = " and " if 0 < rest < 100 else " "
    return f"{in_words(thousands)} thousand" + (f"{joint}{in_words(rest)}" if rest else "")


def in_roman(value: int) -> str:
    """Return a whole number from 1 to 3999 in Roman numerals."""
    text = ""
    for worth, letters in _ROMAN:
        times, value = divmod(value, worth)
        text += letters * times
    return text


def _backwards(dice: random.Random, variant: int) -> Question:
    one, two, three = dice.sample(_WORDS, 3)
    text, answer = (
        (f'Spell the word "{one}" from its last letter to its first.', one[::-1]),
        (
            f'Read "{one} {two}" from right to left, letter by letter, and keep the space where it '
            "then falls.",
            f"{one} {two}"[::-1],
        ),
        (
            f"Turn each of these words round, but leave the words in their places: {one}, {two}, "
            f"{three}. Separate them by single spaces.",
            " ".join(part[::-1] for part in (one, two, three)),
        ),
        (
            f'Somebody wrote "{two[::-1]}" on a mirror. Which English word is it, read backwards?',
            two,
        ),
    )[variant]
    return word(dice, text, answer, MEDIUM)


def _numerals(dice: random.Random, variant: int) -> Question:
    value = dice.randint(1101, 3899)
    text, answers = (
        (f"Which year do the letters {in_roman(value)} over the gate stand for?", [str(value)]),
        (f"Write {value} in Roman numerals.", [in_roman(value)]),
        (
            f"A cheque is made out for {in_words(value * 17)}. Write the sum in digits.",
            [str(value * 17), f"{value * 17:,}"],
        ),
        (
            f"Put {value % 1000} into English words, lower case.",
            [in_words(value % 1000), in_words(value % 1000).replace(" and ", " ")],
        ),
    )[variant]
    return word(dice, text, answers, MEDIUM)


def _letters(dice: random.Random, variant: int) -> Question:
    phrase = " ".join(dice.sample(_WORDS, 5))
    letter = dice.choice([one for one in "aeilnrs" if one in phrase])
    text, value = (
        (f'How often does the letter "{letter}" occur in: {phrase}?', phrase.count(letter)),
        (
            f"Count the vowels (a, e, i, o, u) in this row of words: {phrase}.",
            sum(one in "aeiou" for one in phrase),
        ),
        (
            f"The words {phrase.replace(' ', ', ')} are written without any space. How many "
            "letters long is the result?",
            len(phrase) - 4,
        ),
        (
            f"How many different letters does one need to write all of these: {phrase}?",
            len(set(phrase) - {" "}),
        ),
    )[variant]
    return number(dice, text, value, HARD, ("letters", "vowels", "times"))


def _alphabet(dice: random.Random, variant: int) -> Question:
    words = dice.sample(_WORDS, 6)
    shift = dice.randint(2, 5)
    moved = "".join(chr((ord(one) - 97 + shift) % 26 + 97) for one in words[0])
    listed = ", ".join(words)
    text, answer = (
        (f"Which of these comes last in a dictionary: {listed}?", max(words)),
        (
            f"Every letter of a word was replaced by the one {shift} places further on in the "
            f'alphabet, with a following z. The result is "{moved}". What was the word?',
            words[0],
        ),
        (
            f"Take the first letter of each word and write them together in the given order: "
            f"{listed}.",
            "".join(one[0] for one in words),
        ),
        (
            f"Arrange in alphabetical order, separated by single spaces: {listed}.",
            " ".join(sorted(words)),
        ),
    )[variant]
    return word(dice, text, answer, (EASY, HARD, EASY, MEDIUM)[variant])


FAMILIES: Final[dict[str, dict[str, Family]]] = {
    "language": {
        "backwards": _backwards,
        "numerals": _numerals,
        "letters": _letters,
        "alphabet": _alphabet,
    },
}
"""Skill -> family -> maker."""
