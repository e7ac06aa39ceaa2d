"""One call at the gateway, from its headers to its record.

Who calls, what is asked, who answers, what it may take: each step can refuse, and a refusal is
recorded like an answer wherever it is known which role asked. Whatever the upstream does counts for
the arm that was assigned.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Send

from collector.tables import CUT, ERROR, SUCCESS
from foundation import log_ids, logs, trace_context, tracing
from foundation.errors import BadInput, FlywheelError
from foundation.settings import get_settings
from router import metrics
from router.asgi import Answering, Departure, read_body, send_json, send_whole
from router.beside import IN_CHATS, Beside
from router.budget import Reservation
from router.cache import HEADER, HIT, MISS, Flight, key_of, wish_of
from router.call import Call, Ending, RawHeaders
from router.dialects import CHAT, Asked, Dialect, read_error
from router.estimates import estimate, input_tokens
from router.faults import REFUSED, UNREACHABLE
from router.keys import Caller
from router.labels import Labels, labels_of
from router.lanes import Opened, UpstreamFailed
from router.limits import LimitReached
from router.paths import Place
from router.promote import require_role
from router.relay import Relay
from router.specialist.features import features_of
from router.spending import Spent, spent_on
from router.switchboard import ROLE_PREFIX, Outgoing, Switchboard
from router.upstreams.config import CallRules
from router.upstreams.forward import NobodyAnswers
from router.upstreams.parameters import applied
from router.upstreams.server import LITELLM

CALLERS_FAULT = frozenset({400, 413, 422})
"""Statuses by which an upstream says that the request itself is wrong."""

LONGEST_MODEL = 200
"""Characters of the model that was asked for, in a span."""

MOST_ANSWERS = 128
"""Answers to one request, at most, that tokens are promised for: OpenAI's own limit."""

NOT_BILLED = frozenset({UNREACHABLE, "no_consensus"})
"""How a call fails that no upstream has read: nobody bills it."""

CODES: Mapping[int, str] = {
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    500: "internal_error",
}

log = logging.getLogger(__name__)


class InternalError(FlywheelError):
    """A fault of the gateway's own, of which its log tells more."""

    http_status = 500

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"gateway: {type(error).__name__} on the way of this call, expected none. "
            "The gateway's log has the details; ask again, or ask otherwise."
        )


@dataclass(slots=True)
class Exchange:
    """One request at the gateway's door: what it says, and the way back to its caller."""

    place: Place
    headers: dict[str, str]
    receive: Receive
    send: Send


async def converse(board: Switchboard, dialect: Dialect, exchange: Exchange) -> None:
    """Answer a call in a dialect, whole or as a stream; then tell counters, span and log of it."""
    answering = exchange.send = Answering(exchange.send)
    conversation = Conversation(board, dialect, exchange)
    parent = exchange.headers.get("traceparent")
    with tracing.span(f"gateway {dialect.name}", "server", parent) as span:
        try:
            await _converse(conversation, exchange)
        finally:
            conversation.tell(span, answering.status)


async def _converse(conversation: "Conversation", exchange: Exchange) -> None:
    try:
        await conversation.prepare()
    except FlywheelError as error:
        return await conversation.refuse(error)
    except ConnectionResetError:
        raise
    except Exception as error:
        return await conversation.fail(error)
    departure = Departure(exchange.receive)
    try:
        await conversation.answer(departure)
    except FlywheelError as error:
        departure.stop()
        await conversation.refuse(error)
    except asyncio.CancelledError:
        conversation.record(CUT, "client_gone")
        task = asyncio.current_task()
        if not departure.happened or task is None or task.uncancel() > 0:
            raise
    except Exception as error:
        departure.stop()
        await conversation.fail(error)
    finally:
        departure.stop()
        conversation.end()


