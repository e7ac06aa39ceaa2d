"""Judges tests of `cached_pages`."""

import pytest

from evaluator.suites.built_in.modules.cached_pages import KEEP_MISSES, RENEW, Cache, Loader, Site
from evaluator.suites.built_in.modules.family import Checks, Fault

CHECKS = Checks(
    rules={
        "KEEP_MISSES": {
            True: "That a path has no page is cached like a page.",
            False: "That a path has no page is never cached.",
        },
        "RENEW": {
            True: "An answer from the cache renews the age of the entry.",
            False: "An entry's age counts from when it was loaded.",
        },
    },
    faults=[
        Fault("publishing leaves the old page in the cache", "self.cache.forget(path)", "pass"),
        Fault("publishing does not reach the loader", "self.loader.pages[path] = text", "pass"),
        Fault(
            "publishing empties the cache",
            "self.cache.forget(path)",
            "self.cache.entries.clear()",
        ),
        Fault(
            "what is loaded is stored as if at second 0",
            "page = self.loader.load(path)",
            "page, now = self.loader.load(path), 0",
        ),
        Fault(
            "the loader is asked although the cache knows",
            "page = self.cache.entries[path][1]",
            "page = self.loader.load(path)",
        ),
        Fault(
            "an entry of any page counts as fresh",
            "self.cache.is_fresh(path, now)",
            "any(self.cache.is_fresh(one, now) for one in self.cache.entries)",
        ),
    ],
)


def site(lifetime: int = 10, **pages: str) -> Site:
    """A site that holds pages."""
    made = Site(Cache(lifetime), Loader())
    made.loader.pages.update(pages)
    return made


def test_a_fresh_page_is_loaded_once() -> None:
    """Up to the last second of its life."""
    made = site(home="hello")
    assert [made.page("home", now) for now in (100, 109)] == ["hello", "hello"]
    assert made.loader.n_loads == 1
    assert made.cache.entries["home"][0] == (109 if RENEW else 100)


def test_an_old_page_is_loaded_again() -> None:
    """From the second at which its lifetime is over."""
    made = site(home="hello")
    made.page("home", 100)
    made.loader.pages["home"] = "changed"
    assert made.page("home", 109) == "hello"
    assert made.page("home", 110) == ("hello" if RENEW else "changed")
    assert made.page("home", 120) == "changed"
    assert made.loader.n_loads == (2 if RENEW else 3)


def test_publishing_shows_at_once() -> None:
    """And touches the cache of no other page."""
    made = site(home="hello", news="old")
    assert (made.page("home", 5), made.page("news", 5)) == ("hello", "old")
    made.publish("news", "new")
    made.publish("fresh", "first")
    assert made.page("home", 6) == "hello"
    assert made.loader.n_loads == 2
    assert (made.page("news", 6), made.page("fresh", 6)) == ("new", "first")
    assert made.loader.n_loads == 4


def test_a_missing_page_is_an_error_each_time() -> None:
    """Whether the loader is asked again depends on the cache."""
    made = site()
    for now in (20, 21):
        with pytest.raises(KeyError, match="nowhere"):
            made.page("nowhere", now)
    assert made.loader.n_loads == (1 if KEEP_MISSES else 2)
    assert ("nowhere" in made.cache.entries) is KEEP_MISSES
    made.publish("nowhere", "here now")
    assert made.page("nowhere", 22) == "here now"
