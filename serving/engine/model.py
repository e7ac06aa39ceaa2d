"""The engine: a base model, its named adapters, and the batch that they answer."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from foundation.chat import Message
from foundation.errors import BadInput, BadSetting, NotFound
from serving.engine.answer import Answer, Spell
from serving.engine.batch import Batch
from serving.engine.lora import Adapted, Lora, read_lora
from serving.engine.scoring import likelihoods
from serving.fit import require_model
from serving.rows import Generation, Limits, Row, Scored


class Engine:
    """A base model and its named adapters. Safe to call from several threads; they take turns.

    Whoever takes a step takes it for all: answers of several callers are one batch. The same row
    with the same seed gives the same text on the same machine and thread count, whatever is
    answered beside it, but for ties within the rounding of matrix products.

    Attributes:
        load_s: seconds that the base took to load, without the imports.
        evicted: adapters whose weights were let go so far.
    """

    def __init__(self, model: Any, tokenizer: Any, limits: Limits | None = None) -> None:
        """Takes a loaded causal model; most callers want `Engine.load`.

        Args:
            model: in evaluation mode.
            tokenizer: with a chat template.
            limits: of rows and memory.
        """
        self.tokenizer, self.limits = tokenizer, limits or Limits()
        self.evicted = 0
        self.load_s = 0.0
        ends = model.generation_config.eos_token_id
        ends = [tokenizer.eos_token_id] if ends is None else ends
        self._adapted = Adapted(model)
        ends = frozenset(ends if isinstance(ends, list) else [ends])
        self._batch = Batch(self._adapted, ends, _speller(tokenizer), self.limits)
        self._folders: dict[str, Path] = {}
        self._resident: OrderedDict[str, Lora] = OrderedDict()
        self._turn = threading.RLock()

    @classmethod
    def load(
        cls,
        base_path: str | Path,
        *,
        threads: int | None = None,
        device: str = "cpu",
        dtype: str = "auto",
        limits: Limits | None = None,
        adapters: Mapping[str, Path] | None = None,
    ) -> "Engine":
        """Loads a base model folder.

        Args:
            base_path: as `from_pretrained` takes it.
            threads: torch threads of this process; None leaves them as they are.
            device: as torch names it, or `auto`: the GPU where there is one.
            dtype: of the weights; `auto`: bfloat16 on a GPU, float32 elsewhere.
            limits: of rows and memory.
            adapters: folders by name, read when they are first asked.

        Raises:
            NotFound: when the folder holds no model.
            BadInput: a model that remembers otherwise than by attention to all its tokens.
            BadSetting: a device that is not there.
        """
        require_model(Path(base_path))
        if threads is not None:
            torch.set_num_threads(threads)
        where = _device(device)
        kind = ("bfloat16" if where.type == "cuda" else "float32") if dtype == "auto" else dtype
        transformers_logging.disable_progress_bar()  # a server's stderr is a log
        MODEL_FOR_CAUSAL_LM_MAPPING.get(type(AutoConfig.from_pretrained(base_path)), None)
        started = time.perf_counter()  # the import of the model's code was none of its loading
        model = AutoModelForCausalLM.from_pretrained(
            base_path, dtype=getattr(torch, kind), use_safetensors=True
        )
        _require_attention(str(base_path), model.config.get_text_config())
        engine = cls(model.to(where).eval(), AutoTokenizer.from_pretrained(base_path), limits)
        engine.load_s = round(time.perf_counter() - started, 4)
        engine._folders.update(adapters or {})
        return engine

    # What it takes

    @property
    def device(self) -> str:
        """Where the model is, as torch names it."""
        return str(self._adapted.device)

    @property
    def peak_vram_mb(self) -> float | None:
        """Most MiB of GPU memory that tensors took so far; None if none is in use."""
        if not torch.cuda.is_available():
            return None
        return round(torch.cuda.max_memory_allocated() / 2**20, 1) or None

    @property
    def threads(self) -> int:
        """Torch threads of this process."""
        return torch.get_num_threads()

    @property
    def n_bytes(self) -> int:
        """Bytes of the base's weights."""
        return sum(p.numel() * p.element_size() for p in self._adapted.model.parameters())

    def counters(self) -> dict[str, int]:
        """Return what was done so far, and what is held now."""
        batch, done = self._batch, self._batch.done
        return {
            **{name: getattr(done, name) for name in done.__slots__},
            "running": len(batch.live),
            "waiting": len(batch.waiting),
            "adapters_resident": len(self._resident),
            "adapters_evicted": self.evicted,
            "adapter_bytes": sum(lora.n_bytes for lora in list(self._resident.values())),
            "kv_bytes": batch.window.n_bytes,
            "prefix_bytes": batch.prefixes.n_bytes,
        }

    # Adapters

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters that can be asked, in the order of loading."""
        return tuple(self._folders)

    def add_adapter(self, name: str, path: str | Path) -> None:
        """Loads a PEFT adapter folder under a name; a loaded name is replaced.

        Rows under way keep the weights that they began with.

        Raises:
            NotFound: when the folder holds no adapter.
            BadInput: it is no plain LoRA of the base's linear layers.
        """
        lora = self._read(name, Path(path))
        with self._turn:
            self._adapted.prepare(lora)
            if name in self._folders:
                self.remove_adapter(name)
            self._folders[name], self._resident[name] = Path(path), lora
            self._make_room(name)

    def remove_adapter(self, name: str) -> None:
        """Forgets an adapter; the base is then as it was before.

        Raises:
            NotFound: when no adapter has that name.
        """
        with self._turn:
            self._known(name)
            del self._folders[name]
            lora = self._resident.pop(name, None)
            if lora is not None:
                self._adapted.forget(lora)

    def _read(self, name: str, folder: Path) -> Lora:
        if not (folder / "adapter_config.json").is_file():
            raise NotFound(
                f"adapter {name!r}",
                str(folder),
                "a folder with adapter_config.json and weights",
                "Train it first, or correct the path.",
            )
        parameter = next(self._adapted.model.parameters())
        return read_lora(name, folder, parameter.device, parameter.dtype)

    def _lora(self, name: str | None) -> Lora | None:
        """Return an adapter's weights, read again from its folder where they were let go."""
        if name is None:
            return None
        self._known(name)
        if name not in self._resident:
            lora = self._read(name, self._folders[name])
            self._adapted.prepare(lora)
            self._resident[name] = lora
        self._resident.move_to_end(name)
        self._make_room(name)
        return self._resident[name]

    def _make_room(self, wanted: str) -> None:
        """Let go of the weights not asked for longest, but for those that rows under way need."""
        held = sum(lora.n_bytes for lora in self._resident.values())
        if held <= self.limits.adapters_mb * 2**20:
            return
        used = {answer.row.adapter for answer in (*self._batch.live, *self._batch.waiting)}
        for name in [name for name in self._resident if name not in used and name != wanted]:
            gone = self._resident.pop(name)
            self._adapted.forget(gone)
            self.evicted += 1
            held -= gone.n_bytes
            if held <= self.limits.adapters_mb * 2**20:
                return

    def _known(self, name: str | None) -> None:
        if name is not None and name not in self._folders:
            raise NotFound(
                "adapter",
                name,
                f"one of {list(self.adapters)} or None",
                "Load it first.",
            )

    # Answers

    def encode(self, messages: list[Message]) -> list[int]:
        """Returns a chat's tokens, up to where the answer begins."""
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def start(self, row: Row, *, watched: bool = False) -> Answer:
        """Begins an answer; `step` goes on with it.

        Args:
            row: what is wanted.
            watched: whether its text is wanted token by token.

        Raises:
            NotFound: for an adapter that is not loaded, or whose folder is gone.
        """
        with self._turn:
            answer = Answer(row, self._lora(row.adapter), watched)
            self._batch.waiting.append(answer)
            return answer

    def step(self) -> bool:
        """Makes the next token of every answer under way; False when there is none.

        An error of the model gives up all answers, and what is kept of prompts.
        """
        with self._turn, torch.inference_mode():
            try:
                self._batch.step()
            except Exception:  # whatever it was, rows and memory may no longer agree
                self._batch.clear()
                raise
            return bool(self._batch.live or self._batch.waiting)

    def _go_on(self, answers: Sequence[Answer]) -> bool:
        """Take a step unless all of these are finished; say whether one was needed."""
        with self._turn:
            if all(answer.finish_reason for answer in answers):
                return False
            if not (self._batch.live or self._batch.waiting):  # another thread cleared them
                raise RuntimeError("an answer was given up after an error in another thread")
            self.step()
            return True

    def leave(self, answer: Answer) -> None:
        """Gives up an answer; one that is finished changes nothing."""
        if not answer.finish_reason:
            with self._turn, torch.inference_mode():
                self._batch.remove(answer)

    def generate(
        self,
        prompts: Sequence[list[Message]],
        *,
        adapter: str | None | Sequence[str | None] = None,
        max_new_tokens: int | Sequence[int] = 128,
        temperature: float | Sequence[float] = 1.0,
        seed: int | Sequence[int] = 0,
        **more: Any,
    ) -> list[Generation]:
        """Answers each prompt.

        Args:
            prompts: chats, each ending with what is to be answered; none gives an empty list.
            adapter: name, or None for the base; one for all rows or one per row.
            max_new_tokens: most tokens of an answer, at least 1; for all or per row.
            temperature: 0 is greedy; for all or per row.
            seed: one for all (each row then draws its own stream from it), or one per row (a row
                then draws the same numbers whatever stands beside it).
            more: further fields of `Row`, for all.

        Raises:
            NotFound: for an adapter that is not loaded.
            BadInput: for a setting out of range, or as many values as there are no rows.
        """
        n = len(prompts)
        seeds = [_mixed(seed, i) for i in range(n)] if isinstance(seed, int) else per_row(seed, n)
        settings = zip(
            prompts,
            per_row(adapter, n),
            per_row(max_new_tokens, n),
            per_row(temperature, n),
            seeds,
            strict=True,
        )
        rows = [
            Row(self.encode(prompt), name, limit, heat, seed=row_seed, **more)
            for prompt, name, limit, heat, row_seed in settings
        ]
        for name in {row.adapter for row in rows}:
            self._known(name)
        answers = [self.start(row) for row in rows]
        try:
            while self._go_on(answers):
                pass
        finally:
            for answer in answers:
                self.leave(answer)
        return [answer.generation for answer in answers]

    def stream(
        self, prompt: list[Message], *, adapter: str | None = None, **more: Any
    ) -> Generator[str, None, Generation]:
        """Yields an answer piece by piece; the generator's return value is the `Generation`.

        The pieces joined are its text. Text that may be the start of a stop string, or of a
        character cut in the middle, is held back until it is known. With the same seed the answer
        is that of `generate` with `seed=[seed]`.

        Args:
            prompt: a chat that ends with what is to be answered.
            adapter: name, or None for the base.
            more: further fields of `Row`.

        Raises:
            NotFound: for an adapter that is not loaded.
            BadInput: for a setting out of range.
        """
        answer = self.start(Row(self.encode(prompt), adapter, **more), watched=True)
        sent = 0
        try:
            while self._go_on([answer]) or len(answer.certain_text) > sent:
                safe = answer.certain_text
                if len(safe) > sent:
                    yield safe[sent:]
                    sent = len(safe)
        finally:
            self.leave(answer)
        return answer.generation

    def score(self, texts: Sequence[str], *, adapter: str | None = None) -> list[Scored]:
        """Returns how likely each text is to a model, token by token; nothing is generated.

        Texts are padded on the right, where causal attention never looks, so that a text's score
        does not depend on what stands beside it, but for the rounding of matrix products.

        Args:
            texts: as they are, without chat template; the tokenizer adds its start token, if any.
            adapter: name, or None for the base.

        Raises:
            NotFound: for an adapter that is not loaded.
        """
        self._known(adapter)
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), return_offsets_mapping=True)
        ids: list[list[int]] = encoded["input_ids"]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        scored: dict[int, Scored] = {}
        for start in range(0, len(order), self.limits.rows):
            indexes = order[start : start + self.limits.rows]
            found = self._likelihoods([ids[index] for index in indexes], adapter)
            for index, (chosen, best_ids, best) in zip(indexes, found, strict=True):
                names = [self.tokenizer.decode([token]) for token in best_ids]
                scored[index] = Scored(
                    [self.tokenizer.decode([token]) for token in ids[index]],
                    [first for first, _ in encoded["offset_mapping"][index]],
                    [None, *chosen],
                    [None, *zip(names, best, strict=True)],
                )
        return [scored[index] for index in range(len(ids))]

    def _likelihoods(self, rows: Sequence[list[int]], adapter: str | None) -> list[Any]:
        with self._turn, torch.inference_mode():
            self._adapted.select([self._lora(adapter)] * len(rows))
            return likelihoods(self._adapted.model, rows, self.tokenizer.pad_token_id or 0)


def _speller(tokenizer: Any) -> Spell:
    def spell(tokens: list[int]) -> str:
        text: str = tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    return spell


def per_row(value: Any, n: int) -> list[Any]:
    """One value for each of `n` rows, from a single one (a string counts as one) or a sequence.

    Raises:
        BadInput: when the sequence has another length.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * n
    if len(value) != n:
        raise BadInput("values per row", len(value), f"{n}, one per prompt", "Give one, or all.")
    return list(value)


def _require_attention(name: str, config: Any) -> None:
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if kinds - {"sliding_attention"}:
        raise BadInput(
            f"base model {name}",
            ", ".join(sorted(kinds)),
            "layers of full or sliding attention",
            "Serve it with vLLM (FLYWHEEL_ENGINE_URL).",
        )


def _device(name: str) -> torch.device:
    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise BadSetting(
            "FLYWHEEL_ENGINE_DEVICE", name, "a device of this machine", "Use cpu, or auto."
        )
    return torch.device(wanted)


def _mixed(seed: int, row: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{row}".encode()).digest()[:7], "big")
