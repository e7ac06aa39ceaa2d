"""The base is built once, found again, and never seen half-built."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flywheel.demo.base import ensure_base, fingerprint
from flywheel.demo.pretraining_data import PretrainingMix
from flywheel.demo.recipe import BaseRecipe, DemoRecipe

TINY = BaseRecipe(
    steps=2, batch=4, threads=1, hidden=32, layers=1, heads=2, kv_heads=1, mlp=32, vocab=320
)


def test_base_is_built_once(tmp_path: Path) -> None:
    steps: list[int] = []
    built = ensure_base(tmp_path, lambda step, total, loss: steps.append(step), TINY)
    assert steps == [1, 2]
    assert (built / "model.safetensors").is_file()
    assert ensure_base(tmp_path, lambda step, total, loss: steps.append(step), TINY) == built
    assert steps == [1, 2]
    assert [path.name for path in (tmp_path / "bases").iterdir()] == [built.name]


def test_interrupted_build_leaves_nothing_to_find(tmp_path: Path) -> None:
    def interrupt(step: int, total: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_base(tmp_path, interrupt, TINY)
    assert list((tmp_path / "bases").iterdir()) == []


def test_fingerprint_follows_the_recipe_and_the_data() -> None:
    assert fingerprint(TINY) == fingerprint(replace(TINY))
    others = [replace(TINY, seed=1), replace(TINY, mix=PretrainingMix(source_share=0.5))]
    assert len({fingerprint(recipe) for recipe in (TINY, *others)}) == 3


def test_attempts_stay_within_what_the_gateway_can_carry() -> None:
    roles = DemoRecipe().roles
    assert roles["coder"].attempts <= 1600
    assert max(roles["tester"].attempts, roles["reviewer"].attempts) <= 500


def test_demo_modules_load_no_torch() -> None:
    code = "import sys, flywheel.demo.base, flywheel.demo.recipe; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
