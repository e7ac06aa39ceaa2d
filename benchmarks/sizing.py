"""How much of everything a rate of interactions needs, computed from measured costs.

    python -m benchmarks.sizing                                   prints the tables
    python -m benchmarks.sizing --take benchmarks/results/scale.json
    python -m benchmarks.sizing --write                           after a change of `Assumed`

`--take` puts the costs that `make bench-scale` has measured into `benchmarks/costs.json` and the
tables into `docs/sizing.md`; a test compares the two. Everything is a plain product: no part is
taken to become cheaper when there is more of it, and none dearer.
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from math import ceil
from pathlib import Path
from typing import Any

COSTS_FILE = Path(__file__).resolve().parent / "costs.json"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "sizing.md"
RATES = (10, 1_000, 100_000)
DAY_S = 86_400
CPU_MS_OF_A_CORE = 1000.0


@dataclass(frozen=True)
class Costs:
    """What one record costs each part, as `benchmarks.scale_costs` measures it."""

    client_cpu_ms: float
    gateway_cpu_ms: float
    ingest_per_s: float
    ingest_cpu_ms: float
    ingest_postgres_cpu_ms: float
    wal_bytes: float
    text_bytes: float
    metadata_bytes: float
    payload_bytes: float
    curation_cpu_ms: float
    curation_postgres_cpu_ms: float
    curation_bytes: float
    dataset_bytes: float
    grading_cpu_ms: float


@dataclass(frozen=True)
class Assumed:
    """What nobody has measured here: how the wheel is used. Change it to what you see.

    Attributes:
        text_bytes: of request and answer together; the measured bytes on disk grow with it.
        busy: share of a core that is planned for, so that bursts and vacuum have the rest.
        curated_share: of the calls that curation reads; the rest are of roles nobody trains.
        kept_share: of what is curated, that datasets keep.
        payload_days, metadata_days: until their partitions are dropped.
        graded_per_day: answers that evaluations grade.
        trained_tokens: of one training.
        gpu_tokens_per_s: that one GPU learns of a 7B model by LoRA; not measured here.
    """

    text_bytes: float = 4_096
    busy: float = 0.7
    curated_share: float = 1.0
    kept_share: float = 0.4
    payload_days: int = 90
    metadata_days: int = 365
    graded_per_day: int = 20_000
    trained_tokens: float = 50e6
    gpu_tokens_per_s: float = 3_000


@dataclass(frozen=True)
class Size:
    """What a rate needs; cores are whole, at the planned share of each."""

    per_s: int
    client_cores: int
    gateway_cores: int
    ingest_cores: int
    postgres_cores: float
    curation_cores: int
    grading_cores: float
    wal_mb_per_s: float
    network_mb_per_s: float
    rows_per_week: float
    metadata_gb_per_day: float
    payload_gb_per_day: float
    curation_gb_per_day: float
    dataset_gb_per_day: float
    kept_tb: float
    primaries: int


def size(per_s: int, costs: Costs, assumed: Assumed) -> Size:
    """Return what a rate of interactions per second needs."""
    longer = assumed.text_bytes / costs.text_bytes
    curated = per_s * assumed.curated_share

    def cores(cpu_ms: float, rate: float) -> float:
        return cpu_ms * rate / CPU_MS_OF_A_CORE / assumed.busy

    per_day = per_s * DAY_S
    payload, metadata = costs.payload_bytes * longer, costs.metadata_bytes
    postgres = cores(costs.ingest_postgres_cpu_ms, per_s)
    postgres += cores(costs.curation_postgres_cpu_ms, curated)
    return Size(
        per_s=per_s,
        client_cores=ceil(cores(costs.client_cpu_ms * longer, per_s)),
        gateway_cores=ceil(cores(costs.gateway_cpu_ms * longer, per_s)),
        ingest_cores=ceil(cores(costs.ingest_cpu_ms * longer, per_s)),
        postgres_cores=postgres,
        curation_cores=ceil(cores(costs.curation_cpu_ms * longer, curated)),
        grading_cores=cores(costs.grading_cpu_ms, assumed.graded_per_day / DAY_S),
        wal_mb_per_s=per_s * costs.wal_bytes * longer / 1e6,
        network_mb_per_s=per_s * assumed.text_bytes / 1e6,
        rows_per_week=7.0 * per_day,
        metadata_gb_per_day=per_day * metadata / 1e9,
        payload_gb_per_day=per_day * payload / 1e9,
        curation_gb_per_day=per_day * assumed.curated_share * costs.curation_bytes * longer / 1e9,
        dataset_gb_per_day=(
            per_day * assumed.curated_share * assumed.kept_share * costs.dataset_bytes / 1e9
        ),
        kept_tb=per_day
        * (payload * assumed.payload_days + metadata * assumed.metadata_days)
        / 1e12,
        primaries=ceil(per_s / (costs.ingest_per_s * assumed.busy)),
    )


_ROWS: tuple[tuple[str, str], ...] = (
    ("agents' hosts: client, cores in all", "client_cores"),
    ("or instead of it the gateway, cores", "gateway_cores"),
    ("ingest (`flywheel serve`), cores", "ingest_cores"),
    ("PostgreSQL, cores", "postgres_cores"),
    ("curation (`cpu` workers), cores", "curation_cores"),
    ("grading (`cpu` workers), cores", "grading_cores"),
    ("write-ahead log, MB/s", "wal_mb_per_s"),
    ("network into the service, MB/s", "network_mb_per_s"),
    ("rows of a weekly partition", "rows_per_week"),
    ("metadata, GB/day", "metadata_gb_per_day"),
    ("payload, GB/day", "payload_gb_per_day"),
    ("examples and their index, GB/day", "curation_gb_per_day"),
    ("datasets among the artifacts, GB/day", "dataset_gb_per_day"),
    ("log on disk when retention has set in, TB", "kept_tb"),
    ("PostgreSQL primaries of this machine's size", "primaries"),
)


def table(sizes: Sequence[Size]) -> str:
    """Return the sizes as Markdown, one column a rate."""
    lines = [
        "| | " + " | ".join(f"{one.per_s:,}/s" for one in sizes) + " |",
        "|---|" + "---:|" * len(sizes),
    ]
    for label, name in _ROWS:
        cells = " | ".join(_shown(getattr(one, name)) for one in sizes)
        lines.append(f"| {label} | {cells} |")
    return "\n".join(lines)


def costs_table(costs: Costs) -> str:
    """Return the measured costs as Markdown."""
    lines = ["| Measured | |", "|---|---:|"]
    lines += [f"| `{name}` | {_shown(value)} |" for name, value in asdict(costs).items()]
    return "\n".join(lines)


def assumed_table(assumed: Assumed) -> str:
    """Return the assumptions as Markdown."""
    lines = ["| Assumed | |", "|---|---:|"]
    lines += [f"| `{name}` | {_shown(value)} |" for name, value in asdict(assumed).items()]
    return "\n".join(lines)


def _shown(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def tables(costs: Costs, assumed: Assumed) -> dict[str, str]:
    """Return what stands between the page's marks, by the name of the mark."""
    return {
        "measured-on": measured_on(json.loads(COSTS_FILE.read_text())),
        "costs": costs_table(costs),
        "assumed": assumed_table(assumed),
        "sizes": table([size(rate, costs, assumed) for rate in RATES]),
    }