class Conversation:
    """A call and all that belongs to it while it is on its way."""

    def __init__(self, board: Switchboard, dialect: Dialect, exchange: Exchange) -> None:
        self.board, self.dialect, self.exchange = board, dialect, exchange
        self.role = exchange.place.role or exchange.headers.get("x-flywheel-role")
        self.asked: Asked | None = None
        self.call: Call | None = None
        self.rules = CallRules()
        self._caller: Caller | None = None
        self._reservation: Reservation | None = None
        self._is_paid_elsewhere = self._is_sent = False
        self._succeeded = False
        self._opened: Opened | None = None
        self._relay: Relay | None = None
        self._pieces: Sequence[bytes] = ()
        self._recorded = False
        self._outcome = metrics.REFUSED
        self._spent = Spent()
        self._started = time.perf_counter()

    # Before it is sent

    async def prepare(self) -> None:
        """Find out who asks for what, who answers it, and whether it may; raises FlywheelError."""
        headers, board = self.exchange.headers, self.board
        caller = self._caller = board.keyring.identify(headers)
        labels = labels_of(headers, self.exchange.place)
        limit = get_settings().max_prompt_bytes
        asked = self.asked = self.dialect.read(await read_body(self.exchange.receive, limit))
        call = self.call = self._call(asked, caller, labels)
        log_ids.bind(interaction_id=call.id, episode_id=call.episode_id, role=call.role)
        trace = trace_context.traceparent() or headers.get("traceparent")
        if trace is not None and trace_context.is_well_formed(trace):
            call.attributes["trace_id"] = trace[3:35]
        await board.choose(call, caller, asked.model)
        assert call.target is not None
        rules = board.config.rules_for(
            call.role, asked.model, call.target.version_name, call.target.model
        )
        self.rules, call.asked = rules, applied(asked, rules)
        await self._reserve(call, call.asked, caller)

    def _call(self, asked: Asked, caller: Caller, labels: Labels) -> Call:
        model = asked.model
        role = model.removeprefix(ROLE_PREFIX) if model.startswith(ROLE_PREFIX) else labels.role
        if role is None:
            raise BadInput(
                "role of a call",
                None,
                f"the agent role that asks {model!r}",
                "Send the header x-flywheel-role, use /r/<role>/v1, or ask model role:<role>.",
            )
        self.role = role
        require_role(role)
        caller.require_role(role)
        return Call(
            role,
            asked=asked,
            key=caller.name,
            key_id=caller.key_id,
            project=caller.project(labels.project),
            task_type=labels.task_type,
            difficulty=labels.difficulty,
            episode_id=labels.episode_id,
            parent_id=labels.parent_id,
            unit=labels.unit,
        )

    async def _reserve(self, call: Call, asked: Asked, caller: Caller) -> None:
        assert call.target is not None
        upstream = call.target.upstream
        may_take = estimate(
            asked.body,
            0 if self.dialect.name == "embeddings" else asked.max_output_tokens,
            call.target.model,
            upstream.name if upstream else None,
            _n_answers(asked),
        )
        self._reservation = await self.board.budgets.reserve(
            caller, call.role, call.project, may_take.tokens, may_take.cost_usd
        )

    # The answer

    async def answer(self, departure: Departure) -> None:
        """Have it answered, and pass the answer on.

        Raises:
            UpstreamFailed: no answer.
            BadInput: it asks for what its upstream cannot do.
        """
        call = self.call
        assert call is not None
        assert call.asked is not None
        assert call.target is not None
        wish = wish_of(self.exchange.headers.get(HEADER), self.rules, self.board.config.defaults)
        if wish is None:
            return await self._answer_by(departure, None)
        upstream = call.target.upstream
        scope = (
            call.role,
            call.project,
            self.dialect.name,
            upstream.name if upstream else None,
            call.target.model,
        )
        async with self.board.cache.flight(key_of(scope, call.asked.values), wish) as flight:
            await self._answer_by(departure, flight)

    async def _answer_by(self, departure: Departure, flight: Flight | None) -> None:
        """Answer from the cache, or ask and leave there what came."""
        call = self.call
        assert call is not None
        assert call.asked is not None
        if flight is not None:
            call.cached = self._is_paid_elsewhere = flight.kept is not None
            call.cost_usd = 0.0 if call.cached else None
            call.told.append((HEADER.encode(), (HIT if call.cached else MISS).encode()))
        kept = flight.kept if flight is not None else None
        opened = kept.opened() if kept is not None else await self._open(call)
        self._opened = opened
        await self._relay_or_read(call, opened, departure)
        if flight is not None and kept is None and self._is_whole(opened):
            kind = opened.headers.get("content-type", "application/json")
            flight.keep(kind, self._pieces, opened.is_native)

    def _is_whole(self, opened: Opened) -> bool:
        """Return whether an answer was a success and came to its end."""
        is_complete = self._relay is None or (self._relay.failure is None and self._relay.ended)
        return opened.status == 200 and self._succeeded and is_complete and bool(self._pieces)

    async def _open(self, call: Call) -> Opened:
        """Have it answered: by several models where the role asks for that, by one otherwise."""
        assert call.asked is not None
        assert call.target is not None
        assert self._caller is not None
        asks_role = self.asked is not None and self.asked.model.startswith(ROLE_PREFIX)
        consensus = self.board.ways(call.role).consensus if asks_role else None
        if consensus is not None and call.arm is None and self.dialect.name in IN_CHATS:
            request = self.dialect.chat_request(call.asked.values)
            if consensus.when.fits(features_of(request, call.task_type, call.difficulty)):
                self._is_paid_elsewhere = True
                beside = Beside(self.board, self._caller, call, self.exchange.headers)
                return await beside.by_consensus(consensus)
        outgoing = Outgoing(call.asked, self.exchange.headers)
        self._is_sent = True
        return await self.board.forwarder.open(call, call.target, self.rules, outgoing)

    async def _relay_or_read(self, call: Call, opened: Opened, departure: Departure) -> None:
        assert call.asked is not None
        if opened.status < 400 and call.asked.stream and opened.is_stream:
            return await self._stream(call, opened, departure)
        body = await opened.read()
        self._pieces = [body]
        departure.stop()
        if opened.status >= 400:
            return await self._pass_error_on(opened, body)
        await self._pass_on(call, opened, body)

    async def _stream(self, call: Call, opened: Opened, departure: Departure) -> None:
        relay = self._relay = Relay(call, opened, self._record_stream)
        self._pieces = relay.pieces
        await relay.pass_on(self.exchange.send, [*opened.raw_headers(), *call.headers()])
        departure.stop()
        await self.exchange.send({"type": "http.response.body", "body": b""})

    def _record_stream(self) -> None:
        failure = self._relay.failure if self._relay is not None else None
        if failure is None:
            self.record(SUCCESS)
        else:
            self.record(ERROR, failure.kind, str(failure))

    async def _pass_on(self, call: Call, opened: Opened, body: bytes) -> None:
        assert call.asked is not None
        assert call.target is not None
        spoken = self.dialect if opened.is_native else CHAT
        values = spoken.read_answer(body)
        if values is None:
            answering = call.answered_by or call.target
            self.board.forwarder.blame(answering, "upstream_garbage")
            self._pieces = ()
            raise UpstreamFailed(answering.model, "upstream_garbage", f"{body[:100]!r}")
        call.ttft_ms = call.elapsed_ms()
        self.record(SUCCESS)
        headers = [*opened.raw_headers(), *call.headers()]
        if not opened.is_native and self.dialect is not CHAT:
            said = self.dialect.answer(values, call.asked, call.id.hex)
            return await send_json(self.exchange.send, opened.status, said, _untyped(headers))
        await send_whole(self.exchange.send, opened.status, headers, body)

    async def _pass_error_on(self, opened: Opened, body: bytes) -> None:
        """Pass an upstream's refusal on in the words of the dialect, and record it: it is free."""
        self._is_sent = False
        assert self.call is not None
        status, told = opened.status, read_error(opened.status, body)
        kind = f"{REFUSED}{told.kind}" if status in CALLERS_FAULT else told.kind
        self._pieces = ()
        self.record(ERROR, kind, told.message)
        said = self.dialect.error(told.message, "upstream_error", told.kind, status)
        if isinstance(said.get("error"), dict) and "param" in said["error"]:
            said = {"error": {**said["error"], **told.given}}
        headers = [*_untyped(opened.raw_headers()), *self.call.headers()]
        await send_json(self.exchange.send, status, said, headers)

    # The end

    async def refuse(self, error: FlywheelError) -> None:
        """Answer with one of our errors, and record it wherever the role is known."""
        status, kind, code = _worded(error)
        if isinstance(error, NobodyAnswers) or code in NOT_BILLED:
            self._is_sent = False
        is_ours = not isinstance(error, UpstreamFailed) or status in CALLERS_FAULT
        error_type = code or type(error).__name__
        self.record(ERROR, f"{REFUSED}{error_type}" if is_ours else error_type, str(error))
        said = self.dialect.error(str(error), kind, code, status)
        if isinstance(error, BadInput) and "param" in said.get("error", {}):
            said["error"]["param"] = error.what
        headers = _headers(error)
        if self.call is not None:
            headers += self.call.headers()
        await send_json(self.exchange.send, status, said, headers)

    async def fail(self, error: Exception) -> None:
        """Answer and record a fault of our own; an answer that has begun is cut instead."""
        log.error("a call failed inside the gateway", exc_info=error)
        try:
            await self.refuse(InternalError(error))
        except RuntimeError:  # of the server: there cannot be a second answer
            raise error from None

    def record(self, status: str, error_type: str | None = None, error: str | None = None) -> None:
        """Put the call into the spool, unless it is there; a role that nobody knows has none."""
        if self._recorded:
            return
        if self.call is None:
            if self.role not in get_settings().roles:
                return
            self.call = Call(self.role, asked=self.asked)
        self._recorded, self._succeeded = True, status == SUCCESS
        is_refused = error_type is not None and error_type.startswith(REFUSED)
        self._outcome = metrics.REFUSED if is_refused else status
        opened = self._opened
        ending = Ending(
            status,
            self._pieces,
            self._relay is not None,
            error_type,
            error,
            opened is None or opened.is_native,
        )
        self.board.recorder.keep(self.call, ending)

    def end(self) -> None:
        """Settle what the call took.

        An upstream that was asked bills the prompt, also of a caller who left before the answer.
        """
        reservation, call = self._reservation, self.call
        if reservation is None or call is None or call.asked is None:
            return
        if self._succeeded and not call.cached:
            self._mirror(call)
        if self._is_paid_elsewhere or not (self._pieces or self._is_sent):
            return reservation.release()
        try:
            spent = spent_on(
                call.answered_by or call.target,
                self._pieces,
                is_stream=self._relay is not None,
                input_tokens=input_tokens(call.asked.body),
            )
        except Exception:  # a promise that nobody settles would be held as long as we run
            log.exception("what call %s took is not known; it counts as reserved", call.id)
            spent = Spent()
        self._spent = spent
        metrics.count_spent(call.role, spent)
        reservation.settle(spent.input_tokens, spent.output_tokens, spent.cost_usd)

    def tell(self, span: tracing.Span, status: int) -> None:
        """Count the call, and say in its span and in the log how it went: never what was said."""
        call, role = self.call, self.role
        metrics.count_call(call, role, self.dialect.name, self._outcome, status)
        if tracing.is_on():
            self._describe(span, status)
        elapsed_ms = (time.perf_counter() - self._started) * 1000
        logs.write_access("POST", self.exchange.place.path, status, elapsed_ms)

    def _describe(self, span: tracing.Span, status: int) -> None:
        call = self.call
        target = call and (call.answered_by or call.target)
        provider = (target.upstream.name if target.upstream else LITELLM) if target else None
        span.say(
            gen_ai__operation__name=self.dialect.operation,
            gen_ai__provider__name=provider,
            gen_ai__request__model=self.asked and self.asked.model[:LONGEST_MODEL],
            gen_ai__response__model=target and target.model,
            gen_ai__usage__input_tokens=self._spent.input_tokens,
            gen_ai__usage__output_tokens=self._spent.output_tokens,
            http__response__status_code=status,
            flywheel__role=metrics.role_of(self.role),
            flywheel__interaction_id=call and call.id,
            flywheel__episode_id=call and call.episode_id,
            flywheel__arm=call and call.arm,
            flywheel__model_version=target and target.version_name,
            flywheel__tries=call and len(call.attempts),
        )
        if self._outcome != SUCCESS:
            span.fail(self._outcome)

    def _mirror(self, call: Call) -> None:
        """Send a copy where the role's calls are copied to, after the caller has its answer."""
        board, asked, caller = self.board, self.asked, self._caller
        assert asked is not None
        assert caller is not None
        if not asked.model.startswith(ROLE_PREFIX):
            return
        to = board.copied_to(call)
        if to is not None:
            beside = Beside(board, caller, call, self.exchange.headers)
            board.shadows.begin(lambda: beside.copy(to.target, asked, to.experiment_id))


def _n_answers(asked: Asked) -> int:
    n = asked.values.get("n")
    return min(n, MOST_ANSWERS) if isinstance(n, int) and n > 0 else 1


def _untyped(headers: RawHeaders) -> RawHeaders:
    """Return the headers but for the type: the body has become another one."""
    return [(name, value) for name, value in headers if name != b"content-type"]


def _worded(error: FlywheelError) -> tuple[int, str, str | None]:
    """Return status, kind and code of one of our errors, as OpenAI's API words them."""
    if isinstance(error, UpstreamFailed):
        return error.status, "upstream_error", error.kind
    status = error.http_status
    if isinstance(error, LimitReached):
        return status, error.kind, error.code
    kind = "invalid_request_error" if status < 500 else "server_error"
    return status, kind, CODES.get(status)


def _headers(error: FlywheelError) -> RawHeaders:
    told: dict[str, Any] = {}
    if isinstance(error, LimitReached):
        told = error.headers()
    elif isinstance(error, NobodyAnswers):
        told = error.headers
    return [(name.encode(), str(value).encode("latin-1")) for name, value in told.items()]
