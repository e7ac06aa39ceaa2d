"""Look for secrets in this repository: `python .ci/secret_scan.py`, or `--write` a baseline.

detect-secrets says what is one. It takes minutes for a repository of this size, so it is shown only
the lines that could hold what its detectors look for; `CANDIDATE` is wider than they are. What is
known and harmless (data of tests, examples in pages) stands in `.secrets.baseline`, by its hash.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from detect_secrets.core.scan import scan_line
from detect_secrets.settings import transient_settings

PROJECT = Path(__file__).resolve().parents[1]
BASELINE = PROJECT / ".secrets.baseline"

DETECTORS = (
    "ArtifactoryDetector AWSKeyDetector AzureStorageKeyDetector BasicAuthDetector "
    "DiscordBotTokenDetector GitHubTokenDetector GitLabTokenDetector JwtTokenDetector "
    "KeywordDetector MailchimpDetector NpmDetector OpenAIDetector PrivateKeyDetector "
    "PypiTokenDetector SendGridDetector SlackDetector SquareOAuthDetector StripeDetector "
    "TelegramBotTokenDetector TwilioKeyDetector"
).split()
"""Those that go by a shape or a name; entropy alone finds every hash of a lock file."""

CANDIDATE = re.compile(
    r"A[KSB]?[A-Z]IA|AKIA|AccountKey|AKC|AP[\dABCDEF]{2}"
    r"|://[^/\s:@]*:[^@\s]+@"
    r"|gh[pousr]_|github_pat_|glpat-|gl[a-z]+-|GR1348941"
    r"|eyJ|npm|sk-|sk_|rk_|sq0|SG\.|xox|hooks\.slack|pypi-|BEGIN|-us\d|SK[a-z0-9]|AC[a-z0-9]"
    r"|\d{8,10}:[\w-]{35}|[MNO][\w-]{23,25}\."
    r"|(?i:(?:api_?key|auth_?key|service_?key|account_?key|db_?key|database_?key|priv_?key"
    r"|private_?key|client_?key|db_?pass|pass(?:word|wd|phrase)?|pwd|secret|contrase)"
    r"[^\n]{0,40}?[:=][^\n]{0,8}?[\"'][^\"'\s]{4,})"
)
"""What a line has at least that any of the detectors could find something in."""

SKIPPED = (".png", ".gz", ".parquet", ".woff2", "htmx.min.js")
LOCKS = ("requirements-service.txt", "requirements-trainer.txt")
"""Names and hashes of packages, nothing else; they are generated."""


def tracked() -> list[str]:
    """Return the files of the repository that hold text."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return [
        name
        for name in listed.stdout.split("\0")
        if name and not name.endswith((*SKIPPED, *LOCKS)) and name != BASELINE.name
    ]


def scan(lines: Iterable[tuple[str, int, str]]) -> Iterator[dict[str, Any]]:
    """Yield what is found in `(file, number, line)`, as the baseline has it."""
    with transient_settings({"plugins_used": [{"name": name} for name in DETECTORS]}):
        for name, number, line in lines:
            for secret in scan_line(line):
                yield {
                    "filename": name,
                    "line_number": number,
                    "type": secret.type,
                    "hashed_secret": secret.secret_hash,
                }


def candidates(names: Iterable[str]) -> Iterator[tuple[str, int, str]]:
    """Yield the lines that could hold a secret."""
    for name in names:
        path = PROJECT / name
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        if not CANDIDATE.search(text):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if CANDIDATE.search(line):
                yield name, number, line


def found() -> list[dict[str, Any]]:
    """Return what is found in the repository now."""
    unique = {key_of(one): one for one in scan(candidates(tracked()))}
    return [unique[key] for key in sorted(unique)]


def key_of(one: dict[str, Any]) -> tuple[str, str, str]:
    """Return what tells a finding from others; not its line, which moves."""
    return one["filename"], one["type"], one["hashed_secret"]


def known() -> set[tuple[str, str, str]]:
    """Return what the baseline says is harmless."""
    results = json.loads(BASELINE.read_text())["results"]
    return {
        (name, one["type"], one["hashed_secret"]) for name, ones in results.items() for one in ones
    }


def write() -> None:
    """Make the baseline of what is there now: only after each line was looked at."""
    results: dict[str, list[dict[str, Any]]] = {}
    for one in found():
        entry = {name: one[name] for name in ("type", "hashed_secret", "line_number")}
        results.setdefault(one["filename"], []).append({**entry, "is_secret": False})
    said = {
        "version": "1.5.0",
        "plugins_used": [{"name": name} for name in DETECTORS],
        "results": results,
    }
    BASELINE.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    new = [one for one in found() if key_of(one) not in known()]
    for one in new:
        sys.stdout.write("{filename}:{line_number}: {type}\n".format(**one))
    sys.exit(1 if new else 0)
