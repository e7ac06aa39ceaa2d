"""The model card: all that rows tell, escaped; and the difference of two versions."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from adapters_on_disk import adapter, halves, stored
from sqlmodel import Session

import router.tables  # noqa: F401  every table of the house, as in the service
from curation.tables import Dataset, Erasure
from flywheel.app import create_app
from foundation import artifacts
from foundation.tables import DONE, Run, now
from trainer.card import card, page, rows_of
from trainer.diff import diff
from trainer.recipe import PRESETS
from trainer.registry import ensure_base_version, register_adapter, register_made
from trainer.tables import ModelExport, ModelVersion, TrainingRun

HOSTILE = "<script>alert(1)</script>\u202e"
HISTORY = [
    {"step": 1, "epoch": 0.1, "loss": 3.0, "lr": 1e-3},
    {"step": 2, "epoch": 0.2, "loss": 2.0, "lr": 5e-4, "validation_loss": 2.5},
    {"step": 3, "epoch": 0.3, "loss": None, "lr": 0.0},
]


def trained(session: Session, folder: Path, number: int, **own) -> ModelVersion:
    """A version with all that a real training leaves."""
    run = Run(kind="trainer.train", status=DONE)
    dataset = Dataset(
        role="coder",
        number=number,
        content_hash=f"data {number}",
        n_train=30 + number,
        n_validation=4,
        card={
            "task_types": {"sums": 20},
            "quality": {"coverage": {"value": 0.9, "target": 0.8, "met": True, "why_not": None}},
            "warnings": [HOSTILE],
        },
    )
    session.add_all([run, dataset])
    session.flush()
    training = TrainingRun(
        run_id=run.id,
        role="coder",
        dataset_id=dataset.id,
        base_model="/base",
        method="sft-lora",
        recipe=replace(PRESETS["demo"], seed=number).to_dict(),
        history=HISTORY,
        metrics={"last_loss": 2.0, "stopped_early": True},
        manifest={"recipe_hash": f"recipe {number}", "libraries": {"torch": "2"}},
        estimate={"seconds": 10.0, "took_s": 12.5},
        **own,
    )
    session.add(training)
    session.flush()
    made = adapter(folder / str(number), {"q": halves(2, number)})
    return register_adapter(session, training, artifacts.put(made), {"last_loss": 2.0 / number})


@pytest.fixture
def two(session, tmp_path) -> list[ModelVersion]:
    ensure_base_version(session, "coder", "/base")
    first = trained(session, tmp_path, 1)
    return [first, trained(session, tmp_path, 2, from_version_id=first.id)]


def test_a_card_tells_what_it_is_and_where_it_comes_from(session, two):
    shown = card(session, two[1], {"Evaluations": [{"suite": "s@1", "success_rate": 0.5}]})
    assert (shown["name"], shown["kind"], shown["stage"]) == ("coder-v2", "adapter", "candidate")
    assert shown["lineage"]["parent"] == "coder-v1"
    assert shown["lineage"]["went_on_from"] == ["coder-v1"]
    assert shown["lineage"]["recipe_hash"] == "recipe 2"
    assert shown["dataset"]["name"] == "coder/sft@2"
    assert shown["dataset"]["quality"]["coverage"]["value"] == 0.9
    assert shown["training"]["estimate"] == {"seconds": 10.0, "took_s": 12.5}
    assert [f["name"] for f in shown["files"]["files"]] == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    assert "sums" in shown["use"]
    assert any("stopped" in limit for limit in shown["limits"])
    assert card(session, two[0])["lineage"]["children"] == ["coder-v2"]
    json.dumps(shown["extra"])


def test_every_kind_has_a_card(session, two):
    merged = register_made(
        session, two[0], "merged", stored("m"), made_by={"of": ["coder-v1"]}, metrics={"mb": 1}
    )
    external = ensure_base_version(session, "tester", "openai/x", kind="external")
    shown = [card(session, version) for version in (merged, external)]
    assert shown[0]["lineage"]["made_of"] == ["coder-v1"]
    assert shown[1]["training"] is None
    for one in shown:
        assert one["name"] in page(one)


def test_lost_and_collected_files_are_told(session, two):
    artifacts.delete(two[0].artifact_uri)
    assert card(session, two[0])["files"]["is_lost"]
    two[1].files_removed_at = now()
    gone = card(session, two[1])
    assert gone["files"]["removed_at"]
    assert any("collected" in limit for limit in gone["limits"])


def test_erasures_and_exports_are_told(session, two):
    session.add(
        Erasure(
            scope="episode", subject_hash="h", actor="a", counts={}, dataset_ids=[],
            model_versions=["coder-v1", "coder-v2"],
        )
    )  # fmt: skip
    session.add(
        ModelExport(
            model_version_id=two[0].id, format="gguf-f16", artifact_uri="sha256/x",
            content_hash="x", size_bytes=9, parity={"max_error": 0.0},
        )
    )  # fmt: skip
    session.flush()
    shown = card(session, two[0])
    assert [one["scope"] for one in shown["erasures"]] == ["episode"]
    assert shown["exports"][0]["parity"] == {"max_error": 0.0}
    assert "Erased since" in page(shown)
    assert card(session, ensure_base_version(session, "coder", "/base"))["erasures"] == []


def test_the_page_escapes_what_others_wrote_and_draws_the_curves(session, two):
    shown = page(card(session, two[1], {HOSTILE: {HOSTILE: HOSTILE}}))
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert "\u202e" not in shown
    assert shown.count('class="curve ') == 3
    assert "nan" not in shown.lower().split("</svg>")[0]
    assert "http" not in shown.replace("http-equiv", "")


def test_the_page_draws_what_it_learned_and_how_it_did(session, two):
    asked = {"suite": "s@1", "success_rate": 0.5, "interval": [0.4, 0.61]}
    unknown = {"suite": "t@1", "success_rate": None, "interval": [None, None]}
    shown = page(card(session, two[1], {"Evaluations": [asked, unknown], "Verdicts": [{"a": 1}]}))
    assert shown.count("<rect") == 1, "one task type"
    assert 'x1="40.00%" x2="61.00%"' in shown
    assert shown.count('class="reach"') == 1
    assert "<rect" not in page(card(session, ensure_base_version(session, "coder", "/base")))


def test_nested_values_become_rows():
    values = {"a": 1, "b": {"c": [1, 2], "d": {}}, "e": [{"f": 1}, {"f": 2}]}
    assert rows_of(values) == [
        ("a", 1), ("b.c", "1, 2"), ("b.d", None), ("e 1.f", 1), ("e 2.f", 2),
    ]  # fmt: skip


def test_a_difference_names_what_differs_and_no_more(session, two):
    found = diff(session, *two)
    assert found.versions == ["coder-v1", "coder-v2"]
    assert found.recipe == {"seed": [1, 2]}
    assert found.metrics == {"last_loss": [2.0, 1.0]}
    assert (found.base, found.code, found.what) == ({}, {}, {})
    assert found.dataset["old"]["number"] == 1
    assert found.weights["n_layers"] == 1
    assert 0 < found.weights["relative"] <= 2
    same = diff(session, two[0], two[0])
    assert (same.recipe, same.metrics, same.weights["relative"]) == ({}, {}, 0.0)
    json.dumps(found.as_json())


def test_what_cannot_be_compared_says_why(session, two):
    base = ensure_base_version(session, "coder", "/base")
    found = diff(session, base, two[0])
    assert "base and adapter" in found.weights["why_not"]
    assert "no dataset" in found.dataset["why_not"]
    two[1].files_removed_at = now()
    assert "removed" in diff(session, *two).weights["why_not"]


def test_the_service_gives_cards_and_differences(session, two):
    session.commit()

    async def ask(*paths: str) -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=create_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return [await client.get(f"/v1/model-versions/{path}") for path in paths]

    shown, html, found, lost = asyncio.run(
        ask("coder-v2/card", "coder-v2/card.html", "coder-v1/diff/coder-v2", "coder-v9/card")
    )
    assert shown.json()["name"] == "coder-v2"
    assert html.headers["content-security-policy"].startswith("default-src 'none'")
    assert found.json()["recipe"] == {"seed": [1, 2]}
    assert lost.status_code == 404


def test_neither_needs_torch():
    code = (
        "import sys, trainer.card, trainer.diff, trainer.garbage, trainer.schedule;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
