"""Web functions that testers write tests for."""

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "short": {
            True: "The short form `#rgb` is allowed: each digit is doubled.",
            False: "Only the form `#rrggbb` is allowed.",
        },
        "hash_needed": {
            True: "The '#' must be there.",
            False: "The '#' may be missing.",
        },
    },
    edges=[
        ["#ff8000"],
        ["#F80"],
        ["00ff7f"],
        ["abc"],
        [""],
        ["#"],
        ["#12345"],
        ["#gg0000"],
        ["##112233"],
        ["#1234567"],
        ["#010203"],
        ["#00f"],
        ["112233"],
        ["12G"],
    ],
    draw=lambda d: [
        d.choice(["#", "#", ""]) + "".join(d.choices("0123456789abcdefAB", k=d.choice([3, 6, 6])))
    ],
)
def parse_colour(text: str, *, short: bool, hash_needed: bool) -> list[int]:
    """Parse a colour of hexadecimal digits, in any case, into [red, green, blue] from 0 to 255.

    Anything else raises ValueError.
    """
    digits = text.removeprefix("#")
    if hash_needed and digits == text:
        raise ValueError("no #")
    if short and len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    if len(digits) != 6 or not set(digits.lower()) <= set("0123456789abcdef"):
        raise ValueError(f"not a colour: {text}")
    return [int(digits[start : start + 2], 16) for start in (0, 2, 4)]


@family(
    rules={
        "private": {
            True: "Addresses in 10.0.0.0 to 10.255.255.255 and in 192.168.0.0 to 192.168.255.255 "
            "are "
            "'private'.",
            False: "Addresses in 10.0.0.0 to 10.255.255.255 are 'private'.",
        },
        "zeros": {
            True: "A part may begin with zeros: 010 is 10.",
            False: "A part with needless leading zeros is invalid.",
        },
    },
    edges=[
        ["8.8.8.8"],
        ["10.0.0.1"],
        ["192.168.1.1"],
        ["127.0.0.1"],
        ["256.1.1.1"],
        ["255.255.255.255"],
        ["1.2.3"],
        ["1.2.3.4.5"],
        ["01.2.3.4"],
        ["a.b.c.d"],
        [""],
        ["0.0.0.0"],
        ["192.169.0.1"],
        ["11.0.0.1"],
        ["126.0.0.1"],
        ["128.0.0.1"],
        ["10.0.00.1"],
        ["1..2.3"],
        ["9.9.9.9"],
        ["-1.2.3.4"],
        ["191.168.0.1"],
        ["172.192.168.1"],
        ["192.168.255.0"],
    ],
    draw=lambda d: [".".join(d.choice(["10", "192", "168", "1", "007"][n:]) for n in (0, 1, 0, 0))],
)
def classify_address(address: str, *, private: bool, zeros: bool) -> str:
    """Tell what kind of IPv4 address a text is: 'invalid', 'loopback', 'private' or 'public'.

    An address has four parts of digits from 0 to 255, separated by dots. Those that begin with 127
    are 'loopback'.
    """
    parts = address.split(".")
    if len(parts) != 4 or not all(part.isdecimal() for part in parts):
        return "invalid"
    if not zeros and any(str(int(part)) != part for part in parts):
        return "invalid"
    numbers = [int(part) for part in parts]
    if max(numbers) > 255:
        return "invalid"
    if numbers[0] == 127:
        return "loopback"
    if numbers[0] == 10 or (private and numbers[:2] == [192, 168]):
        return "private"
    return "public"


@family(
    rules={
        "window": {
            1: "Beside the current page, one page to its left and right is listed.",
            2: "Beside the current page, two pages to its left and right are listed.",
        },
        "ends": {
            True: "The first and the last page are always listed.",
            False: "Of the first and last page only what is near the current page is listed.",
        },
    },
    edges=[
        [5, 10],
        [1, 3],
        [10, 10],
        [3, 10],
        [4, 10],
        [8, 10],
        [7, 10],
        [1, 1],
        [1, 10],
        [2, 4],
        [6, 6],
    ],
    draw=lambda d: [page := d.randint(1, 12), page + d.randint(0, 12)],
)
def page_links(current: int, total: int, *, window: int, ends: bool) -> list[int]:
    """List the page numbers of a pager; 0 stands for a gap of one or more pages.

    Pages are numbered from 1 to `total`; `current` is one of them. Without the ends, gaps at the
    beginning and at the end are not marked.
    """
    shown = set(range(max(1, current - window), min(total, current + window) + 1))
    if ends:
        shown |= {1, total}
    links: list[int] = []
    for page in sorted(shown):
        if links and page > links[-1] + 1:
            links.append(0)
        links.append(page)
    return links


@family(
    rules={
        "upper": {
            True: "A password needs a capital letter.",
            False: "A password needs no capital letter.",
        },
        "length": {
            8: "A password needs at least 8 characters.",
            10: "A password needs at least 10 characters.",
        },
    },
    edges=[
        ["abc", "ann"],
        ["Secret123!", "bob"],
        ["", "x"],
        ["ANN-secret-1", "ann"],
        ["abcdefg1", "x"],
        ["abcdefgh", "x"],
        ["Abcdef1", "x"],
        ["Abcdefg1", "x"],
        ["Abcdefgh1", "x"],
        ["Abcdefghi1", ""],
        ["aaa11111111", "z"],
        ["Aaab1234567", "z"],
        ["12345678901", "q"],
        ["ABCDEFGH123", "q"],
    ],
    draw=lambda d: [d.text(["a", "B", "7", "xy", "ann", "-"], 10, 3), d.choice(["ann", "xy", ""])],
)
def password_faults(password: str, user: str, *, upper: bool, length: int) -> list[str]:
    """List what is wrong with a password.

    The faults are, in this order: 'length', 'digit', 'upper', 'repeat', 'user'. 'digit' where it
    has no digit, 'repeat' where one character stands three times in a row, 'user'
    where it contains the name of the user (without regard to case; an empty name is contained in
    nothing).
    """
    faults = []
    if len(password) < length:
        faults.append("length")
    if not any(mark.isdigit() for mark in password):
        faults.append("digit")
    if upper and password == password.lower():
        faults.append("upper")
    if any(
        one == two == three
        for one, two, three in zip(password, password[1:], password[2:], strict=False)
    ):
        faults.append("repeat")
    if user and user.lower() in password.lower():
        faults.append("user")
    return faults
