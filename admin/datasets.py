"""Datasets: the versions as a list, one version's card in pictures, its files, and a new build."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import make_archive, rmtree
from tempfile import mkdtemp
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, StreamingResponse
from pydantic import StringConstraints
from sqlalchemy import Select, case, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import defer
from sqlmodel import Session, col
from starlette.background import BackgroundTask

from admin.charts import (
    Bar,
    DotPlot,
    Histogram,
    PartedBars,
    bars,
    dot_plot,
    histogram,
    parted_bars,
)
from admin.formats import number, percent, words
from admin.listing import Asked, Column, Listing, Table
from admin.paging import Narrowing
from admin.rendering import Reading, link_to, render, wants_rows
from admin.writing import ByOperator, ByReviewer, Reason, see
from curation.export import (
    SPLITS,
    card_page,
    get_dataset,
    lines_of_split,
    parquet_of_split,
    write_export,
)
from curation.publish.formats import FORMATS, PARQUET
from curation.reasons import reason_of
from curation.recipe import CurationRecipe
from curation.tables import EVAL, PREFERENCE, SFT, CurationWatermark, Dataset
from curation.tasks import BUILD, ask_for_build
from foundation.database import session_scope
from foundation.errors import BadInput
from foundation.lone_page import CONTENT_POLICY
from foundation.settings import get_settings
from foundation.tables import QUEUED, RUNNING, Run
from trainer.tables import ModelVersion, TrainingRun

routes = APIRouter(prefix="/datasets")

KINDS: Final = (SFT, PREFERENCE, EVAL)
TRAINED_SHOWN: Final = 20
BARS_SHOWN: Final = 12
"""Of one plot; the smaller ones are added up in the last."""
OTHERS: Final = "all others"
OUTCOME_TONES: Final = {
    "positive": "c-good",
    "corrected": "c1",
    "unjudged": "c-calm",
    "negative": "c-bad",
    "lost": "c-warn",
}
STEPS: Final = {
    "candidates": "looked at",
    "well_formed": "whole and readable",
    "proven": "proven good enough",
    "unique": "no repeats",
    "decontaminated": "no benchmark's tasks",
    "chosen": "within their share",
}
"""The steps of a build, as what is left after each."""


@dataclass(frozen=True)
class Filters(Narrowing):
    """What the list is narrowed to; empty means all."""

    role: str = ""
    kind: str = ""
    variant: str = ""


@dataclass(frozen=True)
class Row:
    """One version of the list, without its card."""

    dataset: Dataset
    score: float | None
    warnings: int
    n_trainings: int
    newest_model: ModelVersion | None

    @property
    def n_rows(self) -> int:
        """Rows of all splits."""
        return self.dataset.n_train + self.dataset.n_validation + self.dataset.n_test


_ROWS = col(Dataset.n_train) + col(Dataset.n_validation) + col(Dataset.n_test)
_SCORE = col(Dataset.card)["mean_score"].as_float()
_SAID = col(Dataset.card)["warnings"]
_WARNINGS = case((func.jsonb_typeof(_SAID) == "array", func.jsonb_array_length(_SAID)), else_=0)

LISTING: Listing[Row] = Listing(
    [
        Column("role", "Version", lambda r: r.dataset.role, col(Dataset.role), first="up"),
        Column("kind", "Kind", lambda r: r.dataset.kind, col(Dataset.kind), first="up"),
        Column("rows", "Rows", lambda r: r.n_rows, _ROWS, numeric=True),
        Column("n_train", "Train", lambda r: r.dataset.n_train, col(Dataset.n_train), numeric=True),
        Column(
            "n_validation",
            "Validation",
            lambda r: r.dataset.n_validation,
            col(Dataset.n_validation),
            numeric=True,
        ),
        Column("n_test", "Test", lambda r: r.dataset.n_test, col(Dataset.n_test), numeric=True),
        Column("mean_score", "Score", lambda r: r.score, _SCORE, numeric=True),
        Column("warnings", "Warnings", lambda r: r.warnings, _WARNINGS, numeric=True),
        Column("trained", "Trained", lambda r: r.newest_model and r.newest_model.name),
        Column("created_at", "Made", lambda r: r.dataset.created_at, col(Dataset.created_at)),
        Column("number", "", lambda r: r.dataset.number),
        Column("variant", "", lambda r: r.dataset.variant),
        Column("trainings", "", lambda r: r.n_trainings),
        Column("content_hash", "", lambda r: r.dataset.content_hash),
        Column("run_id", "", lambda r: r.dataset.run_id and str(r.dataset.run_id)),
        Column("id", "", lambda r: str(r.dataset.id)),
    ],
    key=col(Dataset.id),
    name="datasets",
)


@dataclass(frozen=True)
class ListPage:
    """Dataset versions, newest first."""

    filters: Filters
    table: Table[Row]
    roles: Sequence[str]
    variants: Sequence[str]
    kinds: Sequence[str] = KINDS


@dataclass(frozen=True)
class Drop:
    """One reason for which examples fell out, in words, with its share of all drops."""

    name: str
    title: str
    means: str
    remedy: str
    bar: Bar


@dataclass(frozen=True)
class Measured:
    """One measure of a card: its value, and whether it reaches its target, in words."""

    title: str
    value: str
    met: bool | None
    said: str


@dataclass(frozen=True)
class Pictures:
    """What a card says, drawn; each None where the card does not say it."""

    splits: PartedBars | None
    steps: PartedBars | None
    outcomes: PartedBars | None
    lengths: Histogram | None
    scores: Histogram | None
    measures: DotPlot | None
    counts: Sequence[tuple[str, Sequence[Bar]]]
    """Titles with counts: task types, languages and the like."""


@dataclass(frozen=True)
class Lineage:
    """Where a version is from and what became of it."""

    run: Run | None
    watermark: CurationWatermark | None
    """Up to where the role's log has been looked at by now."""
    trained: Sequence[TrainingRun]
    models: Sequence[ModelVersion]
    previous: UUID | None
    following: UUID | None


