"""The gateway's file: what it may say, what it may not, and that a change of it arrives."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundation.errors import BadSetting
from foundation.settings import Settings, get_settings
from router.upstreams.config import GatewayConfig, load
from router.upstreams.watched import WatchedConfig

FILE = """
upstreams:
  north: {base_url: "http://127.0.0.1:9001/v1/", api_key: sk-north, models: [big], weight: 3}
  south: {base_url: "http://127.0.0.1:9002/v1", api_key_env: SOUTH_KEY, dialects: [chat, messages]}
models:
  fast:
    targets:
      - {upstream: north, model: big}
      - {upstream: litellm, model: openai/gpt, order: 1}
    parameters: {temperature: 0.2, top_p: 0.9}
    forced: {top_k: 40}
    at_most: {max_tokens: 2048, n: 1}
    template: {system: "Terse.", user_prefix: "Q: "}
    retries: 2
    hedge_after_ms: 800
  coder-v1: {cache_ttl_s: 60}
roles:
  coder:
    parameters: {temperature: 0.7}
    forced: {top_k: 5}
    at_most: {max_tokens: 4096, n: 1}
    template: {system: "You write code."}
    fallbacks: [{upstream: south, model: big}]
    mirror: {model: coder-v3}
defaults: {cooldown_s: 2, retries: 3}
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SOUTH_KEY", "sk-south")
    path = tmp_path / "gateway.yaml"
    path.write_text(FILE)
    monkeypatch.setenv("FLYWHEEL_GATEWAY_FILE", str(path))
    get_settings.cache_clear()
    yield path
    get_settings.cache_clear()


def test_without_a_file_there_are_the_upstreams_of_the_settings(monkeypatch) -> None:
    monkeypatch.setenv("FLYWHEEL_UPSTREAMS", '{"a": {"base_url": "http://a/v1/"}}')
    config = load(Settings())
    assert [(one.name, one.base_url) for one in config.upstreams] == [("a", "http://a/v1")]
    assert config.digest is None


def test_a_whole_file(path: Path) -> None:
    config = load()
    north, south = config.upstreams
    assert (north.base_url, north.api_key, north.weight) == (
        "http://127.0.0.1:9001/v1",
        "sk-north",
        3,
    )
    assert (south.api_key, south.dialects) == ("sk-south", ("chat", "messages"))
    assert config.upstream("engine") is config.engine
    assert config.upstream("litellm") is None
    assert config.roles["coder"].mirror == {"model": "coder-v3"}
    assert config.defaults.cooldown_s == 2
    assert "sk-" not in repr(config)


def test_a_server_of_the_file_replaces_one_of_the_settings(path: Path, monkeypatch) -> None:
    monkeypatch.setenv(
        "FLYWHEEL_UPSTREAMS",
        '{"north": {"base_url": "http://old"}, "east": {"base_url": "http://e"}}',
    )
    found = {one.name: one.base_url for one in load(Settings()).upstreams}
    assert found["north"] == "http://127.0.0.1:9001/v1"
    assert found.keys() == {"north", "south", "east"}


def test_role_and_model_together(path: Path) -> None:
    rules = load().rules_for("coder", None, "fast")
    assert rules.parameters == {"temperature": 0.7, "top_p": 0.9}, "the use knows what it wants"
    assert rules.forced == {"top_k": 40}, "the thing knows what it can"
    assert rules.at_most == {"max_tokens": 2048, "n": 1}
    assert (rules.template.system, rules.template.user_prefix) == ("You write code.", "Q: ")
    assert (rules.retries, rules.hedge_after_s, rules.cache_ttl_s) == (2, 0.8, None)
    assert len(rules.targets) == 2
    assert [one.upstream for one in rules.fallbacks] == ["south"]


def test_names_that_the_file_does_not_know_have_the_defaults(path: Path) -> None:
    config = load()
    for number in range(100):
        rules = config.rules_for(f"nobody{number}", f"made-up-{number}")
    assert (rules.retries, rules.parameters, rules.changes_requests) == (3, {}, False)
    assert len(config._rules) == 1, "what callers make up does not pile up"
    assert config.rules_for("tester", "role:tester", "coder-v1").cache_ttl_s == 60


