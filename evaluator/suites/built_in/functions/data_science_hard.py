"""Data science, subtle rules: as-of joins, decision stumps, queries, linear systems."""

from fractions import Fraction
from operator import itemgetter
from typing import Any

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "direction": {
            "backward": "The partner of a left row is the last right row whose time is not later.",
            "nearest": "The partner of a left row is the right row with the nearest time; of two "
            "equally near ones the earlier one.",
        },
        "once": {
            True: "A right row is the partner of at most one left row: rows choose in order, and "
            "only among right rows that no earlier row took.",
            False: "A right row may be the partner of several left rows.",
        },
    },
    edges=[
        [[[5, "a"], [9, "a"]], [[4, "a", 1.0], [8, "a", 2.0]], 3],
        [[[5, "a"], [6, "a"]], [[5, "a", 1.0], [7, "a", 2.0]], 2],
        [[], [[1, "a", 1.0]], 5],
        [[[3, "b"]], [[3, "a", 1.0]], 5],
        [[[10, "a"]], [[5, "a", 1.0]], 5],
        [[[10, "a"]], [[4, "a", 1.0]], 5],
        [[[5, "a"]], [[3, "a", 1.0], [7, "a", 2.0]], 4],
        [[[5, "a"]], [[5, "a", 1.0], [5, "a", 2.0]], 0],
        [[[1, "a"], [2, "a"], [3, "a"]], [[2, "a", 1.0]], 9],
    ],
    draw=lambda d: [
        [[time, d.choice("ab")] for time in sorted(d.ints(0, 20, 6, 3))],
        [[time, d.choice("ab"), float(n)] for n, time in enumerate(sorted(d.ints(0, 20, 8, 4)))],
        d.randint(1, 6),
    ],
)
def join_as_of(
    left: list[list[Any]], right: list[list[Any]], tolerance: int, *, direction: str, once: bool
) -> list[float | None]:
    """Give every left row [time, key] the value of its partner among the right rows.

    A right row is [time, key, value]. A partner has the same key and a time at most `tolerance`
    away. Both tables are ordered by time; among right rows of one time the last one is preferred.
    A left row without a partner gets None.
    """
    taken: set[int] = set()
    values: list[float | None] = []
    for time, key in left:
        best: tuple[int, int, int] | None = None
        for index, (other, other_key, _) in enumerate(right):
            distance = abs(time - other)
            if other_key != key or distance > tolerance or index in taken:
                continue
            if direction == "backward" and other > time:
                continue
            rank = (distance, other, -index)
            if best is None or rank < best:
                best = rank
        if best is None:
            values.append(None)
            continue
        values.append(right[-best[2]][2])
        if once:
            taken.add(-best[2])
    return values


@family(
    rules={
        "impurity": {
            "gini": "The impurity of a side is 1 minus the sum of the squared shares of its "
            "labels.",
            "error": "The impurity of a side is 1 minus the largest share of a label in it.",
        },
        "minimum": {
            1: "Each side holds at least 1 row.",
            2: "Each side holds at least 2 rows.",
        },
    },
    edges=[
        [[[1, 5], [2, 4], [3, 4], [4, 5]], ["a", "a", "b", "b"]],
        [[[1, 1], [1, 2], [1, 3]], ["a", "b", "b"]],
        [[], []],
        [[[1], [1]], ["a", "b"]],
        [[[1], [2]], ["a", "a"]],
        [[[3], [1], [2], [5]], ["a", "b", "a", "a"]],
        [[[1, 9], [2, 8], [3, 7], [4, 6], [5, 5]], ["a", "b", "a", "b", "b"]],
    ],
    draw=lambda d: [
        [[d.randint(0, 6), d.randint(0, 4)] for _ in range(8)],
        d.choices("abc", k=8),
    ],
    tolerance=1e-9,
)
def best_split(
    rows: list[list[int]], labels: list[str], *, impurity: str, minimum: int
) -> list[float] | None:
    """Find the best split of a decision tree node; return [feature, threshold, gain] or None.

    A split sends rows with row[feature] <= threshold to the left and all others to the right.
    Thresholds lie midway between neighbouring distinct values of a feature. The gain is the
    impurity of all rows minus the impurities of both sides, each weighted by its share of rows. The
    split with the largest gain is the best; of equal ones (within 1e-12) the one with the smaller
    feature, then the smaller threshold. None where no split has a gain above 1e-12. The feature is
    returned as a float too.
    """

    def impure(side: list[str]) -> float:
        shares = [side.count(label) / len(side) for label in sorted(set(side))]
        if impurity == "gini":
            return 1 - sum(share * share for share in shares)
        return 1 - max(shares)

    best: list[float] | None = None
    for feature in range(len(rows[0]) if rows else 0):
        distinct = sorted({row[feature] for row in rows})
        for low, high in zip(distinct, distinct[1:], strict=False):
            threshold = (low + high) / 2
            sides: list[list[str]] = [[], []]
            for row, label in zip(rows, labels, strict=True):
                sides[row[feature] > threshold].append(label)
            if min(map(len, sides)) < minimum:
                continue
            gain = impure(labels)
            for side in sides:
                gain -= len(side) / len(labels) * impure(side)
            if gain > 1e-12 + (best[2] if best else 0):
                best = [float(feature), threshold, gain]
    return best


