"""Mobile, subtle rules: offline merges, concurrent edits, flexible layouts, download queues."""

from typing import Any

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "conflict": {
            "mine": "In a conflict mine counts.",
            "both": "In a conflict both are kept: mine, followed by theirs, each once; where one "
            "side deleted, the other side's lines alone.",
        },
        "moved": {
            True: "The result has no line twice: of equal lines only the first is kept.",
            False: "Lines may occur several times.",
        },
    },
    edges=[
        [["a", "b", "c"], ["a", "x", "c"], ["a", "b", "c", "d"]],
        [["a", "b"], ["a", "m"], ["a", "t"]],
        [[], [], []],
        [["a"], [], ["t"]],
        [["a"], ["m"], []],
        [["a", "b"], ["b"], ["a", "b"]],
        [["a", "b"], ["a", "b"], ["a", "n", "b"]],
        [["a", "b"], ["a", "m", "b"], ["a", "n", "b"]],
        [["a"], ["a", "n"], ["a", "n"]],
        [["a", "b", "c"], ["c"], ["a", "b"]],
        [["a", "b", "a"], ["a", "b", "a", "a"], ["b", "a"]],
    ],
    draw=lambda d: [
        ["a", "b", "c", "d"],
        [x for y in ["a", "b", "c", "d"] for x in d.choice([[y], [y], [], ["m"], [y, "n"]])],
        [x for y in ["a", "b", "c", "d"] for x in d.choice([[y], [y], [], ["t"], [y, "n"]])],
    ],
)
def merge_lists(
    base: list[str], mine: list[str], theirs: list[str], *, conflict: str, moved: bool
) -> list[str]:
    """Merge two versions of a list that were both made from `base`, line by line.

    Each version is aligned with the base by the longest common subsequence; of several, by the one
    that matches the earliest lines of the base, each with the earliest line possible (walk both
    from the left: take a match where the two lines are equal; otherwise skip the base's line if
    what remains after that has a common subsequence at least as long as after skipping the
    version's line). Base lines that both versions kept divide the lists into regions. In a region,
    a side that equals the base's lines there is unchanged. Where one side is unchanged the other
    counts; where both are equal that counts; otherwise it is a conflict.
    """

    def kept_lines(version: list[str]) -> dict[int, int]:
        longest = [[0] * (len(version) + 1) for _ in range(len(base) + 1)]
        for i in range(len(base) - 1, -1, -1):
            for j in range(len(version) - 1, -1, -1):
                if base[i] == version[j]:
                    longest[i][j] = longest[i + 1][j + 1] + 1
                else:
                    longest[i][j] = max(longest[i + 1][j], longest[i][j + 1])
        pairs, i, j = dict[int, int](), 0, 0
        while i < len(base) and j < len(version):
            if base[i] == version[j]:
                pairs[i] = j
                i, j = i + 1, j + 1
            elif longest[i + 1][j] >= longest[i][j + 1]:
                i += 1
            else:
                j += 1
        return pairs

    in_mine, in_theirs = kept_lines(mine), kept_lines(theirs)
    anchors = [(at, in_mine[at], in_theirs[at]) for at in in_mine if at in in_theirs]
    merged: list[str] = []
    b = m = t = 0
    for at, at_mine, at_theirs in [*anchors, (len(base), len(mine), len(theirs))]:
        old, left, right = base[b:at], mine[m:at_mine], theirs[t:at_theirs]
        if left == old or left == right:
            merged += right
        elif right == old or (conflict == "mine"):
            merged += left
        else:
            merged += list(dict.fromkeys(left + right))
        merged += base[at : at + 1]
        b, m, t = at + 1, at_mine + 1, at_theirs + 1
    return list(dict.fromkeys(merged)) if moved else merged