@dataclass(frozen=True)
class DetailPage:
    """One version: its card in pictures, where it is from, what became of it."""

    dataset: Dataset
    drops: Sequence[Drop]
    pictures: Pictures
    measures: Sequence[Measured]
    lineage: Lineage
    others: Sequence[tuple[UUID, int]]
    """Versions that it can be compared with, newest first: id and number."""
    formats: Sequence[str]

    @property
    def splits(self) -> list[tuple[str, int]]:
        """Name and size of each split."""
        d = self.dataset
        return [("train", d.n_train), ("validation", d.n_validation), ("test", d.n_test)]

    @property
    def kept(self) -> int:
        """Rows of the version."""
        return sum(n for _, n in self.splits)

    @property
    def n_dropped(self) -> int:
        """Examples that did not make it, of every reason."""
        return sum(drop.bar.n for drop in self.drops)

    @property
    def warnings(self) -> list[str]:
        """What the card warns of."""
        said = self.dataset.card.get("warnings")
        return [str(warning) for warning in said] if isinstance(said, list) else []

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What else the card says, in words; what it does not say is left out."""
        card = self.dataset.card
        lengths = card.get("n_tokens")
        lengths = lengths if isinstance(lengths, Mapping) else {}
        found = [(words(n), percent(card[n])) for n in SHARES if _is_number(card.get(n))]
        found += [(words(n), number(card[n])) for n in COUNTS if _is_number(card.get(n))]
        found += [(f"tokens, {n}", number(v)) for n, v in lengths.items() if _is_number(v)]
        return found

    @property
    def leaks(self) -> list[tuple[str, int]]:
        """What the proof of no leak counted, by what was looked for."""
        return sorted(numbers_in(self.dataset.card, "leak_proof").items())

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe that it was built by; empty where the card has none."""
        said = self.dataset.card.get("recipe")
        return said if isinstance(said, Mapping) else {}

    @property
    def build(self) -> Mapping[str, Any]:
        """What its build did, as it counted."""
        said = self.dataset.card.get("build")
        return said if isinstance(said, Mapping) else {}


