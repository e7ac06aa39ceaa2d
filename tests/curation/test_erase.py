"""Erasing reaches every copy: examples, indexes, pairs, reviews, published files; and is named."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from published import add_example, add_pair, published
from sqlalchemy import func, text
from sqlmodel import SQLModel, select

from collector.tables import Interaction, InteractionPayload
from curation.build import build_dataset
from curation.embed import BUNDLED
from curation.erase import Subject, delete_files, erase
from curation.export import get_dataset, load_rows, read, shards_of
from curation.publish.quality import novelty_text
from curation.publish.rows import make_row
from curation.tables import (
    TEXT_BAND,
    Contamination,
    CurationBuild,
    CurationChunk,
    Dataset,
    DatasetShard,
    Embedding,
    Erasure,
    Example,
    IndexedText,
    JudgeCall,
    PreferencePair,
    ProtectedText,
    ReviewItem,
    ReviewLabel,
    ShardRow,
    TextEdge,
)
from foundation.artifacts import exists, put
from foundation.chat import message
from foundation.database import session_scope
from foundation.ids import new_id
from foundation.settings import get_settings

SECRET = "the number of my house is four hundred and twelve"


def one(example: Example) -> Subject:
    return Subject("interaction", (str(example.interaction_id),))


def files_with(text: str) -> list[str]:
    """Artifacts that say `text`: Parquet is packed, so shards are read."""
    import pyarrow.parquet as pq

    root = Path(get_settings().artifacts_root)
    found = []
    for path in root.rglob("*"):
        if path.suffix == ".parquet" and text in str(pq.read_table(path).to_pylist()):
            found.append(path.name)
        elif path.is_file() and text in path.read_text(errors="replace"):
            found.append(path.name)
    return found


def rows_with(session, text: str) -> list[str]:
    """Tables with a row that says `text` anywhere."""
    return [
        table.name
        for table in SQLModel.metadata.sorted_tables
        if any(text in str(row) for row in session.execute(select(table)))
    ]


@pytest.fixture
def secret(session) -> Example:
    kept = add_example(session, "where do I live?", SECRET, project="home", episode_id=new_id())
    add_example(session, "say one", "one")
    session.add(Interaction(id=kept.interaction_id, role="coder", project="home"))
    session.add(
        InteractionPayload(
            id=kept.interaction_id, request={"messages": kept.prompt}, response={"text": SECRET}
        )
    )
    session.flush()
    return kept


def test_nothing_that_was_made_of_a_call_says_it_any_more(session, secret):
    add_pair(session, "where?", SECRET, "no", winner_id=secret.interaction_id)
    task = ProtectedText(source="s", item_id="1", prompt="p")
    item = ReviewItem(role="coder", subject_id=secret.id, reason="random")
    row = make_row(secret.model_dump())
    digest = sha256(novelty_text(row).encode()).hexdigest()
    session.add_all([task, item, Embedding(text_hash=digest, model=BUNDLED, vector=b"x")])
    session.flush()
    session.add_all(
        [
            Contamination(
                example_id=secret.id, protected_id=task.id, method="near", similarity=0.9
            ),
            JudgeCall(
                key="k",
                model="m",
                rubric="r",
                interaction_id=secret.interaction_id,
                reason=SECRET,
            ),
            ReviewLabel(
                item_id=item.id,
                interaction_id=secret.interaction_id,
                reviewer="ann",
                action="edit",
                value={"answer": SECRET},
            ),
        ]
    )
    examples, _ = published(session)
    pairs, _ = published(session, kind="preference")
    asked = []

    def learned_from(session, datasets):
        asked.extend(datasets)
        return ["coder-v1"]

    account = erase(
        session, one(secret), actor="ann", reason="she asked", learned_from=learned_from
    )
    delete_files(session)

    assert rows_with(session, SECRET) == []
    assert files_with(SECRET) == []
    assert asked == [examples.id, pairs.id]
    assert account.dataset_ids == [str(examples.id), str(pairs.id)]
    assert account.model_versions == ["coder-v1"]
    assert str(secret.interaction_id) not in str(account.model_dump())
    assert account.counts == {
        "dataset_row": 2,
        "example": 1,
        "interaction": 1,
        "interaction_payload": 1,
        "judge_call": 1,
        "review_item": 1,
        "review_label": 1,
        "contamination": 1,
        "preference_pair": 1,
        "embedding": 1,
        "files_to_delete": [],
    }


def test_published_versions_are_read_without_the_row(session, secret):
    first, _ = published(session)
    add_example(session, "one more", "answer", split="test")
    session.flush()
    second, _ = published(session)
    hashes = (first.content_hash, second.content_hash)
    old = {shard.uri for shard in shards_of(session, first.id)} | {first.artifact_uri}
    erase(session, one(secret), actor="ann")
    delete_files(session)
    for dataset in (first, second):
        (row,) = load_rows(session, dataset.id, "train")
        assert row["completion"] == [message("assistant", "one")]
        assert (dataset.n_train, dataset.card["erased_rows"]) == (1, 1)
    assert (first.content_hash, second.content_hash) == hashes
    assert not any(exists(uri) for uri in old)
    assert exists(first.artifact_uri)
    assert len(load_rows(session, second.id, "test")) == 1
    assert len({s.uri for d in (first, second) for s in shards_of(session, d.id, "train")}) == 1
    third, is_new = published(session)
    assert is_new
    assert third.card["kept"] == 2


def test_samples_of_what_many_texts_share_go_too(session, secret):
    counts = {"hot": [{"kind": "prompt", "n_texts": 900, "sample": SECRET}], "new": 1}
    build = CurationBuild(
        role="coder",
        variant="default",
        recipe={},
        recipe_fingerprint="x",
        everything=False,
        until_xid=1,
        counts=counts,
    )
    session.add(build)
    session.flush()
    session.add(
        CurationChunk(build_id=build.id, step="compare", number=0, ids=[], n_rows=0, counts=counts)
    )
    session.flush()
    erase(session, one(secret), actor="ann")
    assert rows_with(session, SECRET) == []


def test_a_shard_of_nothing_but_the_row_goes(session, secret):
    secret.split = "validation"
    session.flush()
    dataset, _ = published(session)
    erase(session, one(secret), actor="ann")
    assert load_rows(session, dataset.id, "validation") == []
    assert shards_of(session, dataset.id, "validation") == []
    assert len(load_rows(session, dataset.id, "train")) == 1


def test_the_files_of_an_old_version_are_taken_apart(session, secret, tmp_path):
    """One artifact held all splits: the ones without the row move before it goes."""
    other = add_example(session, "x", "y", split="test")
    session.flush()
    dataset = store_old_version(session, tmp_path / "v1", {"train": secret, "test": other})
    erase(session, one(secret), actor="ann")
    delete_files(session)
    assert load_rows(session, dataset.id, "train") == []
    (row,) = read(session, dataset.id, "test")
    assert row["example_id"] == str(other.id)
    assert files_with(SECRET) == []


def store_old_version(session, folder: Path, examples: dict[str, Example]) -> Dataset:
    """A version as it was written before there were shards: a file per split in one artifact."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    for split, example in examples.items():
        row = make_row(example.model_dump())
        names = ("example_id", "interaction_id", "prompt", "completion", "score", "split_key")
        old = {**{name: row[name] for name in names}, "prompt_json": None}
        pq.write_table(pa.Table.from_pylist([old]), folder / f"{split}.parquet")
    uri = put(folder).uri
    dataset = Dataset(role="coder", number=1, content_hash="x", n_train=1, n_test=1)
    session.add(dataset)
    session.flush()
    for split, example in examples.items():
        shard = f"v1-{dataset.id}-{split}"
        session.add(
            DatasetShard(
                dataset_id=dataset.id,
                split=split,
                position=0,
                shard=shard,
                n_rows=1,
                uri=uri,
                file=f"{split}.parquet",
            )
        )
        session.add(ShardRow(shard=shard, row_id=example.id))
    session.flush()
    return dataset


