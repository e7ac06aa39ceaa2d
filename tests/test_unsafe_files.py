"""Nothing that is read can run code: no pickle, no YAML with tags, no base's own code unasked.

Adapters and bases are safetensors. Our own checkpoints hold optimizer states as torch writes them,
and are read as tensors only.
"""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from router.upstreams import config

PROJECT = Path(__file__).resolve().parents[1]
ROOMS = "foundation collector curation trainer serving evaluator router admin flywheel".split()

READERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
"""Modules that make objects of what they read."""


def trees() -> Iterator[tuple[str, ast.Module]]:
    for room in ROOMS:
        for path in sorted((PROJECT / room).rglob("*.py")):
            yield str(path.relative_to(PROJECT)), ast.parse(path.read_text())


def calls(tree: ast.AST) -> Iterator[tuple[str, dict[str, ast.expr]]]:
    """Yield `module.function` of each call, and its keywords."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name):
                keywords = {k.arg: k.value for k in node.keywords if k.arg}
                yield f"{owner.id}.{node.func.attr}", keywords


def is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def unsafe_reads(tree: ast.AST) -> list[str]:
    """Return what in a module could run code of a file that it reads."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in READERS]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in READERS:
            found.append(node.module or "")
    for name, keywords in calls(tree):
        if name == "torch.load" and not is_true(keywords.get("weights_only")):
            found.append("torch.load without weights_only=True")
        if name in ("np.load", "numpy.load") and "allow_pickle" in keywords:
            found.append("numpy.load with allow_pickle")
        if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            found.append(name)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.keyword)
            and node.arg == "trust_remote_code"
            and is_true(node.value)
        ):
            found.append("trust_remote_code=True")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found += [node.func.id] if node.func.id in ("eval", "exec") else []
    return found


ALLOWED = {
    "evaluator/sandbox": "runs answers, which is what the sandbox is for",
    "router/upstreams/config.py": "yaml.load, with a loader that is a SafeLoader: see below",
}
"""What may, and why."""


def test_no_file_that_is_read_can_run_code() -> None:
    found = {
        path: unsafe
        for path, tree in trees()
        if (unsafe := unsafe_reads(tree)) and not path.startswith(tuple(ALLOWED))
    }
    assert found == {}


def test_the_gateways_file_has_no_objects() -> None:
    assert issubclass(config._OncePerKey, yaml.SafeLoader)


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "eval(text)",
    ],
)
def test_what_is_looked_for_is_found(code: str) -> None:
    assert unsafe_reads(ast.parse(code))


def test_the_trainer_that_we_are_built_on_reads_checkpoints_as_tensors() -> None:
    """transformers reads optimizer.pt, scheduler.pt and rng_state.pth when a training resumes."""
    library = find_spec("transformers")
    if library is None or library.origin is None:
        pytest.skip("the extra [train] is not installed")
    source = (Path(library.origin).parent / "trainer.py").read_text()
    reads = [keywords for name, keywords in calls(ast.parse(source)) if name == "torch.load"]
    assert reads
    assert all(is_true(keywords.get("weights_only")) for keywords in reads)