SHARES: Final = ("verified_share", "corrected_share", "contradicted_share", "largest_group_share")
"""Entries of a card that are shares in 0-1."""
COUNTS: Final = ("candidates", "groups", "mean_score", "erased_rows")


@routes.get("", name="datasets.list")
def show_list(
    request: Request,
    session: Reading,
    filters: Annotated[Filters, Depends()],
    asked: Annotated[Asked, Depends()],
) -> Response:
    """Show dataset versions, newest first."""
    if asked.format:
        return LISTING.export(_matching(filters), asked, _rows)
    template = "datasets/_rows.html" if wants_rows(request) else "datasets/list.html"
    return render(request, template, list_page(session, filters, asked))


@routes.get("/{id}", name="datasets.detail")
def show_detail(request: Request, session: Reading, id: UUID) -> HTMLResponse:
    """Show one version."""
    return render(request, "datasets/detail.html", detail(session, get_dataset(session, id)))


@routes.get("/{id}/card", name="datasets.card")
def show_card(session: Reading, id: UUID) -> HTMLResponse:
    """Show the card of a version as a page of its own, under its own content policy."""
    page = card_page(session, id)
    return HTMLResponse(page, headers={"Content-Security-Policy": CONTENT_POLICY})


Optional = Annotated[str, StringConstraints(strip_whitespace=True, max_length=80), Form()]


@routes.post("/build", name="datasets.build")
def build(
    request: Request,
    by: ByOperator,
    reason: Reason,
    role: Annotated[str, Form(max_length=200)],
    kind: Annotated[Literal["sft", "preference", "eval"], Form()] = "sft",
    like: Optional = "",
) -> Response:
    """Queue the build of a role's next version and lead to its run.

    With `like`, the id of a version, by that one's recipe. Where a build of the role waits or runs
    already, lead to that one: a second would find the same rows.
    """
    with by.changing("dataset.build", "runs", reason=reason) as change:
        change.alone(f"build {role}")
        run = _unfinished_build(change.session, role)
        if run is None:
            run = ask_for_build(change.session, role, _recipe_like(change.session, like), kind)
            change.after({"role": role, "kind": kind, "recipe_of": like or "defaults"})
        change.about("runs", run.id)
        found = run.id
    return see(
        link_to(request, "runs.detail", id=found), "Asked for: this is the job that builds it."
    )


@routes.post("/{id}/download", name="datasets.download")
def download(
    by: ByReviewer,
    id: UUID,
    what: Annotated[str, Form(max_length=40)],
    split: Annotated[Literal["", "train", "validation", "test"], Form()] = "",
) -> Response:
    """Answer with a version's card, a split's rows, or all of it as a zip; each is written down.

    A form that is posted, since a download of people's texts leaves an entry in the audit log.
    """
    with session_scope() as session:
        dataset = get_dataset(session, id)
        name = file_name(dataset, what, split)
        answer = _file(session, dataset, what, split, name)
    with by.changing("dataset.download", "datasets", id) as change:
        change.after({"file": name})
    return answer


def list_page(session: Session, filters: Filters, asked: Asked) -> ListPage:
    """Return one page of versions."""
    table = LISTING.page(session, _matching(filters), asked, filters.query, _rows)
    known = session.scalars(select(col(Dataset.variant)).distinct().limit(50)).all()
    return ListPage(filters, table, get_settings().roles, sorted(known))


def detail(session: Session, dataset: Dataset) -> DetailPage:
    """Return the page of one version; nothing on it counts rows, all is read off the card."""
    numbers = others_of(session, dataset)
    return DetailPage(
        dataset,
        drops_in(dataset.card),
        pictures_of(dataset),
        measures_in(dataset.card),
        lineage_of(session, dataset, numbers),
        numbers,
        [form.name for form in FORMATS.values() if dataset.kind in form.kinds],
    )


