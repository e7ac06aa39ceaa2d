import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlmodel import Session, col, select
from upstream_app import Server, create_upstream_app

from collector import campaign
from collector.campaign.idle import Utilisation
from collector.campaign.spec import CampaignSpec, spec_of
from collector.ingest import store_batch
from collector.record import interaction_record
from collector.schemas import IngestBatch
from collector.tables import Campaign, CampaignItem, Feedback, Interaction, InteractionPayload
from foundation import llm
from foundation.database import session_scope
from foundation.errors import BadInput, Conflict
from foundation.ids import new_id

FREE = {"input_usd_per_mtok": 0, "output_usd_per_mtok": 0}


@pytest.fixture
def upstream() -> Iterator[Server]:
    with Server(create_upstream_app()) as server:
        yield server
        kept = llm._litellm().in_memory_llm_clients_cache.cache_dict  # it keeps connections open
        for key, client in list(kept.items()):
            if isinstance(client, openai.OpenAI):
                client.close()
                del kept[key]


def spec(upstream: Server, **fields: Any) -> CampaignSpec:
    model = {"label": "m", "model": "openai/mock", "api_base": f"{upstream.url}/v1", **FREE}
    model |= fields.pop("model", {})
    values: dict[str, Any] = {
        "name": "c",
        "role": "coder",
        "n": 6,
        "models": [model],
        "task": {"template": "say $topic number $number"},
        "topics": {"lists": 2, "strings": 1},
        "max_tokens": 50,
        "concurrency": 2,
        **fields,
    }
    os.environ["CAMPAIGN_TEST_KEY"] = "k"
    for item in values["models"]:
        item.setdefault("api_key_env", "CAMPAIGN_TEST_KEY")
    return spec_of(values)


def plan(spec: CampaignSpec) -> None:
    with session_scope() as session:
        campaign.create(session, spec)


def run(spec: CampaignSpec, **options: Any) -> Campaign:
    plan(spec)
    return campaign.run(spec.name, **options)


def asked(upstream: Server) -> list[bytes]:
    return [body for _, body in upstream.app.state.seen]


def items(session: Session) -> list[CampaignItem]:
    return list(session.exec(select(CampaignItem).order_by(col(CampaignItem.number))))


def test_a_campaign_logs_an_answer_for_each_place_of_its_plan(session: Session, upstream) -> None:
    found = run(spec(upstream, difficulties={"easy": 1, "hard": 1}, temperature=0.5))
    assert (found.status, found.reason) == ("done", None)
    rows = session.exec(select(Interaction)).all()
    assert len(rows) == 6
    assert {(row.role, row.source) for row in rows} == {("coder", "campaign")}
    assert {row.gen_ai_prompt_name for row in rows} == {"c"}
    assert len({row.episode_id for row in rows}) == 6
    assert all(row.latency_ms is not None and row.latency_ms > 0 for row in rows)
    assert Counter(item.topic for item in items(session)) == {"lists": 4, "strings": 2}
    assert Counter(item.difficulty for item in items(session)) == {"easy": 3, "hard": 3}
    payloads = session.exec(select(InteractionPayload)).all()
    said = {p.response["choices"][0]["message"]["content"] for p in payloads}
    assert said == {f"{item.topic} number {item.number}" for item in items(session)}
    assert {p.request["temperature"] for p in payloads} == {0.5}
    assert "api_base" not in payloads[0].request
    assert found.report is not None
    assert (found.report["answered"], found.report["unique_ratio"]) == (6, 1.0)


def test_running_it_again_asks_nothing(session: Session, upstream: Server) -> None:
    run(spec(upstream))
    n_asked = len(asked(upstream))
    assert run(spec(upstream)).status == "done"
    assert len(asked(upstream)) == n_asked == 6


def test_a_campaign_that_never_started_may_be_corrected(session: Session, upstream) -> None:
    unpriced = {"input_usd_per_mtok": None, "output_usd_per_mtok": None}
    with pytest.raises(BadInput, match="a price"):
        run(spec(upstream, budget_usd=1, model=unpriced))
    assert run(spec(upstream, budget_usd=1)).n_done == 6


def test_a_name_belongs_to_one_specification(session: Session, upstream: Server) -> None:
    run(spec(upstream))
    with pytest.raises(Conflict, match="other values"):
        plan(spec(upstream, n=7))


