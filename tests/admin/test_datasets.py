"""Dataset pages: the list, a card in pictures, rows with why they fell out, files, builds."""

import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from published import add_example, add_pair, published
from sqlalchemy import select
from sqlmodel import Session, col

from admin import datasets, examples, versions
from admin.listing import Asked
from admin.pages import create_admin_app
from admin.tables import AuditEntry
from curation.publish.rows import row_hash
from curation.publish.shards import MEAN_ROWS
from curation.recipe import CurationRecipe
from curation.tables import DROPPED, Dataset, Example, ReviewItem
from foundation.errors import BadInput
from foundation.ids import new_id
from foundation.tables import Run

POST = {"Origin": "http://wheel", "Sec-Fetch-Site": "same-origin"}
NEWEST = Asked("", "", "")


@pytest.fixture
def version(session: Session) -> Dataset:
    """A version of three rows; beside it a repeat and a failure that fell out."""
    kept = [
        add_example(session, f"write {name}", f"def {name}(): ...", task_type=name, n_tokens=40 * n)
        for n, name in enumerate(("map", "filter", "reduce"), 1)
    ]
    session.flush()
    for answer, reason, duplicate in (
        ("def map(): pass", "near_duplicate", kept[0].id),
        ("no", "failed_outcome", None),
    ):
        fallen = add_example(session, "write map", answer, duplicate_of=duplicate)
        fallen.status, fallen.drop_reason, fallen.similarity = DROPPED, reason, 0.9
    session.flush()
    dataset, _ = published(session)
    session.commit()
    return dataset


@pytest.fixture
def as_role(session: Session, getter: Any, signed_in: Any) -> Any:
    service = FastAPI()
    service.mount("/admin", create_admin_app())
    return lambda role: getter(service, token=signed_in(session, role, role))


def test_the_list_shows_score_and_what_trained(session: Session, filled: Any) -> None:
    page = datasets.list_page(session, datasets.Filters(kind="sft"), NEWEST)
    (row,) = page.table.rows
    assert row.dataset.id == filled.ids["datasets"]
    assert row.n_rows == 10
    assert row.warnings == 1
    assert row.n_trainings == 1
    assert row.newest_model is not None
    assert row.newest_model.id == filled.ids["models"]
    assert "card" not in vars(row.dataset), "the cards of a page are not read"


@pytest.mark.parametrize("name", sorted(datasets.LISTING.sortable))
def test_every_column_of_the_list_sorts(session: Session, version: Dataset, name: str) -> None:
    published(session, CurationRecipe(seed=1))
    for sort in (name, f"-{name}"):
        page = datasets.list_page(session, datasets.Filters(), Asked(sort, "", ""))
        assert {row.dataset.number for row in page.table.rows} == {1, 2}


def test_the_list_is_exported(get: Any, version: Dataset) -> None:
    line = json.loads(get("/admin/datasets?format=jsonl").text)
    assert (line["role"], line["number"], line["rows"]) == ("coder", 1, 3)
    assert line["mean_score"] == 1.0
    assert get("/admin/datasets?format=csv&role=tester").text.count("\n") == 1


def test_a_card_is_drawn(session: Session, version: Dataset) -> None:
    page = datasets.detail(session, version)
    assert {drop.name: drop.bar.n for drop in page.drops} == {
        "near_duplicate": 1,
        "failed_outcome": 1,
    }
    assert all(drop.means and drop.remedy for drop in page.drops)
    pictures = page.pictures
    assert pictures.lengths is not None
    assert [c.n for c in pictures.lengths.columns] == [0, 0, 1, 2]
    assert {mark.name for mark in pictures.lengths.marks} == {"median", "95 %"}
    assert pictures.outcomes is not None
    assert pictures.outcomes.rows[0].parts[0].name == "positive"
    assert pictures.steps is not None
    assert [row.total for row in pictures.steps.rows] == [5, 5, 4, 3, 3, 3]
    assert dict(pictures.counts)["Task types"][0].n == 1


@pytest.mark.parametrize(
    "card",
    [
        {},
        {"dropped_by_reason": [1], "task_types": 3, "quality": [], "warnings": "x", "n_tokens": []},
        {
            "lengths": [{"from": 0}],
            "scores": {"a": 1},
            "recipe": 1,
            "build": None,
            "steps": {"a": 1},
        },
        {"quality": {"coverage": {}}, "mean_score": None, "lengths": [{"from": 0, "n": 0}]},
    ],
)
def test_a_card_that_lacks_things_is_no_error(
    session: Session, get: Any, card: dict[str, Any]
) -> None:
    dataset = Dataset(role="coder", number=1, content_hash="x", card=card)
    session.add(dataset)
    session.commit()
    for path in ("", "/examples", "/examples?show=dropped", "/examples?seed=1"):
        assert get(f"/admin/datasets/{dataset.id}{path}").status_code == 200, path
    assert get("/admin/datasets").status_code == 200


