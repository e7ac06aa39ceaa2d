"""General functions that testers write tests for."""

from evaluator.suites.built_in.functions.family import family

SPARES = [[first, 10 - first] for first in range(10)]


@family(
    rules={
        "rule": {
            "luhn": "Every second digit from the right, beginning with the second, is doubled; 9 "
            "is "
            "subtracted from what is then above 9. The sum must be divisible by 10.",
            "weights": "The digits from the right are multiplied by 1, 3, 1, 3, ... The sum must "
            "be "
            "divisible by 10.",
        },
        "spaces": {
            True: "Spaces and dashes between digits are ignored.",
            False: "Any character that is not a digit makes the number invalid.",
        },
    },
    edges=[
        ["79927398713"],
        ["4006381333931"],
        ["4006 3813 3393-1"],
        ["7992-7398 713"],
        [""],
        ["0"],
        ["5"],
        ["18"],
        ["26"],
        ["7992739871a"],
        [" "],
        ["59"],
        ["00"],
        ["67"],
        ["91"],
        ["1 8"],
        ["4-2"],
        ["9-1"],
        ["133"],
        ["125"],
        ["109"],
        ["117"],
        ["2-6"],
    ],
    draw=lambda d: [
        d.choice(["20", "6", "9-1", "7 3", "4006"]) + str(d.randint(0, 99)) + d.choice("469")
    ],
)
def is_valid_number(number: str, *, rule: str, spaces: bool) -> bool:
    """Tell whether the check digit of a number is right. A number without digits is invalid."""
    if spaces:
        number = number.replace(" ", "").replace("-", "")
    if not number.isdecimal():
        return False
    total = 0
    for place, digit in enumerate(map(int, reversed(number))):
        if place % 2 == 0:
            total += digit
        elif rule == "weights":
            total += 3 * digit
        else:
            total += 2 * digit - 9 if digit > 4 else 2 * digit
    return total % 10 == 0


@family(
    rules={
        "shared": {
            True: "Meetings that only touch are not in conflict.",
            False: "Meetings that only touch are in conflict too.",
        },
        "travel": {
            True: "Between meetings in different rooms at least 10 minutes are needed: less is a "
            "conflict.",
            False: "Rooms make no difference.",
        },
    },
    edges=[
        [[[0, 30, "a"], [20, 40, "a"]]],
        [[[0, 30, "a"], [30, 60, "a"]]],
        [[[0, 30, "a"], [35, 60, "b"]]],
        [[]],
        [[[0, 30, "a"], [40, 60, "b"]]],
        [[[0, 30, "a"], [39, 60, "b"]]],
        [[[50, 60, "a"], [0, 100, "a"], [70, 80, "b"]]],
        [[[0, 10, "a"], [10, 20, "b"], [20, 30, "b"]]],
        [[[5, 9, "a"]]],
    ],
    draw=lambda d: [
        [
            [start, start + d.choice([10, 20, 25]), d.choice("ab")]
            for start in d.some(range(0, 120, 5), 6, 3)
        ]
    ],
)
def meeting_conflicts(
    meetings: list[list[int | str]], *, shared: bool, travel: bool
) -> list[list[int]]:
    """Find the pairs of meetings [start, end, room] that are in conflict, for one person.

    Times are minutes, start < end. Return pairs of indices [i, j] with i < j, ascending.
    """
    found = []
    for j, (start, end, room) in enumerate(meetings):
        for i, (other_start, other_end, other_room) in enumerate(meetings[:j]):
            pause = max(int(start) - int(other_end), int(other_start) - int(end))
            if pause < 0 or (not shared and pause == 0):
                found.append([i, j])
            elif travel and room != other_room and pause < 10:
                found.append([i, j])
    return sorted(found)


