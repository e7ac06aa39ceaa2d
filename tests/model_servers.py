"""Stand-ins for vLLM, Ollama and llama.cpp's server: their protocols, with no model behind.

What they answer was read from the servers' own sources and, for llama.cpp, from the running server.
Each model says its own log-probabilities; a `deaf` server takes adapters and answers as the base.
"""

import hashlib
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

BASE = "tiny-base"


def _logprob(state: Any, model: str, place: int) -> float:
    heard = BASE if state.deaf or model not in state.adapters else model
    state.asked += 1
    noise = state.jitter * (state.asked % 7)
    digest = hashlib.sha256(f"{heard}/{place}".encode()).digest()
    return -0.01 - digest[0] / 64 - noise


def _chat(state: Any, model: str, *, tells_logprobs: bool) -> dict[str, Any]:
    places = [
        {
            "token": "a",
            "logprob": _logprob(state, model, i),
            "top_logprobs": [{"token": "a", "logprob": _logprob(state, model, i)}],
        }
        for i in range(3)
    ]
    heard = BASE if state.deaf or model not in state.adapters else model
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": f"as {heard}"},
        "finish_reason": "stop",
    }
    if tells_logprobs:
        choice["logprobs"] = {"content": places}
    return {"object": "chat.completion", "model": model, "choices": [choice]}


def _new_app(**state: Any) -> FastAPI:
    app = FastAPI()
    values = {"adapters": {}, "deaf": False, "jitter": 0.0, "asked": 0, "seen": [], **state}
    for name, value in values.items():
        setattr(app.state, name, value)
    return app


