"""The page on upstreams shows a file that loads, and the defaults of the code."""

import dataclasses
import re
from pathlib import Path

from foundation.settings import Settings
from router.upstreams.config import Defaults, load

PAGE = (Path(__file__).parents[3] / "docs" / "upstreams.md").read_text()


def test_the_file_that_is_shown_loads(tmp_path: Path, monkeypatch) -> None:
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    path = tmp_path / "gateway.yaml"
    path.write_text(shown)
    monkeypatch.setenv("NORTH_KEY", "sk-north")
    config = load(Settings(gateway_file=path))
    assert config.rules_for("coder", "fast").template.system_prefix
    assert {one.name for one in config.upstreams} == {"north", "south"}


def test_the_defaults_that_are_shown_are_those_of_the_code() -> None:
    table = PAGE[PAGE.index("## Defaults") :]
    shown = {
        name: float(value) for name, value in re.findall(r"^\| `(\w+)` \| (\S+) \|", table, re.M)
    }
    assert shown == {name: float(value) for name, value in dataclasses.asdict(Defaults()).items()}
