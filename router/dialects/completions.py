"""Legacy text completions: as a chat, the prompt is one user message.

https://platform.openai.com/docs/api-reference/completions
"""

from typing import Any

from collector.shapes import Json
from foundation.chat import message, text_of
from foundation.errors import BadInput
from router.dialects.chat import (
    DONE,
    as_event,
    error_event,
    has_choices,
    tell_chunks,
)
from router.dialects.deltas import Chunk, ChunkReader, Delta
from router.dialects.dialect import Asked, Dialect
from router.dialects.errors import openai_error
from router.dialects.translating import StreamTranslator

_NATIVE_ONLY = ("suffix", "echo", "logprobs")
"""What a chat has no word for."""
_TURNED = frozenset({"prompt", "best_of", *_NATIVE_ONLY})


def chat_request(values: Json) -> Json:
    """Return the request as a chat, for the record; a prompt of token ids has no text."""
    prompt = values.get("prompt")
    texts = prompt if isinstance(prompt, list) else [prompt]
    messages = [message("user", text) for text in texts if isinstance(text, str)]
    kept = {name: value for name, value in values.items() if name not in _TURNED}
    return {**kept, "messages": messages}


def chat_response(answer: Json) -> Json:
    """Return the answer as a chat completion, for the record."""
    choices = [
        {
            "index": choice.get("index", 0),
            "message": message("assistant", text_of(choice.get("text"))),
            "finish_reason": choice.get("finish_reason"),
        }
        for choice in answer.get("choices") or []
    ]
    return {**answer, "object": "chat.completion", "choices": choices}


def as_chat(values: Json) -> Json:
    """Return the chat that a completion amounts to.

    Raises:
        BadInput: the prompt is no single text, or more is asked for than a chat can do.
    """
    prompt = values.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise _refused("prompt", values.get("prompt"), "one text")
    for name in _NATIVE_ONLY:
        if values.get(name):
            raise _refused(name, values[name], "none")
    if values.get("best_of") not in (None, 1, values.get("n")):
        raise _refused("best_of", values["best_of"], "as many as n")
    request = {name: value for name, value in values.items() if name not in _TURNED}
    request["messages"] = [message("user", prompt)]
    if request.get("stream"):
        request["stream_options"] = {"include_usage": True}
    return request


def _refused(name: str, value: Any, expected: str) -> BadInput:
    remedy = "Ask a chat, or a model whose upstream speaks completions itself."
    return BadInput(name, value, f"{expected}, since this model is asked by chats", remedy)


def answer(chat: Json, asked: Asked, identifier: str) -> Json:
    """Return the text completion that a chat completion amounts to."""
    chunk = ChunkReader().read(chat)
    made = _body(asked, identifier, chunk, chunk.deltas)
    return {**made, "usage": chunk.usage} if chunk.usage else made


def _body(asked: Asked, identifier: str, chunk: Chunk, deltas: tuple[Delta, ...]) -> Json:
    choices = [
        {
            "index": delta.choice,
            "text": delta.text,
            "logprobs": None,
            "finish_reason": "stop" if delta.finish_reason == "tool_calls" else delta.finish_reason,
        }
        for delta in deltas
    ]
    return {
        "id": f"cmpl-{identifier}",
        "object": "text_completion",
        "created": chunk.created,
        "model": chunk.model or asked.model,
        "choices": choices,
    }


class CompletionTranslator(StreamTranslator):
    """Turns the chunks of a chat into those of a text completion."""

    def add(self, chunk: Chunk) -> bytes:
        """Return the chunk's text, and its usage if that was asked for."""
        said = b""
        told = tuple(delta for delta in chunk.deltas if delta.text or delta.finish_reason)
        if told:
            said += as_event(_body(self.asked, self.identifier, chunk, told))
        if chunk.usage and self.asked.wants_usage:
            usage = {"usage": chunk.usage}
            said += as_event(_body(self.asked, self.identifier, chunk, ()) | usage)
        return said

    def close(self) -> bytes:
        """Return the last event."""
        return b"data: [DONE]\n\n"

    def failed(self, message: str, code: str) -> bytes:
        """Return the error."""
        return error_event(message, code)


COMPLETIONS = Dialect(
    name="completions",
    path="/v1/completions",
    operation="text_completion",
    last_event=DONE,
    is_answer=has_choices,
    tell=tell_chunks,
    chat_request=chat_request,
    chat_response=chat_response,
    as_chat=as_chat,
    answer=answer,
    translator=CompletionTranslator,
    error=openai_error,
    error_event=error_event,
    api="openai.completions",
)
