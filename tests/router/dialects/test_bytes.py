"""Bytes: only the model changes in a request; a stream reads the same however it is cut."""

import json

import pytest
from dialect_chats import DONE, REQUESTS, chunk
from hypothesis import given
from hypothesis import strategies as st

from foundation import chat
from foundation.errors import BadInput
from router.dialects import CHAT, Recorded, read, recorded_stream
from router.dialects.chat import as_event

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(
    members=st.dictionaries(st.text(max_size=6).filter(lambda key: key != "model"), values),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_only_the_model_changes(members, indent, ascii_only) -> None:
    def dumped(model: str) -> bytes:
        request = {**members, "model": model, "zz": {"model": "inner"}}
        return json.dumps(request, indent=indent, ensure_ascii=ascii_only).encode()

    asked = read(dumped("role:coder"))
    assert asked.model == "role:coder"
    assert asked.values == json.loads(dumped("role:coder"))
    assert asked.with_model("coder-v3") == dumped("coder-v3")


def test_bytes_that_json_would_rewrite_stay() -> None:
    body = '\n{ "temperature":1.0e0 , "s":"\\u00e9é", "model" :"a" ,"n":10000000000000000000001 }\n'
    assert read(body.encode()).with_model("b").decode() == body.replace('"a"', '"b"')


def test_a_model_that_is_said_twice_is_changed_twice() -> None:
    asked = read(b'{"model": "a", "model": "b"}')
    assert (asked.model, asked.with_model("c")) == ("b", b'{"model": "c", "model": "c"}')


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"model": "m"', b'{"model": "m"} x', b"{'model': 1}", b'{"model": "m",}',
     b'{"model" "m"}', b"\xff", b"{1: 2}", b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput, match="request body"):
        read(body)


@pytest.mark.parametrize("body", [b"{}", b'{"model": null}', b'{"model": ""}', b'{"model": 3}'])
def test_a_request_without_a_model_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput, match="model"):
        read(body)


def seen(*pieces: bytes) -> Recorded:
    return recorded_stream(CHAT, REQUESTS["chat"], b"".join(pieces), is_native=True)


def test_comments_names_and_line_ends_make_no_difference() -> None:
    whole = b": hello\r\n" + chunk(content="é") + chunk("stop", content="n") + b"event: x\n" + DONE
    for body in (whole, whole.replace(b"\n", b"\r\n").replace(b"\r\r", b"\r")):
        one = seen(body)
        assert (chat.answer_text(one.response), one.ended, one.error) == ("én", True, None)


def test_a_stream_ends_by_done_or_by_its_reasons() -> None:
    assert seen(chunk("stop", content="a")).ended
    assert seen(chunk(content="a"), b"data: [DONE]").ended
    assert not seen(chunk(content="a")).ended
    assert not seen().ended
    assert not seen(chunk(content="a"), chunk("stop")[:-20]).ended


def test_a_stream_that_says_an_error_has_not_ended_well() -> None:
    one = seen(chunk(content="a"), as_event({"error": {"code": "overloaded"}}), DONE)
    assert (one.error, one.ended) == ({"code": "overloaded"}, False)
    assert chat.answer_text(one.response) == "a"


def test_garbage_in_a_stream_is_skipped() -> None:
    garbage = b'data: {]\ndata: 3\ndata: {"choices": [1]}\n\ndata: {"choices": 3}\n\n'
    one = seen(garbage, chunk("stop", content="a"))
    assert chat.answer_text(one.response) == "a"
    assert one.ended
