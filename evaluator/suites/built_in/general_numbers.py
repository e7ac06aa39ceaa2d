"""General questions about quantities, units, dates and times; the answers are computed."""

import random
from datetime import date, timedelta
from fractions import Fraction
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


def _shopping(dice: random.Random, variant: int) -> Question:
    a, b, c, d = (dice.randint(3, 19) for _ in range(4))
    text, value = (
        (
            f"A choir buys {a} scores at {b} euros each and {c} folders at {d} euros each. The "
            f"shop takes 5 euros off the whole bill. How many euros does the choir pay?",
            a * b + c * d - 5,
        ),
        (
            f"Mira sells {a} jars of honey for {b} euros a jar and {c} candles for {d} euros "
            f"apiece on the market. Her stall costs 12 euros. What is left to her, in euros?",
            a * b + c * d - 12,
        ),
        (
            f"For the school trip {a + 20} children pay {b} euros and {c} grown-ups pay {d + 8} "
            "euros. The bus costs 90 euros. By how many euros do the payments exceed the bus "
            "fare?",
            (a + 20) * b + c * (d + 8) - 90,
        ),
        (
            f"An old recipe for one cake takes {a} eggs and {b * 10} grams of flour. The bakery "
            f"makes {c} cakes and breaks {d} eggs by accident. How many eggs does it use up in "
            f"all?",
            a * c + d,
        ),
    )[variant]
    return number(dice, text, value, EASY, ("euros", "eggs", "EUR"))


def _percent(dice: random.Random, variant: int) -> Question:
    base, first, second = dice.randrange(200, 900, 100), dice.choice((10, 30, 50)), 20
    text, value = (
        (
            f"A coat costs {base} euros. In the winter sale it becomes {first} percent cheaper, "
            f"and in the last week another {second} percent come off the reduced price. What "
            "does it cost then, in euros?",
            Fraction(base * (100 - first) * (100 - second), 10000),
        ),
        (
            f"The village had {base} inhabitants. The number first grew by {first} percent and "
            f"then fell by {second} percent of what it had become. How many people live there now?",
            Fraction(base * (100 + first) * (100 - second), 10000),
        ),
        (
            f"Of {base} letters, {first} percent went abroad, and {second} percent of these came "
            "back. How many letters came back?",
            Fraction(base * first * second, 10000),
        ),
        (
            f"A tank with {base} litres loses {first} percent on Monday. On Tuesday {second} "
            "litres are poured in. How many litres does it hold on Tuesday evening?",
            Fraction(base * (100 - first), 100) + second,
        ),
    )[variant]
    return number(dice, text, float(value), MEDIUM, ("euros", "litres", "people", "letters"))


def _rates(dice: random.Random, variant: int) -> Question:
    a, b = dice.choice(((3, 6), (4, 12), (10, 15), (6, 30), (20, 30), (12, 24)))
    speed, hours = dice.randrange(12, 90, 6), dice.randint(2, 7)
    text, value = (
        (
            f"One pump empties the cellar in {a} hours, another one needs {b} hours. How many "
            "hours does it take when both run at the same time?",
            Fraction(a * b, a + b),
        ),
        (
            f"A ferry covers {speed} kilometres in an hour. It left {hours} hours ago, and the "
            f"island is {speed * hours + 2 * speed} kilometres from the port. How many hours "
            f"remain?",
            Fraction(2),
        ),
        (
            f"Two cyclists start towards each other from towns that are {5 * (speed + 18)} "
            f"kilometres apart, one at {speed} and the other at 18 kilometres per hour. After how "
            "many hours do they meet?",
            Fraction(5),
        ),
        (
            f"{a} printers make {a * 40} pages in {hours} minutes. How many pages do {b} such "
            f"printers make in {3 * hours} minutes?",
            Fraction(b * 120),
        ),
    )[variant]
    return number(dice, text, float(value), HARD, ("hours", "pages"))


