"""Backend, one idea each: repeated requests, balances, secrets, transitions."""

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "keep": {
            "first": "Of several requests with one key the first is kept.",
            "last": "Of several requests with one key the last is kept, at its own place.",
        },
        "blank": {
            "keep": "Requests with an empty key are never repeats: all are kept.",
            "drop": "Requests with an empty key are dropped.",
        },
    },
    edges=[
        [[["a", 1], ["b", 2], ["a", 3]]],
        [[["", 1], ["a", 2], ["", 3]]],
        [[]],
        [[["a", 1], ["b", 1], ["b", 2], ["a", 2], ["c", 0]]],
        [[["A", 1], ["a", 2]]],
    ],
    draw=lambda d: [[[d.choice(["", "a", "b", "c"]), d.randint(0, 9)] for _ in range(6)]],
)
def drop_repeats(
    requests: list[list[str | int]], *, keep: str, blank: str
) -> list[list[str | int]]:
    """Return the requests without repeats, in their order.

    A request is [idempotency key, payload]; requests with equal keys are one and the same.
    """
    seen: set[str] = set()
    kept = []
    for key, payload in requests if keep == "first" else requests[::-1]:
        if key not in seen and (key or blank == "keep"):
            kept.append([key, payload])
        if key:
            seen.add(str(key))
    return kept if keep == "first" else kept[::-1]


@family(
    rules={
        "overdraft": {
            "skip": "A withdrawal that would make the balance negative is skipped.",
            "stop": "At a withdrawal that would make the balance negative the run ends; it and all "
            "later entries are not applied.",
            "partial": "A withdrawal takes no more than there is, so that the balance becomes 0.",
            "fee": "Every withdrawal is applied; each one after which the balance is negative "
            "costs "
            "a fee of 5 on top.",
        },
    },
    edges=[
        [10, [5, -20, 3]],
        [0, [-1, 4, -4]],
        [7, []],
        [3, [-3, -1, 10, -5]],
        [0, [0]],
        [20, [-15, -10, -5, 40, -1]],
    ],
    draw=lambda d: [d.randint(0, 20), d.ints(-15, 12, 8, 3)],
)
def final_balance(balance: int, entries: list[int], *, overdraft: str) -> int:
    """Apply deposits (positive) and withdrawals (negative) to a balance, in order; return it.

    The balance is not negative at the beginning.
    """
    for amount in entries:
        if overdraft == "fee":
            balance += amount
            if amount < 0 and balance < 0:
                balance -= 5
        elif overdraft == "partial":
            balance = max(balance + amount, 0)
        elif balance + amount >= 0:
            balance += amount
        elif overdraft == "stop":
            break
    return balance


@family(
    rules={
        "shown": {
            "end": "The last 4 characters stay readable.",
            "both": "The first 2 and the last 2 characters stay readable.",
        },
        "dashes": {
            True: "A dash is never masked.",
            False: "A dash is masked like any other character.",
        },
    },
    edges=[
        ["sk-12345678"],
        ["1234-5678-9012"],
        [""],
        ["abcd"],
        ["abcdefgh"],
        ["abcdefghi"],
        ["-a-b-c-d-"],
    ],
    draw=lambda d: [d.text("ab3-x7", 14, 5)],
)
def mask_secret(secret: str, *, shown: str, dashes: bool) -> str:
    """Return the secret with its characters masked by `*`, but for a few that stay readable.

    A secret of 8 or fewer characters is masked entirely (by the rule for dashes too). The length
    stays the same.
    """
    head, tail = (0, 4) if shown == "end" else (2, 2)
    marks = []
    for index, mark in enumerate(secret):
        readable = len(secret) > 8 and (index < head or index >= len(secret) - tail)
        if readable or (dashes and mark == "-"):
            marks.append(mark)
        else:
            marks.append("*")
    return "".join(marks)


@family(
    rules={
        "same": {
            True: "Staying in a state is always allowed.",
            False: "Staying in a state is a transition that must be listed like any other.",
        },
        "report": {
            "state": "The result is the last state that was reached.",
            "count": "The result is the number of steps that were taken, as text.",
        },
    },
    edges=[
        [{"new": ["paid"], "paid": ["sent"]}, ["new", "paid", "sent"]],
        [{"new": ["paid"]}, ["new", "new", "paid"]],
        [{}, ["new"]],
        [{"a": ["a", "b"]}, ["a", "a", "b", "a", "b"]],
        [{"a": ["b"]}, ["b", "a"]],
        [{"a": ["b"], "b": ["a"]}, ["a", "b", "b", "a", "a", "b"]],
    ],
    draw=lambda d: [
        {state: d.few("abc", 3, 1) for state in "abc"},
        d.some("abc", 8, 3),
    ],
)
def follow_states(
    transitions: dict[str, list[str]], path: list[str], *, same: bool, report: str
) -> str:
    """Follow a path of states as long as every step is allowed, and tell how far it leads.

    The path has at least one state, the start. `transitions` lists the states that may follow each
    state; a state without an entry is final. At the first step that is not allowed the walk ends.
    """
    taken = 0
    for state, following in zip(path, path[1:], strict=False):
        allowed = following in transitions.get(state, [])
        if not (allowed or (same and state == following)):
            break
        taken += 1
    return path[taken] if report == "state" else str(taken)
