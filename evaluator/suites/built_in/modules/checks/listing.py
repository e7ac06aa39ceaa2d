"""Judges tests of `listing`."""

import pytest

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.listing import COUNT_ALL, TO_LAST, Item, Page, list_goods

CHECKS = Checks(
    rules={
        "TO_LAST": {
            True: "A page beyond the last one shows the last one.",
            False: "A page beyond the last one shows nothing, under the number asked for.",
        },
        "COUNT_ALL": {
            True: "The count is of all goods.",
            False: "The count is of the goods that match.",
        },
    },
    faults=[
        Fault(
            "the filter is not applied",
            "ordered(matching(items, query), query.sort)",
            "ordered(items, query.sort)",
        ),
        Fault(
            "the order is not applied",
            "ordered(matching(items, query), query.sort)",
            "matching(items, query)",
        ),
        Fault("pages are counted before the filter", "-(-len(found) // 3)", "-(-len(items) // 3)"),
        Fault(
            "the page is cut before the order is applied",
            "[item.name for item in shown]",
            "[one.name for one in ordered(matching(items, query)[3 * (page - 1) : 3 * page], "
            "query.sort)]",
        ),
        Fault(
            "the page is cut out of all goods",
            "shown = found[3 * (page - 1) : 3 * page]",
            "shown = ordered(items, query.sort)[3 * (page - 1) : 3 * page]",
        ),
        Fault(
            "downwards is lost on the way",
            "query.sort)\n    pages",
            "query.sort.lstrip('-'))\n    pages",
        ),
    ],
)

GOODS = [
    Item("pen", 2, ("paper",)),
    Item("atlas", 40, ("book", "map")),
    Item("novel", 12, ("book",)),
    Item("diary", 12, ("book", "paper")),
    Item("globe", 55, ("map",)),
    Item("comic", 7, ("book",)),
    Item("primer", 9, ("book",)),
]


@pytest.mark.parametrize(
    ("text", "names", "page", "pages", "matches"),
    [
        ("", ["pen", "atlas", "novel"], 1, 3, 7),
        ("page=3", ["primer"], 3, 3, 7),
        ("sort=name&page=2", ["globe", "novel", "pen"], 2, 3, 7),
        ("sort=-name", ["primer", "pen", "novel"], 1, 3, 7),
        ("sort=price", ["pen", "comic", "primer"], 1, 3, 7),
        ("sort=price&page=2", ["novel", "diary", "atlas"], 2, 3, 7),
        ("sort=-price", ["globe", "atlas", "novel"], 1, 3, 7),
        ("tag=book", ["atlas", "novel", "diary"], 1, 2, 5),
        ("tag=book&sort=price", ["comic", "primer", "novel"], 1, 2, 5),
        ("tag=book&sort=price&page=2", ["diary", "atlas"], 2, 2, 5),
        ("tag=book&sort=-price&page=2", ["primer", "comic"], 2, 2, 5),
        ("tag=book&max=12", ["novel", "diary", "comic"], 1, 2, 4),
        ("max=12&page=2&sort=-price", ["comic", "pen"], 2, 2, 5),
        ("tag=map&max=40&sort=name", ["atlas"], 1, 1, 1),
        ("max=0", [], 1, 1, 0),
        ("page=0", ["pen", "atlas", "novel"], 1, 3, 7),
        ("page=-2&tag=map", ["atlas", "globe"], 1, 1, 2),
        ("sort=size&tag=paper", ["pen", "diary"], 1, 1, 2),
        ("tag=map&page=2", ["atlas", "globe"] if TO_LAST else [], 1 if TO_LAST else 2, 1, 2),
        ("tag=toy&page=5", [], 1 if TO_LAST else 5, 1, 0),
    ],
)
def test_pages(text: str, names: list[str], page: int, pages: int, matches: int) -> None:
    """From the text of a query to what is shown."""
    assert list_goods(GOODS, text) == Page(names, page, pages, 7 if COUNT_ALL else matches)


def test_a_walk_through_the_pages_shows_everything_once() -> None:
    """In the order asked for."""
    walk = [
        name for page in (1, 2, 3) for name in list_goods(GOODS, f"sort=name&page={page}").names
    ]
    assert walk == sorted(item.name for item in GOODS)


def test_listing_leaves_the_goods_as_they_are() -> None:
    """Sorting is of a copy."""
    goods = list(GOODS)
    list_goods(goods, "sort=-price&tag=book")
    assert goods == GOODS
