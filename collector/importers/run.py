"""The loop of every import: read, send in batches, count, and put the rejected lines beside.

Ids are derived from the content, so an import that was interrupted is simply started again: what
is stored already answers as a duplicate.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from collector.importers.lines import Imported, Reader, Reject
from collector.importers.registry import get
from collector.ingest import rejection_of
from collector.scrub import scrub_text
from collector.transport import Transport
from foundation.errors import BadInput

BATCH_LINES = 500
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")

Progress = Callable[[int], None]
"""Called with the number of lines read so far."""


@dataclass
class ImportReport:
    """What became of the lines of an import.

    `read` = `stored` + `duplicates` + `rejected`, in interactions (a line may hold several; a
    rejected line counts once). `lost` are the stored or known ones whose answer was lost.
    """

    read: int = 0
    stored: int = 0
    duplicates: int = 0
    lost: int = 0
    rejected: int = 0
    feedback_stored: int = 0
    rejects_file: str | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    dry_run: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return dict(self.__dict__)


class _Rejects:
    """The file of rejected lines, made when there is one: line, reason and text as JSONL."""

    def __init__(self, path: Path | None, report: ImportReport, stack: ExitStack) -> None:
        self._path, self._report, self._stack = path, report, stack
        self._file: IO[str] | None = None

    def add(self, source: Path, line: int, reason: str, text: str) -> None:
        self._report.rejected += 1
        code = reason.partition(":")[0]
        self._report.reasons[code] = self._report.reasons.get(code, 0) + 1
        if self._path is None:
            return
        if self._file is None:
            self._file = self._stack.enter_context(open(self._path, "w", encoding="utf-8"))
            self._report.rejects_file = str(self._path)
        row = {"file": source.name, "line": line, "reason": reason, "text": scrub_text(text)[0]}
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")


def run_import(
    format: str,
    paths: Sequence[Path],
    sink: Transport,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    rejects_path: Path | None = None,
) -> ImportReport:
    """Import files or folders of files.

    Args:
        format: name of a registered format.
        paths: files (gzipped too); of a folder, all its JSON and JSONL files.
        sink: where batches go: `DirectTransport` or `HttpTransport`.
        dry_run: read and check everything, store and write nothing; `stored` is what would be.
        progress: called after each batch.
        rejects_path: file for rejected lines; by default `<first path>.rejects.jsonl` in the
            present folder, made only if there are any.

    Raises:
        BadInput: unknown format, a path that does not exist, no files, or not one good line.
        Unreachable: the sink does not take records now; start the import again later.
    """
    reader, report = get(format), ImportReport(dry_run=dry_run)
    files = _files(paths)
    beside = rejects_path or Path(f"{files[0].name}.rejects.jsonl")
    with ExitStack() as stack:
        rejects = _Rejects(None if dry_run else beside, report, stack)
        for path in files:
            _import_file(path, reader, None if dry_run else sink, report, rejects, progress, format)
    if report.read == report.rejected:
        raise BadInput(
            f"import of {', '.join(str(path) for path in paths)}",
            f"{report.rejected} rejected of {report.read} lines",
            f"lines of the format {format!r}",
            f"Most frequent reason: {_commonest(report)}. "
            + (f"See {report.rejects_file}." if report.rejects_file else ""),
        )
    return report


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.name.endswith(SUFFIXES))
        elif path.is_file():
            files.append(path)
        else:
            raise BadInput("import path", str(path), "a file or a folder", "Check its name.")
    if not files:
        shown = ", ".join(str(path) for path in paths)
        raise BadInput("import path", shown, f"files named *{', *'.join(SUFFIXES)}", "Name one.")
    return files


def _import_file(
    path: Path,
    reader: Reader,
    sink: Transport | None,
    report: ImportReport,
    rejects: _Rejects,
    progress: Progress | None,
    format: str,
) -> None:
    for batch in _batches(reader(path)):
        good = []
        for item in batch:
            report.read += 1
            if isinstance(item, Reject):
                rejects.add(path, item.line, item.reason, item.text)
            else:
                good.append(item)
        results = _send(good, sink, format)
        for item, result in zip(good, results, strict=False):
            _settle(path, item, result, report, rejects)
        for result in results[len(good) :]:
            report.feedback_stored += result["status"] == "stored"
            if result["status"] == "rejected":
                code = f"feedback {str(result.get('reason')).partition(':')[0]}"
                report.reasons[code] = report.reasons.get(code, 0) + 1
        if progress is not None:
            progress(report.read)


def _batches(items: Iterator[Imported | Reject]) -> Iterator[list[Imported | Reject]]:
    batch: list[Imported | Reject] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH_LINES:
            yield batch
            batch = []
    if batch:
        yield batch


def _send(good: Sequence[Imported], sink: Transport | None, format: str) -> list[dict[str, Any]]:
    feedback = [statement for item in good for statement in item.feedback]
    if sink is None:
        answers = [_would_be(item.interaction) for item in good]
        return answers + [{"id": record["id"], "status": "stored"} for record in feedback]
    return sink.send(
        {
            "source": f"import:{format}",
            "interactions": [item.interaction for item in good],
            "feedback": feedback,
        }
    )


def _would_be(interaction: dict[str, Any]) -> dict[str, Any]:
    reason = rejection_of(interaction)
    status = "stored" if reason is None else "rejected"
    return {"id": interaction["id"], "status": status, "reason": reason}


def _settle(
    path: Path, item: Imported, result: dict[str, Any], report: ImportReport, rejects: _Rejects
) -> None:
    match result["status"]:
        case "rejected":
            text = json.dumps(item.interaction, ensure_ascii=False)
            rejects.add(path, item.line, str(result.get("reason")), text)
            return
        case "duplicate":
            report.duplicates += 1
        case _:
            report.stored += 1
    report.lost += item.lost


def _commonest(report: ImportReport) -> str:
    return max(report.reasons, key=lambda code: report.reasons[code], default="no lines")
