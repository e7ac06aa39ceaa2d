"""Trains a small causal language model from nothing, on one CPU, in a minute or two.

The loss is taken on answers only: at this size, learning to predict the requests as well costs
about four times the tokens for the same success (measured; see the research notes). Each chat is
its own row, right-padded, so that positions and context are those of inference.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.utils.logging import disable_progress_bar

from trainer.tokenizer import train_tokenizer

Chat: TypeAlias = list[dict[str, str]]
Progress: TypeAlias = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class BaseShape:
    """The shape of a Qwen2 model with tied embeddings.

    Attributes:
        hidden: width; a multiple of `heads`.
        layers: transformer blocks.
        heads: attention heads.
        kv_heads: key/value heads; divides `heads`.
        mlp: width of the feed-forward part.
        vocab: ids of the tokenizer, at least 259.
        max_positions: longest sequence, in tokens.
    """

    hidden: int = 96
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 288
    vocab: int = 1024
    max_positions: int = 512


@dataclass(frozen=True, slots=True)
class PretrainRecipe:
    """How the base is trained.

    Attributes:
        steps: optimizer steps; the chats are repeated or cut to fit.
        batch: chats per step.
        learning_rate: peak, of AdamW.
        betas: of AdamW.
        weight_decay: of AdamW, on matrices only.
        clip: largest gradient norm.
        warmup: steps of linear warm-up.
        flat: share of the steps at the peak before the linear decay to a fiftieth, 0-1.
        threads: torch threads; results are the same only for the same number.
        seed: of the initial weights and of the order.
        bf16: autocast; at hidden 96 it is slower than fp32, even with AVX-512 bf16 (measured).
    """

    steps: int = 1000
    batch: int = 32
    learning_rate: float = 4e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip: float = 1.0
    warmup: int = 60
    flat: float = 0.4
    threads: int = 2
    seed: int = 0
    bf16: bool = False


def pretrain(
    chats: Sequence[Chat],
    shape: BaseShape,
    recipe: PretrainRecipe,
    destination: Path,
    progress: Progress | None = None,
) -> float:
    """Trains tokenizer and model on `chats` and saves both in `destination`.

    The same arguments give the same weights on the same machine type and library versions.

    Args:
        chats: each one ends with the assistant message to be learned.
        shape: of the model.
        recipe: of the training.
        destination: a folder, made if need be, for `AutoModelForCausalLM.from_pretrained`.
        progress: called after each step with (step, steps, loss).

    Returns:
        The mean loss per answer token over the last 20 steps, in nats.

    Raises:
        ValueError: when `chats` is empty.
    """
    if not chats:
        raise ValueError("no chats to train on: expected at least one")
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            tokenizer = train_tokenizer((m["content"] for c in chats for m in c), shape.vocab)
            model = new_model(shape, tokenizer)
            loss = _train(model, encode(chats, tokenizer), tokenizer, recipe, progress)
    finally:
        torch.set_num_threads(threads)
    disable_progress_bar()  # of writing one small file
    destination.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(destination)
    tokenizer.save_pretrained(destination)
    return loss


def new_model(shape: BaseShape, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A freshly initialised model whose generation settings know the end token and padding."""
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=shape.vocab,
            hidden_size=shape.hidden,
            intermediate_size=shape.mlp,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            max_position_embeddings=shape.max_positions,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return model


def encode(
    chats: Sequence[Chat], tokenizer: PreTrainedTokenizerFast
) -> list[tuple[list[int], list[int]]]:
    """Each chat as (ids of the prompt, ids of the answer with its end token)."""
    prompts = tokenizer.apply_chat_template(
        [chat[:-1] for chat in chats], tokenize=False, add_generation_prompt=True
    )
    answers = [chat[-1]["content"] + tokenizer.eos_token for chat in chats]
    return list(zip(tokenizer(prompts)["input_ids"], tokenizer(answers)["input_ids"], strict=True))


def rate_at(step: int, recipe: PretrainRecipe) -> float:
    """The learning rate of a step (from 0): warm-up, flat, then linear decay to a fiftieth."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    flat_until = max(recipe.warmup, int(recipe.flat * recipe.steps))
    if step < flat_until:
        return recipe.learning_rate
    left = (recipe.steps - step) / max(1, recipe.steps - flat_until)
    return recipe.learning_rate * max(0.02, left)


def batches(
    rows: Sequence[tuple[list[int], list[int]]], size: int, pad: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields batches for ever: ids (rows x tokens), and where the next token is to be predicted.

    Rows are shuffled in every epoch; within four batches they are sorted by length, since a batch
    is as long as its longest row.
    """
    rng = random.Random(seed)
    order = list(range(len(rows)))
    while True:
        rng.shuffle(order)
        for start in range(0, len(order), 4 * size):
            chunk = sorted(order[start : start + 4 * size], key=lambda i: sum(map(len, rows[i])))
            parts = [chunk[i : i + size] for i in range(0, len(chunk), size)]
            rng.shuffle(parts)
            for part in parts:
                yield _padded([rows[i] for i in part], pad)


def _padded(rows: Sequence[tuple[list[int], list[int]]], pad: int) -> tuple[Tensor, Tensor]:
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), longest), pad)
    learned = torch.zeros((len(rows), longest), dtype=torch.bool)
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        learned[row, len(prompt) : end] = True
    return ids, learned


def _train(
    model: Qwen2ForCausalLM,
    rows: Sequence[tuple[list[int], list[int]]],
    tokenizer: PreTrainedTokenizerFast,
    recipe: PretrainRecipe,
    progress: Progress | None,
) -> float:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)
    supply = batches(rows, recipe.batch, int(tokenizer.pad_token_id), recipe.seed)
    recent: list[float] = []
    model.train()
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, recipe)
        loss = _loss(model, *next(supply), recipe.bf16)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad()
        recent = [*recent[-19:], loss.item()]
        if progress is not None:
            progress(step + 1, recipe.steps, recent[-1])
    model.eval()
    return sum(recent) / max(1, len(recent))


def _loss(model: Qwen2ForCausalLM, ids: Tensor, learned: Tensor, bf16: bool) -> Tensor:
    """Mean cross-entropy of the answer tokens; logits are computed at those positions only.

    Padding is at the right of causal attention, so no real token sees it and no mask is needed.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        wanted = learned[:, 1:]
        logits = model.lm_head(hidden[wanted])  # answer tokens x vocab
    return functional.cross_entropy(logits.float(), ids[:, 1:][wanted])
