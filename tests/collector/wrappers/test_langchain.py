"""The callback of LangChain and LangGraph, with real models of theirs and a loopback provider.

langchain-core does not go with this project's pins: `make test-clients` runs these.
"""

import asyncio
import gc
from typing import Any
from uuid import UUID

import pytest

pytest.importorskip("langchain_core", reason="langchain-core is absent: run make test-clients")
pytest.importorskip("langchain_openai", reason="langchain-openai is absent: run make test-clients")

from langchain_core.language_models.fake import FakeListLLM
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from collector.wrappers.langchain import langchain_handler


@pytest.fixture(scope="session")
def run(provider):
    """Run a coroutine; always in one loop, as langchain-openai keeps one async client for all."""
    with asyncio.Runner() as runner:
        yield runner.run
        last = ChatOpenAI(model="gpt-x", base_url=f"{provider.url}/v1", api_key="k")
        last.root_client.close()
        runner.run(last.root_async_client.close())


@pytest.fixture
def handler(flywheel):
    return langchain_handler(flywheel)


@pytest.fixture
def model(provider, handler):
    return ChatOpenAI(
        model="gpt-x", base_url=f"{provider.url}/v1", api_key="k", max_retries=0,
        callbacks=[handler], temperature=0.5,
    )  # fmt: skip


def text_of(record: dict[str, Any]) -> str:
    return record["response"]["choices"][0]["message"]["content"]


def test_a_call_is_recorded_as_openai_has_it(model, record) -> None:
    messages = [SystemMessage("be brief"), HumanMessage("say hello")]
    assert model.invoke(messages).content == "hello"
    one = record()
    assert one["request"]["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "say hello"},
    ]
    assert one["request"]["model"] == "gpt-x"
    assert one["request"]["temperature"] == 0.5
    assert "stream" not in one["request"] or one["request"]["stream"] is False
    assert text_of(one) == "hello"
    assert one["response"]["choices"][0]["finish_reason"] == "stop"
    assert one["response"]["usage"]["prompt_tokens"] == 11
    assert (one["role"], one["status"], one["completed"]) == ("coder", "success", True)
    assert one["gen_ai_provider_name"] == "openai"
    assert one["gen_ai_response_id"].startswith("chatcmpl")
    assert one["latency_ms"] > 0
    assert UUID(one["id"]).version == 7


def test_async_calls_too(model, record, run) -> None:
    assert run(model.ainvoke("say hello")).content == "hello"
    assert text_of(record()) == "hello"


def test_a_stream_is_recorded_whole_with_its_first_token(model, record) -> None:
    assert "".join(chunk.content for chunk in model.stream("say hello")) == "hello"
    one = record()
    assert text_of(one) == "hello"
    assert 0 < one["ttft_ms"] <= one["latency_ms"]
    assert one["status"] == "success"


def test_a_stream_of_events_too(model, record) -> None:
    if not hasattr(model, "stream_events"):
        pytest.skip("this LangChain has no stream_events")
    list(model.stream_events("say hello", version="v3"))
    one = record()
    assert (text_of(one), one["status"]) == ("hello", "success")
    assert one["ttft_ms"] > 0


def test_an_async_stream_too(model, record, run) -> None:
    async def read() -> str:
        return "".join([chunk.content async for chunk in model.astream("say hello")])

    assert run(read()) == "hello"
    assert text_of(record()) == "hello"


def test_an_abandoned_stream_is_recorded_as_cut(model, record) -> None:
    for chunk in model.stream("say hello world"):
        if chunk.content:
            break
    del chunk
    gc.collect()
    one = record()
    assert (one["status"], one["completed"]) == ("cut", False)
    assert one.get("error_type") is None
    assert text_of(one) == "he"


def test_an_abandoned_async_stream_is_recorded_as_cut(model, record, run) -> None:
    async def leave() -> None:
        stream = model.astream("say hello world")
        async for chunk in stream:
            if chunk.content:
                break
        await stream.aclose()

    run(leave())
    one = record()
    assert (one["status"], text_of(one)) == ("cut", "he")


def test_a_stream_that_the_provider_cuts(model, record) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011  the client's own, of its version
        list(model.stream("break hello"))
    one = record()
    assert one["status"] == "cut"
    assert one["error_type"]


