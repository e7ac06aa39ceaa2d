"""The engine's door: an OpenAI-compatible API over base models and their hot-swapped adapters.

Adapters are models of their own name, loaded with `POST /v1/adapters` or, as with vLLM,
`POST /v1/load_lora_adapter`; loading the same one again changes nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from collector.metrics import CONTENT_TYPE
from foundation import meters
from foundation.access import opens_metrics, require_key, require_own_name, require_same_origin
from foundation.errors import BadInput, FlywheelError
from foundation.settings import get_settings
from foundation.watched_requests import WatchedRequests
from serving import metrics
from serving.answers import echoed, error_body, events, whole_chat, whole_text
from serving.batching import Batcher, Overloaded
from serving.requests import Wanted, chat_rows, scored_texts, text_rows
from serving.rows import Generation, Limits
from serving.schemas import (
    AdapterAnswer,
    AdapterRequest,
    BaseAnswer,
    BaseRequest,
    ChatRequest,
    CompletionRequest,
    LoadLoraRequest,
    UnloadLoraRequest,
)
from serving.served import Served

if TYPE_CHECKING:
    from serving.engine import Engine

CLIENT_CLOSED_REQUEST = 499


def create_engine_app(
    base_path: str | Path,
    threads: int | None = None,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    limits: Limits | None = None,
    max_waiting: int = 1024,
    bases_mb: int = 16384,
    wait_ms: float = 4.0,
) -> FastAPI:
    """Return the engine's application; the first base model is loaded when it starts.

    Args:
        base_path: folder of the first base model.
        threads: torch threads; None leaves torch's own number.
        device: as torch names it, or `auto`.
        dtype: of the weights, or `auto`.
        limits: of rows and memory of each base.
        max_waiting: answers that may wait beside those under way.
        bases_mb: MiB of weights of all bases in memory.
        wait_ms: milliseconds that the first request waits for company.
    """
    limits = limits or Limits()

    def load(path: str, adapters: dict[str, Path]) -> "Engine":
        from serving.engine import Engine

        return Engine.load(
            path, threads=threads, device=device, dtype=dtype, limits=limits, adapters=adapters
        )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        import serving.engine  # its time is not the base's  # noqa: F401

        batcher = Batcher(limits.rows, max_waiting, wait_ms / 1000)
        try:
            app.state.served = Served(str(base_path), load, batcher, bases_mb)
            yield
        finally:
            await run_in_threadpool(batcher.close)

    app = FastAPI(title="flywheel engine", lifespan=lifespan)
    app.include_router(routes)
    app.add_exception_handler(FlywheelError, _known_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(Exception, _unknown_error)
    app.add_middleware(WatchedRequests, service=meters.ENGINE, area_of=lambda _: "engine")
    return app


def _served(request: Request) -> Served:
    served: Served = request.app.state.served
    return served


def _guard(request: Request) -> None:
    if get_settings().api_key is None:
        require_own_name(request.headers)
    require_key(request.headers, "the engine")
    require_same_origin(request.method, request.headers)


def _guard_figures(request: Request) -> None:
    if not opens_metrics(request.headers):
        _guard(request)


routes = APIRouter()
Model = Annotated[Served, Depends(_served)]
guarded = [Depends(_guard)]


@routes.get("/health")
@routes.get("/healthz")
def health(served: Model, response: Response) -> dict[str, Any]:
    """Say that the engine answers, what it did so far, and what it takes to serve."""
    is_well = served.batcher.is_alive
    response.status_code = 200 if is_well else 503
    return {
        "status": "ok" if is_well else "the thread that answers has ended",
        "base": served.first.path,
        "bases": [base.name for base in served.bases],
        "adapters": [name for base in served.bases for name in base.adapters],
        **served.totals(),
        **served.footprint(),
    }


@routes.get("/metrics", dependencies=[Depends(_guard_figures)])
def show_metrics(served: Model) -> Response:
    """Show what was done so far, what is held, and how long callers waited, for Prometheus."""
    body = metrics.text(served.counters(), served.batcher.timings, meters.families())
    return Response(body, media_type=CONTENT_TYPE)


@routes.get("/v1/models", dependencies=guarded)
def list_models(served: Model) -> dict[str, Any]:
    """List the base models and their adapters; `root` is where a model was loaded from."""
    entries = []
    for base in served.bases:
        names = [
            (base.name, base.path, None),
            *((n, p, base.name) for n, p in base.adapters.items()),
        ]
        for name, root, parent in names:
            entries.append(
                {
                    "id": name,
                    "object": "model",
                    "created": base.created,
                    "owned_by": "agent-flywheel",
                    "root": root,
                    "parent": parent,
                    "max_model_len": base.context_tokens,
                }
            )
    return {"object": "list", "data": entries}


@routes.post("/v1/bases", dependencies=guarded)
def load_base(wanted: BaseRequest, served: Model) -> BaseAnswer:
    """Serve a further base model from a folder of this machine; the same again changes nothing."""
    base = served.add_base(wanted.name, wanted.path)
    return BaseAnswer(name=base.name, path=base.path, load_s=base.load_s)


@routes.delete("/v1/bases/{name:path}", status_code=204, dependencies=guarded)
def unload_base(name: str, served: Model) -> None:
    """Forget a further base model and its adapters."""
    served.remove_base(name)


@routes.post("/v1/adapters", dependencies=guarded)
def load_adapter(wanted: AdapterRequest, served: Model) -> AdapterAnswer:
    """Load an adapter from a folder of this machine; the same one again changes nothing."""
    now = served.load(wanted.name, wanted.path, wanted.base)
    return AdapterAnswer(
        name=wanted.name, path=wanted.path, status="loaded" if now else "already loaded"
    )


@routes.delete("/v1/adapters/{name:path}", status_code=204, dependencies=guarded)
def unload_adapter(name: str, served: Model) -> None:
    """Forget an adapter; answers under way keep it to their end."""
    served.unload(name)


@routes.post("/v1/load_lora_adapter", dependencies=guarded)
def load_lora_adapter(wanted: LoadLoraRequest, served: Model) -> Response:
    """Load an adapter, in vLLM's words."""
    served.load(wanted.lora_name, wanted.lora_path)
    return Response(f"Success: LoRA adapter '{wanted.lora_name}' added successfully.")


