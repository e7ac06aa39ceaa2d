"""A list of goods: a query is read, and its filter, its order and its page are applied.

Queries look like `tag=book&max=20&sort=-price&page=2`; each part may be missing. A `-` before the
name of a field sorts downwards; goods that are equal there stay in their order. A page shows three
goods, the first page is 1.
"""

from dataclasses import dataclass

TO_LAST = True
COUNT_ALL = True


@dataclass(frozen=True)
class Item:
    """Something for sale."""

    name: str
    price: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Query:
    """What is wanted."""

    tag: str = ""
    most: int | None = None
    sort: str = ""
    page: int = 1


@dataclass(frozen=True)
class Page:
    """What is shown, and how much there is."""

    names: list[str]
    page: int
    pages: int
    count: int


def read_query(text: str) -> Query:
    """The query of a text."""
    parts = dict(part.split("=", 1) for part in text.split("&") if part)
    most = int(parts["max"]) if "max" in parts else None
    return Query(parts.get("tag", ""), most, parts.get("sort", ""), int(parts.get("page", "1")))


def matching(items: list[Item], query: Query) -> list[Item]:
    """The items with the tag that cost no more than asked."""
    return [
        item
        for item in items
        if (not query.tag or query.tag in item.tags)
        and (query.most is None or item.price <= query.most)
    ]


def ordered(items: list[Item], sort: str) -> list[Item]:
    """The items by price or name, or as they are."""
    downwards, field = sort.startswith("-"), sort.lstrip("-")
    if field == "price":
        return sorted(items, key=lambda item: item.price, reverse=downwards)
    if field == "name":
        return sorted(items, key=lambda item: item.name, reverse=downwards)
    return items


def list_goods(items: list[Item], text: str) -> Page:
    """The page that a query asks for."""
    query = read_query(text)
    found = ordered(matching(items, query), query.sort)
    pages = max(1, -(-len(found) // 3))
    page = max(1, min(query.page, pages) if TO_LAST else query.page)
    shown = found[3 * (page - 1) : 3 * page]
    count = len(items) if COUNT_ALL else len(found)
    return Page([item.name for item in shown], page, pages, count)
