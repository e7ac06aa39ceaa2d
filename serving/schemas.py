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

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings, without empty ones."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(stop for stop in stops if stop)


class CompletionRequest(BaseModel):
    """The part of OpenAI's older completion request that scores texts: `echo` and `logprobs`.

    What would have text generated is refused by `serving.served`: chats are what is generated here.
    """

    model: str
    prompt: str | list[str]
    echo: bool = False
    logprobs: int | None = None
    max_tokens: int | None = 16

    @property
    def texts(self) -> list[str]:
        """The prompts, also where it is one."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class AdapterRequest(BaseModel):
    """An adapter to load: what the API calls it, and its folder on the engine's machine."""

    name: str = Field(min_length=1, max_length=200)
    path: str = Field(min_length=1)


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
