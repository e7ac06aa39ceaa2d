"""What serving costs: figures by hand, a real engine process, servers that fail, what is stored."""

import json

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from sqlmodel import select
from typer.testing import CliRunner
from upstream_app import Server, create_upstream_app

from evaluator.answers import Answer, ChatServer, ModelServerUnavailable, Subject
from evaluator.beside import sections_beside
from evaluator.compare import compare
from evaluator.serving_cost import (
    WARM_UP,
    Batch,
    CostPlan,
    Timings,
    costs_of,
    dollars,
    measure_cost,
    ratios,
)
from evaluator.speed import median_of
from evaluator.suites import Task, add_suite
from evaluator.tables import Evaluation
from evaluator.tasks import EvaluationPlan, start_evaluation
from evaluator.timed import TimedAnswer, TimedServer
from flywheel.cli import app as command_line
from flywheel.measuring import measure_models
from foundation import artifacts
from foundation.database import session_scope
from foundation.errors import BadInput
from foundation.queue import declare_queues
from foundation.runs import execute
from foundation.settings import get_settings
from foundation.tables import DONE, Decision
from trainer.tables import ModelVersion

ASK = [{"role": "user", "content": "say hello you"}]
PLAN = CostPlan(requests=7, batches=6, batch_size=4, max_tokens=6, usd_per_hour=0.36)


def timings(factor=1.0, n=20):
    singles = [TimedAnswer(factor * (0.1 + 0.01 * i), factor * 0.05, 10, 20) for i in range(n)]
    answers = [Answer("x", 20.0)] * 4
    return Timings(singles, [Batch(factor * (0.2 + 0.01 * i), answers) for i in range(6)])


def subject(name="base", **settings):
    own = {"model": name, "base_url": "http://127.0.0.1:9/v1", **settings}
    return Subject(name, lambda prompts, seeds: [], settings=own)


def test_figures_by_hand():
    serving = {"load_s": 2.0, "adapter_load_s": {"coder-v1": 0.5}, "peak_rss_mb": 700.0}
    found = costs_of(subject("coder-v1", adapter="unmerged"), timings(), PLAN, serving)
    assert found["latency_ms"] == {"p50": pytest.approx(195), "p95": pytest.approx(280.5)}
    assert found["ttft_ms"] == {"p50": pytest.approx(50), "p95": pytest.approx(50)}
    assert found["tokens_per_s"]["4"]["median"] == pytest.approx((80 / 0.22 + 80 / 0.23) / 2, 1e-4)
    assert found["tokens_per_s"]["1"]["low"] < found["tokens_per_s"]["1"]["median"]
    assert (found["adapter"], found["batch_size"]) == ("unmerged", 4)
    assert (found["load_s"], found["adapter_load_s"], found["adapters_loaded"]) == (2.0, 0.5, 1)
    assert found["peak_vram_mb"] is None
    # 0.0001 dollars a second: 0.195 s alone, 0.225 s shared by four.
    assert found["usd_per_task"] == {
        "1": pytest.approx(1.95e-5),
        "4": pytest.approx(0.225 / 4 * 1e-4, rel=1e-3),
    }
    assert json.dumps(found)


def test_a_candidate_half_as_fast_is_so_in_every_ratio():
    found = ratios(timings(), timings(2.0), PLAN)
    assert found["latency"] == {"estimate": 2.0, "low": 2.0, "high": 2.0}
    assert found["ttft"]["estimate"] == 2.0
    assert found["tokens_per_s at batch 1"]["estimate"] == 0.5
    assert found["tokens_per_s at batch 4"] == {"estimate": 0.5, "low": 0.5, "high": 0.5}
    few = Timings(timings().singles[:3], timings().batches[:3])
    assert ratios(few, few, PLAN)["latency"] == {"estimate": 1.0, "low": None, "high": None}
    assert ratios(Timings(), Timings(), PLAN)["latency"] is None


def test_failed_requests_are_counted_and_leave_their_pair_out():
    slow = timings(2.0)
    slow.singles[0] = TimedAnswer(error="cut off")
    assert costs_of(subject(), slow, PLAN, {})["failed"] == 1
    assert ratios(timings(), slow, PLAN)["latency"]["estimate"] == 2.0
    lost = Batch(0.1, [Answer("x", 20.0), Answer(None)])
    assert lost.tokens_per_s is None
    with pytest.raises(ModelServerUnavailable, match="cut off"):
        costs_of(subject(), Timings([TimedAnswer(error="cut off")]), PLAN, {})


