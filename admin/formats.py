"""How values read on a page: numbers, shares, ages, durations, JSON; pure template filters."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

MISSING = "–"
"""What stands where a value is unknown."""

_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_TONES = {
    "good": (
        "success kept done production promoted promote deploy train yes pass passed stored initial "
        "healthy ok pays up answers open on"
    ),
    "bad": (
        "error failed dropped quarantined rolled_back rollback halted rejected fail lost no wrong "
        "crash forbidden alarm quarantine does_not_pay down worse"
    ),
    "warn": (
        "silent cut cancelled stay stayed wait iterate retired stopped corrected ab_test timeout "
        "memory undecided proposed revoked expired trying assisted gone "
        "degraded distrusted"
    ),
    "busy": "running queued experimental candidate now",
}
_TONE_OF = {word: tone for tone, words in _TONES.items() for word in words.split()}


def tone(word: str) -> str:
    """Return the colour family of a status or outcome word: good, bad, warn, busy or calm."""
    return _TONE_OF.get(word.lower().replace(" ", "_").replace("-", "_"), "calm")


def number(value: float | None) -> str:
    """Return a count or small figure: `12,345`, `0.25`; a dash for None."""
    if value is None:
        return MISSING
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.1f}"


def counted(n: int, noun: str, mark: str = "") -> str:
    """Return a number of things: `1 job`, `1,234+ jobs`."""
    return f"{n:,}{mark} {noun}" if n == 1 and not mark else f"{n:,}{mark} {noun}s"


def evidence(e_value: float | None) -> str:
    """Return an e-value, which may be of any size: `0.004`, `19.8`, `1,240`, `6.1e+12`."""
    if e_value is None or e_value < 1e6:
        return number(e_value if e_value is None else float(f"{e_value:.3g}"))
    return f"{e_value:.1e}"


def compact(value: float) -> str:
    """Return a large count in three digits: `9,431` in full, then `48.2k`, `1.34M`, `2G`."""
    if abs(value) < 10_000:
        return number(value)
    units = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
    size, unit = next((s, u) for s, u in units if abs(value) >= 0.9995 * s)
    return f"{value / size:.3g}{unit}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share in 0-1 as percent: `56.2 %`."""
    return MISSING if share is None else f"{share * 100:.{digits}f} %"


def points(value: float | None) -> str:
    """Return percentage points with their sign: `+18.2`, `−3.0`."""
    if value is None:
        return MISSING
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    return f"{sign}{abs(value):.1f}"


def age(moment: datetime | None, present: datetime | None = None) -> str:
    """Return how long ago `moment` was, in its largest unit: `12 min ago`, `3 d ago`."""
    if moment is None:
        return "never"
    elapsed = (present or datetime.now(UTC)) - moment
    if elapsed < timedelta(seconds=5):
        return "just now"
    return f"{_largest_unit(elapsed.total_seconds())} ago"


def ahead(moment: datetime | None, present: datetime | None = None) -> str:
    """Return how long until `moment`, in its largest unit: `in 5 h`; `now` once it is there."""
    if moment is None:
        return "never"
    left_s = (moment - (present or datetime.now(UTC))).total_seconds()
    return f"in {_largest_unit(left_s)}" if left_s >= 1 else "now"


def dollars(value: float | None) -> str:
    """Return an amount of money: `$0.0042`, `$12.50`, `$1,240`; cents go where nobody counts."""
    if value is None:
        return MISSING
    if value and abs(value) < 0.01:
        return f"${value:.2g}" if abs(value) >= 1e-4 else "< $0.0001"
    return f"${value:,.2f}" if abs(value) < 1000 else f"${value:,.0f}"


def duration(seconds: float | None) -> str:
    """Return a length of time: `840 ms`, `2.4 s`, `5 min 12 s`, `3 h 05 min`."""
    if seconds is None:
        return MISSING
    if seconds < 0.0005:
        return "< 1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(n_bytes: float | None) -> str:
    """Return a number of bytes in its largest unit: `512 B`, `14.2 MB` (powers of 1024)."""
    if n_bytes is None:
        return MISSING
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n_bytes) < 1024:
            return f"{n_bytes:.0f} {unit}" if unit in ("B", "kB") else f"{n_bytes:.3g} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.3g} TB"


def milliseconds(value: float | None) -> str:
    """Return a length given in milliseconds, as `duration` does."""
    return MISSING if value is None else duration(value / 1000)


def moment(value: datetime | None) -> str:
    """Return a full UTC time: `2026-11-21 08:59:04 UTC`."""
    return MISSING if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_INDENTED: Final = json.JSONEncoder(indent=2, ensure_ascii=False, default=str)


def pretty(value: Any, limit: int = 200_000) -> str:
    """Return JSON indented for reading, cut with a note after `limit` characters.

    It stops there: indented, what is nested deeply is hundreds of times as long as it was.
    """
    parts: list[str] = []
    left = limit
    try:
        for part in _INDENTED.iterencode(value):
            if len(part) > left:
                return "".join([*parts, part[:left], f"\n… cut after {limit:,} characters"])
            parts.append(part)
            left -= len(part)
    except RecursionError:  # Python reads a little deeper than it writes
        return "… nested too deeply to be shown"
    return "".join(parts)


def shorten(text: str | None, limit: int = 160) -> str:
    """Return `text` on one line, cut at `limit` characters."""
    line = " ".join((text or "").split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def reveal(value: Any) -> Any:
    """Return text with its control characters made visible; other values as they are.

    Direction overrides can make code read otherwise than it runs (CVE-2021-42574), so each is shown
    as its code point. Tabs and line ends stay.
    """
    if type(value) is not str or not _HIDDEN.search(value):
        return value
    return _HIDDEN.sub(lambda found: f"⟨U+{ord(found.group()):04X}⟩", value)


def words(name: str | None) -> str:
    """Return an identifier as words: `rolled_back` → `rolled back`."""
    return (name or MISSING).replace("_", " ")


def model_name(name: str) -> str:
    """Return how a model is called on a page: a local folder by its last part, others whole."""
    return name.rstrip("/").rpartition("/")[2] if name.startswith("/") else name


def plain(value: Any) -> str:
    """Return a JSON scalar as text; containers as compact JSON; a dash for None."""
    if value is None:
        return MISSING
    if value in ({}, []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return a JSON object as `(dotted name, value)` rows by name, nested objects flattened.

    Sorted, since `jsonb` keeps no order: what belongs together stands together.
    """
    rows: list[tuple[str, Any]] = []
    for name, value in sorted(tree.items()):
        if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            value = {str(n): one for n, one in enumerate(value, start=1)}
        if isinstance(value, Mapping) and value:
            rows += leaves(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", value))
    return rows


def _largest_unit(seconds: float) -> str:
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit_s:
            return f"{int(seconds // unit_s)} {unit}"
    return f"{int(seconds)} s"