def others_of(session: Session, dataset: Dataset) -> list[tuple[UUID, int]]:
    """Return the other versions of a role, kind and variant, newest first."""
    rows = session.execute(
        select(col(Dataset.id), col(Dataset.number))
        .where(
            col(Dataset.role) == dataset.role,
            col(Dataset.kind) == dataset.kind,
            col(Dataset.variant) == dataset.variant,
            col(Dataset.id) != dataset.id,
        )
        .order_by(col(Dataset.number).desc())
        .limit(200)
    )
    return [(row.id, row.number) for row in rows]


def lineage_of(session: Session, dataset: Dataset, others: Sequence[tuple[UUID, int]]) -> Lineage:
    """Return where a version is from and what became of it."""
    trained = session.scalars(
        select(TrainingRun)
        .where(col(TrainingRun.dataset_id) == dataset.id)
        .options(defer(TrainingRun.history))  # type: ignore[arg-type]  # thousands of points
        .order_by(col(TrainingRun.id).desc())
        .limit(TRAINED_SHOWN)
    ).all()
    models = session.scalars(
        select(ModelVersion)
        .where(col(ModelVersion.dataset_id) == dataset.id)
        .order_by(col(ModelVersion.id).desc())
        .limit(TRAINED_SHOWN)
    ).all()
    before = [(n, i) for i, n in others if n < dataset.number]
    after = [(n, i) for i, n in others if n > dataset.number]
    return Lineage(
        session.get(Run, dataset.run_id) if dataset.run_id else None,
        session.get(CurationWatermark, (dataset.role, dataset.variant)),
        trained,
        models,
        max(before)[1] if before else None,
        min(after)[1] if after else None,
    )


def drops_in(card: Mapping[str, Any]) -> list[Drop]:
    """Return the drops that a card counts, most first, with what each reason means."""
    found = [(bar, reason_of(bar.name)) for bar in bars(counts_in(card, "dropped_by_reason"))]
    return [Drop(bar.name, r.title, r.means, r.remedy, bar) for bar, r in found]


def pictures_of(dataset: Dataset) -> Pictures:
    """Return what a version's card says, drawn."""
    card = dataset.card
    splits = {name: getattr(dataset, f"n_{name}") for name in SPLITS}
    left = numbers_in(card, "steps")
    outcomes = counts_in(card, "outcomes")
    is_pairs = dataset.kind == PREFERENCE
    return Pictures(
        splits=parted_bars({"rows": splits}, label="Rows by split", shares=True),
        steps=parted_bars(
            {title: {"left": left[name]} for name, title in STEPS.items() if name in left},
            label="Examples left after each step",
        ),
        outcomes=None
        if is_pairs
        else parted_bars({"rows": outcomes}, label="Outcomes", shares=True, tones=OUTCOME_TONES),
        lengths=histogram(
            bins_in(card, "lengths"),
            label="Rows by length in tokens",
            marks=_marks(card.get("n_tokens"), {"p50": "median", "p95": "95 %"}),
            x_title="tokens (estimated), each column twice as wide",
        ),
        scores=histogram(
            bins_in(card, "scores", end=1.0),
            label="Pairs by margin" if is_pairs else "Rows by score",
            marks=_marks(card, {"mean_score": "mean"}),
            x_title="margin: how sure the better answer is better" if is_pairs else "score, 0 to 1",
        ),
        measures=quality_plot(card),
        counts=[
            (title, most_of(counts_in(card, name)))
            for title, name in (
                ("Task types", "task_types"),
                ("Difficulty", "difficulties"),
                ("Languages of the code", "code_languages"),
                ("Languages of the prose", "languages"),
                ("Projects", "projects"),
                ("Where the pairs are from", "bases"),
                ("Whose word rows rest on", "sources"),
                ("Mixed into train", "mixed_in"),
            )
            if counts_in(card, name)
        ],
    )


