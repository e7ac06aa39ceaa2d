"""What the engine serves: base models, their adapters, what each name means.

Bases are loaded when they are first asked and stay while there is room; one that had to go is
loaded again from its folder when it is wanted.
"""

import gc
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.errors import BadInput, Conflict, NotFound
from foundation.footprint import peak_rss_mb
from serving.batching import Batcher
from serving.fit import Shapes, require_fit, require_model, shapes_of
from trainer.registry import require_safe

if TYPE_CHECKING:
    from serving.engine import Engine

Load = Callable[[str, dict[str, Path]], "Engine"]
"""A base's folder, and its adapters' by name, to an engine."""


@dataclass(eq=False)
class Base:
    """A base model and its adapters, in memory or not.

    Attributes:
        name: as it was given; the first base's is its path.
        path: its folder.
        context_tokens: of prompt and answer together.
        shapes: of its weights.
        adapters: their folders.
        engine: None while it is not in memory.
        load_s: seconds that it took to load, without the imports.
        adapter_load_s: the same of each adapter.
        asked_at: when it was last asked, by the monotonic clock.
    """

    name: str
    path: str
    context_tokens: int
    shapes: Shapes
    adapters: dict[str, str] = field(default_factory=dict)
    engine: "Engine | None" = None
    load_s: float = 0.0
    adapter_load_s: dict[str, float] = field(default_factory=dict)
    asked_at: float = 0.0
    created: int = field(default_factory=lambda: int(time.time()))


