"""Web, one idea each: pages, query strings, headers, paths, ranges."""

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "first": {1: "Pages are numbered from 1.", 0: "Pages are numbered from 0."},
        "beyond": {
            "clamp": "A page outside the range gives the nearest page that exists.",
            "empty": "A page outside the range gives an empty list.",
        },
    },
    edges=[
        [[1, 2, 3, 4, 5], 2, 2],
        [[1, 2, 3], 9, 2],
        [[], 1, 3],
        [[1, 2, 3, 4], -1, 2],
        [[1, 2, 3, 4], 0, 2],
        [[1, 2, 3, 4], 2, 2],
        [[7], 1, 1],
    ],
    draw=lambda d: [d.ints(1, 50, 12), d.randint(-2, 6), d.randint(1, 4)],
)
def paginate(items: list[int], page: int, size: int, *, first: int, beyond: str) -> list[int]:
    """Return the items on one page of a list that is shown `size` items a page.

    The last page may be shorter. `size` is at least 1. No items make no page: the result is then
    always empty.
    """
    if beyond == "clamp":
        last = first + max(0, (len(items) - 1) // size)
        page = min(max(page, first), last)
    elif page < first:
        return []
    start = (page - first) * size
    return items[start : start + size]


@family(
    rules={
        "repeated": {
            "first": "Of a repeated name the first value counts.",
            "last": "Of a repeated name the last value counts.",
        },
        "blank": {
            True: "A name without `=`, or with nothing after it, has the value ''.",
            False: "A name without `=`, or with nothing after it, is left out as if not there.",
        },
    },
    edges=[
        ["?page=2&sort=name&page=3"],
        ["flag&q=&x=1=2"],
        [""],
        ["?"],
        ["a=1&&b=2"],
        ["=3&a=4"],
        ["a=&a=1&a="],
        ["a=0"],
    ],
    draw=lambda d: [
        d.choice(["", "?"]) + "&".join(d.some(["a=1", "a=2", "b=x", "a", "b=", "c==", "=z", ""], 6))
    ],
)
def parse_query(text: str, *, repeated: str, blank: bool) -> dict[str, str]:
    """Parse the query part of a URL into a dict of name and value.

    One leading `?` is dropped. Pairs are separated by `&`; a pair is split at its first `=`. A pair
    with an empty name is ignored. Nothing is decoded.
    """
    found: dict[str, str] = {}
    for pair in text.removeprefix("?").split("&"):
        name, _, value = pair.partition("=")
        if not name or not (blank or value):
            continue
        if repeated == "last" or name not in found:
            found[name] = value
    return found


@family(
    rules={
        "separator": {"-": "Words are joined by '-'.", "_": "Words are joined by '_'."},
        "digits": {
            True: "Digits 0-9 belong to words like letters.",
            False: "Digits separate words, like every other character that is not a letter.",
        },
    },
    edges=[
        ["Hello, World!", 40],
        ["  10 Tips for Python 3  ", 11],
        ["", 5],
        ["---", 5],
        ["already-a-slug", 40],
        ["one two", 4],
        ["one two", 3],
        ["longword", 4],
        ["A1B2", 9],
    ],
    draw=lambda d: [d.text("aBc Z9 -_!1", 18), d.randint(1, 14)],
)
def slugify(title: str, limit: int, *, separator: str, digits: bool) -> str:
    """Make the slug of a title: its words in lower case, joined, at most `limit` characters long.

    A word is a run of ASCII letters. A slug that is too long is cut after `limit` characters, and
    a separator left at its end is then removed. `limit` is at least 1.
    """
    letters = "abcdefghijklmnopqrstuvwxyz" + ("0123456789" if digits else "")
    kept = "".join(mark if mark in letters else " " for mark in title.lower())
    return separator.join(kept.split())[:limit].rstrip(separator)


@family(
    rules={
        "overlong": {
            "cut": "An end at or beyond `size` means the last byte.",
            "refuse": "An end at or beyond `size` gives None.",
        },
        "suffix": {
            True: "`bytes=-N` means the last N bytes (all of them if there are fewer); N = 0 gives "
            "None.",
            False: "`bytes=-N`, a range without a start, gives None.",
        },
    },
    edges=[
        ["bytes=0-4", 10],
        ["bytes=-3", 10],
        ["bytes=5-", 10],
        ["bytes=5-20", 10],
        ["bytes=-20", 10],
        ["bytes=-0", 10],
        ["bytes=10-12", 10],
        ["bytes=9-9", 10],
        ["bytes=9-10", 10],
        ["bytes=4-3", 10],
        ["bytes=-", 10],
        ["items=0-4", 10],
        ["bytes=a-4", 10],
        ["bytes=0-", 0],
    ],
    draw=lambda d: [
        f"bytes={d.choice(['', d.randint(0, 5)])}-{d.choice(['', d.randint(4, 14)])}",
        d.randint(6, 12),
    ],
)
def byte_range(header: str, size: int, *, overlong: str, suffix: bool) -> list[int] | None:
    """Read an HTTP Range header with one range; return [first, last] byte, both included, or None.

    The forms are `bytes=A-B` and `bytes=A-` (to the last byte), counted from 0, of a file of `size`
    bytes. None is the answer for any other form, for a start at or beyond `size`, and for an end
    before the start. The range is never longer than the file.
    """
    unit, _, text = header.partition("=")
    start, dash, end = text.partition("-")
    if unit != "bytes" or not dash or not (start + end).isdecimal():
        return None
    if not start:
        if not suffix or int(end) == 0:
            return None
        return [max(size - int(end), 0), size - 1]
    first, last = int(start), int(end) if end else size - 1
    if first >= size or last < first or (overlong == "refuse" and last >= size):
        return None
    return [first, min(last, size - 1)]
