"""General programming, subtle rules: interpreters, searching, packing, patterns, paths."""

import heapq

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "minus": {
            "tight": "A leading minus binds tighter than `^`: -2^2 is 4.",
            "loose": "A leading minus binds looser than `^`, and as tight as `*`: -2^2 is -4.",
        },
        "division": {
            "floor": "`/` rounds towards minus infinity.",
            "zero": "`/` rounds towards zero.",
        },
    },
    edges=[
        ["2 + 3 * 4"],
        ["-2^2"],
        ["-7 / 2"],
        ["2^3^2"],
        ["(1 + 2) * -3"],
        ["10 - 4 - 3"],
        ["100 / 7 / 2"],
        ["--5"],
        ["2^-1"],
        ["1 / 0"],
        [""],
        ["1 +"],
        ["(1"],
        ["1 2"],
        ["2 * (3 + 4))"],
        ["a"],
        ["3 - -2^2"],
        ["7 / -2"],
        ["2*-3^2"],
        ["0^0"],
    ],
    draw=lambda d: [
        d.choice(["", "-"])
        + "".join(
            f"{d.choice(['', '', '-'])}{d.randint(1, 9)}"
            + d.choice(["+", "-", "*", "/", " / ", "^2*", "^2-"])
            for _ in range(d.randint(1, 4))
        )
        + d.choice(["2", "(1-4)", "-(5-9)"])
    ],
    n_examples=3,
)
def evaluate(expression: str, *, minus: str, division: str) -> int:
    """Evaluate an arithmetic expression of whole numbers.

    There are + - * / ^ (power), parentheses, a leading minus and spaces, which separate and mean
    nothing else. `^` binds tighter than `*` and `/`, these tighter than `+` and `-`; `^` is applied
    from right to left, the others from left to right. The exponent may have a leading minus, but a
    negative exponent raises ValueError, and so does any malformed expression. Division by zero
    raises ZeroDivisionError.
    """
    tokens = list(expression.replace(" ", "\0"))
    tokens = (
        "".join(mark if mark.isdecimal() else f" {mark} " for mark in tokens)
        .replace("\0", " ")
        .split()
    )
    position = 0

    def following() -> str:
        return tokens[position] if position < len(tokens) else ""

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1] if position <= len(tokens) else ""

    def atom() -> int:
        token = take()
        if token == "(":
            value = total()
            if take() != ")":
                raise ValueError("a parenthesis is open")
            return value
        if token == "-" and minus == "tight":
            return -atom()
        if not token.isdecimal():
            raise ValueError(f"unexpected {token!r}")
        return int(token)

    def power() -> int:
        if minus == "loose" and following() == "-":
            take()
            return -power()
        base = atom()
        if following() != "^":
            return base
        take()
        exponent = power()
        if exponent < 0:
            raise ValueError("a negative exponent")
        return int(base**exponent)

    def product() -> int:
        value = power()
        while following() in ("*", "/"):
            if take() == "*":
                value *= power()
                continue
            divisor = power()
            if division == "zero" and (value < 0) != (divisor < 0):
                value = -(-value // divisor)
            else:
                value //= divisor
        return value

    def total() -> int:
        value = product()
        while following() in ("+", "-"):
            value += product() if take() == "+" else -product()
        return value

    result = total()
    if position != len(tokens):
        raise ValueError(f"unexpected {following()!r}")
    return result


@family(
    rules={
        "where": {
            "whole": "The pattern must match the whole text.",
            "begin": "The pattern must match at the beginning of the text.",
        },
        "case": {
            True: "Letters match with their case.",
            False: "Letters match without regard to case, in sets too.",
        },
    },
    edges=[
        ["ab*c", "abbbc"],
        ["h.llo?", "Hello you"],
        ["[a-c]+x", "abcax"],
        ["[^0-9]*", "abc"],
        ["", ""],
        ["", "a"],
        ["a", ""],
        ["*a", "a"],
        ["a**", "a"],
        ["[abc", "a"],
        ["\\.\\*", ".*"],
        ["a\\", "a"],
        ["[a-]", "-"],
        ["[]", "a"],
        ["a?a?aa", "aa"],
        [".*b.*b", "xxbyyb"],
        ["[^a]", ""],
        ["a+b", "b"],
        ["[A-C]z", "bz"],
        ["x?", "y"],
        ["[^^]+", "a^"],
        ["\\]\\[a", "][a"],
        ["[a-b]", "c"],
        ["[^a]", "^"],
        ["[a-cx-z]*", "bzq"],
    ],
    draw=lambda d: [
        d.text(["a", "b*", "c+", ".", "[ab]", "[^c]?", "a?", "[A-B]+", ".*"], 4, 1),
        d.text("abcABc", 6, 1),
    ],
    n_examples=3,
)
def matches(pattern: str, text: str, *, where: str, case: bool) -> bool:
    r"""Match a text with a small language of patterns, without the module `re`.

    `.` is any one character, `[abc]` one of a set, `[a-c]` one of a range, `[^...]` one character
    that is not in the set. `\` makes the character after it an ordinary one (outside sets only).
    Any other character stands for itself. After each of these, `*` means any number of times, `+`
    at least once, `?` once or not at all. A `-` at the beginning or end of a set is an ordinary
    character. A set that is empty or not closed, a repetition without anything before it (after
    another one too) and a `\` at the end raise ValueError. Letters are ASCII letters.
    """
    if not case:
        pattern, text = pattern.lower(), text.lower()
    items: list[tuple[str, set[str], str]] = []
    rest = pattern
    while rest:
        mark, rest = rest[0], rest[1:]
        kind, members = "set", {mark}
        if mark == ".":
            kind, members = "not", set()
        elif mark == "\\":
            if not rest:
                raise ValueError("nothing after a backslash")
            members, rest = {rest[0]}, rest[1:]
        elif mark in "*+?":
            raise ValueError("nothing to repeat")
        elif mark == "[":
            inside, closed, rest = rest.partition("]")
            if inside.startswith("^"):
                kind, inside = "not", inside[1:]
            if not closed or not inside:
                raise ValueError("a set is empty or not closed")
            members = set()
            while inside:
                if len(inside) > 2 and inside[1] == "-":
                    members.update(map(chr, range(ord(inside[0]), ord(inside[2]) + 1)))
                    inside = inside[3:]
                else:
                    members.add(inside[0])
                    inside = inside[1:]
        repeat = ""
        if rest and rest[0] in "*+?":
            repeat, rest = rest[0], rest[1:]
        items.append((kind, members, repeat))
    places = {0}
    for kind, members, repeat in items:
        fits = [(mark in members) == (kind == "set") for mark in text]
        after = set(places) if repeat in ("*", "?") and repeat else set()
        for place in places:
            end = place
            while end < len(text) and fits[end]:
                end += 1
                after.add(end)
                if repeat not in ("*", "+") or not repeat:
                    break
        places = after
    return len(text) in places if where == "whole" else bool(places)


@family(
    rules={
        "tie": {
            "stops": "Of equally cheap routes the one with the fewest stops is taken, then the one "
            "whose list of places is alphabetically first.",
            "name": "Of equally cheap routes the one whose list of places is alphabetically first "
            "is "
            "taken.",
        },
        "toll": {
            True: "Every place that is passed through (neither the start nor the goal) costs 1 "
            "more.",
            False: "Passing through a place costs nothing.",
        },
    },
    edges=[
        [[["a", "b", 2], ["b", "c", 2], ["a", "c", 5]], "a", "c"],
        [[["a", "b", 1], ["b", "d", 3], ["a", "d", 4]], "a", "d"],
        [[], "a", "a"],
        [[], "a", "b"],
        [[["b", "a", 1]], "a", "b"],
        [[["a", "b", 1], ["a", "b", 0]], "a", "b"],
        [[["a", "c", 2], ["c", "d", 2], ["a", "b", 2], ["b", "d", 2]], "a", "d"],
        [[["a", "b", 1], ["b", "c", 1], ["c", "d", 1], ["a", "d", 4]], "a", "d"],
        [[["a", "b", 1], ["b", "a", 1], ["b", "c", 1]], "a", "c"],
        [[["a", "b", 1], ["b", "c", 1], ["c", "f", 1], ["a", "d", 2], ["d", "f", 1]], "a", "f"],
        [[["a", "b", 0], ["b", "e", 0], ["a", "c", 0], ["c", "e", 0]], "a", "e"],
        [[["a", "b", 1], ["b", "c", 1], ["c", "f", 1], ["a", "d", 2], ["d", "f", 2]], "a", "f"],
        [[["a", "b", 0], ["b", "c", 1], ["c", "e", 0], ["a", "e", 3]], "a", "e"],
        [[["a", "b", 0], ["b", "c", 1], ["c", "e", 0], ["a", "e", 1]], "a", "e"],
        [[["a", "b", 2], ["b", "c", 2], ["a", "c", 4]], "a", "c"],
        [[["a", "b", 1], ["b", "c", 1], ["a", "c", 4]], "a", "c"],
    ],
    draw=lambda d: [
        [[*d.sample("abcdef", 2), d.choice([1, 1, 2, 3])] for _ in range(15)],
        "a",
        d.choice("bcdef"),
    ],
)
def cheapest_route(
    roads: list[list[str | int]], start: str, goal: str, *, tie: str, toll: bool
) -> list[str]:
    """Return the places on the cheapest route from start to goal, both included; [] if none.

    A road [from, to, cost] leads in one direction only; costs are not negative. A start that is the
    goal gives a route of that one place.
    """
    leads: dict[str, list[tuple[str, int]]] = {}
    for source, target, cost in roads:
        leads.setdefault(str(source), []).append((str(target), int(cost)))
    heap: list[tuple[int, int, list[str]]] = [(0, 0, [start])]
    done: set[str] = set()
    while heap:
        cost, stops, route = heapq.heappop(heap)
        place = route[-1]
        if place == goal:
            return route
        if place in done:
            continue
        done.add(place)
        for target, step in leads.get(place, []):
            if target not in done:
                extra = step + (1 if toll and target != goal else 0)
                rank = stops + 1 if tie == "stops" else 0
                heapq.heappush(heap, (cost + extra, rank, [*route, target]))
    return []


@family(
    rules={
        "overflow": {
            "wrap": "Results of arithmetic wrap around to the range -128 to 127.",
            "clamp": "Results of arithmetic beyond -128 to 127 become -128 or 127.",
        },
        "order": {
            "popped": "`sub` takes the top of the stack minus the value below it.",
            "pushed": "`sub` takes the value below the top minus the top.",
        },
    },
    edges=[
        [["push 7", "push 3", "sub", "print"]],
        [["push 100", "push 100", "add", "print"]],
        [[]],
        [["print"]],
        [["push 3", "dup", "print", "push 1", "swap", "sub", "dup", "jnz 1", "print"]],
        [["jmp 2", "print", "push 1", "print"]],
        [["jmp 0"]],
        [["jmp 5"]],
        [["push 300", "print"]],
        [["push 1", "jnz -1"]],
        [["pop"]],
        [["push 1", "swap"]],
        [["push -128", "push 1", "swap", "sub", "print"]],
        [["push -100", "push 100", "sub", "print", "push 16", "push 16", "mul", "print"]],
        [["fly"]],
        [["push 0", "jnz 9", "push 5", "print"]],
        [["push 4", "push 2", "pop", "print"]],
        [["jmp 1"]],
        [["push 11", "push 12", "mul", "print"]],
        [["push 127", "print"]],
        [["push 128"]],
        [["push -129"]],
        [["push 1", "push 2", "push 3", "swap", "pop", "print", "print"]],
        [["push 100", "push 1", "swap", "sub", "dup", "jnz 1", "print"]],
    ],
    draw=lambda d: [
        [f"push {d.randint(-99, 99)}" for _ in range(4)]
        + d.some(["add", "sub", "mul", "dup", "swap", "print"], 8, 5)
        + ["print"]
    ],
)
def run_program(program: list[str], *, overflow: str, order: str) -> list[int]:
    """Run a program of a small stack machine; return the numbers that it prints.

    - `push N` pushes a whole number from -128 to 127, `pop` removes the top, `dup` pushes it again,
      `swap` exchanges the two topmost values.
    - `add`, `sub` and `mul` replace the two topmost values by the result.
    - `print` removes the top and prints it.
    - `jmp N` goes on at instruction N, counted from 0; `jnz N` removes the top and jumps if it is
      not 0. Jumping to the end (N = number of instructions) ends the program.

    The program ends after its last instruction. These raise ValueError: an unknown instruction, a
    number or a jump outside its range (when it is carried out), too few values on the stack, and
    more than 1000 steps.
    """

    def fitted(number: int) -> int:
        if overflow == "wrap":
            return (number + 128) % 256 - 128
        return min(max(number, -128), 127)

    needed = {"pop": 1, "dup": 1, "print": 1, "jnz": 1, "swap": 2, "add": 2, "sub": 2, "mul": 2}
    stack: list[int] = []
    printed: list[int] = []
    at = steps = 0
    while at < len(program):
        verb, *words = program[at].split()
        at, steps = at + 1, steps + 1
        if len(stack) < needed.get(verb, 0) or steps > 1000:
            raise ValueError("too few values or too many steps")
        if verb == "push" and -128 <= int(words[0]) <= 127:
            stack.append(int(words[0]))
        elif verb == "pop":
            stack.pop()
        elif verb == "dup":
            stack.append(stack[-1])
        elif verb == "swap":
            stack[-2:] = [stack[-1], stack[-2]]
        elif verb == "print":
            printed.append(stack.pop())
        elif verb in ("add", "sub", "mul"):
            top, below = stack.pop(), stack.pop()
            if verb == "add":
                stack.append(fitted(below + top))
            elif verb == "mul":
                stack.append(fitted(below * top))
            elif order == "popped":
                stack.append(fitted(top - below))
            else:
                stack.append(fitted(below - top))
        elif verb in ("jmp", "jnz") and 0 <= int(words[0]) <= len(program):
            if verb == "jmp" or stack.pop() != 0:
                at = int(words[0])
        else:
            raise ValueError(f"cannot do {program[at - 1]}")
    return printed


@family(
    rules={
        "repeat": {
            True: "An item may be packed any number of times.",
            False: "An item is packed once at most.",
        },
        "prefer": {
            "light": "Of packings of equal value the lightest is best, then the one with the "
            "fewest "
            "items, then the one whose sorted list of names is alphabetically first.",
            "fewest": "Of packings of equal value the one with the fewest items is best, then the "
            "one "
            "whose sorted list of names is alphabetically first.",
        },
    },
    edges=[
        [[["a", 3, 4], ["b", 2, 3], ["c", 1, 1]], 4],
        [[["a", 2, 2], ["b", 1, 1], ["c", 1, 1]], 2],
        [[], 5],
        [[["a", 6, 9]], 5],
        [[["a", 2, 5]], 7],
        [[["a", 1, 1]], 0],
        [[["b", 2, 3], ["a", 2, 3]], 2],
        [[["a", 4, 4], ["b", 2, 2], ["c", 3, 4]], 5],
        [[["a", 5, 6], ["b", 2, 3]], 6],
        [[["a", 5, 4], ["b", 1, 2], ["c", 1, 2]], 5],
        [[["a", 4, 4], ["b", 2, 2], ["c", 2, 2]], 4],
        [[["a", 6, 6], ["b", 2, 3], ["c", 3, 3]], 6],
        [[["a", 7, 5], ["b", 3, 3], ["c", 3, 2]], 7],
        [[["d", 5, 7], ["e", 2, 4], ["f", 2, 3]], 5],
        [[["a", 4, 5], ["b", 3, 3], ["c", 1, 1]], 4],
        [[["a", 7, 8], ["b", 2, 2], ["c", 3, 4]], 7],
        [[["d", 3, 4], ["a", 1, 1], ["b", 1, 1], ["c", 1, 2]], 4],
    ],
    draw=lambda d: [
        [
            [name, weight, max(1, weight - d.randint(0, 2))]
            for name, weight in zip(d.sample("abcdef", 5), d.choices(range(1, 7), k=5), strict=True)
        ],
        d.randint(4, 9),
    ],
)
def pack(items: list[list[str | int]], capacity: int, *, repeat: bool, prefer: str) -> list[str]:
    """Pack items into a bag so that their value is largest; return their names, sorted.

    An item is [name, weight, value]; weight and value are at least 1, names are distinct. The
    weights of the packed items together are at most `capacity`.
    """
    best: list[tuple[int, int, int, list[str]]] = [(0, 0, 0, [])] * (capacity + 1)
    for name, weight, value in sorted(items, key=lambda item: str(item[0])):
        heavy, worth, label = int(weight), int(value), str(name)
        rooms = range(heavy, capacity + 1)
        for room in rooms if repeat else rooms[::-1]:
            less = best[room - heavy]
            cost = less[1] + (heavy if prefer == "light" else 0)
            names = sorted([*less[3], label])
            best[room] = min(best[room], (less[0] - worth, cost, less[2] + 1, names))
    return best[capacity][3]
