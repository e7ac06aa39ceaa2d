"""Embeddings: passed through, for no chat can answer them; recorded without their vectors.

https://platform.openai.com/docs/api-reference/embeddings
"""

from typing import Any

from collector.shapes import Json
from foundation.chat import message
from foundation.errors import BadInput
from router.dialects.chat import DONE, PassedOn, error_event, tell_chunks
from router.dialects.dialect import Asked, Dialect
from router.dialects.errors import openai_error

_BYTES_PER_NUMBER = 4
"""Of the vectors that are sent as base64: 32-bit floats."""


def chat_request(values: Json) -> Json:
    """Return the request as a chat, for the record: each text a user message."""
    given = values.get("input")
    texts = given if isinstance(given, list) else [given]
    messages = [message("user", text) for text in texts if isinstance(text, str)]
    return {**{k: v for k, v in values.items() if k != "input"}, "messages": messages}


def chat_response(answer: Json) -> Json:
    """Return what the record keeps of an answer: how many vectors, of how many dimensions."""
    data = answer["data"]
    kept = {name: value for name, value in answer.items() if name != "data"}
    dimensions = _dimensions(data[0].get("embedding")) if data else 0
    return {**kept, "embeddings": {"count": len(data), "dimensions": dimensions}}


def _dimensions(vector: Any) -> int:
    """Return the dimensions of a vector in numbers or in base64; 0 if it is neither."""
    if isinstance(vector, str):
        n_bytes = len(vector) * 3 // 4 - vector[-2:].count("=")
        return n_bytes // _BYTES_PER_NUMBER
    return len(vector) if isinstance(vector, list) else 0


def as_chat(values: Json) -> Json:
    """Refuse: no chat gives vectors; raises BadInput."""
    raise BadInput(
        "model",
        values.get("model"),
        "one whose upstream speaks embeddings",
        "Name another, or add embeddings to the dialects of its upstream.",
    )


def _answer(chat: Json, asked: Asked, identifier: str) -> Json:
    return as_chat(asked.values)


def _is_answer(values: Json) -> bool:
    data = values.get("data")
    return isinstance(data, list) and all(isinstance(item, dict) for item in data)


EMBEDDINGS = Dialect(
    name="embeddings",
    path="/v1/embeddings",
    operation="embeddings",
    last_event=DONE,
    is_answer=_is_answer,
    tell=tell_chunks,
    chat_request=chat_request,
    chat_response=chat_response,
    as_chat=as_chat,
    answer=_answer,
    translator=PassedOn,
    error=openai_error,
    error_event=error_event,
)
