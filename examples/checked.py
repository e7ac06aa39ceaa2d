"""Find out whether an answer's code works: in the sandbox, since a model wrote it."""

import re

from evaluator.sandbox import Sandbox, Script, Status


def code_of(answer: str) -> str:
    """Return the fenced code of an answer, or all of it."""
    found = re.search(r"```(?:python)?\n(.*?)```", answer, re.DOTALL)
    return found[1] if found else answer


def check(sandbox: Sandbox, answer: str, name: str, asserts: str) -> tuple[bool, str]:
    """Run asserts over the function `name` of an answer; return whether they hold, and why not."""
    outcome = sandbox.run(Script(code_of(answer), test=asserts, entry_point=name))
    return outcome.status is Status.PASS, outcome.detail or str(outcome.status)