@pytest.mark.parametrize(
    "model",
    [
        {"api_base": "http://me:hunter2x@models.test/v1"},
        {"parameters": {"api_key": "sk-" + "q7Zx81LmPw40RtVb92KdHs63"}},
    ],
)
def test_a_secret_in_a_model_is_refused_and_the_variable_named(session, upstream, model) -> None:
    with pytest.raises(BadInput, match="api_key_env"):
        plan(spec(upstream, model=model))
    assert session.exec(select(Campaign)).all() == []


def test_tasks_are_asked_and_kept_without_personal_data_and_not_asked_twice(
    session: Session, upstream: Server
) -> None:
    values = {"n": 2, "task": {"items": ["say hello to jo@x.org", "fail 401 of jo@x.org"]}}
    found = run(spec(upstream, topics={}, **values))
    assert b"jo@x" not in b"".join(asked(upstream))
    kept = [found, *items(session), *session.exec(select(InteractionPayload))]
    assert "jo@x" not in "".join(row.model_dump_json() for row in kept)
    assert run(spec(upstream, topics={}, **values)).n_done == 1
    again = run(spec(upstream, topics={}, **values, name="again"))
    assert (again.n_done, again.n_duplicate) == (0, 1)


def test_an_unknown_role_is_refused_before_anything_is_asked(session, upstream) -> None:
    with pytest.raises(BadInput, match="role"):
        plan(spec(upstream, role="poet"))


def test_tasks_that_the_log_or_the_campaign_has_are_drawn_anew_or_left(session, upstream) -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "SAY  blue, car!"}]}
    known = interaction_record(new_id(), "coder", request, None)
    with session_scope() as opened:
        store_batch(opened, IngestBatch(source="t", interactions=[known]))
    values = {"colour": ["blue", "red"], "thing": ["car", "hat"]}
    tasks = {"template": "say $colour $thing", "values": values, "max_draws": 60}
    found = run(spec(upstream, task=tasks, n=6))
    assert Counter(item.status for item in items(session)) == {"done": 3, "duplicate": 3}
    assert {item.task for item in items(session) if item.task} == {
        "say blue hat",
        "say red car",
        "say red hat",
    }
    assert found.report is not None
    assert (found.report["duplicates"], len(asked(upstream))) == (3, 3)


def test_models_share_the_places_by_weight(session: Session, upstream: Server) -> None:
    base = {"api_base": f"{upstream.url}/v1", **FREE}
    models = [
        {"label": "a", "model": "openai/a", "weight": 3, "parameters": {"top_p": 0.5}, **base},
        {"label": "b", "model": "openai/b", "weight": 1, **base},
    ]
    run(spec(upstream, models=models, n=8))
    rows = session.exec(select(Interaction)).all()
    assert Counter(row.gen_ai_response_model for row in rows) == {"a": 6, "b": 2}
    assert {r.gen_ai_request_top_p for r in rows if r.gen_ai_response_model == "a"} == {0.5}


def test_answers_are_checked_and_the_verdict_is_feedback(session: Session, upstream) -> None:
    tasks = [
        {"task": "say 4", "expected": "4", "topic": "sums"},
        {"task": "say 5", "expected": "6", "topic": "sums"},
        {"task": "say 7", "topic": "sums"},
    ]
    found = run(
        spec(upstream, n=3, task={"items": tasks}, topics={}, check={"kind": "exact"}),
    )
    assert [item.passed for item in items(session)] == [True, False, None]
    assert [item.topic for item in items(session)] == ["sums"] * 3
    assert items(session)[2].status == "failed"
    feedback = session.exec(select(Feedback)).all()
    assert Counter((f.kind, f.value, f.source) for f in feedback) == {
        ("success", 1.0, "test"): 1,
        ("success", 0.0, "test"): 1,
    }
    assert found.report is not None
    assert (found.report["accepted"], found.report["pass_rate"]) == (1, 0.5)
    assert found.report["by_topic"]["sums"]["pass_rate"] == 0.5
    assert found.report["failures"] == {"task": 1}


def test_a_model_invents_tasks_and_a_task_that_fails_itself_is_left(session, upstream) -> None:
    invent = 'say {"task": "say even $number", "expected": "even $number", "solution": "even 0"}'
    found = run(
        spec(upstream, n=2, task={"generator": invent}, check={"kind": "exact"}, concurrency=1)
    )
    first, second = items(session)
    assert (first.status, first.passed) == ("done", True)
    assert second.status == "failed"
    assert "its own solution fails its check" in str(second.detail)
    assert len(session.exec(select(Interaction)).all()) == 1
    assert found.report is not None and found.report["failed"] == 1  # noqa: PT018


