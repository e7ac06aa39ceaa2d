"""The client that runs inside other people's agents: log each call, its outcome, and go on.

    flywheel = Flywheel(role="coder")
    with flywheel.episode(task="add a parser", task_type="feature"):
        interaction_id = flywheel.record(request=request, response=response)
        flywheel.outcome(True, interaction_id)          # its tests passed

A record is in a local spool when `record` returns, some 30 microseconds later; threads scrub it
within about a second, and ship it. What goes wrong on our side is counted and logged, never raised
into the agent's call; what the caller gets wrong (no role, an unknown kind of feedback) is raised
as `BadInput` at once.

Read from the environment, where an argument does not say otherwise:

- `FLYWHEEL_URL` the service, such as http://127.0.0.1:8710; without it records stay in the spool.
- `FLYWHEEL_API_KEY` its key, if it has one.
- `FLYWHEEL_SPOOL` folder of the spool; default `FLYWHEEL_HOME/spool/client`, in `.flywheel`.
- `FLYWHEEL_FSYNC` `always`, `interval` (default) or `never`: against a loss of power; no kill of a
  process loses a record with any of them.
- `FLYWHEEL_SPOOL_MAX_BYTES` bound of what waits in the spool; default 1 GiB.
- `FLYWHEEL_SPOOL_DROP` what goes beyond it: `new` records (default) or the `oldest`; counted.
- `FLYWHEEL_PROJECT` project of the records; default `default`.
- `FLYWHEEL_GATEWAY_URL` OpenAI-compatible base URL that `completion` goes through, such as
  http://127.0.0.1:8711/v1; without it `completion` uses litellm.
- `FLYWHEEL_SCRUB_RULES` TOML file of further rules for scrubbing; see docs/scrubbing.md.
- `FLYWHEEL_SCRUB_NAMES` `presidio,client` to remove names and places here, too.
- `FLYWHEEL_SCRUB_NAMES_MODEL` spaCy model for them; default `en_core_web_lg`.

Imports nothing beyond the standard library until it must: httpx in the sender's thread, litellm in
`completion`.
"""

import atexit
import os
import socket
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload
from uuid import UUID

from collector.context import (
    Episode,
    acting_as,
    bound,
    current_episode,
    entered,
    last_interaction,
    observed,
)
from collector.record import (
    FEEDBACK_KINDS,
    FEEDBACK_SOURCES,
    feedback_record,
    snapshot,
)
from collector.sender import FEEDBACK, INTERACTION, Sender
from collector.spool import MAX_BYTES, Spool
from collector.transport import HttpTransport, Transport
from foundation.errors import BadInput
from foundation.http import ThreadClients
from foundation.ids import keyed_episode_id, new_id

if TYPE_CHECKING:
    from collector.calls import AsyncCompletionStream, Completion, CompletionStream

AT_EXIT_S = 3.0
"""Longest time that the end of the process waits for the spool to be shipped."""

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
Client = TypeVar("Client")


