"""Are the packages under test known to be vulnerable? `make audit`, which makes `.venv-audit`.

pip-audit asks the index about every pinned version. Not every index has that data: a mirror may
answer and know of nothing. So a version with a known vulnerability is asked about first; where that
is not found, it is said plainly, and what can be told without the data is checked instead: that
what is installed is what `constraints.txt` pins, and that what is deployed is pinned by hashes.
Exit code 1: a vulnerability, or a package that is not pinned.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
AUDITOR = PROJECT / ".venv-audit/bin/pip-audit"
CANARY = "jinja2==2.4.1"
"""Known to be vulnerable since 2014."""

CANARY_S, WHOLE_S = 10, 60

OUTSIDE = frozenset({"pip", "setuptools", "wheel", "agent-flywheel", "distribute"})
"""What a virtual environment has by itself, and this project."""

IGNORED: Mapping[str, str] = {}
"""Vulnerabilities that do not concern us, by their id, each with the reason."""


def canonical(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Return the versions that a file of constraints or requirements pins, by name."""
    found = re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", text, re.MULTILINE)
    return {canonical(name): version for name, version in found}


def without_hashes(text: str) -> list[str]:
    """Return the packages of a requirements file that no hash is given for."""
    joined = re.sub(r"\\\s*\n", " ", text)
    lines = [line for line in joined.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    return [line.split("==")[0].strip() for line in lines if "--hash=" not in line]


def differing(installed: Mapping[str, str], pinned: Mapping[str, str]) -> list[str]:
    """Return what is installed and not pinned so."""
    return [
        f"{name} {version}: {f'pinned {pinned[name]}' if name in pinned else 'not pinned'}"
        for name, version in sorted(installed.items())
        if name not in OUTSIDE and bare(pinned.get(name, "")) != bare(version)
    ]


def bare(version: str) -> str:
    """Return a version without its build, such as +cpu."""
    return version.partition("+")[0]


def vulnerable(report: Mapping[str, Any]) -> list[str]:
    """Return what pip-audit found, but what is ignored."""
    return [
        f"{package['name']} {package['version']}: {found['id']}"
        f", mended in {', '.join(found['fix_versions']) or 'no version yet'}"
        for package in report["dependencies"]
        for found in package.get("vulns", ())
        if found["id"] not in IGNORED
    ]


def ask(requirements: str, limit_s: int) -> dict[str, Any] | None:
    """Return pip-audit's report of pinned requirements; None where it gets no answer."""
    if not AUDITOR.exists():
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        options = ["--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off"]
        command = [str(AUDITOR), *options, "--requirement", file.name]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=limit_s, check=False
            )
            report: dict[str, Any] = json.loads(done.stdout)
        except (subprocess.TimeoutExpired, json.JSONDecodeError):
            return None
    return report


def installed() -> dict[str, str]:
    """Return the packages of this environment."""
    return {canonical(one.metadata["Name"]): one.version for one in distributions()}


def pinning_faults() -> list[str]:
    """Return what is not pinned: installed here, or deployed."""
    constraints = pins((PROJECT / "constraints.txt").read_text())
    faults = [f"installed: {fault}" for fault in differing(installed(), constraints)]
    for path in sorted((PROJECT / "deploy").glob("requirements-*.txt")):
        text = path.read_text()
        faults += [f"{path.name}: {name} has no hash" for name in without_hashes(text)]
        # What only another system or GPU has is not in the constraints; its hash holds it.
        both = {name: version for name, version in pins(text).items() if name in constraints}
        faults += [f"{path.name}: {fault}" for fault in differing(both, constraints)]
    return faults


def main() -> int:
    """Audit; return the exit code."""
    faults = pinning_faults()
    canary = ask(f"{CANARY}\n", CANARY_S)
    if canary is None or not vulnerable(canary):
        say(
            f"No vulnerability data: the index does not tell of {CANARY}, which is vulnerable. "
            "Whether a package is known to be vulnerable was NOT checked; what is pinned was."
        )
    else:
        pinned = pins((PROJECT / "constraints.txt").read_text())
        wanted = "".join(f"{name}=={bare(version)}\n" for name, version in pinned.items())
        report = ask(wanted, WHOLE_S)
        if report is None:
            say("No vulnerability data: the index stopped answering. NOT checked.")
        else:
            faults += vulnerable(report)
            say(f"{len(report['dependencies'])} packages checked for known vulnerabilities.")
    say(*faults or ["Everything installed and deployed is pinned."])
    return 1 if faults else 0


def say(*lines: str) -> None:
    """Print lines."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
