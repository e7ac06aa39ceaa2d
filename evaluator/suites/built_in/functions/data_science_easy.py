"""Data science, one idea each: gaps, bins, windows, groups, scales."""

import math

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "method": {
            "previous": "A gap takes the nearest known value before it; gaps at the start stay.",
            "next": "A gap takes the nearest known value after it; gaps at the end stay.",
            "mean": "A gap takes the arithmetic mean of all known values.",
            "median": "A gap takes the median of all known values (the mean of the middle two "
            "where their number is even).",
        }
    },
    edges=[
        [[1.0, None, 3.0, None]],
        [[None, 4.0, 2.0, None, 9.0]],
        [[]],
        [[None, None]],
        [[5.0]],
        [[None, 1.0, None, None, 8.0, 0.0, None]],
    ],
    draw=lambda d: [[d.choice([None, d.randint(-4, 9) / 2]) for _ in range(d.randint(2, 9))]],
    tolerance=1e-9,
)
def fill_gaps(values: list[float | None], *, method: str) -> list[float | None]:
    """Return the values with the gaps (None) filled in.

    A list without any known value is returned as it is.
    """
    known = sorted(value for value in values if value is not None)
    if not known:
        return values
    if method == "mean":
        filler = sum(known) / len(known)
        return [filler if value is None else value for value in values]
    elif method == "median":
        middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
        return [middle if value is None else value for value in values]
    filled: list[float | None] = []
    for value in values if method == "previous" else values[::-1]:
        filled.append(filled[-1] if value is None and filled else value)
    return filled if method == "previous" else filled[::-1]


@family(
    rules={
        "closed": {
            "left": "A bin holds its lower edge and not its upper edge.",
            "right": "A bin holds its upper edge and not its lower edge.",
        },
        "outside": {
            "clip": "Values below all bins count in the first bin, values above in the last.",
            "drop": "Values outside all bins are not counted.",
        },
    },
    edges=[
        [[1.0, 2.5, 3.0], [0.0, 2.0, 3.0]],
        [[0.0, 1.0, 2.0, 5.0, -1.0], [0.0, 1.0, 2.0]],
        [[], [0.0, 1.0]],
        [[0.5], [0.0, 1.0]],
        [[0.0, 1.0], [0.0, 1.0]],
    ],
    draw=lambda d: [d.halves(-1, 7, 10, 3), sorted(d.few([0.0, 1.0, 2.0, 3.5, 4.0, 6.0], 6, 2))],
)
def histogram(values: list[float], edges: list[float], *, closed: str, outside: str) -> list[int]:
    """Count how many values fall into each bin.

    The bins lie between neighbouring `edges`, which ascend and are at least two; the result has one
    count per bin.
    """
    counts = [0] * (len(edges) - 1)
    for value in values:
        if closed == "left":
            index = sum(edge <= value for edge in edges) - 1
        else:
            index = sum(edge < value for edge in edges) - 1
        if outside == "clip":
            index = min(max(index, 0), len(counts) - 1)
        if 0 <= index < len(counts):
            counts[index] += 1
    return counts


@family(
    rules={
        "statistic": {
            "mean": "The statistic is the arithmetic mean.",
            "range": "The statistic is the largest minus the smallest value.",
        },
        "start": {
            "short": "The first windows hold fewer values: those there are so far.",
            "drop": "There is no result before the first full window.",
        },
    },
    edges=[
        [[1.0, 2.0, 6.0, 4.0], 2],
        [[5.0, 1.0], 3],
        [[], 2],
        [[3.0, 1.0, 2.0], 1],
        [[3.0, 1.0, 2.0], 3],
    ],
    draw=lambda d: [d.halves(-5, 9, 9, 2), d.randint(1, 4)],
    tolerance=1e-9,
)
def moving_window(values: list[float], width: int, *, statistic: str, start: str) -> list[float]:
    """Slide a window over the values and return a statistic of each position.

    The window of a position holds that value and the `width` - 1 values before it; `width` is at
    least 1.
    """
    results = []
    for end in range(1 if start == "short" else width, len(values) + 1):
        window = values[max(0, end - width) : end]
        if statistic == "mean":
            results.append(sum(window) / len(window))
        else:
            results.append(max(window) - min(window))
    return results


@family(
    rules={
        "aggregate": {
            "sum": "The aggregate is the sum.",
            "spread": "The aggregate is the largest minus the smallest value.",
            "mean": "The aggregate is the arithmetic mean.",
            "first": "The aggregate is the first value, in the order of the rows.",
        }
    },
    edges=[
        [[["a", 1.0], ["b", 5.0], ["a", 4.0]]],
        [[["x", None], ["y", 2.0], ["x", 7.0]]],
        [[]],
        [[["z", None]]],
        [[["a", 0.0], ["a", -1.0]]],
    ],
    draw=lambda d: [
        [[d.choice("abc"), d.choice([None, d.randint(-6, 9) / 2])] for _ in range(d.randint(2, 8))]
    ],
    tolerance=1e-9,
)
def group_aggregate(rows: list[list[str | float | None]], *, aggregate: str) -> dict[str, float]:
    """Group rows of [key, value] by key and return an aggregate of the values of each group.

    A value of None is missing and is left out; a group without any value is left out too.
    """
    groups: dict[str, list[float]] = {}
    for key, value in rows:
        if value is not None:
            groups.setdefault(str(key), []).append(float(value))
    if aggregate == "sum":
        return {key: sum(values) for key, values in groups.items()}
    elif aggregate == "spread":
        return {key: max(values) - min(values) for key, values in groups.items()}
    elif aggregate == "mean":
        return {key: sum(values) / len(values) for key, values in groups.items()}
    return {key: values[0] for key, values in groups.items()}


@family(
    rules={
        "method": {
            "minmax": "Scaled is (value - smallest) / (largest - smallest).",
            "peak": "Scaled is value / largest absolute value.",
            "share": "Scaled is value / sum of the absolute values.",
            "zscore": "Scaled is (value - mean) / standard deviation of the population.",
        }
    },
    edges=[
        [[2.0, 4.0, 6.0]],
        [[-1.0, 0.0, 3.0]],
        [[]],
        [[5.0, 5.0]],
        [[0.0, 0.0]],
        [[-8.0, 2.0]],
    ],
    draw=lambda d: [d.halves(-6, 9, 7, 2)],
    tolerance=1e-9,
)
def rescale(values: list[float], *, method: str) -> list[float]:
    """Scale the values of a column.

    Where the divisor is 0, every result is 0.0. An empty column stays empty.
    """
    if not values:
        return []
    if method == "minmax":
        offset, divisor = min(values), max(values) - min(values)
    elif method == "peak":
        offset, divisor = 0.0, max(map(abs, values))
    elif method == "share":
        offset, divisor = 0.0, sum(map(abs, values))
    else:
        offset = sum(values) / len(values)
        divisor = math.sqrt(sum((value - offset) ** 2 for value in values) / len(values))
    return [(value - offset) / divisor if divisor else 0.0 for value in values]
