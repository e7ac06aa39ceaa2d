"""Backend, subtle rules: transactions, filter languages, patches, process scheduling."""

import re
from typing import Any

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "rollback": {
            "inner": "`rollback` undoes the innermost open transaction.",
            "all": "`rollback` undoes and ends all open transactions.",
        },
        "count": {
            "value": "`count X` gives the number of keys whose value is X.",
            "prefix": "`count X` gives the number of keys that begin with X.",
        },
    },
    edges=[
        [["set a 1", "begin", "set a 2", "get a", "rollback", "get a"]],
        [["begin", "set a 1", "begin", "set a 2", "rollback", "get a", "count a"]],
        [[]],
        [["get x"]],
        [["commit"]],
        [["rollback"]],
        [["set a 1", "begin", "del a", "get a", "count 1", "commit", "get a", "rollback"]],
        [["begin", "begin", "set k 5", "commit", "rollback", "get k"]],
        [["set a 1", "set b 1", "set ab 2", "count 1", "count a", "del b", "count 1"]],
        [["del x", "set x 1", "del x", "count x"]],
        [
            [
                "set a 1",
                "begin",
                "set a 2",
                "begin",
                "set a 3",
                "commit",
                "get a",
                "rollback",
                "get a",
            ]
        ],
        [["begin", "set a 1", "set a 1", "rollback", "get a"]],
    ],
    draw=lambda d: [
        [
            d.choice(["begin", "begin", "begin", "commit", "rollback"])
            if d.chance(0.45)
            else d.choice(
                [
                    f"set {key} {d.choice('12a')}",
                    f"get {key}",
                    f"del {key}",
                    f"count {d.choice('1a')}",
                ]
            )
            for key in d.some(["a", "b", "ab"], 20, 14)
        ]
        + ["get a", "count 1", "count a"]
    ],
)
def run_store(commands: list[str], *, rollback: str, count: str) -> list[str]:
    """Run the commands of a key-value store with nested transactions; return what they print.

    `set K V` stores a text, `del K` removes it (nothing happens if it is not there), `get K` prints
    the value or 'NULL', `count X` prints a number. `begin` opens a transaction, also inside
    another. `commit` ends the innermost open transaction and keeps its changes, as part of the one
    around it. `commit` and `rollback` without an open transaction print 'NONE'.
    """
    layers: list[dict[str, str]] = [{}]
    printed: list[str] = []
    for command in commands:
        verb, *words = command.split()
        store = layers[-1]
        if verb == "set":
            store[words[0]] = words[1]
        elif verb == "del":
            store.pop(words[0], None)
        elif verb == "get":
            printed.append(store.get(words[0], "NULL"))
        elif verb == "count":
            if count == "value":
                number = list(store.values()).count(words[0])
            else:
                number = sum(key.startswith(words[0]) for key in store)
            printed.append(str(number))
        elif verb == "begin":
            layers.append(dict(store))
        elif len(layers) == 1:
            printed.append("NONE")
        elif verb == "commit":
            layers[-2:] = [store]
        elif rollback == "all":
            del layers[1:]
        else:
            layers.pop()
    return printed