def browse(session: Session, dataset: Dataset, after: str = "", **said: Any) -> examples.ListPage:
    return examples.list_page(session, dataset, examples.Browse(**said), after)


def test_examples_are_paged_filtered_and_say_how_far_they_looked(session: Session) -> None:
    for n in range(65):
        add_example(
            session, f"ask {n}", f"answer {n}", task_type="rare" if n % 30 == 0 else "usual"
        )
    session.flush()
    dataset, _ = published(session)
    found, after = [], ""
    while True:
        page = browse(session, dataset, after)
        found += [row.id for row in page.rows]
        after = page.older
        if not after:
            break
    assert len(found) == len(set(found)) == 65
    assert page.n_looked_at is None
    rare = browse(session, dataset, task_type="rare")
    assert [row.task_type for row in rare.rows] == ["rare"] * 3
    assert rare.n_looked_at == 65
    assert [row.answer for row in browse(session, dataset, text="ASK 7").rows] == ["answer 7"]
    assert browse(session, dataset, low="1.1").rows == []
    usual = browse(session, dataset, task_type="usual")
    more = browse(session, dataset, usual.older, task_type="usual")
    assert not {row.id for row in usual.rows} & {row.id for row in more.rows}


def test_a_filter_stops_and_goes_on(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "READ_AT", 10)
    first = add_example(session, "the oldest", "needle")
    for n in range(25):
        add_example(session, f"ask {n}", "hay")
    session.flush()
    dataset, _ = published(session)
    page, pieces = browse(session, dataset, text="needle"), 1
    while page.older:
        assert page.rows == []
        assert page.n_looked_at == 10
        page, pieces = browse(session, dataset, page.older, text="needle"), pieces + 1
    assert [row.id for row in page.rows] == [first.id]
    assert pieces == 3


def test_a_text_is_found_as_it_was_written(session: Session) -> None:
    add_example(session, 'print("50%_done")\nnow', "yes")
    session.flush()
    dataset, _ = published(session)
    for text, n in (('"50%_D', 1), ("50x_", 0), ('done")\nNOW', 1), ("\\", 0), ("yes", 1)):
        assert len(browse(session, dataset, text=text).rows) == n, text


def test_a_sample_is_the_same_for_its_seed(session: Session, version: Dataset) -> None:
    one, again = (browse(session, version, seed="4") for _ in range(2))
    assert [row.id for row in one.rows] == [row.id for row in again.rows]
    assert len(one.rows) == 3
    assert one.next_seed == 5
    (row,) = browse(session, version, seed="4", task_type="map").rows
    assert row.task_type == "map"


@pytest.mark.parametrize("said", [{"seed": "x"}, {"seed": "9" * 30}, {"low": "a"}, {"high": "nan"}])
def test_numbers_that_are_none_are_refused(
    session: Session, version: Dataset, said: dict[str, str]
) -> None:
    with pytest.raises(BadInput):
        browse(session, version, **said)


def test_every_drop_has_its_reason_and_its_repeat(session: Session, version: Dataset) -> None:
    dropped = browse(session, version, show="dropped")
    assert {row.reason.name for row in dropped.rows if row.reason} == {
        "near_duplicate",
        "failed_outcome",
    }
    (repeat,) = browse(session, version, show="dropped", reason="near_duplicate").rows
    page = examples.example_page(session, version, repeat.id)
    assert page.repeat is not None
    assert page.repeat.prompts.is_same
    assert page.repeat.answers.n_gone == 1
    assert "Jaccard" in (page.reason.means if page.reason else "")


def test_what_fell_out_later_is_not_blamed_on_an_older_version(
    session: Session, version: Dataset
) -> None:
    later = add_example(session, "new", "late")
    later.status, later.drop_reason = DROPPED, "failed_outcome"
    session.flush()
    assert len(browse(session, version, show="dropped").rows) == 2


def test_example_and_pair_pages_escape_what_was_written(
    session: Session, get: Any, filled: Any, hostile: str
) -> None:
    dataset = session.get_one(Dataset, filled.ids["datasets"])
    kept = browse(session, dataset).rows[0]
    repeat = browse(session, dataset, show="dropped").rows[0]
    pairs = session.scalars(select(Dataset).where(col(Dataset.kind) == "preference")).one()
    pair = browse(session, pairs).rows[0]
    for path in (
        f"{dataset.id}/examples/{kept.id}",
        f"{dataset.id}/examples/{repeat.id}",
        f"{pairs.id}/examples/{pair.id}",
        f"{dataset.id}/examples?show=dropped",
        f"{pairs.id}/examples?text=alert",
    ):
        for headers in ({}, {"HX-Request-Type": "partial"}):
            answer = get(f"/admin/datasets/{path}", **headers)
            assert answer.status_code == 200, path
            assert "<script>alert" not in answer.text
            assert "<img src=x" not in answer.text
            assert "alert(1)" in answer.text or "alert" in answer.text
            assert "style=" not in answer.text
    assert hostile