def test_a_dry_run_tells_the_same_and_changes_nothing(session, secret):
    dataset, _ = published(session)
    tried = erase(session, one(secret), actor="ann", dry_run=True)
    assert session.exec(select(Erasure)).all() == []
    assert len(load_rows(session, dataset.id, "train")) == 2
    assert session.get(Example, secret.id) is not None
    done = erase(session, one(secret), actor="ann")
    left_out = {"files_to_delete"}
    assert {k: v for k, v in tried.counts.items() if k not in left_out} == {
        k: v for k, v in done.counts.items() if k not in left_out
    }
    assert tried.dataset_ids == done.dataset_ids


@pytest.mark.parametrize("scope", ["episode", "project"])
def test_examples_are_found_though_their_calls_have_left_the_log(session, secret, scope):
    name = str(secret.episode_id) if scope == "episode" else "home"
    session.delete(session.get(Interaction, secret.interaction_id))
    session.delete(session.get(InteractionPayload, secret.interaction_id))
    session.flush()
    assert erase(session, Subject(scope, (name,)), actor="ann").counts["example"] == 1


def test_answers_generated_for_an_erased_prompt_go_too(session, secret):
    asked = {"asked": str(secret.interaction_id)}
    made = add_pair(session, "where?", SECRET, "no", basis="generated", evidence=asked)
    stays = add_pair(session, "other", "yes", "no")
    session.add(
        JudgeCall(key="k", model="m", rubric="r", interaction_id=made.winner_id, reason=SECRET)
    )
    session.flush()
    counts = erase(session, one(secret), actor="ann").counts
    assert (counts["preference_pair"], counts["judge_call"]) == (1, 1)
    assert session.exec(select(PreferencePair.id)).all() == [stays.id]