@family(
    rules={
        "binding": {
            "and": "`and` binds tighter than `or`.",
            "left": "`and` and `or` bind equally; they are applied from left to right.",
        },
        "null": {
            "false": "A comparison with a field that the record lacks is false; `not` of it is "
            "true.",
            "unknown": "A comparison with a field that the record lacks is unknown: `not` of "
            "unknown is "
            "unknown; `and` with a false and `or` with a true side are decided by that side, "
            "otherwise "
            "they are unknown if one side is; a record whose result is unknown is not accepted.",
        },
    },
    edges=[
        ["age > 30 and not name = 'Bob'", {"age": 41, "name": "Ann"}],
        ["a = 1 or b = 2 and c = 3", {"a": 1, "b": 2, "c": 4}],
        ["not x = 1", {}],
        ["(a = 1 or b = 1) and c != 2", {"a": 1, "c": 3}],
        ["a = 1", {"a": "1"}],
        ["a < 'b'", {"a": "abc"}],
        ["a >", {"a": 1}],
        ["a = 1)", {"a": 1}],
        ["", {}],
        ["(a = 1", {"a": 1}],
        ["a = 1 b = 2", {"a": 1}],
        ["not not a <= 5", {"a": 5}],
        ["a >= 5 or x = 1", {"a": 5}],
        ["x = 1 or not x = 1", {}],
        ["not (x = 1 and a = 2)", {"a": 1}],
        ["not (x = 1 or a = 1)", {"a": 2}],
        ["a > 'x'", {"a": 3}],
        ["a != 'x'", {"a": 3}],
        ["a = 'it and or'", {"a": "it and or"}],
        ["a # 1", {"a": 1}],
        ["a = ''", {"a": ""}],
        ["a < 5", {"a": 5}],
    ],
    draw=lambda d: [
        " ".join(
            (word if n else "")
            + d.choice([" ", " ", " not "])
            + f"{d.choice('abx')} {d.choice(['=', '!=', '<', '>='])} {d.randint(0, 3)}"
            for n, word in enumerate(
                d.choice([["", "or", "and"], ["", "or", "and", "or"], ["", "and"]])
            )
        ).strip(),
        {"a": d.randint(0, 3), "b": d.randint(0, 3)},
    ],
    n_examples=3,
)
def accepts(condition: str, record: dict[str, Any], *, binding: str, null: str) -> bool:
    """Evaluate a condition over a record.

    A comparison is `field op value` with op one of = != < <= > >= and a value that is a whole
    number of digits or a text in single quotes (without quotes inside). Comparisons are combined by
    `not` (binds tightest), `and`, `or` and parentheses; these words are written in lower case and
    are no field names; fields are words of letters. Values of different types are different, and no
    one is less than the other. Every part of a condition is parsed: a malformed one raises
    ValueError.
    """
    tokens = re.findall(r"'[^']*'|\w+|[<>!]?=|[<>()]|\S", condition)
    position = 0

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1] if position <= len(tokens) else ""

    def following() -> str:
        return tokens[position] if position < len(tokens) else ""

    def compared(found: Any, sign: str, wanted: Any) -> bool:
        if type(found) is not type(wanted):
            return sign == "!="
        if sign in ("=", "!="):
            return (found == wanted) is (sign == "=")
        if found == wanted:
            return sign in ("<=", ">=")
        return (found < wanted) is (sign[0] == "<")

    def negation() -> bool | None:
        word = take()
        if word == "not":
            inner = negation()
            return None if inner is None else not inner
        if word == "(":
            value = chain()
            if take() != ")":
                raise ValueError("a parenthesis is open")
            return value
        sign, text = take(), take()
        if (
            not word.isalpha()
            or word in ("and", "or")
            or sign not in ("=", "!=", "<", "<=", ">", ">=")
        ):
            raise ValueError(f"no comparison: {word} {sign}")
        if not text.isdecimal() and not (text.startswith("'") and len(text) > 1):
            raise ValueError(f"no value: {text}")
        wanted = int(text) if text.isdecimal() else text[1:-1]
        if word not in record:
            return False if null == "false" else None
        return compared(record[word], sign, wanted)

    def combine(word: str, left: bool | None, right: bool | None) -> bool | None:
        decisive = word == "or"
        if left is decisive or right is decisive:
            return decisive
        return None if left is None or right is None else not decisive

    def conjunction() -> bool | None:
        value = negation()
        while binding == "and" and following() == "and":
            value = combine(take(), value, negation())
        return value

    def chain() -> bool | None:
        value = conjunction()
        while following() in ("and", "or"):
            value = combine(take(), value, conjunction())
        return value

    result = chain()
    if position != len(tokens):
        raise ValueError(f"unexpected {following()}")
    return result is True


