"""Record the model calls of LangChain and LangGraph, by their callbacks.

    graph.invoke(state, config={"callbacks": [flywheel.langchain_handler(roles={"plan": "coder"})]})

A run of LangChain is a call; the run at the root of it all is one episode, unless one is open. The
role is that of the call's metadata or tags (`role:coder`), else of the graph's node, else of the
episode. A call inside a tool knows the call that asked for the tool.

LangChain reports an abandoned stream when its generator is closed, which CPython does as soon as
nobody holds it; what is never closed is recorded as cut when the process ends. Its internal retries
are one call; those of `with_retry` are calls of their own.
"""

import asyncio
import atexit
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from collector.context import Episode, current_episode
from collector.record import CUT, ERROR, SUCCESS, derived_id
from collector.wrappers.announced import Announced, announce
from foundation.errors import BadInput, MissingExtra

if TYPE_CHECKING:
    from collector.client import Flywheel

ROLE_TAG = "role:"
GATEWAY_MODEL = "role:"
MOST_TOOL_CALLS = 10_000
"""Tool calls whose asking interaction is remembered; the oldest are forgotten first."""


def langchain_handler(
    client: "Flywheel", role: str | None = None, roles: Mapping[str, str] | None = None
) -> Any:
    """Return a LangChain `BaseCallbackHandler` that records into `client`.

    Args:
        client: where records go.
        role: of calls that nothing else gives one.
        roles: node of a LangGraph graph, to the role that acts there.

    Raises:
        MissingExtra: langchain-core is not installed.
    """
    return _handler_class()(client, role, dict(roles or {}))


@dataclass
class _Run:
    """A run under way: what started it, and of a model call what was asked."""

    parent_id: UUID | None
    episode: Episode | None
    caused_by: UUID | None = None
    call: "_Call | None" = None


@dataclass
class _Call:
    """A model call under way, and its clock."""

    id: UUID
    request: dict[str, Any]
    operation: str
    columns: dict[str, Any]
    role: str | None
    announced: Announced
    started_at: datetime
    is_recorded_elsewhere: bool = False
    ttft_ms: float | None = None
    tokens: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.started) * 1000


