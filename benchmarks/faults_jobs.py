"""The jobs that are hurt: how each is ordered on prepared ground, and what it leaves behind.

An effect is read from the tables alone, as plain values, so that the one of a hurt job can be
compared with the one of a job that nobody disturbed.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import text
from sqlmodel import Session

LINES, MORE_LINES = 100, 100
"""Answers in the log before anything is ordered, and those that the build finds new."""
IMPORTED = 2_000
ROLE = "tester"
"""Of what is built and trained on; the import brings answers of another one."""
TASKS = 12
BATCH = 25


@dataclass(frozen=True)
class Ground:
    """What jobs are ordered on: a log, a suite, a dataset, a tiny base, a server that answers."""

    folder: Path
    model_url: str
    dataset_id: UUID | None = None
    base: Path | None = None


@dataclass(frozen=True)
class Job:
    """A kind of job.

    Attributes:
        kind: as it is registered.
        pace_s: waited after each progress.
        order: queues it, and returns its run's id.
        effect: a query for what it has left.
    """

    kind: str
    pace_s: float
    order: Callable[[Session, Ground], UUID]
    effect: str


def write_log(path: Path, start: int, n: int) -> Path:
    """Write answers of the format coder_outputs, all different."""
    with path.open("w") as file:
        for i in range(start, start + n):
            line = {
                "run": "a",
                "task_id": f"add {i % 97} and {i // 97}",
                "model": "somebody",
                "dataset": "mbpp",
                "solution": f"total_{i} = {i % 97} + {i // 97}\nprint(total_{i})\n",
                "exec_pass": True,
            }
            file.write(json.dumps(line) + "\n")
    return path


def prepare(folder: Path, model_url: str, *, trains: bool) -> Ground:
    """Fill an empty database of the present schema; nothing of it may be hurt yet."""
    import flywheel.worker  # noqa: F401  registers every room's jobs
    from collector.direct import DirectTransport
    from collector.importers.run import run_import
    from evaluator.suites import Task, add_suite
    from foundation.database import session_scope
    from foundation.runs import run_here

    folder.mkdir(parents=True, exist_ok=True)
    log = write_log(folder / "log.jsonl", 0, LINES)
    run_import("coder_outputs", [log], DirectTransport())
    tasks = [
        Task(f"t{i}", [{"role": "user", "content": f"{i} + 1?"}], "exact", {"answer": str(i + 1)})
        for i in range(TASKS)
    ]
    more = write_log(folder / "more.jsonl", LINES, MORE_LINES)
    with session_scope() as session:
        session.execute(_OWN_ROLE)
        add_suite(session, "sums", "coder", tasks)
    ground = Ground(folder, model_url)
    if trains:
        built = run_here("curation.build", {"role": ROLE}, role=ROLE)
        dataset_id = UUID((built.result or {})["dataset_id"])
        ground = Ground(folder, model_url, dataset_id, make_base(folder / "base"))
    run_import("coder_outputs", [more], DirectTransport())
    with session_scope() as session:
        session.execute(_OWN_ROLE)
    write_log(folder / "import.jsonl", 10_000, IMPORTED)
    return ground


_OWN_ROLE = text(f"UPDATE interaction SET role = '{ROLE}'")
"""The format makes every answer one of a coder."""


def make_base(folder: Path) -> Path:
    """Write a model of 20,000 random weights, which a worker can train in seconds."""
    import torch

    from trainer.pretrain import BaseShape, new_model
    from trainer.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(
        [f"total_{i} = {i} + {i}\nprint(total_{i})" for i in range(64)], 300
    )
    torch.manual_seed(0)
    shape = BaseShape(
        hidden=32, layers=2, heads=2, kv_heads=1, mlp=64, vocab=len(tokenizer), max_positions=128
    )
    new_model(shape, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _import(session: Session, ground: Ground) -> UUID:
    from foundation.runs import enqueue

    params = {"format": "coder_outputs", "paths": [str(ground.folder / "import.jsonl")]}
    return enqueue(session, "collector.import", params).id


def _build(session: Session, ground: Ground) -> UUID:
    from curation.recipe import CurationRecipe
    from foundation.runs import enqueue

    recipe = CurationRecipe(batch_size=BATCH).as_json()
    params = {"role": ROLE, "recipe": recipe, "helpers": 1}
    return enqueue(session, "curation.build", params, role=ROLE).id


def _evaluate(session: Session, ground: Ground) -> UUID:
    from evaluator.tasks import EvaluationPlan, start_evaluation

    plan = EvaluationPlan(samples_per_task=2, base_url=ground.model_url, batch_size=2)
    return start_evaluation(session, "sums", ["dull", "clever"], plan, against="dull").id


def _train(session: Session, ground: Ground) -> UUID:
    from dataclasses import replace

    from trainer.recipe import PRESETS
    from trainer.tasks import start_training

    recipe = replace(
        PRESETS["demo"],
        lr=2e-2,
        epochs=4,
        batch_size=8,
        eval_steps=5,
        max_steps=40,
        early_stopping_patience=0,
        threads=1,
    )
    training = start_training(session, ROLE, ground.dataset_id, str(ground.base), recipe)
    assert training.run_id is not None
    return training.run_id


JOBS = {
    "import": Job(
        "collector.import",
        0.5,
        _import,
        "SELECT count(*), md5(string_agg(i.id::text, ',' ORDER BY i.id)),"
        " (SELECT count(*) FROM feedback) FROM interaction i",
    ),
    "build": Job(
        "curation.build",
        0.2,
        _build,
        "SELECT number, content_hash, n_train, n_validation, n_test FROM dataset"
        " UNION ALL SELECT 0, 'examples', count(*), count(DISTINCT interaction_id), 0 FROM example"
        " ORDER BY 1",
    ),
    "evaluation": Job(
        "evaluator.evaluate",
        0.1,
        _evaluate,
        "SELECT subject, success_rate, n_samples, (SELECT count(*) FROM sample),"
        " (SELECT count(*) FROM verdict), (SELECT count(*) FROM decision"
        " WHERE kind LIKE 'evaluator.%') FROM evaluation ORDER BY 1",
    ),
    "training": Job(
        "trainer.train",
        0.1,
        _train,
        "SELECT manifest->>'adapter_sha256', (SELECT count(*) FROM model_version"
        " WHERE kind = 'adapter') FROM training_run",
    ),
}
"""By name. A training takes torch, which a worker loads for some seconds."""


def effect_of(name: str, connection: psycopg.Connection) -> list[list[Any]]:
    """Return what a job has left, as rows of plain values."""
    return [list(row) for row in connection.execute(JOBS[name].effect.encode())]


class _Sums(BaseHTTPRequestHandler):
    """Knows every sum as `clever`, each second one as any other model."""

    def do_GET(self) -> None:
        self._send({"data": []})

    def do_POST(self) -> None:
        from foundation.chat import completion

        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number = int(body["messages"][-1]["content"].split()[0])
        knows = body["model"] == "clever" or number % 2 == 0
        text = str(number + 1 if knows else 0)
        self._send(completion("x", body["model"], text, "stop", 5, 2, 0))

    def _send(self, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@contextmanager
def model_server() -> Iterator[str]:
    """Serve two models that always answer alike; its base URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Sums) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