class Flywheel:
    """Logs interactions and feedback of one process.

    Args:
        url: of the service; see the module for defaults from the environment.
        api_key: its key.
        spool: folder of the local spool.
        role: role of records that name none.
        project: project of the records.
        transport: how batches are delivered, instead of HTTP to `url`.
        fsync: `always`, `interval` or `never`.
        max_bytes: bound of what waits in the spool.
        drop: what goes beyond the bound, `new` records or the `oldest`.

    Raises:
        BadInput: an unknown policy, or a bound that is not a number of bytes.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        spool: str | os.PathLike[str] | None = None,
        role: str | None = None,
        project: str | None = None,
        transport: Transport | None = None,
        *,
        fsync: str | None = None,
        max_bytes: int | None = None,
        drop: str | None = None,
    ) -> None:
        env = os.environ
        self.role = role
        self.project = project or env.get("FLYWHEEL_PROJECT") or "default"
        url = url or env.get("FLYWHEEL_URL")
        if transport is None and url:
            transport = HttpTransport(url, api_key or env.get("FLYWHEEL_API_KEY"))
        home = Path(env.get("FLYWHEEL_HOME") or ".flywheel")
        folder = spool or env.get("FLYWHEEL_SPOOL") or home / "spool" / "client"
        self.spool = Spool(
            Path(folder).absolute(),
            fsync=fsync or env.get("FLYWHEEL_FSYNC") or "interval",
            max_bytes=_bytes_of(max_bytes, env.get("FLYWHEEL_SPOOL_MAX_BYTES")),
            drop=drop or env.get("FLYWHEEL_SPOOL_DROP") or "new",
            reads=transport is not None,
            source=f"{self.project}@{socket.gethostname()}",
        )
        self.sender = Sender(self.spool, transport)
        self._closed = False
        self.connections = ThreadClients()
        myself = weakref.ref(self)
        atexit.register(_close_at_exit, myself)
        os.register_at_fork(after_in_child=lambda: _after_fork(myself))

    # Logging calls

    def record(
        self,
        *,
        request: Mapping[str, Any],
        response: Any = None,
        role: str | None = None,
        id: UUID | None = None,
        **columns: Any,
    ) -> UUID:
        """Log one LLM call and return its id.

        Args:
            request: OpenAI-shaped: model, messages, tools and parameters.
            response: OpenAI-shaped, as a dictionary or the provider's object; None if it failed.
            role: who called; by default the episode's role, then the client's.
            id: UUIDv7 of the record, if the caller made one; recording it twice stores it once.
            columns: any other column of `Interaction`: task_type, episode_id, parent_id, unit_id,
                status, error_type, completed, latency_ms, ttft_ms, cost_usd, usage_estimated,
                started_at, attributes, experiment_id, arm, model_version_id, …

        Raises:
            BadInput: nobody says which role called.
        """
        episode = current_episode()
        acting = role or (episode.role if episode else None) or self.role
        if not acting:
            raise BadInput(
                "role of a record",
                None,
                "the agent role that made the call, such as 'coder'",
                "Pass role=…, or give it to episode(), as_role() or Flywheel().",
            )
        identifier = id or new_id()
        self._keep(
            {
                "kind": INTERACTION,
                "id": str(identifier),
                "role": acting,
                "at": time.time(),
                "columns": self._settled_columns(episode, columns),
                "request": request,
                "response": response,
            },
            episode,
        )
        return identifier

    def _settled_columns(self, episode: Episode | None, columns: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in columns.items() if value is not None}
        settled: dict[str, Any] = {"project": self.project}
        if episode is None:
            return settled | given
        settled["episode_id"] = episode.id
        settled["task_type"] = episode.task_type
        settled["unit_id"] = episode.unit
        settled["parent_id"] = episode.parent_id
        settled |= given
        if episode.task is not None:
            settled["attributes"] = {"task": episode.task, **(settled.get("attributes") or {})}
        return settled

    def _keep(self, line: dict[str, Any], episode: Episode | None) -> None:
        """Spool a raw line; whatever fails is counted and logged, not raised."""
        if episode is not None:
            line["episode"] = str(episode.id)
        try:
            payload = snapshot(line)
        except Exception as error:  # the agent's own call has succeeded: our fault must not undo it
            self.spool.drop("client_error", f"{type(error).__name__}: {error}")
            return
        self.spool.append_line(payload)
        if self._closed:
            self.spool.prepare_all()  # no thread will
        else:
            self.sender.ensure_running()

    # Feedback

    def feedback(
        self,
        kind: str,
        *,
        interaction_id: UUID | None = None,
        interaction_key: str | None = None,
        response_id: str | None = None,
        episode_id: UUID | None = None,
        episode_key: str | None = None,
        name: str | None = None,
        value: float | None = None,
        text: str | None = None,
        loser_interaction_id: UUID | None = None,
        loser_interaction_key: str | None = None,
        loser_response_id: str | None = None,
        source: str = "human",
        actor: str | None = None,
        details: Mapping[str, Any] | None = None,
        id: UUID | None = None,
    ) -> UUID:
        """Say something about an interaction or an episode, at once or weeks later; return its id.

        An interaction is named by our id, by the `key` it was recorded with, or by the provider's
        id of the answer; an episode by its id or the `key` it was opened with. With none of these,
        it speaks of the episode that this code runs in. It may be sent before the record it speaks
        of.

        Raises:
            BadInput: unknown kind or source, or nothing that it speaks of.
        """
        _require_one_of("kind of feedback", kind, FEEDBACK_KINDS)
        _require_one_of("source of feedback", source, FEEDBACK_SOURCES)
        episode = current_episode()
        if episode_key is not None and episode_id is None:
            episode_id = keyed_episode_id(self.project, episode_key)
        named = (interaction_id, interaction_key, response_id, episode_id)
        if episode is not None and named == (None, None, None, None):
            episode_id = episode.id
        elif named == (None, None, None, None):
            raise BadInput(
                "subject of feedback",
                None,
                "interaction_id, interaction_key, response_id, episode_id or episode_key",
                "Pass the id that record() returned, or call it inside episode().",
            )
        identifier = id or new_id()
        columns = {
            "project": self.project,
            "interaction_id": interaction_id,
            "interaction_key": interaction_key,
            "response_id": response_id,
            "episode_id": episode_id,
            "name": name,
            "value": value,
            "text": text,
            "loser_interaction_id": loser_interaction_id,
            "loser_interaction_key": loser_interaction_key,
            "loser_response_id": loser_response_id,
            "source": source,
            "actor": actor,
            "details": details,
        }
        try:
            record = feedback_record(identifier, kind, **columns)
        except Exception as error:  # as in `_keep`
            self.spool.drop("client_error", f"{type(error).__name__}: {error}")
            return identifier
        self._keep({"kind": FEEDBACK, "record": record}, episode)
        return identifier

    def rate(self, stars: float, interaction_id: UUID | None = None, **columns: Any) -> UUID:
        """Rate from 1 (bad) to 5 (good)."""
        if not 1 <= stars <= 5:
            raise BadInput("rating", stars, "a number from 1 to 5", "Rescale it first.")
        return self.feedback("rating", interaction_id=interaction_id, value=stars, **columns)

    def outcome(
        self,
        success: bool,
        interaction_id: UUID | None = None,
        source: str = "test",
        **columns: Any,
    ) -> UUID:
        """Say whether it worked: tests passed, the patch was merged."""
        return self.feedback(
            "success", interaction_id=interaction_id, value=float(success), source=source, **columns
        )

    def correct(self, text: str, interaction_id: UUID | None = None, **columns: Any) -> UUID:
        """Give the answer that should have been."""
        return self.feedback("correction", interaction_id=interaction_id, text=text, **columns)

    # Context

    def episode(
        self,
        task: str | None = None,
        task_type: str | None = None,
        unit: str | None = None,
        role: str | None = None,
        id: UUID | None = None,
        key: str | None = None,
    ) -> AbstractContextManager[Episode]:
        """Open an agent task: what is recorded in the block shares its id. Blocks may be nested.

        Pass `id` to go on with an episode of another process, or your own `key`, such as a pull
        request's address: the same key means the same episode, everywhere in the project.
        """
        outer = current_episode()
        acting = role or (outer.role if outer else None)
        if id is None:
            id = keyed_episode_id(self.project, key) if key is not None else new_id()
        return entered(Episode(id, role=acting, task=task, task_type=task_type, unit=unit))

    def as_role(self, role: str, parent_id: UUID | None = None) -> AbstractContextManager[Episode]:
        """Let another role act in the present episode, caused by `parent_id`."""
        return entered(acting_as(role, parent_id))

    def observe(self, role: str, task_type: str | None = None) -> Callable[[F], F]:
        """Decorate a function: what it calls is called by `role`, in an episode.

        Sync and async functions, generators and async generators. Inside an episode only the role
        changes; elsewhere each call opens an episode.
        """

        def entering() -> AbstractContextManager[Episode]:
            if current_episode() is None:
                return self.episode(task_type=task_type, role=role)
            return self.as_role(role)

        return lambda function: observed(function, entering)

    @staticmethod
    def bound(function: Callable[P, R]) -> Callable[P, R]:
        """Return `function` for another thread, such as an executor's: it keeps this episode."""
        return bound(function)

    # Calling models

    def wrap(self, client: Client, role: str | None = None, *, embeddings: bool = False) -> Client:
        """Log every call that an OpenAI or Anthropic client makes, and return that client.

        Each answer and stream then has a `flywheel_interaction_id`.

        Args:
            client: sync or async, of openai 1 to 3 or of anthropic, which stays of its class; or
                the module litellm.
            role: of this client's calls, unless a call names its own; by default the episode's.
            embeddings: log those too.

        Raises:
            BadInput: another kind of object.
        """
        from collector import wrappers

        return wrappers.wrap(self, client, role, embeddings=embeddings)

    def langchain_handler(
        self, role: str | None = None, roles: Mapping[str, str] | None = None
    ) -> Any:
        """Return a callback handler that logs the model calls of LangChain and LangGraph.

        Args:
            role: of calls that neither their tags, metadata and node nor the episode give one.
            roles: node of a LangGraph graph, to the role that acts there.

        Raises:
            MissingExtra: langchain-core is not installed.
        """
        from collector.wrappers.langchain import langchain_handler

        return langchain_handler(self, role, roles)

    def last_interaction_id(self) -> UUID | None:
        """Return the id of the call that a wrapped client made last in this thread or task."""
        return last_interaction()

    @overload
    def completion(
        self,
        *,
        messages: Sequence[Mapping[str, Any]],
        model: str | None = None,
        role: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        stream: Literal[False] = False,
        **parameters: Any,
    ) -> "Completion": ...

    @overload
    def completion(
        self,
        *,
        messages: Sequence[Mapping[str, Any]],
        model: str | None = None,
        role: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        stream: Literal[True],
        **parameters: Any,
    ) -> "CompletionStream": ...

    def completion(
        self,
        *,
        messages: Sequence[Mapping[str, Any]],
        model: str | None = None,
        role: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        stream: bool = False,
        **parameters: Any,
    ) -> "Completion | CompletionStream":
        """Call a model and log the call; with `stream=True` return an iterator of chunks.

        Goes through `base_url` (or `FLYWHEEL_GATEWAY_URL`) if there is one, where a missing model
        means `role:<role>`; a call that our gateway has logged is not logged again. Otherwise
        litellm makes the call.

        Raises:
            BadInput: no role, or no model where litellm makes the call.
            httpx.HTTPError: the server of `base_url` failed; the failure is logged.
            foundation.llm.ProviderError: the provider failed; the failure is logged.
        """
        from collector import calls

        base_url = base_url or os.environ.get("FLYWHEEL_GATEWAY_URL")
        asked = calls.Asked(messages, model, role, base_url, api_key, timeout_s, stream, parameters)
        return calls.completion(self, asked)

    @overload
    async def acompletion(
        self,
        *,
        messages: Sequence[Mapping[str, Any]],
        model: str | None = None,
        role: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        stream: Literal[False] = False,
        **parameters: Any,
    ) -> "Completion": ...

    @overload
    async def acompletion(
        self,
        *,
        messages: Sequence[Mapping[str, Any]],
        model: str | None = None,
        role: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        stream: Literal[True],
        **parameters: Any,
    ) -> "AsyncCompletionStream": ...

    async def acompletion(
        self,
        *,
        messages: Sequence[Mapping[str, Any]],
        model: str | None = None,
        role: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        stream: bool = False,
        **parameters: Any,
    ) -> "Completion | AsyncCompletionStream":
        """Call a model without blocking the event loop; otherwise as `completion`.

        A call that is cancelled is logged as cut.
        """
        from collector import calls

        base_url = base_url or os.environ.get("FLYWHEEL_GATEWAY_URL")
        asked = calls.Asked(messages, model, role, base_url, api_key, timeout_s, stream, parameters)
        return await calls.acompletion(self, asked)

    # Delivery

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Ship what waits; return whether nothing waits any more. What does stays spooled.

        Without a service to ship to, records are only scrubbed, and wait.
        """
        return self.sender.flush(timeout_s)

    def counts(self) -> dict[str, Any]:
        """Return what became of the records seen by this process, and the bytes that wait.

        seen = delivered + waiting + held + damaged + dropped; `rejected` ones are delivered too.
        """
        return self.spool.counts()

    def close(self, timeout_s: float = 5.0) -> None:
        """Flush, stop the sender and release the spool. Later records are still spooled."""
        if self._closed:
            return
        self.flush(timeout_s)
        self._closed = True
        self.sender.stop()
        self.spool.close(timeout_s / 10)
        self.connections.close()


def _bytes_of(given: int | None, from_environment: str | None) -> int:
    if given is not None or not from_environment:
        return MAX_BYTES if given is None else given
    try:
        return int(from_environment)
    except ValueError:
        raise BadInput(
            "FLYWHEEL_SPOOL_MAX_BYTES",
            from_environment,
            "a number of bytes",
            "Leave it unset for 1 GiB, 1073741824.",
        ) from None


def _require_one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadInput(what, value, f"one of {', '.join(known)}", "Correct the call.")


def _close_at_exit(client: "weakref.ref[Flywheel]") -> None:
    alive = client()
    if alive is not None:
        alive.close(AT_EXIT_S)


def _after_fork(client: "weakref.ref[Flywheel]") -> None:
    alive = client()
    if alive is not None:
        alive.spool.after_fork()
        alive.connections.after_fork()
        alive.sender.after_fork()
