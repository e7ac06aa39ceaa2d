"""Traces by OpenTelemetry, by configuration only: off, a span costs a microsecond.

`FLYWHEEL_OTLP_ENDPOINT`, or OpenTelemetry's own variables, switch them on; its other variables
(`OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, …) hold as everywhere. Spans carry ids, names
and numbers, never a prompt or an answer. The only file that imports the SDK.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Final, Literal, Protocol

from foundation.errors import MissingExtra
from foundation.settings import get_settings
from foundation.trace_context import is_well_formed

Kind = Literal["internal", "server", "client", "producer", "consumer"]

ENDPOINT_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Span(Protocol):
    """What a block may say about itself."""

    def say(self, **attributes: Any) -> None:
        """Add attributes; underscores twice stand for a dot, and None is left out."""

    def fail(self, kind: str) -> None:
        """Mark it as failed, for a reason of one word."""


class _NoSpan:
    """A span while nothing is traced."""

    __slots__ = ()

    def __enter__(self) -> "_NoSpan":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def say(self, **attributes: Any) -> None:
        pass

    def fail(self, kind: str) -> None:
        pass


class _RealSpan:
    def __init__(self, span: Any) -> None:
        self._span = span

    def say(self, **attributes: Any) -> None:
        self._span.set_attributes(_named(attributes))

    def fail(self, kind: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("error.type", kind)
        self._span.set_status(StatusCode.ERROR)


_NO_SPAN: Final = _NoSpan()
_provider: Any = None
_tracer: Any = None


def configure(service: str) -> bool:
    """Begin to trace if an endpoint is set; return whether one is.

    Args:
        service: name of the process: its spans are of `flywheel-<service>`.

    Raises:
        MissingExtra: an endpoint is set, and [observe] is not installed.
    """
    global _provider, _tracer
    endpoint = get_settings().otlp_endpoint
    if endpoint is None and not any(os.environ.get(name) for name in ENDPOINT_VARIABLES):
        return False
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtra("opentelemetry.sdk", "observe") from error
    stop()
    exporter = OTLPSpanExporter(endpoint and f"{endpoint.rstrip('/')}/v1/traces")
    names = {"service.name": f"flywheel-{service}", "service.namespace": "flywheel"}
    _provider = TracerProvider(resource=Resource.create(names), shutdown_on_exit=True)
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("flywheel")
    return True


def is_on() -> bool:
    """Say whether this process traces."""
    return _tracer is not None


def flush() -> None:
    """Send what waits, for at most 5 s."""
    if _provider is not None:
        _provider.force_flush(5_000)


def stop() -> None:
    """Send what waits and trace no more."""
    global _provider, _tracer
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None


def span(
    name: str, kind: Kind = "internal", parent: str | None = None, **attributes: Any
) -> AbstractContextManager[Span]:
    """Open a span for a block; an exception that leaves the block marks it as failed, by its class.

    Args:
        name: few different ones: no ids.
        kind: as OpenTelemetry has it.
        parent: W3C `traceparent` of who asked; else it is below the current span, if there is one.
        attributes: as of `Span.say`.
    """
    if _tracer is None:
        return _NO_SPAN
    return _opened(name, kind, parent, attributes)


@contextmanager
def _opened(
    name: str, kind: Kind, parent: str | None, attributes: Mapping[str, Any]
) -> Iterator[Span]:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = None
    if parent is not None and is_well_formed(parent):
        context = TraceContextTextMapPropagator().extract({"traceparent": parent})
    with _tracer.start_as_current_span(
        name,
        context=context,
        kind=SpanKind[kind.upper()],
        attributes=_named(attributes),
        record_exception=False,  # its words may hold what was asked
        set_status_on_exception=False,
    ) as opened:
        real = _RealSpan(opened)
        try:
            yield real
        except BaseException as error:
            real.fail(type(error).__name__)
            raise


def _named(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.replace("__", "."): value if isinstance(value, bool | int | float) else str(value)
        for name, value in attributes.items()
        if value is not None
    }