@family(
    rules={
        "nulls": {
            "first": "In `sort`, None comes before all other values in either direction.",
            "last": "In `sort`, None comes after all other values in either direction.",
        },
        "empty": {
            "skip": "`sum` of a group without any value that is not None is left out of the row.",
            "zero": "`sum` of a group without any value that is not None is 0.",
        },
    },
    edges=[
        [
            [{"k": "a", "v": 1}, {"k": "b", "v": 5}, {"k": "a", "v": 2}],
            ["group k sum v", "sort -v"],
        ],
        [[{"v": 3}, {"v": None}, {"v": 1}], ["sort v", "limit 2"]],
        [[], ["group k sum v"]],
        [[{"v": 1}], []],
        [[{"v": 2}, {"v": 3}, {"v": None}, {}], ["where v > 2"]],
        [[{"v": 2}, {"v": None}], ["where v = 2", "select v w"]],
        [[{"k": "a", "v": None}, {"k": "b", "v": 1}], ["group k sum v"]],
        [[{"v": 1}], ["drop v"]],
        [[{"v": 1}], ["where v ~ 1"]],
        [[{"v": 1, "w": 1}, {"v": 1, "w": 0}], ["sort v"]],
        [[{"k": "a", "v": 1}, {"v": 4}], ["group k sum v"]],
        [[{"v": 1}], ["limit 0"]],
        [[{"v": 1}], ["limit 1 2"]],
        [[{"v": 3, "w": 1}, {"v": 2, "w": 2}, {"w": 3}], ["sort -v", "select w"]],
        [[{"v": 1}], ["where v < 1"]],
    ],
    draw=lambda d: [
        [
            {"k": d.choice("ab"), "v": d.choice([None, 1, 2, 3]), "w": d.randint(0, 3)}
            for _ in range(6)
        ],
        d.choice([[], ["where w > 0"], ["where v < 3"], ["where w = 1"]])
        + d.choice([["group k sum v"], ["group w sum v"], []])
        + d.choice([["sort v"], ["sort -v"], ["sort -v", "limit 2"], ["select k v", "sort v"]]),
    ],
)
def run_query(
    rows: list[dict[str, Any]], steps: list[str], *, nulls: str, empty: str
) -> list[dict[str, Any]]:
    """Run the steps of a query over rows, one after another; return the rows.

    - `where FIELD OP NUMBER` with OP one of = < > keeps rows whose field holds; None and a missing
      field never do. NUMBER is whole.
    - `select FIELD ...` keeps these fields, in this order; a missing one becomes None.
    - `group FIELD sum OTHER` makes one row {FIELD, OTHER} for each distinct value of FIELD (missing
      is None), in the order of first appearance, with the sum of OTHER; None and missing values are
      left out of the sum.
    - `sort FIELD` orders by a field, `sort -FIELD` descending; missing is None; ties keep their
      order in both directions.
    - `limit N` keeps the first N rows.

    Any other step raises ValueError.
    """
    for step in steps:
        verb, *words = step.split()
        if verb == "where" and len(words) == 3 and words[1] in ("=", "<", ">"):
            field, sign, number = words[0], words[1], int(words[2])
            known = [row for row in rows if row.get(field) is not None]
            signs = {
                row_id: (row[field] > number) - (row[field] < number)
                for row_id, row in enumerate(known)
            }
            wanted = "<=>".index(sign) - 1
            rows = [row for row_id, row in enumerate(known) if signs[row_id] == wanted]
        elif verb == "select":
            rows = [{field: row.get(field) for field in words} for row in rows]
        elif verb == "group" and len(words) == 3 and words[1] == "sum":
            groups: dict[Any, list[Any]] = {}
            for row in rows:
                own = groups.setdefault(row.get(words[0]), [])
                if row.get(words[2]) is not None:
                    own.append(row[words[2]])
            rows = []
            for key, values in groups.items():
                total = {words[2]: sum(values)} if values or empty == "zero" else {}
                rows.append({words[0]: key, **total})
        elif verb == "sort" and len(words) == 1:
            field = words[0].removeprefix("-")
            there = [row for row in rows if row.get(field) is not None]
            nothing = [row for row in rows if row.get(field) is None]
            there.sort(key=itemgetter(field), reverse=words[0].startswith("-"))
            rows = nothing + there if nulls == "first" else there + nothing
        elif verb == "limit" and len(words) == 1:
            rows = rows[: int(words[0])]
        else:
            raise ValueError(f"unknown step {step}")
    return rows


