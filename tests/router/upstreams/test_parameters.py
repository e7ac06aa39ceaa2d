"""What the file changes in requests: in every dialect, and no byte beside it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.dialects import CHAT
from router.upstreams.config import CallRules, Template
from router.upstreams.parameters import applied, changes, edited

USER = {"role": "user", "content": "hi"}


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages or [USER]), **more}


def test_without_rules_nothing_changes() -> None:
    assert changes(chat(), "chat", CallRules()) == {}


@pytest.mark.parametrize(
    ("said", "rules", "expected"),
    [
        ({}, {"parameters": {"temperature": 0.2}}, {"temperature": 0.2}),
        ({"temperature": None}, {"parameters": {"temperature": 0.2}}, {"temperature": 0.2}),
        ({"temperature": 0}, {"parameters": {"temperature": 0.2}}, {}),
        ({"temperature": 1}, {"forced": {"temperature": 0.2}}, {"temperature": 0.2}),
        ({"max_completion_tokens": 5}, {"parameters": {"max_tokens": 9}}, {}),
        ({}, {"at_most": {"max_tokens": 9}}, {"max_tokens": 9}),
        ({"max_tokens": 8}, {"at_most": {"max_tokens": 9}}, {}),
        ({"max_tokens": 10}, {"at_most": {"max_tokens": 9}}, {"max_tokens": 9}),
        ({"max_tokens": -1}, {"at_most": {"max_tokens": 9}}, {"max_tokens": 9}),
        ({"max_tokens": "99"}, {"at_most": {"max_tokens": 9}}, {"max_tokens": 9}),
        ({"max_tokens": True}, {"at_most": {"max_tokens": 9}}, {"max_tokens": 9}),
        ({"max_tokens": float("nan")}, {"at_most": {"max_tokens": 9}}, {"max_tokens": 9}),
        (
            {"max_completion_tokens": 99, "max_tokens": 98},
            {"at_most": {"max_tokens": 9}},
            {"max_completion_tokens": 9, "max_tokens": 9},
        ),
        ({}, {"at_most": {"temperature": 0.5}}, {}),
        ({"temperature": 0.9}, {"at_most": {"temperature": 0.5}}, {"temperature": 0.5}),
        ({}, {"parameters": {"max_tokens": 50}, "at_most": {"max_tokens": 9}}, {"max_tokens": 9}),
    ],
    ids=[
        "default", "default-over-null", "callers-own-wins", "forced", "other-name-of-the-limit",
        "limit-where-none", "within", "above", "minus-one", "text", "true", "nan", "both-names",
        "no-limit-invented", "temperature-above", "default-within-limit",
    ],
)  # fmt: skip
def test_parameters_and_limits(said, rules, expected) -> None:
    assert changes(chat(**said), "chat", CallRules(**rules)) == expected


@pytest.mark.parametrize(
    ("dialect", "name"),
    [("messages", "max_tokens"), ("responses", "max_output_tokens"), ("completions", "max_tokens")],
)
def test_the_limit_of_tokens_is_called_as_the_dialect_calls_it(dialect: str, name: str) -> None:
    rules = CallRules(at_most={"max_tokens": 9})
    assert changes({"model": "m", name: 10}, dialect, rules) == {name: 9}


def test_embeddings_are_left_alone() -> None:
    rules = CallRules(forced={"temperature": 0.2}, template=Template(system="s"))
    assert changes({"model": "m", "input": "x"}, "embeddings", rules) == {}


SYSTEM = {"role": "system", "content": "be brief"}


@pytest.mark.parametrize(
    ("template", "said", "expected"),
    [
        (Template(system="s"), [USER], [{"role": "system", "content": "s"}, USER]),
        (Template(system="s"), [SYSTEM, USER], None),
        (Template(system_prefix="p "), [SYSTEM, USER], [{**SYSTEM, "content": "p be brief"}, USER]),
        (Template(system_prefix="p"), [USER], [{"role": "system", "content": "p"}, USER]),
        (
            Template(system="s", system_prefix="p "),
            [USER],
            [{"role": "system", "content": "p s"}, USER],
        ),
        (
            Template(user_prefix="<", user_suffix=">"),
            [USER, {"role": "assistant", "content": None}, USER, {"role": "tool", "content": "t"}],
            [
                USER,
                {"role": "assistant", "content": None},
                {"role": "user", "content": "<hi>"},
                {"role": "tool", "content": "t"},
            ],
        ),
        (
            Template(user_prefix="<"),
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}],
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "<"},
                        {"type": "image_url", "image_url": {"url": "u"}},
                    ],
                }
            ],
        ),
    ],
    ids=["system", "callers-system", "prefix", "prefix-alone", "both", "last-user", "parts"],
)
def test_templates_of_chats(template: Template, said: Any, expected: Any) -> None:
    made = changes(chat(*said), "chat", CallRules(template=template))
    assert made == ({} if expected is None else {"messages": expected})


def test_templates_of_the_other_dialects() -> None:
    rules = CallRules(template=Template(system="s", user_prefix="<", user_suffix=">"))
    asked = {"model": "m", "messages": [USER]}
    assert changes(asked, "messages", rules) == {
        "system": "s",
        "messages": [{"role": "user", "content": "<hi>"}],
    }
    assert changes({"model": "m", "input": "hi"}, "responses", rules) == {
        "instructions": "s",
        "input": "<hi>",
    }
    assert changes({"model": "m", "prompt": "hi"}, "completions", rules) == {"prompt": "<hi>"}


def test_a_tool_result_is_not_the_users_words() -> None:
    result = {"role": "user", "content": [{"type": "tool_result", "content": "x"}]}
    rules = CallRules(template=Template(user_suffix="!"))
    made = changes({"messages": [USER, result]}, "messages", rules)
    assert made == {"messages": [{"role": "user", "content": "hi!"}, result]}


@pytest.mark.parametrize(
    "messages", [None, 3, "text", [3], [None], [{}], [{"role": "user"}], [{"content": 5}], []],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("dialect", ["chat", "messages", "responses", "completions"])
def test_wrong_kinds_never_break_it(messages: Any, dialect: str) -> None:
    rules = CallRules(template=Template("s", "p", "<", ">"), at_most={"max_tokens": 9})
    field = {"responses": "input", "completions": "prompt"}.get(dialect, "messages")
    assert changes({field: messages, "system": 3, "instructions": 4}, dialect, rules)


def test_an_edit_leaves_every_other_byte() -> None:
    text = (
        '\n{ "messages" :[ {"role":"user","content":"\\u00e9 \\/"} ],"temperature":1.50 ,"x":1e3}\n'
    )
    assert edited(text, {"temperature": 0.2}) == text.replace("1.50", "0.2")
    assert edited(text, {"top_k": 4}) == text.replace("{ ", '{"top_k": 4,  ', 1)
    assert edited(text, {}) is text
    assert edited("{}", {"a": "ü"}) == '{"a": "ü"}'


def test_a_member_that_is_there_twice_is_set_twice() -> None:
    assert edited('{"n": 7, "n": 9}', {"n": 1}) == '{"n": 1, "n": 1}'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
OBJECTS = st.dictionaries(st.text(max_size=4), JSON, max_size=4)


@settings(max_examples=60, deadline=None)
@given(OBJECTS, OBJECTS, st.sampled_from([None, 1]), st.booleans())
def test_an_edited_text_reads_as_the_edited_object(asked, changed, indent, ascii_only) -> None:
    text = json.dumps(asked, indent=indent, ensure_ascii=ascii_only)
    assert json.loads(edited(text, changed)) == {**asked, **changed}


def test_a_request_is_sent_as_it_came_unless_something_changes() -> None:
    asked = CHAT.read(b'{"model":"m", "messages":[], "temperature":1.50}')
    assert applied(asked, CallRules(parameters={"temperature": 0.2})) is asked
    sent = applied(asked, CallRules(forced={"top_k": 4}, at_most={"temperature": 1}))
    assert sent.with_model("x") == (b'{"top_k": 4, "model":"x", "messages":[], "temperature":1}')
    assert sent.values["top_k"] == 4