def test_dollars_come_from_the_price_list_or_from_the_machine():
    plan = CostPlan(batch_size=4)
    priced = subject("gpt-4o-mini", base_url="https://api.example.com/v1")
    listed = dollars(priced, timings(), plan)
    assert listed["usd_per_task"]["1"] == listed["usd_per_task"]["4"] > 0
    assert listed["usd_basis"] == "the price list"
    local = dollars(subject("gpt-4o-mini"), timings(), plan)
    assert local["usd_per_task"] is None, "a name alone has no price on this machine"
    assert "unknown" in local["usd_basis"]


def test_medians_have_intervals_from_six_values_on():
    assert median_of([]) is None
    assert median_of([1.0] * 5).low is None
    assert (median_of([3, 1, 2, 6, 5, 4]).low, median_of([3, 1, 2, 6, 5, 4]).high) == (1, 6)


def test_what_cannot_be_timed_is_refused():
    with pytest.raises(BadInput, match="prompts"):
        measure_cost([subject()], [], PLAN)
    with pytest.raises(BadInput, match="OpenAI-compatible"):
        measure_cost([Subject("x", lambda p, s: [], settings={"model": "x"})], [ASK], PLAN)
    for wrong in ({"requests": 0}, {"usd_per_hour": -1}):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            CostPlan(**wrong)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("fail 503", "503"),
        ("fail 429", "429"),
        ("break", ""),
        ("garbage", "no stream"),
        ("plain failure", "502"),
    ],
)
def test_a_stream_that_fails_is_no_answer(said, error):
    with Server(create_upstream_app()) as server, TimedServer(f"{server.url}/v1") as timed:
        found = timed.ask("gpt", [{"role": "user", "content": said}])
        assert found.seconds is None
        assert found.error
        assert error in found.error


def test_a_stream_is_timed_to_its_first_text_and_a_refusal_is_said():
    with Server(create_upstream_app(("gpt",))) as server, TimedServer(f"{server.url}/v1") as timed:
        found = timed.ask("gpt", ASK)
        assert 0 < found.ttft_s <= found.seconds
        with pytest.raises(BadInput, match="404.*no such model"):
            timed.ask("other", ASK)


@pytest.mark.parametrize("ending", [b"", b'data: {"error": {"message": "gone"}}\n\n', b"data: {\n"])
def test_a_stream_without_its_end_is_no_answer(ending):
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat(_: Request) -> StreamingResponse:
        async def pieces():
            yield b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
            yield ending

        return StreamingResponse(pieces())

    with Server(app) as server, TimedServer(f"{server.url}/v1") as timed:
        found = timed.ask("gpt", ASK)
        assert found.seconds is None
        assert found.error.startswith(("ValueError", "JSONDecodeError"))


def test_subjects_are_asked_the_same_prompts_in_turn_after_a_warm_up():
    app = create_upstream_app()
    prompts = [[{"role": "user", "content": f"say {i}"}] for i in range(3)]
    plan = CostPlan(requests=4, batches=2, batch_size=2, max_tokens=5)
    with Server(app) as server, ChatServer(f"{server.url}/v1", concurrency=2) as chat:
        found = measure_cost([chat.subject("a"), chat.subject("b")], prompts, plan)
    seen = [json.loads(body) for _, body in app.state.seen]
    singles = [(one["model"], one["messages"][0]["content"]) for one in seen if one.get("stream")]
    assert len(singles) == 2 * (WARM_UP + 4)
    assert singles[:6] == [
        ("a", "say 0"), ("b", "say 0"), ("b", "say 1"), ("a", "say 1"), ("a", "say 2"),
        ("b", "say 2"),
    ]  # fmt: skip
    batched = [one["model"] for one in seen if not one.get("stream")]
    assert batched == ["a", "a", "b", "b", "b", "b", "a", "a"] * 2
    assert {one["requests"] for one in found.values()} == {4}
    assert found["a"]["together"] == found["b"]["together"]
    assert found["a"]["adapter"] == "unknown"
    assert found["a"]["peak_rss_mb"] is None, "this server does not say"
    assert found["b"]["against"].keys() == {"a"}


@pytest.fixture
def versions(database, tiny_engine):
    """A suite, the engine's base as `coder-base` and its adapter as `coder-v1`."""
    declare_queues()
    tasks = [
        Task(f"t{i}", [{"role": "user", "content": f"add {i} and 1"}], "exact", {"answer": "1"})
        for i in range(3)
    ]
    stored = artifacts.put(tiny_engine.adapter)
    own = {"role": "coder", "base_model": str(tiny_engine.base)}
    with session_scope() as session:
        add_suite(session, "sums", "coder", tasks)
        session.add(ModelVersion(number=0, name="coder-base", kind="base", **own))
        session.add(
            ModelVersion(
                number=1,
                name="coder-v1",
                kind="adapter",
                artifact_uri=stored.uri,
                content_hash=stored.content_hash,
                **own,
            )
        )
    return stored


