"""Artifacts: addressed by content, stored once, never seen half-written."""

from pathlib import Path

import pytest

from foundation.artifacts import beginnings, delete, exists, fetch, hash_tree, put
from foundation.errors import NotFound


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_text(content)
    return path


def test_a_folder_comes_back_as_it_was(settings: object, tmp_path: Path) -> None:
    stored = put(folder(tmp_path / "a", x="1", y="2"))
    assert {p.name: p.read_text() for p in fetch(stored.uri).iterdir()} == {"x": "1", "y": "2"}
    assert stored.size_bytes == 2


@pytest.mark.parametrize("root", [None, "memory://beginnings"])
def test_files_can_be_known_by_how_they_begin(
    settings: object, tmp_path: Path, root: str | None
) -> None:
    stored = put(folder(tmp_path / "a", x="12345", y="1", z=""), root)
    assert beginnings(stored.uri, 4, root) == {"x": b"1234", "y": b"1"}


def test_the_same_content_is_one_artifact(settings: object, tmp_path: Path) -> None:
    first = put(folder(tmp_path / "a", x="1"))
    assert put(folder(tmp_path / "b", x="1")) == first
    assert put(folder(tmp_path / "c", x="2")) != first


def test_names_and_contents_do_not_run_together(tmp_path: Path) -> None:
    one = hash_tree(folder(tmp_path / "a", ab="c"))
    assert one != hash_tree(folder(tmp_path / "b", a="bc"))


def test_a_missing_artifact_says_what_to_check(settings: object) -> None:
    with pytest.raises(NotFound, match="artifact"):
        fetch("sha256/none")


def test_nothing_unfinished_is_left(settings: object, tmp_path: Path) -> None:
    put(folder(tmp_path / "a", x="1"))
    root = Path(str(settings.artifacts_root))  # type: ignore[attr-defined]
    assert not list(root.glob(".unfinished/*"))


def test_a_remote_root_is_fetched_once(settings: object, tmp_path: Path) -> None:
    stored = put(folder(tmp_path / "a", x="1"), root="memory://store")
    local = fetch(stored.uri, root="memory://store")
    assert (local / "x").read_text() == "1"
    assert fetch(stored.uri, root="memory://store") == local


def test_a_deleted_artifact_is_gone_and_deleting_it_again_is_no_error(
    settings: object, tmp_path: Path
) -> None:
    uri = put(folder(tmp_path / "a", x="1")).uri
    assert exists(uri)
    delete(uri)
    delete(uri)
    assert not exists(uri)
    with pytest.raises(NotFound, match="artifact"):
        fetch(uri)
