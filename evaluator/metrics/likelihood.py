"""How well models predict texts: perplexity per token, and bits per byte.

A perplexity is a mean over tokens, so it compares models of one tokenizer only; bits per UTF-8 byte
compare across tokenizers. Both move a little with the batch that a text is scored in, so baseline
and candidate score the same batches, in turn, and the size of a batch stands beside the figures.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from foundation.errors import BadInput
from serving.backends.prompt_logprobs import ScoredText, prompt_logprobs

BATCH_SIZE: Final = 8
RESAMPLES: Final = 2_000
_SEED: Final = 20_240
_DIGITS: Final = 6

Score = Callable[[list[str]], list[ScoredText]]
"""Scores a batch of texts, in order."""


@dataclass(frozen=True)
class TextLikelihood:
    """One text as one model reads it.

    Attributes:
        nats: how much the tokens that were scored surprised it, in all; 0 or more.
        n_tokens: the tokens that were scored: all but the first, where no start token is added.
        n_bytes: the UTF-8 bytes of those tokens.
    """

    nats: float
    n_tokens: int
    n_bytes: int


@dataclass(frozen=True)
class Likelihood:
    """How well a model predicts texts.

    Attributes:
        texts: one by one, in order.
        batch_size: texts that were scored together.
    """

    texts: tuple[TextLikelihood, ...]
    batch_size: int

    @property
    def perplexity(self) -> float | None:
        """The exponential of the mean surprise of a token; None if no token was scored."""
        n_tokens = sum(text.n_tokens for text in self.texts)
        return math.exp(min(700.0, self._nats / n_tokens)) if n_tokens else None

    @property
    def bits_per_byte(self) -> float | None:
        """The mean surprise of a byte, in bits; None if no byte was scored."""
        n_bytes = sum(text.n_bytes for text in self.texts)
        return self._nats / math.log(2) / n_bytes if n_bytes else None

    @property
    def _nats(self) -> float:
        return math.fsum(text.nats for text in self.texts)

    def as_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON."""
        return {
            "perplexity": _rounded(self.perplexity),
            "bits_per_byte": _rounded(self.bits_per_byte),
            "n_texts": len(self.texts),
            "n_tokens": sum(text.n_tokens for text in self.texts),
            "n_bytes": sum(text.n_bytes for text in self.texts),
            "batch_size": self.batch_size,
        }


@dataclass(frozen=True)
class LikelihoodDifference:
    """Candidate minus baseline in bits per byte, with its 95 % interval; below 0 is better.

    The interval is a percentile bootstrap over texts, the same texts for both; it is None for fewer
    than six texts, of which no honest one can be had.
    """

    bits_per_byte: float
    low: float | None
    high: float | None
    n_texts: int

    def as_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON."""
        return {
            name: _rounded(value) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def scorer(base_url: str, model: str, api_key: str | None = None) -> Score:
    """Return a model of a server as something that scores; see `prompt_logprobs` for errors."""
    return lambda texts: prompt_logprobs(base_url, model, texts, api_key)


def measure_likelihood(
    models: Mapping[str, Score], texts: Sequence[str], batch_size: int = BATCH_SIZE
) -> dict[str, Likelihood]:
    """Have all models score the same batches of texts; who comes first alternates.

    Args:
        models: name -> its way to score; `scorer` makes one of a server's model.
        texts: at least one, none empty, in the order that they are batched in.
        batch_size: texts in a batch.

    Raises:
        BadInput: no texts, an empty one, or no batch size.
        NoPromptLogprobs: a server does not tell the log-probabilities of prompts, or refuses.
        EngineUnavailable: a server does not answer.
    """
    if not texts or not all(texts):
        raise BadInput("texts", len(texts), "one or more, none empty", "Leave empty ones out.")
    if batch_size < 1:
        raise BadInput("batch_size", batch_size, "1 or more", "The default will do.")
    order = list(models)
    found: dict[str, list[TextLikelihood]] = {name: [] for name in models}
    for number, batch in enumerate(_batches(list(texts), batch_size)):
        for name in order if number % 2 == 0 else reversed(order):
            found[name] += map(text_likelihood, models[name](batch))
    return {name: Likelihood(tuple(own), batch_size) for name, own in found.items()}


def text_likelihood(scored: ScoredText) -> TextLikelihood:
    """Return the figures of one scored text.

    A first token that nothing stands before has no probability; its bytes are not counted either.
    A start token, which is no part of the text, takes no bytes from it.
    """
    known = [logprob for logprob in scored.logprobs if logprob is not None]
    unscored = len(scored.logprobs) - len(known)
    head = "".join(scored.tokens[:unscored])
    skipped = len(head.encode()) if scored.text.startswith(head) else 0
    n_bytes = len(scored.text.encode(errors="surrogatepass")) - skipped
    return TextLikelihood(max(0.0, -math.fsum(known)), len(known), n_bytes if known else 0)


def difference(baseline: Likelihood, candidate: Likelihood) -> LikelihoodDifference | None:
    """Compare two models on the same texts; None where nothing was scored.

    Raises:
        BadInput: they scored different numbers of texts, or in batches of different sizes.
    """
    shapes = [(len(one.texts), one.batch_size) for one in (baseline, candidate)]
    if shapes[0] != shapes[1]:
        raise BadInput(
            "texts and batch size",
            shapes[1],
            f"{shapes[0]}, as of the baseline",
            "Measure both.",
        )
    before, after = (one.bits_per_byte for one in (baseline, candidate))
    if before is None or after is None:
        return None
    low, high = _interval(baseline, candidate)
    return LikelihoodDifference(after - before, low, high, shapes[0][0])


def _interval(baseline: Likelihood, candidate: Likelihood) -> tuple[float | None, float | None]:
    n = len(baseline.texts)
    if n < 6:
        return None, None
    drawn = np.random.default_rng(_SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    rates = []
    for one in (baseline, candidate):
        bits = np.array([text.nats for text in one.texts]) / math.log(2)
        n_bytes = np.array([text.n_bytes for text in one.texts])
        rates.append(drawn @ bits / np.maximum(drawn @ n_bytes, 1))
    low, high = np.quantile(rates[1] - rates[0], [0.025, 0.975])
    return float(low), float(high)


def read_texts(path: Path) -> list[str]:
    """Read texts from a file: the `text` of each line of a .jsonl, else each line that says some.

    Raises:
        BadInput: no such file, no UTF-8, no texts, or a line of a .jsonl without a text.
    """
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("texts", str(path), "a readable UTF-8 file", str(error)) from error
    if not lines:
        raise BadInput("texts", str(path), "at least one line", "Name another file.")
    if path.suffix != ".jsonl":
        return lines
    return [_text_of(path, number, line) for number, line in enumerate(lines, start=1)]


def _text_of(path: Path, number: int, line: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError):
        text = None
    if not isinstance(text, str) or not text:
        raise BadInput(
            f"{path}, text {number}", line[:80], '{"text": "…"}', "Correct or leave out the line."
        )
    return text


def _batches(texts: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
