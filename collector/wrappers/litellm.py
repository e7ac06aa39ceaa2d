"""Log every call that an agent makes with litellm, by litellm's own callback.

    litellm.callbacks = [litellm_callback(flywheel)]

litellm calls its hooks by keyword and swallows what they raise, so the names of the parameters are
part of the contract and further ones are accepted. It tells nothing of a stream that the agent
abandons, and now and then of a whole call; so each call leaves a `_Pending` in litellm's own record
of it, which is recorded by the event that litellm sends, or else when litellm forgets the call.

Each attempt that fails and is told of is a record of its own, with status `error`; the call that
returned is one record, however many events it fires.
"""

import atexit
import json
import logging
import weakref
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from collector.calls import INTERACTION_HEADER, RECORDED
from collector.context import note_interaction
from collector.record import CUT, ERROR, SUCCESS, AsSent, derived_id
from collector.shapes import responses
from collector.streams import assemble
from collector.wrappers.abandoned import recovery
from collector.wrappers.announced import taken_above
from collector.wrappers.exchange import INTERACTION_ATTRIBUTE
from foundation.errors import BadInput
from foundation.ids import new_id

if TYPE_CHECKING:
    from collector.client import Flywheel

log = logging.getLogger(__name__)

_PARAMETERS = frozenset(
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens "
    "max_tokens modalities n parallel_tool_calls prediction presence_penalty reasoning_effort "
    "response_format seed service_tier stop stream stream_options temperature thinking tool_choice "
    "tools top_k top_logprobs top_p user verbosity web_search_options".split()
)
"""What is kept of a call's parameters; litellm keeps credentials among them."""
_RECORDED_CALLS = frozenset(
    {
        *("completion", "acompletion", "text_completion", "atext_completion"),
        *("responses", "aresponses"),
    }
)
"""Kinds of calls that are recorded; embeddings, images and the like are not."""
_GATEWAY_HEADER = f"llm_provider-{INTERACTION_HEADER}"

_open: "weakref.WeakSet[_Pending]" = weakref.WeakSet()


def litellm_callback(client: "Flywheel", role: str | None = None) -> Any:
    """Return a litellm `CustomLogger` that records into `client`; imports litellm.

    The role is that of the call's `metadata={"agent_role": …}`, else `role`, else that of the
    episode or of the client; `metadata` may also hold `task_type` and `unit`.

    Raises:
        MissingExtra: litellm is not installed.
    """
    return _logger_class()(client, role)


@lru_cache(maxsize=1)
def _logger_class() -> type[Any]:
    from foundation.llm import custom_logger_base, watch_streams

    base = custom_logger_base()
    watch_streams(_watch)

    class FlywheelLogger(base):  # type: ignore[misc, valid-type]
        """Hands litellm's events to the client; every hook returns at once."""

        def __init__(self, client: "Flywheel", role: str | None) -> None:
            super().__init__()
            self.client, self.role = client, role
            # Of our note in litellm's own record of a call, which its hooks get as `kwargs`.
            self.key = f"flywheel_call_{id(self)}"

        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any, **_: Any) -> None:
            _begin(self, kwargs)

        def log_post_api_call(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any, **_: Any
        ) -> None:
            _note_answer(self, kwargs)

        def log_success_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any, **_: Any
        ) -> None:
            _log(self, kwargs, response_obj, start_time, end_time, SUCCESS)

        def log_failure_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any, **_: Any
        ) -> None:
            _log(self, kwargs, None, start_time, end_time, ERROR)

        async def async_log_success_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any, **_: Any
        ) -> None:
            _log(self, kwargs, response_obj, start_time, end_time, SUCCESS)

        async def async_log_failure_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any, **_: Any
        ) -> None:
            _log(self, kwargs, None, start_time, end_time, ERROR)

    return FlywheelLogger


# A call under way


class _Pending:
    """A call that litellm has begun, as it was then; recorded once."""

    def __init__(
        self, client: "Flywheel", role: str | None, kwargs: Mapping[str, Any], before: Any
    ) -> None:
        self.client = client
        self.id = new_id()
        self.context: Context = copy_context()
        self.columns = _said_before(kwargs, role)
        self.started_at = datetime.now(UTC)
        self.chunks: list[Any] | None = None
        """What a stream has given so far; the list is the stream's own."""
        self.answer: str | None = None
        """The provider's answer, for a call that no event tells of."""
        self.is_done = False
        self.attempt = 1
        self.follows_a_failure = False
        if isinstance(before, _Pending):  # an attempt that failed, told of or not
            self.attempt = before.attempt + 1
            self.follows_a_failure = not before.take() or before.follows_a_failure
        _open.add(self)

    def __deepcopy__(self, memo: Any) -> "_Pending":
        return self  # litellm copies its record of a call; there is one call

    def __del__(self) -> None:
        if not self.is_done:
            recovery.put(partial(_record_forgotten, self))

    def take(self) -> bool:
        """Return whether it is still to be recorded, and leave that to the caller."""
        was_done, self.is_done = self.is_done, True
        return not was_done


