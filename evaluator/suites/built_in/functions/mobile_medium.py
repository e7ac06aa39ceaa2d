"""Mobile, two or three interacting rules each: sync, gestures, links, grids."""

from typing import Any

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "tie": {
            "server": "Where both were changed at the same time, the server's entry counts.",
            "device": "Where both were changed at the same time, the device's entry counts.",
        },
        "deleted": {
            "wins": "A deletion counts over any change of the other side, however late.",
            "latest": "A deletion is a change like any other.",
        },
    },
    edges=[
        [{"a": ["new", 5]}, {"a": ["old", 3], "b": ["x", 1]}],
        [{"a": [None, 2]}, {"a": ["kept", 9]}],
        [{}, {}],
        [{"a": ["d", 4]}, {"a": ["s", 4]}],
        [{"a": [None, 4]}, {"a": ["s", 4]}],
        [{"a": [None, 1]}, {"a": [None, 2]}],
        [{"b": [None, 1]}, {"a": ["z", 2]}],
        [{"a": ["d", 1]}, {"a": [None, 3], "c": ["q", 0]}],
    ],
    draw=lambda d: [
        {
            key: [d.choice([None, f"{side}1", f"{side}2"]), d.randint(1, 4)]
            for key in d.few("abcd", 4, 2)
        }
        for side in "ds"
    ],
)
def sync_notes(
    device: dict[str, list[Any]], server: dict[str, list[Any]], *, tie: str, deleted: str
) -> dict[str, str]:
    """Merge the notes of a device that was offline with those of the server; return id -> text.

    An entry is [text, time of its last change]; the text None marks a deleted note. Of two entries
    of one id the one changed later counts. Deleted notes are not in the result, whose ids are in
    alphabetical order.
    """
    merged: dict[str, str] = {}
    for key in sorted({*device, *server}):
        mine, theirs = device.get(key), server.get(key)
        if mine is None or theirs is None:
            chosen = mine or theirs or [None, 0]
        elif deleted == "wins" and (mine[0] is None or theirs[0] is None):
            chosen = [None, 0]
        elif tie == "device":
            chosen = mine if mine[1] >= theirs[1] else theirs
        else:
            chosen = mine if mine[1] > theirs[1] else theirs
        if chosen[0] is not None:
            merged[key] = chosen[0]
    return merged


@family(
    rules={
        "diagonal": {
            "axis": "A swipe goes along the axis of the larger movement; where both are equal, "
            "along the horizontal one.",
            "reject": "A movement whose smaller part is more than half of its larger part is "
            "'none'.",
        },
        "double": {
            True: "Two neighbouring taps, the second beginning at most 300 ms after the first "
            "ended, are one 'double'; a third tap begins anew.",
            False: "Every tap is a 'tap'.",
        },
    },
    edges=[
        [[[0, 90, 0, 0], [200, 280, 2, 1]]],
        [[[0, 120, 80, 60], [900, 1600, 0, 3]]],
        [[]],
        [[[0, 500, 0, 0]]],
        [[[0, 499, 9, 0]]],
        [[[0, 100, 10, 0]]],
        [[[0, 50, 0, 0], [350, 400, 0, 0], [500, 550, 0, 0]]],
        [[[0, 50, 0, 0], [351, 400, 0, 0]]],
        [[[0, 100, 0, -50], [200, 300, -40, 20], [400, 500, -40, 21], [700, 800, 30, 30]]],
        [[[0, 50, 1, 0], [100, 150, 40, 0], [200, 250, 0, 0]]],
        [[[0, 600, 6, 7]]],
        [[[0, 600, 10, 0]]],
        [[[0, 100, 0, 10], [400, 500, 0, -10], [800, 900, -10, 0]]],
    ],
    draw=lambda d: [
        [
            [
                start,
                start + d.choice([50, 120, 200, 600]),
                d.choice([0, 2, -20, 30]),
                d.choice([0, 3, 25, -60]),
            ]
            for start in range(0, d.randint(2, 5) * 400, 400)
        ]
    ],
)
def classify_touches(touches: list[list[int]], *, diagonal: str, double: bool) -> list[str]:
    """Classify touches [down ms, up ms, dx, dy], in order of time.

    A touch that moves less than 10 points along both axes is a 'tap', or 'long' from 500 ms on.
    Any other is a swipe, 'left' (dx < 0), 'right', 'up' (dy < 0) or 'down'.
    """
    names: list[str] = []
    last_tap = -1000
    for start, end, dx, dy in touches:
        wide, high = abs(dx), abs(dy)
        if wide < 10 and high < 10:
            if end - start >= 500:
                name = "long"
            elif double and names and names[-1] == "tap" and start - last_tap <= 300:
                names[-1] = "double"
                continue
            else:
                name, last_tap = "tap", end
        elif diagonal == "reject" and 2 * min(wide, high) > max(wide, high):
            name = "none"
        elif wide >= high:
            name = "left" if dx < 0 else "right"
        else:
            name = "up" if dy < 0 else "down"
        names.append(name)
    return names


