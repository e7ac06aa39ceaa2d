"""Judges tests of `request_pipeline`."""

import pytest

from evaluator.suites.built_in.modules.family import Checks, Fault
from evaluator.suites.built_in.modules.request_pipeline import (
    LOG_ALL,
    ROUTE_FIRST,
    App,
    Request,
    Response,
    Router,
)

CHECKS = Checks(
    rules={
        "LOG_ALL": {
            True: "Refused requests (401) are logged too.",
            False: "Refused requests (401) are not logged.",
        },
        "ROUTE_FIRST": {
            True: "Requests without a route are answered before any middleware, and not logged.",
            False: "Requests without a route pass the middleware like any other.",
        },
    },
    faults=[
        Fault(
            "handlers get the token for the user",
            "found(self.users[request.token], rest)",
            "found(request.token, rest)",
        ),
        Fault(
            "handlers get the whole path",
            "found(self.users[request.token], rest)",
            "found(self.users[request.token], request.path)",
        ),
        Fault(
            "nobody is asked for a token",
            "if request.token not in self.users:",
            "if request.token in ():",
        ),
        Fault(
            "refused requests reach the handler all the same",
            "            return Response(401)",
            "            further(request)\n            return Response(401)",
        ),
        Fault(
            "the log is not told the status",
            "self.log.append((request.path, response.status))",
            "self.log.append((request.path, 0))",
        ),
        Fault(
            "a request is handled once more for the log",
            "        return response\n",
            "        return further(request)\n",
        ),
    ],
)


def made() -> tuple[App, list[str]]:
    """An application with two routes, and what its handlers were called with."""
    calls: list[str] = []

    def show(user: str, rest: str) -> str:
        calls.append(f"{user} reads {rest}")
        return f"page {rest} for {user}"

    def save(user: str, rest: str) -> str:
        calls.append(f"{user} writes {rest}")
        return "saved"

    router = Router()
    router.add("GET", "notes", show)
    router.add("POST", "notes", save)
    router.add("POST", "login", save)
    return App(router, {"t1": "ann", "t2": "bob"}), calls


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (Request("GET", "/notes/7", "t1"), 200, "page 7 for ann"),
        (Request("GET", "/notes/7/history/", "t2"), 200, "page 7/history for bob"),
        (Request("GET", "/notes", "t2"), 200, "page  for bob"),
        (Request("POST", "/notes/7", "t1"), 200, "saved"),
        (Request("GET", "/nothing/7", "t1"), 404, ""),
        (Request("GET", "/login", "t1"), 405, ""),
        (Request("GET", "/notes/7", "t3"), 401, ""),
        (Request("GET", "/notes/7"), 401, ""),
        (Request("GET", "/nothing"), 404 if ROUTE_FIRST else 401, ""),
        (Request("GET", "/login"), 405 if ROUTE_FIRST else 401, ""),
    ],
)
def test_responses(request_: Request, status: int, body: str) -> None:
    """From the request to the body."""
    assert made()[0].handle(request_) == Response(status, body)


def test_what_handlers_see_and_the_log_holds() -> None:
    """Over several requests, in their order."""
    app, calls = made()
    app.handle(Request("GET", "/notes/1", "t1"))
    app.handle(Request("GET", "/notes/2", "stolen"))
    app.handle(Request("DELETE", "/notes/3", "t2"))
    app.handle(Request("POST", "/notes/4", "t2"))
    assert calls == ["ann reads 1", "bob writes 4"]
    assert app.log == [
        ("/notes/1", 200),
        *([("/notes/2", 401)] if LOG_ALL else []),
        *([] if ROUTE_FIRST else [("/notes/3", 405)]),
        ("/notes/4", 200),
    ]


def test_routes_and_users_that_come_later() -> None:
    """Count from then on."""
    app, calls = made()
    assert app.handle(Request("GET", "/tags/x", "t9")).status == (404 if ROUTE_FIRST else 401)
    app.users["t9"] = "eve"
    assert app.handle(Request("GET", "/tags/x", "t9")) == Response(404)
    app.router.add("GET", "tags", lambda user, rest: f"{user}: {rest}")
    assert app.handle(Request("GET", "/tags/x", "t9")) == Response(200, "eve: x")
    assert calls == []
    assert app.log[-1] == ("/tags/x", 200)