def _leftovers(dice: random.Random, variant: int) -> Question:
    total, size = dice.randint(130, 480), dice.randint(7, 17)
    text, value = (
        (
            f"{total} eggs are packed into boxes of {size}. Only full boxes are sold. How many "
            "eggs are left over?",
            total % size,
        ),
        (
            f"{total} guests sit down at tables for {size}. How many tables are needed so that "
            "everybody has a seat?",
            -(-total // size),
        ),
        (
            f"A rope of {total} centimetres is cut into pieces of {size} centimetres. How many "
            "whole pieces does one get?",
            total // size,
        ),
        (
            f"Starting today, a lamp is checked every {size} days. How many days before day "
            f"{total} (counting from today as day 0) was the last check, if day {total} itself "
            f"may count?",
            total % size,
        ),
    )[variant]
    return number(dice, text, value, EASY, ("eggs", "tables", "pieces", "days"))


def _averages(dice: random.Random, variant: int) -> Question:
    values = [dice.randint(4, 60) for _ in range(4)]
    mean = dice.randint(50, 60)
    text, value = (
        (
            f"In four weeks the library lent {values[0]}, {values[1]}, {values[2]} and {values[3]} "
            f"films. How many must it lend in the fifth week for an average of {mean} a week?",
            5 * mean - sum(values),
        ),
        (
            f"The five numbers {values[0]}, {values[1]}, {mean}, {values[2]} and {values[3]} are "
            "put in order. Which one stands in the middle?",
            sorted([*values, mean])[2],
        ),
        (
            f"Six runners have an average age of {mean}. A seventh, aged {mean + 14}, joins them. "
            "What is the average age of all seven?",
            mean + 2,
        ),
        (
            f"A gardener measures four seedlings: {values[0]}, {values[1]}, {values[2]} and "
            f"{values[3]} millimetres. By how many millimetres does the largest exceed the "
            f"smallest?",
            max(values) - min(values),
        ),
    )[variant]
    return number(dice, text, value, MEDIUM, ("films", "years", "millimetres", "mm"))


def _lengths(dice: random.Random, variant: int) -> Question:
    whole, part = dice.randint(2, 9), dice.randrange(50, 950, 50)
    text, value = (
        (
            f"A path of {whole} kilometres and {part} metres gets a post every 50 metres, the "
            "first one at the very start and the last one at the very end. How many posts is that?",
            (whole * 1000 + part) // 50 + 1,
        ),
        (
            f"How many millimetres are {whole} metres, {part // 50} decimetres and 7 centimetres?",
            whole * 1000 + part // 50 * 100 + 70,
        ),
        (
            f"Taking a mile as 1.6 kilometres, how many kilometres are {whole * 15} miles?",
            whole * 24,
        ),
        (
            f"A parcel weighs {whole} kilograms {part} grams and holds {whole} bricks of 800 grams "
            "each. How many grams do the wrappings weigh?",
            whole * 200 + part,
        ),
    )[variant]
    return number(dice, text, value, EASY, ("posts", "mm", "millimetres", "km", "grams", "g"))


def _measures(dice: random.Random, variant: int) -> Question:
    n, k = dice.randint(3, 18), dice.randint(2, 9)
    text, value = (
        (
            f"The thermometer in the American kitchen shows {n * 9 + 32} degrees Fahrenheit. How "
            "many degrees Celsius is that?",
            n * 5,
        ),
        (
            f"A tap drips {n * 4} millilitres in a minute. How many litres are lost in {k * 25} "
            "hours?",
            n * 4 * 60 * k * 25 / 1000,
        ),
        (
            f"A field is {n * 100} metres long and {k * 50} metres wide. How many hectares are "
            "that, if a hectare has 10,000 square metres?",
            n * k * 5000 / 10000,
        ),
        (
            f"A lorry travels at {n % 4 * 18 + 36} kilometres per hour. How many metres does it "
            f"cover in {k} seconds?",
            (n % 4 * 5 + 10) * k,
        ),
    )[variant]
    return number(dice, text, value, MEDIUM, ("litres", "hectares", "metres", "m", "degrees", "°C"))


def _day(dice: random.Random) -> date:
    return date(2023, 1, 1) + timedelta(days=dice.randrange(1100))


def _shown(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _weekdays(dice: random.Random, variant: int) -> Question:
    start, gap = _day(dice), 7 * dice.randint(3, 19) + dice.randint(1, 6)
    end = start + timedelta(days=gap)
    text, value = (
        (
            f"{_shown(start)} is a {start:%A}. Which day of the week is it {gap} days later?",
            f"{end:%A}",
        ),
        (
            f"The fair ends on a {end:%A}. It began {gap} days before. On which weekday did it "
            f"begin?",
            f"{start:%A}",
        ),
        (
            f"If yesterday was a {start:%A}, what weekday will it be in {gap} days from today?",
            f"{start + timedelta(days=gap + 1):%A}",
        ),
        (
            f"Today, {_shown(start)}, is a {start:%A}. What is the weekday of {_shown(end)}?",
            f"{end:%A}",
        ),
    )[variant]
    return word(dice, text, value, MEDIUM)


def _spans(dice: random.Random, variant: int) -> Question:
    start, gap = _day(dice), dice.randint(40, 160)
    end = start + timedelta(days=gap)
    text = (
        f"A loan runs from {_shown(start)} to {_shown(end)}. How many days are between the two "
        "dates, not counting the first one?",
        f"The exhibition is open daily from {_shown(start)} up to and including {_shown(end)}. On "
        "how many days can one visit it?",
        f"A letter dated {start.isoformat()} was answered on {end.isoformat()}. After how many "
        f"days?",
        f"It is {_shown(start)}, and the contract ends on {_shown(end)}. How many nights are left "
        "until the day on which it ends?",
    )[variant]
    return number(dice, text, gap + (variant == 1), HARD, ("days", "nights"))


def _deadlines(dice: random.Random, variant: int) -> Question:
    start, gap = _day(dice), dice.randint(25, 95)
    end = start + timedelta(days=gap)
    text, value = (
        (f"Which date is {gap} days after {_shown(start)}?", end),
        (f"A ham hangs for {gap} days. It is ready on {_shown(end)}. When was it hung up?", start),
        (
            f"The first of three meetings is on {_shown(start)}, and the next ones follow every "
            f"{gap} days. When is the third meeting?",
            start + timedelta(days=2 * gap),
        ),
        (
            f"Milk bought on {_shown(start)} keeps for {gap % 9 + 3} days, and the day of buying "
            "counts as the first of them. What is the last day on which it is good?",
            start + timedelta(days=gap % 9 + 2),
        ),
    )[variant]
    return word(dice, f"{text} Give it in the form YYYY-MM-DD.", value.isoformat(), MEDIUM)


def _clock(minutes: int) -> str:
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def _clocks(dice: random.Random, variant: int) -> Question:
    start, length, zone = dice.randrange(300, 1300), dice.randint(95, 700), dice.randint(3, 9)
    text, value = (
        (
            f"A train leaves at {_clock(start)} and is on its way for {length // 60} hours and "
            f"{length % 60} minutes. At what time does it arrive?",
            start + length,
        ),
        (
            f"The plane takes off at {_clock(start)} local time and flies {length} minutes to a "
            f"city whose clocks are {zone} hours ahead. What do the clocks there show when it "
            f"lands?",
            start + length + zone * 60,
        ),
        (
            f"Bread must come out of the oven at {_clock(start)}. It bakes for 50 minutes, and the "
            f"dough has to rest {length} minutes before that. At what time must the dough be "
            f"ready?",
            start - 50 - length + 1440,
        ),
        (
            f"My watch loses {zone} minutes in every hour. I set it right at {_clock(start)}. What "
            f"does it show {zone} hours later?",
            start + zone * 60 - zone * zone,
        ),
    )[variant]
    return word(dice, f"{text} Use the form HH:MM, 24 hours.", _clock(value), MEDIUM)


FAMILIES: Final[dict[str, dict[str, Family]]] = {
    "arithmetic": {
        "shopping": _shopping,
        "percent": _percent,
        "rates": _rates,
        "leftovers": _leftovers,
        "averages": _averages,
    },
    "units": {"lengths": _lengths, "measures": _measures},
    "dates": {
        "weekdays": _weekdays,
        "spans": _spans,
        "deadlines": _deadlines,
        "clocks": _clocks,
    },
}
"""Skill -> family -> maker."""
