"""Notes on a device and on a server, and the engine that brings both to the same state.

A note has a text (None where it was deleted) and the time of its last change. The device remembers
which notes changed there since the last sync. A note changed on one side only is copied to the
other; one changed on both is a conflict, and the rule decides which version both sides get.
"""

from dataclasses import dataclass

NEWEST = True
DELETED_WINS = True


@dataclass(frozen=True)
class Note:
    """A version of a note."""

    text: str | None
    changed: int


class Server:
    """Notes with the number of the change that brought them; changes count from 1."""

    def __init__(self) -> None:
        self.notes: dict[str, Note] = {}
        self.versions: dict[str, int] = {}
        self.version = 0

    def put(self, name: str, note: Note) -> None:
        """Stores a note under the next number."""
        self.version += 1
        self.notes[name] = note
        self.versions[name] = self.version

    def since(self, version: int) -> set[str]:
        """The notes that changed after that number."""
        return {name for name, changed in self.versions.items() if changed > version}


class Device:
    """Notes, those changed here, and the number of the server's last change that is known."""

    def __init__(self) -> None:
        self.notes: dict[str, Note] = {}
        self.changed: set[str] = set()
        self.seen = 0

    def edit(self, name: str, text: str | None, now: int) -> None:
        """Changes a note, or deletes it with None."""
        self.notes[name] = Note(text, now)
        self.changed.add(name)

    def texts(self) -> dict[str, str]:
        """The notes that are there."""
        return {name: note.text for name, note in self.notes.items() if note.text is not None}


def winner(ours: Note, theirs: Note) -> Note:
    """The version of a conflict that stays: ours is the device's."""
    if DELETED_WINS and (ours.text is None or theirs.text is None):
        return ours if ours.text is None else theirs
    if NEWEST:
        return ours if ours.changed > theirs.changed else theirs
    else:
        return theirs


def sync(device: Device, server: Server) -> list[str]:
    """Brings device and server together; returns the names in conflict, sorted."""
    remote = server.since(device.seen)
    conflicts = sorted(remote & device.changed)
    for name in sorted(remote | device.changed):
        if name in conflicts:
            kept = winner(device.notes[name], server.notes[name])
        else:
            kept = server.notes[name] if name in remote else device.notes[name]
        device.notes[name] = kept
        if name in device.changed and server.notes.get(name) != kept:
            server.put(name, kept)
    device.changed.clear()
    device.seen = server.version
    return conflicts
