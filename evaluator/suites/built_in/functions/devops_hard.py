"""DevOps, subtle rules: cron times, version ranges, build order, layered settings files."""

import re

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "days": {
            "either": "Where both day fields are restricted (neither is `*`), a day fits if one of "
            "them fits.",
            "both": "A day fits if both day fields fit.",
        },
        "monday": {
            1: "In the cron field, weekdays run from 0 (Sunday) to 6 (Saturday).",
            0: "In the cron field, weekdays run from 0 (Monday) to 6 (Sunday).",
        },
    },
    edges=[
        ["30 9 * *", 1, 0, 3, 31],
        ["0 12 15 1", 1, 720, 0, 31],
        ["*/20 * * *", 5, 1419, 2, 30],
        ["0 0 31 *", 1, 0, 1, 30],
        ["5,10 8-9 * *", 2, 489, 4, 28],
        ["0 0 1 *", 1, 0, 5, 31],
        ["59 23 * *", 30, 1438, 1, 31],
        ["0 6 * 6", 3, 0, 6, 31],
        ["10-50/20 3 20 2", 10, 0, 1, 31],
        ["0 0 5 3", 30, 0, 2, 30],
        ["0 0 5 6", 10, 0, 0, 31],
        ["15 7 28 *", 28, 435, 1, 28],
    ],
    draw=lambda d: [
        f"{d.choice(['0', '*/25', '10,40'])} {d.choice(['*', '6', '8-10/2'])} "
        f"{d.choice(['*', '15', '3,20', '29'])} {d.choice(['*', '2', '1-3', '6'])}",
        d.randint(1, 16),
        d.randint(0, 1439),
        d.randint(0, 6),
        d.choice([28, 30, 31]),
    ],
    n_examples=3,
)
def next_run(
    cron: str, day: int, minute: int, weekday: int, month_days: int, *, days: str, monday: int
) -> list[int] | None:
    """Return [day, minute of that day] of the next run of a cron job in this month, or None.

    `cron` has the fields minute, hour, day of the month and day of the week. A field is a list,
    separated by commas, of `*`, numbers and ranges `A-B`; `*` and ranges may have a step `/S`,
    counted from the beginning of the range. Now it is minute `minute` (0 to 1439) of day `day`
    (from 1) of a month with `month_days` days; `weekday` is today's, from 0 (Monday) to 6 (Sunday)
    whatever the cron field says. The next run is strictly after now. Only this month counts.
    """

    def values(field: str, low: int, high: int) -> set[int]:
        found: set[int] = set()
        for part in field.split(","):
            span, _, step = part.partition("/")
            first, _, last = span.partition("-")
            start = low if span == "*" else int(first)
            end = high if span == "*" else int(last or first)
            found.update(range(start, end + 1, int(step or 1)))
        return found

    minutes, hours, month_field, week_field = cron.split()
    in_hour, in_day = values(minutes, 0, 59), values(hours, 0, 23)
    dates = values(month_field, 1, 31)
    week = values(week_field, 0, 6)
    for date in range(day, month_days + 1):
        number = (weekday + date - day + monday) % 7
        if days == "either" and month_field != "*" and week_field != "*":
            fits = date in dates or number in week
        else:
            fits = date in dates and number in week
        for time in range(minute + 1 if date == day else 0, 1440):
            if fits and time // 60 in in_day and time % 60 in in_hour:
                return [date, time]
    return None