def quality_plot(card: Mapping[str, Any]) -> DotPlot | None:
    """Return the measures that have a value, with their targets, in percent."""
    rows = [
        (words(name), [("value", 100 * m["value"], None, None),
                       ("target", _times_100(m.get("target")), None, None)])
        for name, m in _measures(card)
        if _is_number(m.get("value"))
    ]  # fmt: skip
    return dot_plot(
        [(name, "", dots) for name, dots in rows],
        label="Measures of quality with their targets",
        within=(0.0, 100.0),
        zero=0.0,
        tones={"value": "c2", "target": "c-calm"},
        value_format=lambda v: f"{v:.1f} %",
    )


def measures_in(card: Mapping[str, Any]) -> list[Measured]:
    """Return the card's measures against their targets, those without a value too."""
    return [
        Measured(words(name), percent(m.get("value")), m.get("met"), _verdict(m))
        for name, m in _measures(card)
    ]


def most_of(counts: Mapping[str, int], shown: int = BARS_SHOWN) -> list[Bar]:
    """Return the largest counts as bars; what is not shown is added up in the last."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept = dict(ordered[:shown])
    rest = sum(n for _, n in ordered[shown:])
    found = bars({**kept, **({OTHERS: rest} if rest else {})})
    return sorted(found, key=lambda bar: bar.name == OTHERS)


def counts_in(card: Mapping[str, Any], name: str) -> dict[str, int]:
    """Return the card's entry `name` as counts above 0; empty if it is not an object of counts."""
    return {key: n for key, n in numbers_in(card, name).items() if n > 0}


def numbers_in(card: Mapping[str, Any], name: str) -> dict[str, int]:
    """Return the whole numbers of the card's entry `name`; empty if it is not an object."""
    entry = card.get(name)
    if not isinstance(entry, Mapping):
        return {}
    return {str(k): v for k, v in entry.items() if isinstance(v, int) and not isinstance(v, bool)}


def bins_in(
    card: Mapping[str, Any], name: str, end: float | None = None
) -> list[tuple[float, float | None, int]]:
    """Return a histogram of the card as (from, to, count); `end` is where the last bin ends."""
    entry = card.get(name)
    rows = entry if isinstance(entry, list) else []
    found = [
        (r["from"], r["n"]) for r in rows if isinstance(r, Mapping) and {"from", "n"} <= set(r)
    ]
    if not found:
        return []
    ends: list[float | None] = [*(low for low, _ in found[1:]), end]
    return [(low, high, n) for (low, n), high in zip(found, ends, strict=True)]


def file_name(dataset: Dataset, what: str, split: str) -> str:
    """Return what a download is called.

    Raises:
        BadInput: there is no such download of its kind.
    """
    stem = f"{dataset.role}-{dataset.kind}-v{dataset.number}"
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem)
    if what in CARDS:
        return f"{stem}-{what}"
    form = FORMATS.get(what)
    if form is None or dataset.kind not in form.kinds:
        fitting = ", ".join(
            [*CARDS, *(f.name for f in FORMATS.values() if dataset.kind in f.kinds)]
        )
        raise BadInput("download", what, f"one of {fitting}", "Choose another.")
    if split and form.suffix in ("jsonl", "parquet"):
        return f"{stem}-{split}-{what}.{form.suffix}"
    return f"{stem}-{what}.zip"


CARDS: Final = ("card.json", "card.html")


def _file(session: Session, dataset: Dataset, what: str, split: str, name: str) -> Response:
    if what == "card.json":
        return _attached(_pretty(dataset.card), name, "application/json")
    if what == "card.html":
        return _attached(card_page(session, dataset.id), name, "text/html; charset=utf-8")
    if name.endswith(".jsonl"):
        lines = lines_of_split(session, dataset.id, split, what)
        return StreamingResponse(
            lines, media_type="application/x-ndjson", headers=_disposition(name)
        )
    folder = Path(mkdtemp(prefix="flywheel-download-"))
    try:
        made = _made(session, dataset.id, what, split, name, folder)
    except BaseException:
        rmtree(folder)
        raise
    return FileResponse(made, filename=name, background=BackgroundTask(rmtree, folder))