class _Recorder:
    """The runs under way, and what becomes of them."""

    def __init__(self, client: "Flywheel", role: str | None, roles: Mapping[str, str]) -> None:
        self.client, self.role, self.roles = client, role, roles
        self._runs: dict[UUID, _Run] = {}
        self._asked_by: OrderedDict[str, UUID] = OrderedDict()
        self._lock = threading.Lock()
        myself = weakref.ref(self)
        atexit.register(_end_open_calls, myself)

    def begin(self, run_id: UUID, parent_id: UUID | None, tool_call: str | None = None) -> None:
        """Note a run of a chain or a tool."""
        with self._lock:
            caused_by = self._asked_by.get(tool_call) if tool_call else None
            self._runs[run_id] = _Run(parent_id, current_episode(), caused_by)

    def end(self, run_id: UUID) -> None:
        """Forget a run of a chain or a tool."""
        with self._lock:
            self._runs.pop(run_id, None)

    def begin_call(
        self,
        run_id: UUID,
        parent_id: UUID | None,
        request: dict[str, Any],
        operation: str,
        said: Mapping[str, Any],
    ) -> None:
        """Note a model call; `said` are LangChain's keyword arguments."""
        started_at = datetime.now(UTC)
        metadata = said.get("metadata") or {}
        identifier = derived_id(started_at, "langchain", str(run_id))
        root, caused_by = self._above(run_id, parent_id)
        call = _Call(
            id=identifier,
            request=request,
            operation=operation,
            columns=_columns(metadata, current_episode(), root, caused_by),
            role=self._role_of(said.get("tags") or (), metadata),
            announced=announce(),
            started_at=started_at,
            is_recorded_elsewhere=_goes_to_gateway(request, said.get("serialized")),
        )
        with self._lock:
            self._runs[run_id] = _Run(parent_id, current_episode(), call=call)

    def _above(self, run_id: UUID, parent_id: UUID | None) -> tuple[UUID, UUID | None]:
        """Return the root run, and the interaction that caused the nearest tool run above."""
        caused_by, root = None, run_id
        with self._lock:
            while parent_id is not None:
                root, run = parent_id, self._runs.get(parent_id)
                caused_by = caused_by or (run.caused_by if run else None)
                parent_id = run.parent_id if run else None
        return root, caused_by

    def _role_of(self, tags: Sequence[str], metadata: Mapping[str, Any]) -> str | None:
        tagged = [tag.removeprefix(ROLE_TAG) for tag in tags if tag.startswith(ROLE_TAG)]
        said = metadata.get("agent_role") or metadata.get("role") or next(iter(tagged), None)
        acting_nodes = (self.roles[node] for node in _nodes(metadata) if node in self.roles)
        episode = current_episode()
        acting = episode.role if episode is not None else None
        return said or next(acting_nodes, None) or acting or self.role

    def token(self, run_id: UUID, text: Any) -> None:
        """Note a piece of a streamed answer."""
        call = self._call_of(run_id)
        if call is None:
            return
        if call.ttft_ms is None:
            call.ttft_ms = call.elapsed_ms()
            call.announced.open = False
        if isinstance(text, str):
            call.tokens.append(text)

    def _call_of(self, run_id: UUID) -> _Call | None:
        run = self._runs.get(run_id)
        return run.call if run is not None else None

    def finish(self, run_id: UUID, result: Any, error: BaseException | None = None) -> None:
        """Record a call that has ended; what fails here is counted, not raised into the agent."""
        with self._lock:
            run = self._runs.pop(run_id, None)
        call = run.call if run is not None else None
        if call is None:
            return
        call.announced.open = False
        if call.is_recorded_elsewhere:
            return
        try:
            self._record(call, result, error)
        except BadInput as fault:
            self.client.spool.drop("no_role", fault)
        except Exception as fault:  # an unknown LangChain: the loss must show in the counts
            self.client.spool.drop("callback_error", f"{type(fault).__name__}: {fault}")

    def _record(self, call: _Call, result: Any, error: BaseException | None) -> None:
        response = _response(call, result)
        said = bool(response and response["choices"])
        status = _status(error, said)
        call.columns["attributes"] |= {"error": str(error)} if status == ERROR else {}
        self.client.record(
            id=call.id,
            request=call.request,
            response=response,
            role=call.role,
            status=status,
            completed=status == SUCCESS,
            error_type=_error_type(error),
            started_at=call.started_at,
            latency_ms=call.elapsed_ms(),
            ttft_ms=call.ttft_ms,
            gen_ai_operation_name=call.operation,
            **{name: value for name, value in call.columns.items() if value},
        )
        with self._lock:
            for identifier in _tool_calls(response):
                self._asked_by[identifier] = call.id
            while len(self._asked_by) > MOST_TOOL_CALLS:
                self._asked_by.popitem(last=False)

    def end_open_calls(self) -> None:
        """Record what is open at the end of the process, as cut."""
        for run_id in list(self._runs):
            self.finish(run_id, None, GeneratorExit())


def _end_open_calls(recorder: "weakref.ref[_Recorder]") -> None:
    alive = recorder()
    if alive is not None:
        alive.end_open_calls()


