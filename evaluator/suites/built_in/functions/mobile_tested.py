"""Mobile functions that testers write tests for."""

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "saver": {
            20: "Below 20 % battery the interval is doubled.",
            30: "Below 30 % battery the interval is doubled.",
        },
        "roaming": {
            True: "While roaming there is no sync, unless the phone charges.",
            False: "Roaming makes no difference.",
        },
    },
    edges=[
        [80, False, False, 0],
        [10, False, False, 0],
        [10, True, False, 0],
        [80, False, True, 0],
        [80, True, True, 0],
        [20, False, False, 0],
        [19, False, False, 0],
        [30, False, False, 0],
        [29, False, False, 0],
        [80, False, False, 3],
        [80, False, False, 1],
        [5, False, False, 5],
        [80, True, False, 9],
        [4, False, False, 0],
        [80, False, False, 2],
        [5, False, True, 0],
        [0, True, False, 0],
    ],
    draw=lambda d: [d.choice([3, 5, 15, 25, 50, 100]), d.chance(), d.chance(), d.randint(0, 6)],
)
def sync_interval(
    battery: int, charging: bool, is_roaming: bool, failures: int, *, saver: int, roaming: bool
) -> int:
    """Return the minutes until the next background sync, or -1 for none.

    It is 15; each failure in a row doubles it, to at most 120. A low battery doubles it after that,
    unless the phone charges. Below 5 % battery there is no sync, unless the phone charges.
    """
    if not charging and (battery < 5 or (roaming and is_roaming)):
        return -1
    minutes = min(15 << failures, 120)
    if battery < saver and not charging:
        minutes *= 2
    return minutes


@family(
    rules={
        "unit": {
            "metric": "Distances below 1000 m are shown in whole metres ('850 m'), others in "
            "kilometres.",
            "imperial": "A foot is 0.3 m and a mile 1600 m here. Distances below 1600 m are shown "
            "in "
            "whole feet ('850 ft'), others in miles.",
        },
        "rounding": {
            "down": "All numbers are rounded down.",
            "half": "All numbers are rounded to the nearest, halves up.",
        },
    },
    edges=[
        [850],
        [12345],
        [0],
        [999],
        [1000],
        [1599],
        [1600],
        [1049],
        [1050],
        [1680],
        [9949],
        [9950],
        [10000],
        [16000],
        [15999],
        [7],
        [15920],
        [10500],
    ],
    draw=lambda d: [d.choice([d.randint(1, 2000), d.randint(1000, 30000)])],
)
def show_distance(metres: int, *, unit: str, rounding: str) -> str:
    """Show a distance as a text.

    Kilometres and miles have one decimal ('1.2 km', '3.0 mi') below 10, none from 10 on; which of
    the two holds is decided before rounding.
    """
    small, large, scale = ("m", "km", 1000) if unit == "metric" else ("ft", "mi", 1600)
    half = 0 if rounding == "down" else 1
    if metres < scale:
        if unit == "metric":
            return f"{metres} {small}"
        return f"{(20 * metres + 3 * half) // 6} {small}"
    if metres < 10 * scale:
        tenths = (20 * metres + scale * half) // (2 * scale)
        return f"{tenths // 10}.{tenths % 10} {large}"
    return f"{(2 * metres + scale * half) // (2 * scale)} {large}"


@family(
    rules={
        "grace": {
            0: "A day without activity ends the streak.",
            1: "One day without activity between two active days does not end the streak; two in a "
            "row do.",
        },
        "today": {
            True: "The streak is 0 if today has no activity.",
            False: "Today may still come: without activity today, the streak that ended yesterday "
            "counts.",
        },
    },
    edges=[
        [[1, 2, 3], 3],
        [[1, 2, 3], 4],
        [[1, 2, 3], 5],
        [[], 7],
        [[1, 3, 5], 5],
        [[1, 4, 5], 5],
        [[5], 5],
        [[5, 5, 4], 5],
        [[9], 5],
        [[2, 3, 5, 6], 7],
        [[1, 2, 4], 5],
        [[1, 2, 5], 6],
        [[4], 6],
    ],
    draw=lambda d: [d.some(range(2, 11), 14, 8), d.randint(9, 11)],
)
def streak(active_days: list[int], day: int, *, grace: int, today: bool) -> int:
    """Count the active days of the streak that reaches up to today.

    Days are numbers, in any order, several times perhaps; days after today are ignored.
    """
    days = set(active_days)
    at = day
    if not today and day not in days:
        at = day - 1
    if at not in days:
        return 0
    count = missed = 0
    while missed <= grace:
        if at in days:
            count, missed = count + 1, 0
        else:
            missed += 1
        at -= 1
        if at < min(days):
            break
    return count


@family(
    rules={
        "channel": {
            "one": "At most one message a day is sent to a person; the rest wait, in order.",
            "two": "At most two messages a day are sent to a person; the rest wait, in order.",
        },
        "night": {
            True: "Messages between 22:00 and 06:59 wait for the next 07:00; what is sent then "
            "counts "
            "for the day of that 07:00.",
            False: "Messages are sent at any hour.",
        },
    },
    edges=[
        [[[1, 9, "a"], [1, 10, "a"], [1, 11, "b"]]],
        [[[1, 23, "a"], [2, 8, "a"]]],
        [[]],
        [[[1, 22, "a"]]],
        [[[1, 21, "a"]]],
        [[[1, 6, "a"]]],
        [[[1, 7, "a"]]],
        [[[1, 9, "a"], [1, 9, "a"], [1, 9, "a"], [2, 9, "a"]]],
        [[[1, 0, "x"], [1, 23, "x"], [2, 5, "x"]]],
    ],
    draw=lambda d: [
        sorted(
            [d.randint(1, 2), d.choice([0, 5, 6, 8, 12, 21, 22, 23]), d.choice("ab")]
            for _ in range(d.randint(2, 6))
        )
    ],
)
def plan_messages(
    messages: list[list[int | str]], *, channel: str, night: bool
) -> list[list[int | str]]:
    """Plan when push messages are sent; return [day, hour, person] for each, in their order.

    A message is [day, hour from 0 to 23, person], in order of time. One that is too many for its
    day is sent at 07:00 of the first day on which the person may get one more.
    """
    limit = 1 if channel == "one" else 2
    sent: dict[tuple[int, str], int] = {}
    plan: list[list[int | str]] = []
    for given_day, given_hour, given_person in messages:
        day, hour, person = int(given_day), int(given_hour), str(given_person)
        if night and hour >= 22:
            day, hour = day + 1, 7
        elif night and hour < 7:
            hour = 7
        while sent.get((day, person), 0) >= limit:
            day, hour = day + 1, 7
        sent[day, person] = sent.get((day, person), 0) + 1
        plan.append([day, hour, person])
    return plan
