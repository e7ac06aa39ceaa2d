"""Reports errors to Sentry, or to what speaks its protocol, by configuration only.

`FLYWHEEL_SENTRY_DSN` or `SENTRY_DSN` switches it on. Whatever a process logs with its traceback (a
failed job, a request that broke) becomes a report. It has the traceback's places, the ids of the
log line, and words without secrets; no values of variables, no request, no prompt.
"""

import logging
import os
from collections.abc import Mapping
from importlib import metadata
from typing import Any, Final

from foundation import log_ids, trace_context
from foundation.errors import MissingExtra
from foundation.redaction import redact
from foundation.settings import get_settings

MOST_CHARACTERS: Final = 500
"""Of an error's words: a library may have put what it worked on into them."""
_SENT: Final = (
    *("event_id", "timestamp", "platform", "level", "logger", "logentry", "message"),
    *("exception", "release", "environment", "server_name", "sdk", "tags", "contexts"),
)
"""Parts of a report that leave: others tell of requests, variables and earlier lines."""


def configure(service: str) -> bool:
    """Begin to report if a DSN is set; return whether one is.

    Raises:
        MissingExtra: a DSN is set, and [observe] is not installed.
    """
    secret = get_settings().sentry_dsn
    dsn = secret.get_secret_value() if secret else os.environ.get("SENTRY_DSN")
    if not dsn:
        return False
    try:
        import sentry_sdk
        from sentry_sdk.integrations.logging import LoggingIntegration
    except ImportError as error:
        raise MissingExtra("sentry_sdk", "observe") from error
    sentry_sdk.init(
        dsn=dsn,
        release=f"agent-flywheel@{metadata.version('agent-flywheel')}",
        environment=os.environ.get("SENTRY_ENVIRONMENT"),
        integrations=[LoggingIntegration(level=None, event_level=logging.ERROR)],
        auto_enabling_integrations=False,
        default_integrations=False,
        include_local_variables=False,
        include_source_context=False,
        max_breadcrumbs=0,
        traces_sample_rate=None,
        before_send=_cleaned,
    )
    sentry_sdk.set_tag("service", service)
    return True


def flush() -> None:
    """Send what waits, for at most 5 s."""
    if os.environ.get("SENTRY_DSN") or get_settings().sentry_dsn is not None:
        import sentry_sdk

        sentry_sdk.flush(5)


def _cleaned(event: Any, hint: Mapping[str, Any]) -> Any:
    """Return what leaves of a report."""
    found = {name: event[name] for name in _SENT if name in event}
    ids = {**log_ids.bound(), **trace_context.ids()}
    found["tags"] = {**found.get("tags", {}), **{name: str(value) for name, value in ids.items()}}
    entry = found.get("logentry")
    if isinstance(entry, dict):  # the message with its values set in; its template alone groups it
        found["logentry"] = {
            name: entry[name] for name in ("message", "formatted") if name in entry
        }
    cleaned: Any = _without_secrets(found)
    for one in cleaned.get("exception", {}).get("values", []):
        one["value"] = str(one.get("value") or "")[:MOST_CHARACTERS]
        for frame in (one.get("stacktrace") or {}).get("frames", []):
            frame.pop("vars", None)
    return cleaned


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {name: _without_secrets(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(inner) for inner in value]
    return value
