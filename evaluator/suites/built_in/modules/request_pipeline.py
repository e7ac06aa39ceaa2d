"""A router, two pieces of middleware, and the application that puts them around handlers.

Requests name a method and a path and may carry a token; responses have a status and a body.
Without a known token a request is answered by 401, without a route by 404, and by 405 where the
path is known for another method.
"""

from collections.abc import Callable
from dataclasses import dataclass

LOG_ALL = True
ROUTE_FIRST = True


@dataclass(frozen=True)
class Request:
    """What a client asks."""

    method: str
    path: str
    token: str = ""


@dataclass(frozen=True)
class Response:
    """What a client gets."""

    status: int
    body: str = ""


Handler = Callable[[str, str], str]
Next = Callable[[Request], Response]


class Router:
    """Finds handlers by method and the first part of a path."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str], Handler] = {}

    def add(self, method: str, first: str, handler: Handler) -> None:
        """A handler is called with the user and the rest of the path."""
        self.routes[method, first] = handler

    def find(self, request: Request) -> tuple[Handler | int, str]:
        """The handler, or the status of an error, and the rest of the path."""
        first, _, rest = request.path.strip("/").partition("/")
        if (request.method, first) in self.routes:
            return self.routes[request.method, first], rest
        return (405 if any(first == known for _, known in self.routes) else 404), rest


class App:
    """Answers requests; `users` holds the name behind each token."""

    def __init__(self, router: Router, users: dict[str, str]) -> None:
        self.router = router
        self.users = users
        self.log: list[tuple[str, int]] = []

    def handle(self, request: Request) -> Response:
        """The response, through all middleware."""
        if ROUTE_FIRST:
            found, _ = self.router.find(request)
            if isinstance(found, int):
                return Response(found)
        if LOG_ALL:
            return self.logged(request, lambda one: self.allowed(one, self.routed))
        else:
            return self.allowed(request, lambda one: self.logged(one, self.routed))

    def logged(self, request: Request, further: Next) -> Response:
        """Notes path and status of what comes back."""
        response = further(request)
        self.log.append((request.path, response.status))
        return response

    def allowed(self, request: Request, further: Next) -> Response:
        """Lets requests of known users pass."""
        if request.token not in self.users:
            return Response(401)
        return further(request)

    def routed(self, request: Request) -> Response:
        """Calls the handler."""
        found, rest = self.router.find(request)
        if isinstance(found, int):
            return Response(found)
        return Response(200, found(self.users[request.token], rest))
