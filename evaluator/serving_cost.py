"""What a model costs to serve: latency, time to first token, tokens/s, memory, load time, dollars.

Subjects are asked the same prompts in turn, who comes first alternates, and what warms up is not
counted. Single requests are streamed, one at a time; batches are as many requests at once as the
evaluation sends. Two subjects are compared by the medians of the ratios of their pairs, never by a
ratio of totals, and no figure goes without its batch size and whether an adapter was merged.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import islice
from statistics import fmean
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from evaluator.addresses import api_key_of
from evaluator.answers import Answer, ModelServerUnavailable, Subject
from evaluator.speed import ADAPTER_USE, TOGETHER, median_of, ratio_of
from evaluator.timed import TimedAnswer, TimedServer
from foundation.chat import Message
from foundation.errors import BadInput
from foundation.ids import new_id
from foundation.prices import cost_usd
from foundation.settings import LOOPBACK
from serving.backends.openai_compatible import EngineUnavailable, footprint

WARM_UP: Final = 2
"""Requests, and batches, of each subject that are not counted."""
_DIGITS: Final = 4


@dataclass(frozen=True)
class CostPlan:
    """How much is asked.

    Attributes:
        requests: single, streamed requests to each subject.
        batches: batches to each subject; six or more give intervals.
        batch_size: requests in flight at once, as the evaluation's.
        max_tokens: the longest answer.
        temperature: of sampling; 0 is greedy.
        seed: of all sampling.
        usd_per_hour: of the machine that serves; None: unknown.
    """

    requests: int = 20
    batches: int = 6
    batch_size: int = 32
    max_tokens: int = 128
    temperature: float = 1.0
    seed: int = 0
    usd_per_hour: float | None = None

    def __post_init__(self) -> None:
        for name in ("requests", "batches", "batch_size", "max_tokens"):
            if getattr(self, name) < 1:
                raise BadInput(name, getattr(self, name), "1 or more", "The default will do.")
        if self.usd_per_hour is not None and not self.usd_per_hour >= 0:
            raise BadInput("usd_per_hour", self.usd_per_hour, "0 or more", "Leave it out.")

    @property
    def sampling(self) -> dict[str, Any]:
        """What each single request says beside model, prompt and seed."""
        return {"max_tokens": self.max_tokens, "temperature": self.temperature}


@dataclass(frozen=True)
class Batch:
    """Requests that were sent at once: how long all took, and what came back."""

    seconds: float
    answers: Sequence[Answer]

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens per second; None unless every answer came and was counted."""
        tokens = [answer.output_tokens for answer in self.answers if answer.text is not None]
        counted = [found for found in tokens if found is not None]
        return sum(counted) / self.seconds if len(counted) == len(self.answers) else None


@dataclass
class Timings:
    """All that was timed of one subject; the i-th of two subjects are the same prompts."""

    singles: list[TimedAnswer] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)


def measure_cost(
    subjects: Sequence[Subject], prompts: Sequence[list[Message]], plan: CostPlan
) -> dict[str, dict[str, Any]]:
    """Time all subjects in turn; return name -> costs as plain JSON (see docs/serving-cost.md).

    Args:
        subjects: models of OpenAI-compatible servers, with distinct names.
        prompts: what to ask; used again and again where there are fewer than requests.
        plan: how much.

    Raises:
        BadInput: no prompts, or a subject that no server of a known address answers for, or whose
            server refuses the request.
        ModelServerUnavailable: a server answered no request at all.
    """
    if not prompts:
        raise BadInput("prompts", 0, "at least one", "Name a suite with tasks.")
    timed = {subject.name: Timings() for subject in subjects}
    with ExitStack() as stack:
        servers = {one.name: stack.enter_context(_server_of(one)) for one in subjects}
        asked = _endless(prompts)
        for number in range(WARM_UP + plan.requests):
            prompt, sampling = next(asked), {**plan.sampling, "seed": plan.seed + number}
            for one in _in_turn(subjects, number):
                answer = servers[one.name].ask(one.settings["model"], prompt, **sampling)
                if number >= WARM_UP:
                    timed[one.name].singles.append(answer)
        for number in range(WARM_UP + plan.batches):
            batch = list(islice(asked, plan.batch_size))
            for one in _in_turn(subjects, number):
                made = _batch(one, batch, plan.seed + number * plan.batch_size)
                if number >= WARM_UP:
                    timed[one.name].batches.append(made)
    together = str(new_id())
    return {
        one.name: {
            **costs_of(one, timed[one.name], plan, _footprint(one)),
            TOGETHER: together,
            "against": {
                other: ratios(timed[other], timed[one.name], plan)
                for other in timed
                if other != one.name
            },
        }
        for one in subjects
    }


