"""DevOps functions that testers write tests for."""

from evaluator.suites.built_in.functions.family import family

UNITS = ("dhms", "hm", "ms", "sm", "mm", "dh", "dms", "hs", "dmhs")


@family(
    rules={
        "order": {
            True: "Units must come in descending order, each once at most: d, h, m, s.",
            False: "Units may come in any order and several times; they add up.",
        },
        "bare": {
            True: "A text of digits only is a number of seconds.",
            False: "A text of digits only raises ValueError.",
        },
    },
    edges=[
        ["1h30m"],
        ["90s"],
        ["45"],
        ["2d4h"],
        ["7"],
        ["120"],
        ["30m1h"],
        ["1h1h"],
        [""],
        ["h"],
        ["1x"],
        ["1h5"],
        ["0s"],
        ["1d1h1m1s"],
        ["10m 5s"],
        ["5s5s"],
        ["1m2d"],
    ],
    draw=lambda d: ["".join(f"{d.randint(0, 20)}{unit}" for unit in d.choice(UNITS))],
)
def parse_duration(text: str, *, order: bool, bare: bool) -> int:
    """Parse a duration such as `1h30m` into seconds.

    The units are d (days), h, m and s, each directly after a whole number. Anything else, an empty
    text too, raises ValueError.
    """
    if bare and text.isdecimal():
        return int(text)
    seconds, number, used = 0, "", ""
    for mark in text:
        if mark.isdecimal():
            number += mark
            continue
        if mark not in "dhms" or not number:
            raise ValueError(f"unexpected {mark}")
        if order and used and "dhms".index(mark) <= "dhms".index(used):
            raise ValueError("units are not in order")
        seconds += int(number) * {"d": 86400, "h": 3600, "m": 60, "s": 1}[mark]
        number, used = "", mark
    if number or not used:
        raise ValueError("a unit is missing")
    return seconds


@family(
    rules={
        "keep": {
            2: "The 2 newest files are always kept.",
            3: "The 3 newest files are always kept.",
        },
        "pinned": {
            True: "Files whose name ends in '.keep' are never deleted and do not count as newest.",
            False: "All files are treated alike.",
        },
    },
    edges=[
        [{"a": 1, "b": 5, "c": 9, "d": 12}, 5],
        [{"x.keep": 30, "a": 20, "b": 25, "c": 40}, 10],
        [{}, 3],
        [{"a": 90}, 1],
        [{"a": 7, "b": 7, "c": 7, "d": 7}, 7],
        [{"a": 8, "b": 8, "c": 8, "d": 8}, 7],
        [{"p.keep": 1, "q.keep": 2, "a": 50, "b": 51, "c": 52, "d": 53}, 10],
    ],
    draw=lambda d: [
        {
            name: d.randint(0, 20)
            for name in d.sample(["a", "b", "c.keep", "d", "e", "f.keep"], d.randint(4, 6))
        },
        d.randint(2, 12),
    ],
)
def files_to_delete(ages: dict[str, int], max_age: int, *, keep: int, pinned: bool) -> list[str]:
    """Choose the backups to delete: those older than `max_age` days; return their sorted names.

    `ages` maps names to ages in days. Of files of one age the alphabetically first is the newer.
    """
    candidates = sorted(ages, key=lambda name: (ages[name], name))
    if pinned:
        candidates = [name for name in candidates if not name.endswith(".keep")]
    return sorted(name for name in candidates[keep:] if ages[name] > max_age)


@family(
    rules={
        "missing": {
            True: "A service that does not report is 'down'.",
            False: "A service that does not report is ignored.",
        },
        "slow": {
            500: "A service that answers in more than 500 ms is slow.",
            200: "A service that answers in more than 200 ms is slow.",
        },
    },
    edges=[
        [["api", "db"], {"api": 20, "db": 30}],
        [["api", "db"], {"api": 600}],
        [[], {}],
        [["api"], {"api": 500}],
        [["api"], {"api": 501}],
        [["api"], {"api": 200}],
        [["api"], {"api": 201}],
        [["a", "b", "c"], {"a": -1, "b": 1, "c": 1}],
        [["a", "b"], {"a": -1, "b": -1}],
        [["a", "b", "c", "d"], {"a": 300, "b": 300, "c": 1, "d": 1}],
        [["a", "b", "c"], {"a": 900, "b": 900, "c": 1}],
        [["a"], {"z": -1}],
        [["a"], {"a": 0}],
    ],
    draw=lambda d: [
        d.few("abcde", 5, 2),
        {name: d.choice([-1, 50, 100, 300, 700]) for name in d.few("abcde", 5, 3)},
    ],
)
def health(services: list[str], latencies_ms: dict[str, int], *, missing: bool, slow: int) -> str:
    """Judge a system by its services: 'ok', 'degraded' or 'down'.

    A latency of -1 means that the service is down. The system is 'down' where at least half of the
    services that count are down, 'degraded' where any is down or more than half are slow, else
    'ok'. Reports of services that are not listed are ignored. Without any service it is 'ok'.
    """
    states = [latencies_ms.get(name, -1) for name in services if missing or name in latencies_ms]
    n_down = states.count(-1)
    n_slow = sum(state > slow for state in states)
    if states and 2 * n_down >= len(states):
        return "down"
    return "degraded" if n_down or 2 * n_slow > len(states) else "ok"


@family(
    rules={
        "levels": {
            1: "Nodes of the first level count.",
            2: "Nodes of the first and the second level count.",
        },
        "hidden": {
            True: "Names that begin with '.' are left out, with all below them.",
            False: "All names count.",
        },
    },
    edges=[
        [{"var/log/a.log": 5, "var/b": 3, "etc/c": 1}],
        [{".git/x": 9, "src/a": 2, "top": 4}],
        [{}],
        [{"a/.b/c": 7, "a/d": 1}],
        [{"a/b/c/d": 2, "a/b/e": 3, "a/f": 4}],
        [{"x": 0}],
        [{"a/.b": 1, ".a": 2}],
    ],
    draw=lambda d: [
        {"/".join(d.some(["a", "b", ".c"], 4, 1)): d.randint(1, 20) for _ in range(d.randint(2, 6))}
    ],
)
def disk_usage(sizes: dict[str, int], *, levels: int, hidden: bool) -> dict[str, int]:
    """Sum file sizes by directory; return directory -> size of all files at any depth below it.

    `sizes` maps paths to sizes. A file at the top is in no directory. The first level holds the
    directories at the top, named 'a', the second those directly inside, named 'a/b'.
    """
    usage: dict[str, int] = {}
    for path, size in sizes.items():
        parts = path.split("/")
        if hidden and any(part.startswith(".") for part in parts):
            continue
        for depth in range(1, min(levels, len(parts) - 1) + 1):
            folder = "/".join(parts[:depth])
            usage[folder] = usage.get(folder, 0) + size
    return usage
