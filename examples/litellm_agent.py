"""An agent that calls providers through litellm: one line more, and its calls are logged.

    python -m examples.litellm_agent

Each task is an episode: an answer that is streamed, a second try where its tests fail, and the
outcome of each try told by the id of its call.
"""

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # before the import: no download

import litellm

from collector.client import Flywheel
from evaluator.sandbox import Sandbox
from examples.checked import check

BASE_URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8900/v1")
MODEL = os.environ.get("MODEL", "pretend-1")
TASKS = {
    "median": "assert median([3, 1, 2]) == 2\nassert median([4, 1, 2, 3]) == 2.5",
    "chunks": "assert chunks([1, 2, 3], 2) == [[1, 2], [3]]",
}


def ask(messages: list[dict[str, str]]) -> str:
    """Return an answer, read as it comes."""
    parts = litellm.completion(
        model=f"openai/{MODEL}",
        base_url=BASE_URL,
        api_key=os.environ.get("OPENAI_API_KEY", "unused"),
        messages=messages,
        stream=True,
    )
    return "".join(part.choices[0].delta.content or "" for part in parts)


def main() -> None:
    """Do the tasks."""
    flywheel = Flywheel(role="coder")
    flywheel.wrap(litellm)  # the line
    with Sandbox() as sandbox:
        for name, asserts in TASKS.items():
            with flywheel.episode(task=f"write {name}", task_type="function"):
                messages = [{"role": "user", "content": f"Write the Python function {name}."}]
                for attempt in (1, 2):
                    answer = ask(messages)
                    works, why = check(sandbox, answer, name, asserts)
                    flywheel.outcome(works, flywheel.last_interaction_id())
                    print(f"{name}, try {attempt}: {'works' if works else why.splitlines()[-1]}")
                    if works:
                        break
                    messages += [
                        {"role": "assistant", "content": answer},
                        {"role": "user", "content": f"A test failed:\n{why}"},
                    ]
    flywheel.close()


if __name__ == "__main__":
    main()