@lru_cache(maxsize=1)
def _handler_class() -> type[Any]:
    try:
        from langchain_core.callbacks import BaseCallbackHandler
    except ModuleNotFoundError as error:
        raise MissingExtra("langchain_core", "clients") from error

    class FlywheelHandler(BaseCallbackHandler):  # type: ignore[misc]
        """Hands LangChain's events to the recorder.

        Runs inline, also in async code: elsewhere the episode of the calling code is out of sight.
        """

        run_inline = True

        def __init__(self, client: "Flywheel", role: str | None, roles: dict[str, str]) -> None:
            super().__init__()
            self.recorder = _Recorder(client, role, roles)

        def on_chain_start(
            self, *_: Any, run_id: UUID, parent_run_id: UUID | None = None, **__: Any
        ) -> None:
            self.recorder.begin(run_id, parent_run_id)

        def on_chain_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
            self.recorder.end(run_id)

        def on_chain_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
            self.recorder.end(run_id)

        def on_tool_start(
            self, *_: Any, run_id: UUID, parent_run_id: UUID | None = None, **said: Any
        ) -> None:
            self.recorder.begin(run_id, parent_run_id, said.get("tool_call_id"))

        def on_tool_end(self, *_: Any, run_id: UUID, **__: Any) -> None:
            self.recorder.end(run_id)

        def on_tool_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
            self.recorder.end(run_id)

        def on_chat_model_start(
            self,
            serialized: Any,
            messages: Sequence[Sequence[Any]],
            *,
            run_id: UUID,
            parent_run_id: UUID | None = None,
            **said: Any,
        ) -> None:
            asked = _chat_messages([message for batch in messages for message in batch])
            request = _request(said, {"messages": asked})
            said["serialized"] = serialized
            self.recorder.begin_call(run_id, parent_run_id, request, "chat", said)

        def on_llm_start(
            self,
            serialized: Any,
            prompts: Sequence[str],
            *,
            run_id: UUID,
            parent_run_id: UUID | None = None,
            **said: Any,
        ) -> None:
            request = _request(said, {"prompt": "\n".join(prompts)})
            said["serialized"] = serialized
            self.recorder.begin_call(run_id, parent_run_id, request, "text_completion", said)

        def on_llm_new_token(self, token: Any, *, run_id: UUID, **_: Any) -> None:
            self.recorder.token(run_id, token)

        def on_stream_event(self, event: Any, *, run_id: UUID, **_: Any) -> None:
            self.recorder.token(run_id, _text_of_event(event))

        def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:
            self.recorder.finish(run_id, response)

        def on_llm_error(self, error: BaseException, *, run_id: UUID, **said: Any) -> None:
            self.recorder.finish(run_id, said.get("response"), error)

    return FlywheelHandler


# What was asked