@family(
    rules={
        "caret": {
            "leading": "`^` keeps the leftmost number that is not 0: ^1.2 is >=1.2.0 <2.0.0, "
            "^0.2.3 is "
            ">=0.2.3 <0.3.0, ^0.0.3 is >=0.0.3 <0.0.4, ^0.0.0 is 0.0.0 alone.",
            "major": "`^` keeps the major number, 0 too: ^1.2 is >=1.2.0 <2.0.0 and ^0.2.3 is "
            ">=0.2.3 "
            "<1.0.0.",
        },
        "partial": {
            "any": "A version with parts missing or `x`, alone or after `=`, stands for all that "
            "begin with it: 1.2 is any 1.2.z, `x` is any version.",
            "zero": "A version with parts missing or `x`, alone or after `=`, has 0 in their "
            "place: "
            "1.2 is 1.2.0 alone.",
        },
    },
    edges=[
        ["^1.2 || >=3.0.0 <3.5.0", ["1.1.9", "1.9.0", "2.0.0", "3.4.9", "3.5.0"]],
        ["~1.2.3", ["1.2.2", "1.2.3", "1.2.10", "1.3.0"]],
        ["^0.2.3", ["0.2.2", "0.2.9", "0.3.0", "1.0.0"]],
        ["^0.0.3", ["0.0.3", "0.0.4", "0.1.0"]],
        ["1.2", ["1.2.0", "1.2.7", "1.3.0"]],
        ["x", ["0.0.0", "9.9.9"]],
        ["=1.x", ["1.0.0", "1.5.0", "2.0.0"]],
        [">1.2 <=2", ["1.2.0", "1.2.1", "2.0.0", "2.0.1"]],
        ["~1", ["1.0.0", "1.9.9", "2.0.0"]],
        ["", ["1.0.0"]],
        ["^0.0.0", ["0.0.0", "0.0.1"]],
        ["^x", ["0.5.0"]],
        ["1.2.3.4", ["1.2.3"]],
        [">a", []],
        ["<1.10.0 || 2.0.0", ["1.9.0", "1.10.0", "2.0.0"]],
        ["~0.0.5 >0.0.6", ["0.0.5", "0.0.6", "0.0.7", "0.1.0"]],
    ],
    draw=lambda d: [
        d.choice(["^", "~", "", "=", ">", ">=", "<", "<="])
        + ".".join([str(d.randint(0, 2)), *d.some(["0", "1", "2", "x"], 2)])
        + d.choice(["", " <2", " || 0.1.1"]),
        [".".join(str(d.randint(0, 2)) for _ in range(3)) for _ in range(6)],
    ],
    n_examples=3,
)
def matching_versions(wanted: str, versions: list[str], *, caret: str, partial: str) -> list[str]:
    """Return the versions `major.minor.patch` that satisfy a range, in their order.

    A range is a list of alternatives separated by `||`; an alternative is a list of comparators
    separated by white space, all of which must hold (an empty one always does). A comparator is
    one of = > >= < <= ^ ~ or nothing, directly followed by a version of one to three numbers
    separated by dots; `x` in place of a number and everything behind it counts as missing. Missing
    parts are 0, if no rule says otherwise. `~1.2.3` is >=1.2.3 <1.3.0, `~1.2` is >=1.2.0 <1.3.0,
    `~1` is >=1.0.0 <2.0.0. `^` or `~` before a version whose major number is missing accepts
    everything. A comparator of another form raises ValueError, even where there is nothing to test.
    """

    def bounds(comparator: str) -> tuple[str, list[int], list[int]]:
        found = re.fullmatch(r"(\^|~|>=|<=|[<>=]?)((\d+|x)(\.(\d+|x)){0,2})", comparator)
        if found is None:
            raise ValueError(comparator)
        numbers: list[int] = []
        for part in found[2].split("."):
            if part == "x":
                break
            numbers.append(int(part))
        sign, given = found[1], len(numbers)
        low = (numbers + [0, 0, 0])[:3]
        if sign == "^":
            keep = 0
            if caret == "leading":
                keep = next((at for at, number in enumerate(low) if number), 2)
        elif sign == "~":
            keep = min(given, 2) - 1
        elif partial == "any":
            keep = given - 1
        else:
            keep = 2
        if (sign in ("^", "~") or partial == "any") and given == 0:
            return sign, low, [10**9]
        return sign, low, [*low[:keep], low[keep] + 1, 0, 0][:3]

    def holds(version: list[int], sign: str, low: list[int], high: list[int]) -> bool:
        if sign in (">", "<="):
            return (version > low) == (sign == ">")
        if sign in (">=", "<"):
            return (version >= low) == (sign == ">=")
        return low <= version < high

    alternatives = [
        [bounds(comparator) for comparator in alternative.split()]
        for alternative in wanted.split("||")
    ]
    fitting = []
    for text in versions:
        version = [int(part) for part in text.split(".")]
        if any(
            all(holds(version, *comparator) for comparator in alternative)
            for alternative in alternatives
        ):
            fitting.append(text)
    return fitting


@family(
    rules={
        "cycle": {
            "error": "A cycle raises ValueError.",
            "merge": "Services that depend on each other in a cycle form one unit: it starts as if "
            "it were one service that depends on all they depend on outside of it.",
        },
        "wave": {
            "early": "Every service starts in the first wave that is possible.",
            "late": "Every service starts in the last wave that is possible without making the "
            "whole "
            "start longer.",
        },
    },
    edges=[
        [{"web": ["api"], "api": ["db"], "db": [], "log": []}],
        [{"a": ["b"], "b": ["a"], "c": ["a"]}],
        [{}],
        [{"a": ["a"]}],
        [{"a": ["b"]}],
        [{"a": [], "b": ["a", "a"], "c": ["b", "d"], "d": []}],
        [{"a": ["b"], "b": ["c"], "c": ["b", "d"], "d": []}],
        [{"x": ["y", "z"], "y": ["w"], "z": [], "w": [], "q": ["z"]}],
    ],
    draw=lambda d: [
        {
            name: d.few("abcdef"[: n + (d.random() < 0.2)] or "g", 2)
            for n, name in enumerate("abcdef")
        }
    ],
)
def start_waves(needs: dict[str, list[str]], *, cycle: str, wave: str) -> list[list[str]]:
    """Plan in which waves services start; a service starts after all waves of what it needs.

    `needs` maps a service to those it depends on; one that is only named there needs nothing. The
    waves are as few as possible. Services of a wave are in alphabetical order.
    """
    names = sorted({*needs, *(other for own in needs.values() for other in own)})
    reach = {name: set(needs.get(name, [])) for name in names}
    for middle in names:
        for name in names:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    if cycle == "error" and any(name in reach[name] for name in names):
        raise ValueError("services depend on each other")

    def depth(name: str, graph: dict[str, set[str]]) -> int:
        unit = {other for other in graph[name] if name in graph[other]}
        below = graph[name] - unit - {name}
        return 1 + max((depth(other, graph) for other in below), default=-1)

    last = max((depth(name, reach) for name in names), default=-1)
    waves: list[list[str]] = [[] for _ in range(last + 1)]
    if wave == "late":
        above = {name: {other for other in names if name in reach[other]} for name in names}
    for name in names:
        number = depth(name, reach) if wave == "early" else last - depth(name, above)
        waves[number].append(name)
    return waves


