"""DevOps, two or three interacting rules each: cron, versions, settings, logs, disks."""

from typing import Any

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "wrap": {
            True: "A range may wrap around the end of the field: with 0-6, `5-1` is 5, 6, 0, 1.",
            False: "A range whose end is below its start raises ValueError.",
        },
        "single": {
            "once": "`A/S`, a step after a single value, raises ValueError.",
            "onward": "`A/S`, a step after a single value, means from A to the end of the field in "
            "steps of S.",
        },
    },
    edges=[
        ["*/15", 0, 59],
        ["1-5,10", 0, 59],
        ["5-1", 0, 6],
        ["3/2", 0, 10],
        ["*", 1, 3],
        ["1-9/3", 0, 9],
        ["", 0, 5],
        ["7", 0, 6],
        ["1,,2", 0, 6],
        ["*/0", 0, 6],
        ["2,2,1", 0, 6],
        ["6-1/2", 0, 6],
        ["x", 0, 6],
        ["0", 1, 6],
        ["1-7", 1, 6],
        ["4-4", 0, 6],
    ],
    draw=lambda d: [
        ",".join(
            d.choice(["*/2", "*/3", f"{a}", f"{a}-{b}", f"{a}-{b}/2", f"{a}/2"])
            for a, b in [sorted(d.sample(range(9), 2), reverse=d.chance(0.3))]
            for _ in range(d.randint(1, 2))
        ),
        0,
        9,
    ],
    n_examples=3,
)
def expand_cron_field(field: str, low: int, high: int, *, wrap: bool, single: str) -> list[int]:
    """Expand one field of a cron expression into the ascending list of its values, each once.

    The field is a list of parts separated by commas; a part is `*`, a number or a range `A-B` (both
    ends included), each with an optional step `/S` of at least 1, counted from the part's first
    value. All numbers are digits only and lie between `low` and `high`. Anything else raises
    ValueError.
    """
    values: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            start, end = low, high
        else:
            start = int(first) if first.isdecimal() else -1
            end = start
            if dash:
                end = int(last) if last.isdecimal() else -1
            elif slash and single == "onward":
                end = high
            elif slash:
                raise ValueError(part)
        if not low <= start <= high or not low <= end <= high:
            raise ValueError(part)
        if slash and not (step.isdecimal() and int(step) > 0):
            raise ValueError(part)
        if end < start and not wrap:
            raise ValueError(part)
        stretch = [*range(start, end + 1)]
        if wrap and end < start:
            stretch = [*range(start, high + 1), *range(low, end + 1)]
        values.update(stretch[:: int(step or 1)])
    return sorted(values)


@family(
    rules={
        "prerelease": {
            True: "Prereleases take part.",
            False: "Prereleases are left out.",
        },
        "per": {
            "major": "Only the newest version of each major version is returned.",
            "minor": "Only the newest version of each major.minor pair is returned.",
        },
    },
    edges=[
        [["1.2.0", "1.10.0", "2.0.0-rc.1", "1.2.9"]],
        [["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1"]],
        [[]],
        [["3.0.0", "3.0.0-rc.1"]],
        [["1.0.0-1", "1.0.0-a", "1.1.0-2.b", "1.1.0-2.1"]],
        [["0.9.9", "0.10.0", "0.9.10"]],
    ],
    draw=lambda d: [
        [
            f"{d.randint(1, 2)}.{d.randint(0, 1)}.{d.choice([0, 2, 10])}"
            + d.choice(["", "", "-rc.1", "-rc.10", "-rc.9", "-1"])
            for _ in range(d.randint(4, 9))
        ]
    ],
)
def newest_versions(versions: list[str], *, prerelease: bool, per: str) -> list[str]:
    """Return the newest semantic versions, one for each group, in descending order.

    A version is `major.minor.patch`, optionally with `-` and a prerelease of identifiers separated
    by dots. A prerelease is older than its release. Prereleases are compared identifier by
    identifier: digits only as numbers, others as text; a number is older than a text; where one
    runs out first, it is older.
    """

    def rank(version: str) -> tuple[list[int], bool, list[tuple[bool, int, str]]]:
        numbers, dash, suffix = version.partition("-")
        words = suffix.split(".") if dash else []
        identifiers = [
            (False, int(word), "") if word.isdecimal() else (True, 0, word) for word in words
        ]
        return [int(part) for part in numbers.split(".")], not dash, identifiers

    newest: dict[tuple[int, ...], str] = {}
    for version in sorted(versions, key=rank):
        numbers, released, _ = rank(version)
        if prerelease or released:
            newest[tuple(numbers[: 1 if per == "major" else 2])] = version
    return [newest[group] for group in sorted(newest, reverse=True)]


