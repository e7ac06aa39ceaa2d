"""Calls that are made beside one: those of a consensus, and copies for the log alone.

Each is a call of its own below the one that an agent made: reserved, forwarded, settled, recorded.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from collector.tables import CUT, ERROR, SUCCESS
from evaluator.sandbox import Sandbox
from foundation import tracing
from foundation.errors import FlywheelError
from router import metrics
from router.call import Call, Ending
from router.consensus import THE_ROLE, Agreed, Answer, Consensus, agree
from router.dialects import CHAT, Asked, read_error
from router.dialects.chat import as_event
from router.estimates import estimate, input_tokens
from router.faults import REFUSED
from router.keys import Caller
from router.lanes import EVENT_STREAM, Opened, UpstreamFailed
from router.roster import Target
from router.shadow import SHADOW
from router.spending import spent_on
from router.switchboard import Outgoing, Switchboard
from router.upstreams.parameters import applied

log = logging.getLogger(__name__)

IN_CHATS = frozenset({"chat", "responses", "messages"})
"""Dialects whose requests several models can be asked as chats."""


@dataclass
class Said:
    """A call that was made beside another, and how it ended."""

    call: Call
    ending: Ending
    answer: Answer | None = None


class Beside:
    """The calls beside one call."""

    def __init__(
        self, board: Switchboard, caller: Caller, main: Call, headers: dict[str, str]
    ) -> None:
        self._board, self._caller, self._main, self._headers = board, caller, main, headers

    async def by_consensus(self, rules: Consensus) -> Opened:
        """Have several models answer the main call and return the answer that is given.

        Raises:
            UpstreamFailed: none of them answered.
            BadInput: the request cannot be asked as a chat.
        """
        main = self._main
        assert main.asked is not None
        asked = {k: v for k, v in main.asked.chat.items() if k not in ("stream", "stream_options")}
        said: dict[str, Said] = {}

        async def ask(model: str, request: dict[str, Any]) -> Answer | None:
            one = await self._ask(model, request)
            said[model if model not in said else f"{model} again"] = one
            return one.answer

        with tracing.span("gateway consensus", flywheel__models=len(rules.models)):
            found = await agree(rules, asked, ask, self._sandbox)
        for model, one in said.items():
            if found is None or model != found.model:
                self._board.recorder.keep(one.call, one.ending)
        if found is None:
            raise UpstreamFailed(", ".join(rules.models), "no_consensus", "every model failed")
        self._tell(rules, found, said[found.model])
        return _opened(found.answer, main.asked)

    def _tell(self, rules: Consensus, found: Agreed, winner: Said) -> None:
        main, elected = self._main, found.elected
        main.answered_by = winner.call.answered_by or winner.call.target
        main.told.append((b"x-flywheel-consensus", f"{elected.votes}/{elected.n}".encode()))
        main.attributes["consensus"] = {
            "by": rules.by,
            "models": list(rules.models),
            "chosen": found.model,
            "votes": elected.votes,
            "of": elected.n,
            "reason": elected.reason,
        }

    def _sandbox(self) -> Sandbox:
        return sandboxes.one

    async def _ask(self, model: str, request: dict[str, Any]) -> Said:
        target = self._main.target if model == THE_ROLE else self._board.find(model)
        body = json.dumps({**request, "model": model}).encode()
        call = self._below(target, CHAT.read(body))
        call.attributes["consensus_of"] = str(self._main.id)
        if target is None:
            log.warning("consensus of %s: nobody knows the model %r", call.role, model)
            return Said(call, Ending(ERROR, error_type=f"{REFUSED}not_found"))
        return await self._sent(call, target)

    async def copy(self, target: Target, asked: Asked, experiment_id: UUID | None) -> None:
        """Send the main call to another model as well, for the log alone."""
        call = self._below(target, asked)
        call.arm, call.experiment_id, call.unit = SHADOW, experiment_id, self._main.unit
        with tracing.span("gateway shadow", flywheel__interaction_id=call.id):
            said = await self._sent(call, target)
        self._board.recorder.keep(call, said.ending)

    def _below(self, target: Target | None, asked: Asked) -> Call:
        main = self._main
        return Call(
            main.role,
            target,
            asked,
            key=main.key,
            key_id=main.key_id,
            project=main.project,
            task_type=main.task_type,
            difficulty=main.difficulty,
            episode_id=main.episode_id,
            parent_id=main.id,
        )

    async def _sent(self, call: Call, target: Target) -> Said:
        """Reserve, ask, settle; every failure becomes an ending."""
        assert call.asked is not None
        board = self._board
        rules = board.config.rules_for(call.role, target.version_name, target.model)
        asked = call.asked = applied(call.asked, rules)
        provider = target.upstream.name if target.upstream else None
        may_take = estimate(asked.body, asked.max_output_tokens, target.model, provider, 1)
        try:
            reservation = await board.budgets.reserve(
                self._caller, call.role, call.project, may_take.tokens, may_take.cost_usd
            )
        except FlywheelError as error:
            kind = f"{REFUSED}{type(error).__name__}"
            return Said(call, Ending(ERROR, error_type=kind, error=str(error)))
        pieces: Sequence[bytes] = ()
        ending = Ending(CUT, error_type="cancelled")
        answer: Answer | None = None
        try:
            opened = await board.forwarder.open(call, target, rules, Outgoing(asked, self._headers))
            pieces = [await opened.read()]
            ending, answer = _ended(opened, pieces[0], asked)
            call.ttft_ms = call.elapsed_ms()
        except UpstreamFailed as error:
            ending = Ending(ERROR, pieces, error_type=error.kind, error=str(error))
        except FlywheelError as error:
            kind = f"{REFUSED}{type(error).__name__}"
            ending = Ending(ERROR, error_type=kind, error=str(error))
        finally:
            metrics.beside.inc(metrics.role_of(call.role), call.arm or "consensus")
            metrics.count_tries(call)
            if pieces:
                tokens = input_tokens(asked.body)
                spent = spent_on(target, pieces, is_stream=asked.stream, input_tokens=tokens)
                metrics.count_spent(call.role, spent)
                reservation.settle(spent.input_tokens, spent.output_tokens, spent.cost_usd)
            else:
                reservation.release()
        return Said(call, ending, answer)


def _ended(opened: Opened, body: bytes, asked: Asked) -> tuple[Ending, Answer | None]:
    """Return how an answer that was read ended, and its values if it is a whole chat."""
    if opened.status >= 400:
        told = read_error(opened.status, body)
        return Ending(ERROR, error_type=told.kind, error=told.message), None
    if opened.is_stream:
        return Ending(SUCCESS, [body], is_stream=True, is_native=opened.is_native), None
    spoken = asked.dialect if opened.is_native else CHAT
    values = spoken.read_answer(body)
    if values is None:
        return Ending(ERROR, error_type="upstream_garbage", error=f"{body[:100]!r}"), None
    return Ending(SUCCESS, [body], is_native=opened.is_native), values


def _opened(answer: Answer, asked: Asked) -> Opened:
    """Return a chat completion as an answer that begins, streamed if that was asked."""
    is_native = asked.dialect is CHAT
    body = as_stream(answer) if asked.stream else json.dumps(answer).encode()
    kind = EVENT_STREAM if asked.stream else "application/json"
    return Opened(200, {"content-type": kind}, _once(body), _nothing, is_native)


def as_stream(answer: Answer) -> bytes:
    """Return a chat completion as the events of a stream, each choice in one piece; pure."""
    head = {**{k: answer.get(k) for k in ("id", "created", "model")}}
    head |= {"object": "chat.completion.chunk"}
    events = []
    for choice in answer["choices"]:
        delta = {**choice["message"]}
        if delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": n, **c} for n, c in enumerate(delta["tool_calls"])]
        place = {"index": choice.get("index", 0)}
        events.append({**head, "choices": [{**place, "delta": delta, "finish_reason": None}]})
        finish = choice.get("finish_reason") or "stop"
        events.append({**head, "choices": [{**place, "delta": {}, "finish_reason": finish}]})
    if answer.get("usage"):
        events.append({**head, "choices": [], "usage": answer["usage"]})
    return b"".join(map(as_event, events)) + b"data: [DONE]\n\n"


async def _once(body: bytes) -> Any:
    yield body


async def _nothing() -> None:
    return None


class _Sandboxes:
    """The sandbox of this process, made when code is first run."""

    @cached_property
    def one(self) -> Sandbox:
        return Sandbox(workers=1)


sandboxes = _Sandboxes()
