"""What the engine is asked for and what it answers. No torch."""

from dataclasses import dataclass, field

from foundation.errors import BadInput


@dataclass(frozen=True, slots=True)
class Row:
    """One answer wanted.

    Attributes:
        prompt: token ids, at least one.
        adapter: name, or None for the base.
        max_new_tokens: most tokens of the answer, at least 1.
        temperature: 0 is greedy, at most 100.
        top_p: the smallest set of tokens with this probability is sampled from, in (0, 1].
        top_k: the likeliest tokens that are sampled from; 0: all.
        min_p: least probability of a sampled token, as a share of the likeliest one's, 0-1.
        seed: of the row's own numbers, which no other row and no batch changes.
        stop: strings before which the answer is cut.

    Raises:
        BadInput: a value out of its range.
    """

    prompt: list[int]
    adapter: str | None = None
    max_new_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value, is_right, expected in (
            ("prompt", len(self.prompt), len(self.prompt) > 0, "a token or more"),
            ("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature, 0 <= self.temperature <= 100, "0 (greedy) to 100"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1"),
            ("top_k", self.top_k, self.top_k >= 0, "0 (all) or more"),
            ("min_p", self.min_p, 0 <= self.min_p <= 1, "0 to 1"),
        ):
            if not is_right:
                raise BadInput(name, value, expected, "Correct the request.")


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer.

    Attributes:
        text: without end token, and cut before the first stop string.
        input_tokens: tokens of the prompt.
        output_tokens: tokens made, the end token included.
        finish_reason: `stop` (end token or stop string) or `length`.
        cached_tokens: tokens of the prompt whose keys and values were there already.
    """

    text: str
    input_tokens: int
    output_tokens: int
    finish_reason: str
    cached_tokens: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Scored:
    """A text as the model reads it, token by token.

    Attributes:
        tokens: the text in the tokenizer's pieces; a piece of a character reads as U+FFFD.
        offsets: where in the text each token begins, in characters.
        logprobs: natural logarithm of each token's probability after those before it; None for
            the first, which nothing stands before.
        best: the token that was the likeliest there, and its log-probability; None for the first.
    """

    tokens: list[str]
    offsets: list[int]
    logprobs: list[float | None]
    best: list[tuple[str, float] | None]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the engine holds at once.

    Attributes:
        rows: decoded together.
        kv_mb: MiB of keys and values of the rows under way; the youngest wait when it is full.
        prefix_mb: MiB of keys and values kept of prompts, for those that begin alike; 0: none.
        adapters_mb: MiB of adapter weights; the one not asked for longest is read again from its
            folder when it is wanted.
    """

    rows: int = 256
    kv_mb: int = 2048
    prefix_mb: int = 256
    adapters_mb: int = 2048

    def __post_init__(self) -> None:
        for name, value, least in (
            ("rows", self.rows, 1),
            ("kv_mb", self.kv_mb, 1),
            ("prefix_mb", self.prefix_mb, 0),
            ("adapters_mb", self.adapters_mb, 1),
        ):
            if value < least:
                raise BadInput(name, value, f"{least} or more", "See docs/engine.md.")
