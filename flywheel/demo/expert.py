"""The demo's expert: a scripted upstream in OpenAI shape on loopback, right most of the time.

It stands for the stronger (and dearer) model, or the person, that a team asks now and then. It
answers only prompts of tasks it was shown, as a script does; everything else is a 404.
"""

import random
import threading
import time
from types import TracebackType
from typing import Any, Self

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from flywheel.demo.language import DemoTask, expert_answer
from flywheel.processes import free_port
from foundation.chat import completion, joined, prompt_messages
from foundation.ids import new_id

MODEL = "expert"


class Expert:
    """A loopback server that knows the answers to `tasks`, used as a context manager."""

    def __init__(self, seed: int, accuracy: float) -> None:
        self._random = random.Random(f"expert/{seed}")
        self._accuracy = accuracy
        self._tasks: dict[str, DemoTask] = {}
        self.port = free_port()
        self._server = uvicorn.Server(
            uvicorn.Config(self._app(), host="127.0.0.1", port=self.port, log_level="warning")
        )
        self._thread = threading.Thread(target=self._server.run, name="expert", daemon=True)

    @property
    def base_url(self) -> str:
        """OpenAI-compatible base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def learn(self, tasks: list[DemoTask]) -> None:
        """Show it the tasks it will be asked."""
        self._tasks.update({task.prompt: task for task in tasks})

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)

    def _app(self) -> FastAPI:
        app = FastAPI()
        app.post("/v1/chat/completions")(self._answer)
        return app

    async def _answer(self, request: dict[str, Any]) -> JSONResponse:
        task = self._tasks.get(joined(prompt_messages(request)))
        if task is None:
            error = {"message": "the expert does not know this task", "type": "not_found"}
            return JSONResponse({"error": error}, status_code=404)
        text = expert_answer(task, self._random, self._accuracy)
        tokens = len(task.prompt.split()), len(text.split())
        answer = completion(
            f"chatcmpl-{new_id().hex}", MODEL, text, "stop", *tokens, int(time.time())
        )
        return JSONResponse(answer)
