"""Bytes: only the model changes in a request, and a stream is read back however it is cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import BadInput
from router.wire import as_event, read_answer, read_chat, read_stream, upstream_error

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

    chat = read_chat(dumped("role:coder"))
    assert chat.model == "role:coder"
    assert chat.with_model("coder-v3") == dumped("coder-v3")


def test_bytes_that_json_would_rewrite_stay() -> None:
    body = '\n{ "temperature":1.0e0 , "s":"\\u00e9é", "model" :"a" ,"n":10000000000000000000001 }\n'
    assert read_chat(body.encode()).with_model("b").decode() == body.replace('"a"', '"b"')


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"model": "m"', b'{"model": "m"} x', b"{'model': 1}", b'{"model": "m",}',
     b'{"model" "m"}', b"\xff", b"{1: 2}", b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput, match="request body"):
        read_chat(body)


@pytest.mark.parametrize("body", [b"{}", b'{"model": null}', b'{"model": ""}', b'{"model": 3}'])
def test_a_request_without_a_model_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput, match="model"):
        read_chat(body)


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return as_event({"id": "1", "choices": [choice]})


@given(cuts=st.lists(st.integers(0, 400), max_size=6))
def test_a_stream_reads_the_same_however_it_is_cut_up(cuts: list[int]) -> None:
    whole = b": hello\r\n" + chunk("é") + chunk("n", "stop") + b"event: x\ndata: [DONE]\n\n"
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    read = read_stream(pieces)
    assert [c["choices"][0]["delta"]["content"] for c in read.chunks] == ["é", "n"]
    assert read.ended
    assert read.error is None


def test_a_stream_ends_by_done_or_by_its_reasons() -> None:
    assert read_stream([chunk("a", "stop")]).ended
    assert read_stream([chunk("a"), b"data: [DONE]"]).ended
    assert not read_stream([chunk("a")]).ended
    assert not read_stream([]).ended
    assert not read_stream([chunk("a"), chunk("b")[:-20]]).ended


def test_a_stream_that_says_an_error_has_not_ended_well() -> None:
    read = read_stream([chunk("a"), as_event({"error": {"code": "overloaded"}}), b"data: [DONE]\n"])
    assert read.error == {"code": "overloaded"}
    assert not read.ended


def test_garbage_in_a_stream_is_skipped() -> None:
    read = read_stream([b"data: {]\n", b"data: 3\n", b'data: {"choices": [1]}\n', chunk("a")])
    assert len(read.chunks) == 1


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error": {"message": "m", "type": "t", "code": "c"}}', "c"),
        (b'{"error": {"message": "m", "type": "t", "code": null}}', "t"),
        (b'{"error": "no such model"}', "http_404"),
        (b"<html>", "http_404"),
        (b"", "http_404"),
    ],
)
def test_every_upstream_error_takes_openai_s_shape(body: bytes, kind: str) -> None:
    shaped, found = upstream_error(404, body)
    assert found == kind
    assert shaped["error"]["message"]
    assert "type" in shaped["error"]


def test_an_answer_is_known_by_its_choices() -> None:
    assert read_answer(b'{"choices": []}') == {"choices": []}
    for garbage in (b"", b"{", b"[]", b"{}", b'{"choices": 3}'):
        assert read_answer(garbage) is None
