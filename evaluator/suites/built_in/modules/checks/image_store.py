"""Judges tests of `image_store`."""

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.image_store import (
    PROMOTE,
    WRITE_LATE,
    Disk,
    Images,
    Memory,
)

CHECKS = Checks(
    rules={
        "PROMOTE": {
            True: "An image found on disk is put into memory.",
            False: "An image found on disk is not put into memory.",
        },
        "WRITE_LATE": {
            True: "An image is written to disk when memory drops it.",
            False: "An image is written to disk when it was downloaded.",
        },
    },
    faults=[
        Fault(
            "downloads are not put into memory",
            "self.keep(name, self.network[name])",
            "pass",
        ),
        Fault("the disk is not looked at", "if name in self.disk.images:", "if name in ():"),
        Fault(
            "memory is asked last",
            "        found = self.memory.get(name)\n        if found is not None:",
            "        found = self.memory.get(name)\n"
            "        if found is not None and name not in self.disk.images:",
        ),
        Fault(
            "the image that is kept is written, not the one that had to go",
            "self.disk.write(*gone)",
            "self.disk.write(name, image)",
        ),
        Fault(
            "each image that is kept is written",
            "        if gone is not None:\n            self.disk.write(*gone)",
            "        self.disk.write(name, image)\n        if gone is not None:\n"
            "            self.disk.write(*gone)",
        ),
        Fault(
            "downloads are written under a wrong name",
            "self.disk.write(name, self.network[name])",
            "self.disk.write(self.network[name], name)",
        ),
        Fault("refreshing leaves the disk", "self.disk.images.pop(name, None)", "pass"),
        Fault("refreshing leaves the memory", "self.memory.images.pop(name, None)", "pass"),
    ],
)

NETWORK = {"a": "AAAA", "b": "BB", "c": "CCC", "d": "D"}


def images(most: int = 2, most_characters: int = 100) -> Images:
    """An empty store."""
    return Images(Memory(most), Disk(most_characters), dict(NETWORK))


def test_each_image_is_downloaded_once() -> None:
    """Whoever holds it by then."""
    made = images()
    for name in "abcdabcd":
        assert made.get(name) == NETWORK[name]
    assert made.downloads == list("abcd")
    assert made.get("x") is None
    assert "x" not in made.memory.images
    assert made.downloads == list("abcd")


def test_what_is_held_where() -> None:
    """After more than memory can hold."""
    made = images()
    for name in "abac":
        made.get(name)
    assert list(made.memory.images) == ["a", "c"]
    assert made.disk.images == (
        {"b": "BB"} if WRITE_LATE else {name: NETWORK[name] for name in "abc"}
    )
    assert made.get("b") == "BB"
    assert list(made.memory.images) == (["c", "b"] if PROMOTE else ["a", "c"])
    assert ("a" in made.disk.images) is (PROMOTE or not WRITE_LATE)
    assert made.downloads == list("abc")


def test_a_disk_that_is_full() -> None:
    """What does not fit is downloaded again."""
    made = images(most=1, most_characters=4)
    for name in "abcd":
        made.get(name)
    assert made.disk.images == {"a": "AAAA"}
    assert list(made.memory.images) == ["d"]
    assert made.get("a") == "AAAA"
    assert made.get("b") == "BB"
    assert made.downloads == list("abcdb")
    other = images(most=1, most_characters=5)
    for name in "bcd":
        other.get(name)
    assert sorted(other.disk.images) == ["b", "c"]


def test_refreshing() -> None:
    """In memory and on disk."""
    made = images(most=1)
    made.get("a")
    made.get("b")
    made.network |= {"a": "new a", "b": "new b"}
    assert [made.get("b"), made.get("a")] == ["BB", "AAAA"]
    made.refresh("a")
    made.refresh("b")
    made.refresh("never")
    assert [made.get("a"), made.get("b")] == ["new a", "new b"]
    assert made.downloads == list("abab")
    held = images(most=2)
    held.get("a")
    held.network["a"] = "new a"
    assert held.get("a") == "AAAA"
    held.refresh("a")
    assert held.get("a") == "new a"


def test_memory_wins_over_disk() -> None:
    """And an image may be written twice."""
    made = images(most=2)
    made.get("a")
    made.disk.images["a"] = "stale"
    assert made.get("a") == "AAAA"
    made.get("b")
    made.get("c")
    assert made.disk.images["a"] == ("AAAA" if WRITE_LATE else "stale")
    assert made.downloads == list("abc")