def _request(said: Mapping[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAI-shaped request of a call."""
    given = said.get("invocation_params") or {}
    model = given.get("model") or given.get("model_name")
    model = model or (said.get("metadata") or {}).get("ls_model_name")
    parameters = {
        name: value
        for name, value in given.items()
        if value is not None and name not in ("model", "model_name", "messages")
        and not name.startswith("_")
    }  # fmt: skip
    return {"model": model, **asked, **parameters}


def _chat_messages(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Return LangChain's messages as OpenAI's, reasoning beside the text."""
    from langchain_core.messages import convert_to_openai_messages

    found: list[dict[str, Any]] = []
    for message in messages:
        converted = convert_to_openai_messages([message])
        reasoning = getattr(message, "additional_kwargs", {}).get("reasoning_content")
        if reasoning and converted:
            converted[-1]["reasoning_content"] = reasoning
        found += converted
    return found


def _nodes(metadata: Mapping[str, Any]) -> list[str]:
    """Return the graph's nodes that a call is made in, the innermost first."""
    namespace = str(metadata.get("langgraph_checkpoint_ns") or "")
    above = [part.partition(":")[0] for part in reversed(namespace.split("|"))]
    return [str(metadata.get("langgraph_node")), *above]


def _columns(
    metadata: Mapping[str, Any], episode: Episode | None, root: UUID, caused_by: UUID | None
) -> dict[str, Any]:
    """Return what a record says besides request and response."""
    node = metadata.get("langgraph_node")
    return {
        "episode_id": episode.id if episode is not None else root,
        "parent_id": caused_by or (episode.parent_id if episode is not None else None),
        "task_type": metadata.get("task_type") or (episode.task_type if episode else None),
        "unit_id": metadata.get("unit") or (episode.unit if episode else None),
        "gen_ai_conversation_id": metadata.get("thread_id"),
        "gen_ai_provider_name": metadata.get("ls_provider"),
        "attributes": {"langgraph_node": str(node)} if node else {},
    }


def _goes_to_gateway(request: Mapping[str, Any], serialized: Any) -> bool:
    """Whether our gateway answers a call, and so records it."""
    options = (serialized or {}).get("kwargs") or {}
    address = str(options.get("openai_api_base") or options.get("base_url") or "")
    declared = os.environ.get("FLYWHEEL_GATEWAY_URL")
    return str(request.get("model")).startswith(GATEWAY_MODEL) or (
        bool(declared) and address.rstrip("/") == str(declared).rstrip("/")
    )


# What was answered


def _response(call: _Call, result: Any) -> dict[str, Any] | None:
    """Return the OpenAI-shaped response of a call, or None if nothing came."""
    batches = getattr(result, "generations", None) or []
    # After an error LangChain adds what the error says as further generations: not an answer.
    generations = [one for one in (batches[0] if batches else []) if _has_come(one)]
    output = getattr(result, "llm_output", None) or {}
    if not generations and call.tokens:
        text = {"role": "assistant", "content": "".join(call.tokens)}
        choices = [{"index": 0, "message": text, "finish_reason": None}]
    else:
        choices = [_choice(index, one) for index, one in enumerate(generations)]
    if not choices and not output:
        return None
    described = _described(generations)
    response = {
        "id": output.get("id") or described.get("id") or _given_id(generations),
        "object": "chat.completion" if call.operation == "chat" else "text_completion",
        "model": output.get("model_name") or described.get("model_name") or described.get("model"),
        "choices": choices,
        "usage": _usage(generations, output),
    }
    return {name: value for name, value in response.items() if value is not None}


def _has_come(generation: Any) -> bool:
    message = getattr(generation, "message", None)
    if message is None:
        return bool(getattr(generation, "text", ""))
    return bool(message.content or getattr(message, "tool_calls", None) or _reason(generation))


def _choice(index: int, generation: Any) -> dict[str, Any]:
    message = getattr(generation, "message", None)
    reason = _reason(generation)
    if message is None:
        return {"index": index, "text": generation.text, "finish_reason": reason}
    (said,) = _chat_messages([message])[-1:]
    if said.get("tool_calls") and not said.get("content"):
        said["content"] = None
    return {"index": index, "message": said, "finish_reason": reason}


def _reason(generation: Any) -> str | None:
    told = {**_metadata(generation), **(getattr(generation, "generation_info", None) or {})}
    reason = told.get("finish_reason") or told.get("stop_reason")
    if reason is None and told.get("status") == "completed":  # OpenAI's Responses API
        reason = "tool_calls" if getattr(generation.message, "tool_calls", None) else "stop"
    return _REASONS.get(str(reason), str(reason)) if reason else None


_REASONS = {"tool_use": "tool_calls", "end_turn": "stop", "max_tokens": "length"}


def _metadata(generation: Any) -> Mapping[str, Any]:
    return getattr(getattr(generation, "message", None), "response_metadata", None) or {}


def _described(generations: Sequence[Any]) -> Mapping[str, Any]:
    return _metadata(generations[0]) if generations else {}


def _given_id(generations: Sequence[Any]) -> str | None:
    """Return the provider's id of the answer; LangChain makes ids of its own where it has none."""
    message = getattr(generations[0], "message", None) if generations else None
    identifier = getattr(message, "id", None)
    is_own = str(identifier).startswith(("run-", "lc_"))
    return None if identifier is None or is_own else str(identifier)


def _usage(generations: Sequence[Any], output: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the tokens that the provider counted, in OpenAI's words."""
    message = getattr(generations[0], "message", None) if generations else None
    usage = getattr(message, "usage_metadata", None)
    if not usage:
        counted = output.get("token_usage")
        return dict(counted) if isinstance(counted, Mapping) and counted else None
    asked, answered = usage.get("input_token_details"), usage.get("output_token_details")
    told: dict[str, Any] = {
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
        "total_tokens": usage.get("total_tokens"),
    }
    if asked and asked.get("cache_read") is not None:
        told["prompt_tokens_details"] = {"cached_tokens": asked["cache_read"]}
    if answered and answered.get("reasoning") is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": answered["reasoning"]}
    return told


def _tool_calls(response: Mapping[str, Any] | None) -> list[str]:
    messages = (choice.get("message") or {} for choice in (response or {}).get("choices") or [])
    calls = (call for message in messages for call in message.get("tool_calls") or [])
    return [str(call["id"]) for call in calls if call.get("id")]


def _text_of_event(event: Any) -> str | None:
    """Return the text of a `stream_events(version="v3")` event, or None for one without."""
    delta = event.get("delta") if isinstance(event, Mapping) else None
    text = delta.get("text") if isinstance(delta, Mapping) else None
    return text if isinstance(text, str) else None


# How it ended


def _status(error: BaseException | None, said: bool) -> str:
    if error is None:
        return SUCCESS
    return CUT if said or isinstance(error, _LEFT) else ERROR


_LEFT = (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt)
"""What a caller that no longer waits makes of a call."""


def _error_type(error: BaseException | None) -> str | None:
    return None if error is None or isinstance(error, GeneratorExit) else type(error).__name__