@family(
    rules={
        "length": {
            3: "Three equal marks in a row win.",
            4: "Four equal marks in a row win.",
        },
        "diagonal": {
            True: "A row is horizontal, vertical or diagonal.",
            False: "A row is horizontal or vertical.",
        },
    },
    edges=[
        [["xxx.", "oo..", "....", "...."]],
        [["x...", ".x..", "..x.", "...x"]],
        [["....", "....", "....", "...."]],
        [["o...", "o...", "o...", "o..."]],
        [["...o", "..o.", ".o..", "o..."]],
        [["xxxx", "oooo", "....", "...."]],
        [["oooo", "xxxx", "....", "...."]],
        [["xoxo", "oxox", "xoxo", "oxox"]],
        [[]],
        [["xxx"]],
        [["x", "x", "x"]],
        [[".xxx", "....", "....", "...."]],
        [["....", ".o..", ".o..", ".o.."]],
        [["....", "...o", "..o.", ".o.."]],
        [["....", "....", "....", "oooo"]],
        [["...x", "...x", "...x", "...x"]],
        [["....", "....", "....", ".xxx"]],
    ],
    draw=lambda d: [["".join(d.choices("xo.", weights=[7, 3, 2], k=4)) for _ in range(4)]],
)
def find_winner(board: list[str], *, length: int, diagonal: bool) -> str:
    """Return the winner on a board of 'x', 'o' and '.', or '' for none.

    All rows of the board are equally long. Where both have a row, the winner is the one whose row
    begins first: in the uppermost line, then the leftmost column, where it is read downwards or, in
    one line, to the right.
    """
    steps = [(0, 1), (1, 0)]
    if diagonal:
        steps += [(1, 1), (1, -1)]
    for row, line in enumerate(board):
        for column, mark in enumerate(line):
            for down, right in steps:
                last_row = row + down * (length - 1)
                last_column = column + right * (length - 1)
                if mark == "." or last_row >= len(board) or not 0 <= last_column < len(line):
                    continue
                marks = {board[row + down * n][column + right * n] for n in range(length)}
                if marks == {mark}:
                    return mark
    return ""


@family(
    rules={
        "turn": {
            "clockwise": "Turn it by 90 degrees clockwise.",
            "anticlockwise": "Turn it by 90 degrees anticlockwise.",
            "half": "Turn it by 180 degrees.",
            "antitranspose": "Mirror it at the diagonal from top right to bottom left.",
        }
    },
    edges=[
        [[[1, 2], [3, 4]]],
        [[[1, 2, 3], [4, 5, 6]]],
        [[]],
        [[[7]]],
        [[[1], [2], [3]]],
    ],
    draw=lambda d: [
        [[d.randint(0, 9) for _ in range(width)] for _ in range(d.randint(1, 4))]
        for width in [d.randint(1, 4)]
    ],
)
def turn_matrix(rows: list[list[int]], *, turn: str) -> list[list[int]]:
    """Turn or mirror a matrix of equally long rows; an empty one stays empty."""
    if turn == "clockwise":
        return [list(column) for column in zip(*rows[::-1], strict=True)]
    elif turn == "anticlockwise":
        return [list(column) for column in zip(*rows, strict=True)][::-1]
    elif turn == "half":
        return [row[::-1] for row in rows[::-1]]
    return [list(column)[::-1] for column in zip(*rows, strict=True)][::-1]


@family(
    rules={
        "spare": {
            True: "A spare (all ten pins with the second ball) adds the pins of the next ball.",
            False: "A spare adds nothing.",
        },
        "strike": {
            2: "A strike (all ten pins with the first ball) adds the pins of the next two balls.",
            1: "A strike (all ten pins with the first ball) adds the pins of the next ball.",
        },
    },
    edges=[
        [[3, 4, 5, 2]],
        [[10, 3, 4]],
        [[6, 4, 5, 1]],
        [[]],
        [[10, 10, 10]],
        [[0, 10, 7, 1]],
        [[5, 5]],
        [[10]],
        [[9]],
        [[4, 3, 8]],
        [[1, 9, 10, 2, 3]],
        [[0, 0]],
        [[10, 0, 10, 4, 1]],
    ],
    draw=lambda d: [
        [
            pins
            for _ in range(d.randint(2, 6))
            for pins in d.choice(
                [[10], [d.randint(0, 5), d.randint(0, 4)], SPARES[d.randint(0, 9)]]
            )
        ]
    ],
)
def bowling_score(pins: list[int], *, spare: bool, strike: int) -> int:
    """Score a game of bowling that may not be over; `pins` holds the pins of each ball.

    A frame is two balls, or one that is a strike; it scores its pins and what the rules add. Balls
    that were not bowled yet count as 0. There is no special last frame.
    """
    total = at = 0
    while at < len(pins):
        if pins[at] == 10:
            total += sum(pins[at : at + 1 + strike])
            at += 1
            continue
        frame = sum(pins[at : at + 2])
        total += frame
        at += 2
        if spare and frame == 10:
            total += sum(pins[at : at + 1])
    return total
