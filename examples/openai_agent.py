"""A plain OpenAI agent with a tool: nothing of it is changed but its base URL.

    python -m examples.openai_agent

The gateway logs each call; role and episode stand in the URL. What became of the task is told
afterwards, about the episode's key.
"""

import ast
import json
import operator
import os

from openai import OpenAI

from collector.client import Flywheel

GATEWAY = os.environ.get("FLYWHEEL_GATEWAY_URL", "http://127.0.0.1:8711/v1").removesuffix("/v1")
MODEL = os.environ.get("MODEL", "pretend-1")

CALCULATE = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Work out a sum, such as 12 * (3 + 4).",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}
TASKS = {"invoice-17": ("What is 19 * 21 + 1?", "400"), "invoice-18": ("And 7 * 6?", "42")}
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def calculate(expression: str) -> str:
    """Work out sums, differences and products of numbers; nothing else is run."""

    def value(node: ast.expr) -> float:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](value(node.left), value(node.right))
        raise ValueError(f"{expression!r}: only numbers with + - * and brackets")

    return f"{value(ast.parse(expression, mode='eval').body):g}"


def work(key: str, question: str) -> str:
    """Answer one question in one episode; return the tool's result that the answer rests on."""
    client = OpenAI(base_url=f"{GATEWAY}/r/researcher/e/{key}/v1", api_key=_key())
    messages = [
        {"role": "system", "content": "Use the tool."},
        {"role": "user", "content": question},
    ]
    first = client.chat.completions.create(model=MODEL, messages=messages, tools=[CALCULATE])
    message = first.choices[0].message
    (call,) = message.tool_calls or []
    result = calculate(json.loads(call.function.arguments)["expression"])
    messages += [
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": result},
    ]
    client.chat.completions.create(model=MODEL, messages=messages, tools=[CALCULATE])
    return result


def _key() -> str:
    return os.environ.get("FLYWHEEL_API_KEY", "unused")


def main() -> None:
    """Answer the questions and say of each whether the result was right."""
    flywheel = Flywheel(role="researcher")
    for key, (question, expected) in TASKS.items():
        result = work(key, question)
        flywheel.outcome(result == expected, episode_key=key)
        print(f"{key}: {question} {result}")
    flywheel.close()


if __name__ == "__main__":
    main()
