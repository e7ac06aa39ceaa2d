"""Wire shapes of the engine's OpenAI-compatible API."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_CHOICES = 128
MAX_STOPS = 16
MAX_PROMPTS = 128
"""Texts that one request may have scored; they are one batch."""


class ChatMessage(BaseModel):
    """One message; other keys (name, tool_call_id) are carried to the chat template."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[dict[str, Any]] | None = None


class StreamOptions(BaseModel):
    """What a stream carries besides its text."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The part of OpenAI's chat completion request that the embedded engine honours.

    What would change the answer and is not supported (tools, response formats, log probabilities)
    is refused by `serving.api`, not ignored. Unknown keys are ignored, as other servers do.
    """

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    temperature: float = Field(default=1.0, ge=0, le=100)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=-1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | None = None
    prompt_logprobs: int | None = None

    @property
    def token_limit(self) -> int | None:
        """Most tokens of an answer, by its new or its old name; None: what the context allows."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(BaseModel):
    """The part of OpenAI's older completion request that is honoured: texts go on, or are scored.

    They are scored with `echo` and `max_tokens` 0; what asks for half of that is refused by
    `serving.requests`.
    """

    model: str
    prompt: str | list[str]
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    temperature: float = Field(default=1.0, ge=0, le=100)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=-1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    max_tokens: int | None = Field(default=16, ge=0)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    echo: bool = False
    logprobs: int | None = None

    @property
    def texts(self) -> list[str]:
        """The prompts, also where it is one."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def is_scored(self) -> bool:
        """Whether nothing is to be generated."""
        return self.max_tokens == 0 or self.echo or self.logprobs is not None

    @property
    def token_limit(self) -> int | None:
        """Most tokens of an answer; None: what the context allows."""
        return self.max_tokens


class BaseRequest(BaseModel):
    """A further base model to serve: what the API calls it, and its folder."""

    name: str = Field(min_length=1, max_length=200)
    path: str = Field(min_length=1)


class BaseAnswer(BaseModel):
    """A base model that is served, and the seconds that it took to load."""

    name: str
    path: str
    load_s: float


class AdapterRequest(BaseModel):
    """An adapter to load: what the API calls it, its folder, and its base if not the first."""

    name: str = Field(min_length=1, max_length=200)
    path: str = Field(min_length=1)
    base: str | None = None


class LoadLoraRequest(BaseModel):
    """vLLM's shape of the same."""

    lora_name: str = Field(min_length=1, max_length=200)
    lora_path: str = Field(min_length=1)


class UnloadLoraRequest(BaseModel):
    """vLLM's shape of an adapter to forget."""

    lora_name: str = Field(min_length=1)


class AdapterAnswer(BaseModel):
    """What became of an adapter."""

    name: str
    path: str
    status: Literal["loaded", "already loaded"]