def _begin(logger: Any, kwargs: Any) -> None:
    """Note a call that is about to be sent, or another attempt at it."""
    if _is_recorded_here(kwargs):
        before = kwargs.get(logger.key)
        pending = kwargs[logger.key] = _Pending(logger.client, logger.role, kwargs, before)
        recovery.ensure_running()
        kwargs[_ABOVE] = kwargs.get(_ABOVE) or taken_above()
        if kwargs[_ABOVE]:
            pending.take()
        else:
            note_interaction(pending.id)


_ABOVE = "flywheel_recorded_above"
"""Where each attempt at a call finds that a framework's callback records it."""


def _note_answer(logger: Any, kwargs: Any) -> None:
    pending, answer = kwargs.get(logger.key), kwargs.get("original_response")
    if isinstance(pending, _Pending) and isinstance(answer, str):
        pending.answer = answer


def _watch(stream: Any) -> None:
    """Note a stream that litellm has made."""
    for pending in list(stream.logging_obj.model_call_details.values()):
        if isinstance(pending, _Pending) and pending.chunks is None:
            pending.chunks = stream.chunks
            if _recorded_id(stream) is not None:
                pending.take()


def _is_recorded_here(kwargs: Mapping[str, Any]) -> bool:
    return kwargs.get("call_type") in _RECORDED_CALLS and RECORDED not in _metadata(kwargs)


# Recording


def _log(
    logger: Any, kwargs: Any, response: Any, start: datetime, end: datetime, status: str
) -> None:
    """Record one event; litellm would swallow what we raise, so it is counted here."""
    pending = kwargs.get(logger.key)
    if not _is_recorded_here(kwargs) or (isinstance(pending, _Pending) and not pending.take()):
        return
    if _recorded_id(response) is not None or _recorded_id(kwargs.get("exception")) is not None:
        return
    if isinstance(pending, _Pending):
        told = _told(kwargs, response, start, end, status, pending)
        _record(pending.client, pending.context, {"id": pending.id, **pending.columns, **told})
        return
    # An answer from litellm's cache, or a mocked one: nothing was sent.
    told = _told(kwargs, response, start, end, status, None)
    identifier = derived_id(start, "litellm", str(kwargs.get("litellm_call_id")), status)
    before = _said_before(kwargs, logger.role)
    _record(logger.client, copy_context(), {"id": identifier, **before, **told})


def _record(client: "Flywheel", context: Context, columns: Mapping[str, Any]) -> None:
    try:
        context.run(partial(client.record, **columns))
    except BadInput as error:
        client.spool.drop("no_role", error)
    except Exception as error:  # an unknown litellm: the loss must show in the counts
        client.spool.drop("callback_error", f"{type(error).__name__}: {error}")


def _record_forgotten(pending: _Pending) -> None:
    """Record a call that litellm has told nothing of: a stream left early, as a rule."""
    if not pending.take():
        return
    response = _assembled(pending) if pending.chunks else _json_object(pending.answer)
    if response is None and pending.follows_a_failure:
        return  # it failed again: litellm tells of one failure of a call
    choices = (response or {}).get("choices") or []
    ended = bool(choices) and all(choice.get("finish_reason") for choice in choices)
    elapsed_ms = (datetime.now(UTC) - pending.started_at).total_seconds() * 1000
    told = {
        "response": response,
        "status": SUCCESS if ended else CUT,
        "completed": ended,
        "started_at": pending.started_at,
        "latency_ms": max(0.0, elapsed_ms),
    }
    _record(pending.client, pending.context, {"id": pending.id, **pending.columns, **told})


def _said_before(kwargs: Mapping[str, Any], role: str | None) -> dict[str, Any]:
    """Return the columns that are known before a call is sent, free of later changes."""
    metadata = _metadata(kwargs)
    return {
        "request": _request(kwargs),
        "role": metadata.get("agent_role") or metadata.get("role") or role,
        "task_type": metadata.get("task_type"),
        "unit_id": metadata.get("unit"),
        "gen_ai_provider_name": kwargs.get("custom_llm_provider"),
        "gen_ai_operation_name": (
            "text_completion" if "text" in str(kwargs.get("call_type")) else "chat"
        ),
    }


