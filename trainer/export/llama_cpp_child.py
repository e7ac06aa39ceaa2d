"""Hears a GGUF file through llama.cpp: a script for any Python that has llama-cpp-python and numpy.

Reads one JSON object from standard input and writes what it heard into an `.npz` file. It imports
nothing of ours, so that the interpreter may be another one than the product's.
"""

import importlib
import json
import sys
from typing import Any

try:
    import numpy as np

    llama_cpp: Any = importlib.import_module("llama_cpp.llama_cpp")  # not the product's
    Llama: Any = importlib.import_module("llama_cpp").Llama
except ImportError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(3)  # told apart from a file that cannot be read

_defaults = llama_cpp.llama_model_default_params


def _plain() -> Any:
    """Repack no weights: kernels for AMX end the process where a machine shows it and grants none.

    `Llama` has no argument for it.
    """
    parameters = _defaults()
    parameters.use_extra_bufts = False
    return parameters


def main() -> None:
    """Answer every prompt greedily, and give the logits along given answers."""
    job = json.load(sys.stdin)
    llama_cpp.llama_model_default_params = _plain
    model = Llama(
        job["model"],
        n_ctx=job["n_ctx"],
        n_batch=job["n_ctx"],
        n_threads=job["threads"],
        lora_path=job["adapter"],
        logits_all=True,
        type_k=0,  # a cache of 32 bits, as the source's
        type_v=0,
        seed=0,
        verbose=False,
    )
    ends = set(job["ends"])
    heard: dict[str, Any] = {}
    same_ids = 0
    for i, (text, ids) in enumerate(zip(job["texts"], job["prompts"], strict=True)):
        own = model.tokenize(text.encode(), add_bos=False, special=True)
        same_ids += own == ids
        heard[f"answer{i}"] = np.array(_answer(model, ids, ends, job["n_tokens"]), np.int64)
        along = job["along"][i]
        model.reset()
        model.eval(ids + along)
        last = len(ids) + len(along)
        heard[f"logits{i}"] = np.array(model.scores[last - len(along) - 1 : last], np.float32)
    np.savez(job["out"], same_ids=same_ids, **heard)


def _answer(model: Any, ids: list[int], ends: set[int], n_tokens: int) -> list[int]:
    model.reset()
    said: list[int] = []
    fresh = ids
    while len(said) < n_tokens:
        model.eval(fresh)
        token = int(np.argmax(model.scores[model.n_tokens - 1]))
        if token in ends:
            break
        said.append(token)
        fresh = [token]
    return said


if __name__ == "__main__":
    main()
