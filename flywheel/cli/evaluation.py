"""Commands that evaluate models and compare them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli.judged import print_judges
from flywheel.cli.output import (
    AsJson,
    console,
    notes,
    percent,
    print_json,
    print_table,
    printable,
    progress_bar,
)

if TYPE_CHECKING:
    from evaluator.watch import Progress

Answers = Annotated[
    Path | None, typer.Option(help="File of recorded answers: nothing is generated.")
]
Samples = Annotated[int, typer.Option(min=1, help="Answers per task and model.")]
Temperature = Annotated[float, typer.Option(min=0, help="Of sampling; 0 is greedy.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of sampling.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="The longest answer.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Requests in flight at once.")]
BaseUrl = Annotated[str | None, typer.Option(help="Server (…/v1); default: our engine.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Ask again for what is known.")]
ReportFile = Annotated[
    Path | None, typer.Option(help="Write the report: a .md, .html or .json file.")
]
Watching = Annotated[bool, typer.Option("--watch", help="Show how far it is, a line at a time.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(evaluate)
    app.command()(compare)


def evaluate(
    suite: Annotated[str, typer.Argument(help="Suite name, or name@version.")],
    subjects: Annotated[
        list[str],
        typer.Argument(
            help="Model versions, models of the server or of an upstream, litellm:provider/model; "
            "with --answers, recorded runs."
        ),
    ],
    answers: Answers = None,
    report: ReportFile = None,
    samples: Samples = 5,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    max_tokens: MaxTokens = 512,
    batch_size: BatchSize = 32,
    base_url: BaseUrl = None,
    no_cache: NoCache = False,
    watch: Watching = False,
    queue: Annotated[bool, typer.Option(help="Hand it to a worker, do not wait.")] = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate models on a suite, side by side; killed, the same command goes on."""
    from evaluator.report import require_format
    from evaluator.tasks import EvaluationPlan
    from flywheel.benchmark import grade_recorded, order_evaluation
    from flywheel.schema import require_current

    require_current()
    if report is not None:
        require_format(report)
    if answers is not None:
        with _told(watch, as_json) as progress:
            found = grade_recorded(suite, answers, subjects, progress)
        _write_report(found, report)
        print_json({"evaluations": found}) if as_json else _print_evaluations(found)
        return
    plan = EvaluationPlan(
        samples, temperature, max_tokens, seed, batch_size, base_url, not no_cache
    )
    run_id = order_evaluation(suite, subjects, plan)
    if queue and not watch:
        _print_queued(str(run_id), as_json)
        return
    found = _finished(str(run_id), queue, watch, as_json)
    _write_report(found, report)
    if as_json:
        print_json({"run_id": str(run_id), "evaluations": found})
    else:
        _print_evaluations(found)


def compare(
    baseline: Annotated[str, typer.Argument(help="Evaluation id, model, or recorded run.")],
    candidate: Annotated[str, typer.Argument(help="The same, of what might replace it.")],
    suite: Annotated[str | None, typer.Option(help="Suite name, or name@version.")] = None,
    general: Annotated[
        str | None, typer.Option(help="Also this suite, to see what the candidate has forgotten.")
    ] = None,
    judge: Annotated[
        bool, typer.Option("--judge", help="Also ask the judges of FLYWHEEL_JUDGE_MODELS.")
    ] = False,
    answers: Answers = None,
    report: ReportFile = None,
    samples: Samples = 5,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    max_tokens: MaxTokens = 512,
    batch_size: BatchSize = 32,
    base_url: BaseUrl = None,
    no_cache: NoCache = False,
    watch: Watching = False,
    as_json: AsJson = False,
) -> None:
    """Compare a candidate with a baseline on the same tasks, paired, and decide."""
    from evaluator.report import require_format, write_report
    from evaluator.tasks import EVALUATE_JOB, EvaluationPlan
    from flywheel.benchmark import compare_recorded, compare_subjects
    from flywheel.schema import require_current
    from foundation.errors import BadInput

    require_current()
    if report is not None:
        require_format(report)
    if answers is None:
        plan = EvaluationPlan(
            samples, temperature, max_tokens, seed, batch_size, base_url, not no_cache
        )
        with _following(EVALUATE_JOB, watch, as_json):
            found = compare_subjects(
                baseline,
                candidate,
                suite,
                plan,
                general,
                ask_judges=judge,
                progress=None if as_json else _told_of_judges(),
            )
    elif suite is None:
        raise BadInput("--suite", None, "the suite that the runs answered", "Name it.")
    else:
        with _told(watch, as_json) as progress:
            found = compare_recorded(
                suite, answers, baseline, candidate, progress, ask_judges=judge
            )
    if report is not None:
        write_report(found, report)
    print_json(found) if as_json else _print_verdict(found)


