"""The one table of names: what each version of the conventions calls what a record holds.

A `Layout` is one version of the GenAI conventions, or one instrumentation with names of its own;
its `version` is kept with the record, in `Interaction.semconv_version`. A span may mix layouts:
what its own does not name is looked up under the names of the others.

Sources: the OpenTelemetry GenAI registry (`model/gen-ai/registry.yaml`, semconv 1.26 to 1.44),
OpenLLMetry's semantic conventions for AI, OpenInference's specification, and the AI SDK's telemetry
page.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from collector.otel.messages import decoded, nested

Attributes = Mapping[str, Any]
Names = tuple[str, ...]
Find = Callable[[Attributes], Any]


@dataclass(frozen=True)
class Layout:
    """Where one version puts things.

    Attributes:
        version: kept with the record.
        marks: pattern of attribute names that only this layout has.
        names: our word for a thing to its attribute names, the first present one wins.
        input: finds the messages asked, in any shape that `messages.chat_messages` reads.
        output: finds the messages answered, likewise.
        tools: finds the tools offered, in any shape that `messages.tool_definitions` reads.
        answer: finds a chat completion as the provider gave it.
        model: finds the model asked where no attribute of its own names it.
    """

    version: str
    marks: re.Pattern[str]
    names: Mapping[str, Names] = field(default_factory=dict)
    input: tuple[Find, ...] = ()
    output: tuple[Find, ...] = ()
    tools: tuple[Find, ...] = ()
    answer: tuple[Find, ...] = ()
    model: tuple[Find, ...] = ()


EVENTS = "events"
"""Under this name `read` adds a span's events to its attributes, each with its `event.name`."""

MESSAGE_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": "assistant",
    "gen_ai.content.prompt": "user",
    "gen_ai.content.completion": "assistant",
}
"""One event per message (1.26 to 1.36), and who speaks in it."""

ANSWER_EVENTS = frozenset({"gen_ai.choice", "gen_ai.content.completion"})


def _attribute(name: str) -> Find:
    return lambda attributes: attributes.get(name)


def _numbered(prefix: str) -> Find:
    return lambda attributes: nested(attributes, prefix)


def _whole_answer(attributes: Attributes) -> Mapping[str, Any] | None:
    """Return a chat completion that was written down as the provider gave it."""
    answer = decoded(attributes.get("output.value"))
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    shaped = isinstance(choices, list) and all(
        isinstance(choice, Mapping) and isinstance(choice.get("message"), Mapping)
        for choice in choices
    )
    return answer if choices and shaped else None


def _plain_text(name: str) -> Find:
    """Find an attribute that is a text and not a structure of we know not what shape."""

    def find(attributes: Attributes) -> Any:
        value = attributes.get(name)
        return value if isinstance(value, str) and decoded(value) is value else None

    return find


def _asked_model(attributes: Attributes) -> Any:
    asked = decoded(attributes.get("input.value"))
    return asked.get("model") if isinstance(asked, Mapping) else None


def _asked_messages(attributes: Attributes) -> Any:
    asked = decoded(attributes.get("input.value"))
    messages = asked.get("messages") if isinstance(asked, Mapping) else None
    shaped = isinstance(messages, list) and all(isinstance(m, Mapping) for m in messages)
    return messages if shaped else None


def _ai_sdk_answer(attributes: Attributes) -> Any:
    answer = {
        ours: attributes[name]
        for ours, names in _AI_SDK_ANSWER.items()
        for name in names
        if attributes.get(name)
    }
    return {"role": "assistant", **answer} if answer else None


_AI_SDK_ANSWER: Mapping[str, Names] = {
    "content": ("ai.response.text", "ai.response.object", "ai.result.text", "ai.result.object"),
    "tool_calls": ("ai.response.toolCalls", "ai.result.toolCalls"),
    "reasoning_content": ("ai.response.reasoning",),
}


def _event_messages(answers: bool) -> Find:
    """Find the messages of a span's events: those answered, or those asked.

    Where content is not captured the events come all the same, as husks; those are left out.
    """

    def find(attributes: Attributes) -> list[Any]:
        events = decoded(attributes.get(EVENTS))
        messages = [
            _event_message(event)
            for event in (events if isinstance(events, list) else [])
            if isinstance(event, Mapping)
            and event.get("event.name") in MESSAGE_EVENTS
            and (event["event.name"] in ANSWER_EVENTS) is answers
        ]
        return [message for message in messages if not _is_husk(message)]

    return find


