"""Data science functions that testers write tests for."""

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "ties": {
            "min": "Equal values all get the best rank among them: 1, 2, 2, 4.",
            "max": "Equal values all get the worst rank among them: 1, 3, 3, 4.",
            "dense": "Equal values get the same rank, and ranks have no gaps: 1, 2, 2, 3.",
            "order": "Equal values are ranked in the order in which they stand: 1, 2, 3, 4.",
        }
    },
    edges=[[[30, 10, 20]], [[5, 7, 7, 9]], [[]], [[1]], [[2, 2, 2]], [[3, 1, 3, 2, 1]]],
    draw=lambda d: [d.ints(0, 5, 8, 3)],
)
def rank_values(values: list[int], *, ties: str) -> list[int]:
    """Rank values: the largest gets rank 1; return the rank of each, in the order of the values."""
    if ties == "dense":
        steps = sorted(set(values), reverse=True)
        return [steps.index(value) + 1 for value in values]
    ranks = []
    for index, value in enumerate(values):
        larger = sum(other > value for other in values)
        if ties == "min":
            ranks.append(larger + 1)
        elif ties == "max":
            ranks.append(larger + values.count(value))
        else:
            ranks.append(larger + values[:index].count(value) + 1)
    return ranks


@family(
    rules={
        "score": {
            "precision": "The score is the share of predicted positives that are right.",
            "recall": "The score is the share of actual positives that are predicted.",
            "accuracy": "The score is the share of all that are predicted right.",
            "specificity": "The score is the share of actual negatives that are predicted.",
        }
    },
    edges=[
        [[0.9, 0.2, 0.6], [1, 0, 0], 0.5],
        [[0.5, 0.5], [1, 0], 0.5],
        [[], [], 0.5],
        [[0.1, 0.2], [1, 1], 0.5],
        [[0.9, 0.8], [0, 0], 0.5],
        [[0.4, 0.7, 0.7], [1, 1, 0], 0.7],
    ],
    draw=lambda d: (
        [
            [d.randint(0, 10) / 10 for _ in range(size)],
            [d.randint(0, 1) for _ in range(size)],
            d.choice([0.3, 0.5, 0.6]),
        ]
        if (size := d.randint(4, 8))
        else []
    ),
    tolerance=1e-9,
)
def threshold_score(
    probabilities: list[float], labels: list[int], threshold: float, *, score: str
) -> float | None:
    """Score a binary classifier whose prediction is positive from the threshold on.

    Labels are 1 (positive) or 0. None where the score would divide by zero.
    """
    right = wrong = 0
    for probability, label in zip(probabilities, labels, strict=True):
        positive = probability >= threshold
        if score == "precision" and not positive:
            continue
        elif score == "recall" and label == 0:
            continue
        elif score == "specificity" and label == 1:
            continue
        if positive == (label == 1):
            right += 1
        else:
            wrong += 1
    return right / (right + wrong) if right + wrong else None


@family(
    rules={
        "empty": {
            "zero": "A bucket without any reading has the value 0.0.",
            "carry": "A bucket without any reading has the value of the bucket before it.",
        },
        "take": {
            "last": "The value of a bucket is its last reading, in the order given.",
            "peak": "The value of a bucket is its largest reading.",
        },
    },
    edges=[
        [[[0, 1.5], [7, 4.0], [12, 2.0]], 5],
        [[[3, 2.0], [4, 1.0], [21, 3.0]], 10],
        [[], 5],
        [[[8, 1.0]], 4],
        [[[9, 5.0], [1, 2.0], [10, 0.5]], 5],
        [[[1, -2.0], [1, -3.0]], 5],
    ],
    draw=lambda d: [
        [[d.randint(0, 30), d.randint(-6, 9) / 2] for _ in range(d.randint(2, 7))],
        d.randint(3, 9),
    ],
)
def resample(readings: list[list[float]], width: int, *, empty: str, take: str) -> list[float]:
    """Sort readings [second, value] into buckets of `width` seconds; return the value of each.

    Buckets begin at the one of the earliest second and end at the one of the latest. Bucket n holds
    the seconds from n * width up to, and without, (n + 1) * width.
    """
    buckets: dict[int, float] = {}
    for second, value in readings:
        number = int(second) // width
        if take == "peak" and number in buckets:
            buckets[number] = max(buckets[number], value)
        else:
            buckets[number] = value
    values: list[float] = []
    for number in range(min(buckets), max(buckets) + 1) if buckets else []:
        default = values[-1] if empty == "carry" and values else 0.0
        values.append(buckets.get(number, default))
    return values


@family(
    rules={
        "unseen": {
            "zeros": "A value that is not among the categories gives zeros only.",
            "error": "A value that is not among the categories raises ValueError.",
        },
        "drop": {
            True: "There is no column for the first category (its code is all zeros).",
            False: "There is a column for every category.",
        },
    },
    edges=[
        [["b", "a"], ["a", "b", "c"]],
        [["c"], ["a", "b"]],
        [[], ["a"]],
        [["a"], ["a"]],
        [["a", "a", "b"], ["b", "a"]],
        [["c", "b"], ["c", "b", "a"]],
    ],
    draw=lambda d: [
        d.choices("abc", weights=[4, 4, 1], k=d.randint(1, 4)),
        d.sample("abc", d.randint(2, 3)),
    ],
)
def one_hot(
    values: list[str], categories: list[str], *, unseen: str, drop: bool
) -> list[list[int]]:
    """Encode each value as a row of 0 and 1, one column per category, in their order."""
    rows = []
    for value in values:
        if unseen == "error" and value not in categories:
            raise ValueError(f"unknown category {value}")
        row = [int(value == category) for category in categories]
        rows.append(row[1:] if drop else row)
    return rows