@family(
    rules={
        "failed": {
            "error": "An operation that cannot be carried out raises ValueError.",
            "skip": "An operation that cannot be carried out is skipped.",
        },
        "create": {
            True: "`add` makes the dicts that are missing on the way to its place.",
            False: "`add` cannot be carried out where a dict on the way is missing.",
        },
    },
    edges=[
        [{"a": 1}, [["add", "/b/c", 2]]],
        [{"a": {"b": [1, 3]}}, [["add", "/a/b/1", 2], ["remove", "/a/b/0"]]],
        [{}, []],
        [{"a": 1}, [["remove", "/b"], ["add", "/c", 1]]],
        [{"a": [1]}, [["add", "/a/-", 2], ["replace", "/a/0", 9]]],
        [{"a": [1]}, [["add", "/a/3", 2]]],
        [{"a": [1]}, [["replace", "/a/1", 2]]],
        [{"a": 1}, [["test", "/a", 1], ["move", "/b", "/a"]]],
        [{"a": 1}, [["test", "/a", 2], ["add", "/b", 1]]],
        [{"a/b": 1, "c~d": 2}, [["remove", "/a~1b"], ["replace", "/c~0d", 3]]],
        [{"a": 1}, [["add", "/a/b", 2]]],
        [{"a": {"b": 1}}, [["move", "/c/d", "/a/b"]]],
        [{"a": [1, 2]}, [["remove", "/a/-"]]],
        [{"a": 1}, [["replace", "/b", 1]]],
        [{"a": [1, 2, 3]}, [["move", "/a/0", "/a/2"]]],
        [{"a": 1}, [["copy", "/b", "/a"]]],
        [{"a": [1]}, [["add", "/a/01", 2]]],
        [{"a": [[1]]}, [["add", "/a/0/1", 2], ["add", "/a/x", 3]]],
        [{"a": [1]}, [["add", "/a/1/b", 2]]],
        [{"a": {"b": {"c": 1}}}, [["copy", "/a/b/c", 1], ["add", "/a/b/d", 2]]],
    ],
    draw=lambda d: [
        {"a": {"b": 1}, "l": [1, 2], "x": 0},
        [
            d.choice(
                [
                    [
                        "add",
                        d.choice(["/n", "/n/m", "/l/0", "/l/2", "/l/-", "/a/c"]),
                        d.randint(3, 9),
                    ],
                    ["remove", d.choice(["/a/b", "/l/1"])],
                    ["replace", d.choice(["/x", "/l/0"]), d.randint(3, 9)],
                    ["move", d.choice(["/z", "/l/0", "/a/x", "/p/q"]), d.choice(["/x", "/l/1"])],
                ]
            )
            for _ in range(d.randint(1, 3))
        ],
    ],
    n_examples=3,
)
def patch(
    document: dict[str, Any], operations: list[list[Any]], *, failed: str, create: bool
) -> dict[str, Any]:
    """Apply the operations of a JSON patch to a document of dicts, lists and numbers; return it.

    A place is `/key/key/...`; in a key `~1` stands for '/' and `~0` for '~'. In a list a key is an
    index of digits without needless leading zeros.
    - `["add", place, value]` sets a dict's key, or inserts into a list before the index, which may
      be its length; the index `-` is the end of the list.
    - `["remove", place]` and `["replace", place, value]` need a place that is there.
    - `["test", place, value]` needs a place that is there with an equal value, and changes nothing.
    - `["move", place, from]` removes from one place, then adds at another. If the adding cannot be
      carried out, neither is the removing.

    An unknown operation cannot be carried out. Operations before one that fails stay applied.
    """

    def split(place: str) -> list[str]:
        return [key.replace("~1", "/").replace("~0", "~") for key in place.split("/")[1:]]

    def locate(node: Any, key: str, room: int) -> Any:
        if isinstance(node, dict):
            if key in node or room:
                return key
        elif isinstance(node, list):
            if key == "-" and room:
                return len(node)
            if key.isdecimal() and str(int(key)) == key and int(key) < len(node) + room:
                return int(key)
        raise ValueError(f"nothing at {key}")

    def parent(place: str, root: Any, make: bool) -> tuple[Any, str]:
        *path, last = split(place)
        for key in path:
            if make and isinstance(root, dict):
                root.setdefault(key, {})
            root = root[locate(root, key, 0)]
        return root, last

    def add(root: Any, place: str, value: Any) -> None:
        node, key = parent(place, root, create)
        index = locate(node, key, 1)
        if isinstance(node, list):
            node.insert(index, value)
        else:
            node[index] = value

    def copied(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: copied(item) for key, item in value.items()}
        return [copied(item) for item in value] if isinstance(value, list) else value

    def apply(root: Any, verb: str, place: str, rest: list[Any]) -> None:
        if verb == "add":
            add(root, place, rest[0])
            return
        node, key = parent(rest[0] if verb == "move" else place, root, False)
        index = locate(node, key, 0)
        if verb == "remove":
            del node[index]
        elif verb == "replace":
            node[index] = rest[0]
        elif verb == "move":
            add(root, place, node.pop(index))
        elif verb != "test" or node[index] != rest[0]:
            raise ValueError(f"{verb} failed")

    for verb, place, *rest in operations:
        changed = copied(document)
        try:
            apply(changed, verb, place, rest)
        except ValueError:
            if failed == "error":
                raise
            continue
        document = changed
    return document