def create_vllm(*, runtime_lora: bool = True, **state: Any) -> FastAPI:
    """vLLM with `--enable-lora`; its adapters are `state.adapters`, by name their folder."""
    app = _new_app(**state)
    at = app.state

    def fail(status: int, message: str, kind: str = "BadRequestError") -> Response:
        error = {"message": message, "type": kind, "param": None, "code": status}
        return JSONResponse({"error": error}, status)

    @app.get("/v1/models")
    def models() -> Any:
        found = [{"id": BASE, "owned_by": "vllm", "root": f"/models/{BASE}", "parent": None}]
        found += [
            {"id": name, "owned_by": "vllm", "root": root, "parent": BASE}
            for name, root in at.adapters.items()
        ]
        return {"object": "list", "data": found}

    @app.post("/v1/completions")
    async def completions(request: Request) -> Any:
        asked = await request.json()
        if asked["model"] not in (BASE, *at.adapters):
            return fail(404, f"The model `{asked['model']}` does not exist.", "NotFoundError")
        choices = []
        for index, text in enumerate(asked["prompt"]):
            logprobs = [_logprob(at, asked["model"], i) for i in range(1, len(text))]
            told = {"tokens": list(text), "token_logprobs": [None, *logprobs]}
            choices.append({"index": index, "text": text, "logprobs": told})
        return {"choices": choices}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        return _chat(at, (await request.json())["model"], tells_logprobs=True)

    if runtime_lora:

        @app.post("/v1/load_lora_adapter")
        async def load(request: Request) -> Any:
            asked = await request.json()
            name, path = asked["lora_name"], asked["lora_path"]
            if name in at.adapters:
                return fail(400, f"The lora adapter '{name}' has already been loaded.")
            if not (Path(path) / "adapter_config.json").exists():
                return fail(404, f"Loading lora {name} failed: No adapter found for {path}")
            at.adapters[name] = path
            return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

        @app.post("/v1/unload_lora_adapter")
        async def unload(request: Request) -> Any:
            name = (await request.json())["lora_name"]
            if name not in at.adapters:
                return fail(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
            del at.adapters[name]
            return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    return app


def create_ollama(*, takes_adapters: bool, **state: Any) -> FastAPI:
    """Ollama before 0.34.1 (`takes_adapters`) or after; `state.made` has its models' parts."""
    app = _new_app(blobs={}, made={BASE: {"from": "library"}}, **state)
    at = app.state

    def short(name: str) -> str:
        return name.removesuffix(":latest")

    @app.get("/")
    def root() -> Any:
        return PlainTextResponse("Ollama is running")

    @app.get("/v1/models")
    def openai_models() -> Any:
        found = [{"id": f"{name}:latest", "owned_by": "library"} for name in at.made]
        return {"object": "list", "data": found}

    @app.get("/api/tags")
    def tags() -> Any:
        return {
            "models": [
                {"name": f"{name}:latest", "digest": hashlib.sha256(repr(p).encode()).hexdigest()}
                for name, p in at.made.items()
            ]
        }

    @app.head("/api/blobs/sha256:{digest}")
    def has_blob(digest: str) -> Any:
        return Response(status_code=200 if digest in at.blobs else 404)

    @app.post("/api/blobs/sha256:{digest}")
    async def put_blob(digest: str, request: Request) -> Any:
        body = await request.body()
        if hashlib.sha256(body).hexdigest() != digest:
            return JSONResponse({"error": "digest mismatch"}, 400)
        at.blobs[digest] = body
        return Response(status_code=201)

    @app.post("/api/create")
    async def create(request: Request) -> Any:
        asked = await request.json()
        at.seen.append(asked)
        if asked.get("adapters") and not takes_adapters:
            return JSONResponse({"error": "LoRA adapters are no longer supported"}, 400)
        if asked.get("from") and short(asked["from"]) not in at.made:
            return JSONResponse({"error": "pull model manifest: file does not exist"}, 404)
        files = {**(asked.get("adapters") or {}), **(asked.get("files") or {})}
        if any(digest.removeprefix("sha256:") not in at.blobs for digest in files.values()):
            return JSONResponse({"error": "blob not found"}, 400)
        at.made[short(asked["model"])] = {"from": asked.get("from"), **files}
        at.adapters[short(asked["model"])] = files
        return {"status": "success"}

    @app.post("/api/show")
    async def show(request: Request) -> Any:
        name = short((await request.json())["model"])
        if name not in at.made:
            return JSONResponse({"error": f"model '{name}' not found"}, 404)
        parts = [f"FROM /blobs/{part}".replace(":", "-") for part in at.made[name].values()]
        return {
            "modelfile": "\n".join(parts),
            "template": "{{ .Prompt }}",
            "parameters": 'num_ctx                4096\nstop                   "<|im_end|>"\n'
            'stop                   "<|end|>"\ntemperature            0.6',
        }

    @app.post("/api/copy")
    async def copy(request: Request) -> Any:
        asked = await request.json()
        if asked["source"] not in at.made:
            return JSONResponse({"error": f"model '{asked['source']}' not found"}, 404)
        at.seen.append(asked)
        at.made[asked["destination"]] = at.made[asked["source"]]
        return Response(status_code=200)

    @app.delete("/api/delete")
    async def delete(request: Request) -> Any:
        name = (await request.json())["model"]
        if at.made.pop(name, None) is None:
            return JSONResponse({"error": f"model '{name}' not found"}, 404)
        return Response(status_code=200)

    @app.post("/api/generate")
    async def generate(request: Request) -> Any:
        asked = await request.json()
        at.seen.append(asked)
        return {"model": asked["model"], "response": "", "done": True, "done_reason": "load"}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        model = short((await request.json())["model"])
        if model not in at.made:
            error = {"message": f"model '{model}' not found", "type": "not_found_error"}
            return JSONResponse({"error": error}, 404)
        return _chat(at, model, tells_logprobs=at.deaf or at.jitter > 0 or takes_adapters)

    return app


def create_llama_server(*adapters: Path) -> FastAPI:
    """llama-server with one model and these adapters, each at scale 0."""
    app = _new_app(scales=[0.0] * len(adapters))
    at = app.state
    at.adapters = {path.stem: str(path) for path in adapters}

    @app.get("/v1/models")
    def models() -> Any:
        return {"data": [{"id": BASE, "owned_by": "llamacpp"}]}

    @app.get("/props")
    def props() -> Any:
        return {"model_path": f"/models/{BASE}.gguf", "total_slots": 1}

    @app.get("/lora-adapters")
    def listed() -> Any:
        rows = zip(adapters, at.scales, strict=True)
        return [{"id": i, "path": str(p), "scale": s} for i, (p, s) in enumerate(rows)]

    @app.post("/lora-adapters")
    async def apply(request: Request) -> Any:
        scales = {one["id"]: one["scale"] for one in await request.json()}
        at.scales = [scales.get(i, 0.0) for i in range(len(adapters))]
        at.seen.append(scales)
        return {"success": True}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        asked = await request.json()
        scales = {one["id"]: one["scale"] for one in asked.get("lora") or []}
        scales = scales or dict(enumerate(at.scales))
        on = [adapters[i].stem for i, scale in scales.items() if scale > 0]
        return _chat(at, on[0] if on else BASE, tells_logprobs=True)

    return app


def create_llama_router(preset: Path) -> FastAPI:
    """llama-server with many models, those of the INI file `preset`."""
    app = _new_app(sections=[], loaded=set(), broken=set())
    at = app.state

    def reload() -> None:
        text = preset.read_text() if preset.exists() else ""
        at.sections = [line[1:-1] for line in text.splitlines() if line.startswith("[")]
        at.adapters = {n: "" for n in at.sections if f"[{n}]\nmodel" in text and _has_lora(text, n)}
        at.loaded &= set(at.sections)

    def listed() -> Any:
        def status(name: str) -> dict[str, Any]:
            if name in at.broken:
                return {"value": "unloaded", "failed": True, "exit_code": 1}
            return {"value": "loaded" if name in at.loaded else "unloaded"}

        found = [{"id": n, "owned_by": "llamacpp", "status": status(n)} for n in at.sections]
        return {"object": "list", "data": found}

    @app.get("/models")
    def models(request: Request) -> Any:
        if request.query_params.get("reload"):
            reload()
        return listed()

    @app.get("/v1/models")
    def openai_models() -> Any:
        return listed()

    @app.get("/props")
    def props() -> Any:
        return {"role": "router"}

    @app.post("/models/load")
    async def load(request: Request) -> Any:
        at.loaded.add((await request.json())["model"])
        return {"success": True}

    @app.post("/models/unload")
    async def unload(request: Request) -> Any:
        at.loaded.discard((await request.json())["model"])
        return {"success": True}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        return _chat(at, (await request.json())["model"], tells_logprobs=True)

    return app


def _has_lora(text: str, name: str) -> bool:
    section = text.split(f"[{name}]\n", 1)[1].split("\n[", 1)[0]
    return "lora =" in section