class Served:
    """The bases, the first of which is always there, and the thread that answers."""

    def __init__(self, first: str, load: Load, batcher: Batcher, max_mb: int = 16384) -> None:
        """Load the first base.

        Args:
            first: its folder.
            load: loads a base.
            batcher: the thread.
            max_mb: MiB of weights of all bases in memory; one is held however large it is.
        """
        self.batcher = batcher
        self._load, self._max_mb = load, max_mb
        self._first_names = (first, Path(first).name, "base")
        self._bases: dict[str, Base] = {}
        self._lock = threading.RLock()
        self.first = self.add_base(first, first)

    @property
    def bases(self) -> list[Base]:
        """All bases, the first one first."""
        return list(self._bases.values())

    def find(self, model: str) -> tuple[Base, str | None]:
        """Return whom `model` names: a base, and its adapter or None.

        Raises:
            NotFound: neither a base nor a loaded adapter.
        """
        for base in self.bases:
            if model in base.adapters:
                return base, model
        if model in self._bases:
            return self._bases[model], None
        if model in self._first_names:
            return self.first, None
        names = [name for base in self.bases for name in (base.name, *base.adapters)]
        known = ", ".join([*self._first_names[1:], *names])
        raise NotFound("model", model, f"one of {known}", "Load it with POST /v1/adapters.")

    def engine_of(self, base: Base) -> "Engine":
        """Return a base's engine, loaded where it is not in memory.

        Others not asked for longest are let go where there is no room; what they have under way
        is answered all the same.

        Raises:
            NotFound: its folder is gone.
        """
        with self._lock:
            base.asked_at = time.monotonic()
            if base.engine is None:
                folders = {name: Path(path) for name, path in base.adapters.items()}
                base.engine = self._load(base.path, folders)
                base.load_s = base.engine.load_s
                self._make_room(base)
            return base.engine

    def add_base(self, name: str, path: str) -> Base:
        """Serve another base model; the same one again changes nothing.

        Raises:
            NotFound: no model in that folder.
            Conflict: the name is taken.
        """
        with self._lock:
            known = self._bases.get(name)
            if known is not None and Path(known.path).resolve() == Path(path).resolve():
                return known
            if known is not None or any(name in base.adapters for base in self.bases):
                raise Conflict("model name", name, "a name of its own", "Unload the other first.")
            folder = Path(path)
            require_model(folder)
            base = Base(name, path, context_tokens(folder), shapes_of(folder))
            self.engine_of(base)
            self._bases[name] = base
            return base

    def remove_base(self, name: str) -> None:
        """Forget a base and its adapters; one that is not served changes nothing.

        Raises:
            Conflict: it is the first one.
        """
        with self._lock:
            if name in self._first_names:
                raise Conflict("base", name, "another than the first", "Stop the engine instead.")
            self._bases.pop(name, None)
            gc.collect()  # models hold themselves in circles

    def load(self, name: str, path: str, base_name: str | None = None) -> bool:
        """Load an adapter unless it is loaded already; return whether it was loaded now.

        Args:
            name: what requests will call it.
            path: its folder.
            base_name: of its base; None: the first.

        Raises:
            Conflict: the name is a base model's.
            NotFound: the folder holds no safetensors adapter, or the base is not served.
            BadInput: the adapter does not fit the base model, or something that runs is among its
                files.
        """
        if name in self._bases or name in self._first_names:
            raise Conflict("adapter name", name, "a name of its own", "The base model has it.")
        base, other = self.find(base_name) if base_name else (self.first, None)
        if other is not None:
            raise BadInput("base", base_name, "a base model", "An adapter is none.")
        folder = Path(path)
        require_safe(f"adapter {name!r}", folder, needs_weights=False)
        require_fit(name, folder, base.shapes)
        resolved = str(folder.resolve())
        with self._lock:
            if base.adapters.get(name) == resolved:
                return False
            started = time.perf_counter()
            self.engine_of(base).add_adapter(name, folder)
            self.unload(name, other_than=base)
            base.adapter_load_s[name] = round(time.perf_counter() - started, 4)
            base.adapters[name] = resolved
            return True

    def unload(self, name: str, other_than: Base | None = None) -> None:
        """Forget an adapter; one that is not loaded changes nothing.

        Args:
            name: of the adapter.
            other_than: a base whose adapter it may stay.
        """
        with self._lock:
            for base in self.bases:
                if base is other_than or name not in base.adapters:
                    continue
                del base.adapters[name]
                base.adapter_load_s.pop(name, None)
                if base.engine is not None:
                    base.engine.remove_adapter(name)

    def counters(self) -> dict[str, dict[str, int]]:
        """Return what was done so far, by base; "" is what the thread did for all."""
        loaded = {base.name: base.engine for base in self.bases if base.engine is not None}
        return {
            "": self.batcher.counters(),
            **{name: engine.counters() for name, engine in loaded.items()},
        }

    def totals(self) -> dict[str, int]:
        """Return the same summed over the bases."""
        totals: dict[str, int] = {}
        for values in self.counters().values():
            for name, value in values.items():
                totals[name] = totals.get(name, 0) + value
        return totals

    def footprint(self) -> dict[str, Any]:
        """Return what it takes to serve: load times, memory (MiB), threads, how adapters work."""
        engine = self.engine_of(self.first)
        return {
            "load_s": self.first.load_s,
            "adapter_load_s": {
                name: seconds for b in self.bases for name, seconds in b.adapter_load_s.items()
            },
            "merged": False,
            "threads": engine.threads,
            "device": engine.device,
            "peak_rss_mb": peak_rss_mb(),
            "peak_vram_mb": engine.peak_vram_mb,
        }

    def _make_room(self, wanted: Base) -> None:
        """Let go of bases not asked for longest; never of the first, nor of the one wanted."""
        held = [base for base in self.bases if base.engine is not None]
        n_bytes = sum(base.engine.n_bytes for base in {*held, wanted} if base.engine is not None)
        for base in sorted(held, key=lambda base: base.asked_at):
            if n_bytes <= self._max_mb * 2**20:
                return
            if base is not wanted and base is not self.first and base.engine is not None:
                n_bytes -= base.engine.n_bytes
                base.engine = None
        gc.collect()  # models hold themselves in circles


def context_tokens(base_path: Path) -> int:
    """Return how many tokens prompt and answer may have together, from the model's config."""
    config = json.loads((base_path / "config.json").read_text())
    config = config.get("text_config", config)
    return int(config["max_position_embeddings"])