def test_what_is_not_there_is_an_account_of_nothing(session):
    account = erase(session, Subject("project", ("nobody",)), actor="ann")
    assert account.counts == {"files_to_delete": []}
    assert delete_files(session) == 0


def test_files_that_a_dead_process_left_are_deleted_by_the_next(session, secret):
    dataset, _ = published(session)
    (shard,) = shards_of(session, dataset.id)
    old = shard.uri
    account = erase(session, one(secret), actor="ann")
    session.commit()  # and there the process dies
    assert exists(old)
    assert old in account.counts["files_to_delete"]
    assert delete_files(session) == 2
    assert not exists(old)


def test_the_next_build_promotes_what_repeated_it(session, log):
    ask = "Write a function that returns the sum of the first {} whole numbers, starting at {}."
    code = "def total(n):\n    return sum(range(n + 1))  # as asked"
    first = log.call(ask.format("n", "one"), code, passed=True)
    again = log.call(ask.format("n", "one"), code, passed=True)
    near = log.call("Please. " + ask.format("n", "one"), code, passed=True)
    dataset = build_dataset("coder")
    rows = list(read(session, get_dataset(session, dataset.id).id, "train")) + [
        row for split in ("validation", "test") for row in read(session, dataset.id, split)
    ]
    (kept,) = rows
    account = erase(session, Subject("interaction", (kept["interaction_id"],)), actor="ann")
    session.commit()
    assert account.counts["reopened"] == 2
    again_built = build_dataset("coder")
    assert again_built.number == dataset.number + 1
    (promoted,) = [
        row
        for split in ("train", "validation", "test")
        for row in read(session, again_built.id, split)
    ]
    assert promoted["interaction_id"] != kept["interaction_id"]
    assert promoted["interaction_id"] in {str(first), str(again), str(near)}


def test_no_text_is_left_in_the_index(session, log):
    only = log.call("Write something quite unlike all else, about whales.", "whales", passed=True)
    build_dataset("coder")
    assert session.execute(select(func.count()).select_from(TEXT_BAND)).scalar_one() > 0
    erase(session, Subject("interaction", (str(only),)), actor="ann")
    for table in (IndexedText, TextEdge, Example, PreferencePair):
        assert session.exec(select(table)).all() == []
    assert session.execute(select(func.count()).select_from(TEXT_BAND)).scalar_one() == 0


def test_erasing_waits_for_the_chunk_in_hand_and_holds_the_next(session, log):
    """A worker that has read a call must not store its example after the call is erased."""
    call = log.call("Where do I live?", SECRET, passed=True)
    build = CurationBuild(
        role="coder",
        variant="default",
        recipe={},
        recipe_fingerprint="x",
        everything=False,
        until_xid=1,
    )
    session.add(build)
    session.flush()
    chunk = CurationChunk(build_id=build.id, step="judge", number=0, ids=[str(call)], n_rows=1)
    session.add(chunk)
    session.commit()
    session.execute(select(CurationChunk).with_for_update())
    session.add(Example(role="coder", interaction_id=call, prompt=[], answer=SECRET, norm_hash="n"))
    session.flush()

    def erase_call() -> Erasure:
        with session_scope() as other:
            return erase(other, Subject("interaction", (str(call),)), actor="ann")

    with ThreadPoolExecutor(1) as pool:
        erasing = pool.submit(erase_call)
        with session_scope() as watching:
            while watching.execute(_WAITS_FOR_CHUNKS).first() is None:
                assert not erasing.done()
                watching.rollback()
        session.commit()
        assert erasing.result(timeout=60).counts["example"] == 1
    assert session.exec(select(Example)).all() == []


_WAITS_FOR_CHUNKS = text(
    "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'curation_chunk'::regclass"
)
