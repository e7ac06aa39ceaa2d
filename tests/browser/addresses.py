"""An address of every page, from the seed: a route without one fails the test of all pages."""

from collections.abc import Iterator

from fastapi import APIRouter

from admin.pages import NOUNS

ADDRESSES: dict[str, tuple[str, ...]] = {
    "sign_in": ("/login",),
    "me": ("/me",),
    "overview": ("/",),
    "interactions.find": ("/interactions/find?id={interaction}",),
    "interactions.list": ("/interactions", "/interactions?role=coder"),
    "interactions.detail": ("/interactions/{interaction/hostile}", "/interactions/{interaction}"),
    "episodes.detail": ("/episodes/{episode/hostile}", "/episodes/{episode}"),
    "to_review.matching": ("/interactions/to-review?role=coder",),
    "erasing.ask": ("/interactions/{interaction}/erase?scope=episode",),
    "erasing.done": ("/interactions/erased/{erasure}",),
    "capture": ("/capture",),
    "review": ("/review",),
    "agreement": ("/review/agreement",),
    "review.items": ("/review/items",),
    "review.item": (
        "/review/items/{review/example}",
        "/review/items/{review/pair}",
        "/review/items/{review/likeness}",
        "/review/items/{review/sample}",
        "/review/items/{review/hostile}",
    ),
    "datasets.list": ("/datasets",),
    "datasets.detail": ("/datasets/{dataset}", "/datasets/{dataset/pairs}"),
    "datasets.card": ("/datasets/{dataset}/card",),
    "datasets.examples": (
        "/datasets/{dataset}/examples",
        "/datasets/{dataset}/examples?show=dropped",
        "/datasets/{dataset/pairs}/examples",
    ),
    "datasets.example": (
        "/datasets/{dataset}/examples/{example/repeat}",
        "/datasets/{dataset}/examples/{example}",
        "/datasets/{dataset/pairs}/examples/{pair}",
    ),
    "datasets.diff_to": ("/datasets/{dataset}/diff",),
    "datasets.diff": ("/datasets/{dataset/old}/diff/{dataset}",),
    "trainings.list": ("/trainings",),
    "trainings.detail": (
        "/trainings/{training/live}",
        "/trainings/{training/coder-v3}",
        "/trainings/{training/failed}",
    ),
    "models.list": ("/models",),
    "models.detail": ("/models/{model}", "/models/{model/serving}"),
    "models.card": ("/models/{model}/card",),
    "evaluations.list": ("/evaluations",),
    "evaluations.new": ("/evaluations/new",),
    "evaluations.detail": ("/evaluations/{evaluation}",),
    "evaluations.answers": ("/evaluations/{evaluation}/answers",),
    "evaluations.answer": ("/evaluations/{evaluation}/answers/{sample}",),
    "evaluations.report": ("/evaluations/{evaluation}/report",),
    "verdicts.list": ("/verdicts",),
    "verdicts.compare": ("/verdicts/compare",),
    "verdicts.detail": ("/verdicts/{verdict}", "/verdicts/{verdict/v5}"),
    "verdicts.tasks": ("/verdicts/{verdict}/tasks",),
    "verdicts.task": ("/verdicts/{verdict}/tasks/{task}",),
    "verdicts.report": ("/verdicts/{verdict}/report",),
    "experiments.list": ("/experiments",),
    "experiments.new": ("/experiments/new", "/experiments/new?role=tester"),
    "experiments.units": ("/experiments/{experiment}/units",),
    "experiments.detail": (
        "/experiments/{experiment}",
        "/experiments/{experiment/won}",
        "/experiments/{experiment/hold-back}",
    ),
    "roles.list": ("/roles",),
    "roles.detail": ("/roles/coder",),
    "traffic": ("/traffic",),
    "emergency": ("/emergency",),
    "decisions.list": ("/decisions",),
    "decisions.detail": ("/decisions/{decision/verdict}",),
    "runs.list": ("/runs",),
    "runs.detail": ("/runs/{run/live}", "/runs/{run/failed}"),
    "runs.log": ("/runs/{run/live}/log",),
    "audit.list": ("/audit",),
    "audit.detail": ("/audit/{audit}",),
    "system": ("/system",),
    "settings": ("/settings",),
    "keys.list": ("/keys",),
    "users.list": ("/users",),
}
"""Of pages, by the name of their route; `{noun}` is an id of the seed."""

PARTS: dict[str, str] = {
    "overview.open_runs": "/open-runs",
    "emergency.banner": "/emergency/banner",
    "decisions.replay": "/decisions/{decision/verdict}/replay",
    "experiments.unit": "/experiments/{experiment}/units/{unit}/calls",
    "audit.row": "/audit/{audit}/row",
    "trainings.row": "/trainings/{training/live}/row",
    "trainings.curves": "/trainings/{training/live}/curves",
    "models.diff": "/models/{model}/diff/{model}.json",
    "erasing.certificate": "/interactions/erased/{erasure}/certificate.json",
    "models.manifest": "/models/{model}/manifest.json",
    "runs.curves": "/runs/{run/live}/curves",
    "runs.log_file": "/runs/{run/live}/log.txt",
    "review.waiting": "/review/next",
    "runs.row": "/runs/{run/live}/row",
}
"""Of what a page asks for by itself: only that it answers is tested here."""

NO_PAGES: dict[str, str] = {
    "runs.events": "is a stream, which the page of a training follows",
    "sign_in.oidc": "leads to the provider, which the tests of access play",
    "sign_in.oidc.back": "is where the provider leads back to",
}
"""GET routes that show nothing, and why."""

OWN_DOCUMENTS = ("sign_in", "datasets.card", "models.card", "evaluations.report", "verdicts.report")
"""Pages without the menu: where one signs in, and reports of other rooms, which stand alone."""


def pages() -> Iterator[tuple[str, str]]:
    """Yield name and path of every GET route of the admin view, in the order of its menu."""
    for noun in NOUNS:
        yield from _of(noun.routes)


def _of(routes: APIRouter) -> Iterator[tuple[str, str]]:
    for route in routes.routes:
        inside = getattr(route, "original_router", None)
        if inside is not None:
            yield from _of(inside)
        elif "GET" in getattr(route, "methods", ()):
            yield route.name, route.path  # type: ignore[attr-defined]


def filled(address: str, ids: dict[str, str]) -> str:
    """Return an address with the ids of the seed."""
    for name, identifier in ids.items():
        address = address.replace(f"{{{name}}}", identifier)
    assert "{" not in address, f"the seed has no id for {address}"
    return address
