"""The demo's base model: built from nothing once, then found by the hash of what made it."""

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Final

from flywheel.demo.pretraining_data import documents
from flywheel.demo.recipe import BaseRecipe

Progress = Callable[[int, int, float], None]
_MAKERS: Final = (
    "flywheel/demo/language.py",
    "flywheel/demo/pretraining_data.py",
    "trainer/pretrain.py",
    "trainer/tokenizer.py",
)


def ensure_base(
    home: Path, progress: Progress | None = None, recipe: BaseRecipe | None = None
) -> Path:
    """Returns the folder of the base model, building it first if it is not there.

    A build appears under its final name only when it is whole: a killed one leaves nothing but a
    `.building-` folder, which a build an hour later removes. Two builds at once are harmless; the
    first to finish wins.

    Args:
        home: the folder of the product's files (`FLYWHEEL_HOME`).
        progress: called with (step, steps, loss) while building; never when the base is cached.
        recipe: of the base; None is the demo's own.

    Returns:
        A folder for `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`.
    """
    recipe = recipe or BaseRecipe()
    bases = home / "bases"
    target = bases / f"demo-{fingerprint(recipe)[:16]}"
    if target.is_dir():
        return target
    bases.mkdir(parents=True, exist_ok=True)
    for left in bases.glob(".building-*"):
        if time.time() - left.stat().st_mtime > 3600:
            shutil.rmtree(left, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=f".building-{target.name}-", dir=bases))
    try:
        _build(recipe, building, progress)
        _move(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def fingerprint(recipe: BaseRecipe) -> str:
    """SHA-256 over the recipe, the code that makes the data and the weights, and the versions."""
    root = Path(__file__).resolve().parents[2]
    made_of = {
        "recipe": asdict(recipe),
        "code": {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in _MAKERS},
        "python": platform.python_version_tuple()[:2],
        "libraries": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _build(recipe: BaseRecipe, destination: Path, progress: Progress | None) -> None:
    from trainer.pretrain import BaseShape, PretrainRecipe, pretrain

    shape = BaseShape(
        hidden=recipe.hidden,
        layers=recipe.layers,
        heads=recipe.heads,
        kv_heads=recipe.kv_heads,
        mlp=recipe.mlp,
        vocab=recipe.vocab,
    )
    training = PretrainRecipe(
        steps=recipe.steps,
        batch=recipe.batch,
        learning_rate=recipe.learning_rate,
        threads=recipe.threads,
        seed=recipe.seed,
    )
    chats = list(documents(recipe.mix, recipe.steps * recipe.batch))
    pretrain(chats, shape, training, destination, progress)
    (destination / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")


def _move(building: Path, target: Path) -> None:
    """Renames in one step; another process may have put the same base there meanwhile."""
    building.chmod(0o755)
    try:
        os.rename(building, target)
    except OSError:
        if not target.is_dir():
            raise
