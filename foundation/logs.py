"""How every process writes its log: one configuration, lines with ids, no secret on any of them.

Text on a terminal, one JSON object a line elsewhere (`FLYWHEEL_LOG_FORMAT`), on standard error. A
line has time, level, logger, message, the ids that are bound (`foundation.log_ids`), and what its
writer gave as `extra`. Prompts and answers are no business of a log: whoever logs names ids, and a
line is cut at `MOST_CHARACTERS`.
"""

import logging
import logging.config
import sys
import time
from datetime import UTC, datetime
from typing import Any, Final

from foundation import log_ids, trace_context
from foundation.redaction import redact
from foundation.settings import get_settings

MOST_CHARACTERS: Final = 8_000
"""Of a message or a traceback; of a message the start is kept, of a traceback the end."""

_OF_A_RECORD: Final = frozenset(
    (*vars(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime", "taskName")
)
_NOISY: Final = ("httpx", "httpcore", "fsspec", "botocore", "urllib3", "asyncio", "LiteLLM")
"""Libraries that say at INFO what we say ourselves."""

_BETWEEN: Final = "\x1f"
"""Between two texts that are redacted together: white space to every pattern."""

access: Final = logging.getLogger("flywheel.access")


def configuration(service: str) -> dict[str, Any]:
    """Return what `logging.config.dictConfig` takes, uvicorn's loggers included.

    uvicorn hands it to each of its processes. What is set up already stays: a run's listener, and
    whoever else listens.

    Args:
        service: name of the process on every line: service, gateway, engine, worker, scheduler.
    """
    settings = get_settings()
    as_json = settings.log_format == "json"
    if settings.log_format == "auto":
        as_json = not sys.stderr.isatty()
    formatter = "foundation.logs.JsonLines" if as_json else "foundation.logs.TextLines"
    through = {"handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": formatter, "service": service}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "lines",
                "stream": "ext://sys.stderr",
            }
        },
        "root": {"handlers": ["stderr"], "level": settings.log_level},
        "loggers": {
            **{name: through for name in ("uvicorn", "uvicorn.error", "celery")},
            "uvicorn.access": {"handlers": [], "propagate": False},  # `write_access` says more
            **{name: {"level": "WARNING"} for name in _NOISY},
        },
    }


def configure(service: str) -> None:
    """Let this process write its log so."""
    logging.config.dictConfig(configuration(service))
    logging.captureWarnings(True)


class _Lines(logging.Formatter):
    """What both formats share."""

    def __init__(self, service: str = "") -> None:
        super().__init__()
        self.service = service

    def said(self, record: logging.LogRecord) -> str:
        """Return a record's message without secrets."""
        text = record.getMessage()
        shown = redact(text[:MOST_CHARACTERS])
        return shown if len(text) <= MOST_CHARACTERS else f"{shown}… ({len(text)} characters)"

    def fault(self, record: logging.LogRecord) -> str:
        """Return a record's traceback without secrets; empty if it has none."""
        if record.exc_info and record.exc_info[0] is not None:
            return redact(self.formatException(record.exc_info)[-MOST_CHARACTERS:])
        return redact(record.exc_text[-MOST_CHARACTERS:]) if record.exc_text else ""

    def beside(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the ids and what was given as `extra`, ids first."""
        given = {name: v for name, v in vars(record).items() if name not in _OF_A_RECORD}
        found: dict[str, Any] = {**log_ids.bound(), **trace_context.ids(), **given}
        found.pop("color_message", None)  # uvicorn's second wording
        ids: dict[str, Any] = {n: found.pop(n) for n in log_ids.NAMES if n in found}
        return _redacted({**ids, **found})


class TextLines(_Lines):
    """A line for people: time, level, logger, message, ids."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with its traceback below."""
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        told = "".join(f" {name}={value}" for name, value in self.beside(record).items())
        head = f"{at} {record.levelname:<7} {record.name}: {self.said(record)}"
        fault = self.fault(record)
        return f"{head}{told}\n{fault}" if fault else f"{head}{told}"


class JsonLines(_Lines):
    """A line for machines: one JSON object."""

    def __init__(self, service: str = "") -> None:
        from pythonjsonlogger.json import JsonEncoder

        super().__init__(service)
        self._encoder = JsonEncoder(ensure_ascii=False)

    def format(self, record: logging.LogRecord) -> str:
        """Return the object."""
        at = datetime.fromtimestamp(record.created, tz=UTC)
        line = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "service": self.service,
            "message": self.said(record),
            **self.beside(record),
        }
        fault = self.fault(record)
        if fault:
            line["exception"] = fault
        return self._encoder.encode(line)


def _redacted(values: dict[str, Any]) -> dict[str, Any]:
    """Return plain values, their texts without secrets; all texts at once, which costs as one."""
    texts = {n: str(v)[:MOST_CHARACTERS] for n, v in values.items() if not _is_number(v)}
    if not texts:
        return values
    shown = redact(_BETWEEN.join(text.replace(_BETWEEN, " ") for text in texts.values()))
    return {**values, **dict(zip(texts, shown.split(_BETWEEN), strict=True))}


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float)


def write_access(method: str, path: str, status: int, latency_ms: float, **more: Any) -> None:
    """Write the line of an answered request, if its kind is asked for; never its query or body."""
    wanted = get_settings().access_log
    if wanted == "none" or (wanted == "failures" and status < 400):
        return
    told = {"method": method, "path": path, "status": status, "latency_ms": round(latency_ms, 1)}
    level = logging.ERROR if status >= 500 else logging.INFO
    access.log(level, "%s %s %d", method, path, status, extra={**told, **more})
