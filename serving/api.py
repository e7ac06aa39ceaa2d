"""The engine's door: an OpenAI-compatible API over one base model and its hot-swapped adapters.

Adapters are models of their own name, loaded with `POST /v1/adapters` or, as with vLLM,
`POST /v1/load_lora_adapter`; loading the same one again changes nothing.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from foundation.access import require_key
from foundation.errors import BadInput, FlywheelError
from serving.answers import echoed, error_body, events, whole
from serving.batching import Batcher, Row
from serving.fit import shapes_of
from serving.schemas import (
    AdapterAnswer,
    AdapterRequest,
    ChatRequest,
    CompletionRequest,
    LoadLoraRequest,
    UnloadLoraRequest,
)
from serving.served import Served, context_tokens, rows_of, texts_of

if TYPE_CHECKING:
    from serving.engine import Generation

CLIENT_CLOSED_REQUEST = 499


def create_engine_app(
    base_path: str | Path,
    threads: int | None = None,
    *,
    max_batch: int = 256,
    wait_ms: float = 4.0,
) -> FastAPI:
    """Return the engine's application; the base model is loaded when it starts.

    Args:
        base_path: folder of the base model.
        threads: torch threads; None leaves torch's own number.
        max_batch: most rows answered together.
        wait_ms: milliseconds that a batch waits for company.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        from serving.engine import Engine

        started = time.perf_counter()
        engine = Engine.load(base_path, threads=threads)
        load_s = time.perf_counter() - started
        batcher = Batcher(engine, max_batch, wait_ms / 1000)
        folder = Path(base_path)
        app.state.served = Served(
            engine, batcher, str(base_path), context_tokens(folder), shapes_of(folder), load_s
        )
        yield
        await run_in_threadpool(batcher.close)

    app = FastAPI(title="flywheel engine", lifespan=lifespan)
    app.include_router(routes)
    app.add_exception_handler(FlywheelError, _known_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(Exception, _unknown_error)
    return app


def _served(request: Request) -> Served:
    served: Served = request.app.state.served
    return served


def _guard(request: Request) -> None:
    require_key(request.headers, "the engine")


routes = APIRouter()
Model = Annotated[Served, Depends(_served)]
guarded = [Depends(_guard)]


@routes.get("/healthz")
def health(served: Model) -> dict[str, Any]:
    """Say that the engine answers, what it did so far, and what it takes to serve."""
    adapters = list(served.engine.adapters)
    return {
        "status": "ok",
        "base": served.base_path,
        "adapters": adapters,
        **served.batcher.counters(),
        **served.footprint(),
    }


@routes.get("/v1/models", dependencies=guarded)
def list_models(served: Model) -> dict[str, Any]:
    """List the base model and its adapters; `root` is where a model was loaded from."""
    base = served.base_path
    entries = [_model(served, base, base, None)]
    for name in served.engine.adapters:
        entries.append(_model(served, name, served.adapter_paths.get(name), base))
    return {"object": "list", "data": entries}


def _model(served: Served, name: str, root: str | None, parent: str | None) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": served.started,
        "owned_by": "agent-flywheel",
        "root": root,
        "parent": parent,
        "max_model_len": served.context_tokens,
    }


@routes.post("/v1/adapters", dependencies=guarded)
async def load_adapter(wanted: AdapterRequest, served: Model) -> AdapterAnswer:
    """Load an adapter from a folder of this machine; the same one again changes nothing."""
    now = await asyncio.wrap_future(
        served.batcher.call(lambda: served.load(wanted.name, wanted.path))
    )
    return AdapterAnswer(
        name=wanted.name, path=wanted.path, status="loaded" if now else "already loaded"
    )


@routes.delete("/v1/adapters/{name:path}", status_code=204, dependencies=guarded)
async def unload_adapter(name: str, served: Model) -> None:
    """Forget an adapter."""
    await asyncio.wrap_future(served.batcher.call(lambda: served.unload(name)))


@routes.post("/v1/load_lora_adapter", dependencies=guarded)
async def load_lora_adapter(wanted: LoadLoraRequest, served: Model) -> Response:
    """Load an adapter, in vLLM's words."""
    await load_adapter(AdapterRequest(name=wanted.lora_name, path=wanted.lora_path), served)
    return Response(f"Success: LoRA adapter '{wanted.lora_name}' added successfully.")


@routes.post("/v1/unload_lora_adapter", dependencies=guarded)
async def unload_lora_adapter(wanted: UnloadLoraRequest, served: Model) -> Response:
    """Forget an adapter, in vLLM's words."""
    await unload_adapter(wanted.lora_name, served)
    return Response(f"Success: LoRA adapter '{wanted.lora_name}' removed successfully.")


@routes.post("/v1/chat/completions", dependencies=guarded)
async def chat_completions(asked: ChatRequest, request: Request, served: Model) -> Response:
    """Answer a chat, whole or as a stream of server-sent events."""
    rows = await run_in_threadpool(rows_of, asked, served)
    if asked.stream:
        return StreamingResponse(events(asked, rows, served.engine), media_type="text/event-stream")
    answers = await _unless_gone(request, served, rows)
    if answers is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return JSONResponse(whole(asked.model, answers))


@routes.post("/v1/completions", dependencies=guarded)
async def completions(asked: CompletionRequest, served: Model) -> dict[str, Any]:
    """Score texts: return them with the log-probability of each of their tokens.

    The texts of a request are one batch, which no other request's texts join, so that the same
    request gives the same figures.
    """
    texts = await run_in_threadpool(texts_of, asked, served)
    adapter = served.adapter_of(asked.model)
    scored = await asyncio.wrap_future(
        served.batcher.call(lambda: served.engine.score(texts, adapter=adapter))
    )
    return echoed(asked.model, texts, scored, asked.logprobs or 0)


async def _unless_gone(
    request: Request, served: Served, rows: list[Row]
) -> "list[Generation] | None":
    """Return the answers, or None when the client leaves; rows not begun are then dropped."""
    answer = asyncio.wrap_future(served.batcher.submit(rows))
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
    return JSONResponse(error_body(error, status), status_code=status)


async def _invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    bad = BadInput(name, first.get("input"), first["msg"].lower(), "Correct the request.")
    return JSONResponse(error_body(bad, 400), status_code=400)


async def _unknown_error(_request: Request, error: Exception) -> Response:
    text = RuntimeError(f"the engine failed: {type(error).__name__}; see its log")
    return JSONResponse(error_body(text, 500), status_code=500)