def _is_husk(message: Mapping[str, Any]) -> bool:
    inner = decoded(message.get("message"))
    if not isinstance(inner, Mapping):
        inner = {"content": inner} if inner else message
    calls = decoded(inner.get("tool_calls"))
    functions = [
        call.get("function") or call
        for call in (calls if isinstance(calls, list) else [])
        if isinstance(call, Mapping)
    ]
    return not inner.get("content") and not any("arguments" in one for one in functions)


def _event_message(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's message; its body may be in one attribute, or its attributes may be it."""
    body = decoded(event.get("gen_ai.event.content"))
    content = event.get("gen_ai.prompt") or event.get("gen_ai.completion")
    said = {**event, **({"content": content} if content else {})}
    role = MESSAGE_EVENTS[event["event.name"]]
    return {"role": role, **said, **(body if isinstance(body, Mapping) else {})}


LAYOUTS = (
    Layout(
        version="gen_ai/1.44",
        marks=re.compile(
            r"gen_ai\.(usage\.cache_write\.|prompt\.(version|variable\.)|conversation\.compacted$"
            r"|request\.(reasoning\.level|previous_response\.id|stream)$|response\.time_to_first)"
        ),
        names={
            "operation": ("gen_ai.operation.name",),
            "provider": ("gen_ai.provider.name",),
            "request_model": ("gen_ai.request.model",),
            "response_model": ("gen_ai.response.model",),
            "response_id": ("gen_ai.response.id",),
            "finish_reasons": ("gen_ai.response.finish_reasons",),
            "temperature": ("gen_ai.request.temperature",),
            "top_p": ("gen_ai.request.top_p",),
            "top_k": ("gen_ai.request.top_k",),
            "max_tokens": ("gen_ai.request.max_tokens",),
            "frequency_penalty": ("gen_ai.request.frequency_penalty",),
            "presence_penalty": ("gen_ai.request.presence_penalty",),
            "stop": ("gen_ai.request.stop_sequences",),
            "seed": ("gen_ai.request.seed",),
            "n": ("gen_ai.request.choice.count",),
            "stream": ("gen_ai.request.stream",),
            "reasoning_effort": ("gen_ai.request.reasoning.level",),
            "input_tokens": ("gen_ai.usage.input_tokens",),
            "output_tokens": ("gen_ai.usage.output_tokens",),
            "cache_read_tokens": ("gen_ai.usage.cache_read.input_tokens",),
            "reasoning_tokens": ("gen_ai.usage.reasoning.output_tokens",),
            "ttft_s": ("gen_ai.response.time_to_first_chunk",),
            "conversation": ("gen_ai.conversation.id",),
            "agent": ("gen_ai.agent.name",),
            "prompt_name": ("gen_ai.prompt.name",),
            "prompt_version": ("gen_ai.prompt.version",),
            "system": ("gen_ai.system_instructions",),
            "error_type": ("error.type",),
        },
        input=(_attribute("gen_ai.input.messages"),),
        output=(_attribute("gen_ai.output.messages"),),
        tools=(_attribute("gen_ai.tool.definitions"),),
    ),
    Layout(
        version="gen_ai/1.37",
        marks=re.compile(
            r"gen_ai\.(input\.messages|output\.messages|system_instructions|provider\.name)$"
        ),
        input=(_attribute("gen_ai.input.messages"),),
        output=(_attribute("gen_ai.output.messages"),),
    ),
    Layout(
        version="ai-sdk/5",
        marks=re.compile(r"ai\.(operationId|prompt|response|model|usage|settings)(\.|$)"),
        names={
            "provider": ("ai.model.provider",),
            "request_model": ("ai.model.id",),
            "response_model": ("ai.response.model",),
            "response_id": ("ai.response.id",),
            "finish_reasons": ("ai.response.finishReason", "ai.finishReason"),
            "temperature": ("ai.settings.temperature",),
            "top_p": ("ai.settings.topP",),
            "max_tokens": ("ai.settings.maxOutputTokens", "ai.settings.maxTokens"),
            "input_tokens": ("ai.usage.inputTokens", "ai.usage.promptTokens"),
            "output_tokens": ("ai.usage.outputTokens", "ai.usage.completionTokens"),
            "cache_read_tokens": ("ai.usage.cachedInputTokens",),
            "reasoning_tokens": ("ai.usage.reasoningTokens",),
            "ttft_ms": ("ai.response.msToFirstChunk", "ai.stream.msToFirstChunk"),
            "agent": ("ai.telemetry.functionId",),
        },
        input=(_attribute("ai.prompt.messages"), _attribute("ai.prompt")),
        output=(_ai_sdk_answer,),
        tools=(_attribute("ai.prompt.tools"),),
    ),
    Layout(
        version="openinference/1",
        marks=re.compile(r"(llm\.(input|output)_messages\.|openinference\.span\.kind$)"),
        names={
            "provider": ("llm.provider", "llm.system"),
            "request_model": ("llm.model_name",),
            "parameters": ("llm.invocation_parameters",),
            "input_tokens": ("llm.token_count.prompt",),
            "output_tokens": ("llm.token_count.completion",),
            "cache_read_tokens": ("llm.token_count.prompt_details.cache_read",),
            "reasoning_tokens": ("llm.token_count.completion_details.reasoning",),
            "finish_reasons": ("llm.finish_reason",),
            "cost_usd": ("llm.cost.total",),
            "conversation": ("session.id",),
            "agent": ("agent.name",),
            "prompt_name": ("llm.prompt_template.name",),
            "prompt_version": ("llm.prompt_template.version",),
            "error_type": ("exception.type",),
        },
        input=(_numbered("llm.input_messages"), _asked_messages, _plain_text("input.value")),
        output=(
            _numbered("llm.output_messages"),
            _plain_text("output.value"),
        ),
        tools=(_numbered("llm.tools"),),
        answer=(_whole_answer,),
        model=(_asked_model,),
    ),
    Layout(
        version="openllmetry/0.4",
        marks=re.compile(r"(gen_ai\.(prompt|completion)\.\d+\.|traceloop\.|llm\.request\.)"),
        names={
            "operation": ("llm.request.type",),
            "stream": ("llm.is_streaming", "gen_ai.is_streaming"),
            "frequency_penalty": ("llm.frequency_penalty",),
            "presence_penalty": ("llm.presence_penalty",),
            "finish_reasons": ("llm.response.finish_reason",),
            "stop": ("llm.chat.stop_sequences",),
            "cache_read_tokens": ("gen_ai.usage.cache_read_input_tokens",),
            "reasoning_tokens": ("gen_ai.usage.reasoning_tokens", "llm.usage.reasoning_tokens"),
            "conversation": (
                "traceloop.association.properties.session_id",
                "traceloop.association.properties.thread_id",
            ),
            "agent": ("traceloop.entity.name",),
            "prompt_name": ("traceloop.prompt.key",),
            "prompt_version": ("traceloop.prompt.version",),
        },
        input=(_numbered("gen_ai.prompt"),),
        output=(_numbered("gen_ai.completion"),),
        tools=(_numbered("llm.request.functions"),),
    ),
    Layout(
        version="gen_ai/1.28",
        marks=re.compile(r"(gen_ai\.(system$|usage\.(input|output)_tokens$|choice$)|events$)"),
        names={
            "provider": ("gen_ai.system",),
            "n": ("gen_ai.request.choice.count",),
            "seed": ("gen_ai.openai.request.seed", "gen_ai.request.seed"),
            "cost_usd": ("operation.cost", "gen_ai.usage.cost"),
            "agent": ("agent_name",),
        },
        input=(_event_messages(answers=False),),
        output=(_event_messages(answers=True),),
        tools=(_attribute("model_request_parameters"),),
    ),
    Layout(
        version="gen_ai/1.26",
        marks=re.compile(r"gen_ai\.(prompt|completion|usage\.(prompt|completion)_tokens)$"),
        names={
            "input_tokens": ("gen_ai.usage.prompt_tokens",),
            "output_tokens": ("gen_ai.usage.completion_tokens",),
        },
        input=(_attribute("gen_ai.prompt"),),
        output=(_attribute("gen_ai.completion"),),
    ),
)
"""Newest first: a span's layout is the first whose content it carries, else whose marks."""

OURS = {
    "role": "flywheel.role",
    "project": "flywheel.project",
    "task_type": "flywheel.task_type",
    "episode": "flywheel.episode_id",
    "interaction": "flywheel.interaction_id",
    "parent": "flywheel.parent_id",
    "unit": "flywheel.unit_id",
    "key": "flywheel.key",
    "experiment": "flywheel.experiment_id",
    "arm": "flywheel.arm",
    "model_version": "flywheel.model_version_id",
    "completed": "flywheel.completed",
    "status": "flywheel.status",
    "cost_usd": "flywheel.cost_usd",
    "ttft_ms": "flywheel.ttft_ms",
    "usage_estimated": "flywheel.usage_estimated",
    "config_hash": "flywheel.config_hash",
    "feedback": "flywheel.feedback_id",
    "feedback_kind": "flywheel.feedback_kind",
    "feedback_source": "flywheel.feedback_source",
    "feedback_actor": "flywheel.feedback_actor",
    "loser": "flywheel.loser_interaction_id",
}
"""What the conventions have no name for."""

DETAILS_EVENT = "gen_ai.client.inference.operation.details"
EVALUATION_EVENT = "gen_ai.evaluation.result"

INFERENCE = frozenset({"chat", "text_completion", "generate_content"})
"""Operations that make an interaction."""

EMBEDDINGS = "embeddings"

ASKED = re.compile(
    r"(gen_ai\.(input\.messages|system_instructions|tool\.definitions|prompt|prompt\.\d.*)"
    r"|llm\.(input_messages|tools|request\.functions)\..*|llm\.invocation_parameters"
    r"|input\.(value|mime_type)|ai\.prompt(\..*)?|model_request_parameters|events)$"
)
ANSWERED = re.compile(
    r"(gen_ai\.(output\.messages|completion|completion\.\d.*)|llm\.output_messages\..*"
    r"|output\.(value|mime_type)|ai\.(response|result)\.(text|object|toolCalls|reasoning))$"
)
"""Attributes that hold content: once read they are request and response, and no attributes."""

_AI_SDK_CALLS = re.compile(r"ai\.(generate|stream)\w+\.do(Generate|Stream)$")
"""The AI SDK's spans of one model call; those around them sum up several."""


def layout_of(attributes: Attributes) -> Layout | None:
    """Return the layout that a span is written in, or None if it says nothing of a model."""
    carrying = [layout for layout in LAYOUTS if _carries(layout, attributes)]
    marked = [layout for layout in LAYOUTS if any(map(layout.marks.match, attributes))]
    both = [layout for layout in carrying if layout in marked]
    return next(iter(both or carrying or marked), None)


def _carries(layout: Layout, attributes: Attributes) -> bool:
    return any(find(attributes) for find in (*layout.input, *layout.output, *layout.answer))


def value_of(attributes: Attributes, layout: Layout, thing: str) -> Any:
    """Return what a span says of a thing, under its layout's names or under those of the others."""
    names = [name for each in (layout, *LAYOUTS) for name in each.names.get(thing, ())]
    return next((attributes[name] for name in names if attributes.get(name) is not None), None)


def ours(attributes: Attributes, thing: str) -> Any:
    """Return what a span says of a thing that only we have a name for."""
    return attributes.get(OURS[thing])


def operation_of(attributes: Attributes) -> str | None:
    """Return what a span did with a model, in the conventions' words; None if it called none.

    An agent's, a tool's or a summing span gives its own name, which is not in `INFERENCE`.
    """
    summed = attributes.get("ai.operationId")
    if isinstance(summed, str):
        return "chat" if _AI_SDK_CALLS.match(summed) else summed
    named = attributes.get("gen_ai.operation.name") or attributes.get("llm.request.type")
    if isinstance(named, str):
        return _OPERATIONS.get(named.lower(), named.lower())
    kind = attributes.get("openinference.span.kind")
    if isinstance(kind, str):
        return {"LLM": "chat", "EMBEDDING": "embeddings"}.get(kind.upper(), kind.lower())
    return "chat" if any(name in attributes for name in _CALL_MARKS) else None


_OPERATIONS = {"completion": "text_completion", "embedding": "embeddings"}

_CALL_MARKS = ("gen_ai.request.model", "gen_ai.input.messages", "gen_ai.prompt")
"""Where nothing says the operation, these say that a model was asked."""