def _write_report(evaluations: list[dict[str, Any]], path: Path | None) -> None:
    """Write the report of evaluations, if a file is named."""
    if path is None:
        return
    from evaluator.report import write_report
    from flywheel.benchmark import report_of

    write_report(report_of(evaluations), path)


def _finished(run_id: str, queue: bool, watch: bool, quiet: bool) -> list[dict[str, Any]]:
    """Do a run here, or watch a worker do it; return its evaluations."""
    from uuid import UUID

    from evaluator.tasks import EVALUATE_JOB
    from flywheel.benchmark import evaluations_of, finish, wait

    with _following(EVALUATE_JOB, watch, quiet):
        done = wait(UUID(run_id)) if queue else finish(UUID(run_id))
    return evaluations_of(done)


@contextmanager
def _following(kind: str, watch: bool, quiet: bool) -> Iterator[None]:
    """Show the progress of the newest run of a kind while the block does it."""
    from flywheel.cli.output import following

    if not watch:
        with following("evaluating", kind, quiet):
            yield
        return
    from flywheel.status import newest_run

    with _polled(lambda: newest_run(kind)):
        yield


@contextmanager
def _polled(newest: Callable[[], Any]) -> Iterator[None]:
    """Print the state of the newest run on stderr every other second, and once at the end."""
    import threading

    stop, said = threading.Event(), [""]

    def look() -> None:
        run = newest()
        line = _state(run.progress) if run is not None and run.progress else ""
        if line and line != said[0]:
            said[0] = line
            notes.print(printable(line), highlight=False, soft_wrap=True)

    def poll() -> None:
        while not stop.wait(2.0):
            look()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        look()


@contextmanager
def _told(watch: bool, quiet: bool) -> Iterator[Any]:
    """Yield what is told the progress of something that is no run."""
    if watch:
        yield lambda done, total, unit, **measures: notes.print(
            printable(_state({"done": done, "total": total, "unit": unit, **measures})),
            highlight=False,
            soft_wrap=True,
        )
        return
    with progress_bar("evaluating", quiet) as update:
        yield lambda done, total, unit, **measures: update(done, total, unit)


def _told_of_judges() -> "Progress":
    """Return what prints a line on stderr for each tenth of the judges' verdicts."""
    said = [-1]

    def tell(done: float, total: float, unit: str, **_: Any) -> None:
        tenth = int(10 * done / total) if total else 10
        if tenth != said[0]:
            said[0] = tenth
            notes.print(f"judging: {done:g} of {total:g} {unit}", highlight=False)

    return tell


def _state(progress: dict[str, Any]) -> str:
    """Return a run's progress as one line."""
    parts = [f"{progress['done']:g} of {progress['total']:g} {progress['unit']}"]
    if progress.get("answered") is not None:
        parts.append(f"{progress['answered']} answered ({progress.get('cached', 0)} known before)")
    if progress.get("lost"):
        parts.append(f"{progress['lost']} lost")
    for name, (rate, low, high) in (progress.get("success") or {}).items():
        if rate is not None:
            parts.append(f"{name} {percent(rate)} [{percent(low)} to {percent(high)}]")
    if progress.get("per_s"):
        parts.append(f"{progress['per_s']:g} answers/s, {_duration(progress['eta_s'])} left")
    if progress.get("cost_usd") is not None:
        parts.append(f"${progress['cost_usd']:.4f}")
    return "; ".join(parts)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _print_queued(run_id: str, as_json: bool) -> None:
    if as_json:
        print_json({"run_id": run_id, "status": "queued"})
    else:
        console.print(f"queued as {run_id}: flywheel run show {run_id}", soft_wrap=True)


