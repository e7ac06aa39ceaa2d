"""A tokenizer in GGUF's words, so that llama.cpp reads every text as the same ids.

GGUF keeps no splitting rule, only the name of one that llama.cpp knows. Its own converter tells the
name by a hash of some ids, which no tokenizer of one's own can meet; here it is told by the rule
itself. A rule without a name is refused: another one would give other ids, in silence.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from trainer.export.gguf import Value
from trainer.export.gguf_lora import NotConvertible

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Types of tokens: of the vocabulary, special, added, and none at all (rows beyond the last)."""

_WORDS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN: Final = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES: Final = ("ByteLevel", False)
Rule = tuple[tuple[Any, ...], ...]
SPLITS: Final[Mapping[tuple[Rule, bool], str]] = {
    ((("Split", _WORDS + r"|\p{N}" + _REST), _BYTES), False): "qwen2",
    ((("Split", _WORDS + r"|\p{N}{1,3}" + _REST), _BYTES), True): "llama-bpe",
    ((("Split", _TEKKEN), _BYTES), True): "tekken",
    ((("Digits", True), ("ByteLevel", True)), False): "smollm",
    ((("ByteLevel", True),), False): "gpt-2",
}
"""Names by the steps of the rule, and by whether whole words of the vocabulary skip the merges.
Source: `llm_tokenizer_bpe` and `tokenizer_pre` in llama.cpp's src/llama-vocab.cpp."""


def tokenizer_values(tokenizer: Any, n_rows: int, ends: list[int]) -> dict[str, Value]:
    """Return the keys `tokenizer.*` of a byte-level BPE tokenizer.

    Args:
        tokenizer: a fast one of transformers.
        n_rows: of the embedding; those beyond the last token are marked as unused.
        ends: ids that end an answer, the tokenizer's own among them.

    Raises:
        NotConvertible: it is another kind, or llama.cpp has no name for how it splits texts.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    name = split_name(state)
    tokens, types = _vocabulary(state, n_rows)
    values: dict[str, Value] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": name,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [_merge(pair) for pair in state["model"]["merges"]],
        "tokenizer.ggml.add_bos_token": _begins_with_bos(tokenizer),
        "tokenizer.ggml.add_eos_token": False,
    }
    for key, token in (
        ("bos", tokenizer.bos_token_id),
        ("eos", tokenizer.eos_token_id),
        ("padding", tokenizer.pad_token_id),
        ("eot", next((end for end in ends if end != tokenizer.eos_token_id), None)),
    ):
        if token is not None:
            values[f"tokenizer.ggml.{key}_token_id"] = int(token)
    if tokenizer.chat_template:
        values["tokenizer.chat_template"] = tokenizer.chat_template
    return values


def misread(path: Path, tokenizer: Any) -> list[str]:
    """Return what a file says otherwise than its tokenizer: how answers end and chats are shown.

    Read by the `gguf` library. A model that never ends answers every prompt with the same tokens.
    """
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    expected = {
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.chat_template": tokenizer.chat_template,
    }
    found = {key: fields[key].contents() if key in fields else None for key in expected}
    texts, types = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type"))
    for i, added in tokenizer.added_tokens_decoder.items():
        key = f"token {i}"
        expected[key] = (added.content, CONTROL if added.special else USER_DEFINED)
        found[key] = (texts[i], types[i]) if i < len(texts) else None
    return [
        f"{key} is {str(found[key])[:60]!r}, expected {str(wanted)[:60]!r}"
        for key, wanted in expected.items()
        if found[key] != wanted
    ]


def split_name(state: Mapping[str, Any]) -> str:
    """Return llama.cpp's name of how a `tokenizer.json` splits texts; raises NotConvertible."""
    model, normalizer = state["model"], state["normalizer"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise NotConvertible(
            f"a {model['type']} tokenizer{' with byte fallback' * bool(model.get('byte_fallback'))}"
            ": only byte-level BPE is written here; export it as hf and take llama.cpp's converter"
        )
    if normalizer is not None and normalizer["type"] != "NFC":  # llama.cpp leaves texts as they are
        raise NotConvertible(f"normalizer {normalizer['type']}: llama.cpp does not do that")
    steps = state["pre_tokenizer"] or {"type": "nothing"}
    steps = steps["pretokenizers"] if steps["type"] == "Sequence" else [steps]
    rule = tuple(_step(step) for step in steps)
    known = SPLITS.get((rule, bool(model.get("ignore_merges"))))
    if known is None:
        raise NotConvertible(
            f"pre-tokenizer {rule}: none of those that llama.cpp has a name for here "
            f"({', '.join(SPLITS.values())}); another one would give other ids"
        )
    return known


def _step(step: Mapping[str, Any]) -> tuple[Any, ...]:
    kind = step["type"]
    if kind == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        return kind, step["pattern"].get("Regex")
    if kind == "ByteLevel" and not step["add_prefix_space"]:
        return kind, step.get("use_regex", True)
    if kind == "Digits":
        return kind, step["individual_digits"]
    return kind, json.dumps(step, sort_keys=True)


def _vocabulary(state: Mapping[str, Any], n_rows: int) -> tuple[list[str], list[int]]:
    tokens = [f"[PAD{i}]" for i in range(n_rows)]
    types = [UNUSED] * n_rows
    for text, i in state["model"]["vocab"].items():
        if i < n_rows:
            tokens[i], types[i] = text, NORMAL
    for added in state["added_tokens"]:
        if added["id"] >= n_rows:
            raise NotConvertible(f"token {added['content']!r} has no row of the embedding")
        tokens[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    return tokens, types


def _merge(pair: str | list[str]) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)


def _begins_with_bos(tokenizer: Any) -> bool:
    ids = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
