"""Other ways of answering at the running gateway: cache, specialists, consensus, copies."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
import yaml
from sqlmodel import select
from upstream_app import Server, create_upstream_app

from collector.tables import Interaction, InteractionPayload
from foundation.database import session_scope
from foundation.settings import get_settings
from router import experiment as ab
from router.gateway import create_gateway_app
from router.promote import initial
from router.shadow import SHADOW
from router.tables import Assignment, UsageDay

Start = Callable[..., SimpleNamespace]


@pytest.fixture
def start(session, make_version, monkeypatch, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a gateway by a file's role section, before two upstreams."""
    first, second = make_version(), make_version(stage="candidate")
    initial(session, "coder", first)
    session.commit()
    running: list[Server] = []

    def go(coder: dict[str, Any], models: dict[str, Any] | None = None) -> SimpleNamespace:
        ours, other = Server(create_upstream_app()), Server(create_upstream_app())
        running.extend((ours, other))
        for server in running:
            server.__enter__()
        told = {
            "upstreams": {
                "other": {"base_url": f"{other.url}/v1", "models": ["big", "wise"]},
                "dead": {"base_url": "http://127.0.0.1:9/v1", "models": ["dead"]},
            },
            "models": models or {},
            "roles": {"coder": coder},
            "defaults": {"retries": 0},
        }
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(told))
        monkeypatch.setenv("FLYWHEEL_GATEWAY_FILE", str(path))
        monkeypatch.setenv("FLYWHEEL_ENGINE_URL", f"{ours.url}/v1")
        get_settings.cache_clear()
        gateway = Server(create_gateway_app())
        running.append(gateway)
        gateway.__enter__()
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)
        clients.append(client)
        return SimpleNamespace(
            client=client, ours=ours, other=other, gateway=gateway, versions=(first, second)
        )

    clients: list[openai.OpenAI] = []
    yield go
    for client in clients:
        client.close()
    for server in reversed(running):
        server.__exit__(None, None, None)


def asked(world: SimpleNamespace, text: str, stream: bool = False, **headers: str) -> Any:
    """Ask the role; return headers and text."""
    raw = world.client.chat.completions.with_raw_response.create(
        model="role:coder",
        messages=[{"role": "user", "content": text}],
        stream=stream,
        extra_headers=headers,
    )
    if not stream:
        said = raw.parse().choices[0].message.content
    else:
        chunks = [c for c in raw.parse() if c.choices]
        said = "".join(c.choices[0].delta.content or "" for c in chunks)
    return SimpleNamespace(headers=raw.headers, text=said)


def rows(n: int) -> list[tuple[Interaction, InteractionPayload]]:
    """Return the recorded calls, oldest first, once there are `n`."""
    query = select(Interaction, InteractionPayload).where(Interaction.id == InteractionPayload.id)
    deadline = time.monotonic() + 20
    while True:
        with session_scope() as own:
            found = list(own.exec(query.order_by(Interaction.id)).all())
        if len(found) >= n:
            assert len(found) == n
            return found
        assert time.monotonic() < deadline, f"{len(found)} of {n}"
        time.sleep(0.02)


def test_an_answer_is_given_again_where_the_file_says_so(start) -> None:
    world = start({"cache_ttl_s": 60})
    texts = [asked(world, "say hello"), asked(world, "say hello"), asked(world, "say bye")]
    assert [one.text for one in texts] == ["hello", "hello", "bye"]
    assert [one.headers["x-flywheel-cache"] for one in texts] == ["miss", "hit", "miss"]
    assert len(world.ours.app.state.seen) == 2
    streamed = [asked(world, "say hello", stream=True) for _ in range(2)]
    assert [one.text for one in streamed] == ["hello", "hello"]
    assert [one.headers["x-flywheel-cache"] for one in streamed] == ["miss", "hit"]
    found = rows(5)
    assert [bool((p.attributes or {}).get("cached")) for _, p in found] == [
        *(False, True, False),
        *(False, True),
    ]
    with session_scope() as own:
        [day] = own.exec(select(UsageDay)).all()
        assert (day.n_calls, day.n_cached) == (5, 2)
    assert world.gateway.app.board.state()["cache"]["hits"] == 2