def test_the_budget_is_never_passed_whatever_the_concurrency(session, upstream) -> None:
    priced = {"input_usd_per_mtok": 1000.0, "output_usd_per_mtok": 10_000.0}
    each_usd = (7 * 1000 + 3 * 10_000) / 1e6  # the upstream's usage: 7 tokens in, 3 out
    found = run(spec(upstream, n=40, concurrency=8, model=priced, budget_usd=1.9))
    assert (found.status, "budget" in str(found.reason)) == ("paused", True)
    n_done = sum(item.status == "done" for item in items(session))
    assert 0 < n_done < 40
    assert found.cost_usd == pytest.approx(n_done * each_usd)
    assert found.cost_usd <= 1.9
    rows = session.exec(select(Interaction.cost_usd)).all()
    assert sum(cost or 0 for cost in rows) == pytest.approx(found.cost_usd)
    # 50 tokens of output at most and the bytes of the prompt were set aside for each call
    assert 1.9 - found.cost_usd < 50 * 10_000 / 1e6 + 0.3


def test_a_budget_needs_prices(session: Session, upstream: Server) -> None:
    unpriced = {"input_usd_per_mtok": None, "output_usd_per_mtok": None}
    plan(spec(upstream, model=unpriced, budget_usd=1.0))
    with pytest.raises(BadInput, match="a price, since there is a budget"):
        campaign.run("c")


def test_a_key_that_is_not_set_is_named(session, upstream, monkeypatch) -> None:
    plan(spec(upstream, model={"api_key_env": "CAMPAIGN_NO_SUCH_KEY"}))
    monkeypatch.delenv("CAMPAIGN_NO_SUCH_KEY", raising=False)
    with pytest.raises(BadInput, match="CAMPAIGN_NO_SUCH_KEY"):
        campaign.run("c")


def test_calls_are_spaced_by_the_rate_limit(session: Session, upstream: Server) -> None:
    before = time.monotonic()
    run(spec(upstream, n=4, concurrency=4, requests_per_minute=600))
    assert time.monotonic() - before >= 0.3  # three intervals of 0.1 s between four calls


def test_a_passing_failure_is_tried_again(session: Session, upstream: Server) -> None:
    tasks = {"items": ["fail 503", "fail 400"]}
    found = run(spec(upstream, n=2, task=tasks, max_attempts=2, concurrency=1))
    assert [b"fail 503" in body for body in asked(upstream)] == [True, True, False]
    assert found.report is not None
    assert found.report["failed"] == 2


def test_failures_in_a_row_end_the_run(session: Session, upstream: Server) -> None:
    upstream.app.state.models = {"another"}
    found = run(spec(upstream, n=30))
    assert found.status == "paused"
    assert "calls in a row failed" in str(found.reason)
    assert len(asked(upstream)) < 10
    assert {item.status for item in items(session)} == {"failed", "planned"}
    assert session.exec(select(Interaction)).all() == []


def test_a_failed_place_is_done_by_the_next_run(session: Session, upstream: Server) -> None:
    upstream.app.state.models = {"another"}
    assert run(spec(upstream, n=2)).report["failed"] == 2  # type: ignore[index]
    upstream.app.state.models = set()
    assert campaign.run("c").report["answered"] == 2  # type: ignore[index]


LOCAL = {"local": True}


def test_local_models_run_only_within_the_window(session: Session, upstream: Server) -> None:
    api = {"label": "api", "model": "openai/api", "api_base": f"{upstream.url}/v1", "weight": 0}
    mine = {"label": "m", "model": "openai/mock", "api_base": f"{upstream.url}/v1", "local": True}
    idle = {"gpu_below": 0.3, "or_else": "api", "poll_s": 60}
    busy = spec(upstream, name="busy", models=[mine, api | FREE], idle=idle, n=2)
    run(busy, measured=lambda: Utilisation(0.9, 0.0))
    assert {item.model for item in items(session)} == {"api"}
    free = spec(upstream, name="free", models=[mine, api | FREE], idle=idle, n=2, seed=1)
    free_task = spec_of(free.as_json() | {"task": {"template": "say other $number"}})
    run(free_task, measured=lambda: Utilisation(0.1, 0.0))
    assert Counter(item.model for item in items(session)) == {"api": 2, "m": 2}


