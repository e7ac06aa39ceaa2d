"""Run every example on this machine: a service, a gateway, a worker and the pretend model.

    python -m examples.run             # all of them, in a home of their own that is removed
    python -m examples.run openai_agent --home .flywheel-examples

With --home everything is kept, and `FLYWHEEL_HOME=.flywheel-examples flywheel serve` shows it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.pretend_model import MODEL, server
from flywheel.processes import Processes, free_port
from foundation.database import database_url, session_scope

AGENTS = ("openai_agent", "litellm_agent", "langgraph_team", "coding_agent.agent")
NOTEBOOK = Path(__file__).parent / "read_dataset.ipynb"


@contextmanager
def services(home: Path) -> Iterator[dict[str, str]]:
    """Start the services over `home`; yield what the examples read from the environment."""
    from flywheel.schema import upgrade

    model = server()
    threading.Thread(target=model.serve_forever, daemon=True).start()
    provider = f"http://127.0.0.1:{model.server_port}/v1"
    ports = {"FLYWHEEL_PORT": str(free_port()), "FLYWHEEL_GATEWAY_PORT": str(free_port())}
    upstreams = json.dumps({"pretend": {"base_url": provider, "models": [MODEL]}})
    os.environ |= {"FLYWHEEL_HOME": str(home), "FLYWHEEL_UPSTREAMS": upstreams, **ports}
    upgrade()
    os.environ["FLYWHEEL_DATABASE_URL"] = database_url()
    told = {
        "FLYWHEEL_URL": f"http://127.0.0.1:{ports['FLYWHEEL_PORT']}",
        "FLYWHEEL_GATEWAY_URL": f"http://127.0.0.1:{ports['FLYWHEEL_GATEWAY_PORT']}/v1",
        "OPENAI_BASE_URL": provider,
        "OPENAI_API_KEY": "unused",
    }
    with Processes(home) as processes:
        for name in ("serve", "gateway", "worker"):
            processes.start(name, name)
        for url in (told["FLYWHEEL_URL"], told["FLYWHEEL_GATEWAY_URL"].removesuffix("/v1")):
            processes.wait_for_http(f"{url}/healthz")
        yield {**os.environ, **told}
    model.shutdown()
    model.server_close()


def run_agent(name: str, environment: dict[str, str]) -> None:
    """Run one example as a process of its own, as a reader would.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    print(f"\n{name}")
    command = [sys.executable, "-m", f"examples.{name}"]
    subprocess.run(command, env=environment, check=True)


def read_dataset(home: Path, environment: dict[str, str]) -> None:
    """Build a dataset of what the coder did, and run the notebook over it."""
    print("\nread_dataset.ipynb")
    folder = home / "coder-dataset"
    flywheel = [sys.executable, "-m", "flywheel"]
    subprocess.run([*flywheel, "curate", "--role", "coder"], env=environment, check=True)
    export = ["dataset", "export", "coder", str(folder)]
    subprocess.run([*flywheel, *export], env=environment, check=True)
    os.environ["DATASET_FOLDER"] = str(folder)
    for text in run_notebook():
        print(text, end="")


def run_notebook() -> Iterator[str]:
    """Run the notebook's cells; yield what they print.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            yield output.get("text") or output.get("data", {}).get("text/plain", "") + "\n"


def main() -> None:
    """Run what is named, or all, and say what was logged."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(AGENTS)}; default: all, and the "
                        "notebook")  # fmt: skip
    parser.add_argument("--home", type=Path, help="Keep everything in this folder.")
    asked = parser.parse_args()
    for name in asked.names:
        if name not in AGENTS:
            parser.error(f"example: {name!r}, expected one of {', '.join(AGENTS)}")
    home = (asked.home or Path(tempfile.mkdtemp(prefix="flywheel-examples-"))).absolute()
    try:
        with services(home) as environment:
            for name in asked.names or AGENTS:
                run_agent(name, environment)
            print_log()
            if not asked.names:
                read_dataset(home, environment)
    finally:
        if asked.home is None:
            shutil.rmtree(home, ignore_errors=True)


def print_log() -> None:
    """Print how many calls and statements of each role the log has."""
    from sqlalchemy import text

    counted = text(
        "SELECT i.role, count(DISTINCT i.id), count(DISTINCT i.episode_id), count(f.id) "
        "FROM interaction AS i LEFT JOIN feedback AS f ON f.interaction_id = i.id "
        "OR (f.interaction_id IS NULL AND f.episode_id = i.episode_id) GROUP BY 1 ORDER BY 1"
    )
    print("\nlogged")
    with session_scope() as session:
        for role, calls, episodes, statements in session.execute(counted):
            print(f"{role}: {calls} calls in {episodes} episodes, {statements} statements on them")


if __name__ == "__main__":
    main()