def test_a_call_may_ask_for_the_cache_and_failures_are_not_kept(start) -> None:
    world = start({})
    use = {"x-flywheel-cache": "use"}
    assert "x-flywheel-cache" not in asked(world, "say hello").headers
    assert asked(world, "say hello", **use).headers["x-flywheel-cache"] == "miss"
    assert asked(world, "say hello", **use).headers["x-flywheel-cache"] == "hit"
    for _ in range(2):
        with pytest.raises(openai.APIStatusError, match="told to fail"):
            asked(world, "fail 400", **use)
    with pytest.raises(openai.APIError):
        asked(world, "break", stream=True, **use)
    with pytest.raises(openai.APIError):
        asked(world, "break", stream=True, **use)
    with pytest.raises(openai.BadRequestError, match="x-flywheel-cache"):
        asked(world, "say hello", **{"x-flywheel-cache": "always"})
    assert len(world.ours.app.state.seen) == 6


def test_the_same_answer_goes_to_messages_in_their_own_shape(start) -> None:
    import anthropic

    world = start({"cache_ttl_s": 60})
    with anthropic.Anthropic(base_url=world.gateway.url, api_key="none") as client:
        said = [
            client.messages.create(
                model="role:coder",
                max_tokens=50,
                messages=[{"role": "user", "content": "say hello"}],
            )
            for _ in range(2)
        ]
    assert [one.content[0].text for one in said] == ["hello", "hello"]  # type: ignore[union-attr]
    assert len(world.ours.app.state.seen) == 1


def test_a_task_goes_to_its_specialist(start) -> None:
    rule = {"when": {"difficulty": "hard"}, "model": "big"}
    world = start({"specialists": {"rules": [rule, {"when": {"min_chars": 900}, "model": "none"}]}})
    easy = asked(world, "say easy")
    hard = asked(world, "say hard", **{"x-flywheel-difficulty": "hard"})
    assert "x-flywheel-specialist" not in easy.headers
    assert hard.headers["x-flywheel-specialist"] == "rule:0"
    assert asked(world, f"say {'x' * 1000}").text  # nobody knows that specialist
    assert len(world.other.app.state.seen) == 1
    [_, (row, payload), _] = rows(3)
    assert row.gen_ai_request_model == "big"
    assert row.model_version_id is None
    assert payload.attributes is not None
    assert payload.attributes["specialist"] == "rule:0"


def test_specialists_rest_while_an_experiment_runs(start, session) -> None:
    world = start({"specialists": {"rules": [{"model": "big"}]}})
    assert asked(world, "say one").headers["x-flywheel-specialist"] == "rule:0"
    plan = ab.plan_from("demo")
    ab.start(session, "coder", world.versions[1], plan, "test")
    session.commit()
    deadline = time.monotonic() + 10
    while "x-flywheel-arm" not in (found := asked(world, "say two").headers):
        assert time.monotonic() < deadline
    assert "x-flywheel-specialist" not in found


def test_several_models_answer_and_what_most_say_is_given(start) -> None:
    world = start({"consensus": {"models": ["role", "big", "dead"]}})
    found = asked(world, "say hello")
    assert found.text == "hello"
    assert found.headers["x-flywheel-consensus"] == "2/2"
    assert found.headers["x-flywheel-model-version"] == "coder-v1"
    calls = rows(3)
    main = next(row for row, _ in calls if row.parent_id is None)
    below = {row.gen_ai_request_model: row for row, _ in calls if row.parent_id == main.id}
    assert str(main.id) == found.headers["x-flywheel-interaction-id"]
    assert main.gen_ai_request_model == "coder-v1"
    assert {name: row.status for name, row in below.items()} == {"big": "success", "dead": "error"}
    chosen = next(p for row, p in calls if row.id == main.id).attributes
    assert chosen is not None
    assert chosen["consensus"]["chosen"] == "role"
    assert [len(s.app.state.seen) for s in (world.ours, world.other)] == [1, 1]


