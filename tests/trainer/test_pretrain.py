"""Pretraining from nothing: clean pieces, the loss mask, determinism, TRL's view of the mask."""

import hashlib
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.pretrain import BaseShape, Chat, PretrainRecipe, batches, encode, pretrain, rate_at
from trainer.tokenizer import IM_END, train_tokenizer

SHAPE = BaseShape(hidden=32, layers=1, heads=2, kv_heads=1, mlp=64, vocab=320)


def _chats(n: int = 64) -> list[Chat]:
    return [
        [
            {"role": "user", "content": f"Say {i % 7} of (items):\nnow"},
            {"role": "assistant", "content": f"def f(items):\n    return {i % 7}"},
        ]
        for i in range(n)
    ]


def test_pieces_are_clean_and_text_survives() -> None:
    tokenizer = train_tokenizer([m["content"] for chat in _chats() for m in chat], 400)
    text = "def f(items):\n    return 12 + items2  # ünïcode 😀"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    items = set(tokenizer("items")["input_ids"])
    assert items < set(tokenizer("(items)")["input_ids"])
    assert len(tokenizer("12")["input_ids"]) == 2
    assert len(tokenizer(f"{IM_END}")["input_ids"]) == 1


def test_tokenizer_needs_room_for_all_bytes() -> None:
    with pytest.raises(ValueError, match="at least 259"):
        train_tokenizer([], 258)


def test_answer_mask_of_the_template_is_what_pretraining_learns() -> None:
    chats = _chats(3)
    tokenizer = train_tokenizer([m["content"] for chat in chats for m in chat], 400)
    for chat, (prompt, answer) in zip(chats, encode(chats, tokenizer), strict=True):
        whole = tokenizer.apply_chat_template(
            chat, return_dict=True, return_assistant_tokens_mask=True
        )
        masked = [i for i, m in zip(whole["input_ids"], whole["assistant_masks"], strict=True) if m]
        assert masked == answer
        assert whole["input_ids"][: len(prompt) + len(answer)] == prompt + answer


def test_batches_mark_the_answer_tokens_and_cover_every_row_once_an_epoch() -> None:
    rows = [([10 + i] * (i % 5 + 1), [100 + i, 2]) for i in range(10)]
    supply = batches(rows, 4, pad=0, seed=0)
    seen = []
    for _ in range(3):
        ids, learned = next(supply)
        assert ids.shape == learned.shape
        for line, mask in zip(ids, learned, strict=True):
            assert int(mask.sum()) == 2
            seen.append(int(line[mask][0]) - 100)
            assert int(line[mask][1]) == 2
    assert sorted(seen) == list(range(10))


def test_learning_rate_warms_up_stays_and_decays() -> None:
    recipe = PretrainRecipe(steps=100, warmup=10, flat=0.4, learning_rate=1.0)
    rates = [rate_at(step, recipe) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:40] == [1.0] * 30
    assert all(a >= b for a, b in zip(rates[40:], rates[41:], strict=False))
    assert rates[-1] == pytest.approx(0.02)


def test_training_lowers_the_loss_and_is_the_same_twice(tmp_path: Path) -> None:
    losses: list[float] = []
    recipe = PretrainRecipe(steps=30, batch=8, warmup=3, threads=1)
    before = torch.get_num_threads(), torch.random.get_rng_state()
    for name in ("one", "two"):
        pretrain(_chats(), SHAPE, recipe, tmp_path / name, lambda s, n, x: losses.append(x))
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])
    assert losses[:30] == losses[30:]
    assert losses[29] < 0.5 * losses[0]
    one, two = (
        hashlib.sha256((tmp_path / name / "model.safetensors").read_bytes()).hexdigest()
        for name in ("one", "two")
    )
    assert one == two
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert "generation" in tokenizer.chat_template


def test_no_chats_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no chats"):
        pretrain([], SHAPE, PretrainRecipe(), tmp_path)
