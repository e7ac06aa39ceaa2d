"""The units are well formed, run what exists, and leave the sandbox what it needs."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from deployed import DEPLOY, composition, known_variables, named_variables, parse

FOLDER = DEPLOY / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))


class Lines(dict):  # type: ignore[type-arg]
    """Keeps every value of an option that a unit says more than once."""

    def __setitem__(self, key: str, value: object) -> None:
        if isinstance(value, list) and key in self:
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


def service(path: Path) -> dict[str, list[str]]:
    """The values of each option in the section Service."""
    read = configparser.RawConfigParser(dict_type=Lines, strict=False, delimiters=("=",))
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read(path)
    return {name: value.split("\n") for name, value in read["Service"].items()}


def variables(path: Path) -> dict[str, str]:
    words = " ".join(service(path).get("Environment", [])).split()
    return dict(word.split("=", 1) for word in words)


def test_systemd_accepts_them(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    for path in FOLDER.iterdir():
        text = path.read_text().replace("/opt/flywheel/bin/flywheel", "/bin/true")
        (tmp_path / path.name).write_text(text)
    units = [path for path in tmp_path.iterdir() if path.suffix in (".service", ".target")]
    done = subprocess.run([program, "verify", *units], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "flywheel" in line]
    assert not ours


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_a_command_that_exists_as_an_ordinary_user(path: Path) -> None:
    said = service(path)
    (command,) = said["ExecStart"]
    program, *words = command.replace("%i", "cpu").replace("${CONCURRENCY}", "2").split()
    assert program == "/opt/flywheel/bin/flywheel"
    parse(words)
    assert said["User"] == ["flywheel"]
    assert said["NoNewPrivileges"] == ["yes"]
    assert said["ProtectSystem"] == ["strict"]
    assert said["CapabilityBoundingSet"] == [""]
    assert variables(path)["FLYWHEEL_HOME"] == "/var/lib/flywheel"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_variables_are_settings_and_secrets_are_credentials(path: Path) -> None:
    assert set(named_variables(path.read_text())) <= known_variables()
    if path.name == "flywheel-up.service":
        return  # it needs no other server, and so no secret
    listed = {line.split(":")[0] for line in service(path)["LoadCredential"]}
    # The units share a home, and with it the key that versions are signed with.
    assert listed == set(composition()["services"]["service"]["secrets"]) - {"signer.pem"}
    assert variables(path)["FLYWHEEL_SECRETS_DIR"] == "%d"


def test_the_sandbox_of_a_worker_is_left_what_it_needs() -> None:
    for name in ("flywheel-worker@.service", "flywheel-up.service"):
        said = service(FOLDER / name)
        closing = {"RestrictNamespaces", "ProtectKernelTunables", "ProcSubset"}
        assert not {*closing, "MemoryDenyWriteExecute", "PrivateUsers"} & said.keys()
        assert "AF_NETLINK" in said["RestrictAddressFamilies"][0]
        assert said["SystemCallFilter"][0].startswith("~"), "landlock_* are in no set of systemd's"
        assert "@mount" not in said["SystemCallFilter"][0]


def test_the_target_starts_what_is_there() -> None:
    text = (FOLDER / "flywheel.target").read_text()
    wanted = re.findall(r"flywheel-[\w@-]+\.service", text)
    names = {re.sub(r"@\w+", "@", name) for name in wanted}
    assert names <= {path.name for path in UNITS}
    assert {path.name for path in UNITS} - names == {
        "flywheel-engine.service",
        "flywheel-up.service",
    }
