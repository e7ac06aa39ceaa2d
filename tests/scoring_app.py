"""A model server on loopback that scores texts or does not, and whose adapters may be ignored.

What it does follows from the model's name: `base`; `ignored`, which answers as the base; `other`,
which answers otherwise; `moody`, which never answers twice alike. With `echoes` it scores texts,
each character a token.
"""

import itertools
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from foundation.chat import completion


def create_scoring_app(echoes: bool = True, base: str = "base") -> FastAPI:
    """Return the app; `state.batches` holds (model, texts) of each request to score."""
    app = FastAPI()
    app.state.batches, turn = [], itertools.count(1)
    app.state.change = lambda choice: choice

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        names = ("ignored", "other", "moody")
        return {"data": [{"id": base}, *({"id": name, "parent": base} for name in names)]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> dict[str, Any]:
        asked = await request.json()
        said = {"other": "something else", "moody": f"mood {next(turn)}"}
        return completion("x", asked["model"], said.get(asked["model"], "I do"), "stop", 3, 2, 0)

    if not echoes:
        return app

    @app.post("/v1/completions")
    async def score(request: Request) -> JSONResponse:
        asked = await request.json()
        app.state.batches.append((asked["model"], asked["prompt"]))
        shift = {"other": 0.5, "moody": 0.001 * next(turn)}.get(asked["model"], 0.0)
        choices = []
        for index, text in enumerate(asked["prompt"]):
            logprobs = [None, *[-1.0 - shift] * (len(text) - 1)]
            said = {"tokens": list(text), "token_logprobs": logprobs}
            choices.append(app.state.change({"index": index, "text": text, "logprobs": said}))
        return JSONResponse({"choices": choices[::-1]})

    return app
