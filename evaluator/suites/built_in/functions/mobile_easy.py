"""Mobile, one idea each: version gates, taps, layout widths, badges."""

from itertools import zip_longest

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "inclusive": {
            True: "The minimum itself is let in.",
            False: "Only versions above the minimum are let in.",
        },
        "missing": {
            "zero": "Missing parts count as 0: 1.2 is 1.2.0.",
            "any": "Parts that only one of the two has are ignored: 1.2 equals 1.2.9.",
        },
    },
    edges=[
        ["2.10.0", "2.9.5"],
        ["1.2", "1.2.0"],
        ["1.2.1", "1.2"],
        ["1.2", "1.2.1"],
        ["3", "3.0.1"],
        ["1.0", "1"],
        ["0.9", "1.0"],
        ["10", "9"],
        ["1.1.1", "1.1"],
        ["1.1.2", "1.1.1"],
    ],
    draw=lambda d: ["1." + ".".join(str(part) for part in d.ints(0, 1, 3, 1)) for _ in range(2)],
)
def is_let_in(version: str, minimum: str, *, inclusive: bool, missing: str) -> bool:
    """Tell whether an app of this version may use a feature that needs the minimum version.

    Versions are whole numbers separated by dots; parts are compared as numbers, from the left.
    """
    left = [int(part) for part in version.split(".")]
    right = [int(part) for part in minimum.split(".")]
    if missing == "zero":
        pairs = list(zip_longest(left, right, fillvalue=0))
    else:
        pairs = list(zip(left, right, strict=False))
    for one, other in pairs:
        if one != other:
            return one > other
    return inclusive


@family(
    rules={
        "edge": {
            "leading": "A tap counts unless it comes too soon after the last tap that counted.",
            "trailing": "A tap counts unless another tap comes too soon after it.",
            "quiet": "A tap counts unless it comes too soon after the tap before it, whether that "
            "one counted or not.",
            "single": "A tap counts unless another tap is too near to it, before or after.",
        },
    },
    edges=[
        [[0, 50, 120, 400], 100],
        [[0, 100, 200, 250], 100],
        [[], 100],
        [[5], 100],
        [[0, 60, 120, 180], 100],
        [[0, 99, 199], 100],
    ],
    draw=lambda d: [sorted(d.ints(0, 900, 10, 4)), d.choice([50, 80, 100, 150])],
)
def debounce(times_ms: list[int], gap_ms: int, *, edge: str) -> list[int]:
    """Return the times of the taps that count.

    Times ascend. Two taps are too near where less than `gap_ms` lies between them.
    """
    if edge == "leading":
        counted: list[int] = []
        for time in times_ms:
            if not counted or time - counted[-1] >= gap_ms:
                counted.append(time)
        return counted
    kept = []
    for index, time in enumerate(times_ms):
        late = index == 0 or time - times_ms[index - 1] >= gap_ms
        alone = index == len(times_ms) - 1 or times_ms[index + 1] - time >= gap_ms
        if (late or edge == "trailing") and (alone or edge == "quiet"):
            kept.append(time)
    return kept


@family(
    rules={
        "direction": {
            "up": "A layout is used from its width on upwards; the widest that fits wins.",
            "down": "A layout is used up to its width; the narrowest that holds the screen wins.",
        },
        "inclusive": {
            True: "A screen exactly as wide as a layout's width uses it.",
            False: "A screen exactly as wide as a layout's width does not use it.",
        },
    },
    edges=[
        [700, {"phone": 320, "tablet": 600, "desktop": 1024}],
        [600, {"phone": 320, "tablet": 600}],
        [100, {"phone": 320}],
        [2000, {"phone": 320, "tablet": 600}],
        [500, {}],
        [320, {"tablet": 600, "phone": 320}],
    ],
    draw=lambda d: [
        d.randint(1, 8) * 100,
        dict(zip(d.sample("abcde", 3), d.sample(range(100, 900, 100), 3), strict=True)),
    ],
)
def pick_layout(
    width: int, layouts: dict[str, int], *, direction: str, inclusive: bool
) -> str | None:
    """Return the name of the layout for a screen width, or None where no layout fits.

    `layouts` maps names to distinct widths, in any order.
    """
    fitting = []
    for name, limit in layouts.items():
        distance = width - limit if direction == "up" else limit - width
        if distance > 0 or (inclusive and distance == 0):
            fitting.append((distance, name))
    return min(fitting)[1] if fitting else None


@family(
    rules={
        "limit": {
            99: "Counts above 99 are shown as '99+'.",
            999: "Counts above 999 are shown as '999+'.",
        },
        "muted": {
            True: "Muted chats are not counted at all.",
            False: "A muted chat counts as 1 if it has unread messages, however many.",
        },
    },
    edges=[
        [[3, 4], [False, True]],
        [[60, 50], [False, False]],
        [[], []],
        [[0, 0], [False, True]],
        [[99], [False]],
        [[100], [False]],
        [[999], [False]],
        [[1000], [False]],
        [[98, 5], [False, True]],
        [[99, 0], [False, True]],
        [[700, 300], [False, False]],
        [[7], [True]],
    ],
    draw=lambda d: [
        [d.choice([0, 1, 2, 40, 50, 400]) for _ in range(3)],
        [d.chance() for _ in range(3)],
    ],
)
def badge(unread: list[int], is_muted: list[bool], *, limit: int, muted: bool) -> str:
    """Return the text of an app's badge: the number of unread messages over all chats.

    The lists hold the unread messages of each chat and whether it is muted. A total of 0 is shown
    as ''.
    """
    total = 0
    for count, is_quiet in zip(unread, is_muted, strict=True):
        if not is_quiet:
            total += count
        elif not muted:
            total += min(count, 1)
    if total > limit:
        return str(limit) + "+"
    return str(total) if total else ""
