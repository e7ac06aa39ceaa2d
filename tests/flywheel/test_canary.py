"""A secret is driven through every way in, and then looked for everywhere: it must be nowhere.

Each way in has a canary of its own, so that a leak names its path. Searched are all tables as text,
and every file under the home folder: spools, held and rejected records, artifacts, logs.
"""

import base64
import json
import random
import string
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import httpx
import openai
import psycopg
import pytest
from upstream_app import Server, create_upstream_app

from collector import campaign
from collector.campaign.spec import spec_of
from collector.client import Flywheel
from collector.direct import DirectTransport
from collector.importers.run import Options, run_import
from collector.importers.source import Defaults
from flywheel.app import create_app
from foundation.database import session_scope
from foundation.ids import new_id
from foundation.settings import get_settings
from router.gateway import create_gateway_app

Canary = Callable[[str], str]

PATHS: dict[str, Callable[[SimpleNamespace, Canary], None]] = {}


def path(function: Callable[[SimpleNamespace, Canary], None]) -> object:
    PATHS[function.__name__] = function
    return function


@pytest.fixture
def canaries() -> dict[str, str]:
    return {}


@pytest.fixture
def canary(canaries) -> Canary:
    """Return a function that makes a text holding a fresh secret, remembered under a name."""
    rng = random.Random(7)

    def make(name: str) -> str:
        token = "ghp_" + "".join(rng.choices(string.ascii_letters + string.digits, k=36))
        canaries[name] = token
        return f"use {token} to push"

    return make


@pytest.fixture
def world(database, monkeypatch, tmp_path) -> Iterator[SimpleNamespace]:
    """The service, the gateway and an upstream, in one home folder."""
    with Server(create_upstream_app()) as upstream:
        mock = {"base_url": f"{upstream.url}/v1", "models": ["mock"]}
        monkeypatch.setenv("FLYWHEEL_UPSTREAMS", json.dumps({"mock": mock}))
        get_settings.cache_clear()
        home = get_settings().home
        with (
            Server(create_app()) as service,
            Server(create_gateway_app()) as gateway,
            httpx.Client(timeout=60) as http,
        ):
            client = Flywheel(service.url, spool=home / "spool" / "client", role="coder")
            yield SimpleNamespace(
                flywheel=client, service=service.url, gateway=gateway.url, upstream=upstream.url,
                home=home, files=tmp_path, database=database, http=http,
            )  # fmt: skip
            client.close()


@path
def client_record(world, canary) -> None:
    arguments = json.dumps({"token": canary("tool arguments")})
    call = {"id": "c", "type": "function", "function": {"name": "push", "arguments": arguments}}
    world.flywheel.record(
        request={
            "model": "m",
            "messages": [
                {"role": "user", "content": canary("request text")},
                {"role": "user", "content": [{"type": "text", "text": canary("typed part")}]},
            ],
            "tools": [{"type": "function", "function": {"name": canary("tool name")}}],
            canary("key of the request"): 1,
        },
        response={"choices": [{"message": {"content": canary("answer"), "tool_calls": [call]}}]},
        unit_id=canary("unit"),
        key=canary("key"),
        task_type=canary("task type"),
        error_type=canary("error type"),
        gen_ai_prompt_name=canary("prompt name"),
        attributes={"error": canary("error text"), "deep": [{"x": canary("attribute")}]},
    )


@path
def client_feedback(world, canary) -> None:
    world.flywheel.correct(canary("correction"), new_id())
    world.flywheel.feedback(
        "comment",
        interaction_id=new_id(),
        text=canary("comment"),
        actor=canary("actor"),
        details={"log": canary("details")},
    )
    world.flywheel.feedback("category", name=canary("name"), text="bad", response_id="r-1")


