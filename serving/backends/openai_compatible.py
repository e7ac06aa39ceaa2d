"""Make an OpenAI-compatible server run our adapters: the embedded engine, or vLLM. No torch.

Both speak `GET /models` and `POST /load_lora_adapter`; vLLM must have been started with
`--enable-lora` and `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`. Adapter names are version names, which
never come to mean something else, so a loaded name needs no second look at its content.
"""

import ssl
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from foundation.errors import FlywheelError

TIMEOUT_S = 60.0
_ALREADY = "already been loaded"


class EngineUnavailable(FlywheelError):
    """The server does not answer, or not as an OpenAI-compatible server does."""

    http_status = 503

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(
            f"model server {url}: {reason}, expected an OpenAI-compatible API. "
            "Start it (flywheel up), or correct FLYWHEEL_ENGINE_URL."
        )


class EngineRefused(FlywheelError):
    """The server answered with an error."""

    http_status = 502

    def __init__(self, url: str, status: int, reason: str) -> None:
        self.url, self.status, self.reason = url, status, reason
        super().__init__(f"model server {url}: answered {status}: {reason}")


@dataclass(frozen=True)
class ServedModel:
    """A model that a server answers for; `root` is where it was loaded from, if it says so."""

    name: str
    root: str | None
    parent: str | None


def list_models(base_url: str, api_key: str | None = None) -> list[ServedModel]:
    """Return the models of the server at `base_url` (…/v1).

    Raises:
        EngineUnavailable: no answer, or not a list of models.
        EngineRefused: an error status.
    """
    answer = send("GET", f"{base_url.rstrip('/')}/models", api_key, None)
    try:
        return [
            ServedModel(entry["id"], entry.get("root"), entry.get("parent"))
            for entry in answer.json()["data"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineUnavailable(base_url, "answers something else than models") from error


def ensure_adapter(base_url: str, name: str, path: str | Path, api_key: str | None = None) -> bool:
    """Have the server load the adapter at `path` as `name`; return whether it was loaded now.

    Args:
        base_url: of the server (…/v1).
        name: what requests will call the model.
        path: a folder that the server can read.
        api_key: bearer key, if the server asks for one.

    Raises:
        EngineUnavailable: no answer.
        EngineRefused: it does not load the adapter; the reason is its own.
    """
    loaded = {model.name: model.root for model in list_models(base_url, api_key)}
    if name in loaded:
        root = loaded[name]
        if root is None or Path(root).resolve() == Path(path).resolve():
            return False
        remove_adapter(base_url, name, api_key)
    url = f"{base_url.rstrip('/')}/load_lora_adapter"
    body = {"lora_name": name, "lora_path": str(path)}
    try:
        send("POST", url, api_key, body)
    except EngineRefused as error:
        if _ALREADY not in error.reason:  # vLLM, when somebody else was faster
            raise
        return False
    return True


def remove_adapter(base_url: str, name: str, api_key: str | None = None) -> None:
    """Have the server forget the adapter `name`; raises as `ensure_adapter`."""
    url = f"{base_url.rstrip('/')}/unload_lora_adapter"
    send("POST", url, api_key, {"lora_name": name})


def wait_ready(base_url: str, timeout_s: float = 60.0, api_key: str | None = None) -> None:
    """Return when the server lists its models; raises EngineUnavailable after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            list_models(base_url, api_key)
            return
        except EngineUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def footprint(base_url: str, api_key: str | None = None) -> dict[str, Any]:
    """Return what the engine at `base_url` (…/v1) says it takes to serve; empty of other servers.

    Load times (`load_s`, `adapter_load_s`), `peak_rss_mb`, `peak_vram_mb`, `threads`, `merged`.

    Raises:
        EngineUnavailable: no answer.
    """
    names = ("load_s", "adapter_load_s", "peak_rss_mb", "peak_vram_mb", "threads", "merged")
    root = base_url.rstrip("/").removesuffix("/v1")
    try:
        said = send("GET", f"{root}/healthz", api_key, None).json()
    except (EngineRefused, ValueError):
        return {}
    return {name: said[name] for name in names if name in said} if isinstance(said, dict) else {}


def send(
    method: str, url: str, api_key: str | None, body: Any, timeout_s: float = TIMEOUT_S
) -> httpx.Response:
    """Send a request; raises EngineUnavailable and EngineRefused."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        answer = httpx.request(
            method, url, headers=headers, json=body, timeout=timeout_s, verify=certificates()
        )
    except httpx.HTTPError as error:
        raise EngineUnavailable(url, str(error) or type(error).__name__) from error
    if answer.is_error:
        raise refusal_of(answer)
    return answer


@cache
def certificates() -> ssl.SSLContext:
    """Return whom to trust, read once: httpx itself reads it for each request, in 26 ms."""
    return httpx.create_ssl_context()


def refusal_of(answer: httpx.Response) -> EngineRefused:
    """Return an answer with an error status as the error that it is."""
    return EngineRefused(str(answer.url), answer.status_code, _reason(answer))


def _reason(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return answer.text[:500]
    # OpenAI's shape, or vLLM's older one with the message at the top.
    error = body.get("error", body) if isinstance(body, dict) else body
    return str(error.get("message", error) if isinstance(error, dict) else error)[:500]
