"""Back-fill the near-duplicate index of tens of millions of examples with Daft, here or on Ray.

Daft spreads the work; the signing is our own function, called on its batches, so the keys are those
that a build would have stored, to the bit. (Daft's native MinHash is another family of hashes, and
families cannot be mixed in one index.)

The steps are apart, for each may run elsewhere: `export_examples` writes Parquet from the database,
`signed_frame` reads it and signs, `load_index` stores what came out. On a cluster, say
`daft.set_runner_ray("ray://…")` before, give a folder that all its machines reach (`s3://…`), and
install this project with its `scale` extra on each of them.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import text
from sqlmodel import Session

from curation.boilerplate import Templates
from curation.dedupe.index import (
    _copy_keys,
    _insert_unknown,
    _lock_index,
    _signed,
    text_ids_of,
)
from curation.normalize import normalize_all
from curation.recipe import CurationRecipe
from foundation.database import session_scope

if TYPE_CHECKING:
    import daft

_ROWS_PER_FILE: Final = 50_000
_ROWS_PER_BATCH: Final = 2_000
_EXAMPLE_SCHEMA: Final = pa.schema([("prompt", pa.string()), ("answer", pa.string())])
_SIGNED: Final = pa.struct(
    [
        ("whole_id", pa.int64()),
        ("prompt_id", pa.int64()),
        ("whole_keys", pa.list_(pa.int64())),
        ("prompt_keys", pa.list_(pa.int64())),
    ]
)


def backfill(
    session: Session, role: str, recipe: CurationRecipe, templates: Templates, folder: str
) -> int:
    """Put all compared examples of a role and variant into the index; return how many were lacking.

    Doing it again changes nothing; a build goes on from there with its comparisons.

    Args:
        session: reads the examples.
        role: whose examples.
        recipe: says the variant and how texts are signed.
        templates: of the role, left out of what is compared.
        folder: path or URL of an empty or new folder for the Parquet files in between.
    """
    if not export_examples(session, role, recipe.variant, folder):
        return 0
    return load_index(role, recipe, signed_frame(folder, role, recipe, templates))


def export_examples(session: Session, role: str, variant: str, folder: str) -> int:
    """Write prompt (JSON) and answer of one example per text as Parquet; return how many."""
    files, path = fsspec.url_to_fs(folder)
    files.makedirs(path, exist_ok=True)
    rows = session.execute(
        _ONE_PER_TEXT,
        {"role": role, "variant": variant},
        execution_options={"yield_per": _ROWS_PER_FILE},
    )
    n_rows = 0
    for number, part in enumerate(rows.partitions()):
        prompts, answers = zip(*part, strict=True)
        table = pa.table([prompts, answers], schema=_EXAMPLE_SCHEMA)
        with files.open(f"{path}/examples-{number:06d}.parquet", "wb") as file:
            pq.write_table(table, file, compression="zstd")
        n_rows += len(part)
    return n_rows


def signed_frame(
    folder: str, role: str, recipe: CurationRecipe, templates: Templates
) -> "daft.DataFrame":
    """Return, lazily, the exported examples' whole_id and prompt_id, whole_keys and prompt_keys."""
    import daft

    @daft.func.batch(  # type: ignore[untyped-decorator]
        return_dtype=daft.DataType.from_arrow_type(_SIGNED),
        unnest=True,
        batch_size=_ROWS_PER_BATCH,
        use_process=False,  # numpy does the work; a process each would copy the texts
    )
    def sign(prompts: daft.Series, answers: daft.Series) -> pa.Array:
        return signed_batch(prompts.to_pylist(), answers.to_pylist(), role, recipe, templates)

    frame = daft.read_parquet(f"{folder}/*.parquet")
    return frame.select(sign(frame["prompt"], frame["answer"]))


def signed_batch(
    prompts: list[str], answers: list[str], role: str, recipe: CurationRecipe, templates: Templates
) -> pa.Array:
    """Return ids and keys of some examples (prompts as JSON), as an index would store them."""
    calls = list(zip(map(json.loads, prompts), answers, strict=True))
    compared = normalize_all(calls, templates)
    ids = [text_ids_of(role, recipe.variant, one) for one in compared]
    wholes, alone = _signed(role, recipe, dict(zip(ids, compared, strict=True)))
    rows = [
        {
            "whole_id": whole,
            "prompt_id": prompt,
            "whole_keys": wholes.keys[whole],
            "prompt_keys": alone.keys[prompt],
        }
        for whole, prompt in ids
    ]
    return pa.array(rows, type=_SIGNED)


def load_index(role: str, recipe: CurationRecipe, frame: "daft.DataFrame") -> int:
    """Store what the index lacks of a signed frame, batch by batch; return how many texts."""
    n_stored = 0
    for rows in _batches(frame):
        keys = {row["whole_id"]: row["whole_keys"] for row in rows}
        keys |= {row["prompt_id"]: row["prompt_keys"] for row in rows}
        with session_scope() as session:
            _lock_index(session, role, recipe.variant, shared=True)
            ids = [(row["whole_id"], row["prompt_id"]) for row in rows]
            fresh = _insert_unknown(session, role, recipe, ids)
            _copy_keys(session, {i: keys[i] for i in keys if i in fresh})
        n_stored += len(fresh)
    return n_stored


def _batches(frame: "daft.DataFrame") -> Iterator[list[dict[str, Any]]]:
    for batch in frame.to_arrow_iter():
        for start in range(0, batch.num_rows, _ROWS_PER_BATCH):
            yield batch.slice(start, _ROWS_PER_BATCH).to_pylist()


_ONE_PER_TEXT = text(
    """
    SELECT DISTINCT ON (text_id) CAST(prompt AS text), answer
    FROM example
    WHERE role = :role AND variant = :variant AND text_id IS NOT NULL
    ORDER BY text_id
    """
)
