"""LiteLLM's logs: `StandardLoggingPayload` (callbacks, buckets) and the spend log table.

The request is put together from the messages and the model's parameters, or taken whole from
`proxy_server_request`. A spend log holds them only where `store_prompts_in_spend_logs` is on; rows
without, and rows with redacted messages, are rejected, since nothing can be learned from them.
Role and task type are looked for in the metadata that the caller sent (`agent_role`, or a `role`
that is one of ours, `task_type`); calls of one session or trace share an episode.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from collector.importers.exchange import request_of, response_of, says_something
from collector.importers.lines import Imported, Malformed, NoAnswer, Reject, parsed, read_rows
from collector.importers.moments import milliseconds_between, moment_of
from collector.importers.roles import known_role
from collector.importers.row import Row
from collector.importers.source import Source
from collector.record import ERROR, SUCCESS
from foundation.chat import answer_text, prompt_messages, text_of

FORMAT = "litellm"

_CHAT_CALLS = frozenset(
    {
        "completion",
        "acompletion",
        "text_completion",
        "atext_completion",
        "responses",
        "aresponses",
        "anthropic_messages",
        "generate_content",
        "agenerate_content",
        "chat",
    }
)
_REMEDY = (
    "LiteLLM keeps prompts and answers only with store_prompts_in_spend_logs: true under "
    "general_settings of the proxy's configuration"
)
_REDACTED = "redacted-by-litellm"
_KEPT = ("request_tags", "end_user", "model_group", "api_base", "cache_hit", "call_type", "user")


def read(source: Source) -> Iterator[Imported | Reject]:
    """Yield the records of one file."""
    return read_rows(source, _translate)


def recognises(row: dict[str, Any]) -> bool:
    """Tell either kind of log."""
    return "startTime" in row and ("call_type" in row or "request_id" in row)


def _translate(raw: dict[str, Any], place: int, source: Source) -> list[Imported]:
    log = {name: parsed(value) for name, value in raw.items()}
    call_type = str(log.get("call_type") or "completion").rpartition(".")[2]
    if call_type not in _CHAT_CALLS:
        raise _NotAChat(f"call_type: got {call_type!r}, expected a chat or text completion")
    metadata = _metadata(log)
    named = {n: v for n in _NAMED if isinstance(v := metadata.get(n), str) and v}
    role = named.get("agent_role") or known_role(metadata.get("role"))
    started = _time(log, "startTime", "start_time")
    row = Row.of(FORMAT, {**named, **raw}, place, source, role=role, moment=started)
    request = _request(log)
    fault = _fault(log)
    response = None if fault else response_of(log.get("response"), row, 0, log.get("model"))
    if _REDACTED in (*_texts(request), answer_text(response)):
        raise _Redacted("messages or response were redacted by litellm's settings")
    if not fault and not says_something(response):
        raise NoAnswer(f"response: is empty; {_REMEDY}")
    session = log.get("session_id") or log.get("trace_id")
    row = row.in_episode(str(session) if session else None)
    columns = _columns(log, fault, started)
    if session:
        columns["gen_ai_conversation_id"] = str(session)
    return [row.interaction(0, request, response, **columns)]


def _texts(request: Mapping[str, Any]) -> list[str]:
    return [text_of(said.get("content")) for said in prompt_messages(dict(request))]


class _NotAChat(Malformed):
    code = "not_a_chat"


class _Redacted(Malformed):
    code = "redacted"


class _NoMessages(Malformed):
    code = "no_messages"


_NAMED = ("agent_role", "task_type", "project")


def _metadata(log: Mapping[str, Any]) -> dict[str, Any]:
    """Return the caller's own metadata, wherever this version of litellm keeps it."""
    found: dict[str, Any] = {}
    outer = log.get("metadata")
    for place in (outer, *(_inner(outer, name) for name in _METADATA_PLACES)):
        found |= place if isinstance(place, dict) else {}
    return found


_METADATA_PLACES = ("spend_logs_metadata", "requester_metadata", "requester_custom_headers")


def _inner(value: Any, name: str) -> Any:
    return parsed(value.get(name)) if isinstance(value, dict) else None


def _request(log: Mapping[str, Any]) -> dict[str, Any]:
    body = log.get("proxy_server_request")
    body = _inner(body, "body") or body
    whole = body if isinstance(body, dict) and (body.get("messages") or body.get("input")) else {}
    messages = log.get("messages")
    if not messages and not whole:
        raise _NoMessages(f"messages: are empty; {_REMEDY}")
    parameters = log.get("model_parameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    model = log.get("model_group") or log.get("model") or None
    asked = {"model": model, **parameters, **whole}
    if isinstance(messages, dict) and messages.get("messages"):  # a whole body
        asked |= messages
    elif messages and not whole:
        asked["messages"] = messages if isinstance(messages, list | str) else [messages]
    return request_of({name: value for name, value in asked.items() if value is not None})


def _fault(log: Mapping[str, Any]) -> str | None:
    if log.get("status") not in ("failure", "failed", "error"):
        return None
    information = log.get("error_information") or _inner(log.get("metadata"), "error_information")
    name = information.get("error_class") if isinstance(information, dict) else None
    return str(name or log.get("error_str") or "failure")[:200]


def _columns(log: Mapping[str, Any], fault: str | None, started: datetime | None) -> dict[str, Any]:
    ended = _time(log, "endTime", "end_time")
    first = _time(log, "completionStartTime")
    streamed = log.get("stream") is True and first != ended
    columns = {
        "status": ERROR if fault else SUCCESS,
        "error_type": fault,
        "completed": not fault,
        "latency_ms": milliseconds_between(started, ended),
        "ttft_ms": milliseconds_between(started, first) if streamed else None,
        "cost_usd": _amount(log.get("response_cost", log.get("spend"))),
        "gen_ai_provider_name": log.get("custom_llm_provider") or None,
        "gen_ai_usage_input_tokens": _tokens(log.get("prompt_tokens")),
        "gen_ai_usage_output_tokens": _tokens(log.get("completion_tokens")),
        "attributes": {n: log[n] for n in _KEPT if log.get(n) not in (None, "", [], {})} or None,
    }
    return {name: value for name, value in columns.items() if value is not None}


def _time(log: Mapping[str, Any], *names: str) -> datetime | None:
    return next((moment for name in names if (moment := moment_of(log.get(name)))), None)


def _amount(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and value >= 0 else None


def _tokens(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
