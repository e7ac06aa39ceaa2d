"""Each part of `cached_pages` alone, with stand-ins for the others."""

import pytest
from solution import Cache, Loader, Site


class Pages:
    def __init__(self):
        self.pages = {}

    def load(self, path):
        return "loaded" if path == "home" else None


class Fresh:
    def __init__(self):
        self.entries = {"home": (0, "cached"), "gone": (0, None)}

    def is_fresh(self, path, now):
        return True

    def put(self, path, page, now):
        pass

    def forget(self, path):
        pass


class Old(Fresh):
    def is_fresh(self, path, now):
        return False


def test_loader():
    loader = Loader()
    loader.pages["home"] = "hello"
    assert loader.load("home") == "hello"
    assert loader.load("other") is None
    assert loader.n_loads == 2


def test_cache():
    cache = Cache(10)
    cache.put("home", "hello", 100)
    assert cache.entries == {"home": (100, "hello")}
    assert cache.is_fresh("home", 109)
    assert not cache.is_fresh("home", 110)
    assert not cache.is_fresh("other", 100)
    cache.forget("home")
    cache.forget("home")
    assert cache.entries == {}


def test_site():
    assert Site(Fresh(), Pages()).page("home", 1) == "cached"
    assert Site(Old(), Pages()).page("home", 1) == "loaded"
    for cache in (Fresh(), Old()):
        with pytest.raises(KeyError):
            Site(cache, Pages()).page("gone", 1)


def test_publish():
    pages = Pages()
    Site(Old(), pages).publish("home", "new")
    assert pages.pages == {"home": "new"}