@family(
    rules={
        "tie": {
            "mine": "Where both insert at one place, my text comes first.",
            "theirs": "Where both insert at one place, their text comes first.",
        },
        "inside": {
            "keep": "A text that one side inserts strictly inside a range that the other deletes "
            "is "
            "kept, at the place where the range was.",
            "drop": "A text that one side inserts strictly inside a range that the other deletes "
            "is "
            "deleted with it.",
        },
    },
    edges=[
        ["hello", ["insert", 5, "!"], ["delete", 0, 1]],
        ["abcd", ["insert", 2, "X"], ["insert", 2, "Y"]],
        ["abcdef", ["insert", 3, "X"], ["delete", 1, 4]],
        ["abcdef", ["delete", 1, 4], ["insert", 1, "X"]],
        ["abcdef", ["delete", 1, 3], ["insert", 4, "X"]],
        ["abcdef", ["delete", 0, 4], ["delete", 2, 4]],
        ["abcdef", ["delete", 2, 2], ["delete", 0, 6]],
        ["abcdef", ["delete", 0, 2], ["delete", 4, 2]],
        ["", ["insert", 0, "a"], ["insert", 0, "b"]],
        ["abc", ["delete", 1, 0], ["insert", 1, "x"]],
    ],
    draw=lambda d: [
        "abcdefgh",
        *(
            d.choice(
                [
                    ["insert", d.randint(0, 8), d.choice(["X", "YZ"])],
                    ["delete", at := d.randint(0, 5), d.randint(1, 8 - at)],
                ]
            )
            for _ in range(2)
        ),
    ],
)
def apply_both(text: str, mine: list[Any], theirs: list[Any], *, tie: str, inside: str) -> str:
    """Apply two edits that were made at the same time to one text; return the text both agree on.

    `["insert", position, text]` inserts before the character at that position (or at the end),
    `["delete", position, count]` deletes that many characters; both count in the original text and
    lie within it. What either deletes is deleted once.
    """
    gone: set[int] = set()
    inserted: dict[int, list[str]] = {}
    ordered = [mine, theirs] if tie == "mine" else [theirs, mine]
    for kind, position, what in ordered:
        if kind == "delete":
            gone.update(range(position, position + what))
        else:
            inserted.setdefault(position, []).append(what)
    parts = []
    for position in range(len(text) + 1):
        if not (inside == "drop" and position in gone and position - 1 in gone):
            parts += inserted.get(position, [])
        if position < len(text) and position not in gone:
            parts.append(text[position])
    return "".join(parts)


