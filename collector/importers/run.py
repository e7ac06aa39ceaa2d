"""The loop of every import: read, send in batches, count, and put the rejected lines beside.

Ids are derived from the content, so an import that was interrupted is simply started again: it goes
on after the last batch that was settled, and what is stored already answers as a duplicate.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collector.admission import Refusal, scrubbed
from collector.delivery import FEEDBACK, INTERACTION
from collector.importers.lines import Imported, Reject
from collector.importers.registry import AUTO, Format, all_formats, find, guess
from collector.importers.rejects import SUFFIX, Rejects
from collector.importers.resume import Mark
from collector.importers.source import Defaults, Source
from collector.ingest import rejection_of
from collector.record import to_json
from collector.transport import HttpTransport, Refused, Transport, Unreachable
from foundation.errors import BadInput

BATCH_RECORDS, BATCH_BYTES = 500, 8 * 1024 * 1024
"""A batch is sent when it holds this many records or this much JSON."""

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds waited before a batch is sent again to a collector that did not take it."""


@dataclass(frozen=True)
class Place:
    """How far an import has come: the file, its last settled line, and bytes of all files."""

    path: Path
    line: int
    done_bytes: int
    total_bytes: int


Progress = Callable[[Place], None]
"""Called after each batch is settled."""


@dataclass
class ImportReport:
    """What became of the lines of an import.

    `read` = `stored` + `duplicates` + `rejected`, in interactions (a line may hold several; a
    rejected line counts once). `lost` are the stored or known ones whose answer was lost. `skipped`
    counts lines that an interrupted import had settled before; they are in no other number.
    """

    read: int = 0
    stored: int = 0
    duplicates: int = 0
    lost: int = 0
    rejected: int = 0
    feedback_stored: int = 0
    feedback_duplicates: int = 0
    feedback_rejected: int = 0
    skipped: int = 0
    rejects_file: str | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    dry_run: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return dict(self.__dict__)

    def count_reason(self, reason: str) -> None:
        """Count a rejection by the code that its reason starts with."""
        code = reason.partition(":")[0]
        self.reasons[code] = self.reasons.get(code, 0) + 1


@dataclass(frozen=True)
class Options:
    """How to import: everything but the files and the place they go to.

    Args:
        defaults: role, project and task type of records that name none.
        mapping: the mapping file of the format `mapped`.
        dry_run: read, scrub and check everything, store and write nothing.
        rejects_path: file for rejected lines; by default `<first file>.rejects.jsonl` in the
            present folder, made only if there are any.
        target: what tells the place that the records go to from others, such as its URL.
        marks: folder of the marks that a killed import goes on from; None to keep none.
        from_start: go over what an interrupted import had settled, too.
        waits_s: seconds before each further try to send a batch.
    """

    defaults: Defaults = field(default_factory=Defaults)
    mapping: Path | None = None
    dry_run: bool = False
    rejects_path: Path | None = None
    target: str = ""
    marks: Path | None = None
    from_start: bool = False
    waits_s: Sequence[float] = WAITS_S