def test_a_failure_is_recorded_and_raised(model, record) -> None:
    with pytest.raises(Exception, match="told to fail"):
        model.invoke("fail 429")
    one = record()
    assert (one["status"], one["completed"]) == ("error", False)
    assert one["error_type"].endswith("RateLimitError")
    assert "told to fail" in one["attributes"]["error"]
    assert one["response"] is None


def test_each_try_of_a_retry_is_a_call(model, records) -> None:
    retrying = model.with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    retrying.invoke("flaky 500")
    assert [one["status"] for one in records()] == ["error", "success"]


def test_tool_calls_and_their_results(model, records) -> None:
    @tool
    def write(path: str) -> str:
        """Write a file."""
        return path

    answer = model.bind_tools([write]).invoke("tools")
    (asked,) = records()
    (call,) = asked["response"]["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "write"
    assert asked["request"]["tools"][0]["function"]["name"] == "write"
    assert asked["response"]["choices"][0]["finish_reason"] == "tool_calls"
    model.invoke([HumanMessage("tools"), answer, ToolMessage("done", tool_call_id=call["id"])])
    (told,) = records()
    user, assistant, result = told["request"]["messages"]
    assert assistant["tool_calls"][0]["id"] == call["id"]
    assert result == {"role": "tool", "content": "done", "tool_call_id": call["id"]}


def test_images_stay_parts(model, record) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    model.invoke([HumanMessage([{"type": "text", "text": "say hi"}, image])])
    content = record()["request"]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]
    assert content[1] == image


def test_a_batch_is_a_record_each(model, records) -> None:
    model.batch(["say a", "say b", "say c"])
    found = records()
    assert sorted(text_of(one) for one in found) == ["a", "b", "c"]
    assert len({one["id"] for one in found}) == 3


def test_a_chain_is_one_episode_and_another_one_is_another(model, records, handler) -> None:
    chain = RunnableLambda(lambda text: text) | model | RunnableLambda(
        lambda message: model.invoke("say again")
    )  # fmt: skip
    chain.invoke("say first", config={"callbacks": [handler]})
    first = records()
    assert len({one["episode_id"] for one in first}) == 1
    assert len(first) == 2
    model.invoke("say else")
    (other,) = records()
    assert other["episode_id"] != first[0]["episode_id"]


def test_an_open_episode_wins(model, flywheel, record) -> None:
    with flywheel.episode(task_type="sum", role="tester") as episode:
        model.invoke("say hello")
    one = record()
    assert (one["episode_id"], one["role"]) == (str(episode.id), "tester")
    assert one["task_type"] == "sum"


def test_an_open_episode_is_seen_from_async_code(model, flywheel, record, run) -> None:
    async def call() -> str:
        with flywheel.episode(role="tester") as episode:
            await model.ainvoke("say hello")
        return str(episode.id)

    assert run(call()) == record()["episode_id"]


@pytest.mark.parametrize(
    "config",
    [{"tags": ["x", "role:reviewer"]}, {"metadata": {"agent_role": "reviewer"}}],
    ids=["tag", "metadata"],
)
def test_role_of_tags_or_metadata(model, record, config) -> None:
    model.invoke("say hello", config=config)
    assert record()["role"] == "reviewer"


def test_nodes_of_a_graph_have_their_roles(provider, flywheel, records) -> None:
    graphs = pytest.importorskip("langgraph.graph")
    model = ChatOpenAI(model="gpt-x", base_url=f"{provider.url}/v1", api_key="k", max_retries=0)

    def work(state: dict[str, Any]) -> dict[str, Any]:
        return {"messages": [*state["messages"], model.invoke(state["messages"])]}

    inner = graphs.StateGraph(dict)
    inner.add_node("agent", work)
    inner.add_edge(graphs.START, "agent")
    graph = graphs.StateGraph(dict)
    graph.add_node("write", work)
    graph.add_node("check", inner.compile())
    graph.add_edge(graphs.START, "write")
    graph.add_edge("write", "check")
    handler = langchain_handler(flywheel, roles={"write": "coder", "check": "tester"})
    config = {"callbacks": [handler], "configurable": {"thread_id": "t-1"}}
    graph.compile().invoke({"messages": [HumanMessage("say hello")]}, config=config)
    first, second = records()
    assert (first["role"], second["role"]) == ("coder", "tester")
    assert first["episode_id"] == second["episode_id"]
    assert first["attributes"] == {"langgraph_node": "write"}
    assert first["gen_ai_conversation_id"] == "t-1"


