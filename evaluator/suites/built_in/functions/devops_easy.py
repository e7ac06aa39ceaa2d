"""DevOps, one idea each: sizes, retries, log levels, environment files."""

from evaluator.suites.built_in.functions.family import family


@family(
    rules={
        "base": {
            1024: "K is 1024 bytes, M is 1024 K, G is 1024 M.",
            1000: "K is 1000 bytes, M is 1000 K, G is 1000 M.",
        },
        "lower": {
            True: "The unit may be written in lower case.",
            False: "The unit is a capital letter; a small one is a ValueError.",
        },
    },
    edges=[
        ["10K"],
        ["3m"],
        ["512"],
        ["2 G"],
        ["0"],
        ["1B"],
        ["7b"],
        ["K"],
        [""],
        ["-4K"],
        ["1.5M"],
        ["5T"],
        [" 8M "],
        ["1KM"],
    ],
    draw=lambda d: [f"{d.randint(0, 99)}{d.choice(['', ' '])}{d.choice(['', *'BKMGkmgx'])}"],
    n_examples=3,
)
def parse_size(text: str, *, base: int, lower: bool) -> int:
    """Parse a size such as `10K` into bytes.

    The text is a whole number, then at most one unit of B (bytes), K, M and G; without unit it is
    bytes. Spaces around and between the two are allowed. Anything else, a sign too, raises
    ValueError.
    """
    text = text.strip()
    if lower:
        text = text.upper()
    number, unit = (text, "B") if text[-1:].isdecimal() else (text[:-1].rstrip(), text[-1:])
    if not number.isdecimal() or unit not in ("B", "K", "M", "G"):
        raise ValueError(f"not a size: {text}")
    return int(number) * int(base ** "BKMG".index(unit))


@family(
    rules={
        "growth": {
            "double": "Each delay is twice the one before.",
            "linear": "Each delay is `base` longer than the one before.",
        },
        "eager": {
            True: "The first retry comes at once (delay 0); the one after it waits `base`.",
            False: "The first retry waits `base`.",
        },
    },
    edges=[[4, 1, 5], [6, 3, 100], [0, 1, 9], [1, 2, 9], [3, 5, 4], [5, 2, 8]],
    draw=lambda d: [d.randint(2, 8), d.randint(1, 9), d.randint(1, 90)],
)
def retry_delays(attempts: int, base: int, cap: int, *, growth: str, eager: bool) -> list[int]:
    """Return the delays in seconds before each of `attempts` retries.

    No delay is longer than `cap`. `base` and `cap` are at least 1.
    """
    delays = [0] if eager else []
    for step in range(attempts):
        delays.append(base * 2**step if growth == "double" else base * (step + 1))
    return [min(delay, cap) for delay in delays[:attempts]]


@family(
    rules={
        "unknown": {
            "skip": "A line without a level is not counted.",
            "previous": "A line without a level belongs to the line before and counts with its "
            "level; before the first level it is not counted.",
        },
        "warn": {
            True: "WARN and WARNING are one level, counted as WARNING.",
            False: "WARN is no level; only WARNING is.",
        },
    },
    edges=[
        [["ERROR disk full", "  at line 3", "INFO up"]],
        [["WARN slow", "WARNING hot", "trace"]],
        [[]],
        [["", "ERROR"]],
        [["error small", "INFORMATION no"]],
        [[" INFO padded", "DEBUG x ERROR y"]],
    ],
    draw=lambda d: [
        d.some(
            ["INFO a", "ERROR b", "WARN c", "WARNING d", "DEBUG e", "  at f", "", "Error g"], 9, 3
        )
    ],
)
def count_levels(lines: list[str], *, unknown: str, warn: bool) -> dict[str, int]:
    """Count log lines by level.

    The level is the first word of a line, exactly one of DEBUG, INFO, WARNING and ERROR. Levels
    that do not occur are not in the result.
    """
    counts: dict[str, int] = {}
    level = ""
    for line in lines:
        word = (line.split() or [""])[0]
        if warn and word == "WARN":
            word = "WARNING"
        if word in ("DEBUG", "INFO", "WARNING", "ERROR"):
            level = word
        elif unknown == "skip":
            continue
        if level:
            counts[level] = counts.get(level, 0) + 1
    return counts


@family(
    rules={
        "quotes": {
            True: "A value that begins and ends with the same quote, ' or \", loses both.",
            False: "Quotes are kept as they are.",
        },
        "override": {
            True: "Of a name given twice the later value counts.",
            False: "Of a name given twice the earlier value counts.",
        },
    },
    edges=[
        ["PORT=80\n# note\nHOST = 'web'\nPORT=81"],
        ['A="x=y"\nexport B=2'],
        [""],
        ["A=\n=5\nplain"],
        ["Q='\nR=''\nS='a\""],
        ["  C = 3  \n\n"],
        ["A=1#x\n#A=2"],
        ['A="b"'],
    ],
    draw=lambda d: [
        "\n".join(d.some(["A=1", "A='2'", 'B = "q"', "# A=3", "export A=4", "C=", "B=b'", "x"], 7))
    ],
)
def parse_env(text: str, *, quotes: bool, override: bool) -> dict[str, str]:
    """Parse an environment file into a dict.

    Each line is `NAME=value`, split at the first `=`, with spaces around both removed. `export `
    before the name is dropped. Lines that begin with `#`, have no `=` or have no name are ignored.
    """
    found: dict[str, str] = {}
    for line in map(str.strip, text.split("\n")):
        name, equals, value = line.removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if line.startswith("#") or not equals or not name:
            continue
        if quotes and len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
            value = value[1:-1]
        if override or name not in found:
            found[name] = value
    return found
