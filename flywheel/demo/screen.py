"""What the demo shows while it works: one line per step, with a bar, and the seconds it took."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

Tell = Callable[[float, float], None]


class Screen:
    """Steps on a console, and how long each took (seconds, by name; repeated steps add up)."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self.seconds: dict[str, float] = {}
        self._interrupt: BaseException | None = None

    @contextmanager
    def heeding_interrupts(self) -> Iterator[None]:
        """Make Ctrl-C and SIGTERM end the block, at the latest at the next progress.

        Python raises them wherever it is; where that is a library's callback or import, the
        library may swallow them, and a demo of minutes would go on.
        """

        def remember(number: int, frame: object) -> None:
            is_ctrl_c = number == signal.SIGINT
            self._interrupt = KeyboardInterrupt() if is_ctrl_c else SystemExit(128 + number)
            raise self._interrupt

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, remember) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[Tell]:
        """Show a step while the block runs; yields `tell(done, total)`."""
        started = time.perf_counter()
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
        )
        is_live = self._console.is_terminal and not self._quiet
        with Progress(*columns, console=self._console, disable=not is_live) as progress:
            task = progress.add_task(title, total=None)

            def tell(done: float, total: float) -> None:
                if self._interrupt is not None:
                    raise self._interrupt
                progress.update(task, completed=done, total=total or None)

            yield tell
            progress.update(task, completed=1, total=1)
        took = time.perf_counter() - started
        self.seconds[name] = round(self.seconds.get(name, 0.0) + took, 2)
        if not is_live:  # a log takes a line for what is done, not a bar
            self.say(f"✓ {title}  {took:.0f} s")

    def say(self, text: str) -> None:
        """Print a line beside the steps."""
        if not self._quiet:
            self._console.print(text, highlight=False)
