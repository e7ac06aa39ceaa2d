"""Each part of `sync_engine` alone, with stand-ins for the others."""

from solution import Device, Note, Server, sync, winner


class Quiet:
    version = 4
    notes = {}

    def since(self, version):
        return set()

    def put(self, name, note):
        pass


class Still:
    def __init__(self):
        self.notes = {}
        self.changed = set()
        self.seen = 0


def test_server():
    server = Server()
    server.put("a", Note("x", 1))
    server.put("b", Note("y", 1))
    assert server.versions == {"a": 1, "b": 2}
    assert server.since(1) == {"b"}
    assert server.since(0) == {"a", "b"}
    server.put("a", Note("z", 2))
    assert server.since(2) == {"a"}
    assert server.notes["a"] == Note("z", 2)


def test_device():
    device = Device()
    device.edit("a", "x", 1)
    device.edit("b", None, 2)
    assert device.changed == {"a", "b"}
    assert device.texts() == {"a": "x"}


def test_winner():
    early, late, gone = Note("a", 1), Note("b", 2), Note(None, 1)
    assert winner(early, late) == late
    assert winner(late, early) == late
    assert winner(Note("c", 2), late) == late
    assert winner(gone, late) == gone
    assert winner(late, gone) == gone


def test_sync():
    device = Still()
    device.notes["a"] = Note("x", 1)
    device.changed.add("a")
    assert sync(device, Quiet()) == []
    assert device.notes == {"a": Note("x", 1)}
    assert device.changed == set()
    assert device.seen == 4
    server = Server()
    server.put("b", Note("y", 1))
    other = Still()
    assert sync(other, server) == []
    assert other.notes == {"b": Note("y", 1)}
