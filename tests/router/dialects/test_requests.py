"""What is asked in a dialect becomes the chat it means, or is refused by name."""

import json
from typing import Any

import pytest
from dialect_chats import ARGUMENTS, REQUESTS, asked, call
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import BadInput
from router.dialects import DIALECTS, OF_PATH, count_tokens, read


def chat_of(dialect: str, **more: Any) -> dict[str, Any]:
    return asked(dialect, **more).chat


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_each_has_a_path_here_and_on_an_upstream() -> None:
    assert {path: one.native_path for path, one in OF_PATH.items()} == {
        "/v1/chat/completions": "/chat/completions",
        "/v1/completions": "/completions",
        "/v1/embeddings": "/embeddings",
        "/v1/responses": "/responses",
        "/v1/messages": "/messages",
    }


def test_only_the_model_changes_in_what_is_passed_on() -> None:
    body = '{ "max_tokens":9.0,"model" : "role:coder","messages":[{"content":"\\u00e9é"}]}'.encode()
    one = DIALECTS["messages"].read(body)
    assert (one.model, one.stream, one.wants_usage, one.body) == ("role:coder", False, False, body)
    assert one.with_model("coder-v1") == body.replace(b'"role:coder"', b'"coder-v1"')


def test_a_translated_request_names_the_target_s_model() -> None:
    body = asked("completions", prompt="é \ud83d").as_chat("coder-v1")
    assert json.loads(body)["model"] == "coder-v1"
    body.decode("ascii")


def test_limits_are_found_by_whatever_name() -> None:
    assert asked("responses", max_output_tokens=5).max_output_tokens == 5
    assert asked("chat", max_tokens=None, max_completion_tokens=7).max_output_tokens == 7
    assert asked("chat", max_tokens=9, max_completion_tokens=7).max_output_tokens == 9
    assert asked("chat", max_tokens=10**400).max_output_tokens == 10**12
    assert asked("chat", max_tokens=-3).max_output_tokens is None


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"{}", b'{"model": 3}', b"\xff", b"[" * 9999])
def test_what_is_no_request_is_refused(dialect: str, body: bytes) -> None:
    with pytest.raises(BadInput):
        DIALECTS[dialect].read(body)


def test_chats_are_read_by_default() -> None:
    assert read(b'{"model": "m"}').dialect is DIALECTS["chat"]


# Messages

BLOCKS = [
    {"type": "thinking", "thinking": "hm", "signature": "s"},
    {"type": "text", "text": "I write", "cache_control": {"type": "ephemeral"}},
    {"type": "tool_use", "id": "t1", "name": "write", "input": {"a": "é"}},
    {"type": "tool_use", "id": "t2", "name": "read", "input": {}},
]
RESULTS = [
    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "done"}]},
    {"type": "tool_result", "tool_use_id": "t2", "content": "none", "is_error": True},
    {"type": "text", "text": "go on"},
]


def test_a_conversation_with_tools_in_anthropic_s_words() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    chat = chat_of(
        "messages",
        system=[{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
        messages=[user("hi"), {"role": "assistant", "content": BLOCKS}, user(RESULTS)],
        tools=[{"name": "write", "description": "d", "input_schema": schema}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        temperature=0.5,
        top_k=4,
        metadata={"user_id": "u"},
        stream=True,
    )
    assert chat["messages"] == [
        {"role": "system", "content": "be brief"},
        user("hi"),
        {
            "role": "assistant",
            "content": "I write",
            "tool_calls": [
                {**call(0, "write", '{"a": "é"}'), "id": "t1"},
                {**call(0, "read", "{}"), "id": "t2"},
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "done"},
        {"role": "tool", "tool_call_id": "t2", "content": "none"},
        user("go on"),
    ]
    function = {"name": "write", "description": "d", "parameters": schema}
    assert chat["tools"] == [{"type": "function", "function": function}]
    assert {k: v for k, v in chat.items() if k not in ("messages", "tools")} == {
        "model": "m", "max_tokens": 9, "stop": ["END"], "temperature": 0.5, "top_k": 4,
        "tool_choice": "required", "parallel_tool_calls": False, "user": "u", "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_images_become_parts() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "what?"}]
    (message,) = chat_of("messages", messages=[user(content)])["messages"]
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "text", "text": "what?"},
    ]


@pytest.mark.parametrize(
    ("given", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 16384}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 30000}}, "high"),
        ({"thinking": {"type": "disabled"}}, None),
        ({"output_config": {"effort": "max"}}, "high"),
        ({}, None),
    ],
    ids=["low", "medium", "high", "disabled", "effort", "unsaid"],
)
def test_how_hard_to_think(given: dict[str, Any], effort: str | None) -> None:
    assert chat_of("messages", **given).get("reasoning_effort") == effort


def test_a_schema_of_the_answer_is_kept() -> None:
    schema = {"type": "object"}
    chat = chat_of("messages", output_config={"format": {"type": "json_schema", "schema": schema}})
    assert chat["response_format"]["json_schema"]["schema"] == schema