@family(
    rules={
        "free": {
            "zero": "Unknowns that may have any value are 0.",
            "none": "Where an unknown may have any value, the result is ['many'].",
        },
        "form": {
            "fraction": "A number is written as 'p/q' in lowest terms with q > 0, or as 'p' where "
            "q "
            "is 1.",
            "mixed": "A number is written in lowest terms with its whole part apart, as '1 2/3' or "
            "'-1 2/3'; without whole part as '2/3' or '-2/3', and whole numbers as '5'.",
        },
    },
    edges=[
        [[[2, 1, 5], [1, -1, 1]]],
        [[[3, 0, 5], [0, 3, -2]]],
        [[[1, 1, 2], [2, 2, 4]]],
        [[[1, 1, 2], [1, 1, 3]]],
        [[[0, 2, 3], [4, 0, 1]]],
        [[[0, 0, 0]]],
        [[[0, 0, 1]]],
        [[[2, 4]]],
        [[[1, 2, 3, 4]]],
        [[[1, 0, 1], [0, 1, 2], [1, 1, 3]]],
        [[[1, 0, 1], [0, 1, 2], [1, 1, 4]]],
        [[[2, 4, 6, 9], [0, 0, 2, -7]]],
        [[[2, -3]]],
        [[[3, 0, -1], [0, 4, 2]]],
        [[[5, 0, 0, 12], [0, 5, 0, -12], [0, 0, 5, 0]]],
    ],
    draw=lambda d: [
        [
            [d.randint(-2, 3) for _ in range(size)] + [d.randint(-7, 7)]
            for _ in range(d.randint(size - 1, size))
        ]
        for size in [d.randint(2, 3)]
    ],
)
def solve_linear(equations: list[list[int]], *, free: str, form: str) -> list[str]:
    """Solve a system of linear equations exactly; return the unknowns as texts.

    An equation is a list of coefficients followed by the right side: [2, 1, 5] is 2x + y = 5. All
    have the same length. A system without a solution gives []. Of a system with many solutions,
    unknowns are determined from left to right: an unknown is free where those to its left and the
    equations do not need it as a pivot (reduced row echelon form).
    """
    rows = [[Fraction(number) for number in equation] for equation in equations]
    width = len(rows[0]) - 1
    pivots: list[int] = []
    for column in range(width):
        done = len(pivots)
        found = [index for index in range(done, len(rows)) if rows[index][column]]
        if not found:
            continue
        rows[done], rows[found[0]] = rows[found[0]], rows[done]
        rows[done] = [number / rows[done][column] for number in rows[done]]
        for index, row in enumerate(rows):
            if index != done:
                rows[index] = [
                    number - row[column] * own for number, own in zip(row, rows[done], strict=True)
                ]
        pivots.append(column)
    if any(row[-1] for row in rows[len(pivots) :]):
        return []
    if free == "none" and len(pivots) < width:
        return ["many"]
    texts = ["0"] * width
    for column, row in zip(pivots, rows, strict=False):
        value = row[-1]
        texts[column] = str(value)
        if form == "mixed":
            whole, rest = divmod(abs(value), 1)
            if whole and rest:
                texts[column] = ("-" if value < 0 else "") + str(whole) + " " + str(rest)
    return texts