@family(
    rules={
        "newcomer": {
            "before": "A process that arrives at the moment at which a slice ends joins the queue "
            "before the process whose slice ended.",
            "after": "A process that arrives at the moment at which a slice ends joins the queue "
            "after the process whose slice ended.",
        },
        "switch": {
            0: "Switching to another process takes no time.",
            1: "Switching to a process other than the one that ran last takes 1 unit of time, in "
            "which nothing runs; the very first process starts without it.",
        },
    },
    edges=[
        [[["a", 0, 3], ["b", 1, 2]], 2],
        [[["a", 0, 5], ["b", 2, 1]], 2],
        [[], 3],
        [[["a", 4, 1]], 2],
        [[["a", 0, 1], ["b", 5, 1]], 2],
        [[["a", 0, 4], ["b", 0, 4], ["c", 4, 2]], 2],
        [[["a", 0, 4]], 2],
        [[["b", 0, 2], ["a", 0, 2]], 1],
        [[["a", 0, 2], ["b", 2, 2], ["c", 3, 1]], 2],
    ],
    draw=lambda d: [
        [[name, d.randint(0, 6), d.randint(1, 6)] for name in d.sample("abcd", d.randint(2, 4))],
        d.randint(1, 3),
    ],
)
def round_robin(
    processes: list[list[Any]], slice_length: int, *, newcomer: str, switch: int
) -> dict[str, int]:
    """Simulate round-robin scheduling; return process -> time at which it ends.

    A process is [name, arrival, work]; work is at least 1. The process at the head of the queue
    runs for a slice, or until its work is done; if work is left it joins the end of the queue.
    Processes join the queue as they arrive; those that arrive together in the order given. While
    the queue is empty time passes until the next arrival. A process that arrives during a switch
    has arrived when the slice begins.
    """
    waiting = sorted(processes, key=lambda process: int(process[1]))
    left = {name: work for name, _, work in processes}
    queue: list[str] = []
    ends: dict[str, int] = {}
    now, last = 0, ""
    while waiting or queue:
        if not queue:
            now = max(now, waiting[0][1])
        while waiting and waiting[0][1] <= now:
            queue.append(waiting.pop(0)[0])
        name = queue.pop(0)
        if switch and last not in ("", name):
            now += switch
        spent = min(slice_length, left[name])
        now, last = now + spent, name
        left[name] -= spent
        while waiting and waiting[0][1] < now:
            queue.append(waiting.pop(0)[0])
        if newcomer == "before":
            while waiting and waiting[0][1] == now:
                queue.append(waiting.pop(0)[0])
        if left[name]:
            queue.append(name)
        else:
            ends[name] = now
    return ends
