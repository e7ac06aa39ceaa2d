"""Images of an app: a small memory, a disk behind it, and the network behind both.

Images are texts of some length, by name. The memory holds a number of images and drops the one
used longest ago. The disk holds a number of characters and refuses what does not fit. An image is
looked for in memory, then on disk, then in the network; what the network brings is kept.
"""

PROMOTE = True
WRITE_LATE = True


class Memory:
    """The images used last; the dictionary's first one was used longest ago."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.images: dict[str, str] = {}

    def get(self, name: str) -> str | None:
        """An image, which is thereby used."""
        if name not in self.images:
            return None
        self.images[name] = self.images.pop(name)
        return self.images[name]

    def put(self, name: str, image: str) -> tuple[str, str] | None:
        """Keeps an image; returns the one that had to go, with its name."""
        self.images[name] = image
        if len(self.images) <= self.most:
            return None
        oldest = next(iter(self.images))
        return oldest, self.images.pop(oldest)


class Disk:
    """Images up to a size in all."""

    def __init__(self, most_characters: int) -> None:
        self.most_characters = most_characters
        self.images: dict[str, str] = {}

    def write(self, name: str, image: str) -> bool:
        """Keeps an image where there is room for it."""
        others = sum(len(text) for key, text in self.images.items() if key != name)
        if others + len(image) > self.most_characters:
            return False
        self.images[name] = image
        return True


class Images:
    """Finds images; `network` holds all there are."""

    def __init__(self, memory: Memory, disk: Disk, network: dict[str, str]) -> None:
        self.memory = memory
        self.disk = disk
        self.network = network
        self.downloads: list[str] = []

    def get(self, name: str) -> str | None:
        """The image, None where there is none."""
        found = self.memory.get(name)
        if found is not None:
            return found
        if name in self.disk.images:
            if PROMOTE:
                self.keep(name, self.disk.images[name])
            return self.disk.images[name]
        if name not in self.network:
            return None
        self.downloads.append(name)
        self.keep(name, self.network[name])
        if not WRITE_LATE:
            self.disk.write(name, self.network[name])
        return self.network[name]

    def keep(self, name: str, image: str) -> None:
        """Puts an image into memory, and to disk what has to go there."""
        gone = self.memory.put(name, image)
        if WRITE_LATE and gone is not None:
            self.disk.write(*gone)

    def refresh(self, name: str) -> None:
        """Forgets an image everywhere, so that it is loaded again."""
        self.memory.images.pop(name, None)
        self.disk.images.pop(name, None)
