"""Whether an export is the version that it was made of: every format, read again by others' code.

An adapter on the demo's base, trained on right answers, is written in each format and checked by
the product's own gate, which is asked here for its figures: logits, greedy text, token ids, and the
pass rates of both on held-out tasks, executed in the sandbox. Then a piece of each file is damaged
and checked again: what gets through must be nothing. Where FLYWHEEL_LLAMA_CPP_PYTHON names a Python
with llama-cpp-python, its figures stand beside those of transformers.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.bars import Figure
from benchmarks.demo_tasks import base_folder, no_report, row_of
from evaluator.rewards import rewards_of
from evaluator.sandbox import Sandbox
from flywheel.demo.language import tasks
from flywheel.demo.traffic import graded_task
from trainer.data import Row
from trainer.export import FORMATS, format_module, llama_cpp
from trainer.export.original import Graded, Original
from trainer.export.parity import Parity, ParityFailed
from trainer.fit import fit
from trainer.lesson import Lesson
from trainer.recipe import PRESETS

READER: Final = "llama.cpp"


def measure(quick: bool) -> list[Figure]:
    """Return the parity of each format, and how many damaged exports got through."""
    torch.set_num_threads(1)
    with _original(base_folder(), quick) as original:
        figures, through = [], []
        for name in FORMATS:
            folder = original.work / name
            folder.mkdir()
            format_module(name).write(original, folder, FORMATS[name].variant)
            parity = format_module(name).check(original, folder, FORMATS[name].variant)
            figures += _figures(name, parity, _size(folder))
            if _passes_damaged(name, original, folder):
                through.append(name)
    return [*figures, _through(through), _reader()]


@contextmanager
def _original(base: Path, quick: bool) -> Iterator[Original]:
    """Yield an adapter that learned the coder's tasks, and held-out tasks to compare it by."""
    n_train, n_held_out = (160, 60) if quick else (500, 200)
    learned = [row_of(t, t.reference) for t in tasks("coder", "train", n_train, 0)]
    held_out = {t.key: graded_task(t) for t in tasks("coder", "held_out", n_held_out, 0)}
    recipe = replace(PRESETS["demo"], eval_steps=10_000, early_stopping_patience=0)
    with tempfile.TemporaryDirectory(prefix="bench-export-") as scratch, Sandbox() as sandbox:
        work = Path(scratch)
        (work / "training").mkdir()
        adapter = fit(Lesson(str(base), recipe, learned, [], work / "training", no_report)).folder
        rows: list[Row] = [
            {"prompt": t.prompt_messages, "task_id": key} for key, t in held_out.items()
        ]
        graded = Graded(rows, rewards_of(held_out, sandbox))
        prompts = [row["prompt"] for row in rows]
        yield Original("coder-v1", str(base), adapter, work, prompts, graded)


def _figures(name: str, parity: Parity, size: int) -> list[Figure]:
    allowed, detail = parity.tolerance, parity.as_json()
    lost = _lost(parity.measures)
    figures = [
        Figure(
            f"{name}: logits off by",
            parity.logit_error,
            "of their size",
            at_most=allowed.logit_error,
            detail=detail,
        ),
        Figure(f"{name}: same greedy text", parity.agreement, "", at_least=allowed.agreement),
        Figure(f"{name}: pass rate lost", lost, "points", at_most=allowed.pass_points),
        Figure(f"{name}: size", round(size / 2**20, 3), "MiB"),
    ]
    if "same_ids" in parity.measures:
        figures.append(_same_ids(name, parity.measures, parity.n_prompts))
    other = parity.measures.get(READER)
    if other is not None:
        figures += _of_llama_cpp(name, parity, other)
    return figures


def _of_llama_cpp(name: str, parity: Parity, other: Mapping[str, Any]) -> list[Figure]:
    shown, allowed = f"{name}, {READER}", parity.tolerance
    return [
        Figure(
            f"{shown}: logits off by",
            other["logit_error"],
            "of their size",
            at_most=allowed.logit_error,
        ),
        Figure(f"{shown}: same greedy text", other["agreement"], "", at_least=allowed.agreement),
        Figure(f"{shown}: pass rate lost", _lost(other), "points", at_most=allowed.pass_points),
        _same_ids(shown, other, parity.n_prompts),
    ]


def _same_ids(name: str, measures: Mapping[str, Any], n_prompts: int) -> Figure:
    return Figure(f"{name}: same token ids", measures["same_ids"] / n_prompts, "", at_least=1.0)


def _lost(measures: Mapping[str, Any]) -> float:
    """Return the points of the pass rate that the copy lost; negative where it gained."""
    source, copy = float(measures["source_pass_rate"]), float(measures["pass_rate"])
    return round(100 * (source - copy), 2)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _passes_damaged(name: str, original: Original, folder: Path) -> bool:
    """Turn half the bits of a tenth of the largest file, behind its header, and check it again."""
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    raw = bytearray(path.read_bytes())
    first, n = len(raw) * 7 // 10, len(raw) // 10
    raw[first : first + n] = bytes(byte ^ 0x55 for byte in raw[first : first + n])
    path.write_bytes(raw)
    try:
        parity: Parity = format_module(name).check(original, folder, FORMATS[name].variant)
    except ParityFailed:
        return False
    return parity.passed


def _through(names: list[str]) -> Figure:
    return Figure(
        f"damaged exports let through, of {len(FORMATS)}",
        float(len(names)),
        "exports",
        at_most=0.0,
        detail={"names": names},
    )


def _reader() -> Figure:
    """Say whether llama.cpp itself read the files."""
    there = llama_cpp.interpreter() is not None
    note = "" if there else "set FLYWHEEL_LLAMA_CPP_PYTHON to a Python that has it"
    return Figure("llama-cpp-python at hand", float(there), "", note=note)