@pytest.mark.parametrize(
    "path", ["{id}", "{id}/examples", "{id}/examples/{id}", "{id}/diff", "{id}/diff/{id}"]
)
def test_ids_of_nothing_are_404(get: Any, path: str) -> None:
    answer = get("/admin/datasets/" + path.format(id=UUID(int=5)))
    assert answer.status_code == 404
    assert "Back to the overview" in answer.text


def test_an_example_of_no_version_is_404(get: Any, version: Dataset) -> None:
    assert get(f"/admin/datasets/{version.id}/examples/{UUID(int=5)}").status_code == 404
    assert get(f"/admin/datasets/{version.id}/examples?after=nonsense").status_code == 400


def test_two_versions_are_compared(session: Session, version: Dataset, get: Any) -> None:
    changes, goes = session.scalars(
        select(Example).where(col(Example.status) == "kept").order_by(col(Example.id)).limit(2)
    )
    goes.status, goes.drop_reason = DROPPED, "over_quota"
    changes.answer = "def map(): return 1"
    changes.row_hash = row_hash(changes.model_dump())
    comes = add_example(session, "write zip", "def zip(): ...", task_type="zip")
    session.flush()
    new, _ = published(session, CurationRecipe(seed=1))
    session.commit()
    page = versions.compare(session, version, new, versions.Choice())
    assert dict(page.lists) == {"added": 1, "removed": 1, "changed": 1, "moved": 0}
    assert [row.id for row in page.rows] == [comes.id]
    assert page.recipe == {"seed": [0, 1]}
    assert page.drops is not None
    said = {group.title: list(group.counts) for group in page.grouped}
    assert said["Added, by task type"] == [("zip", 1)]
    assert said["Removed, by what is said of them now"] == [("Over its share", 1)]
    for show, row in (("removed", goes), ("changed", changes)):
        shown = versions.compare(session, version, new, versions.Choice(show=show)).rows
        assert [one.id for one in shown] == [row.id]
    answer = get(f"/admin/datasets/{new.id}/diff")
    assert answer.status_code == 303
    assert answer.headers["location"].endswith(f"/admin/datasets/{version.id}/diff/{new.id}")
    assert get(answer.headers["location"]).status_code == 200
    assert get(f"/admin/datasets/{version.id}/diff").status_code == 400
    chosen = get(f"/admin/datasets/{version.id}/diff?other={new.id}")
    assert chosen.headers["location"].endswith(f"/admin/datasets/{new.id}/diff/{version.id}")


