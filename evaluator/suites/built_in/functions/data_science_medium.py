"""Data science, two or three interacting rules each: pivots, scores, outliers, joins, ranks."""

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "aggregate": {
            "sum": "A cell is the sum of its values.",
            "mean": "A cell is the arithmetic mean of its values.",
        },
        "totals": {
            True: "Each row ends with one more cell: the aggregate of all values of that row (of "
            "the values, not of the cells).",
            False: "There are no totals.",
        },
    },
    edges=[
        [[["n", "x", 1.0], ["s", "y", 2.0], ["n", "x", 4.0]]],
        [[["b", "q", 3.0], ["a", "p", 1.0], ["a", "q", 2.0], ["a", "q", 6.0]]],
        [[]],
        [[["a", "p", 0.0]]],
        [[["a", "p", -1.0], ["a", "r", 1.0], ["b", "p", 5.0]]],
    ],
    draw=lambda d: [
        [[d.choice("ab"), d.choice("pqr"), d.randint(-8, 8) / 2] for _ in range(d.randint(3, 9))]
    ],
    tolerance=1e-9,
)
def pivot(
    rows: list[list[str | float]], *, aggregate: str, totals: bool
) -> dict[str, list[float | None]]:
    """Turn rows of [row key, column key, value] into a table: row key -> list of cells.

    The cells are in the alphabetical order of all column keys; a cell without values is None.
    """
    columns = sorted({str(column) for _, column, _ in rows})
    table: dict[str, list[float | None]] = {}
    for key in dict.fromkeys(str(row[0]) for row in rows):
        groups = [
            [float(value) for row, column, value in rows if row == key and column == wanted]
            for wanted in columns
        ]
        if totals:
            groups.append([value for group in groups for value in group])
        table[key] = []
        for group in groups:
            if not group:
                table[key].append(None)
            elif aggregate == "sum":
                table[key].append(sum(group))
            else:
                table[key].append(sum(group) / len(group))
    return table


@family(
    rules={
        "average": {
            "macro": "The result is the arithmetic mean over all classes that occur among the "
            "truths or the predictions.",
            "weighted": "The result is the mean over the classes, each weighted by how often it "
            "occurs among the truths.",
        },
        "score": {
            "recall": "The score of a class is its recall: right predictions of it / its "
            "occurrences among the truths.",
            "f1": "The score of a class is F1: 2 * right / (occurrences among the truths + "
            "occurrences among the predictions).",
        },
    },
    edges=[
        [["a", "b", "a", "a"], ["a", "b", "b", "a"]],
        [["a", "a"], ["b", "b"]],
        [[], []],
        [["a"], ["a"]],
        [["a", "b", "c", "c"], ["a", "c", "c", "c"]],
    ],
    draw=lambda d: [d.choices("abc", k=size) for size in [d.randint(4, 10)] for _ in range(2)],
    tolerance=1e-9,
)
def class_score(
    truths: list[str], predictions: list[str], *, average: str, score: str
) -> float | None:
    """Score predicted classes against the true ones, which have the same length.

    A score whose divisor is 0 is 0.0. Without any pair the result is None.
    """
    if not truths:
        return None
    total = weights = 0.0
    for label in sorted({*truths, *predictions}):
        right = sum(
            truth == label == prediction
            for truth, prediction in zip(truths, predictions, strict=True)
        )
        support, predicted = truths.count(label), predictions.count(label)
        weight = support if average == "weighted" else 1
        if score == "f1":
            total += weight * 2 * right / (support + predicted)
        elif support:
            total += weight * right / support
        weights += weight
    return total / weights


@family(
    rules={
        "action": {
            "drop": "Outliers are left out.",
            "clip": "Outliers are replaced by the nearer limit.",
        },
        "limits": {
            "iqr": "The limits are Q1 - factor * (Q3 - Q1) and Q3 + factor * (Q3 - Q1).",
            "median": "The limits are the median minus and plus factor * m, where m is the median "
            "of the distances of all values from the median.",
        },
    },
    edges=[
        [[1.0, 2.0, 3.0, 4.0, 100.0], 1.5],
        [[5.0, 5.0, 5.0, 9.0], 2.0],
        [[], 1.5],
        [[7.0], 1.5],
        [[-50.0, 1.0, 2.0, 3.0], 1.0],
        [[1.0, 2.0, 3.0, 4.0, 5.0, 12.0], 0.5],
        [[1.0, 2.0, 3.0, 4.0, 5.0], 0.0],
    ],
    draw=lambda d: [
        [*d.halves(-5, 5, 8, 4), d.choice([-30.0, 30.0, 11.0])],
        d.choice([0.5, 1.0, 1.5]),
    ],
    tolerance=1e-9,
)
def treat_outliers(values: list[float], factor: float, *, action: str, limits: str) -> list[float]:
    """Return the values, in their order, with outliers treated; a value on a limit is none.

    A quantile q lies at position q * (n - 1) of the sorted values, counted from 0, with linear
    interpolation between neighbours; Q1, the median and Q3 are the quantiles 0.25, 0.5 and 0.75.
    """

    def quantile(numbers: list[float], share: float) -> float:
        ordered = sorted(numbers)
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    if not values:
        return []
    if limits == "iqr":
        low, high = quantile(values, 0.25), quantile(values, 0.75)
        reach = factor * (high - low)
    else:
        low = high = quantile(values, 0.5)
        reach = factor * quantile([abs(value - low) for value in values], 0.5)
    low, high = low - reach, high + reach
    if action == "drop":
        return [value for value in values if low <= value <= high]
    return [min(max(value, low), high) for value in values]


@family(
    rules={
        "how": {
            "inner": "Left rows without a partner are left out.",
            "left": "Left rows without a partner are kept, with None for the right value.",
            "outer": "Rows without a partner are kept on both sides, with None for what is "
            "missing; "
            "those of the right follow at the end, in their order.",
            "anti": "Only left rows without a partner are kept, with None for the right value.",
        }
    },
    edges=[
        [[["a", 1], ["b", 2]], [["a", 10], ["c", 30]]],
        [[["a", 1], ["a", 2]], [["a", 7], ["a", 8]]],
        [[], [["a", 1]]],
        [[["a", 1]], []],
        [[[None, 1], ["x", 2]], [[None, 5], ["x", 6]]],
        [[["b", 1], ["a", 2]], [["a", 3], ["b", 4]]],
    ],
    draw=lambda d: [
        [[d.choice(["a", "b", "c", None]), d.randint(0, 9)] for _ in range(d.randint(2, 5))]
        for _ in range(2)
    ],
)
def join_tables(
    left: list[list[str | int | None]], right: list[list[str | int | None]], *, how: str
) -> list[list[str | int | None]]:
    """Join two tables of [key, value] on the key; return rows of [key, left value, right value].

    Several partners make several rows: in the order of the left table, and for one left row in the
    order of the right. A key of None has no partner, not even another None.
    """
    joined: list[list[str | int | None]] = []
    matched: set[int] = set()
    for key, value in left:
        partners = [index for index, row in enumerate(right) if key is not None and row[0] == key]
        matched.update(partners)
        if how != "anti":
            joined += [[key, value, right[index][1]] for index in partners]
        if how != "inner" and not partners:
            joined.append([key, value, None])
    if how == "outer":
        joined += [
            [row[0], None, row[1]] for index, row in enumerate(right) if index not in matched
        ]
    return joined