def _made(
    session: Session, dataset_id: UUID, what: str, split: str, name: str, folder: Path
) -> Path:
    """Write what is downloaded as a whole and return its path, inside `folder`."""
    if split and what == PARQUET:
        made = folder / name
        if not parquet_of_split(session, dataset_id, split, made):
            raise BadInput("split", split, "a split that has rows", "Choose another split.")
        return made
    write_export(session, dataset_id, folder / "files", what)
    return Path(make_archive(str(folder / "all"), "zip", folder / "files"))


def _attached(text: str, name: str, media_type: str) -> Response:
    return Response(text, media_type=media_type, headers=_disposition(name))


def _disposition(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _pretty(card: Mapping[str, Any]) -> str:
    return json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False)


def _unfinished_build(session: Session, role: str) -> Run | None:
    return session.scalars(
        select(Run)
        .where(
            col(Run.kind) == BUILD, col(Run.role) == role, col(Run.status).in_((QUEUED, RUNNING))
        )
        .order_by(col(Run.id).desc())
        .limit(1)
    ).first()


def _recipe_like(session: Session, like: str) -> CurationRecipe:
    if not like:
        return CurationRecipe()
    try:
        identifier = UUID(like)
    except ValueError:
        raise BadInput("like", like, "the id of a version", "Build with the defaults.") from None
    return CurationRecipe.from_json(get_dataset(session, identifier).card.get("recipe") or {})


def _rows(session: Session, found: Sequence[Any]) -> list[Row]:
    """Return the rows of a page with what trained on each, in two queries for all of them."""
    ids = [row[0].id for row in found]
    counted = session.execute(
        select(col(TrainingRun.dataset_id), func.count())
        .where(col(TrainingRun.dataset_id).in_(ids))
        .group_by(col(TrainingRun.dataset_id))
    )
    trainings = {dataset_id: n for dataset_id, n in counted}
    models = session.scalars(
        select(ModelVersion)
        .where(col(ModelVersion.dataset_id).in_(ids))
        .ext(distinct_on(col(ModelVersion.dataset_id)))
        .order_by(col(ModelVersion.dataset_id), col(ModelVersion.id).desc())
    ).all()
    newest = {model.dataset_id: model for model in models}
    return [
        Row(dataset, score, warnings, trainings.get(dataset.id, 0), newest.get(dataset.id))
        for dataset, score, warnings in found
    ]


def _matching(filters: Filters) -> Select[Any]:
    query = select(Dataset, _SCORE, _WARNINGS).options(defer(Dataset.card))  # type: ignore[arg-type]
    for column, value in (
        (Dataset.role, filters.role),
        (Dataset.kind, filters.kind),
        (Dataset.variant, filters.variant),
    ):
        if value:
            query = query.where(col(column) == value)
    return query


def _measures(card: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    entry = card.get("quality")
    if isinstance(entry, Mapping):
        yield from ((str(name), m) for name, m in entry.items() if isinstance(m, Mapping))


def _marks(entry: Any, names: Mapping[str, str]) -> dict[str, float]:
    if not isinstance(entry, Mapping):
        return {}
    return {title: entry[name] for name, title in names.items() if _is_number(entry.get(name))}


def _verdict(measure: Mapping[str, Any]) -> str:
    if measure.get("value") is None:
        return f"not measured: {measure.get('why_not')}"
    if measure.get("met") is None:
        return ""
    return f"{'met' if measure['met'] else 'not met'}, target {percent(measure.get('target'))}"


def _times_100(value: Any) -> float | None:
    return 100 * value if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