def _told(
    kwargs: Mapping[str, Any],
    response: Any,
    start: datetime,
    end: datetime,
    status: str,
    pending: _Pending | None,
) -> dict[str, Any]:
    """Return the columns that an event tells."""
    streamed = bool(kwargs.get("stream"))
    whole = kwargs.get("async_complete_streaming_response") or kwargs.get(
        "complete_streaming_response"
    )
    answer: Any = whole if streamed and whole is not None else response
    first, error = kwargs.get("completion_start_time"), kwargs.get("exception")
    attributes = _attributes(kwargs, status, pending)
    if status == ERROR and pending is not None and pending.chunks:
        answer, status = _assembled(pending), CUT
    columns: dict[str, Any] = {
        "status": status,
        "completed": status == SUCCESS,
        "error_type": type(error).__name__ if status != SUCCESS and error is not None else None,
        "started_at": start.astimezone(UTC).isoformat(),
        "latency_ms": max(0.0, (end - start).total_seconds() * 1000),
        "ttft_ms": (first - start).total_seconds() * 1000 if streamed and first else None,
        "cost_usd": kwargs.get("response_cost") or None,
        "usage_estimated": streamed and not _asks_for_usage(kwargs),
    }
    if isinstance(getattr(answer, "output", None), list):
        asked = {"model": kwargs.get("model"), "input": kwargs.get("input")}
        exact = answer.model_dump()
        attributes["exact"] = {"api": "openai.responses", "response": exact}
        columns["request"] = responses.chat_request(asked | _parameters(kwargs))
        answer = responses.chat_response(exact)
    elif hasattr(answer, "model_dump_json"):
        answer = AsSent(answer.model_dump_json().encode())
    return {**columns, "response": answer, "attributes": attributes or None}


def _attributes(kwargs: Mapping[str, Any], status: str, pending: _Pending | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if status == ERROR and kwargs.get("exception") is not None:
        attributes["error"] = str(kwargs["exception"])
    retried = _metadata(kwargs).get("attempted_retries")
    attempts = (pending.attempt if pending else 1) + (retried if isinstance(retried, int) else 0)
    if attempts > 1:
        attributes["attempts"] = attempts
    if kwargs.get("cache_hit"):
        attributes["cache_hit"] = True
    return attributes


def _request(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    messages = kwargs.get("messages") or []
    if isinstance(messages, list):  # agents go on to append to theirs
        messages = [dict(m) if isinstance(m, Mapping) else m for m in messages]
    parameters = _parameters(kwargs)
    if kwargs.get("stream"):
        parameters["stream"] = True
    return {"model": kwargs.get("model"), "messages": messages, **parameters}


def _parameters(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    given = kwargs.get("optional_params") or {}
    return {name: value for name, value in given.items() if name in _PARAMETERS}


def _metadata(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = (kwargs.get("litellm_params") or {}).get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def _recorded_id(outcome: Any) -> UUID | None:
    """Return the interaction that a wrapped client or our gateway has recorded, or None."""
    while isinstance(outcome, BaseException):
        given = getattr(outcome, INTERACTION_ATTRIBUTE, None)
        if given is not None:
            return UUID(str(given))
        outcome = outcome.__cause__ or outcome.__context__
    hidden = getattr(outcome, "_hidden_params", None)
    headers = (hidden or {}).get("additional_headers") if isinstance(hidden, Mapping) else None
    with suppress(ValueError):
        given = (headers or {}).get(_GATEWAY_HEADER)
        return UUID(str(given)) if given else None
    return None


def _assembled(pending: _Pending) -> dict[str, Any] | None:
    """Return what a stream has given so far, as a completion."""
    return assemble([chunk.model_dump() for chunk in list(pending.chunks or ())])


def _json_object(text: Any) -> dict[str, Any] | None:
    parsed = text
    with suppress(ValueError):
        parsed = json.loads(text) if isinstance(text, str) else text
    return parsed if isinstance(parsed, dict) else None


def _asks_for_usage(kwargs: Mapping[str, Any]) -> bool:
    options = (kwargs.get("optional_params") or {}).get("stream_options") or {}
    return bool(options.get("include_usage"))


def _record_all() -> None:
    """At the end of the process, record the calls that litellm has told nothing of yet."""
    for pending in list(_open):
        _record_forgotten(pending)


atexit.register(_record_all)
