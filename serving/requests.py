"""What requests ask of a base model: rows to answer, texts to score; all that can be refused is."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from foundation.chat import text_of
from foundation.errors import BadInput
from serving.rows import Row
from serving.schemas import MAX_CHOICES, MAX_PROMPTS, ChatRequest, CompletionRequest
from serving.served import Served

if TYPE_CHECKING:
    from serving.engine import Engine


@dataclass(frozen=True)
class Wanted:
    """Rows to answer, and who answers them."""

    engine: "Engine"
    rows: list[Row]


def chat_rows(asked: ChatRequest, served: Served) -> Wanted:
    """Return the rows of a chat, one per choice.

    Raises:
        NotFound: an unknown model.
        BadInput: what the engine does not do, or a prompt longer than the context.
    """
    base, adapter = served.find(asked.model)
    _refuse_unsupported(asked)
    engine = served.engine_of(base)
    messages = [{**m.model_dump(), "content": text_of(m.content)} for m in asked.messages]
    try:
        prompt = engine.encode(messages)
    except TemplateError as error:
        raise BadInput(
            "messages", messages[-1], "messages that the chat template takes", str(error)
        ) from error
    return Wanted(engine, _rows(asked, "messages", [prompt], adapter, base.context_tokens))


def text_rows(asked: CompletionRequest, served: Served) -> Wanted:
    """Return the rows of texts to go on with, one per text and choice.

    Raises:
        NotFound: an unknown model.
        BadInput: no or too many texts, or one longer than the context.
    """
    base, adapter = served.find(asked.model)
    engine = served.engine_of(base)
    _count_texts(asked.texts)
    if len(asked.texts) * asked.n > MAX_CHOICES:
        raise BadInput("n", asked.n, f"{MAX_CHOICES} choices of all texts", "Ask for fewer.")
    prompts = engine.tokenizer(asked.texts)["input_ids"]
    return Wanted(engine, _rows(asked, "prompt", prompts, adapter, base.context_tokens))


def scored_texts(asked: CompletionRequest, served: Served) -> tuple["Engine", str | None]:
    """Return who scores the texts of a request: an engine, and its adapter or None.

    Raises:
        NotFound: an unknown model.
        BadInput: half of what scoring asks for, no or too many texts, or one too long or empty.
    """
    base, adapter = served.find(asked.model)
    for name, value, is_right, expected in (
        ("max_tokens", asked.max_tokens, asked.max_tokens == 0, "0 where texts are scored"),
        ("echo", asked.echo, asked.echo, "true: the log-probabilities are the prompt's"),
        ("logprobs", asked.logprobs, asked.logprobs in (0, 1), "0 or 1"),
        ("stream", asked.stream, not asked.stream, "false where texts are scored"),
    ):
        if not is_right:
            raise BadInput(name, value, expected, "To generate: neither echo nor logprobs.")
    _count_texts(asked.texts)
    engine = served.engine_of(base)
    for number, ids in enumerate(engine.tokenizer(asked.texts)["input_ids"]):
        if not 1 <= len(ids) <= base.context_tokens:
            raise BadInput(
                f"prompt[{number}]",
                f"{len(ids)} tokens",
                f"1 to {base.context_tokens} tokens, the context",
                "Cut the text into parts.",
            )
    return engine, adapter


def _rows(
    asked: ChatRequest | CompletionRequest,
    name: str,
    prompts: list[list[int]],
    adapter: str | None,
    context_tokens: int,
) -> list[Row]:
    """Return a row per prompt and choice; the choices of one prompt stand together."""
    seed = secrets.randbits(48) if asked.seed is None else asked.seed
    stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    rows: list[Row] = []
    for prompt in prompts:
        left = context_tokens - len(prompt)
        if left < 1 or not prompt:
            raise BadInput(
                name,
                f"{len(prompt)} tokens",
                f"1 or more, fewer than the context of {context_tokens} tokens",
                "Shorten the prompt.",
            )
        for _ in range(asked.n):
            rows.append(
                Row(
                    prompt,
                    adapter,
                    min(asked.token_limit or left, left),
                    asked.temperature,
                    asked.top_p,
                    max(asked.top_k, 0),
                    asked.min_p,
                    _seed_of_choice(seed, len(rows)),
                    tuple(stop for stop in stops if stop),
                )
            )
    return rows


def _count_texts(texts: list[str]) -> None:
    if not 1 <= len(texts) <= MAX_PROMPTS:
        raise BadInput("prompt", len(texts), f"1 to {MAX_PROMPTS} texts", "Send several.")


def _refuse_unsupported(asked: ChatRequest) -> None:
    response_type = (asked.response_format or {}).get("type", "text")
    for name, value, is_used in (
        ("tools", asked.tools, bool(asked.tools)),
        ("response_format", asked.response_format, response_type != "text"),
        ("logprobs", asked.logprobs, bool(asked.logprobs)),
        ("prompt_logprobs", asked.prompt_logprobs, asked.prompt_logprobs is not None),
    ):
        if is_used:
            raise BadInput(name, value, "plain text", "The embedded engine has none of it.")


def _seed_of_choice(seed: int, index: int) -> int:
    """Return the seed itself for the first choice, and one of its own for each other."""
    if index == 0:
        return abs(seed)
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:6], "big")
