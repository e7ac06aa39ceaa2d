"""What llama.cpp itself says of a GGUF file, where an interpreter with llama-cpp-python is at hand.

It runs in a process of its own: a damaged file may end that one, and its interpreter may be another
(FLYWHEEL_LLAMA_CPP_PYTHON), since the package builds C++ and is not ours to require.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from foundation.errors import BadSetting
from foundation.settings import get_settings
from trainer.export.parity import ANSWER_TOKENS, HEARD_TOKENS, Ids, ParityFailed, Said

LIMIT_S: Final = 1800.0
NOT_INSTALLED: Final = 3
"""How the script ends where its Python lacks what it needs."""
_CHILD: Final = Path(__file__).with_name("llama_cpp_child.py")


@dataclass(frozen=True)
class Heard:
    """What llama.cpp said, and of how many prompts it read the same ids as the source."""

    said: Said
    same_ids: int


def interpreter() -> str | None:
    """Return the Python that has llama-cpp-python: the configured one, this one, or none."""
    configured = get_settings().llama_cpp_python
    if configured is not None:
        return str(configured)
    return sys.executable if find_spec("llama_cpp") else None


def hear(
    python: str,
    model: Path,
    texts: Sequence[str],
    prompts: Sequence[Ids],
    along: Sequence[Ids],
    ends: Sequence[int],
    adapter: Path | None = None,
    n_tokens: int = ANSWER_TOKENS,
) -> Heard:
    """Return what llama.cpp answers to the prompts, and its logits along given answers.

    Raises:
        ParityFailed: it cannot read the file, or takes too long.
        BadSetting: there is no such interpreter, or it lacks llama-cpp-python.
    """
    heard = [list(answer[: HEARD_TOKENS - 1]) for answer in along]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "heard.npz"
        job = {
            "model": str(model),
            "adapter": str(adapter) if adapter else None,
            "texts": list(texts),
            "prompts": [list(ids) for ids in prompts],
            "along": heard,
            "ends": list(ends),
            "n_tokens": n_tokens,
            "n_ctx": max(len(ids) for ids in prompts) + n_tokens + HEARD_TOKENS,
            "threads": get_settings().torch_threads or _cores(),
            "out": str(out),
        }
        _run(python, job, model.name)
        if not out.exists():
            raise ParityFailed(model.name, ["llama.cpp ended without a word"])
        with np.load(out) as found:  # allow_pickle is off by default
            answers = tuple(tuple(map(int, found[f"answer{i}"])) for i in range(len(prompts)))
            logits = tuple(found[f"logits{i}"] for i in range(len(prompts)))
            return Heard(Said(answers, logits), int(found["same_ids"]))


def _run(python: str, job: dict[str, Any], name: str) -> None:
    try:
        done = subprocess.run(
            [python, "-I", str(_CHILD)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    except OSError as error:
        raise _no_interpreter(python, str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise ParityFailed(name, [f"llama.cpp took longer than {LIMIT_S:g} s"]) from error
    if done.returncode == NOT_INSTALLED:
        raise _no_interpreter(python, done.stderr.strip())
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise ParityFailed(name, [f"llama.cpp cannot read it: {last}"])


def _no_interpreter(python: str, said: str) -> BadSetting:
    return BadSetting(
        "FLYWHEEL_LLAMA_CPP_PYTHON",
        python,
        "a Python that has llama-cpp-python and numpy",
        f"Install them there, or unset it. It said: {said}",
    )


def _cores() -> int:
    """Return half the cores: llama.cpp's threads spin, and slow each other where others compute."""
    return max(1, (os.cpu_count() or 1) // 2)