def test_without_another_model_a_campaign_waits_for_the_window(session, upstream) -> None:
    shares = iter([0.9, 0.9, 0.0])
    waits: list[str] = []
    limited = spec(upstream, model=LOCAL, n=1, idle={"gpu_below": 0.3, "poll_s": 0.05})

    def note(progress: campaign.Progress) -> None:
        waits.extend([progress.waiting] if progress.waiting else [])

    found = run(limited, measured=lambda: Utilisation(next(shares, 0.0), 0.0), on_progress=note)
    assert found.status == "done"
    assert "the GPU is used at 90%, not below 30%" in waits


def test_a_pause_by_another_process_is_noticed_and_resumed(session: Session, upstream) -> None:
    slow = spec(upstream, n=30, concurrency=1, requests_per_minute=1200)
    upstream.app.state.most = 10

    def pause_soon(progress: campaign.Progress) -> None:
        if 0 < progress.n_done < 30 and progress.n_left > 5:
            with session_scope() as other:
                if campaign.find(other, "c").status == "running":
                    campaign.pause(other, "c")
            upstream.app.state.most = None

    found = run(slow, on_progress=pause_soon)
    assert (found.status, found.reason) == ("paused", "by hand")
    n_before = sum(item.status == "done" for item in items(session))
    assert 0 < n_before < 30
    session.expire_all()
    assert campaign.run("c").status == "done"
    session.expire_all()
    assert len(session.exec(select(Interaction)).all()) == 30 == len(asked(upstream))


def test_a_cancelled_campaign_stays_so(session: Session, upstream: Server) -> None:
    plan(spec(upstream))
    with session_scope() as opened:
        campaign.cancel(opened, "c")
    with pytest.raises(Conflict, match="cancelled"):
        campaign.run("c")
    with pytest.raises(Conflict, match="cancelled"), session_scope() as opened:
        campaign.pause(opened, "c")


def test_only_one_process_runs_a_campaign(session: Session, upstream: Server) -> None:
    found: list[str] = []

    def again(progress: campaign.Progress) -> None:
        if not found:
            with session_scope() as opened:
                found.append(campaign.status_of(opened, campaign.find(opened, "c")))
            with pytest.raises(Conflict, match="no other process"):
                campaign.run("c")

    run(spec(upstream), on_progress=again)
    assert found == ["running"]


def test_an_interrupt_pauses_and_a_second_one_leaves(session: Session, upstream: Server) -> None:
    def interrupt(progress: campaign.Progress) -> None:
        raise KeyboardInterrupt

    found = run(spec(upstream, n=50, concurrency=1, requests_per_minute=600), on_progress=interrupt)
    assert (found.status, found.reason) == ("paused", "interrupted")
    assert campaign.run("c").status == "done"
    assert len(session.exec(select(Interaction)).all()) == 50 == len(asked(upstream))


RUNNER = """
import sys
from collector import campaign
campaign.run("c")
"""


def test_a_killed_campaign_goes_on_and_does_nothing_twice(session, upstream, database) -> None:
    plan(spec(upstream, n=40, concurrency=4))
    for _ in range(2):
        upstream.app.state.most = len(asked(upstream)) + 8  # it cannot end before it is killed
        environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
        process = subprocess.Popen([sys.executable, "-c", RUNNER], env=environment)
        n_before = _n_done()
        _wait_until(lambda n=n_before: _n_done() >= n + 5)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with session_scope() as opened:
            known = campaign.find(opened, "c")
            assert known.status == "running"
            _wait_until(lambda: _status() == "interrupted")
    upstream.app.state.most = None
    assert campaign.run("c").status == "done"
    rows = session.exec(select(Interaction)).all()
    assert len(rows) == 40
    assert len({item.interaction_id for item in items(session)}) == 40
    spent = len(asked(upstream)) - 40
    assert 0 <= spent <= 8  # at most the calls in hand were asked again


def _n_done() -> int:
    with session_scope() as opened:
        return campaign.progress_of(opened, campaign.find(opened, "c")).n_done


def _status() -> str:
    with session_scope() as opened:
        return campaign.status_of(opened, campaign.find(opened, "c"))


def _wait_until(holds: Any, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        threading.Event().wait(0.02)
