"""The seams: which file may import which heavy library, and where the rooms meet."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
ROOMS = (
    "foundation",
    "collector",
    "curation",
    "trainer",
    "serving",
    "evaluator",
    "router",
    "admin",
    "flywheel",
)
TORCH_DOORS = ("trainer/", "serving/engine/", "curation/embed.py", "curation/score/ifd.py")
TORCH = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "tokenizers")
MEETING_POINTS = {
    "collector": {
        *("tables", "ingest", "client", "partitions", "feedback", "bodies"),
        *("dead_letters", "delivery", "direct", "erase", "metrics", "reconcile"),
        *("record", "schemas", "scrub", "sender", "shapes", "spool", "streams", "transport"),
    },
    "curation": {
        *("tables", "build", "export", "recipe", "decontaminate", "review", "erase"),
        *("eval_sets", "language", "members", "publish", "reasons", "tasks"),
    },
    "trainer": {
        *("tables", "registry", "recipe", "plan", "lineage", "methods"),
        *("export", "rewards", "estimate", "schedule", "card", "diff"),
    },
    "serving": {"backends", "deploy"},
    "evaluator": {
        *("tables", "run", "compare", "evidence", "report", "majority", "sandbox"),
        *("tasks", "taskwise", "drift", "expected", "erase"),
    },
    "router": {
        *("tables", "experiment", "promote", "emergency", "policy", "stats"),
        *("keys", "processes", "usage", "windows", "guard", "specialist", "service_record"),
        *("erase", "erase_proof", "scopes"),
    },
}
"""What other stages may import of a room: its tables, its front desk and the desk's types.

`flywheel` assembles the rooms, so it may open every door.
"""


def sources(*rooms: str) -> list[Path]:
    return [path for room in rooms for path in sorted((PROJECT / room).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Every absolute module name that a file imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offenders(paths: list[Path], libraries: tuple[str, ...], allowed: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(PROJECT)} imports {name}"
        for path in paths
        if not str(path.relative_to(PROJECT)).startswith(allowed)
        for name in imports(path)
        if name.split(".")[0] in libraries
    ]


def test_torch_is_loaded_only_in_trainer_the_engine_and_two_files_of_curation() -> None:
    assert offenders(sources(*ROOMS), TORCH, TORCH_DOORS) == []
    rule = re.search(r"torch, .+? only", (PROJECT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert rule is not None
    assert tuple(re.findall("`(.+?)`", rule[0])) == TORCH_DOORS


def test_litellm_has_one_door() -> None:
    assert offenders(sources(*ROOMS), ("litellm",), ("foundation/llm.py",)) == []


def test_stages_meet_at_tables_and_front_desks() -> None:
    wrong = []
    for path in sources(*(room for room in ROOMS if room != "flywheel")):
        own = path.relative_to(PROJECT).parts[0]
        for name in imports(path):
            room, _, rest = name.partition(".")
            if room == own or room not in MEETING_POINTS or not rest:
                continue
            if rest.split(".")[0] not in MEETING_POINTS[room]:
                wrong.append(f"{path.relative_to(PROJECT)} imports {name}")
    assert wrong == []


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_is_this_repositorys(room: str) -> None:
    module = importlib.import_module(room)
    assert module.__file__ is not None
    assert Path(module.__file__).is_relative_to(PROJECT)
    assert module.__doc__


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(PROJECT))
        for path in sources(*ROOMS)
        if ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []


def test_no_room_has_a_drawer_for_everything() -> None:
    names = {"utils", "util", "common", "helpers", "lib", "misc", "manager", "core"}
    assert [str(path) for path in sources(*ROOMS) if path.stem in names] == []


@pytest.mark.parametrize(
    ("started", "heavy"),
    [
        ("flywheel.app, router.gateway, flywheel.worker, flywheel.cli", TORCH + ("litellm",)),
        ("router.gateway", ("scipy", "sklearn", "pyarrow", "celery", "fastapi")),
    ],
    ids=["services", "gateway"],
)
def test_no_process_loads_what_it_may_never_need(started: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {started}; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert result.stdout.strip() == "[]"


def test_no_lock_outlives_its_transaction() -> None:
    """Behind a pooler the lock of a session stays with a connection that others use next."""
    of_a_session = re.compile(r"pg_(try_)?advisory_(lock|unlock)")
    assert [str(path) for path in sources(*ROOMS) if of_a_session.search(path.read_text())] == []


def test_every_package_is_shipped() -> None:
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    present = {
        ".".join(path.parent.relative_to(PROJECT).parts)
        for room in ROOMS
        for path in (PROJECT / room).rglob("__init__.py")
    }
    assert present <= set(declared["packages"])


def test_every_library_that_is_imported_is_declared() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[ \[<>=]", line)[0] for group in groups for line in group}
    declared = {_IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}
    used = {name.split(".")[0] for path in sources(*ROOMS) for name in imports(path)}
    assert (
        used - set(sys.stdlib_module_names) - set(ROOMS) - declared
        == {"flywheel_migrations"} & used
    )


_IMPORTED_AS = {
    **{"pyyaml": "yaml", "protobuf": "google", "opentelemetry-proto": "opentelemetry"},
    "scikit-learn": "sklearn",
    "argon2-cffi": "argon2",
    "python-json-logger": "pythonjsonlogger",
}