def test_a_call_inside_a_tool_knows_who_asked_for_the_tool(
    provider, flywheel, model, records
) -> None:
    nodes = pytest.importorskip("langgraph.prebuilt")
    graphs = pytest.importorskip("langgraph.graph")

    @tool
    def write(path: str, note: str, n: float, q: list) -> str:
        """Ask another model."""
        return str(model.invoke("say inner").content)

    handler = langchain_handler(flywheel)
    asking = ChatOpenAI(
        model="gpt-x", base_url=f"{provider.url}/v1", api_key="k", max_retries=0
    ).bind_tools([write])
    graph = graphs.StateGraph(graphs.MessagesState)
    graph.add_node("ask", lambda state: {"messages": [asking.invoke(state["messages"])]})
    graph.add_node("tools", nodes.ToolNode([write]))
    graph.add_edge(graphs.START, "ask")
    graph.add_edge("ask", "tools")
    model.callbacks = []
    graph.compile().invoke({"messages": [HumanMessage("tools")]}, config={"callbacks": [handler]})
    outer, inner = records()
    assert text_of(inner) == "inner"
    assert inner["parent_id"] == outer["id"]
    assert inner["episode_id"] == outer["episode_id"]


def test_a_wrapped_client_below_records_nothing_twice(model, flywheel, records, run) -> None:
    flywheel.wrap(model.root_client)
    flywheel.wrap(model.root_async_client)
    model.invoke("say hello")
    assert run(model.ainvoke("say hello")).content == "hello"
    assert [text_of(one) for one in records()] == ["hello", "hello"]
    seen = []
    for chunk in model.stream("say hello"):
        if chunk.content and not seen:
            own = model.root_client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "say own"}]
            )
            seen.append(own.choices[0].message.content)
    assert sorted(text_of(one) for one in records()) == ["hello", "own"]
    model.root_client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "say later"}]
    )
    assert [text_of(one) for one in records()] == ["later"]


def test_our_gateway_records_its_calls_itself(provider, handler, records) -> None:
    model = ChatOpenAI(
        model="role:coder", base_url=f"{provider.url}/v1", api_key="k", callbacks=[handler]
    )
    model.invoke("say hello")
    assert records() == []


def test_a_text_model(flywheel, record, handler) -> None:
    model = FakeListLLM(responses=["world"], callbacks=[handler])
    assert model.invoke("hello") == "world"
    one = record()
    assert one["gen_ai_operation_name"] == "text_completion"
    assert one["request"]["prompt"] == "hello"
    assert one["response"]["choices"][0]["text"] == "world"


def test_usage_and_reasoning_of_any_provider(flywheel, record, handler) -> None:
    message = AIMessage(
        content="4",
        additional_kwargs={"reasoning_content": "two and two"},
        usage_metadata={
            "input_tokens": 7, "output_tokens": 3, "total_tokens": 10,
            "input_token_details": {"cache_read": 2}, "output_token_details": {"reasoning": 1},
        },
        response_metadata={"stop_reason": "end_turn", "model_name": "other-1"},
    )  # fmt: skip
    GenericFakeChatModel(messages=iter([message]), callbacks=[handler]).invoke("2 + 2?")
    one = record()
    said = one["response"]["choices"][0]
    assert said["finish_reason"] == "stop"
    assert said["message"]["reasoning_content"] == "two and two"
    assert one["response"]["model"] == "other-1"
    assert one["gen_ai_usage_input_tokens"] == 7
    assert one["response"]["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert one["response"]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 1}


def test_without_a_role_a_call_is_counted_as_dropped(model, flywheel, records) -> None:
    flywheel.role = None
    assert model.invoke("say hello").content == "hello"
    assert records() == []
    assert flywheel.counts()["dropped"] == {"no_role": 1}


def test_nothing_is_kept_of_runs_that_ended(model, handler, records) -> None:
    chain = RunnableLambda(lambda text: text) | model
    for _ in range(5):
        chain.invoke("say hello", config={"callbacks": [handler]})
    with pytest.raises(Exception, match="told to fail"):
        chain.invoke("fail 500", config={"callbacks": [handler]})
    assert handler.recorder._runs == {}
    assert len(records()) == 6


def test_open_calls_are_recorded_as_cut_at_the_end_of_the_process(model, handler, record) -> None:
    stream = model.stream("say hello world")
    while not next(stream).content:
        pass
    handler.recorder.end_open_calls()
    one = record()
    assert (one["status"], text_of(one)) == ("cut", "he")
    stream.close()
