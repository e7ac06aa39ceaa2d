"""Backend functions that testers write tests for."""

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "order": {
            "after": "The coupon is taken off after the discount.",
            "before": "The coupon is taken off before the discount, which is then computed from "
            "the "
            "rest.",
        },
        "free": {
            5000: "Shipping is free where goods of at least 5000 cents remain to be paid.",
            0: "Shipping always costs 490 cents, unless nothing is ordered.",
        },
    },
    edges=[
        [[2000, 1500], 500],
        [[12000], 0],
        [[], 100],
        [[300], 500],
        [[10000], 0],
        [[9999], 0],
        [[5000], 0],
        [[4999], 0],
        [[10500], 500],
        [[10499], 500],
        [[5500], 500],
        [[15], 0],
        [[10005], 5],
        [[0], 0],
    ],
    draw=lambda d: [d.some([1250, 999, 4000, 333, 7005], 4, 1), d.choice([0, 250, 500, 5000])],
)
def order_total(prices: list[int], coupon: int, *, order: str, free: int) -> int:
    """Return what an order costs, in cents.

    Goods of at least 10000 cents get 10 % discount (rounded down to whole cents). A coupon never
    makes the goods cost less than 0. Shipping costs 490 cents. An order without goods costs
    nothing.
    """
    if not prices:
        return 0
    goods = sum(prices)
    if order == "before":
        goods = max(goods - coupon, 0)
    if goods >= 10000:
        goods -= goods // 10
    if order == "after":
        goods = max(goods - coupon, 0)
    if free and goods >= free:
        return goods
    return goods + 490


@family(
    rules={
        "spread": {
            "first": "What cannot be divided evenly is paid by the first people, one cent each.",
            "last": "What cannot be divided evenly is paid by the last people, one cent each.",
        },
        "tip": {
            0: "There is no tip.",
            10: "A tip of 10 %, rounded up to whole cents, is added first.",
        },
    },
    edges=[
        [1000, 3],
        [99, 2],
        [0, 4],
        [7, 7],
        [5, 8],
        [101, 1],
        [100, 0],
        [-5, 2],
        [1, 3],
        [10, 4],
        [11, 4],
    ],
    draw=lambda d: [d.randint(1, 5000), d.randint(1, 6)],
)
def split_bill(cents: int, people: int, *, spread: str, tip: int) -> list[int]:
    """Split a bill among people so that the parts differ by one cent at most and add up.

    A negative bill, or fewer than one person, raises ValueError.
    """
    if cents < 0 or people < 1:
        raise ValueError("nothing to split")
    if tip:
        cents += -(-cents * tip // 100)
    share, rest = divmod(cents, people)
    parts = [share + 1] * rest + [share] * (people - rest)
    return parts if spread == "first" else parts[::-1]


@family(
    rules={
        "sku": {
            "oldest": "Stock is taken from the oldest batch first.",
            "smallest": "Stock is taken from the smallest batch first (of equals, the older).",
        },
        "short": {
            "none": "Where there is not enough stock nothing is taken: the result is [].",
            "part": "Where there is not enough stock all of it is taken.",
        },
    },
    edges=[
        [[["b1", 3, 5], ["b2", 1, 4]], 6],
        [[["b1", 1, 2]], 5],
        [[], 1],
        [[["a", 1, 3]], 0],
        [[["a", 1, 3]], 3],
        [[["a", 2, 2], ["b", 1, 2], ["c", 3, 1]], 3],
        [[["a", 1, 0], ["b", 2, 1]], 1],
        [[["a", 5, 4], ["b", 4, 5], ["c", 3, 6]], 9],
    ],
    draw=lambda d: [
        [[name, d.randint(1, 5), d.randint(1, 6)] for name in d.sample("abcd", d.randint(2, 4))],
        d.randint(1, 14),
    ],
)
def take_stock(
    batches: list[list[str | int]], wanted: int, *, sku: str, short: str
) -> list[list[str | int]]:
    """Take goods from batches [name, day, amount]; return [name, amount taken] in the order taken.

    A batch from an earlier day is older; of one day, the one that stands first. Batches from which
    nothing is taken are left out.
    """
    if short == "none" and sum(int(batch[2]) for batch in batches) < wanted:
        return []
    ordered = sorted(batches, key=lambda batch: int(batch[1]))
    if sku == "smallest":
        ordered.sort(key=lambda batch: int(batch[2]))
    taken: list[list[str | int]] = []
    for name, _, amount in ordered:
        part = min(int(amount), wanted)
        if part > 0:
            taken.append([name, part])
            wanted -= part
    return taken


@family(
    rules={
        "weekend": {
            True: "Saturdays and Sundays are no working days.",
            False: "Only Sundays are no working days.",
        },
        "late": {
            14: "An order at 14:00 or later counts as placed on the next day.",
            18: "An order at 18:00 or later counts as placed on the next day.",
        },
    },
    edges=[
        [0, 10, 2, []],
        [4, 10, 1, []],
        [4, 15, 1, []],
        [5, 10, 0, []],
        [0, 14, 1, []],
        [0, 13, 1, []],
        [0, 18, 1, []],
        [0, 17, 1, []],
        [0, 10, 1, [1]],
        [0, 10, 1, [0]],
        [6, 10, 0, []],
        [0, 10, 0, []],
        [3, 9, 3, [4, 7]],
        [5, 20, 2, [8]],
        [0, 10, 7, []],
    ],
    draw=lambda d: [d.randint(0, 6), d.choice([9, 15, 19]), d.randint(0, 6), d.few(range(12), 3)],
)
def delivery_day(
    day: int, hour: int, working_days: int, holidays: list[int], *, weekend: bool, late: int
) -> int:
    """Return the day on which an order arrives; days are numbered from 0, a Monday.

    The order is handled on the first working day on or after the day it is placed, and arrives
    `working_days` working days after that. Holidays are days that are no working days.
    """
    free = (5, 6) if weekend else (6,)
    if hour >= late:
        day += 1
    left = working_days
    while day % 7 in free or day in holidays or left > 0:
        if day % 7 not in free and day not in holidays:
            left -= 1
        day += 1
    return day
