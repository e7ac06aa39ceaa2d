"""A real worker whose jobs take their time: `python -m benchmarks.faults_worker PACES`.

`PACES` is JSON, seconds by kind of job that are waited after each progress that one reports. A job
of a moment so has a middle, in which it can be hurt.
"""

import json
import sys
import time
from typing import Any

from flywheel.worker import run_worker
from foundation.runs import RunHandle

_report = RunHandle.progress


def main() -> None:
    """Work on every queue until told to stop."""
    paces: dict[str, float] = json.loads(sys.argv[1])

    def report_and_wait(run: RunHandle, *at: Any, **measures: Any) -> None:
        _report(run, *at, **measures)
        time.sleep(paces.get(run.kind, 0.0))

    RunHandle.progress = report_and_wait  # type: ignore[assignment,method-assign]
    run_worker()


if __name__ == "__main__":
    main()
