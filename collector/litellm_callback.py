"""Log every call that an agent makes with litellm, by litellm's own callback.

    litellm.callbacks = [litellm_callback(flywheel)]

litellm calls its hooks by keyword and swallows what they raise, so the names of the parameters are
part of the contract and further ones are accepted. An id derived from `litellm_call_id` keeps a
call single, however many events it fires. A stream that the agent abandons fires no event at all:
`Flywheel.completion(stream=True)` records those.
"""

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from collector.calls import RECORDED
from collector.context import Episode, current_episode, entered
from collector.record import ERROR, SUCCESS, derived_id
from foundation.errors import BadInput

if TYPE_CHECKING:
    from collector.client import Flywheel

log = logging.getLogger(__name__)

_EPISODE = "flywheel_episode"
"""Where the episode of the calling code is kept: the later events come from other threads."""


def litellm_callback(client: "Flywheel") -> Any:
    """Return a litellm `CustomLogger` that records into `client`; imports litellm.

    The role is that of the episode or of the client, unless the call says
    `metadata={"agent_role": …}`; `metadata` may also hold `task_type` and `unit`.

    Raises:
        MissingExtra: litellm is not installed.
    """
    return _logger_class()(client)


@lru_cache(maxsize=1)
def _logger_class() -> type[Any]:
    from foundation.llm import custom_logger_base

    base = custom_logger_base()

    class FlywheelLogger(base):  # type: ignore[misc, valid-type]
        """Hands litellm's events to the client; every hook returns at once."""

        def __init__(self, client: "Flywheel") -> None:
            super().__init__()
            self.client = client

        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any, **_: Any) -> None:
            kwargs[_EPISODE] = current_episode()

        def log_success_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any, **_: Any
        ) -> None:
            _log(self.client, kwargs, response_obj, start_time, end_time, SUCCESS)

        def log_failure_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any, **_: Any
        ) -> None:
            _log(self.client, kwargs, None, start_time, end_time, ERROR)

        async def async_log_success_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any, **_: Any
        ) -> None:
            _log(self.client, kwargs, response_obj, start_time, end_time, SUCCESS)

        async def async_log_failure_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any, **_: Any
        ) -> None:
            _log(self.client, kwargs, None, start_time, end_time, ERROR)

    return FlywheelLogger


def _log(
    client: "Flywheel", kwargs: Any, response: Any, start: datetime, end: datetime, status: str
) -> None:
    """Record one event; litellm would swallow what we raise, so it is counted here."""
    try:
        metadata = (kwargs.get("litellm_params") or {}).get("metadata") or {}
        if RECORDED in metadata:
            return
        episode: Episode | None = kwargs.get(_EPISODE)
        with entered(episode) if episode is not None else nullcontext():
            client.record(**_columns(kwargs, metadata, response, start, end, status))
    except BadInput as error:
        client.spool.drop("no_role", error)
    except Exception as error:  # an unknown litellm: the loss must show in the counts
        client.spool.drop("callback_error", f"{type(error).__name__}: {error}")


def _columns(
    kwargs: Mapping[str, Any],
    metadata: Mapping[str, Any],
    response: Any,
    start: datetime,
    end: datetime,
    status: str,
) -> dict[str, Any]:
    """Return the arguments of `Flywheel.record` for one event."""
    summary = kwargs.get("standard_logging_object") or {}
    streamed = bool(kwargs.get("stream"))
    whole = kwargs.get("async_complete_streaming_response") or kwargs.get(
        "complete_streaming_response"
    )
    first = kwargs.get("completion_start_time")
    error = kwargs.get("exception")
    return {
        "id": derived_id(start, "litellm", str(kwargs.get("litellm_call_id"))),
        "request": _request(kwargs, summary),
        "response": whole if streamed and whole is not None else response,
        "role": metadata.get("agent_role") or metadata.get("role"),
        "task_type": metadata.get("task_type"),
        "unit_id": metadata.get("unit"),
        "status": status,
        "completed": status == SUCCESS,
        "error_type": type(error).__name__ if status == ERROR and error is not None else None,
        "attributes": {"error": str(error)} if status == ERROR and error is not None else None,
        "started_at": start.astimezone(UTC),
        "latency_ms": max(0.0, (end - start).total_seconds() * 1000),
        "ttft_ms": (first - start).total_seconds() * 1000 if streamed and first else None,
        "cost_usd": kwargs.get("response_cost") or None,
        "usage_estimated": streamed and not _asks_for_usage(kwargs),
        "gen_ai_provider_name": summary.get("custom_llm_provider"),
    }


def _request(kwargs: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    parameters = dict(summary.get("model_parameters") or kwargs.get("optional_params") or {})
    parameters.pop("extra_body", None)
    messages = kwargs.get("messages") or summary.get("messages") or []
    return {"model": kwargs.get("model"), "messages": messages, **parameters}


def _asks_for_usage(kwargs: Mapping[str, Any]) -> bool:
    options = (kwargs.get("optional_params") or {}).get("stream_options") or {}
    return bool(options.get("include_usage"))