@family(
    rules={
        "lists": {
            "append": "Where both values are lists, the result is the base's items followed by "
            "those items of the override that the base does not have.",
            "replace": "Lists are replaced like other values.",
        },
        "null": {
            "delete": "None in the override removes the key, where there is one.",
            "keep": "None in the override means 'not set': the base's value stays; a key that the "
            "base lacks is not added.",
        },
    },
    edges=[
        [{"a": 1, "b": {"c": 2}}, {"b": {"d": 3}}],
        [{"l": [1, 2]}, {"l": [2, 3], "x": None}],
        [{}, {}],
        [{"a": {"b": 1}}, {"a": None}],
        [{"a": 1}, {"a": {"b": None, "c": 2}}],
        [{"a": {"b": 1}}, {"a": 5}],
        [{"a": {"b": [1], "c": 0}}, {"a": {"b": [], "c": None}}],
        [{"a": [1, 1]}, {"a": [1, 2, 2]}],
        [{"a": None}, {}],
    ],
    draw=lambda d: [
        {
            key: d.choice([1, [1, 2], {"x": 1, "y": [3]}, {"x": None}, "s"])
            for key in d.few("abcd", 4, 2)
        },
        {
            key: d.choice([2, None, [2, 3], {"x": None, "y": [4]}, {"x": 2, "z": [0]}])
            for key in d.few("abcd", 4, 2)
        },
    ],
)
def merge_settings(
    base: dict[str, Any], override: dict[str, Any], *, lists: str, null: str
) -> dict[str, Any]:
    """Return the base settings with an override merged into them, at every depth.

    Where both values are dicts they are merged; otherwise the override's value counts. A dict of
    the override without a counterpart that is a dict is merged into an empty one, so that the rule
    for None holds inside it too. None in the base is a value like others.
    """

    def merge(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
        merged = dict(left)
        for key, value in right.items():
            old = left.get(key)
            if value is None and null == "delete":
                merged.pop(key, None)
            elif isinstance(value, dict):
                merged[key] = merge(old if isinstance(old, dict) else {}, value)
            elif lists == "append" and isinstance(value, list) and isinstance(old, list):
                merged[key] = old + [item for item in value if item not in old]
            elif value is not None:
                merged[key] = value
        return merged

    return merge(base, override)


@family(
    rules={
        "since": {
            "previous": "A burst is a longest run of errors in which each comes at most `gap` "
            "seconds "
            "after the one before it.",
            "first": "A burst is a run of errors that come at most `gap` seconds after its first "
            "one; the next later error begins the next burst.",
        },
        "by": {
            "service": "Bursts are sought for each service separately.",
            "all": "Errors of all services are taken together, under the name 'all'.",
        },
    },
    edges=[
        [["10 web ERROR", "12 web ERROR", "14 web ERROR", "40 db ERROR"], 3, 2],
        [["1 a ERROR", "2 b ERROR", "3 a INFO", "4 a ERROR"], 3, 2],
        [[], 5, 1],
        [["5 a ERROR"], 5, 1],
        [["1 a ERROR", "broken", "2 a ERROR x", "x a ERROR"], 1, 2],
        [["0 a ERROR", "3 a ERROR", "6 a ERROR", "9 a ERROR"], 3, 2],
    ],
    draw=lambda d: [
        [
            f"{second} {d.choice(['web', 'db'])} {d.choice(['ERROR', 'ERROR', 'ERROR', 'WARN'])}"
            for second in sorted(d.ints(0, 30, 12, 7))
        ],
        d.randint(1, 5),
        d.randint(2, 3),
    ],
)
def error_bursts(
    lines: list[str], gap: int, size: int, *, since: str, by: str
) -> list[list[int | str]]:
    """Find bursts of errors in a log.

    Return [service, second of the first error, number of errors] for each.
    A line is `second service level`, the seconds ascending; a line that has not exactly these three
    words, or whose second is not all digits, is ignored. Errors have the level ERROR. Bursts of
    fewer than `size` errors are left out. The result is ordered by second, then by service.
    """
    runs: dict[str, list[list[int]]] = {}
    for line in lines:
        words = line.split()
        if len(words) != 3 or not words[0].isdecimal() or words[2] != "ERROR":
            continue
        second = int(words[0])
        own = runs.setdefault(words[1] if by == "service" else "all", [])
        if own and second - own[-1][-1 if since == "previous" else 0] <= gap:
            own[-1].append(second)
        else:
            own.append([second])
    bursts = [
        (run[0], service, len(run))
        for service, own in runs.items()
        for run in own
        if len(run) >= size
    ]
    return [[service, second, count] for second, service, count in sorted(bursts)]