def read_costs(path: Path = COSTS_FILE) -> Costs:
    """Return the costs that are kept here."""
    kept = json.loads(path.read_text())["costs"]
    return Costs(**{one.name: float(kept[one.name]) for one in fields(Costs)})


def written(page: str, found: dict[str, str]) -> str:
    """Return the page with the tables put between its marks."""
    for name, text in found.items():
        mark = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        page, n = mark.subn(lambda m, text=text: f"{m[1]}{text}\n{m[2]}", page)  # type: ignore[misc]
        assert n == 1, f"docs/sizing.md: {n} places marked {name}, expected one"
    return page


def take(results: Path) -> None:
    """Keep measured costs, and write the page anew."""
    told: dict[str, Any] = json.loads(results.read_text())
    measured = {one["name"]: one["measured"] for one in told["figures"]}
    kept = {one.name: float(f"{measured[one.name]:.4g}") for one in fields(Costs)}
    about = {name: told[name] for name in ("at", "python", "cores", "load_average")}
    COSTS_FILE.write_text(json.dumps({**about, "costs": kept}, indent=2) + "\n")
    write()


def write() -> None:
    """Write the page's tables anew."""
    PAGE.write_text(written(PAGE.read_text(), tables(read_costs(), Assumed())))


def measured_on(about: dict[str, Any]) -> str:
    """Return when and where the costs were measured, and how busy the machine was with others."""
    load = about["load_average"][0]
    quiet = "quiet" if load < about["cores"] * 1.5 else "**busy with other work**"
    said = (
        f"Measured on {about['at'][:10]}, {about['cores']} cores, Python {about['python']}, the "
        f"machine {quiet} (load {load:.1f})."
    )
    return f"{said} {about['note']}".rstrip() if about.get("note") else said


def main(arguments: Sequence[str]) -> Iterable[str]:
    """Run from the command line; yield what is printed."""
    if arguments[:1] == ["--take"]:
        take(Path(arguments[1]))
    elif arguments[:1] == ["--write"]:
        write()
    yield from tables(read_costs(), Assumed()).values()


if __name__ == "__main__":
    for text in main(sys.argv[1:]):
        sys.stdout.write(f"{text}\n\n")
