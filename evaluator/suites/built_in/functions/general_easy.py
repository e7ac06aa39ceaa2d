"""General programming, one idea each: texts, lists, brackets, intervals, matrices."""

from collections import Counter

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "ones": {
            True: "A run of one is written with its count: 'a1'.",
            False: "A run of one is written without a count: 'a'.",
        },
        "order": {
            "after": "The count stands after the character.",
            "before": "The count stands before the character.",
        },
    },
    edges=[["aaab"], ["abcc"], [""], ["z"], ["aaaaaaaaaaaa"], ["aAa"], ["  x"], ["aabbaa"]],
    draw=lambda d: ["".join(d.choice("abC ") * d.randint(1, 4) for _ in range(d.randint(1, 6)))],
)
def run_lengths(text: str, *, ones: bool, order: str) -> str:
    """Compress a text: every run of one character becomes that character and the run's length."""
    runs: list[tuple[str, int]] = []
    for mark in text:
        if runs and runs[-1][0] == mark:
            runs[-1] = (mark, runs[-1][1] + 1)
        else:
            runs.append((mark, 1))
    parts = []
    for mark, length in runs:
        count = str(length) if ones or length > 1 else ""
        parts.append(mark + count if order == "after" else count + mark)
    return "".join(parts)


@family(
    rules={
        "angles": {
            True: "`<` and `>` are brackets too.",
            False: "`<` and `>` are ordinary characters.",
        },
        "depth": {
            True: "The result for a balanced text is the deepest nesting, 0 without brackets.",
            False: "The result for a balanced text is the number of pairs.",
        },
    },
    edges=[
        ["f(a[1], (b))"],
        ["<(>)"],
        [""],
        ["(]"],
        ["(("],
        [")("],
        ["{[()]}<>"],
        ["a > b"],
        ["<<>>"],
        ["()()"],
    ],
    draw=lambda d: [d.text(["()", "[]", "({})", "{[]}", "<x>", "<()>", "(", ">"], 5, 2)],
)
def check_brackets(text: str, *, angles: bool, depth: bool) -> int:
    """Check that the brackets ( ) [ ] { } of a text are balanced; return -1 where they are not.

    Other characters are ignored.
    """
    pairs = {")": "(", "]": "[", "}": "{"}
    if angles:
        pairs[">"] = "<"
    opened: list[str] = []
    found = 0
    for mark in text:
        if mark in pairs.values():
            opened.append(mark)
            found = max(found, len(opened)) if depth else found + 1
        elif mark in pairs and (not opened or opened.pop() != pairs[mark]):
            return -1
    return -1 if opened else found


@family(
    rules={
        "touching": {
            True: "Intervals that only touch, such as [1, 3] and [3, 5], are joined.",
            False: "Intervals that only touch, such as [1, 3] and [3, 5], stay apart.",
        },
        "longest": {
            True: "Return only the longest of the joined intervals (the leftmost of equally long "
            "ones) as a list of one.",
            False: "Return all joined intervals, ascending.",
        },
    },
    edges=[
        [[[1, 3], [2, 6], [8, 9]]],
        [[[1, 3], [3, 5], [9, 12]]],
        [[]],
        [[[5, 6], [1, 2]]],
        [[[1, 9], [2, 3], [9, 10]]],
        [[[0, 4], [6, 10]]],
    ],
    draw=lambda d: [
        [[start, start + d.randint(1, 4)] for start in d.ints(0, 14, 6, 2)],
    ],
)
def join_intervals(intervals: list[list[int]], *, touching: bool, longest: bool) -> list[list[int]]:
    """Join the intervals [start, end] that overlap. Each start is below its end; any order."""
    joined: list[list[int]] = []
    for start, end in sorted(intervals):
        if joined and (start < joined[-1][1] or (touching and start == joined[-1][1])):
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    if longest:
        return sorted(joined, key=lambda item: (item[0] - item[1], item[0]))[:1]
    return joined


@family(
    rules={
        "case": {
            True: "Capital and small letters differ.",
            False: "Words are counted in lower case.",
        },
        "ties": {
            "alphabetical": "Equally frequent words are ordered alphabetically.",
            "latest": "Of equally frequent words the one whose last occurrence is later comes "
            "first.",
        },
    },
    edges=[
        ["the cat the dog", 2],
        ["B a b A c", 3],
        ["", 2],
        ["one", 5],
        ["x y z", 0],
        ["a b c a b d", 3],
        ["b a", 1],
        ["b b a", 1],
    ],
    draw=lambda d: [" ".join(d.some(["a", "A", "b", "c", "B", "dd"], 9, 3)), d.randint(1, 4)],
)
def top_words(text: str, count: int, *, case: bool, ties: str) -> list[str]:
    """Return the `count` most frequent words, most frequent first.

    Words are separated by white space. Fewer are returned where there are fewer.
    """
    words = text.split() if case else text.lower().split()
    counts = Counter(words)
    if ties == "alphabetical":
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
    else:
        last = {word: index for index, word in enumerate(words)}
        ordered = sorted(counts, key=lambda word: (-counts[word], -last[word]))
    return ordered[:count]
