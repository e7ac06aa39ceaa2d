"""The command that measures what models cost to serve."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli.output import AsJson, console, notes, print_json, print_table, printable


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(measure)


def measure(
    suite: Annotated[
        str, typer.Argument(help="Suite whose prompts are asked: name, name@version.")
    ],
    subjects: Annotated[
        list[str],
        typer.Argument(
            help="Model versions, models of the engine or of an upstream; baseline first."
        ),
    ],
    requests: Annotated[int, typer.Option(min=1, help="Single, streamed requests to each.")] = 20,
    batches: Annotated[int, typer.Option(min=1, help="Batches to each.")] = 6,
    batch_size: Annotated[int, typer.Option(min=1, help="Requests of a batch, at once.")] = 32,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 128,
    temperature: Annotated[float, typer.Option(min=0, help="Of sampling; 0 is greedy.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of sampling.")] = 0,
    usd_per_hour: Annotated[
        float | None, typer.Option(min=0, help="What the machine that serves costs.")
    ] = None,
    likelihood: Annotated[
        Path | None, typer.Option(help="File of texts to measure perplexity and bits per byte on.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Server (…/v1); default: our engine.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure what models cost to serve, in turn: latency, speed, memory, dollars."""
    from evaluator.metrics.likelihood import read_texts
    from evaluator.serving_cost import CostPlan
    from flywheel.measuring import measure_models
    from flywheel.schema import require_current

    require_current()
    texts = read_texts(likelihood) if likelihood is not None else ()
    plan = CostPlan(requests, batches, batch_size, max_tokens, temperature, seed, usd_per_hour)
    found = measure_models(suite, subjects, plan, texts, base_url)
    if as_json:
        print_json(found)
        return
    _print_costs(found, batch_size)
    first = found[0]["subject"]
    for one in found[1:]:
        for said in _against(one, first):
            console.print(printable(f"{one['subject']} / {first}: {said}"), soft_wrap=True)
    for one in found:
        if one["evaluation_id"] is None:
            said = f"{one['subject']} has no evaluation on {suite} yet: the figures are not stored."
            notes.print(printable(said), soft_wrap=True)


def _print_costs(found: list[dict[str, Any]], batch_size: int) -> None:
    """Print a line for each measure, a column for each model."""
    sizes = list(dict.fromkeys(("1", str(batch_size))))
    columns = [_column(one["serving"], one["likelihood"] or {}, sizes) for one in found]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    print_table(("measured", *(one["subject"] for one in found)), rows, "Nothing was measured.")


def _column(costs: dict[str, Any], likelihood: dict[str, Any], sizes: list[str]) -> dict[str, Any]:
    dollars = costs["usd_per_task"] or {}
    return {
        "adapter": costs["adapter"],
        "latency, ms p50 / p95": _pair(costs["latency_ms"]),
        "first token, ms p50 / p95": _pair(costs["ttft_ms"]),
        "output tokens": costs["output_tokens"],
        **{f"tokens/s, batch {n}": _spread(costs["tokens_per_s"][n]) for n in sizes},
        "failed requests": f"{costs['failed']} of {costs['requests']}",
        "peak RAM of the process, MiB": costs["peak_rss_mb"],
        "peak VRAM, MiB": costs["peak_vram_mb"],
        "the base loaded in, s": costs["load_s"],
        "the adapter loaded in, s": costs["adapter_load_s"],
        **{f"$ per task, batch {n}": dollars.get(n) for n in sizes},
        "perplexity": likelihood.get("perplexity"),
        "bits per byte": likelihood.get("bits_per_byte"),
    }


def _against(one: dict[str, Any], other: str) -> list[str]:
    """Return by measure how a model stands to another one."""
    said = [
        f"{name} x {_interval(ratio, 'estimate')}"
        for name, ratio in one["serving"]["against"][other].items()
        if ratio is not None
    ]
    gap = ((one["likelihood"] or {}).get("against") or {}).get(other)
    return said + ([f"bits per byte {_interval(gap, 'bits_per_byte')}"] if gap else [])


def _interval(found: dict[str, Any], name: str) -> str:
    if found["low"] is None:
        return f"{found[name]:.3g} (too few for an interval)"
    return f"{found[name]:.3g} [{found['low']:.3g}, {found['high']:.3g}]"


def _pair(found: dict[str, float] | None) -> str | None:
    return f"{found['p50']:.1f} / {found['p95']:.1f}" if found else None


def _spread(found: dict[str, float] | None) -> str | None:
    return _interval(found, "median") if found else None
