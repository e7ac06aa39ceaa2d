"""A loaded base model and its adapters: what each name means, what a request asks of them."""

import hashlib
import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from foundation.chat import text_of
from foundation.errors import BadInput, Conflict, NotFound
from serving.batching import Batcher, Row
from serving.fit import Shapes, require_fit
from serving.footprint import peak_rss_mb
from serving.schemas import MAX_PROMPTS, ChatRequest, CompletionRequest

if TYPE_CHECKING:
    from serving.engine import Engine


@dataclass
class Served:
    """A loaded base model, its adapters, and the thread that answers.

    Attributes:
        load_s: seconds that the base model took to load, without the imports.
        adapter_load_s: the same of each adapter.
    """

    engine: "Engine"
    batcher: Batcher
    base_path: str
    context_tokens: int
    base_shapes: Shapes
    load_s: float
    started: int = field(default_factory=lambda: int(time.time()))
    adapter_paths: dict[str, str] = field(default_factory=dict)
    adapter_load_s: dict[str, float] = field(default_factory=dict)

    @property
    def base_names(self) -> tuple[str, ...]:
        """What the base model answers to: its path, its folder's name and `base`."""
        return (self.base_path, Path(self.base_path).name, "base")

    def adapter_of(self, model: str) -> str | None:
        """Return the adapter that `model` names, None for the base.

        Raises:
            NotFound: neither the base nor a loaded adapter.
        """
        if model in self.engine.adapters:
            return model
        if model in self.base_names:
            return None
        known = ", ".join((*self.base_names, *self.engine.adapters))
        raise NotFound("model", model, f"one of {known}", "Load it with POST /v1/adapters.")

    def load(self, name: str, path: str) -> bool:
        """Load an adapter unless it is loaded already; return whether it was loaded now.

        Raises:
            Conflict: the name is the base model's.
            NotFound: the folder holds no safetensors adapter.
            BadInput: the adapter does not fit the base model.
        """
        if name in self.base_names:
            raise Conflict("adapter name", name, "a name of its own", "The base model has it.")
        folder = Path(path)
        require_fit(name, folder, self.base_shapes)
        resolved = str(folder.resolve())
        if name in self.engine.adapters and self.adapter_paths.get(name) == resolved:
            return False
        started = time.perf_counter()
        self.engine.add_adapter(name, folder)
        self.adapter_load_s[name] = round(time.perf_counter() - started, 4)
        self.adapter_paths[name] = resolved
        return True

    def unload(self, name: str) -> None:
        """Forget an adapter; one that is not loaded changes nothing."""
        if name in self.engine.adapters:
            self.engine.remove_adapter(name)
        self.adapter_paths.pop(name, None)
        self.adapter_load_s.pop(name, None)

    def footprint(self) -> dict[str, Any]:
        """Return what it takes to serve: load times, memory (MiB), threads, how adapters work."""
        return {
            "load_s": round(self.load_s, 4),
            "adapter_load_s": dict(self.adapter_load_s),
            "merged": False,
            "threads": self.engine.threads,
            "peak_rss_mb": peak_rss_mb(),
            "peak_vram_mb": self.engine.peak_vram_mb,
        }


def context_tokens(base_path: Path) -> int:
    """Return how many tokens prompt and answer may have together, from the model's config."""
    config = json.loads((base_path / "config.json").read_text())
    return int(config["max_position_embeddings"])


def rows_of(asked: ChatRequest, served: Served) -> list[Row]:
    """Return the rows of a request, one per choice, after all that can be refused was checked.

    Raises:
        NotFound: an unknown model.
        BadInput: what the engine does not do, or a prompt longer than the context.
    """
    adapter = served.adapter_of(asked.model)
    _refuse_unsupported(asked)
    messages = [{**m.model_dump(), "content": text_of(m.content)} for m in asked.messages]
    left = served.context_tokens - _count_tokens(served, messages)
    if left < 1:
        raise BadInput(
            "messages",
            f"{served.context_tokens - left} tokens",
            f"fewer than the context of {served.context_tokens} tokens",
            "Shorten the prompt.",
        )
    seed = secrets.randbits(48) if asked.seed is None else asked.seed
    return [
        Row(
            messages=messages,
            adapter=adapter,
            max_new_tokens=min(asked.token_limit or left, left),
            temperature=asked.temperature,
            top_p=asked.top_p,
            seed=_seed_of_choice(seed, index),
            stop=asked.stop_strings,
        )
        for index in range(asked.n)
    ]


def texts_of(asked: CompletionRequest, served: Served) -> list[str]:
    """Return the texts that a request wants scored, after all that can be refused was checked.

    Raises:
        NotFound: an unknown model.
        BadInput: anything but scoring, no or too many texts, or one that is too long or empty.
    """
    served.adapter_of(asked.model)
    for name, value, is_right, expected in (
        ("max_tokens", asked.max_tokens, asked.max_tokens == 0, "0: texts are only scored here"),
        ("echo", asked.echo, asked.echo, "true: the log-probabilities are the prompt's"),
        ("logprobs", asked.logprobs, asked.logprobs in (0, 1), "0 or 1"),
    ):
        if not is_right:
            raise BadInput(name, value, expected, "To generate: POST /v1/chat/completions")
    if not 1 <= len(asked.texts) <= MAX_PROMPTS:
        raise BadInput("prompt", len(asked.texts), f"1 to {MAX_PROMPTS} texts", "Send several.")
    for number, ids in enumerate(served.engine.tokenizer(asked.texts)["input_ids"]):
        if not 1 <= len(ids) <= served.context_tokens:
            raise BadInput(
                f"prompt[{number}]",
                f"{len(ids)} tokens",
                f"1 to {served.context_tokens} tokens, the context",
                "Cut the text into parts.",
            )
    return asked.texts


def _refuse_unsupported(asked: ChatRequest) -> None:
    response_type = (asked.response_format or {}).get("type", "text")
    for name, value, is_used in (
        ("tools", asked.tools, bool(asked.tools)),
        ("response_format", asked.response_format, response_type != "text"),
        ("logprobs", asked.logprobs, bool(asked.logprobs)),
        ("prompt_logprobs", asked.prompt_logprobs, asked.prompt_logprobs is not None),
    ):
        if is_used:
            raise BadInput(name, value, "plain text", "The embedded engine has none of it.")


def _count_tokens(served: Served, messages: list[dict[str, Any]]) -> int:
    tokenizer = served.engine.tokenizer
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise BadInput(
            "messages", messages[-1], "messages that the chat template takes", str(error)
        ) from error
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _seed_of_choice(seed: int, index: int) -> int:
    """Return the seed itself for the first choice, and one of its own for each other."""
    if index == 0:
        return abs(seed)
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:6], "big")
