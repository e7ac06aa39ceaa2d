"""How fast scrubbing is, how much it finds, and how often it is wrong.

Texts of 2 KB are cut from the standard library of this Python; every text is seen once, so that
nothing is remembered. Recall and precision are measured on the public test data: a labelled line of
`secrets_detect` counts as found when anything is found in it; a labelled span of `pii_presidio`
when one finding covers it. A hit on the standard library is false unless it is by its form what it
is called: an e-mail address, an IP address, the password of a URL.
"""

import json
import os
import random
import statistics
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bars import Figure, report
from collector.scrub import ACTIVE, Finding, scrub_record

TEXT_CHARACTERS = 2048
TRUE_BY_FORM = ("email", "ip_address", "url_password")
KINDS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip_address",
    "US_SSN": "ssn",
}
"""Structured personal data of `pii_presidio`, by the name that scrubbing gives it."""


def measure(quick: bool = False) -> list[Figure]:
    """Return all figures; `quick` measures fewer texts in fewer rounds."""
    data = Path(os.environ.get("FLYWHEEL_TEST_DATA") or "../shared/data")
    texts = code_texts(400 if quick else 2000)
    rounds = 3 if quick else 7
    return [
        _speed("scrub of 2 KB code texts", texts, rounds),
        _record_cost(texts, rounds),
        *secret_figures(data),
        *personal_figures(data),
        *false_hit_figures(),
    ]


def sources(count: int, seed: int = 0) -> list[str]:
    """Return `count` source files of the standard library, drawn with `seed`."""
    library = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path for path in library.rglob("*.py") if "site-packages" not in path.parts)
    random.Random(seed).shuffle(paths)
    return [path.read_text(encoding="utf-8", errors="replace") for path in paths[:count]]


def code_texts(count: int) -> list[str]:
    """Return `count` different texts of 2 KB, at most four of one file."""
    texts: list[str] = []
    for source in sources(count):
        starts = range(0, len(source) - TEXT_CHARACTERS, TEXT_CHARACTERS)[:4]
        texts += [source[start : start + TEXT_CHARACTERS] for start in starts]
    return texts[:count]


def _seconds_each(work: Callable[[str], object], texts: Sequence[str], rounds: int) -> list[float]:
    seconds = []
    for _ in range(rounds):
        started = time.process_time()
        for text in texts:
            work(text)
        seconds.append((time.process_time() - started) / len(texts))
    return seconds


def _speed(name: str, texts: Sequence[str], rounds: int) -> Figure:
    seconds = _seconds_each(ACTIVE.search, texts, rounds)
    return Figure(
        name,
        1 / statistics.median(seconds),
        "docs/CPU-s",
        at_least=4000,
        detail={"texts": len(texts), "us_per_text": [round(s * 1e6, 1) for s in seconds]},
    )


def _record_cost(texts: Sequence[str], rounds: int) -> Figure:
    numbered = iter(range(len(texts) * rounds))

    def scrub(text: str) -> None:
        scrub_record(_record(f"{next(numbered)}{text}"))  # never the same text twice

    seconds = _seconds_each(scrub, texts, rounds)
    return Figure(
        "scrub of a record with 2 KB of messages",
        statistics.median(seconds) * 1e6,
        "µs CPU",
        detail={"us_per_record": [round(s * 1e6, 1) for s in seconds]},
    )


def _record(text: str) -> dict[str, Any]:
    asked, answered = text[:1400], text[1400:]
    message = {"role": "assistant", "content": answered}
    return {
        "id": "01890000-0000-7000-8000-000000000000",
        "role": "coder",
        "status": "success",
        "gen_ai_request_model": "gpt-4o-mini",
        "request": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": asked}]},
        "response": {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]},
    }


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def secret_counts(data: Path) -> tuple[Counter[str], dict[str, Counter[str]]]:
    """Return found, missed and false lines of `secrets_detect`, in all and by detector."""
    total: Counter[str] = Counter()
    by_detector: dict[str, Counter[str]] = {}
    for row in _rows(data / "secrets_detect/secrets_a.jsonl"):
        hit = bool(ACTIVE.findings("".join(row["text_parts"])))
        outcome = _outcome(row["is_secret"], hit)
        total[outcome] += 1
        by_detector.setdefault(row["kind"].split(":")[0], Counter())[outcome] += 1
    return total, by_detector


