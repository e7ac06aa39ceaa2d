"""HTTP connections of programs that call from many threads.

httpcore's pool looks at every one of its connections for each request, so that one client shared
by 64 threads spends most of its time looking. A client per thread has one connection to look at.
"""

import ssl
import threading
import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


class _Owned:
    """A thread's client, closed when its thread ends."""

    def __init__(self, client: "httpx.Client") -> None:
        self.client = client

    def __del__(self) -> None:
        self.client.close()


class ThreadClients:
    """One `httpx.Client` per thread, made with the same options; all closed together."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._forget()

    def get(self) -> "httpx.Client":
        """Return this thread's client."""
        mine: _Owned | None = getattr(self._local, "owned", None)
        if mine is None:
            mine = self._local.owned = _Owned(self._new_client())
            with self._lock:
                self._all.add(mine)
        return mine.client

    def _new_client(self) -> "httpx.Client":
        import httpx

        return httpx.Client(verify=_tls(), **self._options)

    def close(self) -> None:
        """Close every thread's connections; a later `get` opens new ones."""
        with self._lock:
            for owned in list(self._all):
                owned.client.close()
        self._forget()

    def after_fork(self) -> None:
        """Forget the parent's connections."""
        self._forget()

    def _forget(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._all: weakref.WeakSet[_Owned] = weakref.WeakSet()


def async_client(**options: Any) -> "httpx.AsyncClient":
    """Return a client for one call: kept connections would outlive their event loop unclosed."""
    import httpx

    return httpx.AsyncClient(verify=_tls(), **options)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # tens of milliseconds, once