@family(
    rules={
        "leftover": {
            "last": "Points lost by rounding down go to the last view that can grow.",
            "spread": "Points lost by rounding down go, one each, to the views that can grow, from "
            "the first on.",
        },
        "shrink": {
            "equal": "Where the views are too wide together, every view gives up the same share of "
            "its base width.",
            "flexible": "Where the views are too wide together, only views with grow > 0 give up "
            "width, each the same share of its base width; if there is none, the views stay as "
            "they "
            "are.",
        },
    },
    edges=[
        [100, [[20, 1, 0, 999], [30, 2, 0, 999]]],
        [10, [[20, 1, 0, 999], [20, 0, 0, 999]]],
        [50, []],
        [50, [[10, 0, 0, 999]]],
        [100, [[10, 1, 0, 20], [10, 1, 0, 999]]],
        [101, [[10, 1, 0, 999], [10, 1, 0, 999], [10, 1, 0, 999]]],
        [10, [[20, 1, 15, 999], [20, 1, 0, 999]]],
        [100, [[10, 1, 0, 15], [10, 1, 0, 15]]],
        [40, [[20, 0, 0, 999], [20, 1, 0, 999]]],
        [0, [[7, 1, 0, 9], [5, 1, 2, 9]]],
        [102, [[10, 3, 0, 999], [10, 1, 0, 30], [11, 2, 0, 999]]],
    ],
    draw=lambda d: [
        d.randint(20, 130),
        [
            [d.randint(5, 40), d.randint(0, 3), d.randint(0, 5), d.choice([45, 60, 999])]
            for _ in range(d.randint(2, 4))
        ],
    ],
)
def flex_widths(width: int, views: list[list[int]], *, leftover: str, shrink: str) -> list[int]:
    """Share out the width of a row among its views; return their widths in whole points.

    A view is [base width, grow, smallest, largest] with smallest <= base <= largest. Where the base
    widths leave room, it is shared among the views that can grow in proportion to `grow`, each
    share rounded down. A view that would become wider than its largest width gets exactly that, and
    the sharing is done again for the others (all that exceed in one round are fixed together).
    Where no view can grow the rest of the room stays empty. Where the base widths are too wide,
    each affected view of base b becomes b - ceil(missing * b / sum of the affected bases), but not
    less than its smallest width; nothing is shared again.
    """
    widths = [base for base, _, _, _ in views]
    room = width - sum(widths)
    if room < 0:
        affected = list(range(len(views)))
        if shrink == "flexible":
            affected = [index for index in affected if views[index][1] > 0]
        total = sum(views[index][0] for index in affected)
        for index in affected:
            base, _, smallest, _ = views[index]
            widths[index] = max(smallest, base + (room * base) // total)
        return widths
    growing = [index for index, view in enumerate(views) if view[1] > 0]
    while growing:
        total = sum(views[index][1] for index in growing)
        shares = {index: room * views[index][1] // total for index in growing}
        full = [index for index in growing if views[index][0] + shares[index] > views[index][3]]
        if not full:
            rest = room - sum(shares.values())
            for place, index in enumerate(growing):
                if leftover == "spread":
                    extra = 1 if place < rest else 0
                else:
                    extra = rest if index == growing[-1] else 0
                widths[index] += shares[index] + extra
            break
        for index in full:
            widths[index] = views[index][3]
            room -= views[index][3] - views[index][0]
        growing = [index for index in growing if index not in full]
    return widths


@family(
    rules={
        "metered": {
            "small": "Over a metered network only files of at most 10 units are downloaded.",
            "urgent": "Over a metered network only files of priority 0 are downloaded.",
        },
        "resume": {
            True: "A download that is interrupted goes on later where it stopped.",
            False: "A download that is interrupted starts again from nothing.",
        },
    },
    edges=[
        [[[0, "a", 1, 3], [1, "b", 0, 2]], "wwwwwwww"],
        [[[0, "a", 0, 4]], "ww-wwww"],
        [[], "www"],
        [[[0, "a", 1, 2]], "----"],
        [[[0, "big", 0, 12], [0, "small", 1, 2]], "mmmmmmmmmmmmmmmmmm"],
        [[[5, "late", 0, 1]], "www"],
        [[[0, "b", 1, 1], [0, "a", 1, 1]], "ww"],
        [[[0, "a", 2, 3], [1, "b", 1, 2], [2, "c", 0, 1]], "wwwwwww"],
        [[[0, "a", 1, 10], [0, "b", 0, 11]], "m" * 24],
        [[[0, "a", 1, 2]], "wmwm"],
    ],
    draw=lambda d: [
        [
            [d.randint(0, 5), name, d.randint(0, 2), d.choice([1, 2, 3, 4, 11])]
            for name in d.sample("abcd", d.randint(2, 4))
        ],
        "".join(d.choice("wwmm-") * d.randint(1, 4) for _ in range(6)),
    ],
)
def download_order(
    files: list[list[Any]], network: str, *, metered: str, resume: bool
) -> list[list[Any]]:
    """Simulate a download queue; return [name, tick of its end] in the order in which files end.

    A file is [tick from which it is wanted, name, priority, size]; a lower number is a higher
    priority. `network` has one character per tick: 'w' wifi, 'm' metered, '-' none. In every tick
    one unit of one file is downloaded: of the files that are wanted, not complete and allowed on
    the network, the one of highest priority; of equals the one that was wanted first, then the
    alphabetically first. A file is interrupted by every tick in which it is not the one downloaded
    after it has begun. A file ends in the tick of its last unit.
    """
    done: dict[str, int] = {}
    ended: list[list[Any]] = []
    finished: set[str] = set()
    for tick, kind in enumerate(network):
        waiting = []
        for wanted, name, priority, size in files:
            allowed = kind == "w"
            if kind == "m":
                allowed = size <= 10 if metered == "small" else priority == 0
            if wanted <= tick and name not in finished and allowed:
                waiting.append((priority, wanted, name, size))
        active = ""
        if waiting:
            _, _, active, size = min(waiting)
            done[active] = done.get(active, 0) + 1
            if done[active] == size:
                finished.add(active)
                ended.append([active, tick])
        if not resume:
            done = {name: units for name, units in done.items() if name == active}
    return ended
