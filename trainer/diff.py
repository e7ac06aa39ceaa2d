"""What differs between two versions: recipe, data, base, code, measures, weights and size."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sqlmodel import Session

from curation.publish.diff import diff as diff_datasets
from foundation.errors import FlywheelError
from trainer.card import card, rows_of
from trainer.registry import ADAPTER, FULL, MERGED, PRUNED, version_folder
from trainer.tables import ModelVersion
from trainer.weights import LayerDifference, compare_adapters, compare_models, overall

_WHOLE: Final = (FULL, MERGED, PRUNED)
_LAYERS_SHOWN: Final = 12
_CODE: Final = ("code_version", "libraries", "python", "machine", "device", "precision", "threads")


@dataclass(frozen=True)
class Difference:
    """Two versions, compared; each pair is [first, second].

    Attributes:
        versions: their names.
        what: role, kind, stage and such that differ.
        recipe: knobs that differ, by their dotted names.
        dataset: what `curation.publish.diff` says; or why there is nothing to say.
        base: base model and its hash, where they differ.
        code: versions of code and libraries that differ.
        metrics: measures that differ.
        size_bytes: of the files.
        weights: relative difference and cosine, overall and of the layers that differ most; or why
            they cannot be compared.
    """

    versions: list[str]
    what: dict[str, list[Any]]
    recipe: dict[str, list[Any]]
    dataset: dict[str, Any]
    base: dict[str, list[Any]]
    code: dict[str, list[Any]]
    metrics: dict[str, list[Any]]
    size_bytes: list[int]
    weights: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def diff(session: Session, old: ModelVersion, new: ModelVersion) -> Difference:
    """Compare two versions; what cannot be compared says why."""
    first, second = card(session, old), card(session, new)
    trained = [one["training"] or {} for one in (first, second)]
    manifests = [one.get("manifest") or {} for one in trained]
    return Difference(
        versions=[old.name, new.name],
        what=_between(
            *(_some(one, ("role", "kind", "stage", "is_control")) for one in (first, second))
        ),
        recipe=_between(*(one.get("recipe") or {} for one in trained)),
        dataset=_datasets(session, old, new),
        base=_between(
            {"base_model": old.base_model, "base_hash": manifests[0].get("base_hash")},
            {"base_model": new.base_model, "base_hash": manifests[1].get("base_hash")},
        ),
        code=_between(*(_some(one, _CODE) for one in manifests)),
        metrics=_between(old.metrics, new.metrics),
        size_bytes=[first["files"]["size_bytes"], second["files"]["size_bytes"]],
        weights=_weights(old, new),
    )


def _some(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: values.get(name) for name in names}


def _between(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    before, after = dict(rows_of(old)) if old else {}, dict(rows_of(new)) if new else {}
    return {
        name: [before.get(name), after.get(name)]
        for name in [*before, *(name for name in after if name not in before)]
        if before.get(name) != after.get(name)
    }


def _datasets(session: Session, old: ModelVersion, new: ModelVersion) -> dict[str, Any]:
    if old.dataset_id is None or new.dataset_id is None:
        return {"why_not": "one of them learned from no dataset"}
    if old.dataset_id == new.dataset_id:
        return {"same": str(new.dataset_id)}
    try:
        found = diff_datasets(session, old.dataset_id, new.dataset_id).as_json()
    except FlywheelError as error:  # of another kind, or its files are gone
        return {"why_not": str(error)}
    return {name: value for name, value in found.items() if name != "rows"}


def _weights(old: ModelVersion, new: ModelVersion) -> dict[str, Any]:
    compare = _comparison_of(old, new)
    if compare is None:
        return {"why_not": f"{old.kind} and {new.kind} are not compared layer by layer"}
    if old.content_hash == new.content_hash and old.content_hash is not None:
        return {"relative": 0.0, "cosine": 1.0, "layers": [], "same": old.content_hash}
    try:
        layers = compare(version_folder(old), version_folder(new))
    except (FlywheelError, OSError) as error:
        return {"why_not": str(error)}
    return {
        **overall(layers),
        "n_layers": len(layers),
        "layers": [asdict(one) for one in _most_apart(layers)],
    }


def _comparison_of(
    old: ModelVersion, new: ModelVersion
) -> Callable[[Path, Path], list[LayerDifference]] | None:
    if old.kind == new.kind == ADAPTER and old.base_model == new.base_model:
        return compare_adapters
    if old.kind in _WHOLE and new.kind in _WHOLE:
        return compare_models
    return None


def _most_apart(layers: list[LayerDifference]) -> list[LayerDifference]:
    return sorted(layers, key=lambda one: (-one.relative, one.layer))[:_LAYERS_SHOWN]
