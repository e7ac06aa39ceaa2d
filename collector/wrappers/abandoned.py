"""A thread that records what the garbage collector finds: streams and calls that nobody holds.

The collector may run in the middle of the spool's own work, and recording there could wait for a
lock that this very thread holds.
"""

import atexit
import gc
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], None]

AT_EXIT_S = 5.0
"""Longest time that the end of the process waits for what is left."""


class Recovery:
    """Does, in a daemon thread, the work that was put aside while garbage was collected."""

    def __init__(self) -> None:
        self._collecting: set[int] = set()
        gc.callbacks.append(self._note_collection)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_anew)
        self._thread: threading.Thread | None = None
        self._start_anew()

    def ensure_running(self) -> None:
        """Start the thread if it does not run."""
        if self._thread is None:
            with self._starting:
                self._thread = self._thread or self._started()

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="flywheel-abandoned", daemon=True)
        thread.start()
        return thread

    def is_collecting(self) -> bool:
        """Whether the garbage collector runs in this thread now."""
        return threading.get_ident() in self._collecting

    def put(self, work: Work) -> None:
        """Leave work to the thread; safe anywhere, in a finalizer too."""
        self._left.put(work)

    def finish(self) -> None:
        """Do what is left, and end the thread: the process ends."""
        if self._thread is not None:
            self._left.put(None)
            self._thread.join(AT_EXIT_S)
            self._thread = None

    def _start_anew(self) -> None:
        self._left: SimpleQueue[Work | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread = None

    def _note_collection(self, phase: str, info: object) -> None:
        if phase == "start":
            self._collecting.add(threading.get_ident())
        else:
            self._collecting.discard(threading.get_ident())

    def _run(self) -> None:
        while (work := self._left.get()) is not None:
            work()


recovery = Recovery()
"""The one of this process."""

atexit.register(recovery.finish)
