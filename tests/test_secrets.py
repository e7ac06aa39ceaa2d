"""No secret is in the repository, and none gets in unseen."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def scanner() -> ModuleType:
    pytest.importorskip("detect_secrets")
    spec = importlib.util.spec_from_file_location("secret_scan", PROJECT / ".ci/secret_scan.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_secret_is_committed(scanner: ModuleType) -> None:
    if not (PROJECT / ".git").exists():
        pytest.skip("no git checkout: which files belong to it is not known")
    found = scanner.found()
    assert len(found) > 20, "the scan finds the data of our own tests"
    known = scanner.known()
    new = [
        f"{one['filename']}:{one['line_number']}: {one['type']}"
        for one in found
        if scanner.key_of(one) not in known
    ]
    assert new == [], (
        "Take it out, and end the secret where it opens something: history keeps it. "
        "If it is none (data of a test), run: python .ci/secret_scan.py --write"
    )


@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        ("aws = 'AKIA" + "QWERTYUIOPLKJHGF'", "AWS Access Key"),
        ("url = 'postgresql://app:" + "w0nderwall@db.internal/x'", "Basic Auth Credentials"),
        ("token = 'ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8'", "GitHub Token"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "Private Key"),
        ("api_key" + " = 'Jx8qT2mWz5nB7vKp'", "Secret Keyword"),
    ],
    ids=["aws", "url", "github", "private key", "named"],
)
def test_a_planted_secret_is_found(
    scanner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, planted: str, kind: str
) -> None:
    (tmp_path / "settings.py").write_text(f"import os\n\n{planted}\n")
    monkeypatch.setattr(scanner, "PROJECT", tmp_path)
    found = list(scanner.scan(scanner.candidates(["settings.py"])))
    assert kind in {one["type"] for one in found}
    assert {one["line_number"] for one in found} == {3}
    assert not {scanner.key_of(one) for one in found} & scanner.known()
