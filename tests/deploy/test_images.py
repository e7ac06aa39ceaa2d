"""The Dockerfile keeps the rules of images; what is installed is pinned as it is tested."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from deployed import DEPLOY, PROJECT

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PIN = re.compile(r"^([\w.-]+)==(\S+?)(?: ;.*)? \\$", re.MULTILINE)
LOCKS = ("service", "trainer", "build")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(name: str) -> dict[str, str]:
    """The versions of a lock file by package."""
    text = (DEPLOY / f"requirements-{name}.txt").read_text()
    return {normal(package): version for package, version in PIN.findall(text)}


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--no-color", DEPLOY / "Dockerfile"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_image_ends_as_an_ordinary_user_and_holds_no_secret() -> None:
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n((?:(?!FROM ).*\n)*)", DOCKERFILE, re.MULTILINE))
    for name in ("runtime", "trainer", "service"):
        users = re.findall(r"^USER (\S+)$", stages[name], re.MULTILINE)
        assert users[-1:] == ["10001:10001"] or (name == "service" and not users)
    assert "HEALTHCHECK" in stages["service"]
    assert "HEALTHCHECK" in stages["trainer"]
    assert not re.search(r"(?i)^(ENV|ARG) .*(password|secret|token|api_key)", DOCKERFILE, re.M)
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored, "what is built from is listed, the rest stays out"
    assert not {"!deploy", "!.git", "!.env"} & set(ignored)


def test_what_the_build_copies_is_in_its_context() -> None:
    sources = re.findall(r"^COPY (?!--from)(\S+) \S+$", DOCKERFILE, re.MULTILINE)
    allowed = {
        line[1:] for line in (PROJECT / ".dockerignore").read_text().split() if line[0] == "!"
    }
    for source in set(sources) - {"."}:
        assert (PROJECT / source).exists(), source
        assert any(Path(source).match(pattern) for pattern in allowed), source
    rooms = re.findall(r'"(\w+)', re.search(r"root_packages = \[(.*?)\]", toml(), re.S)[1])
    assert {*rooms, "migrations", "pyproject.toml", "README.md"} <= allowed


def toml() -> str:
    return (PROJECT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_a_hash_for_each_package_and_names_no_index(name: str) -> None:
    text = (DEPLOY / f"requirements-{name}.txt").read_text()
    assert not re.search(r"https?:|file:|--(extra-)?index-url|--find-links", text)
    for block in re.split(r"\n(?=\S)", text.split("\n", 1)[1].strip()):
        assert re.search(r"^[\w.-]+==\S+", block), block[:80]
        assert "--hash=sha256:" in block, block[:80]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_what_the_tests_run_with(name: str) -> None:
    lines = (PROJECT / "constraints.txt").read_text().split()
    tested = {normal(one): version for one, version in (line.split("==") for line in lines)}
    differing = {
        package: (version, tested[package])
        for package, version in pins(name).items()
        if tested.get(package, version) != version
    }
    assert not differing, "run make lock"


def test_locks_hold_every_dependency_and_only_the_trainer_torch() -> None:
    import tomllib

    project = tomllib.loads(toml())["project"]
    extras = project["optional-dependencies"]
    lock = (DEPLOY / "lock").read_text()
    for name in ("service", "trainer"):
        lists = re.findall(r"--extra (\w+)", re.search(r'^service="(.*)"$', lock, re.M)[1])
        if name == "trainer":
            lists += re.findall(r"--extra (\w+)", re.search(r'^train="(.*)"$', lock, re.M)[1])
        wanted = [*project["dependencies"], *(line for e in lists for line in extras[e])]
        names = {normal(re.match(r"[\w.-]+", line)[0]) for line in wanted}
        assert names <= pins(name).keys(), f"run make lock: {names - pins(name).keys()}"
    assert "torch" in pins("trainer")
    assert "torch" not in pins("service")