@path
def client_calls(world, canary) -> None:
    with world.flywheel.episode(task=canary("task"), unit=canary("episode unit")):
        messages = [{"role": "user", "content": "say " + canary("completion")}]
        world.flywheel.completion(messages=messages, model="m", base_url=f"{world.upstream}/v1")
        wrapped = world.flywheel.wrap(
            openai.OpenAI(base_url=f"{world.upstream}/v1", api_key=canary("api key"), max_retries=0)
        )
        wrapped.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "say " + canary("wrapped")}]
        )
        with suppress(openai.APIStatusError):
            wrapped.chat.completions.create(
                model=canary("model that fails"), messages=[{"role": "user", "content": "fail 429"}]
            )


@path
def raw_ingest(world, canary) -> None:
    good = {"id": str(new_id()), "role": "coder", "request": {"messages": [canary("raw record")]}}
    strange = {**good, "id": str(new_id()), "role": canary("unknown role")}
    invalid = {"id": canary("invalid id"), canary("unknown column"): canary("unknown value")}
    batch = {"source": "raw", "interactions": [good, strange, invalid], "feedback": [invalid]}
    answer = world.http.post(f"{world.service}/v1/ingest", json=batch)
    assert answer.status_code == 200
    assert [r["status"] for r in answer.json()["results"]] == ["stored", *["rejected"] * 3]
    lines = [{"source": "raw"}, {"kind": "interaction", "record": {**good, "id": str(new_id())}}]
    body = "\n".join(json.dumps(line) for line in lines) + "\n{" + canary("torn line")
    headers = {"content-type": "application/x-ndjson"}
    world.http.post(f"{world.service}/v1/ingest", content=body, headers=headers)


@path
def contents(world, canary) -> None:
    text = base64.b64encode(canary("text file").encode()).decode()
    url = f"data:text/plain;base64,{text}"
    world.flywheel.record(
        request={"messages": [{"role": "user", "content": [
            {"type": "file", "file": {"filename": canary("file name"), "file_data": url}},
            {"type": "image_url", "image_url": {"url": url}},
        ]}]},
        response={"choices": []},
    )  # fmt: skip


@path
def gateway(world, canary) -> None:
    headers = {
        "x-flywheel-role": "coder",
        "x-flywheel-unit": canary("gateway unit"),
        "x-flywheel-task-type": canary("gateway task type"),
    }
    for text in ("say " + canary("gateway"), "fail 400", "piece " + canary("gateway stream")):
        for stream in (False, True):
            body = {"model": "mock", "messages": [{"role": "user", "content": text}]}
            world.http.post(
                f"{world.gateway}/v1/chat/completions",
                json={**body, "stream": stream, "user": canary("end user")},
                headers=headers,
            )


@path
def feedback_api(world, canary) -> None:
    said = {"kind": "comment", "interaction_id": str(new_id()), "text": canary("posted comment")}
    answer = world.http.post(f"{world.service}/v1/feedback", json=said)
    assert answer.status_code == 200, answer.text
    report = (
        f'<testsuite tests="1" failures="1"><testcase name="{canary("test name")}">'
        f'<failure message="{canary("failure")}">{canary("trace")}</failure></testcase></testsuite>'
    )
    answer = world.http.post(
        f"{world.service}/v1/feedback/ci/junit?episode_id={new_id()}", content=report
    )
    assert answer.status_code == 200, answer.text


@path
def opentelemetry(world, canary) -> None:
    values = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.agent.name": "coder",
        "gen_ai.input.messages": json.dumps(
            [{"role": "user", "parts": [{"type": "text", "content": canary("span")}]}]
        ),
        "custom.attribute": canary("span attribute"),
    }
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": canary("span name"),
        "startTimeUnixNano": "1763700000000000000",
        "endTimeUnixNano": "1763700001000000000",
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in values.items()],
        "status": {"code": 2, "message": canary("span status")},
    }
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    answer = world.http.post(f"{world.service}/otlp/v1/traces", json=body)
    assert answer.status_code == 200, answer.text