@family(
    rules={
        "unknown": {
            "home": "A link that fits no screen opens ['home'].",
            "error": "A link that fits no screen raises ValueError.",
        },
        "query": {
            True: "The pairs of a query `?a=1&b=2` follow as 'a=1', 'b=2', in alphabetical order.",
            False: "A query is ignored.",
        },
    },
    edges=[
        ["app://item/42?ref=mail", {"item": 1, "search": 0}],
        ["app://search?q=x&a=1", {"item": 1, "search": 0}],
        ["APP://item/7", {"item": 1}],
        ["https://app.example.com/item/7/", {"item": 1}],
        ["https://evil.com/item/7", {"item": 1}],
        ["app://item", {"item": 1}],
        ["app://item/7/8", {"item": 1}],
        ["app://", {"item": 1}],
        ["app://ITEM/Ab", {"item": 1}],
        ["item/7", {"item": 1}],
        ["app://item//7?", {"item": 1}],
        ["app://search#top?x=1", {"search": 0}],
        ["app://search?q=x#a&b", {"search": 0}],
        ["app://pair/1/2?&z", {"pair": 2}],
    ],
    draw=lambda d: [
        d.choice(["app://", "app://", "https://app.example.com/", "ftp://"])
        + "/".join([d.choice(["item", "search", "pair"]), *d.few(["1", "b"], 2)])
        + d.choice(["", "?b=2&a=1", "?x", "#f"]),
        {"item": 1, "search": 0, "pair": 2},
    ],
)
def open_link(link: str, screens: dict[str, int], *, unknown: str, query: bool) -> list[str]:
    """Resolve a deep link into [screen, parameter, ...].

    A link is `app://screen/parameter/...` or `https://app.example.com/screen/parameter/...`; scheme
    and host are compared without regard to case, all else with it. `screens` says how many
    parameters each screen takes: exactly as many must be there. Empty segments and empty query
    pairs are ignored. A fragment (from the first `#` on) is cut off before anything else.
    """
    address, _, text = link.partition("#")[0].partition("?")
    rest = ""
    for prefix in ("app://", "https://app.example.com/"):
        if address.lower().startswith(prefix):
            rest = address[len(prefix) :]
    opened = [segment for segment in rest.split("/") if segment]
    if not opened or screens.get(opened[0]) != len(opened) - 1:
        if unknown == "error":
            raise ValueError(f"no screen for {link}")
        return ["home"]
    if query:
        opened += sorted(pair for pair in text.split("&") if pair)
    return opened


@family(
    rules={
        "fill": {
            "dense": "A tile goes into the first row, from the top, that still has room for it.",
            "ordered": "A tile goes into the last row or, where it has no room there, into a new "
            "one.",
        },
        "wide": {
            "shrink": "A tile wider than the grid becomes as wide as the grid.",
            "skip": "A tile wider than the grid is left out.",
        },
    },
    edges=[
        [[2, 3, 1, 1], 4],
        [[5, 1], 4],
        [[], 3],
        [[3], 3],
        [[4], 3],
        [[1, 3, 3, 2, 1, 1], 3],
        [[2, 2, 2, 1, 1], 3],
    ],
    draw=lambda d: [d.ints(1, 5, 9, 4), d.randint(2, 4)],
)
def lay_out_tiles(widths: list[int], columns: int, *, fill: str, wide: str) -> list[list[int]]:
    """Arrange tiles in rows of a grid with `columns` columns.

    The tiles are taken in order. Return for every row the indices of its tiles, in the order in
    which they were put there.
    """
    rows: list[list[int]] = []
    free: list[int] = []
    for index, width in enumerate(widths):
        if width > columns:
            if wide == "skip":
                continue
            width = columns
        candidates = range(len(rows)) if fill == "dense" else range(len(rows))[-1:]
        fitting = [row for row in candidates if free[row] >= width]
        if fitting:
            rows[fitting[0]].append(index)
            free[fitting[0]] -= width
        else:
            rows.append([index])
            free.append(columns - width)
    return rows
