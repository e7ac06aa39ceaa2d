"""A process that evaluates a mock model with one harness; see `benchmarks.evaluation_harness`.

    python benchmarks/evaluation_harness_host.py SUBJECT N

SUBJECT is `flywheel` (the harness alone), `command` (the whole `flywheel evaluate`, with a database
and a model server over HTTP: FLYWHEEL_DATABASE_URL and FLYWHEEL_ENGINE_URL), `inspect_ai` or
`lm_eval`; the last two run in a venv of their own, so this file needs the standard library and the
subject only. The first line it prints says how long the
imports took; each line of stdin asks for a round, answered by the wall time of one evaluation in
seconds and its success rate, as a line of JSON.

All ask the same: N sums, one answer each, by a model inside the process that knows half of them,
compared word for word. inspect_ai counts the tokens of what its mock model says with a tokenizer
that it downloads; the answers here bring their usage, so that it runs offline. Ours grades in the
thread that it always has, the sandbox is started before; lm-eval is given its task ready made,
without its index of fourteen thousand files.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Round = Callable[[], float]
"""Evaluates once; returns the success rate."""


def question(number: int) -> str:
    """Return the text of a task."""
    return f"What is {number} + 1?"


def said(asked: str) -> str:
    """Return what the mock model says: it knows the even ones."""
    number = int(asked.split()[2])
    return str(number + 1 if number % 2 == 0 else 0)


def flywheel(n: int) -> Round:
    """Ours: seeds, batches, grading, summary; without a database."""
    from evaluator.answers import Answer, Subject
    from evaluator.estimate import success_rate
    from evaluator.run import measure
    from evaluator.sandbox import Sandbox
    from evaluator.summary import metrics_of
    from evaluator.tables import SuiteTask
    from foundation.ids import new_id

    tasks = [
        SuiteTask(
            suite_id=new_id(),
            task_id=str(i),
            prompt=[{"role": "user", "content": question(i)}],
            grader="exact",
            reference={"answer": str(i + 1)},
        )
        for i in range(n)
    ]
    sandbox = Sandbox()

    def generate(prompts: list[list[dict[str, Any]]], seeds: list[int]) -> list[Answer]:
        return [Answer(said(prompt[-1]["content"]), 1.0) for prompt in prompts]

    def once() -> float:
        [measured] = measure(tasks, [Subject("mock", generate)], 1, sandbox)
        metrics_of(measured)
        return float(success_rate(measured.outcomes()).rate or 0.0)

    return once


def command(n: int) -> Round:
    """The command, from its arguments to its table, with everything imported before."""
    import flywheel.benchmark
    import flywheel.worker  # noqa: F401
    from evaluator.suites import Task, add_suite
    from flywheel.cli import app
    from flywheel.schema import upgrade
    from foundation.database import session_scope

    upgrade()
    with session_scope() as session:
        tasks = [
            Task(
                str(i), [{"role": "user", "content": question(i)}], "exact", {"answer": str(i + 1)}
            )
            for i in range(n)
        ]
        add_suite(session, "sums", "coder", tasks)

    def once() -> float:
        report = io.StringIO()
        with contextlib.redirect_stdout(report):
            app(["evaluate", "sums", "mock", "--samples", "1", "--json"], standalone_mode=False)
        return float(json.loads(report.getvalue())["evaluations"][0]["success_rate"])

    return once


def serve(_: int) -> Round:
    """No harness but the model server of `command`, which answers as the mock models do."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Mock(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = {"role": "assistant", "content": said(asked["messages"][-1]["content"])}
            body = {
                "choices": [{"index": 0, "message": answer, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
            }
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # of the default five, a busy machine refuses some

    server = Server(("127.0.0.1", 0), Mock)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return lambda: float(server.server_port)


def inspect_ai(n: int) -> Round:
    """inspect_ai with its mock model, its exact scorer and no display."""
    from inspect_ai import Task
    from inspect_ai import eval as evaluate
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import exact
    from inspect_ai.solver import generate

    samples = [Sample(input=question(i), target=str(i + 1)) for i in range(n)]
    task = Task(dataset=MemoryDataset(samples), solver=generate(), scorer=exact())

    def answer(messages: Any, *_: Any) -> Any:
        output = ModelOutput.from_content("mockllm/model", said(messages[-1].text))
        output.usage = ModelUsage(input_tokens=5, output_tokens=1, total_tokens=6)
        return output

    def once() -> float:
        with tempfile.TemporaryDirectory() as folder:
            model = get_model("mockllm/model", custom_outputs=answer)
            [log] = evaluate(task, model=model, log_dir=folder, display="none")
        if log.results is None:
            raise RuntimeError(f"inspect_ai: {str(log.error)[:500]}")
        return float(log.results.scores[0].metrics["mean"].value)

    return once


def lm_eval(n: int) -> Round:
    """lm-eval with a dummy model that generates."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    from lm_eval.api.model import LM
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate

    class Mock(LM):  # type: ignore[misc]
        def generate_until(self, requests: Any, **_: Any) -> list[str]:
            return [said(request.args[0]) for request in requests]

        def loglikelihood(self, requests: Any) -> Any:
            raise NotImplementedError

        def loglikelihood_rolling(self, requests: Any) -> Any:
            raise NotImplementedError

    path = Path(tempfile.mkdtemp()) / "sums.json"
    rows = [json.dumps({"q": question(i), "a": str(i + 1)}) + "\n" for i in range(n)]
    path.write_text("".join(rows))
    task = ConfigurableTask(
        config={
            "task": "sums",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(path)}},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{q}}",
            "doc_to_target": "{{a}}",
            "generation_kwargs": {"until": ["\n"]},
            "metric_list": [
                {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
            ],
        }
    )

    def once() -> float:
        found = evaluate(lm=Mock(), task_dict={"sums": task}, bootstrap_iters=0)
        return float(found["results"]["sums"]["exact_match,none"])

    return once


SUBJECTS = {
    "flywheel": flywheel,
    "command": command,
    "serve": serve,
    "inspect_ai": inspect_ai,
    "lm_eval": lm_eval,
}


def main() -> None:
    """Import, say so, and do a round for each line."""
    answers, sys.stdout = sys.stdout, sys.stderr
    started = time.perf_counter()
    once = SUBJECTS[sys.argv[1]](int(sys.argv[2]))
    print(json.dumps({"import_s": time.perf_counter() - started}), file=answers, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        rate = once()
        seconds = time.perf_counter() - started
        print(json.dumps({"wall_s": seconds, "success": rate}), file=answers, flush=True)


if __name__ == "__main__":
    main()
