"""How commands speak: JSON for programs, tables and progress for people, errors on stderr."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]

console = Console()
notes = Console(stderr=True)

_CONTROLS: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (9, 10)
}
_ID_LENGTH: Final = 36
_UNWRAPPED: Final = 1000
"""Width of a table that no terminal shows: each row is one line, for `grep` and the like."""


def printable(text: str) -> str:
    """Return a text that cannot steer the terminal: logged texts are hostile."""
    return text.translate(_CONTROLS)


def print_json(value: Any) -> None:
    """Print one JSON value on one line of stdout."""
    console.out(json.dumps(value, default=str, ensure_ascii=False), highlight=False)


def print_line(text: str) -> None:
    """Print text as it is, on one line however narrow the terminal: it is to be copied."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str) -> None:
    """Print rows under column titles, or what to do when there are none; cells are plain text."""
    if not rows:
        console.print(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, title in enumerate(columns):
        is_id = _is_id(rows[0][number])
        table.add_column(
            title, overflow="fold", no_wrap=is_id, min_width=_ID_LENGTH if is_id else None
        )
    for row in rows:
        table.add_row(*(Text("–" if cell is None else printable(str(cell))) for cell in row))
    wide = console if console.is_terminal else Console(file=console.file, width=_UNWRAPPED)
    wide.print(table)


def _is_id(value: Any) -> bool:
    try:
        return str(UUID(str(value))) == str(value)
    except ValueError:
        return False


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        console.print(f"[bold]{name:<{width}}[/bold]  ", end="")
        console.out("–" if value is None else printable(str(value)), highlight=False)


def percent(share: float | None) -> str:
    """Return a share (0-1) as a percentage with one decimal."""
    return "–" if share is None else f"{100 * share:.1f} %"


@contextmanager
def progress_bar(
    title: str, quiet: bool, in_bytes: bool = False
) -> Iterator[Callable[[float, float | None, str], None]]:
    """Show a bar on stderr and yield `update(done, total, unit)`; silent when `quiet`.

    Silent too where stderr is no terminal: a log has no use for a bar.
    """
    if quiet or not notes.is_terminal:
        yield lambda done, total, unit: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn() if in_bytes else MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        *((TimeRemainingColumn(),) if in_bytes else ()),
    )
    with Progress(*columns, console=notes, transient=True) as bar:
        task = bar.add_task(title, total=None, unit="")
        yield lambda done, total, unit: bar.update(task, completed=done, total=total, unit=unit)


@contextmanager
def following(title: str, run_kind: str, quiet: bool) -> Iterator[None]:
    """Show the progress of the newest run of a kind while the block does it in this process."""
    from flywheel.status import newest_run

    stop = threading.Event()

    def poll(update: Callable[[float, float | None, str], None]) -> None:
        while not stop.wait(0.3):
            run = newest_run(run_kind)
            if run is not None and run.progress:
                update(run.progress["done"], run.progress["total"], run.progress["unit"])

    with progress_bar(title, quiet) as update:
        thread = threading.Thread(target=poll, args=(update,), daemon=True)
        if not quiet:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            if thread.is_alive():
                thread.join()


def do_job(
    title: str, kind: str, params: dict[str, Any], role: str, *, queue: bool, quiet: bool
) -> dict[str, Any]:
    """Order a job and finish it as `finish_run` does."""
    import flywheel.worker  # noqa: F401  registers every room's jobs
    from foundation.database import session_scope
    from foundation.runs import enqueue

    with session_scope() as session:
        run = enqueue(session, kind, params, role=role)
    return finish_run(title, kind, run.id, queue=queue, quiet=quiet)


def finish_run(title: str, kind: str, run_id: UUID, *, queue: bool, quiet: bool) -> dict[str, Any]:
    """Do a queued run here, with a progress bar, unless a worker is quicker; return its result.

    With `queue` leave it to the workers and return its id.
    """
    import flywheel.worker  # noqa: F401  registers every room's jobs
    from flywheel.cycle import wait_for
    from foundation.database import session_scope
    from foundation.runs import execute, get_run

    if queue:
        return {"run_id": str(run_id), "status": "queued"}
    try:
        with following(title, kind, quiet):
            done = execute(run_id, reraise=True)
            if done is None:
                with session_scope() as session:
                    run = get_run(session, run_id)
                done = wait_for({kind: run}, title, lambda *_: None)[kind]
    except KeyboardInterrupt:
        _say_interrupted(run_id)
        raise
    return {"run_id": str(run_id), **(done.result or {})}


def _say_interrupted(run_id: UUID) -> None:
    """Say what becomes of a run that nobody waits for any more: workers go on with what is lost."""
    from foundation.settings import get_settings

    silence = f"{get_settings().lost_after_s:g} s"
    for said in (
        f"Interrupted, not cancelled: a worker goes on with it, or has it already. Run {run_id}",
        f"Stop it: flywheel run cancel {run_id}",
        f"Go on here, {silence} from now: flywheel run retry {run_id} --here",
    ):
        notes.print(said, soft_wrap=True, highlight=False)


def as_uuid(what: str, value: str) -> UUID:
    """Return an id given on the command line; raises BadInput."""
    from foundation.errors import BadInput

    try:
        return UUID(value)
    except ValueError:
        raise BadInput(what, value, "an id such as 01a1fd57-1352-…", "Copy it whole.") from None