@family(
    rules={
        "inherit": {
            "chain": "A name that a section lacks is looked up in its parent section, there "
            "likewise "
            "in its parent, and at last in [default].",
            "default": "A name that a section lacks is looked up in [default] only; the parent is "
            "named for documentation.",
        },
        "unknown": {
            "error": "A reference to a name that is found nowhere raises KeyError.",
            "keep": "A reference to a name that is found nowhere stays as it is written.",
        },
    },
    edges=[
        ["[default]\nroot=/srv\n[web]\nlog=${root}/log", "web", "log"],
        ["[base]\na=1\n[web:base]\nb=${a}-${c}", "web", "b"],
        ["", "web", "a"],
        ["[web]\na=1", "web", "b"],
        ["[web]\na=${b}\nb=${a}", "web", "a"],
        ["[web]\na=$${b} ${b}\nb=2", "web", "a"],
        ["[default]\nx=${y}\ny=d\n[web]\ny=w", "web", "x"],
        ["[a]\np=1\n[b:a]\n[c:b]\nq=${p}", "c", "q"],
        ["[web]\na = 1 = 2 ; note\n# b=3\n;c=4", "web", "a"],
        ["[web]\na=1\n[web]\na=2\nb=${a}", "web", "b"],
        ["a=1\n[web]\nb=${a}", "web", "b"],
        ["[web]\nbroken", "web", "a"],
        ["[a:b]\n[b:a]\nx=1", "a", "y"],
        ["[a:zzz]\nx=${q}", "a", "x"],
        ["[web]\na=${a}", "web", "a"],
        ["[web]\n# plain note\na=1", "web", "a"],
        ["[default]\nk=v", "gone", "k"],
        ["[web]\na=${b}${b}\nb=x$y", "web", "a"],
    ],
    draw=lambda d: [
        "\n".join(
            [
                "[default]",
                "a=" + d.choice(["0", "${b}"]),
                "[p]",
                *d.few(["a=p", "b=q", "c=${a}"], 3),
            ]
            + ["[s:p]", *d.few(["a=1", "b=${a}${c}", "c=$$${a}", "d=${b}", "d=${z}"], 4, 2)]
        ),
        "s",
        d.choice("abcd"),
    ],
    n_examples=3,
)
def read_setting(text: str, section: str, name: str, *, inherit: str, unknown: str) -> str:
    """Look a setting up in a file of sections, with references resolved.

    A line `[section]` or `[section:parent]` begins a section, or goes on with one of that name (a
    parent given later replaces the earlier one); lines before the first belong to [default]. A line
    `name=value` is split at its first '=', white space around both is removed, and everything from
    ' ;' on is dropped. Of a name given twice the last value counts. Empty lines and lines that
    begin with '#' or ';' are ignored; any other line raises ValueError.

    In a value `${name}` stands for the value of that name, looked up again from `section`, whose
    own references are resolved likewise; `$$` stands for '$'. References that lead back to a name
    that is just being resolved, or parents that lead in a circle, raise ValueError where they are
    met. A setting that is found nowhere raises KeyError.
    """
    sections: dict[str, dict[str, str]] = {"default": {}}
    parents: dict[str, str] = {}
    current = "default"
    for line in map(str.strip, text.split("\n")):
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            current, colon, parent = line[1:-1].partition(":")
            sections.setdefault(current, {})
            if colon:
                parents[current] = parent
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise ValueError(line)
        sections[current][key.strip()] = value.partition(" ;")[0].strip()

    def find(key: str) -> str | None:
        place, visited = section, set[str]()
        while place and key not in sections.get(place, {}):
            if place in visited:
                raise ValueError("parents lead in a circle")
            visited.add(place)
            place = parents.get(place, "") if inherit == "chain" else ""
        return sections[place or "default"].get(key)

    def resolve(value: str, active: tuple[str, ...]) -> str:
        def replace(found: re.Match[str]) -> str:
            if found[0] == "$$":
                return "$"
            if found[1] in active:
                raise ValueError("references lead in a circle")
            inner = find(found[1])
            if inner is None:
                if unknown == "error":
                    raise KeyError(found[1])
                return found[0]
            return resolve(inner, (*active, found[1]))

        return re.sub(r"\$\$|\$\{(\w+)\}", replace, value)

    found = find(name)
    if found is None:
        raise KeyError(name)
    return resolve(found, (name,))
