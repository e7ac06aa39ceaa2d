"""Judges tests of `sync_engine`."""

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.sync_engine import (
    DELETED_WINS,
    NEWEST,
    Device,
    Note,
    Server,
    sync,
)

CHECKS = Checks(
    rules={
        "NEWEST": {
            True: "In a conflict the later change stays; of equal times, the server's.",
            False: "In a conflict the server's version stays.",
        },
        "DELETED_WINS": {
            True: "In a conflict a deletion stays, whatever else would.",
            False: "In a conflict a deletion counts like any other version.",
        },
    },
    faults=[
        Fault(
            "the device and the server are taken for each other",
            "winner(device.notes[name], server.notes[name])",
            "winner(server.notes[name], device.notes[name])",
        ),
        Fault("changes stay marked on the device", "device.changed.clear()", "pass"),
        Fault("the device does not note what it saw", "device.seen = server.version", "pass"),
        Fault(
            "only the number of the changes is noted, not of those from others",
            "device.seen = server.version",
            "device.seen += 1",
        ),
        Fault("the server does not get the changes", "server.put(name, kept)", "pass"),
        Fault(
            "the device keeps its own version of a conflict",
            "        device.notes[name] = kept\n",
            "        if name not in conflicts:\n            device.notes[name] = kept\n",
        ),
        Fault(
            "all of the server is new each time",
            "server.since(device.seen)",
            "server.since(0)",
        ),
        Fault(
            "the server stores notes without a number",
            "server.put(name, kept)",
            "server.notes[name] = kept",
        ),
    ],
)


def pair() -> tuple[Device, Device, Server]:
    """Two devices that know the same two notes."""
    one, other, server = Device(), Device(), Server()
    one.edit("list", "milk", 1)
    one.edit("plan", "sleep", 1)
    assert sync(one, server) == sync(other, server) == []
    return one, other, server


def test_changes_travel_over_the_server() -> None:
    """To devices that never met."""
    one, other, server = pair()
    assert other.texts() == {"list": "milk", "plan": "sleep"}
    one.edit("list", "bread", 5)
    one.edit("plan", None, 6)
    other.edit("idea", "fly", 7)
    assert [sync(device, server) for device in (one, other, one)] == [[], [], []]
    assert one.notes == other.notes == server.notes
    assert one.texts() == {"list": "bread", "idea": "fly"}
    assert server.versions == {"list": 3, "plan": 4, "idea": 5}


def test_syncing_again_does_nothing() -> None:
    """Neither here nor there."""
    one, other, server = pair()
    for device in (one, other, one):
        assert sync(device, server) == []
    assert server.version == one.seen == other.seen == 2
    assert one.changed == set()


def test_a_conflict_of_two_texts() -> None:
    """Both sides get the same version, and the third device too."""
    for ours, theirs in ((8, 5), (5, 8), (5, 5)):
        one, other, server = pair()
        one.edit("list", "theirs", theirs)
        sync(one, server)
        other.edit("list", "ours", ours)
        other.edit("plan", "run", 9)
        assert sync(other, server) == ["list"]
        kept = "ours" if NEWEST and ours > theirs else "theirs"
        assert other.texts() == {"list": kept, "plan": "run"}
        assert server.notes == other.notes
        assert server.version == (5 if kept == "ours" else 4)
        assert sync(one, server) == []
        assert one.notes == other.notes


def test_a_conflict_with_a_deletion() -> None:
    """On either side."""
    one, other, server = pair()
    one.edit("list", None, 5)
    one.edit("plan", "stay", 5)
    sync(one, server)
    other.edit("list", "later", 8)
    other.edit("plan", None, 3)
    assert sync(other, server) == ["list", "plan"]
    gone = {"list": DELETED_WINS or not NEWEST, "plan": DELETED_WINS}
    expected = {"list": "later", "plan": "stay"}
    assert other.texts() == {name: expected[name] for name in expected if not gone[name]}
    sync(one, server)
    assert one.notes == other.notes == server.notes


def test_one_edit_after_a_sync_is_no_conflict() -> None:
    """Since the device knows what it changes."""
    one, other, server = pair()
    one.edit("list", "bread", 5)
    sync(one, server)
    sync(other, server)
    other.edit("list", "salt", 4)
    assert sync(other, server) == []
    assert server.notes["list"] == Note("salt", 4)
    one.edit("list", None, 2)
    assert sync(one, server) == ["list"]


def test_nothing_to_sync() -> None:
    """Not even a number."""
    device, server = Device(), Server()
    assert sync(device, server) == []
    assert (device.notes, server.version, device.seen) == ({}, 0, 0)
