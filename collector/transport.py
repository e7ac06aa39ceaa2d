"""How batches reach the collector: over HTTP; `collector.direct` writes to the database itself."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from foundation.errors import FlywheelError

if TYPE_CHECKING:
    import httpx

Batch = dict[str, Any]
"""`{"source", "interactions": [...], "feedback": [...], "account": {…}}`."""

Result = dict[str, Any]
"""`{"id", "status": stored|duplicate|rejected, "reason"}`, one per record, in the batch's order."""

NDJSON = "application/x-ndjson"


class Transport(Protocol):
    """Delivers a batch and answers for each record."""

    def send(self, batch: Batch) -> list[Result]:
        """Deliver a batch.

        Raises:
            Unreachable: not now; the same batch may be sent again.
            Failing: as Unreachable, but perhaps because of what is in the batch.
            Refused: never as it is; smaller batches may pass.
        """
        ...

    def close(self) -> None:
        """Release what the transport holds."""
        ...


@runtime_checkable
class LineTransport(Protocol):
    """A transport that takes spooled lines as they are."""

    def send_lines(self, head: Mapping[str, Any], lines: Sequence[bytes]) -> list[Result]:
        """Deliver `{"kind", "record"}` lines after a head of `source` and `account`; as `send`."""
        ...


class Unreachable(FlywheelError):
    """The collector does not take batches now: down, too busy, or the key is not accepted.

    Attributes:
        retry_after_s: seconds that the collector asks to be left alone; None if it does not say.
    """

    http_status = 503

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class Failing(Unreachable):
    """The collector fails over this batch (status 500): broken, or one of the records breaks it."""


class Refused(FlywheelError):
    """The collector refuses this batch as a whole: too large, or not well-formed."""


class UnknownForm(Refused):
    """The collector does not know this content type, or reads it as something else."""


REFUSALS = frozenset({400, 413})
"""Statuses that a smaller or another batch may not get."""

UNKNOWN_FORMS = frozenset({415, 422})
"""Statuses of a server that expects another form of body."""

BUSY = frozenset({502, 503, 504})
"""Statuses of a server that is away, whatever it was sent."""


class HttpTransport:
    """Posts batches to `{url}/v1/ingest`.

    Args:
        url: of the service, such as http://127.0.0.1:8710.
        api_key: sent as a bearer token.
        timeout_s: of one request.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout_s: float = 30.0) -> None:
        self.url, self.timeout_s = url.rstrip("/"), timeout_s
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client: httpx.Client | None = None
        self._pid = 0
        self._takes_lines: bool | None = None

    def send(self, batch: Batch) -> list[Result]:
        """Post a batch; raises as `Transport.send`."""
        return self._post(json.dumps(batch).encode(), "application/json")

    def send_lines(self, head: Mapping[str, Any], lines: Sequence[bytes]) -> list[Result]:
        """Post spooled lines as they are; as JSON where a server knows nothing of NDJSON."""
        if self._takes_lines is not False:
            try:
                results = self._post(b"\n".join((json.dumps(head).encode(), *lines)), NDJSON)
            except UnknownForm:
                if self._takes_lines:
                    raise
            else:
                self._takes_lines = True
                return results
        results = self.send(batch_of(head, lines))
        self._takes_lines = False
        return results

    def _post(self, body: bytes, content_type: str) -> list[Result]:
        import httpx  # a tenth of a second, in the sender's thread and not in the agent's start

        if self._client is None or self._pid != os.getpid():  # a parent's sockets are not ours
            self._pid = os.getpid()
            self._client = httpx.Client(headers=self._headers, timeout=self.timeout_s)
        try:
            answer = self._client.post(
                f"{self.url}/v1/ingest", content=body, headers={"content-type": content_type}
            )
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.url}: {type(error).__name__}: {error}") from error
        _require_taken(self.url, answer)
        try:
            results: list[Result] = answer.json()["results"]
        except (ValueError, KeyError, TypeError) as error:
            raise Unreachable(f"{self.url}: not an ingest API: {answer.text[:100]!r}") from error
        return results

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None and self._pid == os.getpid():
            self._client.close()
        self._client = None


def batch_of(head: Mapping[str, Any], lines: Sequence[bytes]) -> Batch:
    """Return spooled lines as a batch."""
    parsed = [json.loads(line) for line in lines]
    return {
        **head,
        "interactions": [line["record"] for line in parsed if line.get("kind") == "interaction"],
        "feedback": [line["record"] for line in parsed if line.get("kind") == "feedback"],
    }


def _require_taken(url: str, answer: "httpx.Response") -> None:
    """Raise what a status other than 200 means."""
    status = answer.status_code
    if status == 200:
        return
    told = f"{url}: status {status}: {answer.text[:300]}"
    if status in REFUSALS:
        raise Refused(told)
    if status in UNKNOWN_FORMS:
        raise UnknownForm(told)
    if status >= 500 and status not in BUSY:
        raise Failing(told)
    raise Unreachable(told, retry_after_s(answer.headers.get("retry-after")))


def retry_after_s(header: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header, a number or a date; None if there is none."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
