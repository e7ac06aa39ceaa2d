"""Scoring of texts: agreement with transformers' loss, whatever stands beside a text, the door."""

import math
import re

import httpx
import openai
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import serving.engine.scoring
from foundation.errors import NotFound
from serving.backends.openai_compatible import ensure_adapter, remove_adapter
from serving.engine import Engine
from serving.rows import Limits

TEXTS = [
    "the sum is 7",
    "add 3 and 4",
    "a much longer text, so that the others are padded: the sum is 1, the sum is 2, the sum is 3",
    "Größe: 3 €, 日本 🙂 the sum is 0",
    "x",
    "the sum is 7",
]


@pytest.fixture
def engine(served_base, yes_adapter):
    engine = Engine.load(served_base)
    engine.add_adapter("yes", yes_adapter)
    return engine


@pytest.fixture
def client(server, yes_adapter):
    ensure_adapter(f"{server.url}/v1", "yes", yes_adapter)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened
    remove_adapter(f"{server.url}/v1", "yes")


def loss_of(scored):
    known = [logprob for logprob in scored.logprobs if logprob is not None]
    return -sum(known) / len(known)


@pytest.mark.parametrize("adapter", [None, "yes"])
def test_the_loss_is_that_of_transformers(engine, served_base, yes_adapter, adapter):
    model = AutoModelForCausalLM.from_pretrained(served_base, dtype=torch.float32).eval()
    if adapter:
        model = PeftModel.from_pretrained(model, str(yes_adapter)).eval()
    tokenizer = AutoTokenizer.from_pretrained(served_base)
    for text, scored in zip(TEXTS, engine.score(TEXTS, adapter=adapter), strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        assert len(scored.tokens) == ids.shape[1]
        if ids.shape[1] > 1:
            with torch.inference_mode():
                expected = model(input_ids=ids, labels=ids).loss.item()
            assert loss_of(scored) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("adapter", [None, "yes"])
def test_a_score_depends_on_no_batch_padding_or_chunk(engine, monkeypatch, adapter):
    together = engine.score(TEXTS, adapter=adapter)
    alone = [engine.score([text], adapter=adapter)[0] for text in TEXTS]
    engine.limits = Limits(rows=2)
    in_pairs = engine.score(TEXTS, adapter=adapter)
    engine.limits = Limits()
    monkeypatch.setattr(serving.engine.scoring, "LOGITS_AT_ONCE", 1)  # one token at a time
    by_token = engine.score(TEXTS, adapter=adapter)
    for other in (alone, in_pairs, by_token):
        for one, two in zip(together, other, strict=True):
            assert one.tokens == two.tokens
            assert one.logprobs[1:] == pytest.approx(two.logprobs[1:], abs=1e-5)
    assert engine.score(TEXTS, adapter=adapter) == by_token, "the same call, the same figures"


def test_an_adapter_scores_otherwise_than_its_base(engine):
    base, adapter = (engine.score(TEXTS, adapter=name) for name in (None, "yes"))
    assert abs(loss_of(base[0]) - loss_of(adapter[0])) > 0.1
    assert engine.score(TEXTS) == base
    with pytest.raises(NotFound, match="'no'"):
        engine.score(TEXTS, adapter="no")
    assert engine.score([]) == []


def test_the_likeliest_token_is_no_less_likely_than_the_texts_own(engine):
    for scored in engine.score(TEXTS):
        assert scored.logprobs[0] is None
        assert scored.best[0] is None
        for own, best in zip(scored.logprobs[1:], scored.best[1:], strict=True):
            assert own <= best[1] <= 0


@pytest.mark.parametrize("n_best", [0, 1])
def test_echoed_prompts_have_the_shape_of_openai_and_vllm(client, engine, n_best):
    answer = client.completions.create(
        model="yes", prompt=TEXTS, echo=True, logprobs=n_best, max_tokens=0
    )
    assert answer.object == "text_completion"
    assert [choice.text for choice in answer.choices] == TEXTS
    assert [choice.index for choice in answer.choices] == list(range(len(TEXTS)))
    expected = engine.score(TEXTS, adapter="yes")
    for text, choice, scored in zip(TEXTS, answer.choices, expected, strict=True):
        said = choice.logprobs
        assert said.tokens == scored.tokens
        assert said.token_logprobs[1:] == pytest.approx(scored.logprobs[1:], abs=1e-5)
        assert said.token_logprobs[0] is None
        assert said.top_logprobs[0] is None
        for token, own, top in zip(
            said.tokens, said.token_logprobs, said.top_logprobs, strict=True
        ):
            assert top is None or len(top) in {1, 1 + n_best}
            assert top is None or token in top or math.isclose(max(top.values()), own)
        assert said.text_offset == sorted(said.text_offset)
        assert said.text_offset[-1] < len(text)
    n_tokens = sum(len(scored.tokens) for scored in expected)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (n_tokens, 0)


def test_offsets_count_characters_also_where_tokens_are_parts_of_them(client):
    text = TEXTS[3]
    said = client.completions.create(
        model="base", prompt=text, echo=True, logprobs=0, max_tokens=0
    ).choices[0]
    offsets = [*said.logprobs.text_offset, len(text)]
    for token, start, end in zip(said.logprobs.tokens, offsets[:-1], offsets[1:], strict=True):
        assert "\ufffd" in token or text[start:end] == token


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_tokens": 5}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"echo": False}, "echo"),
        ({"logprobs": 5}, "logprobs"),
        ({"logprobs": None}, "logprobs"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["x"] * 129}, "prompt"),
        ({"prompt": ["x", ""]}, r"prompt\[1\]"),
        ({"prompt": "add 3 and 4 " * 200}, r"prompt\[0\]"),
        ({"prompt": [1, 2]}, "prompt"),
    ],
)
def test_what_is_not_scored_is_refused_by_name(server, options, named):
    body = {"model": "base", "prompt": "x", "echo": True, "logprobs": 0, "max_tokens": 0, **options}
    answer = httpx.post(f"{server.url}/v1/completions", json=body)
    assert answer.status_code == 400
    assert re.match(named, answer.json()["error"]["message"])


def test_prompt_logprobs_of_chats_are_refused_not_ignored(server):
    body = {"model": "base", "messages": [{"role": "user", "content": "x"}], "prompt_logprobs": 0}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "prompt_logprobs" in answer.json()["error"]["message"]


def test_an_unknown_model_is_not_found(server):
    body = {"model": "no", "prompt": "x", "echo": True, "logprobs": 0, "max_tokens": 0}
    assert httpx.post(f"{server.url}/v1/completions", json=body).status_code == 404


def test_health_tells_what_serving_takes(client, server):
    health = httpx.get(f"{server.url}/healthz").json()
    assert health["load_s"] > 0
    assert health["adapter_load_s"].keys() == {"yes"}
    assert health["merged"] is False
    assert health["peak_rss_mb"] > 50
    assert health["threads"] >= 1
    assert health["peak_vram_mb"] is None or health["peak_vram_mb"] >= 0
