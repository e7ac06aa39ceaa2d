"""Is it the adapter that answers: by a real engine, and by servers that ignore it or say little."""

import pytest
from scoring_app import create_scoring_app
from upstream_app import Server

from evaluator.identity import AdapterIgnored, largest_difference, probe_identity, why_unproven
from serving.backends.openai_compatible import ensure_adapter, remove_adapter


@pytest.fixture
def loaded(tiny_engine):
    """Both adapters of the engine, the random one and the untrained one."""
    names = {"probed-v1": tiny_engine.adapter, "idle-v1": tiny_engine.untrained}
    for name, folder in names.items():
        ensure_adapter(tiny_engine.base_url, name, folder)
    yield tiny_engine.base_url
    for name in names:
        remove_adapter(tiny_engine.base_url, name)


def test_an_adapter_of_the_engine_is_proven_by_its_log_probabilities(loaded, tiny_engine):
    found = probe_identity(loaded, "probed-v1", "unused", "sha256:abc")
    assert found.is_proven
    assert (found.method, found.content_hash) == ("log-probabilities", "sha256:abc")
    assert found.base == str(tiny_engine.base), "the server says whose adapter it is"
    assert found.largest_difference > 0.1
    assert found.noise == 0
    assert found.as_json()["n_compared"] > 30


def test_an_adapter_that_changes_nothing_is_refused(loaded):
    with pytest.raises(AdapterIgnored, match="idle-v1.*ignores the adapter, or the adapter chan"):
        probe_identity(loaded, "idle-v1", "base")


def test_a_server_that_ignores_the_adapter_is_refused():
    with Server(create_scoring_app()) as server:
        url = f"{server.url}/v1"
        assert probe_identity(url, "other", "unused").largest_difference == pytest.approx(0.5)
        with pytest.raises(AdapterIgnored):
            probe_identity(url, "ignored", "unused")


def test_what_lies_within_the_noise_is_not_proven():
    with Server(create_scoring_app(base="moody")) as server:
        found = probe_identity(f"{server.url}/v1", "ignored", "unused")
        assert found.method == "log-probabilities"
        assert found.noise > 0
        assert not found.is_proven
        assert "differs from itself" in found.note


def test_without_log_probabilities_greedy_answers_are_compared():
    with Server(create_scoring_app(echoes=False)) as server:
        url = f"{server.url}/v1"
        other, ignored = (probe_identity(url, name, "unused") for name in ("other", "ignored"))
        assert (other.is_proven, other.method) == (True, "greedy answers")
        assert not ignored.is_proven
        assert "all 4 greedy answers are the base's" in ignored.note
        assert "answered 404" in ignored.note
    with Server(create_scoring_app(echoes=False, base="moody")) as server:
        assert "own greedy answers vary" in probe_identity(f"{server.url}/v1", "other", "").note


def test_a_server_that_does_not_answer_leaves_it_open():
    found = probe_identity("http://127.0.0.1:9/v1", "coder-v1", "base", "sha256:abc")
    assert (found.is_proven, found.method) == (False, "none")
    assert found.note


def test_differences_of_scorings():
    assert largest_difference([None, -1.0, -2.0], [None, -1.5, -2.0]) == 0.5
    assert largest_difference([None, -1.0], [None]) == float("inf")
    assert largest_difference([None], [None]) == 0
    assert why_unproven(["a"], ["b"], ["a"]) == ""