def _print_evaluations(evaluations: list[dict[str, Any]]) -> None:
    is_checked = any(e.get("agreement") is not None for e in evaluations)
    rows = [
        (
            e["subject"],
            percent(e["success_rate"]),
            f"{percent(e['ci_low'])} to {percent(e['ci_high'])}",
            e["n_samples"],
            e["n_lost"],
            _reliable(e),
            *([percent(e.get("agreement"))] if is_checked else []),
            e["id"],
        )
        for e in evaluations
    ]
    print_table(
        (
            *("evaluated", "success", "95 % interval", "answers", "lost", "pass^k"),
            *(["agrees with its source"] if is_checked else []),
            "evaluation",
        ),
        rows,
        "Nothing was evaluated.",
    )
    for e in evaluations:
        for warning in _warnings(e):
            said = f"{printable(e['subject'])}: {printable(warning)}"
            console.print("[bold]Warning[/bold]", said, soft_wrap=True)


def _reliable(evaluation: dict[str, Any]) -> str | None:
    """Return the share of tasks that all answers solve, if there are several."""
    found = (evaluation.get("metrics") or {}).get("pass_k") or {}
    ks = [int(name[5:]) for name in found if name.startswith("pass^")]
    most = max(ks, default=1)
    return f"{percent(found[f'pass^{most}'])} (k={most})" if most > 1 else None


def _warnings(evaluation: dict[str, Any]) -> list[str]:
    """Return what a reader must know before believing the figures."""
    metrics = evaluation.get("metrics") or {}
    counts = metrics.get("answers") or {}
    words = {
        "grader_threw": "answers could not be graded, because their grader threw",
        "too_long": "answers were too long; their beginnings are kept and they count as wrong",
        "repaired": "answers held bytes that are no UTF-8, which were replaced",
        "at_token_limit": "answers stopped at the limit of tokens",
    }
    said = [f"{counts[name]} {text}" for name, text in words.items() if counts.get(name)]
    return said + [
        f"{n} times: {error}" for error, n in (metrics.get("grader_errors") or {}).items()
    ]


def _print_verdict(report: dict[str, Any]) -> None:
    _print_evaluations(report["evaluations"])
    verdict = report["verdict"]
    console.print(
        f"\n{verdict['improvement_points']:+.1f} points "
        f"[{verdict['ci_low']:+.1f}, {verdict['ci_high']:+.1f}] over {verdict['n_tasks']} tasks: "
        f"[bold]{verdict['outcome']}[/bold]"
    )
    for reason in report["reasons"]:
        console.print(f"  {printable(reason)}", soft_wrap=True)
    for note in report.get("notes") or ():
        console.print(f"  {printable(note)}", soft_wrap=True)
    if forgetting := report.get("forgetting"):
        said = f"{forgetting['suite']} ({forgetting['outcome']}): {' '.join(forgetting['reasons'])}"
        console.print(f"  {printable(said)}", soft_wrap=True)
    _print_slices(report.get("slices") or {})
    if report.get("judge"):
        print_judges(report["judge"])


def _print_slices(slices: dict[str, Any]) -> None:
    if not slices.get("rows"):
        return
    console.print()
    print_table(
        ("by", "value", "tasks", "baseline", "candidate", "points", "95 % interval"),
        [
            (
                one["attribute"],
                one["value"],
                one["n_tasks"],
                percent(one["baseline_rate"]),
                percent(one["candidate_rate"]),
                f"{one['improvement_points']:+.1f}",
                f"{one['ci_low']:+.1f} to {one['ci_high']:+.1f}",
            )
            for one in slices["rows"]
        ],
        "",
    )
    console.print(slices["note"], highlight=False)