def test_a_real_engine_from_its_evaluation_to_the_verdict(versions, tiny_engine):
    names = ["coder-base", "coder-v1"]
    with session_scope() as session:
        run = start_evaluation(
            session,
            "sums",
            names,
            EvaluationPlan(2, max_tokens=4, batch_size=2, base_url=tiny_engine.base_url),
        )
    done = execute(run.id)
    assert done.status == DONE, done.error
    found = measure_models(
        "sums", names, PLAN, ["the sum is 7", "add 3 and 4"] * 3, tiny_engine.base_url
    )
    base, adapter = (one["serving"] for one in found)
    assert (base["adapter"], adapter["adapter"]) == ("none", "unmerged")
    for costs in (base, adapter):
        assert (
            0 < costs["ttft_ms"]["p50"] <= costs["latency_ms"]["p50"] <= costs["latency_ms"]["p95"]
        )
        assert costs["tokens_per_s"].keys() == {"1", "4"}
        assert costs["peak_rss_mb"] > 100
        assert costs["load_s"] > 0
        assert costs["usd_per_task"]["1"] > 0
        assert (costs["failed"], costs["warm_up"]) == (0, WARM_UP)
    assert (base["adapter_load_s"], adapter["adapter_load_s"] > 0) == (None, True)
    assert adapter["against"]["coder-base"]["latency"]["low"] > 0
    with session_scope() as session:
        rows = session.exec(select(Evaluation).order_by(Evaluation.id)).all()
        pair = sorted(rows, key=lambda row: row.subject)
        assert [str(row.id) for row in pair] == [str(one["evaluation_id"]) for one in found]
        verdict = compare(session, *pair)
        report = verdict.report
        assert report["identity"]["candidate_hash"] == versions.content_hash
        assert report["identity"]["candidate"]["is_proven"]
        assert report["cost"]["candidate"]["adapter"] == "unmerged"
        assert report["cost"]["candidate over baseline"] == adapter["against"]["coder-base"]
        assert report["likelihood"]["candidate over baseline"]["n_texts"] == 6
        assert report["likelihood"]["baseline"]["perplexity"] > 1
        basis = "batch size 2; adapter of the baseline: none, of the candidate: unmerged"
        decision = session.get_one(Decision, verdict.decision_id)
        assert decision.inputs["evidence"]["speed_basis"] == basis


def test_the_command_prints_a_line_for_each_measure(versions, tiny_engine, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("the sum is 7\nadd 3 and 4\n")
    options = f"--requests 1 --batches 1 --batch-size 2 --max-tokens 2 --likelihood {texts}"
    words = ["measure", "sums", "coder-base", "coder-v1", *options.split()]
    said = CliRunner().invoke(command_line, [*words, "--base-url", tiny_engine.base_url])
    assert said.exit_code == 0, said.output
    assert "tokens/s, batch 2" in said.output
    assert "coder-v1 / coder-base: latency x" in said.output
    assert "bits per byte" in said.output
    assert "coder-v1 has no evaluation on sums yet" in said.output


def test_without_an_address_the_engine_of_the_deployment_is_measured(versions, monkeypatch):
    app = create_upstream_app()
    with Server(app) as server:
        monkeypatch.setenv("FLYWHEEL_ENGINE_URL", f"{server.url}/v1")
        get_settings.cache_clear()
        [found] = measure_models("sums", ["gpt"], CostPlan(requests=1, batches=1, batch_size=2))
    assert found["serving"]["failed"] == 0


def test_what_was_not_measured_together_is_not_put_side_by_side():
    one, two = (
        Evaluation(subject=name, metrics={"serving": {"together": name, "against": {}}})
        for name in "ab"
    )
    assert sections_beside(one, two) == {}
    plain = Evaluation(subject="c", settings={"model_hash": "x"})
    assert sections_beside(plain, plain)["identity"]["is_same_content"]


def test_an_idle_adapter_is_not_evaluated(versions, tiny_engine):
    stored = artifacts.put(tiny_engine.untrained)
    with session_scope() as session:
        session.add(
            ModelVersion(
                role="coder",
                number=2,
                name="coder-v2",
                kind="adapter",
                base_model=str(tiny_engine.base),
                artifact_uri=stored.uri,
                content_hash=stored.content_hash,
            )
        )
        plan = EvaluationPlan(1, base_url=tiny_engine.base_url)
        run = start_evaluation(session, "sums", ["coder-v2"], plan)
    failed = execute(run.id)
    assert "changes nothing" in failed.error
    with session_scope() as session:
        assert session.exec(select(Evaluation)).all() == []
