"""Backend, two or three interacting rules each: caches, filters, queues, records."""

from typing import Any

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "evict": {
            "used": "The entry whose last use is longest ago is evicted; a use is a `get` that "
            "finds "
            "it or a `put`.",
            "put": "The entry whose last `put` is longest ago is evicted.",
        },
        "pinned": {
            True: "A key that begins with '!' is never evicted; where all entries are such, the "
            "new "
            "entry is not stored.",
            False: "No key is special.",
        },
    },
    edges=[
        [2, [["put", "a", 1], ["put", "b", 2], ["get", "a"], ["put", "c", 3], ["get", "b"]]],
        [1, [["put", "!a", 1], ["put", "b", 2], ["get", "b"], ["get", "!a"]]],
        [2, []],
        [2, [["get", "x"]]],
        [2, [["put", "a", 1], ["put", "!b", 2], ["get", "a"], ["put", "c", 3], ["get", "a"]]],
        [
            3,
            [["put", key, 1] for key in "abd"]
            + [["get", "a"], ["put", "e", 2], ["get", "b"], ["get", "a"], ["put", "f", 3]]
            + [["get", key] for key in "abdef"],
        ],
        [2, [["put", "a", 1], ["put", "b", 2], ["put", "a", 3], ["put", "c", 4], ["get", "a"]]],
        [0, [["put", "a", 1], ["get", "a"]]],
        [1, [["put", "!a", 1], ["put", "!a", 2], ["get", "!a"]]],
    ],
    draw=lambda d: [
        d.randint(2, 3),
        [
            d.choice([["put", key, d.randint(1, 9)], ["get", key]])
            for key in d.some(["a", "b", "!c", "d"], 20, 14)
        ],
    ],
)
def run_cache(
    capacity: int, commands: list[list[Any]], *, evict: str, pinned: bool
) -> list[int | None]:
    """Run commands on a cache of limited size; return the result of every `get`.

    `["put", key, value]` stores or replaces a value; where a new key comes to a full cache, one
    entry is evicted first. `["get", key]` gives the value, or None. With capacity 0 nothing is ever
    stored.
    """
    entries: dict[str, int] = {}
    results: list[int | None] = []
    for command, key, *values in commands:
        if command == "get":
            results.append(entries.get(key))
            if evict == "used" and key in entries:
                entries[key] = entries.pop(key)
            continue
        if key in entries:
            del entries[key]
        elif len(entries) >= capacity:
            loose = [name for name in entries if not (pinned and name.startswith("!"))]
            if not loose:
                continue
            del entries[loose[0]]
        entries[key] = values[0]
    return results


@family(
    rules={
        "expiry": {
            "absolute": "An entry lives for `ttl` seconds after it was set.",
            "sliding": "An entry lives for `ttl` seconds after it was set or last found by a get.",
        },
        "negative": {
            True: "A get that finds nothing stores None for the key, which is then found like any "
            "value.",
            False: "A get that finds nothing stores nothing.",
        },
    },
    edges=[
        [10, [[0, "set", "a", 1], [9, "get", "a"], [15, "get", "a"]]],
        [5, [[0, "get", "a"], [1, "get", "a"], [2, "size"]]],
        [5, []],
        [5, [[0, "set", "a", 1], [5, "get", "a"]]],
        [5, [[0, "set", "a", 1], [4, "get", "a"], [5, "size"], [8, "get", "a"], [9, "size"]]],
        [3, [[0, "set", "a", 1], [2, "set", "a", 2], [4, "get", "a"], [5, "size"]]],
        [4, [[0, "get", "b"], [3, "get", "b"], [5, "size"], [6, "get", "b"]]],
    ],
    draw=lambda d: [
        d.randint(2, 6),
        [
            d.choice([[time, "set", key, d.randint(1, 9)], [time, "get", key], [time, "size"]])
            for time in sorted(d.ints(0, 20, 12, 7))
            for key in d.choice("ab")
        ],
    ],
)
def run_ttl_cache(
    ttl: int, commands: list[list[Any]], *, expiry: str, negative: bool
) -> list[int | str | None]:
    """Run commands on a cache whose entries expire; return what every `get` and `size` gives.

    `[second, "set", key, value]` stores, `[second, "get", key]` gives the value, or 'miss' where
    there is no living entry, `[second, "size"]` counts the living entries. Seconds ascend. An entry
    is dead from the second on at which its time has passed.
    """
    entries: dict[str, tuple[int, Any]] = {}
    results: list[Any] = []
    for second, command, *arguments in commands:
        alive = {key: entry for key, entry in entries.items() if second < entry[0]}
        if command == "size":
            results.append(len(alive))
        elif command == "set":
            entries[arguments[0]] = (second + ttl, arguments[1])
        elif arguments[0] in alive:
            value = alive[arguments[0]][1]
            results.append(value)
            if expiry == "sliding":
                entries[arguments[0]] = (second + ttl, value)
        else:
            results.append("miss")
            if negative:
                entries[arguments[0]] = (second + ttl, None)
    return results


