"""Perplexity and bits per byte: by hand, over a real engine, refusals, batches in turn."""

import math

import pytest
from scoring_app import create_scoring_app
from upstream_app import Server, create_upstream_app

from evaluator.metrics.likelihood import (
    Likelihood,
    TextLikelihood,
    difference,
    measure_likelihood,
    read_texts,
    scorer,
    text_likelihood,
)
from foundation.errors import BadInput
from serving.backends.openai_compatible import EngineUnavailable, ensure_adapter, remove_adapter
from serving.backends.prompt_logprobs import NoPromptLogprobs, ScoredText, prompt_logprobs

TEXTS = [f"the sum is {n}, größer als {n - 1} {'!' * (n % 4)}" for n in range(11)]


@pytest.fixture
def scoring():
    app = create_scoring_app()
    with Server(app) as server:
        server.app = app
        yield server


def test_perplexity_and_bits_by_hand():
    one = text_likelihood(ScoredText("abcd", ["ab", "c", "d"], [None, -1.0, -2.0]))
    assert one == TextLikelihood(3.0, 2, 2)
    both = Likelihood((one, TextLikelihood(1.0, 2, 6)), 8)
    assert both.perplexity == pytest.approx(math.e)
    assert both.bits_per_byte == pytest.approx(4 / math.log(2) / 8)


@pytest.mark.parametrize(
    ("text", "tokens", "n_bytes"),
    [
        ("größer", ["gr", "ö", "ßer"], 6),
        ("größer", ["<s>", "gr", "ößer"], 8),  # the start token is no part of the text
        ("🙂x", ["\ufffd", "\ufffd", "x"], 5),  # a part of a character: nothing is taken off
    ],
)
def test_bytes_are_those_of_the_scored_tokens(text, tokens, n_bytes):
    logprobs = [None, *[-1.0] * (len(tokens) - 1)]
    assert text_likelihood(ScoredText(text, tokens, logprobs)).n_bytes == n_bytes


def test_bits_per_byte_do_not_depend_on_the_tokenizer_and_perplexity_does():
    fine = text_likelihood(ScoredText("aabbbb", ["<s>", *"aabbbb"], [None, *[-0.5] * 6]))
    coarse = text_likelihood(ScoredText("aabbbb", ["<s>", "aabb", "bb"], [None, -2.0, -1.0]))
    found = [Likelihood((one,), 1) for one in (fine, coarse)]
    assert found[0].bits_per_byte == found[1].bits_per_byte
    assert found[0].perplexity < found[1].perplexity


def test_a_text_of_one_token_is_not_computable():
    only = Likelihood((text_likelihood(ScoredText("a", ["a"], [None])),), 1)
    assert (only.perplexity, only.bits_per_byte) == (None, None)
    assert only.as_json()["n_tokens"] == 0


def test_both_models_score_the_same_batches_in_turn(scoring):
    models = {name: scorer(f"{scoring.url}/v1", name) for name in ("base", "other")}
    found = measure_likelihood(models, TEXTS, 4)
    asked = scoring.app.state.batches
    assert [name for name, _ in asked] == ["base", "other", "other", "base", "base", "other"]
    assert [len(texts) for _, texts in asked[::2]] == [4, 4, 3]
    for name in models:
        assert sum((texts for model, texts in asked if model == name), []) == TEXTS
    assert found["base"].perplexity == pytest.approx(math.e)
    assert found["other"].perplexity == pytest.approx(math.exp(1.5))
    assert found["base"].as_json()["batch_size"] == 4


def test_an_engine_tells_an_adapter_from_its_base(tiny_engine):
    url = tiny_engine.base_url
    ensure_adapter(url, "scored-v1", tiny_engine.adapter)
    models = {name: scorer(url, name) for name in ("base", "scored-v1")}
    found = measure_likelihood(models, TEXTS, 4)
    other = measure_likelihood(models, TEXTS, 3)
    remove_adapter(url, "scored-v1")
    for name, likelihood in found.items():
        assert likelihood.bits_per_byte == pytest.approx(other[name].bits_per_byte, abs=1e-5)
    assert 100 < found["base"].perplexity < 1000, "random weights know of 300 tokens nothing"
    gap = difference(found["base"], found["scored-v1"])
    assert gap.bits_per_byte != 0
    assert gap.low <= gap.bits_per_byte <= gap.high
    assert difference(found["base"], found["base"]).bits_per_byte == 0
    with pytest.raises(BadInput, match="batch size"):
        difference(found["base"], other["base"])


def test_few_texts_have_no_interval():
    few = Likelihood((TextLikelihood(1.0, 1, 1),) * 5, 8)
    assert difference(few, few).low is None


def test_a_server_without_prompt_logprobs_is_refused():
    with (
        Server(create_upstream_app()) as server,
        pytest.raises(NoPromptLogprobs, match="404.*expected the log-probability"),
    ):
        prompt_logprobs(f"{server.url}/v1", "gpt", ["x y"])
    with pytest.raises(EngineUnavailable):
        prompt_logprobs("http://127.0.0.1:9/v1", "gpt", ["x y"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda one: {**one, "text": one["text"] + " and more"}, "echoes another text"),
        (lambda one: {**one, "logprobs": None}, "scores no prompt"),
        (lambda one: {"index": one["index"]}, "scores no prompt"),
        (
            lambda one: {**one, "logprobs": {"tokens": ["x"], "token_logprobs": [None, -1.0]}},
            "1 tokens have 2",
        ),
        (
            lambda one: {**one, "logprobs": {"tokens": ["x"], "token_logprobs": [2.5]}},
            "no logarithms of probabilities",
        ),
    ],
)
def test_an_answer_that_scores_no_prompt_is_refused(scoring, change, reason):
    scoring.app.state.change = change
    with pytest.raises(NoPromptLogprobs, match=reason):
        prompt_logprobs(f"{scoring.url}/v1", "base", ["x y"])


def test_a_text_too_long_for_the_engine_is_named(tiny_engine):
    with pytest.raises(NoPromptLogprobs, match=r"prompt\[1\].*Cut the text"):
        prompt_logprobs(tiny_engine.base_url, "base", ["short", "long " * 500])


def test_texts_come_from_lines_or_from_json_lines(tmp_path):
    plain, lines = tmp_path / "texts.txt", tmp_path / "texts.jsonl"
    plain.write_text("one\n\n  two\n")
    lines.write_text('{"text": "one\\nand more"}\n{"text": "two"}\n')
    assert read_texts(plain) == ["one", "  two"]
    assert read_texts(lines) == ["one\nand more", "two"]
    for content, named in (('{"text": 3}\n', "text 1"), ("{", "text 1"), ("\n", "one line")):
        lines.write_text(content)
        with pytest.raises(BadInput, match=named):
            read_texts(lines)
    plain.write_bytes(b"\xff\xfe")
    for path in (plain, tmp_path / "none.txt"):
        with pytest.raises(BadInput, match="UTF-8 file"):
            read_texts(path)


@pytest.mark.parametrize(("texts", "size"), [([], 1), (["x", ""], 1), (["x"], 0)])
def test_nothing_to_score_is_refused(texts, size):
    with pytest.raises(BadInput):
        measure_likelihood({}, texts, size)