def _outcome(labelled: bool, hit: bool) -> str:
    if labelled:
        return "found" if hit else "missed"
    return "false" if hit else "silent"


def personal_counts(data: Path) -> tuple[Counter[str], dict[str, Counter[str]]]:
    """Return found and missed spans and false findings of `pii_presidio`, in all and by kind.

    A finding is false if it touches no labelled span of the six structured kinds.
    """
    total: Counter[str] = Counter()
    by_kind: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS.values()}
    for name in ("synth_v2_odd_templates.jsonl", "generated_small.jsonl"):
        for row in _rows(data / "pii_presidio" / name):
            found = ACTIVE.findings(row["full_text"])
            spans = [span for span in row["spans"] if span["entity_type"] in KINDS]
            for span in spans:
                covered = any(_covers(finding, span) for finding in found)
                by_kind[KINDS[span["entity_type"]]]["found" if covered else "missed"] += 1
            for finding in found:
                if not any(_touches(finding, span) for span in spans):
                    by_kind.setdefault(finding.kind, Counter())["false"] += 1
    for counts in by_kind.values():
        total += counts
    return total, by_kind


def _covers(finding: Finding, span: dict[str, Any]) -> bool:
    return bool(finding.start <= span["start_position"] and finding.end >= span["end_position"])


def _touches(finding: Finding, span: dict[str, Any]) -> bool:
    return bool(finding.start < span["end_position"] and finding.end > span["start_position"])


def recall(counts: Counter[str]) -> float:
    """Return the share of the labelled that was found."""
    return counts["found"] / (counts["found"] + counts["missed"])


def precision(counts: Counter[str]) -> float:
    """Return the share of the found that was labelled."""
    return counts["found"] / (counts["found"] + counts["false"])


def _pair(
    name: str, found: tuple[Counter[str], dict[str, Counter[str]]], least_precision: float
) -> list[Figure]:
    total, parts = found
    detail = {part: dict(counts) for part, counts in sorted(parts.items())}
    return [
        Figure(f"recall on {name}", recall(total), "", at_least=0.95, detail=detail),
        Figure(
            f"precision on {name}",
            precision(total),
            "",
            at_least=least_precision,
            detail=dict(total),
        ),
    ]


def _absent(name: str, bars: Sequence[float]) -> list[Figure]:
    note = "the public data is absent (FLYWHEEL_TEST_DATA)"
    measures = zip(("recall", "precision"), bars, strict=True)
    return [
        Figure(f"{what} on {name}", None, "", at_least=bar, note=note) for what, bar in measures
    ]


def secret_figures(data: Path) -> list[Figure]:
    """Return recall and precision on `secrets_detect`."""
    if not (data / "secrets_detect").is_dir():
        return _absent("secrets_detect", (0.95, 0.95))
    return _pair("secrets_detect", secret_counts(data), 0.95)


def personal_figures(data: Path) -> list[Figure]:
    """Return recall and precision on the structured kinds of `pii_presidio`."""
    if not (data / "pii_presidio").is_dir():
        return _absent("pii_presidio", (0.95, 0.9))
    return _pair("pii_presidio", personal_counts(data), 0.9)


def false_hit_figures(files: int = 500) -> list[Figure]:
    """Return the false hits, and all hits, per 100 KB of standard library source."""
    hits: Counter[str] = Counter()
    characters = 0
    for source in sources(files):
        characters += len(source)
        hits.update(finding.kind for finding in ACTIVE.search(source))
    false = sum(n for kind, n in hits.items() if kind not in TRUE_BY_FORM)
    per = 100_000 / characters
    detail = {"files": files, "characters": characters, "hits": dict(hits)}
    return [
        Figure("false hits on standard library sources", false * per, "per 100 KB", at_most=1.0),
        Figure(
            "all hits there",
            sum(hits.values()) * per,
            "per 100 KB",
            detail=detail,
            note="with e-mail and IP addresses that stand in it",
        ),
    ]


if __name__ == "__main__":
    sys.exit(report("scrub", measure("--quick" in sys.argv)))