@pytest.mark.parametrize(
    ("was", "becomes", "place", "expected"),
    [
        ('"http://127.0.0.1:9002/v1"', "nope", "upstreams.south.base_url", "http://"),
        ("weight: 3", "weight: 0", "upstreams.north.weight", "above 0"),
        ("weight: 3", "weight: true", "upstreams.north.weight", "number"),
        ("weight: 3", "wieght: 3", "upstreams.north.wieght", "no such field"),
        ("[chat, messages]", "[chat, smoke]", "upstreams.south.dialects.1", "'chat'"),
        ("SOUTH_KEY", "NO_SUCH_KEY", "upstreams.south.api_key_env", "a variable that is set"),
        ("north:", "engine:", "upstreams.engine", "another name"),
        ("temperature: 0.2", "temperature: 7", "models.fast.parameters.temperature", "0 to 2"),
        ("temperature: 0.2", "temperature: .nan", "gateway.yaml", "YAML of plain values"),
        ("top_k: 40", "model: other", "models.fast.forced.model", "not what is asked"),
        ("retries: 2", "retries: two", "models.fast.retries", "integer"),
        ("retries: 2", "retries: -1", "models.fast.retries", "0 to 10"),
        ("n: 1}", "n: lots}", "models.fast.at_most.n", "number"),
        ("upstream: litellm", "upstream: nowhere", "models.fast.targets.1.upstream", "south"),
        ("south, model: big", "south", "roles.coder.fallbacks.0.model", "the model to ask"),
        ("  coder:", "  cook:", "roles.cook", "FLYWHEEL_ROLES"),
        ("roles:", "rolls:", "rolls", "no such field"),
        ("defaults: {", "defaults: {cooldown_s: 1, ", "line", "twice"),
        ("upstreams:", "upstreams: {{", "line", "YAML"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else None,
)
def test_a_mistake_is_named_with_its_place(
    path: Path, was: str, becomes: str, place: str, expected: str
) -> None:
    assert was in FILE
    path.write_text(FILE.replace(was, becomes, 1))
    with pytest.raises(BadSetting) as caught:
        load()
    assert "gateway.yaml" in caught.value.what
    assert place in caught.value.what
    assert expected in caught.value.expected
    assert "sk-" not in str(caught.value), "no error shows a key"


@pytest.mark.parametrize(
    "text",
    [b"[1]", b"7", b"\xff\xfe\x00", b"a: &a [*a]", b"2020-01-01: 3", b"? [1]\n: 2", b"[" * 2000],
    ids=["list", "number", "binary", "circle", "date", "list-as-name", "deep"],
)
def test_a_file_of_something_else_is_refused(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    with pytest.raises(BadSetting):
        load()


def test_an_empty_file_says_nothing(path: Path) -> None:
    path.write_text("# nothing yet\n")
    assert load().models == {}


def test_a_missing_file_is_refused_at_the_start(path: Path) -> None:
    path.unlink()
    with pytest.raises(BadSetting, match="a file that can be read"):
        WatchedConfig()


def rewrite(path: Path, text: str) -> None:
    """Replace the file as an editor does, in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, path)


def test_a_change_arrives_and_a_mistake_does_not(path: Path, caplog) -> None:
    watched = WatchedConfig()
    assert not watched.refresh()
    rewrite(path, FILE.replace("retries: 3", "retries: 4"))
    assert watched.refresh()
    assert watched.config.defaults.retries == 4
    good = watched.config
    rewrite(path, FILE.replace("retries: 3", "retries: 99"))
    assert [watched.refresh() for _ in range(3)] == [False] * 3
    assert watched.config is good
    assert "defaults.retries" in watched.problem
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1, "said once, not each second"
    rewrite(path, FILE)
    assert watched.refresh()
    assert watched.problem is None
    assert watched.config.defaults.retries == 3


def test_a_file_that_goes_away_leaves_the_last_one(path: Path) -> None:
    watched = WatchedConfig()
    good: GatewayConfig = watched.config
    path.unlink()
    assert not watched.refresh()
    assert "a file that can be read" in watched.problem
    rewrite(path, FILE)
    assert not watched.refresh(), "it is the same as before"
    assert (watched.config.digest, watched.problem) == (good.digest, None)


def test_a_mistake_taken_back_is_no_problem_any_more(path: Path) -> None:
    watched = WatchedConfig()
    rewrite(path, "[")
    watched.refresh()
    assert watched.problem
    rewrite(path, FILE)
    watched.refresh()
    assert watched.problem is None


def test_a_touched_file_is_no_change(path: Path) -> None:
    watched = WatchedConfig()
    os.utime(path, ns=(1, 1))
    assert not watched.refresh()
