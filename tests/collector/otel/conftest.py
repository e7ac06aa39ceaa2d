"""The service, and the OpenTelemetry SDK as its users set it up: an endpoint and nothing else."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from sqlmodel import Session, select
from upstream_app import Server

from collector.tables import Interaction, InteractionPayload
from flywheel.app import create_app

Calls = Callable[[], list[tuple[Interaction, InteractionPayload]]]


@pytest.fixture
def service(database: str) -> Iterator[Server]:
    with Server(create_app()) as server:
        yield server


@pytest.fixture
def calls(session: Session) -> Calls:
    """What is stored now, by the start of the calls."""

    def look() -> list[tuple[Interaction, InteractionPayload]]:
        session.rollback()
        session.expire_all()
        rows = session.exec(select(Interaction).order_by(Interaction.started_at)).all()
        return [(row, session.get_one(InteractionPayload, row.id)) for row in rows]

    return look


@pytest.fixture
def sdk(service: Server) -> Iterator[SimpleNamespace]:
    """A tracer and an `emit(name, attributes, body)` of log events in the current span."""
    resource = Resource.create({"service.name": "shop"})
    headers = {"x-flywheel-role": "coder"}
    spans = OTLPSpanExporter(endpoint=f"{service.url}/otlp/v1/traces", headers=headers)
    logs = OTLPLogExporter(endpoint=f"{service.url}/otlp/v1/logs", headers=headers)
    tracing, logging = TracerProvider(resource=resource), LoggerProvider(resource=resource)
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    logging.add_log_record_processor(SimpleLogRecordProcessor(logs))
    logger = logging.get_logger("agents")

    def emit(name: str, attributes: dict[str, Any], body: Any = None) -> None:
        logger.emit(LogRecord(event_name=name, attributes=attributes, body=body))

    yield SimpleNamespace(tracer=tracing.get_tracer("agents", "1.2"), emit=emit)
    tracing.shutdown()
    logging.shutdown()
