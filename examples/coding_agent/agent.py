"""A coding agent whose CI feeds back: it mends a function on a pull request until CI is green.

    python -m examples.coding_agent.agent

The agent and its CI share nothing but the pull request's name, `shop/pull/1`: the agent's calls go
to the gateway with that key in the URL, and CI sends its JUnit report about that key, minutes or
days later. `feedback.yml` beside this file does the same on GitHub Actions.
"""

import os
from pathlib import Path

import httpx
from openai import OpenAI

from examples.checked import code_of
from examples.coding_agent.ci import run_ci

GATEWAY = os.environ.get("FLYWHEEL_GATEWAY_URL", "http://127.0.0.1:8711/v1").removesuffix("/v1")
SERVICE = os.environ.get("FLYWHEEL_URL", "http://127.0.0.1:8710")
KEY = os.environ.get("FLYWHEEL_API_KEY", "unused")
MODEL = os.environ.get("MODEL", "pretend-1")
PROJECT = Path(__file__).parent / "shop"
PULL = "shop/pull/1"
MOST_TRIES = 3


def propose(source: str, complaint: str) -> tuple[str, str]:
    """Return the agent's new text of the file, and the id of the call that made it."""
    client = OpenAI(base_url=f"{GATEWAY}/r/coder/e/{PULL}/v1", api_key=KEY)
    asked = f"Mend is_leap in this file:\n```python\n{source}```\n{complaint}"
    answer = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": asked}]
    )
    call = answer.headers["x-flywheel-interaction-id"]
    return code_of(answer.parse().choices[0].message.content or ""), call


def report(junit: str, call: str) -> None:
    """Send CI's report: about the call it tested; `episode_key=PULL` would be about all of them."""
    httpx.post(
        f"{SERVICE}/v1/feedback/ci/junit",
        params={"interaction_id": call, "actor": "shop-ci"},
        content=junit,
        headers={"authorization": f"Bearer {KEY}"},
    ).raise_for_status()


def main() -> None:
    """Work on the pull request."""
    source = (PROJECT / "dates.py").read_text()
    complaint = "A colleague says that it is wrong."
    for attempt in range(1, MOST_TRIES + 1):
        source, call = propose(source, complaint)
        green, junit = run_ci(PROJECT, {"dates.py": source})
        report(junit, call)
        print(f"{PULL}, push {attempt}: CI is {'green' if green else 'red'}")
        if green:
            break
        complaint = f"CI failed:\n{junit}"


if __name__ == "__main__":
    main()