def costs_of(
    subject: Subject, timed: Timings, plan: CostPlan, serving: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the figures of one subject as plain JSON; what is not known is None.

    Args:
        subject: whom they are of.
        timed: what was timed of it.
        plan: how much was asked.
        serving: what its server says it takes (`serving.backends.openai_compatible.footprint`).

    Raises:
        ModelServerUnavailable: no single request was answered.
    """
    came = [answer for answer in timed.singles if answer.seconds is not None]
    if not came:
        reason = next((answer.error for answer in timed.singles), "nothing was asked")
        raise ModelServerUnavailable(str(subject.settings["base_url"]), reason)
    model = str(subject.settings["model"])
    return {
        "model": model,
        "adapter": subject.settings.get(ADAPTER_USE, "unknown"),
        "batch_size": plan.batch_size,
        "max_tokens": plan.max_tokens,
        "temperature": plan.temperature,
        "requests": len(timed.singles),
        "failed": len(timed.singles) - len(came),
        "batches": len(timed.batches),
        "warm_up": WARM_UP,
        "latency_ms": _quantiles([answer.seconds for answer in came]),
        "ttft_ms": _quantiles([answer.ttft_s for answer in came]),
        "output_tokens": _mean([answer.output_tokens for answer in came]),
        "tokens_per_s": {
            "1": _median([answer.tokens_per_s for answer in came]),
            str(plan.batch_size): _median([batch.tokens_per_s for batch in timed.batches]),
        },
        "load_s": serving.get("load_s"),
        "adapter_load_s": (serving.get("adapter_load_s") or {}).get(model),
        "adapters_loaded": len(serving["adapter_load_s"]) if "adapter_load_s" in serving else None,
        "threads": serving.get("threads"),
        "peak_rss_mb": serving.get("peak_rss_mb"),
        "peak_vram_mb": serving.get("peak_vram_mb"),
        **dollars(subject, timed, plan),
    }


def dollars(subject: Subject, timed: Timings, plan: CostPlan) -> dict[str, Any]:
    """Return `usd_per_task` (one answer) by batch size, and what it rests on in `usd_basis`.

    A price list's dollars are the same alone and in a batch; those of a machine are shared by the
    requests that it serves at once, and assume that it serves nothing else.
    """
    came = [answer for answer in timed.singles if answer.seconds is not None]
    if plan.usd_per_hour is not None:
        per_s = plan.usd_per_hour / 3600
        alone = [per_s * answer.seconds for answer in came if answer.seconds is not None]
        shared = [per_s * batch.seconds / len(batch.answers) for batch in timed.batches]
        basis = f"{plan.usd_per_hour:g} dollars per hour of the machine"
    else:
        prices = [_price(subject, answer) for answer in came]
        alone = shared = [price for price in prices if price is not None]
        basis = "the price list"
    if not alone:
        return {"usd_per_task": None, "usd_basis": "unknown: neither a price nor dollars per hour"}
    costs = {"1": _mean(alone, 9), str(plan.batch_size): _mean(shared, 9)}
    return {"usd_per_task": costs, "usd_basis": basis}


def ratios(baseline: Timings, candidate: Timings, plan: CostPlan) -> dict[str, Any]:
    """Return candidate over baseline as medians of pairs with 95 % intervals; plain JSON."""
    singles, batches = (baseline.singles, candidate.singles), (baseline.batches, candidate.batches)
    found = {
        "latency": ratio_of(*([one.seconds for one in side] for side in singles)),
        "ttft": ratio_of(*([one.ttft_s for one in side] for side in singles)),
        "tokens_per_s at batch 1": ratio_of(*([one.tokens_per_s for one in s] for s in singles)),
        f"tokens_per_s at batch {plan.batch_size}": ratio_of(
            *([one.tokens_per_s for one in side] for side in batches)
        ),
    }
    return {name: ratio and _rounded(asdict(ratio)) for name, ratio in found.items()}


def _server_of(subject: Subject) -> TimedServer:
    base_url = subject.settings.get("base_url")
    if base_url is None:
        raise BadInput(
            "subject", subject.name, "a model of an OpenAI-compatible server", "Time its upstream."
        )
    return TimedServer(base_url, api_key_of(base_url))


def _footprint(subject: Subject) -> dict[str, Any]:
    try:
        return footprint(subject.settings["base_url"])
    except EngineUnavailable:
        return {}


def _batch(subject: Subject, prompts: list[list[Message]], seed: int) -> Batch:
    started = time.perf_counter()
    answers = list(subject.generate(prompts, [seed + i for i in range(len(prompts))]))
    return Batch(time.perf_counter() - started, answers)


def _endless(prompts: Sequence[list[Message]]) -> Iterator[list[Message]]:
    while True:
        yield from prompts


def _in_turn(subjects: Sequence[Subject], number: int) -> Sequence[Subject]:
    return subjects if number % 2 == 0 else subjects[::-1]


def _price(subject: Subject, answer: TimedAnswer) -> float | None:
    is_local = urlsplit(subject.settings["base_url"]).hostname in LOOPBACK
    if is_local or answer.input_tokens is None or answer.output_tokens is None:
        return None
    return cost_usd(subject.settings["model"], None, answer.input_tokens, answer.output_tokens)


def _quantiles(seconds: Sequence[float | None]) -> dict[str, float] | None:
    """Return p50 and p95 in milliseconds."""
    known = [1000 * value for value in seconds if value is not None]
    if not known:
        return None
    p50, p95 = np.quantile(known, [0.5, 0.95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def _median(rates: Sequence[float | None]) -> dict[str, float | None] | None:
    """Return the median of rates with its 95 % interval."""
    found = median_of([rate for rate in rates if rate])
    if found is None:
        return None
    return _rounded({"median": found.estimate, "low": found.low, "high": found.high})


def _mean(values: Sequence[float | None], digits: int = _DIGITS) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), digits) if known else None


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if v is None else round(v, _DIGITS) for name, v in values.items()}
