"""What the gateway counts of its calls, after they were answered, and none of their words."""

from typing import Any, Final

from foundation.meters import GATEWAY, Counter, Histogram, gauge
from foundation.settings import get_settings
from router.call import Call
from router.spending import Spent

REFUSED: Final = "refused"
"""Outcome of a call that we would not pass on, or that its upstream found wrong."""

NO_ROLE: Final = "unknown"
"""Stands for the role of a call that names none we know: a caller must not invent series."""

requests = Counter(
    "flywheel_gateway_requests",
    "router",
    "Calls by how they ended (success, error, cut, refused) and the status of their answer.",
    ("role", "dialect", "outcome", "code"),
    (GATEWAY,),
)
seconds = Histogram(
    "flywheel_gateway_request_seconds",
    "router",
    "From a call's arrival to the end of its answer.",
    ("role",),
    (GATEWAY,),
)
first_byte = Histogram(
    "flywheel_gateway_first_byte_seconds",
    "router",
    "From a streamed call's arrival to the first byte of its answer.",
    ("role",),
    (GATEWAY,),
)
tries = Counter(
    "flywheel_gateway_upstream_tries",
    "router",
    "Requests sent to upstreams: ok, the status that they refused with, or why none came.",
    ("upstream", "outcome"),
    (GATEWAY,),
)
fallbacks = Counter(
    "flywheel_gateway_fallbacks",
    "router",
    "Calls that another model answered than the one chosen.",
    ("role",),
    (GATEWAY,),
)
cached = Counter(
    "flywheel_gateway_cached", "router", "Calls answered by the cache.", ("role",), (GATEWAY,)
)
beside = Counter(
    "flywheel_gateway_beside_calls",
    "router",
    "Calls made beside one: of a consensus, or copies for the log alone.",
    ("role", "way"),
    (GATEWAY,),
)
tokens = Counter(
    "flywheel_gateway_tokens",
    "router",
    "Tokens of prompts (input) and answers (output), those of calls beside included.",
    ("role", "direction"),
    (GATEWAY,),
)
cost = Counter(
    "flywheel_gateway_cost_usd", "router", "What calls cost, in US dollars.", ("role",), (GATEWAY,)
)
fresh = gauge(
    "flywheel_gateway_database_fresh",
    "router",
    "1 while who serves is known anew twice a second; 0: the last picture stays.",
    (),
    (GATEWAY,),
)
up = gauge(
    "flywheel_gateway_upstream_up",
    "router",
    "1 while an upstream's circuit is closed, as the answering process sees it.",
    ("upstream", "model"),
    (GATEWAY,),
)


def role_of(role: str | None) -> str:
    """Return a role as a label."""
    return role if role is not None and role in get_settings().roles else NO_ROLE


def count_call(call: Call | None, role: str | None, dialect: str, outcome: str, code: int) -> None:
    """Count a call that is over."""
    label = role_of(role)
    requests.inc(label, dialect, outcome, str(code))
    if call is None:
        return
    seconds.observe(call.elapsed_ms() / 1000, label)
    if call.ttft_ms is not None and call.asked is not None and call.asked.stream:
        first_byte.observe(call.ttft_ms / 1000, label)
    if call.cached:
        cached.inc(label)
    if call.fallback_of is not None:
        fallbacks.inc(label)
    count_tries(call)


def count_tries(call: Call) -> None:
    """Count what a call's attempts came to."""
    for attempt in call.attempts:
        said: Any = attempt.get("error") or attempt.get("status", 0)
        is_good = isinstance(said, int) and said < 400
        tries.inc(attempt["upstream"], "ok" if is_good else str(said))


def count_spent(role: str, spent: Spent) -> None:
    """Count what an answer took."""
    label = role_of(role)
    if spent.input_tokens:
        tokens.inc(label, "input", by=spent.input_tokens)
    if spent.output_tokens:
        tokens.inc(label, "output", by=spent.output_tokens)
    if spent.cost_usd:
        cost.inc(label, by=spent.cost_usd)