def test_only_what_differs_is_read_and_much_is_asked_for(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(2 * MEAN_ROWS):
        add_example(session, f"{n}", "a", id=new_id())
    session.flush()
    old, _ = published(session)
    add_example(session, "one more", "a")
    session.flush()
    new, _ = published(session)
    page = versions.compare(session, old, new, versions.Choice())
    assert page.n_shared >= page.n_shards - 2
    assert page.n_apart < 3 * 4096
    assert dict(page.lists)["added"] == 1
    monkeypatch.setattr(versions, "AT_ONCE", 0)
    asked = versions.compare(session, old, new, versions.Choice())
    assert asked.differing is None
    assert asked.rows == []
    found = versions.compare(session, old, new, versions.Choice(compare="rows"))
    assert dict(found.lists)["added"] == 1


def test_versions_of_two_kinds_are_not_compared(session: Session, version: Dataset) -> None:
    add_pair(session, "a", "b", "c")
    pairs, _ = published(session, kind="preference")
    with pytest.raises(BadInput):
        versions.compare(session, version, pairs, versions.Choice())


def post(get: Any, path: str, **data: str) -> Any:
    return get(path, "POST", data, **POST)


def test_files_are_downloaded_and_each_is_written_down(
    session: Session, version: Dataset, as_role: Any
) -> None:
    get = as_role("reviewer")
    address = f"/admin/datasets/{version.id}/download"
    n = version.n_train
    lines = post(get, address, what="prompt_completion", split="train")
    assert lines.headers["content-disposition"].endswith(
        'filename="coder-sft-v1-train-prompt_completion.jsonl"'
    )
    assert len(lines.text.splitlines()) == n
    assert set(json.loads(lines.text.splitlines()[0])) == {"prompt", "completion"}
    table = pq.read_table(io.BytesIO(post(get, address, what="parquet", split="train").content))
    assert table.num_rows == n
    whole = zipfile.ZipFile(io.BytesIO(post(get, address, what="chat").content))
    assert {"train.jsonl", "card.json", "README.md"} <= set(whole.namelist())
    assert post(get, address, what="card.json").json()["kept"] == 3
    assert "<svg" in post(get, address, what="card.html").text
    entries = session.scalars(
        select(AuditEntry).where(col(AuditEntry.action) == "dataset.download")
    ).all()
    assert len(entries) == 5
    assert {entry.actor for entry in entries} == {"reviewer"}
    assert {"file": "coder-sft-v1-train-parquet.parquet"} in [entry.after for entry in entries]


@pytest.mark.parametrize(
    "said",
    [{"what": "dpo"}, {"what": "../x"}, {"what": "parquet", "split": "dev"},
     {"what": "parquet", "split": "test"}],
)  # fmt: skip
def test_files_that_there_are_none_of(
    session: Session, version: Dataset, as_role: Any, said: dict[str, str]
) -> None:
    assert version.n_test == 0
    answer = post(as_role("reviewer"), f"/admin/datasets/{version.id}/download", **said)
    assert answer.status_code in (400, 422)
    named = col(AuditEntry.action) == "dataset.download"
    assert not session.scalars(select(AuditEntry).where(named)).all()


def test_a_name_of_a_file_is_safe() -> None:
    dataset = Dataset(role='a"/../\n\u202e', number=2, content_hash="x")
    assert datasets.file_name(dataset, "card.json", "") == "a__..___-sft-v2-card.json"


def test_a_viewer_neither_downloads_nor_builds_nor_adds(
    session: Session, version: Dataset, as_role: Any
) -> None:
    get = as_role("viewer")
    row = browse(session, version).rows[0]
    page = get(f"/admin/datasets/{version.id}").text
    assert "Download…" not in page
    assert "Build the next" not in page
    for path, data in (
        (f"/admin/datasets/{version.id}/download", {"what": "card.json"}),
        ("/admin/datasets/build", {"role": "coder", "reason": "x"}),
        (f"/admin/datasets/{version.id}/examples/{row.id}/review", {}),
    ):
        assert post(get, path, **data).status_code == 403, path
    assert not session.scalars(select(ReviewItem)).all()


def test_a_build_is_queued_once(
    session: Session, version: Dataset, as_role: Any, add_call: Any
) -> None:
    add_call(session)
    session.commit()
    get = as_role("operator")
    said = {"role": "coder", "kind": "sft", "like": str(version.id), "reason": "new feedback"}
    first, second = (post(get, "/admin/datasets/build", **said) for _ in range(2))
    (run,) = session.scalars(select(Run).where(col(Run.kind) == "curation.build"))
    assert first.status_code == second.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    assert first.headers["location"].endswith(f"/admin/runs/{run.id}")
    assert run.params["recipe"] == version.card["recipe"]
    assert run.params["kind"] == "sft"
    assert post(get, "/admin/datasets/build", role="nobody", reason="x").status_code == 404
    assert post(get, "/admin/datasets/build", role="coder", reason=" ").status_code == 422


def test_two_who_ask_for_a_build_at_once_get_the_same_one(
    session: Session, version: Dataset, visit: Any, add_call: Any, monkeypatch: Any
) -> None:
    add_call(session)
    session.commit()
    both_looked = Barrier(2)
    look = datasets._unfinished_build

    def look_together(*given: Any) -> Any:
        found = look(*given)
        with suppress(BrokenBarrierError):  # the other waits for us, as it should
            both_looked.wait(timeout=0.5)
        return found

    monkeypatch.setattr(datasets, "_unfinished_build", look_together)
    asking = [visit("operator", name) for name in ("olga", "otto")]
    with ThreadPoolExecutor(2) as threads:
        answers = threads.map(
            lambda one: one.post("/datasets/build", role="coder", reason="new feedback"), asking
        )
        led_to = {answer.headers["location"] for answer in answers}
    assert len(led_to) == 1
    assert len(session.scalars(select(Run).where(col(Run.kind) == "curation.build")).all()) == 1


def test_an_example_is_put_into_the_review_queue_once(
    session: Session, version: Dataset, as_role: Any
) -> None:
    get = as_role("reviewer")
    row = browse(session, version).rows[0]
    address = f"/admin/datasets/{version.id}/examples/{row.id}"
    for _ in range(2):
        answer = post(get, f"{address}/review")
        assert answer.headers["location"].endswith(address)
    (item,) = session.scalars(select(ReviewItem)).all()
    assert (item.subject_id, item.role, item.status) == (row.id, "coder", "open")
    assert item.priority >= 1
    assert "waits in the review queue" in get(address).text
