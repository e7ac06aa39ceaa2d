"""What the gateway's processes say of themselves and of their upstreams, put together; pure.

What a process writes is of its own version, so a field that is missing or strange reads as unknown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from router.tables import GatewayProcess

UP, DOWN = "up", "down"
DEGRADED, GONE = "degraded", "gone"


@dataclass(frozen=True)
class Process:
    """One gateway process as it last reported."""

    host: str
    pid: int
    seen_at: datetime
    started_at: datetime
    is_alive: bool
    counts: Mapping[str, int]
    """What was done since it started: calls, retries, fallbacks, …"""
    cache: Mapping[str, int]
    file: str | None
    digest: str
    problem: str | None
    """Why a change of its configuration file was not taken over."""

    @property
    def status(self) -> str:
        """`up`, `degraded` (its file is refused) or `gone`."""
        return GONE if not self.is_alive else DEGRADED if self.problem else UP


@dataclass(frozen=True)
class Circuit:
    """One upstream, or one model of it, over all processes that live."""

    upstream: str
    address: str
    model: str | None
    """None: the server itself."""
    up: int
    """Processes that ask it."""
    known: int
    """Processes that have asked it ever."""
    calls: int
    failures: int
    in_a_row: int
    """The longest row of failures that goes on."""
    last_failure: str | None
    down_for_s: float | None
    next_look_s: float | None
    limited_for_s: float | None
    first_byte_ms: float | None
    """Mean over processes, each counted by its calls."""

    @property
    def state(self) -> str:
        """`up` in every process, `down` in every one, else `degraded`."""
        return UP if self.up == self.known else DEGRADED if self.up else DOWN


def read_process(row: GatewayProcess, present: datetime, alive: timedelta) -> Process:
    """Read what a process reported; `alive` is how long it may be silent."""
    state = row.state
    file = _mapping(state.get("file"))
    return Process(
        host=row.host,
        pid=row.pid,
        seen_at=row.seen_at,
        started_at=row.started_at,
        is_alive=present - row.seen_at <= alive,
        counts=_whole_numbers(state.get("counts")),
        cache=_whole_numbers(state.get("cache")),
        file=_text(file.get("name")),
        digest=(_text(file.get("digest")) or "")[:12],
        problem=_text(file.get("problem")),
    )


def circuits(states: Iterable[Mapping[str, Any]]) -> list[Circuit]:
    """Put together what the processes with these states know: the servers by name, then models."""
    grouped: dict[tuple[str, str, str | None], list[Mapping[str, Any]]] = {}
    for state in states:
        told = state.get("upstreams")
        for row in told if isinstance(told, list) else ():
            circuit = _mapping(row)
            name, address = _text(circuit.get("upstream")), _text(circuit.get("address"))
            key = (name or "", address or "", _text(circuit.get("model")))
            grouped.setdefault(key, []).append(circuit)
    ordered = sorted(grouped.items(), key=lambda item: (*item[0][:2], item[0][2] or ""))
    return [_together(*key, rows) for key, rows in ordered]


def _together(
    upstream: str, address: str, model: str | None, rows: Sequence[Mapping[str, Any]]
) -> Circuit:
    failed = [_text(row.get("last_failure")) for row in rows]
    timed = [
        (ms, max(1.0, _number(row.get("calls")) or 0.0))
        for row in rows
        if (ms := _number(row.get("first_byte_ms"))) is not None
    ]
    return Circuit(
        upstream=upstream,
        address=address,
        model=model,
        up=sum(row.get("state") == UP for row in rows),
        known=len(rows),
        calls=int(sum(_each(rows, "calls"))),
        failures=int(sum(_each(rows, "failures"))),
        in_a_row=int(max(_each(rows, "failures_in_a_row"), default=0)),
        last_failure=next((one for one in failed if one), None),
        down_for_s=max(_each(rows, "down_for_s"), default=None),
        next_look_s=min(_each(rows, "next_look_s"), default=None),
        limited_for_s=max(_each(rows, "limited_for_s"), default=None),
        first_byte_ms=(
            sum(ms * n for ms, n in timed) / sum(n for _, n in timed) if timed else None
        ),
    )


def _each(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [value for row in rows if (value := _number(row.get(name))) is not None]


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _whole_numbers(value: Any) -> dict[str, int]:
    return {
        name: int(number)
        for name, told in _mapping(value).items()
        if (number := _number(told)) is not None
    }