@pytest.mark.parametrize(
    ("place", "given"),
    [
        ("messages", {"messages": []}),
        ("messages", {"messages": "hi"}),
        ("messages[0].role", {"messages": ["hi"]}),
        ("messages[0].content", {"messages": [user(3)]}),
        ("messages[0].content[0].type", {"messages": [user([{"type": "document"}])]}),
        ("messages[0].content[0].type", {"messages": [user(["hi"])]}),
        ("messages[0].content[0].source", {"messages": [user([{"type": "image"}])]}),
        (
            "messages[0].content[0].content[0].type",
            {"messages": [user([{"type": "tool_result", "content": [{"type": "x"}]}])]},
        ),
        ("system", {"system": 3}),
        ("tools[0]", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("mcp_servers", {"mcp_servers": [{"url": "http://x"}]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_messages_that_no_chat_can_answer(place: str, given: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        chat_of("messages", **given)
    assert caught.value.what == place


def test_tokens_are_estimated_before_a_call() -> None:
    short = count_tokens({"messages": [user("four char")]})
    assert short == {"input_tokens": 3}
    source = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    image = [{"type": "image", "source": source}, {"type": "text", "text": "four char"}]
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    assert count_tokens({"messages": [user(image)]})["input_tokens"] == 1503
    assert count_tokens({"messages": [user("hi")], "tools": tools})["input_tokens"] > 10
    with pytest.raises(BadInput):
        count_tokens({})


# Responses


def test_a_conversation_with_tools_in_the_words_of_responses() -> None:
    items = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "…"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I"}]},
        {"type": "function_call", "call_id": "c1", "name": "write", "arguments": ARGUMENTS},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
    ]
    chat = chat_of(
        "responses",
        input=items,
        instructions="be kind",
        tools=[{"type": "function", "name": "write", "parameters": {}, "strict": True}],
        tool_choice={"type": "function", "name": "write"},
        reasoning={"effort": "low"},
        text={"format": {"type": "json_schema", "name": "a", "schema": {}}},
        max_output_tokens=5,
        include=["reasoning.encrypted_content"],
        metadata={"x": "y"},
        store=False,
        stream=True,
    )
    assert chat["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "system", "content": "be brief"},
        user("hi"),
        {
            "role": "assistant",
            "content": "I",
            "tool_calls": [{**call(0), "id": "c1"}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]
    function = {"name": "write", "parameters": {}, "strict": True}
    assert chat["tools"] == [{"type": "function", "function": function}]
    assert {k: v for k, v in chat.items() if k not in ("messages", "tools")} == {
        "model": "m", "max_tokens": 5, "reasoning_effort": "low", "stream": True,
        "stream_options": {"include_usage": True},
        "tool_choice": {"type": "function", "function": {"name": "write"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("place", "given"),
    [
        ("previous_response_id", {"previous_response_id": "resp_1"}),
        ("store", {"store": True}),
        ("conversation", {"conversation": "conv_1"}),
        ("background", {"background": True}),
        ("prompt", {"prompt": {"id": "pmpt_1"}}),
        ("top_logprobs", {"top_logprobs": 3}),
        ("input", {"input": None}),
        ("input", {"input": []}),
        ("input[0].type", {"input": ["hi"]}),
        ("input[0].type", {"input": [{"type": "item_reference", "id": "x"}]}),
        ("input[0].content", {"input": [{"role": "user"}]}),
        ("input[0].content[0].type", {"input": [user([{"type": "input_audio"}])]}),
        ("input[0].content[0]", {"input": [user([{"type": "input_image", "file_id": "f"}])]}),
        ("input[0].output", {"input": [{"type": "function_call_output", "call_id": "c"}]}),
        ("instructions", {"instructions": [3]}),
        ("tools[0].type", {"tools": [{"type": "web_search"}]}),
        ("tool_choice", {"tool_choice": {"type": "file_search"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_responses_that_no_chat_can_give(place: str, given: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        chat_of("responses", **given)
    assert caught.value.what == place


# Completions and embeddings


def test_a_prompt_is_one_user_message() -> None:
    chat = chat_of("completions", prompt=["hi"], max_tokens=3, best_of=1, echo=False, top_k=2)
    assert chat == {"model": "m", "messages": [user("hi")], "max_tokens": 3, "top_k": 2}


@pytest.mark.parametrize(
    ("place", "given"),
    [
        ("prompt", {"prompt": ["a", "b"]}),
        ("prompt", {"prompt": [1, 2]}),
        ("prompt", {"prompt": None}),
        ("suffix", {"suffix": "x"}),
        ("echo", {"echo": True}),
        ("logprobs", {"logprobs": 2}),
        ("best_of", {"best_of": 3}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_completions_that_no_chat_can_give(place: str, given: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        chat_of("completions", **given)
    assert caught.value.what == place


def test_no_chat_gives_vectors() -> None:
    with pytest.raises(BadInput, match="speaks embeddings"):
        DIALECTS["embeddings"].as_chat({"model": "m", "input": "hi"})


strange = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "role", "content", "text", "output", "name", "source", "effort"]),
        inner | st.sampled_from(["user", "text", "image", "message", "tool_result", "json_schema"]),
        max_size=4,
    ),
    max_leaves=10,
)  # fmt: skip
MEMBERS = [
    "messages", "input", "prompt", "system", "instructions", "tools", "tool_choice", "reasoning",
    "text", "thinking", "metadata", "output_config", "stop_sequences", "stream",
]  # fmt: skip


@pytest.mark.parametrize("dialect", ["completions", "responses", "messages"])
@settings(deadline=None, max_examples=150)
@given(more=st.dictionaries(st.sampled_from(MEMBERS), strange, max_size=5))
def test_nothing_but_a_refusal_comes_of_strange_requests(dialect: str, more: Any) -> None:
    try:
        chat = DIALECTS[dialect].as_chat({**REQUESTS[dialect], **more})
    except BadInput:
        return
    assert isinstance(chat["messages"], list)
    json.dumps(chat)