@path
def collected(world, canary) -> None:
    def task(verb: str, name: str) -> str:
        return f"{verb} {canary(name)}"

    model = {"model": "openai/mock", "api_base": f"{world.upstream}/v1", "local": True}
    spec = {
        "name": "canaries",
        "role": "coder",
        "n": 3,
        "models": [model | {"parameters": {"api_key": "k"}}],
        "task": {"items": [task("say", "task"), task("plain", "failing"), {
            "task": task("say", "checked"), "topic": canary("topic"), "more": canary("more"),
        }]},
        "answer": {"system": canary("system")},
        "max_attempts": 1,
    }  # fmt: skip
    with session_scope() as session:
        campaign.create(session, spec_of(spec))
    campaign.run("canaries")


@path
def imports(world, canary) -> None:
    rows = {
        "chat_jsonl": {"messages": [
            {"role": "user", "content": canary("chat_jsonl")},
            {"role": "assistant", "content": canary("chat_jsonl answer")}]},
        "sharegpt": {"conversations": [
            {"from": "human", "value": canary("sharegpt")},
            {"from": "gpt", "value": canary("sharegpt answer")}]},
        "alpaca": {"instruction": canary("alpaca"), "input": "", "output": "done"},
        "dpo": {"prompt": canary("dpo"), "chosen": canary("chosen"), "rejected": canary("lost")},
        "kto": {"prompt": canary("kto"), "completion": canary("kto answer"), "label": True},
    }  # fmt: skip
    for format, row in rows.items():
        file = world.files / f"{format}.jsonl"
        file.write_text(f"{json.dumps(row)}\n{canary(f'{format} rejected line')}\n")
        rejects = world.files / f"{format}.rejects.jsonl"
        run_import(
            format, [file], DirectTransport(), Options(Defaults(role="coder"), rejects_path=rejects)
        )
        assert rejects.exists()


def lasting_leaks(
    world: SimpleNamespace, canaries: dict[str, str], patience_s: float = 60.0
) -> list[str]:
    """Return the leaks that stay: until they are scrubbed, raw lines rest in a spool."""
    deadline = time.monotonic() + patience_s
    while (found := leaks(world, canaries)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def searched(world: SimpleNamespace) -> list[Path]:
    rejects = world.files.glob("*.rejects.jsonl")
    return [path for path in (*world.home.rglob("*"), *rejects) if path.is_file()]


def leaks(world: SimpleNamespace, canaries: dict[str, str]) -> list[str]:
    """Return where each canary was found."""
    found = []
    with psycopg.connect(world.database) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = "
            "'public'::regnamespace AND NOT relispartition"
        ).fetchall()
        for (table,) in tables:
            rows = connection.execute(f'SELECT t::text FROM "{table}" t').fetchall()
            text = "\n".join(row for (row,) in rows)
            found += [f"{name} in table {table}" for name, c in canaries.items() if c in text]
    for file in searched(world):
        content = file.read_bytes()
        found += [f"{name} in {file}" for name, c in canaries.items() if c.encode() in content]
    return found


@pytest.mark.parametrize("name", sorted(PATHS))
def test_no_secret_survives_any_way_in(world, canary, canaries, name) -> None:
    PATHS[name](world, canary)
    assert world.flywheel.flush(60)
    await_gateway(world)
    assert canaries
    assert lasting_leaks(world, canaries) == []


def await_gateway(world: SimpleNamespace, patience_s: float = 60.0) -> None:
    """Wait until the gateway has shipped what it spooled."""
    deadline = time.monotonic() + patience_s
    while (counts := world.http.get(f"{world.gateway}/healthz").json()["records"])["waiting_bytes"]:
        assert time.monotonic() < deadline, counts
        time.sleep(0.05)


def test_a_service_that_is_away_leaves_only_scrubbed_records_in_the_spool(
    settings, canary, canaries
) -> None:
    home = settings.home
    client = Flywheel("http://127.0.0.1:9", spool=home / "spool", role="coder")
    client_record(SimpleNamespace(flywheel=client), canary)
    client_feedback(SimpleNamespace(flywheel=client), canary)
    client.close()
    content = b"".join(p.read_bytes() for p in Path(home).rglob("*") if p.is_file())
    assert b"GITHUB_TOKEN_1" in content
    assert [name for name, c in canaries.items() if c.encode() in content] == []
