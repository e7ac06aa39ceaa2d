"""A cache in front of a loader of pages.

A site answers from its cache while an entry is younger than the cache's lifetime in seconds, and
asks the loader otherwise. Publishing a page makes the cache forget that page and no other.
"""

KEEP_MISSES = True
RENEW = True


class Loader:
    """Pages by path; counts how often it is asked."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.n_loads = 0

    def load(self, path: str) -> str | None:
        """The page, None where there is none."""
        self.n_loads += 1
        return self.pages.get(path)


class Cache:
    """Pages with the second at which they were stored."""

    def __init__(self, lifetime: int) -> None:
        self.lifetime = lifetime
        self.entries: dict[str, tuple[int, str | None]] = {}

    def is_fresh(self, path: str, now: int) -> bool:
        """Whether there is an entry younger than the lifetime."""
        return path in self.entries and now - self.entries[path][0] < self.lifetime

    def put(self, path: str, page: str | None, now: int) -> None:
        """Stores a page, or that there is none."""
        self.entries[path] = (now, page)

    def forget(self, path: str) -> None:
        """Drops an entry where there is one."""
        self.entries.pop(path, None)


class Site:
    """Serves pages through the cache."""

    def __init__(self, cache: Cache, loader: Loader) -> None:
        self.cache = cache
        self.loader = loader

    def page(self, path: str, now: int) -> str:
        """The page of a path; where there is none, KeyError."""
        if self.cache.is_fresh(path, now):
            page = self.cache.entries[path][1]
            if RENEW:
                self.cache.put(path, page, now)
        else:
            page = self.loader.load(path)
            if KEEP_MISSES or page is not None:
                self.cache.put(path, page, now)
        if page is None:
            raise KeyError(path)
        return page

    def publish(self, path: str, text: str) -> None:
        """Adds or changes a page."""
        self.loader.pages[path] = text
        self.cache.forget(path)
