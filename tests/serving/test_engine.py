"""The embedded engine: agreement with transformers, batching, adapters per row, streams."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from foundation.errors import BadInput, NotFound
from serving.engine import Engine
from serving.rows import Generation, Limits
from trainer.pretrain import BaseShape, PretrainRecipe, pretrain

# peft 0.21 asks transformers 5.23 by an attribute's old name.

PROMPTS = [[{"role": "user", "content": f"Say {i}{' please' * (i % 3)}"}] for i in range(7)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    chats = [
        [*prompt, {"role": "assistant", "content": f"number {i % 7}, said {i % 5} times"}]
        for i, prompt in enumerate(PROMPTS * 4)
    ]
    shape = BaseShape(hidden=32, layers=2, heads=2, kv_heads=1, mlp=64, vocab=320)
    pretrain(chats, shape, PretrainRecipe(steps=25, batch=8, warmup=3, threads=1), path)
    return path


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters with random weights, so that each changes what is said."""
    paths = {}
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base),
            LoraConfig(r=4, lora_alpha=64, target_modules="all-linear", init_lora_weights=False),
        )
        paths[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(paths[name])
    return paths


@pytest.fixture
def engine(base: Path) -> Engine:
    return Engine.load(base)


def _greedy(engine: Engine, **more: Any) -> list[str]:
    return [g.text for g in engine.generate(PROMPTS, temperature=0, max_new_tokens=12, **more)]


def _drain(stream: Generator[str, None, Generation], pieces: list[str]) -> Generation:
    try:
        while True:
            pieces.append(next(stream))
    except StopIteration as end:
        result: Generation = end.value
        return result


def test_greedy_text_is_that_of_transformers(engine: Engine, base: Path) -> None:
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(base),
        AutoTokenizer.from_pretrained(base),
    )
    for prompt, answer in zip(PROMPTS, _greedy(engine), strict=True):
        text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, return_tensors="pt")
        out = model.generate(**ids, do_sample=False, max_new_tokens=12)
        new = out[0, ids["input_ids"].shape[1] :]
        assert tokenizer.decode(new, skip_special_tokens=True) == answer


def test_rows_do_not_depend_on_their_company(engine: Engine) -> None:
    together = engine.generate(PROMPTS, seed=list(range(7)), max_new_tokens=12)
    engine.limits = engine._batch.limits = Limits(rows=2)
    assert engine.generate(PROMPTS, seed=list(range(7)), max_new_tokens=12) == together
    alone = [
        engine.generate([prompt], seed=[i], max_new_tokens=12)[0]
        for i, prompt in enumerate(PROMPTS)
    ]
    assert alone == together


def test_same_seed_same_text_other_seed_other_text(engine: Engine) -> None:
    prompts = [PROMPTS[0]] * 8
    one = engine.generate(prompts, seed=3, temperature=1.5, max_new_tokens=12)
    assert one == engine.generate(prompts, seed=3, temperature=1.5, max_new_tokens=12)
    assert one != engine.generate(prompts, seed=4, temperature=1.5, max_new_tokens=12)
    assert len({g.text for g in one}) > 1


def test_adapters_per_row_equal_adapters_alone(engine: Engine, adapters: dict[str, Path]) -> None:
    plain = _greedy(engine)
    for name, path in adapters.items():
        engine.add_adapter(name, path)
    assert list(engine.adapters) == ["one", "two"]
    single = {name: _greedy(engine, adapter=name) for name in (None, "one", "two")}
    assert single[None] == plain
    assert single["one"] != plain
    assert single["two"] != single["one"]
    wanted = [None, "one", "two", "one", None, "two", "one"]
    mixed = _greedy(engine, adapter=wanted)
    assert mixed == [single[name][i] for i, name in enumerate(wanted)]
    engine.add_adapter("one", adapters["two"])
    assert _greedy(engine, adapter="one") == single["two"]
    engine.remove_adapter("one")
    engine.remove_adapter("two")
    assert not engine.adapters
    assert _greedy(engine) == plain
    with pytest.raises(NotFound, match="'one'"):
        _greedy(engine, adapter="one")


def test_a_stream_keeps_its_adapter_while_others_answer(
    engine: Engine, adapters: dict[str, Path]
) -> None:
    for name, path in adapters.items():
        engine.add_adapter(name, path)
    for own, other in ((None, "one"), ("two", None), ("one", "two")):
        alone = "".join(engine.stream(PROMPTS[0], adapter=own, temperature=0, max_new_tokens=12))
        pieces = engine.stream(PROMPTS[0], adapter=own, temperature=0, max_new_tokens=12)
        together = next(pieces)
        for piece in pieces:
            together += piece
            engine.generate(PROMPTS[1:2], adapter=other, max_new_tokens=2)
        assert together == alone
    engine.remove_adapter("one")
    engine.remove_adapter("two")


@pytest.mark.parametrize("stop", [(), ("er ",)])
def test_stream_is_generate_in_pieces(engine: Engine, stop: tuple[str, ...]) -> None:
    whole = engine.generate([PROMPTS[1]], seed=[5], max_new_tokens=12, stop=stop)[0]
    pieces: list[str] = []
    stream = engine.stream(PROMPTS[1], seed=5, max_new_tokens=12, stop=stop)
    assert _drain(stream, pieces) == whole
    assert "".join(pieces) == whole.text
    assert all(pieces)


def test_ends_are_told_apart(engine: Engine) -> None:
    ended = engine.generate(PROMPTS, temperature=0, max_new_tokens=60)
    cut = engine.generate(PROMPTS, temperature=0, max_new_tokens=2)
    assert all(g.finish_reason == "length" and g.output_tokens == 2 for g in cut)
    assert all(g.input_tokens > 3 for g in cut)
    stopped = engine.generate(PROMPTS, temperature=0, max_new_tokens=60, stop=["u"])
    for full, g in zip(ended, stopped, strict=True):
        assert g.text == full.text.split("u")[0]
        assert "u" not in full.text or g.finish_reason == "stop"


def test_top_p_narrow_is_greedy_and_wide_is_not(engine: Engine) -> None:
    narrow = engine.generate(PROMPTS, temperature=1, top_p=1e-6, max_new_tokens=12)
    assert [g.text for g in narrow] == _greedy(engine)


def test_nothing_asked_nothing_answered(engine: Engine) -> None:
    empty: list[Generation] = []
    assert engine.generate([]) == empty


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": [1, 2]}, "values per row"),
    ],
)
def test_settings_out_of_range_are_named(
    engine: Engine, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(BadInput, match=named):
        engine.generate(PROMPTS, **settings)


def test_missing_folders_are_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="base model"):
        Engine.load(tmp_path)
    with pytest.raises(NotFound, match="adapter 'x'"):
        engine.add_adapter("x", tmp_path)
