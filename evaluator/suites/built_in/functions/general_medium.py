"""General programming, two or three interacting rules each: texts, sets of numbers, walks."""

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "long": {
            "break": "A word longer than the width is broken into pieces of the width; the first "
            "piece begins a line of its own, and the last one goes on like a word.",
            "keep": "A word longer than the width stands alone on its line, whole.",
        },
        "align": {
            "left": "Words of a line are separated by single spaces; no line ends in a space.",
            "full": "Every line but the last is stretched to the width by more spaces between "
            "words, as evenly as possible, the gaps on the left being the larger ones; a line of "
            "one word is not stretched.",
        },
    },
    edges=[
        ["the quick brown fox", 11],
        ["a extraordinary b", 6],
        ["", 5],
        ["word", 4],
        ["  spaced   out  ", 20],
        ["abcdefgh", 3],
        ["aa bb cc dd ee", 9],
        ["a b c d e f", 8],
        ["abcdef", 3],
    ],
    draw=lambda d: [
        " ".join(d.some(["a", "bb", "ccc", "dddd", "eeeeeeeee"], 9, 4)),
        d.randint(4, 11),
    ],
)
def wrap_text(text: str, width: int, *, long: str, align: str) -> list[str]:
    """Wrap a text into lines of at most `width` characters, each as full as possible.

    Words are separated by white space. A text without words gives no lines. `width` is at least 1.
    """
    lines: list[list[str]] = []
    for word in text.split():
        pieces = [word]
        if long == "break":
            pieces = [word[at : at + width] for at in range(0, len(word), width)]
        for piece in pieces:
            whole = len(pieces) == 1
            if lines and whole and len(" ".join([*lines[-1], piece])) <= width:
                lines[-1].append(piece)
            else:
                lines.append([piece])
    wrapped = []
    for number, words in enumerate(lines):
        if align == "full" and len(words) > 1 and number < len(lines) - 1:
            gaps = len(words) - 1
            spaces, extra = divmod(width - sum(map(len, words)), gaps)
            words = [
                word + " " * (spaces + (at < extra)) if at < gaps else word
                for at, word in enumerate(words)
            ]
            wrapped.append("".join(words))
        else:
            wrapped.append(" ".join(words))
    return wrapped


@family(
    rules={
        "ends": {
            "half": "An interval holds its start and not its end: [2, 5] is 2, 3, 4.",
            "closed": "An interval holds both its ends: [2, 5] is 2, 3, 4, 5.",
        },
        "result": {
            "pieces": "Return the intervals that are left: as few as possible, ascending.",
            "length": "Return one interval [0, n] that tells how many numbers n are left, or [] "
            "where none is.",
        },
    },
    edges=[
        [[[0, 10]], [[3, 5]]],
        [[[0, 4], [6, 9]], [[2, 7]]],
        [[], [[1, 2]]],
        [[[1, 3], [2, 6]], []],
        [[[0, 5]], [[0, 5]]],
        [[[0, 5], [5, 8]], [[9, 12]]],
        [[[0, 5]], [[5, 9]]],
        [[[3, 6]], [[1, 3]]],
        [[[2, 4], [5, 7]], []],
    ],
    draw=lambda d: [
        [[start, start + d.randint(1, 5)] for start in d.ints(0, 15, 4, 1)] for _ in range(2)
    ],
)
def subtract_intervals(
    intervals: list[list[int]], holes: list[list[int]], *, ends: str, result: str
) -> list[list[int]]:
    """Remove the numbers of some intervals of whole numbers from those of others.

    Intervals are [start, end] with start < end, in any order, and may overlap.
    """
    extra = 1 if ends == "closed" else 0
    left: set[int] = set()
    for start, end in intervals:
        left.update(range(start, end + extra))
    for start, end in holes:
        left.difference_update(range(start, end + extra))
    if result == "length":
        return [[0, len(left)]] if left else []
    pieces: list[list[int]] = []
    for number in sorted(left):
        if pieces and pieces[-1][1] == number - extra:
            pieces[-1][1] = number + 1 - extra
        else:
            pieces.append([number, number + 1 - extra])
    return pieces


@family(
    rules={
        "turn": {
            "clockwise": "Start at the top left and walk clockwise.",
            "anticlockwise": "Start at the top left and walk anticlockwise.",
        },
        "blocked": {
            "turn": "A cell holding 0 is a wall: turn before it as at the edge.",
            "stop": "At a cell holding 0 in the way the walk ends.",
        },
    },
    edges=[
        [[[1, 2, 3], [8, 9, 4], [7, 6, 5]]],
        [[[1, 2, 0], [6, 5, 3], [7, 8, 4]]],
        [[]],
        [[[0]]],
        [[[5]]],
        [[[1, 2, 3, 4]]],
        [[[1], [2], [3]]],
        [[[1, 0], [2, 3]]],
        [[[1, 2], [3, 4], [5, 6]]],
    ],
    draw=lambda d: [
        [
            [d.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 0]) for _ in range(width)]
            for _ in range(d.randint(2, 5))
        ]
        for width in [d.randint(2, 5)]
    ],
)
def walk_spiral(grid: list[list[int]], *, turn: str, blocked: str) -> list[int]:
    """Walk a grid in a spiral and return the numbers on the way.

    Walk straight on until the edge or a visited cell is in the way, then turn by 90 degrees towards
    the inside. The walk ends where the cell after the turn is in the way too. It visits nothing
    where the grid is empty or its first cell holds 0.
    """
    directions = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    if turn == "anticlockwise":
        directions = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    if not grid or grid[0][0] == 0:
        return []
    row = column = heading = turned = 0
    visited = [(0, 0)]
    while turned < 2:
        down, right = directions[heading]
        cell = (row + down, column + right)
        inside = 0 <= cell[0] < len(grid) and 0 <= cell[1] < len(grid[0])
        if inside and cell not in visited and grid[cell[0]][cell[1]] != 0:
            row, column = cell
            visited.append(cell)
            turned = 0
            continue
        if blocked == "stop" and inside and cell not in visited:
            break
        heading = (heading + 1) % 4
        turned += 1
    return [grid[row][column] for row, column in visited]


@family(
    rules={
        "swap": {
            True: "Exchanging two neighbouring characters costs 1 (no character takes part in "
            "another edit then).",
            False: "Exchanging characters is no edit of its own.",
        },
        "replace": {
            1: "Replacing a character costs 1.",
            2: "Replacing a character costs 2.",
        },
    },
    edges=[
        ["form", "from"],
        ["kitten", "sitting"],
        ["", ""],
        ["", "abc"],
        ["abc", ""],
        ["ab", "ba"],
        ["ca", "abc"],
        ["Same", "same"],
        ["abcd", "badc"],
    ],
    draw=lambda d: [d.text("abc", 7, 2), d.text("abc", 7, 2)],
)
def edit_distance(source: str, target: str, *, swap: bool, replace: int) -> int:
    """Return the least cost of edits that turn one text into another.

    Inserting and deleting a character cost 1 each. Capital and small letters differ.
    """
    rows = [list(range(len(target) + 1))]
    for i, left in enumerate(source, start=1):
        row = [i]
        for j, right in enumerate(target, start=1):
            cost = 0 if left == right else replace
            best = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + cost)
            if swap and i > 1 and j > 1 and (left, source[i - 2]) == (target[j - 2], right):
                best = min(best, rows[i - 2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
