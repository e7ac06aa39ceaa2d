"""What an agent does with a client's library against a gateway; run by test_real_clients.

Run in an environment that has the client and not this project. Prints what held, as JSON.
"""

import json
import os
import sys
from typing import Any

BASE, KEY, MODEL = (os.environ[name] for name in ("GATEWAY", "KEY", "MODEL"))
ID = "x-flywheel-interaction-id"


def langchain() -> dict[str, Any]:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
    from langgraph.graph import END, START, MessagesState, StateGraph

    @tool
    def write(path: str, note: str, n: float) -> str:
        """Write a note."""
        return "say done"

    connection: Any = {"base_url": f"{BASE}/v1", "api_key": KEY, "max_retries": 0}
    held: dict[str, Any] = {"ids": []}
    for api in ("chat", "responses"):
        model = ChatOpenAI(
            model=MODEL,
            use_responses_api=api == "responses",
            include_response_headers=True,
            **connection,
        )
        answer = model.invoke("say hello")
        held["ids"].append(answer.response_metadata["headers"][ID])
        held[f"{api}: answer"] = answer.text == "hello"
        held[f"{api}: usage"] = answer.usage_metadata["output_tokens"] == 3
        parts = [part.text for part in model.stream("say héllo")]
        held[f"{api}: stream"] = "".join(parts) == "héllo" and len(parts) > 3
        called = model.bind_tools([write]).invoke("tools please")
        held[f"{api}: tools"] = called.tool_calls[0]["args"]["path"] == 'a"b.py'
        result = ToolMessage("say done", tool_call_id=called.tool_calls[0]["id"])
        turn = [HumanMessage("tools please"), called, result]
        held[f"{api}: results of tools"] = model.bind_tools([write]).invoke(turn).text == "done"

        def ask(state: MessagesState, model: ChatOpenAI = model) -> dict[str, Any]:
            return {"messages": [model.invoke(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("ask", ask)
        graph.add_edge(START, "ask")
        graph.add_edge("ask", END)
        said = graph.compile().invoke({"messages": [HumanMessage("say hello")]})
        held[f"{api}: graph"] = said["messages"][-1].text == "hello"
    text = OpenAI(model="chats", **connection)
    held["completion"] = text.invoke("say hello") == "hello"
    held["streamed completion"] = "".join(text.stream("say héllo")) == "héllo"
    vectors = OpenAIEmbeddings(model="native", check_embedding_ctx_length=False, **connection)
    held["embeddings"] = vectors.embed_query("x") == [0.5, -0.25]
    return held


def openai_and_anthropic() -> dict[str, Any]:
    import anthropic
    import openai

    held: dict[str, Any] = {"ids": []}
    gpt: Any = openai.OpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0)
    asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "say hello"}]}
    raw = gpt.chat.completions.with_raw_response.create(**asked)
    held["ids"].append(raw.headers[ID])
    held["chat"] = raw.parse().choices[0].message.content == "hello"
    chunks = list(gpt.chat.completions.create(**asked, stream=True))
    held["chat stream"] = "".join(c.choices[0].delta.content or "" for c in chunks) == "hello"
    held["response"] = gpt.responses.create(model=MODEL, input="say hi").output_text == "hi"
    with gpt.responses.stream(model=MODEL, input="say hello") as stream:
        held["response stream"] = stream.get_final_response().output_text == "hello"
    text = gpt.completions.create(model="chats", prompt="say hello").choices[0].text
    held["completion"] = text == "hello"
    vectors = gpt.embeddings.create(model="native", input="x").data[0].embedding
    held["embeddings"] = vectors == [0.5, -0.25]
    held["models"] = MODEL in [model.id for model in gpt.models.list()]

    claude: Any = anthropic.Anthropic(base_url=BASE, api_key=KEY, max_retries=0)
    asked = {**asked, "max_tokens": 9}
    held["message"] = claude.messages.create(**asked).content[0].text == "hello"
    with claude.messages.stream(**asked) as stream:
        held["message stream"] = "".join(stream.text_stream) == "hello"
    tools: Any = [{"name": "write", "input_schema": {"type": "object"}}]
    asked["messages"] = [{"role": "user", "content": "tools please"}]
    with claude.messages.stream(**asked, tools=tools) as stream:
        called = stream.get_final_message().content[0]
    held["message with tools"] = called.input["path"] == 'a"b.py'
    held["tokens"] = (
        claude.messages.count_tokens(model=MODEL, messages=asked["messages"]).input_tokens == 3
    )
    return held


if __name__ == "__main__":
    wanted = langchain if os.environ["CLIENT"] == "langchain" else openai_and_anthropic
    sys.stdout.write(json.dumps(wanted()))
