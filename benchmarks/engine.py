"""What the embedded engine costs: answers of many adapters at once, known prompts, equal answers.

Run it with `python -m benchmarks.engine`. It needs the demo's base model, and builds it where it is
missing (a few minutes). Costs are CPU seconds of this process on one torch thread, medians of
alternating rounds, so that other work on the machine moves them little.
"""

import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bars import Figure, report
from flywheel.demo.base import ensure_base
from flywheel.demo.language import ROLES, tasks
from foundation.settings import get_settings
from serving.engine import Engine
from serving.rows import Generation, Limits, Row

ADAPTERS = ("one", "two", "three")
ROWS = 64
ROUNDS = 5
RULES = "Answer in the fewest words. " * 12
"""A system prompt that all chats share, about five times as long as their own part."""


def main() -> int:
    """Measure, print the table, return 1 if a bar is missed."""
    warnings.simplefilter("ignore")  # of peft, when it loads an adapter
    base = ensure_base(get_settings().home)
    with tempfile.TemporaryDirectory() as folder:
        folders = {name: _adapter(base, Path(folder) / name, i) for i, name in enumerate(ADAPTERS)}
        figures = [*_many_adapters(base, folders), *_beside_peft(base, folders)]
        figures += [*_known_prompts(base), _equality(base, folders)]
    return report("engine", figures)


def _many_adapters(base: Path, folders: dict[str, Path]) -> list[Figure]:
    engine = _loaded(base, folders, Limits(prefix_mb=0))
    names: dict[str, Sequence[str | None]] = {
        "the base": (None,),
        "one adapter": ("one",),
        "the base and three adapters": (None, *ADAPTERS),
    }
    rows = {label: _rows(engine, which) for label, which in names.items()}
    costs = _alternate({label: partial(_answer, engine, asked) for label, asked in rows.items()})
    figures = []
    for label, seconds in costs.items():
        n_tokens = sum(one.output_tokens for one in _answer(engine, rows[label]))
        detail = {"tokens_per_cpu_s": round(n_tokens / seconds)}
        name = f"CPU per answer, {ROWS} rows of {label}"
        figures.append(Figure(name, 1e3 * seconds / ROWS, "ms", detail=detail))
    ratio = costs["the base and three adapters"] / costs["the base"]
    figures.append(Figure("the base and three adapters, over the base", ratio, "x", at_most=2.0))
    return figures


def _beside_peft(base: Path, folders: dict[str, Path]) -> list[Figure]:
    """Compare one forward pass of mixed rows with peft's own two ways of making it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from serving.engine.lora import Adapted, read_lora

    theirs = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    peft = PeftModel.from_pretrained(theirs, str(folders["one"]), adapter_name="one")
    for name in ADAPTERS[1:]:
        peft.load_adapter(str(folders[name]), adapter_name=name)
    peft.eval()
    ours = Adapted(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval())
    loras: dict[str | None, Any] = {None: None}
    for name, folder in folders.items():
        loras[name] = read_lora(name, folder, torch.device("cpu"), torch.float32)
        ours.prepare(loras[name])
    names = [(None, *ADAPTERS)[i % 4] for i in range(ROWS)]
    ids = torch.randint(5, 900, (ROWS, 1), generator=torch.Generator().manual_seed(0))
    ours.select([loras[name] for name in names])

    def grouped() -> None:
        for name in (None, *ADAPTERS):
            if name is None:
                peft.base_model.disable_adapter_layers()
            else:
                peft.base_model.enable_adapter_layers()
                peft.set_adapter(name)
            peft.base_model.model(ids[[i for i, own in enumerate(names) if own == name]])

    with torch.inference_mode():
        costs = _alternate(
            {
                "side by side": lambda: ours.model(ids),
                "peft's adapter_names": lambda: peft(
                    input_ids=ids, adapter_names=[name or "__base__" for name in names]
                ),
                "peft, one adapter after the other": grouped,
            },
            rounds=20,
        )
    own = costs["side by side"]
    return [
        Figure(f"CPU per token of {ROWS} mixed rows, {label}", 1e3 * seconds, "ms")
        for label, seconds in costs.items()
    ] + [
        Figure(
            "side by side, over peft's adapter_names",
            own / costs["peft's adapter_names"],
            "x",
            at_most=0.8,
        )
    ]


def _known_prompts(base: Path) -> list[Figure]:
    """Compare chats that begin alike, one at a time, with and without what is kept of prompts."""
    engines = {mb: _loaded(base, {}, Limits(prefix_mb=mb)) for mb in (0, 256)}
    chats = [
        [{"role": "system", "content": RULES}, {"role": "user", "content": f"add {i} and 3"}]
        for i in range(200)
    ]
    left = iter(range(10**9))

    def ask(engine: Engine) -> None:
        for _ in range(10):
            chat = chats[next(left) % len(chats)]
            _answer(engine, [Row(engine.encode(chat), max_new_tokens=1)])

    costs = _alternate({str(mb): partial(ask, engine) for mb, engine in engines.items()}, rounds=15)
    counters = engines[256].counters()
    known = counters["cached_tokens"] / counters["prompt_tokens"]
    ratio = costs["256"] / costs["0"]
    detail = {"fresh_ms": round(100 * costs["0"], 2), "kept_ms": round(100 * costs["256"], 2)}
    return [
        Figure("tokens known of prompts with a shared beginning", known, "share", at_least=0.7),
        Figure("CPU to a first token, known over fresh", ratio, "x", at_most=0.8, detail=detail),
    ]


def _equality(base: Path, folders: dict[str, Path]) -> Figure:
    """Count the rows that say something else in company than alone."""
    alone = _loaded(base, folders, Limits(prefix_mb=0))
    rows = _rows(alone, (None, *ADAPTERS))
    together = _answer(_loaded(base, folders, Limits()), rows)
    differing = sum(
        _answer(alone, [row]) != [said] for row, said in zip(rows, together, strict=True)
    )
    return Figure(f"answers of {ROWS} that differ from those alone", differing, "rows", at_most=0)


def _loaded(base: Path, folders: dict[str, Path], limits: Limits) -> Engine:
    engine = Engine.load(base, threads=1, limits=limits)
    for name, folder in folders.items():
        engine.add_adapter(name, folder)
    return engine


def _rows(engine: Engine, names: Sequence[str | None]) -> list[Row]:
    prompts = [task.prompt for role in ROLES for task in tasks(role, "train", 40, 0)]
    random.Random(0).shuffle(prompts)
    return [
        Row(
            engine.encode([{"role": "user", "content": prompts[i]}]),
            names[i % len(names)],
            80,
            seed=i,
        )
        for i in range(ROWS)
    ]


def _answer(engine: Engine, rows: Sequence[Row]) -> list[Generation]:
    answers = [engine.start(row) for row in rows]
    while engine.step():
        pass
    return [answer.generation for answer in answers]


def _alternate(what: dict[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median CPU seconds of each, after one that is not counted."""
    spent: dict[str, list[float]] = {name: [] for name in what}
    for _ in range(rounds + 1):
        for name, run in what.items():
            started = time.process_time()
            run()
            spent[name].append(time.process_time() - started)
    return {name: statistics.median(seconds[1:]) for name, seconds in spent.items()}


def _adapter(base: Path, folder: Path, seed: int) -> Path:
    """Save an adapter of random weights, in the shape of the demo's, that changes what is said."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=16, lora_alpha=1, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