def test_a_consensus_is_streamed_in_one_piece_and_also_to_messages(start) -> None:
    import anthropic

    world = start({"consensus": {"models": ["big", "role"], "when": {"task_type": "vote"}}})
    vote = {"x-flywheel-task-type": "vote"}
    assert asked(world, "say hello", stream=True, **vote).text == "hello"
    assert "x-flywheel-consensus" not in asked(world, "say hello").headers
    with anthropic.Anthropic(
        base_url=world.gateway.url, api_key="none", default_headers=vote
    ) as client:
        said = client.messages.create(
            model="role:coder", max_tokens=50, messages=[{"role": "user", "content": "say hi"}]
        )
        with client.messages.stream(
            model="role:coder", max_tokens=50, messages=[{"role": "user", "content": "say ho"}]
        ) as stream:
            text = stream.get_final_text()
    assert said.content[0].text == "hi"  # type: ignore[union-attr]
    assert text == "ho"
    tools = asked(world, "tools", **vote)
    assert tools.headers["x-flywheel-consensus"] == "2/2"


def test_when_every_model_fails_the_call_fails(start) -> None:
    world = start({"consensus": {"models": ["dead", "nobody"]}})
    with pytest.raises(openai.InternalServerError, match="every model failed"):
        asked(world, "say hello")
    calls = rows(3)
    assert {row.status for row, _ in calls} == {"error"}


def test_a_copy_is_sent_for_the_log_alone(start, session) -> None:
    world = start({"mirror": {"model": "coder-v2"}})
    found = asked(world, "say hello")
    assert asked(world, "say hi", stream=True).text == "hi"
    with pytest.raises(openai.APIStatusError):
        asked(world, "fail 400")
    calls = rows(5)
    copies = [row for row, _ in calls if row.arm == SHADOW]
    mains = {row.id: row for row, _ in calls if row.arm is None}
    assert len(copies) == 2
    assert all(row.parent_id in mains for row in copies)
    assert {row.model_version_id for row in copies} == {world.versions[1].id}
    assert all(row.experiment_id is None for row in copies)
    assert {row.status for row in copies} == {"success"}
    assert found.headers["x-flywheel-model-version"] == "coder-v1"
    assert world.gateway.app.board.state()["shadows"] == {"sent": 2, "left_out": 0}


def test_an_experiment_that_only_watches_copies_to_its_treatment(start, session) -> None:
    world = start({})
    plan = ab.plan_from("default")
    row = ab.start(session, "coder", world.versions[1], plan, "test")
    session.commit()
    assert row.treatment_share == 0
    deadline = time.monotonic() + 10
    n = 1
    while "x-flywheel-arm" not in (found := asked(world, "say hello")).headers:
        assert time.monotonic() < deadline
        n += 1
    assert found.headers["x-flywheel-arm"] == "control"
    calls = rows(n + 1)
    [copy] = [one for one, _ in calls if one.arm == SHADOW]
    assert (copy.experiment_id, copy.model_version_id) == (row.id, world.versions[1].id)
    assert str(copy.parent_id) == found.headers["x-flywheel-interaction-id"]
    with session_scope() as own:
        [unit] = own.exec(select(Assignment)).all()
        assert (unit.arm, unit.n_calls) == ("control", 1)


def test_a_wrong_section_keeps_the_last_good_file(start, tmp_path) -> None:
    world = start({"mirror": {"model": "coder-v2", "share": 0.5}})
    path = tmp_path / "gateway.yaml"
    told = yaml.safe_load(path.read_text())
    told["roles"]["coder"] = {"consensus": {"models": ["one"]}}
    path.write_text(yaml.safe_dump(told))
    deadline = time.monotonic() + 10
    while not (problem := world.gateway.app.board.state()["file"]["problem"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "roles.coder.consensus" in problem
    mirror = world.gateway.app.board.ways("coder").mirror
    assert mirror is not None
    assert mirror.share == 0.5
    assert json.dumps(world.gateway.app.board.state())