def run_import(
    format: str,
    paths: Sequence[Path],
    sink: Transport,
    options: Options | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import files or folders of files.

    Args:
        format: name of a registered format, or `auto` to tell it file by file.
        paths: files (gzipped too); of a folder, all files below it that the format may be in.
        sink: where batches go: `DirectTransport` or `HttpTransport`.
        options: how; see there.
        progress: called after each batch.

    Raises:
        BadInput: unknown format, a path that does not exist, no files, or not one good line.
        Unreachable: the sink does not take records now; start the import again later.
    """
    run = _Import(format, paths, sink, options or Options(), progress)
    with run:
        for path in run.files:
            run.file(path)
        run.done()
    report = run.report
    if report.read == report.rejected and not report.skipped:
        raise BadInput(
            f"import of {', '.join(str(path) for path in paths)}",
            f"{report.rejected} rejected of {report.read} lines",
            f"lines of the format {format!r}",
            run.commonest_reason()
            + (f" See {report.rejects_file}." if report.rejects_file else ""),
        )
    return report


class _Import:
    """One run over some files: its books, its rejects and its place."""

    def __init__(
        self,
        format: str,
        paths: Sequence[Path],
        sink: Transport,
        options: Options,
        progress: Progress | None,
    ) -> None:
        self._format = None if format == AUTO else find(format)
        self._sink, self._options, self._progress = sink, options, progress
        self.files = _files(paths, self._format)
        self.report = ImportReport(dry_run=options.dry_run)
        self._sizes = [path.stat().st_size for path in self.files]
        self._done_bytes = 0
        self._marks: list[Mark] = []
        self._seen: set[int] = set()
        self._examples: dict[str, str] = {}
        beside = options.rejects_path or Path(f"{self.files[0].name}{SUFFIX}")
        self._rejects = Rejects(None if options.dry_run else beside)

    def __enter__(self) -> "_Import":
        return self

    def __exit__(self, *exception: object) -> None:
        self._rejects.close()

    def file(self, path: Path) -> None:
        """Import one file, from where an earlier import of it stopped."""
        format = self._format_of(path)
        if format is None:
            return
        self.report.formats[format.name] = self.report.formats.get(format.name, 0) + 1
        source = Source(path, self._options.defaults, self._options.mapping)
        mark = self._mark(source, format)
        if mark is not None and not self._options.from_start:
            source.skip, is_finished = mark.read()
            self.report.skipped += source.skip
            self._rejects.goes_on |= source.skip > 0
            if is_finished:
                self._finish(path, source.skip)
                return
        settled = source.skip
        for batch, settled in _batches(format.read(source), source.skip):
            self._settle_batch(path, batch, format)
            self._rejects.flush()
            if mark is not None:
                mark.move(settled)
            self._tell(path, settled, source.position())
        if mark is not None:
            mark.move(settled, is_finished=True)
        self._finish(path, settled)

    def done(self) -> None:
        """Forget how far it came: the next import of these files reads them all."""
        for mark in self._marks:
            mark.remove()

    def commonest_reason(self) -> str:
        """Say why most lines were rejected, by the first of them."""
        if not self._examples:
            return "There is nothing in it."
        code = max(self.report.reasons, key=lambda code: self.report.reasons[code])
        return f"Most frequent reason, {code}: {self._examples[code]}."

    def _finish(self, path: Path, last_line: int) -> None:
        self._done_bytes += path.stat().st_size
        self._tell(path, last_line, 0)

    def _format_of(self, path: Path) -> Format | None:
        """Return a file's format; of several files, one that nobody recognises is rejected."""
        try:
            return self._format or guess(path)
        except BadInput as error:
            if len(self.files) == 1:
                raise
            self.report.read += 1
            self.report.rejected += 1
            self._reject(path, 0, f"unknown_format: {error}", "")
            return None

    def _mark(self, source: Source, format: Format) -> Mark | None:
        if self._options.marks is None or self._options.dry_run:
            return None
        told = (format.name, *map(str, vars(source.defaults).values()), self._options.target)
        mark = Mark(self._options.marks, source, told)
        self._marks.append(mark)
        return mark

    def _tell(self, path: Path, line: int, position: int) -> None:
        if self._progress is not None:
            self._progress(Place(path, line, self._done_bytes + position, sum(self._sizes)))

    def _settle_batch(self, path: Path, batch: Sequence[Imported | Reject], format: Format) -> None:
        good: list[Imported] = []
        for item in batch:
            self.report.read += 1
            if isinstance(item, Reject):
                self.report.rejected += 1
                self._reject(path, item.line, item.reason, item.text)
            else:
                good.append(item)
        if not good:
            return
        statements = [(item, record) for item in good for record in item.feedback]
        results = self._answers(good, [record for _, record in statements], format)
        for item, result in zip(good, results, strict=False):
            self._settle(path, item, result)
        for (item, record), result in zip(statements, results[len(good) :], strict=True):
            self._settle_feedback(path, item, record, result)

    def _answers(
        self, good: Sequence[Imported], feedback: Sequence[dict[str, Any]], format: Format
    ) -> list[dict[str, Any]]:
        """Return what became of the interactions, then of the feedback, in their order."""
        interactions = [item.interaction for item in good]
        if self._options.dry_run:
            return [self._would_be(record) for record in (*interactions, *feedback)]
        records = [("interactions", r) for r in interactions] + [("feedback", r) for r in feedback]
        answers: dict[int, dict[str, Any]] = {}
        if isinstance(self._sink, HttpTransport):  # nothing unscrubbed leaves this machine
            records = [
                (name, _scrubbed(record, number, answers))
                for number, (name, record) in enumerate(records)
            ]
        batch: dict[str, Any] = {"source": f"import:{format.name}"}
        for kind in _RECORDS:
            batch[kind] = [
                r for n, (name, r) in enumerate(records) if name == kind and n not in answers
            ]
        sent = iter(_send(self._sink, batch, self._options.waits_s))
        return [answers[n] if n in answers else next(sent) for n in range(len(records))]

    def _would_be(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return what storing a record would answer, going by this import's own records only."""
        kind = INTERACTION if "request" in record else FEEDBACK
        reason = rejection_of(record, kind=kind)
        number = int(str(record["id"]).replace("-", ""), 16)
        known = number in self._seen
        self._seen.add(number)
        status = "rejected" if reason else "duplicate" if known else "stored"
        return {"id": record["id"], "status": status, "reason": reason}

    def _settle(self, path: Path, item: Imported, result: dict[str, Any]) -> None:
        match result["status"]:
            case "rejected":
                self.report.rejected += 1
                self._reject(path, item.line, str(result.get("reason")), _shown(item.interaction))
                return
            case "duplicate":
                self.report.duplicates += 1
            case _:
                self.report.stored += 1
        self.report.lost += item.lost

    def _settle_feedback(
        self, path: Path, item: Imported, record: dict[str, Any], result: dict[str, Any]
    ) -> None:
        match result["status"]:
            case "rejected":
                self.report.feedback_rejected += 1
                self._reject(path, item.line, f"feedback {result.get('reason')}", _shown(record))
            case "duplicate":
                self.report.feedback_duplicates += 1
            case _:
                self.report.feedback_stored += 1

    def _reject(self, path: Path, line: int, reason: str, text: str) -> None:
        self.report.count_reason(reason)
        written = self._rejects.add(path, line, reason, text)
        self._examples.setdefault(reason.partition(":")[0], f"line {line}: {written}")
        self.report.rejects_file = self._rejects.written_to


_RECORDS = ("interactions", "feedback")


def _scrubbed(
    record: dict[str, Any], number: int, answers: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    """Return a record scrubbed; one that cannot be is rejected in `answers`, and stays here."""
    try:
        return scrubbed(record)
    except Refusal as refusal:
        answers[number] = {"id": record["id"], "status": "rejected", "reason": str(refusal)}
        return {}


def _suffixes_of_all() -> tuple[str, ...]:
    return tuple(sorted({suffix for format in all_formats() for suffix in format.suffixes}))


def _files(paths: Sequence[Path], format: Format | None) -> list[Path]:
    suffixes = format.suffixes if format else _suffixes_of_all()
    files: dict[Path, Path] = {}  # a file named twice is one file
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.name.endswith(suffixes) and p.is_file())
            files |= {p.resolve(): p for p in found if not p.name.endswith(SUFFIX)}
        elif path.is_file():
            files[path.resolve()] = path
        else:
            raise BadInput("import path", str(path), "a file or a folder", "Check its name.")
    if not files:
        shown = ", ".join(str(path) for path in paths)
        raise BadInput("import path", shown, f"files named *{', *'.join(suffixes)}", "Name one.")
    unreadable = next((path for path in files.values() if not os.access(path, os.R_OK)), None)
    if unreadable is not None:
        raise BadInput("import path", str(unreadable), "a readable file", "Check its rights.")
    return list(files.values())


def _batches(
    items: Iterator[Imported | Reject], skip: int
) -> Iterator[tuple[list[Imported | Reject], int]]:
    """Yield batches, each with the last place that it finishes; places up to `skip` are left out.

    A batch ends with a whole line, unless that line alone fills several.
    """
    batch, n_records, n_bytes, settled = list[Imported | Reject](), 0, 0, skip
    for item in items:
        if item.line <= skip:
            continue
        if batch:
            ended = item.line != batch[-1].line
            settled = batch[-1].line if ended else settled
            slack = 1 if ended else 4
            if n_records >= slack * BATCH_RECORDS or n_bytes >= slack * BATCH_BYTES:
                yield batch, settled
                batch, n_records, n_bytes = [], 0, 0
        batch.append(item)
        n_records += 1 + (len(item.feedback) if isinstance(item, Imported) else 0)
        n_bytes += _size_of(item)
    if batch:
        yield batch, batch[-1].line


def _size_of(item: Imported | Reject) -> int:
    if isinstance(item, Reject):
        return len(item.text)
    try:
        return len(to_json(item.interaction))
    except (ValueError, TypeError, RecursionError):  # the collector will say what is wrong with it
        return 0


def _send(sink: Transport, batch: dict[str, Any], waits_s: Sequence[float]) -> list[dict[str, Any]]:
    """Send a batch, again after a while if the collector is away, in halves if it is too much."""
    try:
        return _send_patiently(sink, batch, waits_s)
    except Refused as error:
        records = [(name, record) for name in _RECORDS for record in batch[name]]
        if len(records) == 1:
            return [
                {"id": records[0][1]["id"], "status": "rejected", "reason": f"refused: {error}"}
            ]
    middle = len(records) // 2
    return [
        result
        for part in (records[:middle], records[middle:])
        for result in _send(
            sink,
            batch | {name: [r for kind, r in part if kind == name] for name in _RECORDS},
            waits_s,
        )
    ]


def _send_patiently(
    sink: Transport, batch: dict[str, Any], waits_s: Sequence[float]
) -> list[dict[str, Any]]:
    for wait_s in waits_s:
        try:
            return sink.send(batch)
        except Unreachable as error:
            time.sleep(max(wait_s, error.retry_after_s or 0.0))
    return sink.send(batch)


def _shown(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)
