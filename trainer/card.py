"""The model card: what a version is, what it learned from, how it went, and what it is not for.

A card is a dictionary, made of the rows each time it is asked for, so it never disagrees with them;
`page` makes one HTML page of it. What rooms above know (who compared it, where it served) comes in
as `extra` sections. Everything shown is escaped: names, warnings and reasons are written by others.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Template
from sqlmodel import Session, col, select

from curation.tables import Dataset, Erasure
from foundation import artifacts, plots
from foundation.errors import NotFound
from foundation.lone_page import environment
from foundation.runs import get_run
from trainer import provenance
from trainer.lineage import ancestors
from trainer.registry import BASE, EXTERNAL, REWARD
from trainer.tables import ModelExport, ModelVersion, TrainingRun

_OF_DATASET: Final = ("splits", "task_types", "languages", "warnings", "erased_rows", "n_tokens")

_BARS: Final = 12

_USES: Final = {
    REWARD: "It scores answers for a training by reinforcement, and never answers itself.",
    BASE: "It is the untrained base: the baseline of its role, and what adapters are loaded on.",
    EXTERNAL: "A provider answers for it: nothing of it is stored here.",
}

Card = dict[str, Any]


def card(session: Session, version: ModelVersion, extra: Mapping[str, Any] | None = None) -> Card:
    """Return the card of a version as plain JSON values.

    Args:
        session: of the surrounding transaction; only read.
        version: a stored one.
        extra: sections by title, each a mapping of names and values or a list of such rows.
    """
    training = _training(session, version)
    dataset = session.get(Dataset, version.dataset_id) if version.dataset_id else None
    return {
        "name": version.name,
        "id": str(version.id),
        "role": version.role,
        "number": version.number,
        "kind": version.kind,
        "stage": version.stage,
        "base_model": version.base_model,
        "is_control": version.is_control,
        "created_at": version.created_at.isoformat(),
        "files": _files(version),
        "lineage": _lineage(session, version, training),
        "dataset": _dataset(dataset),
        "training": _trained(session, training),
        "made_by": version.made_by,
        "metrics": version.metrics,
        "exports": _exports(session, version),
        "use": _use(version, dataset),
        "limits": _limits(version, training, dataset),
        "erasures": _erasures(session, version),
        "extra": dict(extra or {}),
    }


def _training(session: Session, version: ModelVersion) -> TrainingRun | None:
    return session.get(TrainingRun, version.training_run_id) if version.training_run_id else None


def _files(version: ModelVersion) -> dict[str, Any]:
    gone = version.files_removed_at
    files: list[tuple[str, int]] = []
    is_lost = False
    if version.artifact_uri is not None and gone is None:
        try:
            files = artifacts.listed(version.artifact_uri)
        except NotFound:
            is_lost = True
    return {
        "content_hash": version.content_hash,
        "artifact": version.artifact_uri,
        "files": [{"name": name, "size_bytes": size} for name, size in files],
        "size_bytes": sum(size for _, size in files),
        "removed_at": gone.isoformat() if gone else None,
        "is_lost": is_lost,
        "pinned_because": version.pinned_because,
    }


def _lineage(
    session: Session, version: ModelVersion, training: TrainingRun | None
) -> dict[str, Any]:
    parent = session.get(ModelVersion, version.parent_id) if version.parent_id else None
    children = session.exec(
        select(ModelVersion.name)
        .where(ModelVersion.parent_id == version.id)
        .order_by(col(ModelVersion.id))
    ).all()
    manifest = training.manifest if training else {}
    return {
        "parent": parent.name if parent else None,
        "went_on_from": [one.name for one in ancestors(session, version)[:-1]],
        "made_of": [name for name in version.made_by.get("of", []) if isinstance(name, str)],
        "children": list(children),
        "dataset_hash": manifest.get("dataset_hash"),
        "recipe_hash": manifest.get("recipe_hash"),
        "base_hash": manifest.get("base_hash"),
        "weights_sha256": manifest.get("adapter_sha256"),
        "code_version": manifest.get("code_version"),
        "signature": _signature(version),
    }


def _signature(version: ModelVersion) -> str | None:
    """Return how its signed manifest stands, without a look at the files; None: nothing to sign."""
    found = provenance.check(version, None)
    if found.status == provenance.NO_FILES:
        return None
    return " ".join(
        (found.status, *([f"by {found.signer[:16]}…"] if found.signer else found.reasons))
    )


def _dataset(dataset: Dataset | None) -> dict[str, Any] | None:
    if dataset is None:
        return None
    quality = dataset.card.get("quality") or {}
    return {
        "id": str(dataset.id),
        "name": f"{dataset.role}/{dataset.kind}@{dataset.number}",
        "variant": dataset.variant,
        "content_hash": dataset.content_hash,
        "rows": {
            "train": dataset.n_train,
            "validation": dataset.n_validation,
            "test": dataset.n_test,
        },
        "quality": {
            name: {"value": one.get("value"), "target": one.get("target"), "met": one.get("met")}
            for name, one in quality.items()
        },
        **{name: dataset.card.get(name) for name in _OF_DATASET},
    }


def _trained(session: Session, training: TrainingRun | None) -> dict[str, Any] | None:
    if training is None:
        return None
    run = get_run(session, training.run_id)
    return {
        "id": str(training.id),
        "run_id": str(training.run_id),
        "status": run.status,
        "method": training.method,
        "ordered_by": training.ordered_by,
        "suite": training.suite,
        "recipe": training.recipe,
        "seed": training.seed,
        "metrics": training.metrics,
        "estimate": training.estimate,
        "manifest": training.manifest,
        "history": training.history,
    }


def _exports(session: Session, version: ModelVersion) -> list[dict[str, Any]]:
    query = select(ModelExport).where(ModelExport.model_version_id == version.id)
    return [
        {
            "format": export.format,
            "content_hash": export.content_hash,
            "size_bytes": export.size_bytes,
            "parity": export.parity,
        }
        for export in session.exec(query.order_by(ModelExport.format)).all()
    ]


def _use(version: ModelVersion, dataset: Dataset | None) -> str:
    said = _USES.get(version.kind)
    if said is not None:
        return said
    if version.is_control:
        return "A control: trained to be compared with, and never served."
    types = list((dataset.card.get("task_types") or {}) if dataset else {})[:5]
    shown = f", foremost {', '.join(map(str, types))}" if types else ""
    return f"It answers for the role {version.role} on {version.base_model}{shown}."


def _limits(
    version: ModelVersion, training: TrainingRun | None, dataset: Dataset | None
) -> list[str]:
    """Return what a reader should not expect of it; only what rows tell."""
    found = []
    if dataset is not None:
        found += [f"Of its dataset: {warning}." for warning in dataset.card.get("warnings") or []]
        if not dataset.n_validation and dataset.variant != "increment":
            found.append("No row was held out while it was trained: overfitting would not show.")
    if training is not None and training.metrics.get("stopped_early"):
        found.append("It stopped before the steps of its recipe were done.")
    if version.is_control or version.kind == REWARD:
        found.append("It never serves.")
    if version.files_removed_at is not None:
        found.append("Its files were collected as garbage: only this card is left.")
    if version.kind not in (BASE, EXTERNAL):
        found.append("What it says outside the tasks that it learned from is its base's doing.")
    return found


def _erasures(session: Session, version: ModelVersion) -> list[dict[str, Any]]:
    """Return the erasures of what the version, or one that it rests on, had learned from."""
    query = select(Erasure).where(col(Erasure.model_versions).contains([version.name]))
    return [
        {"id": str(one.id), "scope": one.scope, "at": one.created_at.isoformat()}
        for one in session.exec(query.order_by(col(Erasure.id))).all()
    ]


# The page


def page(shown: Card) -> str:
    """Return a card as one HTML page of its own: no script, nothing fetched, light and dark."""
    history = (shown["training"] or {}).get("history") or []
    return _template().render(
        card=shown,
        types=_bars((shown["dataset"] or {}).get("task_types") or {}),
        judged=_intervals(shown["extra"]),
        losses=_curves(history, ("loss", "validation_loss")),
        rate=_curves(history, ("lr",)),
        rows_of=rows_of,
        knobs=rows_of((shown["training"] or {}).get("recipe") or {}),
    )


def _curves(history: Sequence[Mapping[str, Any]], names: Sequence[str]) -> plots.Curves | None:
    named = {
        name: [(float(line["step"]), line[name]) for line in history if name in line]
        for name in names
    }
    named = {name: points for name, points in named.items() if points}
    last = max((points[-1][0] for points in named.values()), default=0.0)
    return plots.curves(named, (0.0, last or 1.0)) if named else None


def _bars(counts: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """Return the most frequent kinds with their number and per cent of the longest bar."""
    known = {name: n for name, n in counts.items() if isinstance(n, int) and n > 0}
    most = sorted(known.items(), key=lambda one: (-one[1], one[0]))[:_BARS]
    return [(name, n, 100.0 * n / most[0][1]) for name, n in most]


def _intervals(extra: Mapping[str, Any]) -> list[tuple[str, float, float, float]]:
    """Return what has a success rate with its interval, in per cent, from any section of rows."""
    rows = [row for rows in extra.values() if isinstance(rows, list) for row in rows]
    return [
        (row["suite"], 100 * row["success_rate"], *(100 * end for end in row["interval"]))
        for row in rows
        if row.get("success_rate") is not None and None not in row.get("interval", [None])
    ]


def rows_of(values: Any, before: str = "") -> list[tuple[str, Any]]:
    """Return nested values as rows of a table, names joined by dots; a list of words is one."""
    if isinstance(values, Mapping) and values:
        return [
            row
            for name, inner in values.items()
            for row in rows_of(inner, f"{before}.{name}" if before else str(name))
        ]
    if isinstance(values, list | tuple) and any(isinstance(one, Mapping) for one in values):
        return [row for n, one in enumerate(values, 1) for row in rows_of(one, f"{before} {n}")]
    if isinstance(values, list | tuple):
        return [(before, ", ".join(map(str, values)))]
    return [(before, None if values == {} else values)]


def _value(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}".replace(",", "\u202f") if isinstance(value, int) else str(value)


@lru_cache(maxsize=1)
def _template() -> Template:
    made = environment(Path(__file__).parent)
    made.globals |= {
        "height": plots.HEIGHT,
        "left": plots.LEFT,
        "margin": plots.MARGIN,
    }
    made.filters |= {
        "place": lambda number: f"{number:.2f}",
        "value": _value,
    }
    return made.get_template("card.html")
