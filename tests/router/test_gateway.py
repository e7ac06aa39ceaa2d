"""The gateway between the official client and a loopback upstream; each call leaves a record."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import openai
import pytest
from sqlmodel import Session, select
from upstream_app import TOOL_ARGUMENTS, Server, create_upstream_app

from collector.spool import Spool
from collector.tables import Feedback, Interaction, InteractionPayload
from flywheel.processes import free_port
from foundation.database import session_scope
from foundation.ids import keyed_episode_id, new_id
from foundation.settings import get_settings
from router import asgi, conversation, keys, usage, windows
from router import experiment as ab
from router.dialects import CHAT
from router.gateway import create_gateway_app
from router.promote import initial, promote
from router.recording import SOURCE, CallPreparer
from router.tables import CONTROL, PROMOTED, TREATMENT, Assignment, BudgetWindow
from router.tasks import watch


@pytest.fixture
def upstream() -> Iterator[Server]:
    with Server(create_upstream_app()) as server:
        yield server


@pytest.fixture
def world(session, make_version, upstream, monkeypatch) -> Iterator[SimpleNamespace]:
    """An upstream as engine and as `expert`, a role that is served, a gateway, and its clients."""
    first = make_version()
    initial(session, "coder", first)
    session.commit()
    monkeypatch.setenv("FLYWHEEL_ENGINE_URL", f"{upstream.url}/v1")
    expert = {"base_url": f"{upstream.url}/v1/", "api_key": "sk-expert", "models": ["expert"]}
    dead = {"base_url": "http://127.0.0.1:9/v1", "models": ["dead"]}
    monkeypatch.setenv("FLYWHEEL_UPSTREAMS", json.dumps({"expert": expert, "dead": dead}))
    get_settings.cache_clear()
    with Server(create_gateway_app()) as gateway:
        with openai_client(gateway.url) as client:
            yield SimpleNamespace(
                url=gateway.url, client=client, upstream=upstream, first=first,
                gateway=gateway.app.board,
            )  # fmt: skip


def openai_client(url: str, path: str = "/v1", **headers: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=url + path, api_key="none", max_retries=0, default_headers=headers or None
    )


def ask(text: str, model: str = "role:coder", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def ask_and_leave(world: SimpleNamespace) -> None:
    """Ask what is never answered, and leave as soon as the upstream has heard it."""
    heard = world.upstream.app.state.seen
    n_before, body = len(heard), json.dumps(ask("wait")).encode()
    host, port = world.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as caller:
        caller.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\n"
            b"host: localhost\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )
        eventually(lambda: len(heard) > n_before)


def eventually(found: Any, limit_s: float = 20.0) -> Any:
    """Poll until `found()` is truthy."""
    deadline = time.monotonic() + limit_s
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value


def stored(interaction_id: str) -> tuple[Interaction, InteractionPayload]:
    def look() -> Any:
        with session_scope() as own:
            row = own.exec(select(Interaction).where(Interaction.id == interaction_id)).first()
            payload = own.exec(
                select(InteractionPayload).where(InteractionPayload.id == interaction_id)
            ).first()
        return (row, payload) if row and payload else None

    return eventually(look)


def test_a_role_is_answered_by_who_serves_it_and_recorded(world) -> None:
    episode = str(new_id())
    raw = world.client.chat.completions.with_raw_response.create(
        **ask("say hello", temperature=0.5, max_tokens=9),
        extra_headers={"x-flywheel-episode": episode, "x-flywheel-task-type": "sum"},
    )
    assert raw.parse().choices[0].message.content == "hello"
    assert raw.headers["x-flywheel-model-version"] == "coder-v1"
    assert "x-flywheel-arm" not in raw.headers
    row, payload = stored(raw.headers["x-flywheel-interaction-id"])
    assert (row.role, row.status, row.completed, row.source) == ("coder", "success", True, SOURCE)
    assert (str(row.episode_id), row.task_type) == (episode, "sum")
    assert row.model_version_id == world.first.id
    assert (row.gen_ai_request_model, row.gen_ai_provider_name) == ("coder-v1", "engine")
    assert (row.gen_ai_usage_input_tokens, row.gen_ai_usage_output_tokens) == (7, 3)
    assert row.usage_estimated is False
    assert row.latency_ms >= row.ttft_ms > 0
    assert payload.request == ask("say hello", temperature=0.5, max_tokens=9)
    assert payload.response["choices"][0]["message"]["content"] == "hello"


def test_the_upstream_gets_the_same_bytes_but_for_the_model(world) -> None:
    body = (
        b'{ "messages":[{"role":"user","content":"say \\u00e9 h"}],"model":"role:coder","x":1.50}'
    )
    answer = httpx.post(f"{world.url}/v1/chat/completions", content=body)
    assert answer.status_code == 200
    headers, seen = world.upstream.app.state.seen[-1]
    assert seen == body.replace(b"role:coder", b"coder-v1")
    assert "authorization" not in headers, "the caller's key is not for the upstream"


def test_a_stream_arrives_piece_by_piece_and_is_recorded_whole(world) -> None:
    with world.client.chat.completions.with_streaming_response.create(
        **ask("tools wörld", stream=True)
    ) as raw:
        interaction = raw.headers["x-flywheel-interaction-id"]
        chunks = list(raw.parse())
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    arguments = "".join(
        call.function.arguments for c in chunks for call in c.choices[0].delta.tool_calls or []
    )
    assert (text, arguments) == ("wörld", TOOL_ARGUMENTS)
    row, payload = stored(interaction)
    assert (row.status, row.completed) == ("success", True)
    assert row.gen_ai_response_finish_reasons == ["tool_calls"]
    message = payload.response["choices"][0]["message"]
    assert message["content"] == "wörld"
    assert message["tool_calls"][0]["function"] == {"name": "write", "arguments": TOOL_ARGUMENTS}
    # This upstream states no usage in its stream: it is guessed, and the row says so.
    assert row.usage_estimated is True
    assert row.gen_ai_usage_output_tokens > 0
    assert 0 < row.ttft_ms <= row.latency_ms


def test_an_answer_that_speaks_of_done_is_recorded_whole(world) -> None:
    said = "ends with data: [DONE] and\ndata: [DONE]\n, or so"
    with world.client.chat.completions.with_streaming_response.create(
        **ask(f"piece {said}", stream=True)
    ) as raw:
        interaction = raw.headers["x-flywheel-interaction-id"]
        list(raw.parse())
    row, payload = stored(interaction)
    assert (row.status, row.completed) == ("success", True)
    assert payload.response["choices"][0]["message"]["content"] == said


def test_tool_calls_of_a_whole_answer_are_kept_byte_for_byte(world) -> None:
    raw = world.client.chat.completions.with_raw_response.create(**ask("tools x"))
    call = raw.parse().choices[0].message.tool_calls[0]
    assert call.function.arguments == TOOL_ARGUMENTS
    _, payload = stored(raw.headers["x-flywheel-interaction-id"])
    kept = payload.response["choices"][0]["message"]["tool_calls"][0]
    assert kept["function"]["arguments"] == TOOL_ARGUMENTS


def test_a_caller_who_leaves_a_stream_cancels_the_upstream(world) -> None:
    with world.client.chat.completions.with_streaming_response.create(
        **ask("drip", stream=True)
    ) as raw:
        interaction = raw.headers["x-flywheel-interaction-id"]
        for i, _ in enumerate(raw.parse()):
            if i == 3:
                break
    assert world.upstream.app.state.left.wait(10), "the upstream goes on for nobody"
    row, payload = stored(interaction)
    assert (row.status, row.completed, row.error_type) == ("cut", False, "client_gone")
    assert set(payload.response["choices"][0]["message"]["content"]) == {"x"}


def test_a_caller_who_leaves_before_the_answer_cancels_the_upstream(world) -> None:
    ask_and_leave(world)
    assert world.upstream.app.state.left.wait(10)
    row = eventually(lambda: latest("cut"))
    assert (row.completed, row.error_type) == (False, "client_gone")


def test_the_prompt_of_a_caller_who_left_counts_and_a_refusal_does_not(world, session) -> None:
    def used() -> float:
        session.expire_all()
        found = session.exec(
            select(BudgetWindow).where(
                BudgetWindow.scope == "role:coder", BudgetWindow.measure == "tokens_per_day"
            )
        ).all()
        return sum(window.used for window in found)

    with pytest.raises(openai.BadRequestError):
        world.client.chat.completions.create(**ask("fail 400"))
    ask_and_leave(world)
    eventually(used)
    session.rollback()
    assert used() < 100  # the prompt, not the 4,096 tokens that were promised for an answer


def test_many_answers_are_promised_for_up_to_a_bound() -> None:
    asked = [CHAT.read(json.dumps(ask("hi", n=n)).encode()) for n in (3, 10**9, 0, -1, "x")]
    assert [conversation._n_answers(one) for one in asked] == [3, 128, 1, 1, 1]


def latest(status: str) -> Interaction | None:
    with session_scope() as own:
        query = select(Interaction).where(Interaction.status == status)
        return own.exec(query.order_by(Interaction.id.desc())).first()


def test_an_upstream_error_is_passed_on_and_recorded(world) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        world.client.chat.completions.create(**ask("fail 429"))
    assert caught.value.code == "told_to"
    assert caught.value.response.headers["retry-after"] == "0"
    row, payload = stored(caught.value.response.headers["x-flywheel-interaction-id"])
    assert (row.status, row.completed, row.error_type) == ("error", False, "told_to")
    assert payload.response is None
    assert payload.attributes["error"] == "told to fail"
    assert [one["status"] for one in payload.attributes["attempts"]] == [429, 429]


@pytest.mark.parametrize(
    ("text", "status", "kind"),
    [("plain failure", 502, "http_502"), ("garbage", 502, "upstream_garbage")],
)
def test_what_is_no_openai_answer_becomes_an_openai_error(world, text, status, kind) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        world.client.chat.completions.create(**ask(text))
    assert caught.value.status_code == status
    assert caught.value.code == kind
    row, _ = stored(caught.value.response.headers["x-flywheel-interaction-id"])
    assert (row.status, row.error_type) == ("error", kind)


def test_an_error_before_a_stream_is_a_plain_error(world) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        world.client.chat.completions.create(**ask("fail 503", stream=True))
    row, _ = stored(caught.value.response.headers["x-flywheel-interaction-id"])
    assert (row.status, row.error_type) == ("error", "told_to")


def test_a_stream_that_breaks_tells_the_caller_and_keeps_what_came(world) -> None:
    with world.client.chat.completions.with_streaming_response.create(
        **ask("break", stream=True)
    ) as raw:
        interaction = raw.headers["x-flywheel-interaction-id"]
        with pytest.raises(openai.APIError) as caught:
            list(raw.parse())
    assert caught.value.code == "upstream_cut"
    row, payload = stored(interaction)
    assert (row.status, row.completed, row.error_type) == ("error", False, "upstream_cut")
    assert payload.response["choices"][0]["message"]["content"] == "half an ans"


def test_an_upstream_that_is_down(world) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        world.client.chat.completions.create(
            **ask("say x", "dead"), extra_headers={"x-flywheel-role": "tester"}
        )
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_unreachable")
    row, _ = stored(caught.value.response.headers["x-flywheel-interaction-id"])
    assert (row.role, row.status, row.gen_ai_provider_name) == ("tester", "error", "dead")


def test_a_plain_model_goes_to_its_upstream_with_its_key(world) -> None:
    raw = world.client.chat.completions.with_raw_response.create(
        **ask("say hi", "expert"), extra_headers={"x-flywheel-role": "reviewer"}
    )
    headers, _ = world.upstream.app.state.seen[-1]
    assert headers["authorization"] == "Bearer sk-expert"
    row, _ = stored(raw.headers["x-flywheel-interaction-id"])
    assert (row.role, row.model_version_id) == ("reviewer", None)
    assert (row.gen_ai_request_model, row.gen_ai_provider_name) == ("expert", "expert")


def test_any_other_provider_goes_through_litellm(world, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-provider")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{world.upstream.url}/v1")
    said = {"extra_headers": {"x-flywheel-role": "coder"}}
    whole = world.client.chat.completions.with_raw_response.create(
        **ask("tools hi", "openai/small"), **said
    )
    assert whole.parse().choices[0].message.tool_calls[0].function.arguments == TOOL_ARGUMENTS
    with world.client.chat.completions.with_streaming_response.create(
        **ask("say hi", "openai/small", stream=True), **said
    ) as raw:
        streamed = raw.headers["x-flywheel-interaction-id"]
        assert "".join(c.choices[0].delta.content or "" for c in raw.parse()) == "hi"
    for interaction in (whole.headers["x-flywheel-interaction-id"], streamed):
        row, _ = stored(interaction)
        assert (row.status, row.completed, row.gen_ai_provider_name) == ("success", True, "litellm")
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError, match="told to fail") as caught:
            world.client.chat.completions.create(
                **ask("fail 400", "openai/small", stream=stream), **said
            )
        assert caught.value.status_code == 400
        row, _ = stored(caught.value.response.headers["x-flywheel-interaction-id"])
        assert (row.status, row.error_type) == ("error", "refused:BadRequestError")


def test_a_caller_cannot_send_the_provider_s_key_elsewhere(world, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-provider")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{world.upstream.url}/v1")
    with Server(create_upstream_app()) as elsewhere:
        world.client.chat.completions.create(
            **ask("say hi", "openai/small"),
            extra_body={"api_base": f"{elsewhere.url}/v1", "base_url": f"{elsewhere.url}/v1"},
            extra_headers={"x-flywheel-role": "coder"},
        )
    assert elsewhere.app.state.seen == []
    assert len(world.upstream.app.state.seen) == 1


def test_role_and_episode_may_stand_in_the_path(world) -> None:
    episode = str(new_id())
    with openai_client(world.url, f"/r/tester/e/{episode}/v1") as client:
        raw = client.chat.completions.with_raw_response.create(**ask("say hi", "expert"))
    row, _ = stored(raw.headers["x-flywheel-interaction-id"])
    assert (row.role, str(row.episode_id)) == ("tester", episode)
    with openai_client(world.url, "/r/tester/v1") as client:
        assert "role:coder" in {model.id for model in client.models.list()}


@pytest.mark.parametrize(
    "key", ["pull-17", "acme/shop/pull/17", "añ o", "01a1ff7e-0690-77d4-ba2d-e037ec64e246"]
)
def test_a_base_url_alone_attributes_a_call_to_role_and_episode(world, key) -> None:
    path = f"/r/coder/e/{quote(key)}/v1"
    with openai.OpenAI(base_url=world.url + path, api_key="none", max_retries=0) as client:
        assert "expert" in {model.id for model in client.models.list()}
        raw = client.chat.completions.with_raw_response.create(**ask("say hi", "expert"))
        with client.chat.completions.create(**ask("say hi", "expert"), stream=True) as stream:
            assert "".join(c.choices[0].delta.content or "" for c in stream) == "hi"
    row, _ = stored(raw.headers["x-flywheel-interaction-id"])
    assert row.role == "coder"
    given = len(key) == 36
    assert row.episode_id == (UUID(key) if given else keyed_episode_id("default", key))

    def both() -> bool:
        with session_scope() as own:
            rows = own.exec(select(Interaction).where(Interaction.episode_id == row.episode_id))
            return len(rows.all()) == 2

    eventually(both)


@pytest.mark.parametrize(
    ("request_", "headers", "status", "words"),
    [
        (ask("say", "role:painter"), {}, 404, "'painter'.*FLYWHEEL_ROLES"),
        (ask("say", "role:tester"), {}, 404, "'tester'.*flywheel promote"),
        (ask("say", "gpt-9"), {"x-flywheel-role": "coder"}, 404, "'gpt-9'.*/v1/models"),
        (ask("say", "expert"), {}, 400, "x-flywheel-role"),
        (ask("say", "expert"), {"x-flywheel-role": "painter"}, 404, "painter"),
        (ask("say"), {"x-flywheel-parent": "7"}, 400, "parent.*UUID"),
        (ask("say"), {"x-flywheel-episode": "e" * 201}, 400, "200 characters"),
        (ask("say"), {"x-flywheel-unit": "u" * 201}, 400, "200 characters"),
    ],
)
def test_a_call_that_cannot_be_placed_is_refused_in_openai_s_words(
    world, request_, headers, status, words
) -> None:
    with pytest.raises(openai.APIStatusError, match=words) as caught:
        world.client.chat.completions.create(**request_, extra_headers=headers)
    assert caught.value.status_code == status
    assert caught.value.type == "invalid_request_error"
    assert world.upstream.app.state.seen == []


def test_half_a_request_is_refused(world) -> None:
    answer = httpx.post(f"{world.url}/v1/chat/completions", content=b'{"model": "role:co')
    assert answer.status_code == 400
    assert "request body" in answer.json()["error"]["message"]


def test_a_key_is_asked_for_where_one_is_set(world, monkeypatch) -> None:
    monkeypatch.setenv("FLYWHEEL_API_KEY", "sesame")
    get_settings.cache_clear()
    eventually(lambda: world.gateway.keyring.master)
    with pytest.raises(openai.AuthenticationError):
        world.client.chat.completions.create(**ask("say hi"))
    with pytest.raises(openai.AuthenticationError):
        world.client.models.list()
    opened = world.client.with_options(api_key="sesame")
    assert opened.chat.completions.create(**ask("say hi")).choices
    assert httpx.get(f"{world.url}/healthz").json()["status"] == "ok"


def test_a_promotion_is_followed_within_about_a_second(world, session, make_version) -> None:
    new = make_version()
    promote(session, "coder", new, reason="better", actor="ada")
    session.commit()

    def version() -> str:
        raw = world.client.chat.completions.with_raw_response.create(**ask("say hi"))
        return raw.headers["x-flywheel-model-version"]

    eventually(lambda: version() == new.name)


def test_a_secret_in_a_prompt_never_reaches_spool_or_table(world) -> None:
    raw = world.client.chat.completions.with_raw_response.create(
        **ask("say write to ada@example.com"), extra_headers={"x-flywheel-unit": "ada@example.com"}
    )
    row, payload = stored(raw.headers["x-flywheel-interaction-id"])
    assert "ada@example.com" not in json.dumps([payload.request, payload.response])
    assert row.unit_id.startswith("unit-")
    assert row.scrub
    folder = get_settings().home.absolute() / "spool"
    eventually(lambda: not any(holds(file, b"ada@example.com") for file in folder.rglob("*")))


def holds(file: Path, secret: bytes) -> bool:
    try:
        return file.is_file() and secret in file.read_bytes()
    except FileNotFoundError:  # a raw file is deleted once its records are scrubbed
        return False


# What is refused is recorded too, wherever the role is known.


def refusals() -> list[tuple[str, str, str]]:
    with session_scope() as own:
        rows = own.exec(select(Interaction).order_by(Interaction.id)).all()
        return [(row.role, row.status, row.error_type) for row in rows]


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "recorded"),
    [
        ("/r/coder/v1", ask("hi", "nobody"), 404, "not_found", "refused:not_found"),
        ("/v1", ask("hi", "role:reviewer"), 404, "not_found", "refused:not_found"),
        ("/r/coder/v1", {"model": 7}, 400, None, "refused:BadInput"),
        ("/r/coder/v1", b'{"model": "expert", "mess', 400, None, "refused:BadInput"),
        ("/r/coder/v1", b"[" * 100_000, 400, None, "refused:BadInput"),
        ("/r/painter/v1", ask("hi", "expert"), 404, "not_found", None),
        ("/v1", ask("hi", "expert"), 400, None, None),
    ],
    ids=["model", "unserved", "no-name", "half", "deep", "strange-role", "no-role"],
)
def test_a_refusal_is_an_openai_error_and_recorded(
    world, path, body, status, code, recorded
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = httpx.post(f"{world.url}{path}/chat/completions", content=content)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    if recorded is None:
        assert "x-flywheel-interaction-id" not in answer.headers
        return
    row, payload = stored(answer.headers["x-flywheel-interaction-id"])
    assert (row.status, row.error_type, row.completed) == ("error", recorded, False)
    assert payload.response is None


def test_a_refusal_is_worded_as_its_dialect_does(world) -> None:
    answer = httpx.post(f"{world.url}/r/coder/v1/messages", json=ask("hi", "nobody"))
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "not_found_error"


def test_a_key_opens_its_roles_only(world, session) -> None:
    _, secret = keys.create_key(session, "ada", roles=["coder"])
    session.commit()
    eventually(lambda: world.gateway.keyring.callers)
    for given, status in ((None, 401), ("fw_wrong", 401), (secret, 200)):
        headers = {"authorization": f"Bearer {given}"} if given else {}
        url = f"{world.url}/r/coder/v1/chat/completions"
        answer = httpx.post(url, json=ask("say hi", "expert"), headers=headers)
        assert answer.status_code == status
    row, payload = stored(answer.headers["x-flywheel-interaction-id"])
    assert (row.role, payload.attributes["key"]) == ("coder", "ada")
    assert row.key_id == keys.get_key(session, "ada").id
    answer = httpx.post(
        f"{world.url}/r/tester/v1/chat/completions", json=ask("say hi", "expert"), headers=headers
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    row, payload = stored(answer.headers["x-flywheel-interaction-id"])
    assert (row.role, row.error_type) == ("tester", "refused:forbidden")
    assert secret not in json.dumps(payload.model_dump(mode="json"))


def test_a_key_of_the_service_does_not_call_models(world, session) -> None:
    secrets = {
        scope: keys.create_key(session, scope, scopes=[scope])[1]
        for scope in ("gateway", "ingest", "metrics", "promote")
    }
    session.commit()
    eventually(lambda: world.gateway.keyring.callers)
    asked = {
        scope: [
            httpx.request(method, f"{world.url}{path}", json=body, headers={"x-api-key": secret})
            for method, path, body in (
                ("POST", "/r/coder/v1/chat/completions", ask("say hi", "expert")),
                ("GET", "/v1/models", None),
                ("GET", "/metrics", None),
            )
        ]
        for scope, secret in secrets.items()
    }
    assert {scope: [a.status_code for a in answers] for scope, answers in asked.items()} == {
        "gateway": [200, 200, 200],
        "ingest": [403, 403, 403],
        "metrics": [403, 403, 200],
        "promote": [403, 403, 403],
    }
    assert "--scope gateway" in asked["ingest"][0].json()["error"]["message"]


def test_no_other_site_calls_models_by_its_visitors_browsers(world) -> None:
    url = f"{world.url}/r/coder/v1/chat/completions"
    for headers in (
        {"host": "evil.example:8711"},  # a name that leads to this machine
        {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
        {"origin": "https://evil.example", "content-type": "text/plain"},
    ):
        answer = httpx.post(url, json=ask("say hi", "expert"), headers=headers)
        assert answer.status_code == 403, headers
    assert world.upstream.app.state.seen == []


def test_a_budget_that_is_spent_says_when_it_is_new(world, session) -> None:
    windows.set_limit(session, "role:coder", "tokens_per_day", 50, "ada")
    session.commit()
    url = f"{world.url}/v1/chat/completions"

    def refused() -> Any:
        answer = httpx.post(url, json=ask("say hi", max_tokens=100))
        return answer if answer.status_code == 429 else None

    answer = eventually(refused)
    assert answer.json()["error"]["code"] == "budget_exceeded"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["x-flywheel-budget-reset"].endswith("T00:00:00Z")
    row, _ = stored(answer.headers["x-flywheel-interaction-id"])
    assert row.error_type == "refused:budget_exceeded"


def test_what_a_call_took_is_settled_and_counted(world, session) -> None:
    for stream in (False, True):
        with world.client.chat.completions.with_streaming_response.create(
            **ask("say hi", stream=stream)
        ) as raw:
            stored(raw.headers["x-flywheel-interaction-id"] if list(raw.iter_bytes()) else "")
    (used,) = usage.summed(session, "role", 1)
    assert (used.group, used.n_calls, used.n_estimated) == ("coder", 2, 1)

    def nothing_is_promised() -> bool:
        accounts = world.gateway.budgets._accounts.values()
        return all(account.reserved == 0 for account in accounts)

    eventually(nothing_is_promised)


def test_a_long_prompt_passes_and_a_longer_one_is_refused(world, monkeypatch) -> None:
    asked = ask("say hi", "expert")
    asked["messages"].insert(0, {"role": "system", "content": "x" * (20 << 20)})
    answer = httpx.post(f"{world.url}/r/coder/v1/chat/completions", json=asked, timeout=60)
    assert answer.status_code == 200
    _, payload = stored(answer.headers["x-flywheel-interaction-id"])
    assert payload.request == asked
    monkeypatch.setenv("FLYWHEEL_MAX_PROMPT_BYTES", "2048")
    get_settings.cache_clear()
    for size, content in ((9_000, b"x" * 9_000), (90_000, iter([b"x" * 1_000] * 90))):
        answer = httpx.post(f"{world.url}/r/tester/v1/chat/completions", content=content)
        assert answer.status_code == 413, size
        assert "FLYWHEEL_MAX_PROMPT_BYTES" in answer.json()["error"]["message"]
        row, _ = stored(answer.headers["x-flywheel-interaction-id"])
        assert (row.role, row.error_type) == ("tester", "refused:TooLarge")


@pytest.mark.parametrize(
    "strange",
    [
        b'{"x": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"x": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"x": 1e999, "y": NaN}',
        b'{"max_tokens": ' + b"9" * 12 + b"}",
        b'{"seed": ' + b"9" * 400 + b', "temperature": ' + b"9" * 400 + b"}",
        b'{"a\\u0000b": "\\u0000\\ud800"}',
        b'{"model": "' + b"m" * 9000 + b'"}',
    ],
    ids=["deep", "deeper", "infinite", "long-answer", "huge-integers", "half-a-character", "name"],
)
@pytest.mark.parametrize("path", ["chat/completions", "responses", "messages"])
def test_a_strange_request_has_its_row_whatever_it_holds(world, path: str, strange: bytes) -> None:
    usual: dict[str, Any] = {**ask("say hi"), "input": "say hi", "max_tokens": 5}
    for name in ("max_tokens", "model"):
        if name.encode() in strange:
            del usual[name]
    body = json.dumps(usual)[:-1].encode() + b", " + strange[1:]
    answer = httpx.post(f"{world.url}/r/coder/v1/{path}", content=body)
    refused = {b"max_tokens": 429, b"model": 404}
    expected = next((status for name, status in refused.items() if name in strange), 200)
    assert answer.status_code == expected, answer.text
    stored(answer.headers["x-flywheel-interaction-id"])


def test_a_fault_of_our_own_is_answered_recorded_and_holds_no_budget(world, monkeypatch) -> None:
    async def fail(*asked: Any) -> Any:
        raise KeyError("nobody thought of it")

    monkeypatch.setattr(world.gateway.forwarder, "open", fail)
    with pytest.raises(openai.InternalServerError, match="KeyError on the way") as caught:
        world.client.chat.completions.create(**ask("say hi"))
    assert caught.value.code == "internal_error"
    row, _ = stored(caught.value.response.headers["x-flywheel-interaction-id"])
    assert (row.status, row.error_type) == ("error", "refused:internal_error")
    assert all(one.reserved == 0 for one in world.gateway.budgets._accounts.values())


def test_a_body_that_never_ends_is_answered(world, monkeypatch) -> None:
    monkeypatch.setattr(asgi, "BODY_S", 0.2)
    host, port = world.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as caller:
        caller.sendall(
            b"POST /r/coder/v1/chat/completions HTTP/1.1\r\n"
            b"host: localhost\r\ncontent-length: 99\r\n\r\n{"
        )
        assert caller.recv(65536).startswith(b"HTTP/1.1 408 ")
    eventually(lambda: ("coder", "error", "refused:TooSlow") in refusals())


def test_the_health_page_shows_this_process(world) -> None:
    world.client.chat.completions.create(**ask("say hi"))
    told = httpx.get(f"{world.url}/health").json()
    assert told["status"] == "ok"
    (process,) = told["processes"]
    assert {row["upstream"] for row in process["upstreams"]} == {"engine"}
    page = httpx.get(f"{world.url}/health", headers={"accept": "text/html"})
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "All upstreams answer" in page.text


def test_another_path_is_told_what_there_is(world) -> None:
    answer = httpx.get(f"{world.url}/v1/chat/completions")
    assert answer.status_code == 404
    assert "POST /v1/chat/completions" in answer.json()["error"]["message"]


# Experiments through the gateway.


@pytest.fixture
def live(world, session, make_version) -> ab.Experiment:
    treatment = make_version(kind="external", base_model="expert")
    running = ab.start(session, "coder", treatment, ab.PLANS["demo"], "ada")
    session.commit()
    eventually(lambda: "coder" in world.gateway.roster.experiments)
    return running


def call_in(world, episode: str, text: str = "say hi") -> tuple[str, str]:
    raw = world.client.chat.completions.with_raw_response.create(
        **ask(text), extra_headers={"x-flywheel-episode": episode}
    )
    return raw.headers["x-flywheel-arm"], raw.headers["x-flywheel-model-version"]


def test_an_episode_keeps_its_arm_and_the_assignment_comes_first(world, live, session) -> None:
    arms = {}
    for episode in (str(new_id()) for _ in range(12)):
        arm, version = call_in(world, episode)
        assert version == {CONTROL: "coder-v1", TREATMENT: "coder-v2"}[arm]
        assert call_in(world, episode) == (arm, version)
        arms[episode] = arm
    world.gateway.arms.known.clear()  # another process knows nothing yet, and agrees
    assert all(call_in(world, episode)[0] == arm for episode, arm in arms.items())
    rows = session.exec(select(Assignment)).all()
    assert {row.unit: row.arm for row in rows} == arms

    def counted() -> bool:
        with session_scope() as own:
            return all(row.n_calls == 3 for row in own.exec(select(Assignment)).all())

    eventually(counted)


def test_a_call_without_episode_is_a_unit_of_its_own(world, live, session) -> None:
    raw = world.client.chat.completions.with_raw_response.create(**ask("say hi"))
    interaction = raw.headers["x-flywheel-interaction-id"]
    row, _ = stored(interaction)
    assert (row.unit_id, row.experiment_id) == (interaction, live.id)
    session.add(Feedback(interaction_id=interaction, kind="success", value=1.0))
    session.flush()
    assert ab.collect_outcomes(session, live) == 1


def test_a_failing_arm_is_not_silently_replaced(world, live) -> None:
    for episode in (str(new_id()) for _ in range(4)):
        with pytest.raises(openai.InternalServerError) as caught:
            call_in(world, episode, "fail 500")
        headers = caught.value.response.headers
        row, _ = stored(headers["x-flywheel-interaction-id"])
        assert (row.arm, row.status) == (headers["x-flywheel-arm"], "error")

    def errors() -> int:
        with session_scope() as own:
            return sum(unit.n_errors for unit in own.exec(select(Assignment)).all())

    eventually(lambda: errors() == 4)


def test_what_a_caller_does_wrong_does_not_count_for_an_arm(world, live) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        call_in(world, str(new_id()), "fail 400")
    assert caught.value.code == "told_to"
    row, _ = stored(caught.value.response.headers["x-flywheel-interaction-id"])
    assert (row.status, row.error_type, row.experiment_id) == ("error", "refused:told_to", live.id)
    with session_scope() as own:
        unit = own.exec(select(Assignment)).one()
    assert (unit.n_calls, unit.n_errors) == (0, 0)


def test_the_winner_takes_over_through_the_gateway(world, live, session) -> None:
    for _ in range(110):
        episode = new_id()
        arm, _ = call_in(world, str(episode))
        session.add(Feedback(episode_id=episode, kind="success", value=float(arm == TREATMENT)))
    session.commit()
    assert watch()["experiments"] == {str(live.id): PROMOTED}
    eventually(lambda: "coder" not in world.gateway.roster.experiments)
    raw = world.client.chat.completions.with_raw_response.create(**ask("say hi"))
    assert raw.headers["x-flywheel-model-version"] == "coder-v2"
    assert "x-flywheel-arm" not in raw.headers


def test_an_engine_that_lost_an_adapter_is_given_it_again(
    session, make_version, monkeypatch, tmp_path
) -> None:
    from foundation import artifacts

    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    stored_adapter = artifacts.put(folder)
    initial(session, "coder", make_version(artifact_uri=stored_adapter.uri))
    session.commit()
    with Server(create_upstream_app(models=("base",))) as engine:
        monkeypatch.setenv("FLYWHEEL_ENGINE_URL", f"{engine.url}/v1")
        get_settings.cache_clear()
        with Server(create_gateway_app()) as gateway, openai_client(gateway.url) as client:
            answer = client.chat.completions.create(**ask("say hi"))
    assert answer.choices[0].message.content == "hi"
    assert [json.loads(body)["model"] for _, body in engine.app.state.seen] == ["coder-v1"] * 2


# What a kill leaves.

_RUN = """
import sys, uvicorn
from router.dialects import CHAT
from router.gateway import create_gateway_app
uvicorn.run(create_gateway_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
"""


def test_a_killed_gateway_loses_nothing_that_was_answered(
    session, make_version, upstream, monkeypatch, database
) -> None:
    initial(session, "coder", make_version())
    session.commit()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "FLYWHEEL_ENGINE_URL": f"{upstream.url}/v1"}
    child = subprocess.Popen([sys.executable, "-c", _RUN, str(port)], env=environment)
    seen: list[str] = []
    try:
        eventually(lambda: answers(url), 60.0)
        with openai_client(url) as client:
            for i in range(20):
                stream = i % 2 == 0
                with client.chat.completions.with_streaming_response.create(
                    **ask(f"say {i}", stream=stream)
                ) as raw:
                    seen.append(raw.headers["x-flywheel-interaction-id"])
                    list(raw.parse()) if stream else raw.parse()
            child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    folder = Path(get_settings().home).absolute() / "spool" / "gateway"
    left = Spool(folder, prepare=CallPreparer())
    left.adopt()
    batch = left.take()
    waiting = {line["record"]["id"] for line in batch.records} if batch else set()
    left.close()
    with session_scope() as own:
        kept = {str(row) for row in own.exec(select(Interaction.id)).all()}
    assert set(seen) <= waiting | kept
    # The next gateway of this home ships what the dead one left, each record once.
    with Server(create_gateway_app()):
        for interaction in seen:
            stored(interaction)
    with Session(session.get_bind()) as fresh:
        assert len(fresh.exec(select(Interaction)).all()) == 20


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def test_many_callers_at_once_each_leave_one_record(world) -> None:
    answered: list[str] = []

    def work() -> None:
        with openai_client(world.url) as client:
            for _ in range(5):
                raw = client.chat.completions.with_raw_response.create(**ask("say hi"))
                answered.append(raw.headers["x-flywheel-interaction-id"])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answered)) == 40

    def all_stored() -> bool:
        with session_scope() as own:
            return {str(i) for i in own.exec(select(Interaction.id)).all()} == set(answered)

    eventually(all_stored)
    counts = httpx.get(f"{world.url}/healthz").json()["records"]
    assert counts["seen"] == counts["spooled"] == 40
    assert counts["dropped"] == {}


def test_the_spool_tells_its_books_as_metrics(world) -> None:
    httpx.post(f"{world.url}/v1/chat/completions", json=ask("say hello"))
    seen = 'flywheel_spool_records{source="gateway",state="seen"} 1.0'
    assert seen in httpx.get(f"{world.url}/metrics").text.splitlines()
