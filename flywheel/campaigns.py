"""Campaigns with the evaluator's sandbox: the checks that run what was answered, and the job."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from collector import campaign
from collector.campaign.check import Checker
from collector.campaign.plan import Task
from collector.campaign.spec import CampaignSpec, spec_of
from evaluator.graders import GradedTask, grade_many
from evaluator.sandbox import Sandbox
from foundation.database import session_scope
from foundation.runs import RunHandle, job

GRADER_OF = {"python_asserts": "asserts"}
"""Checks that run code, and the grader that does it."""


@contextmanager
def checker_for(spec: CampaignSpec) -> Iterator[Checker | None]:
    """Yield the checker that runs a campaign's answers; None where nothing is to be run.

    Raises:
        SandboxUnavailable: no isolation works here.
    """
    grader = GRADER_OF.get(spec.check.kind) if spec.check else None
    if grader is None:
        yield None
        return
    with Sandbox(workers=min(spec.concurrency, 4)) as sandbox:

        def check(task: Task, answer: str) -> tuple[bool, str]:
            graded = GradedTask(task.text[:80], [], grader, {"prompt": "", **task.needs})
            (grade,) = grade_many([graded], [answer], sandbox)
            return grade.passed, "" if grade.passed else f"{grade.status}: {grade.detail}"

        yield check


@job("collector.campaign", queue="cpu")
def run_campaign(run: RunHandle, name: str) -> dict[str, Any]:
    """Work a planned campaign off; started again, it goes on where it was."""

    def tell(progress: campaign.Progress) -> None:
        done = progress.n_target - progress.n_left
        run.progress(done, progress.n_target, "tasks", cost_usd=progress.cost_usd)

    with session_scope() as session:
        spec = spec_of(campaign.find(session, name).spec)
    with checker_for(spec) as check:
        ended = campaign.run(name, check=check, on_progress=tell)
    return {
        "campaign": name,
        "status": ended.status,
        "reason": ended.reason,
        **(ended.report or {}),
    }
