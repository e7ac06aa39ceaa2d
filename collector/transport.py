"""How batches reach the collector: over HTTP; `collector.direct` writes to the database itself."""

import os
from typing import TYPE_CHECKING, Any, Protocol

from foundation.errors import FlywheelError

if TYPE_CHECKING:
    import httpx

Batch = dict[str, Any]
"""`{"source", "interactions": [...], "feedback": [...], "dropped": {reason: n}}`."""

Result = dict[str, Any]
"""`{"id", "status": stored|duplicate|rejected, "reason"}`, one per record, in the batch's order."""


class Transport(Protocol):
    """Delivers a batch and answers for each record."""

    def send(self, batch: Batch) -> list[Result]:
        """Deliver a batch.

        Raises:
            Unreachable: not now; the same batch may be sent again.
            Refused: never as it is; smaller batches may pass.
        """
        ...

    def close(self) -> None:
        """Release what the transport holds."""
        ...


class Unreachable(FlywheelError):
    """The collector does not take batches now: down, too busy, or the key is not accepted."""

    http_status = 503


class Refused(FlywheelError):
    """The collector refuses this batch as a whole: too large, or not well-formed."""


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

    def send(self, batch: Batch) -> list[Result]:
        """Post a batch; raises as `Transport.send`."""
        import httpx  # a tenth of a second, in the sender's thread and not in the agent's start

        if self._client is None or self._pid != os.getpid():  # a parent's sockets are not ours
            self._pid = os.getpid()
            self._client = httpx.Client(headers=self._headers, timeout=self.timeout_s)
        try:
            answer = self._client.post(f"{self.url}/v1/ingest", json=batch)
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.url}: {type(error).__name__}: {error}") from error
        if answer.status_code in (400, 413, 422):
            raise Refused(f"{answer.status_code}: {answer.text[:300]}")
        if answer.status_code != 200:
            raise Unreachable(f"{self.url}: status {answer.status_code}: {answer.text[:300]}")
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
