"""An address of every page, from the seed: a route without one fails the test of all pages."""

from collections.abc import Iterator

from admin.pages import NOUNS

ADDRESSES: dict[str, tuple[str, ...]] = {
    "sign_in": ("/login",),
    "me": ("/me",),
    "overview": ("/",),
    "interactions.find": ("/interactions/find?id={interaction}",),
    "interactions.list": ("/interactions", "/interactions?role=coder"),
    "interactions.detail": ("/interactions/{interaction/hostile}", "/interactions/{interaction}"),
    "capture": ("/capture",),
    "review": ("/review",),
    "datasets.list": ("/datasets",),
    "datasets.detail": ("/datasets/{dataset}", "/datasets/{dataset/pairs}"),
    "datasets.card": ("/datasets/{dataset}/card",),
    "trainings.list": ("/trainings",),
    "models.list": ("/models",),
    "models.detail": ("/models/{model}",),
    "evaluations.list": ("/evaluations",),
    "evaluations.detail": ("/evaluations/{evaluation}",),
    "evaluations.report": ("/evaluations/{evaluation}/report",),
    "verdicts.list": ("/verdicts",),
    "verdicts.detail": ("/verdicts/{verdict}",),
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
    "runs.row": "/runs/{run/live}/row",
}
"""Of what a page asks for by itself: only that it answers is tested here."""

NO_PAGES: dict[str, str] = {
    "sign_in.oidc": "leads to the provider, which the tests of access play",
    "sign_in.oidc.back": "is where the provider leads back to",
}
"""GET routes that show nothing, and why."""

OWN_DOCUMENTS = ("sign_in", "datasets.card", "evaluations.report", "verdicts.report")
"""Pages without the menu: where one signs in, and reports of other rooms, which stand alone."""


def pages() -> Iterator[tuple[str, str]]:
    """Yield name and path of every GET route of the admin view, in the order of its menu."""
    for noun in NOUNS:
        for route in noun.routes.routes:
            if "GET" in getattr(route, "methods", ()):
                yield route.name, route.path  # type: ignore[attr-defined]


def filled(address: str, ids: dict[str, str]) -> str:
    """Return an address with the ids of the seed."""
    for name, identifier in ids.items():
        address = address.replace(f"{{{name}}}", identifier)
    assert "{" not in address, f"the seed has no id for {address}"
    return address
