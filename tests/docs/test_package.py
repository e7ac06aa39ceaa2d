"""The wheel carries what the code reads at run time, its types and its version."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

import foundation.version
from flywheel.cli import app

PROJECT = Path(__file__).resolve().parents[2]
CONFIGURATION = tomllib.loads((PROJECT / "pyproject.toml").read_text())
PACKAGES = CONFIGURATION["tool"]["setuptools"]["packages"]
ROOMS = {name for name in PACKAGES if "." not in name and name != "flywheel_migrations"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy: a build leaves files where it is done."""
    copy = tmp_path_factory.mktemp("copy")
    for name in (*ROOMS, "migrations"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(PROJECT / name, copy)
    build = "from setuptools.build_meta import build_wheel; build_wheel('out')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (built,) = (copy / "out").glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_every_file_that_the_packages_have(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    for package in PACKAGES:
        folder = PROJECT / package.replace("flywheel_migrations", "migrations").replace(".", "/")
        for path in folder.glob("*"):
            if path.is_file():
                assert f"{package.replace('.', '/')}/{path.name}" in held, path
    for room in ROOMS:
        assert f"{room}/py.typed" in held, "other people's type checkers pass the room over"
    assert not any(name.startswith(("tests/", "docs/", "benchmarks/")) for name in held)
    for name in ("LICENSE", "NOTICE"):
        assert any(path.endswith(f"/licenses/{name}") for path in held)


def test_every_package_of_the_rooms_is_listed() -> None:
    found = {
        ".".join(path.parent.relative_to(PROJECT).parts)
        for room in ROOMS
        for path in (PROJECT / room).rglob("__init__.py")
    }
    assert found == set(PACKAGES) - {"flywheel_migrations"}


def test_there_is_one_version(wheel: zipfile.ZipFile) -> None:
    version = foundation.version.VERSION
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    assert f"\nVersion: {version}\n" in wheel.read(metadata).decode()
    assert CliRunner().invoke(app, ["--version"]).stdout == f"flywheel {version}\n"
    changes = (PROJECT / "CHANGELOG.md").read_text()
    assert f"\n## {version}" in changes, "every version says what it brought"
