"""Five roles in one LangGraph graph, one episode a task, each turn logged under its own role.

    python -m examples.langgraph_team

The tester's finding sends the work back to the coder. It is told about the tester's turn, and the
service's rules of credit make it feedback on the coder's: see docs/feedback.md.
"""

import os
from typing import TypedDict

from langgraph.graph import END, START, StateGraph
from openai import OpenAI

from collector.client import Flywheel
from evaluator.sandbox import Sandbox
from examples.checked import check, code_of

BASE_URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8900/v1")
MODEL = os.environ.get("MODEL", "pretend-1")
TASKS = ("slugify", "is_leap")
MOST_TRIES = 3


class Work(TypedDict, total=False):
    """What the graph hands from role to role."""

    name: str
    plan: str
    notes: str
    answer: str
    asserts: str
    works: bool
    why: str
    tries: int
    verdict: str


class Team:
    """The roles, with one client and one sandbox for all of them."""

    def __init__(self, flywheel: Flywheel, sandbox: Sandbox) -> None:
        self.flywheel, self.sandbox = flywheel, sandbox
        key = os.environ.get("OPENAI_API_KEY", "unused")
        self.client = flywheel.wrap(OpenAI(base_url=BASE_URL, api_key=key))

    def ask(self, role: str, request: str) -> str:
        """Return a role's answer; the call is logged as that role's."""
        with self.flywheel.as_role(role):
            messages = [
                {"role": "system", "content": f"{role} of a team that writes Python."},
                {"role": "user", "content": request},
            ]
            answer = self.client.chat.completions.create(model=MODEL, messages=messages)
        return answer.choices[0].message.content or ""

    def plan(self, work: Work) -> Work:
        """Plan the task."""
        return {"plan": self.ask("coordinator", f"Plan the Python function {work['name']}.")}

    def research(self, work: Work) -> Work:
        """Find out what is easily forgotten."""
        return {"notes": self.ask("researcher", f"What is easily forgotten in {work['name']}?")}

    def write(self, work: Work) -> Work:
        """Write the function, or mend it."""
        asked = f"Write the Python function {work['name']}.\n{work['notes']}"
        if work.get("why"):
            asked += f"\nA test failed:\n{work['why']}"
        return {"answer": self.ask("coder", asked), "tries": work.get("tries", 0) + 1}

    def test(self, work: Work) -> Work:
        """Write tests, and run them over the answer in the sandbox."""
        asked = f"Test the Python function {work['name']}:\n{work['answer']}"
        asserts = code_of(self.ask("tester", asked))
        works, why = check(self.sandbox, work["answer"], work["name"], asserts)
        self.flywheel.outcome(works, self.flywheel.last_interaction_id())
        return {"asserts": asserts, "works": works, "why": "" if works else why}

    def review(self, work: Work) -> Work:
        """Look at what is left."""
        said = self.ask("reviewer", f"Review {work['name']}:\n{work['answer']}\n{work['why']}")
        approves = said.startswith("APPROVE")
        self.flywheel.feedback(
            "category",
            interaction_id=self.flywheel.last_interaction_id(),
            text="approve" if approves else "request_changes",
            source="role",
        )
        return {"verdict": said}

    def graph(self) -> "StateGraph[Work]":
        """Return the graph: plan, research, write, test, again if need be, review."""
        graph = StateGraph(Work)
        for step in (self.plan, self.research, self.write, self.test, self.review):
            graph.add_node(step.__name__, step)
        graph.add_edge(START, "plan")
        graph.add_edge("plan", "research")
        graph.add_edge("research", "write")
        graph.add_edge("write", "test")
        graph.add_conditional_edges("test", _after_test, ["write", "review"])
        graph.add_edge("review", END)
        return graph


def _after_test(work: Work) -> str:
    return "review" if work["works"] or work["tries"] >= MOST_TRIES else "write"


def main() -> None:
    """Let the team do the tasks."""
    flywheel = Flywheel()
    with Sandbox() as sandbox:
        team = Team(flywheel, sandbox).graph().compile()
        for name in TASKS:
            with flywheel.episode(task=f"write {name}", task_type="function"):
                done = team.invoke({"name": name})
            print(f"{name}: {done['tries']} tries, works: {done['works']}, {done['verdict']}")
    flywheel.close()


if __name__ == "__main__":
    main()