@routes.post("/v1/unload_lora_adapter", dependencies=guarded)
def unload_lora_adapter(wanted: UnloadLoraRequest, served: Model) -> Response:
    """Forget an adapter, in vLLM's words."""
    served.unload(wanted.lora_name)
    return Response(f"Success: LoRA adapter '{wanted.lora_name}' removed successfully.")


@routes.post("/v1/chat/completions", dependencies=guarded)
async def chat_completions(asked: ChatRequest, request: Request, served: Model) -> Response:
    """Answer a chat, whole or as a stream of server-sent events."""
    wanted = await run_in_threadpool(chat_rows, asked, served)
    if asked.stream:
        return await _streamed(asked, wanted, served)
    answers = await _unless_gone(request, served, wanted)
    if answers is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return JSONResponse(whole_chat(asked.model, answers))


@routes.post("/v1/completions", dependencies=guarded)
async def completions(asked: CompletionRequest, request: Request, served: Model) -> Response:
    """Go on with texts, whole or as a stream, or score them: the log-probability of each token.

    The texts that a request has scored are one batch, which no other request's texts join, so that
    the same request gives the same figures.
    """
    if asked.is_scored:
        engine, adapter = await run_in_threadpool(scored_texts, asked, served)
        call = served.batcher.call(lambda: engine.score(asked.texts, adapter=adapter))
        return JSONResponse(echoed(asked, await asyncio.wrap_future(call)))
    wanted = await run_in_threadpool(text_rows, asked, served)
    if asked.stream:
        return await _streamed(asked, wanted, served)
    answers = await _unless_gone(request, served, wanted)
    if answers is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return JSONResponse(whole_text(asked, answers))


async def _streamed(
    asked: ChatRequest | CompletionRequest, wanted: Wanted, served: Served
) -> Response:
    """Answer with a stream, once its first event is there: what refuses it has a status then."""
    stream = events(asked, wanted, served.batcher)
    first = await anext(stream)

    async def whole() -> AsyncIterator[str]:
        try:
            yield first
            async for event in stream:
                yield event
        finally:
            await stream.aclose()

    return StreamingResponse(whole(), media_type="text/event-stream")


async def _unless_gone(request: Request, served: Served, wanted: Wanted) -> list[Generation] | None:
    """Return the answers, or None when the client leaves; they are given up then."""
    answer = asyncio.wrap_future(served.batcher.submit(wanted.engine, wanted.rows))
    gone = asyncio.ensure_future(_disconnected(request))
    either: list[asyncio.Future[Any]] = [answer, gone]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return await answer if answer.done() else None
    finally:
        gone.cancel()
        answer.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _known_error(_request: Request, error: Exception) -> Response:
    status = error.http_status if isinstance(error, FlywheelError) else 500
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse(error_body(error, status), status_code=status, headers=headers)


async def _invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    bad = BadInput(name, first.get("input"), first["msg"].lower(), "Correct the request.")
    return JSONResponse(error_body(bad, 400), status_code=400)


async def _unknown_error(_request: Request, error: Exception) -> Response:
    return JSONResponse(error_body(error, 500), status_code=500)
