"""Which trace the present code belongs to, without loading anything: part of the light client.

Where nobody has imported OpenTelemetry, nothing is traced; where somebody has, its current span
says it. `foundation.tracing` makes our own spans.
"""

import re
import sys
from typing import Any, Final

_WELL_FORMED: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent() -> str | None:
    """Return the W3C trace context of the current span, None outside of any."""
    context = _current()
    if context is None:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def ids() -> dict[str, str]:
    """Return `trace_id` and `span_id` of the current span; empty outside of any."""
    context = _current()
    if context is None:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def is_well_formed(header: str) -> bool:
    """Say whether a header is a trace context of version 00."""
    return _WELL_FORMED.fullmatch(header) is not None


def _current() -> Any:
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not hasattr(trace, "get_current_span"):  # or half imported
        return None
    context = trace.get_current_span().get_span_context()
    return context if context.is_valid else None