@family(
    rules={
        "absent": {
            "fails": "A condition on a field that a record does not have fails.",
            "holds": "A condition on a field that a record does not have holds.",
        },
        "text": {
            "exact": "`has` looks for the text with its case.",
            "folded": "`has` looks for the text without regard to case.",
        },
    },
    edges=[
        [[{"n": "Ann", "age": 30}, {"n": "Bob", "age": 41}], {"age__ge": 41}],
        [[{"n": "Ann"}, {"n": "Hannah"}, {"m": 1}], {"n__has": "ann"}],
        [[], {"a": 1}],
        [[{"a": 1}], {}],
        [[{"a": 1}, {"a": 2}], {"a__not": 1, "b__lt": 3}],
        [[{"a": 1, "b": 1}, {"b": 2}], {"a__in": [1, 2]}],
        [[{"a": 1}], {"a__near": 1}],
        [[], {"a__near": 1}],
        [[{"a__b": 1}], {"a__b": 1}],
        [[{"a": 2}, {"a": 3}, {"a": 4}], {"a__lt": 4, "a__ge": 3}],
    ],
    draw=lambda d: [
        [
            {**({"a": d.randint(0, 3)} if d.chance(0.7) else {}), "n": d.choice(["Xy", "xy", "z"])}
            for _ in range(5)
        ],
        dict(
            [
                d.choice([("a__lt", 2), ("a__ge", 2), ("a", 1), ("a__not", 1), ("a__in", [0, 3])]),
                d.choice([("n__has", "x"), ("n__has", "X"), ("n__not", "z"), ("q", 1)]),
            ]
        ),
    ],
)
def filter_records(
    records: list[dict[str, Any]], conditions: dict[str, Any], *, absent: str, text: str
) -> list[int]:
    """Return the indices of the records that meet all conditions.

    A condition's key is `field` (equal) or `field__operator`, with the operators `not` (not equal),
    `lt`, `ge`, `in` (one of a list) and `has` (a text that contains the value). The part behind the
    last `__` is the operator; any other one raises ValueError, even where no record is tested.
    """
    parsed = []
    for key, wanted in conditions.items():
        field, sign, operator = key.rpartition("__")
        if sign and operator not in ("not", "lt", "ge", "in", "has"):
            raise ValueError(f"unknown operator {operator}")
        parsed.append((field if sign else key, operator if sign else "is", wanted))
    found = []
    for index, record in enumerate(records):
        passes = True
        for field, operator, wanted in parsed:
            if field not in record:
                passes = passes and absent == "holds"
                continue
            value = record[field]
            if operator == "has" and text == "folded":
                value, wanted = value.lower(), wanted.lower()
            if operator == "is":
                holds = value == wanted
            elif operator == "not":
                holds = value != wanted
            elif operator == "lt":
                holds = value < wanted
            elif operator == "ge":
                holds = value >= wanted
            else:
                holds = value in wanted if operator == "in" else wanted in value
            passes = passes and holds
        if passes:
            found.append(index)
    return found


@family(
    rules={
        "trim": {
            True: "White space around a field that is not quoted is removed.",
            False: "White space belongs to the field; a field is quoted only where the quote is "
            "its "
            "first character.",
        },
        "empty": {
            "none": "A field without any character is None; a quoted empty field is ''.",
            "text": "A field without any character is ''.",
        },
    },
    edges=[
        ['a,"b, ""c""",,d'],
        [' x , "y z" ,""'],
        [""],
        [","],
        ['"open'],
        ['"a"b,c'],
        ['a"b,c'],
        ['""""'],
        ['"a" ,b'],
        ['  ,"'],
        ['"a",'],
        ['" a "'],
    ],
    draw=lambda d: [d.text(["a", ",", '"b"', '"c,d"', " e ", '"f""g"', ",,", " "], 7, 2)],
    n_examples=2,
)
def parse_csv_line(line: str, *, trim: bool, empty: str) -> list[str | None]:
    """Split one line of CSV into its fields.

    Fields are separated by commas. A field in double quotes may hold commas, and two double quotes
    stand for one. An unclosed quote, or anything but white space between a closing quote and the
    comma or the end, raises ValueError. A quote inside an unquoted field is an ordinary character.
    """
    fields: list[str | None] = []
    rest = line + ","
    while rest:
        start = rest.lstrip(" ") if trim else rest
        if start.startswith('"'):
            end = start.replace('""', "  ").find('"', 1)
            if start.startswith('""') and not start.startswith('"""'):
                end = 1
            elif start.startswith('"""'):
                end = start[1:].replace('""', "  ").find('"') + 1
            if end < 1:
                raise ValueError("a quote is not closed")
            after, _, rest = start[end + 1 :].partition(",")
            if after.strip():
                raise ValueError("text after a closing quote")
            fields.append(start[1:end].replace('""', '"'))
        else:
            field, _, rest = rest.partition(",")
            if trim:
                field = field.strip()
            fields.append(None if empty == "none" and not field else field)
    return fields
