"""How many mutants of a function do some tests kill? The runs, and the verdict over them.

Tests on trial must first accept the reference in two orders and in two rewritings, and reject a
stub. Then every mutant is run in a process of its own, written into one of several rewritings, in
shuffled order and with the reference among them. The score is killed / (killed + survived);
time-outs, proven equivalents (same bytecode) and suspected ones stand apart. Wrong modules planted
by hand are run likewise and counted apart.
"""

import ast
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from evaluator.mutation.coverage import branch_coverage, header_lines, reached_lines
from evaluator.mutation.mutants import Mutant, Program, read_program
from evaluator.mutation.rewrite import Presentation, rewritten, stub
from evaluator.sandbox import Call, Cases, Limits, Outcome, Sandbox, Status, same

_Key = TypeVar("_Key")
PRESENTATIONS = 4
MUTANTS_PER_CHECK = 12
CHECKS_OF_FEW = 66
SPARE_CPU_S, SLOWER = 0.1, 4.0
ENOUGH_INPUTS = 20
SHOWN_SURVIVORS, SHOWN_VERDICTS = 10, 100
_REWRITTEN = "a rewriting of the reference that behaves alike"


@dataclass(frozen=True)
class Trial:
    """Tests to measure.

    Attributes:
        code: the reference; every test must accept it.
        tests: pytest file, bare asserts or doctest examples.
        module: the name under which the tests import the code.
        within: the function or class to mutate; None for all of the module.
        inputs: argument lists of the function `within`. A survivor that agrees with the reference
            on all of them (at least 20) is a suspected equivalent.
        most_mutants: of more than that, a sample is run.
        wrong: modules with a fault planted by hand.
    """

    code: str
    tests: str
    module: str = "solution"
    within: str | None = None
    inputs: Sequence[Sequence[Any]] = ()
    most_mutants: int = 300
    wrong: Sequence[str] = ()


@dataclass(frozen=True)
class Refusal:
    """Why tests are not measured at all."""

    status: Status
    why: str


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        refusal: why the tests do not count, None where they do.
        verdicts: outcome of every test on the reference, by test id.
        repeatable: the tests ended alike in other orders; None where that was not reached.
        fails_stub: they reject functions that do nothing; None where that was not reached.
        killed: mutants that made a test fail.
        survived: mutants that no test noticed, those on lines that no test reaches included.
        unreached: those of `survived` that were not run, since no test reaches their line.
        timeouts: mutants that ran out of time or memory: neither killed nor survived.
        equivalents: changes with the bytecode of the reference or of another mutant; never run.
        suspected: survivors that agree with the reference on all inputs of the task.
        planted: of the modules wrong by hand, by number, whether a test failed; without those that
            ran out of time or memory.
        branch_coverage: of the reference, as the tests' own process saw it.
        cpu_s: CPU seconds of all runs.
        n_runs: how many processes ran.
    """

    refusal: Refusal | None
    verdicts: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool | None = None
    fails_stub: bool | None = None
    killed: tuple[Mutant, ...] = ()
    survived: tuple[Mutant, ...] = ()
    unreached: int = 0
    timeouts: tuple[Mutant, ...] = ()
    equivalents: int = 0
    suspected: tuple[Mutant, ...] = ()
    planted: Mapping[int, bool] = field(default_factory=dict)
    branch_coverage: float | None = None
    cpu_s: float = 0.0
    n_runs: int = 0

    @property
    def score(self) -> float | None:
        """Killed / (killed + survived); 0 for refused tests, None where no mutant was decided."""
        if self.refusal is not None:
            return 0.0
        decided = len(self.killed) + len(self.survived)
        return len(self.killed) / decided if decided else None

    @property
    def planted_score(self) -> float | None:
        """The share of `planted` that was noticed; None where nothing was planted."""
        return sum(self.planted.values()) / len(self.planted) if self.planted else None

    def as_metrics(self) -> dict[str, Any]:
        """Plain JSON for `Grade.metrics`."""
        return {
            "mutation_score": self.score,
            "killed": len(self.killed),
            "survived": len(self.survived),
            "unreached": self.unreached,
            "timeouts": len(self.timeouts),
            "equivalents": self.equivalents,
            "suspected_equivalents": len(self.suspected),
            "planted_score": self.planted_score,
            "branch_coverage": self.branch_coverage,
            "n_tests": len(self.verdicts),
            "repeatable": self.repeatable,
            "fails_stub": self.fails_stub,
            "survivors": [mutant.diff for mutant in self.survived[:SHOWN_SURVIVORS]],
            "verdicts": dict(list(self.verdicts.items())[:SHOWN_VERDICTS]),
        }


class _Plan:
    """The runs of one trial."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.program: Program = read_program(trial.code, trial.within)
        self.dice = random.SystemRandom()  # not to be foreseen by the tests
        self.seeds = [self.dice.randrange(1, 1 << 30) for _ in range(PRESENTATIONS)]
        chosen = self.program.mutants
        if len(chosen) > trial.most_mutants:
            sample = random.Random(trial.code).sample(range(len(chosen)), trial.most_mutants)
            kept = set(sample)
            chosen = [mutant for number, mutant in enumerate(chosen) if number in kept]
        self.mutants = chosen

    @cached_property
    def plain(self) -> str:
        return Presentation(self.program, None).text()

    @cached_property
    def presentations(self) -> list[Presentation]:
        return [Presentation(self.program, seed) for seed in self.seeds]

    def cases(self, code: str) -> Cases:
        """A run in an order of its own."""
        order = self.dice.randrange(1, 1 << 30)
        return Cases(code, self.trial.tests, self.trial.module, order)

    def kill(self, code: str, limits: Limits) -> Cases:
        """A run that asks only whether a test fails."""
        return replace(self.cases(code), first_failure=True, limits=limits)

    def reference_run(self, coverage: bool = True) -> dict[str, Cases]:
        """In the order of the file."""
        plain = self.cases(self.plain)
        return {"reference": replace(plain, order_seed=0, coverage=coverage)}

    def further_runs(self) -> dict[str, Cases]:
        """What else must be known before any mutant is run, by name."""
        return {
            "other order": self.cases(self.plain),
            "rewriting": self.cases(self.presentations[0].text()),
            "stub": self.cases(stub(self.program)),
        }

    def unreached(self, steps: Sequence[Sequence[int]] | None) -> set[Mutant]:
        """The mutants on lines of the plain text that were not reached; none if that is unknown."""
        if steps is None:
            return set()
        again = list(ast.walk(ast.parse(self.plain)))
        if [type(node) for node in again] != [type(node) for node in self.program.nodes]:
            return set()  # an f-string that is written in another way
        numbers = {id(node): number for number, node in enumerate(self.program.nodes)}
        reached = reached_lines(steps)
        statements = self.program.statements
        return {
            mutant
            for mutant in self.mutants
            if reached.isdisjoint(header_lines(again[numbers[id(statements[mutant])]]))
        }

    def mutant_runs(
        self, skipped: set[Mutant], limits: Limits
    ) -> list[tuple[Mutant | None, Cases]]:
        """The mutants to run with the reference (None) among them, shuffled and alike."""
        wanted: list[Mutant | None] = [one for one in self.mutants if one not in skipped]
        checks = checks_among(len(wanted))
        runs: list[tuple[Mutant | None, Cases]] = []
        for number, mutant in enumerate([*wanted, *[None] * checks]):
            presentation = self.presentations[number % PRESENTATIONS]
            runs.append((mutant, self.kill(presentation.text(mutant), limits)))
        self.dice.shuffle(runs)
        return runs

    def planted_runs(self, limits: Limits) -> dict[int, Cases]:
        """The modules that are wrong by hand, in the rewritings of the mutants."""
        return {
            number: self.kill(rewritten(code, self.seeds[number % PRESENTATIONS]), limits)
            for number, code in enumerate(self.trial.wrong)
        }


def checks_among(n_mutants: int) -> int:
    """How often the reference is run among so many mutants.

    Tests that fail by dice, on some runs and not on others, reach a score of 0.8 with less than one
    chance in 500 where there are two mutants or more.
    """
    if not n_mutants:
        return 0
    return max(PRESENTATIONS + n_mutants // MUTANTS_PER_CHECK, CHECKS_OF_FEW // n_mutants)


def measure(trials: Sequence[Trial], sandbox: Sandbox) -> list[Report]:
    """Measures tests; all runs of all trials share the sandbox's workers.

    Raises:
        BadInput: a reference cannot be mutated, see `read_program`.
    """
    plans = [_Plan(trial) for trial in trials]
    firsts = _run_all([plan.reference_run() for plan in plans], sandbox)
    hindered = [
        plan.reference_run(coverage=False) if _hindered(first["reference"]) else {}
        for plan, first in zip(plans, firsts, strict=True)
    ]
    for first, again in zip(firsts, _run_all(hindered, sandbox), strict=True):
        first.update(again)
    further = [
        {} if refusal_of(first) else plan.further_runs()
        for plan, first in zip(plans, firsts, strict=True)
    ]
    for first, more in zip(firsts, _run_all(further, sandbox), strict=True):
        first.update(more)
    reports = [_first_report(plan, first) for plan, first in zip(plans, firsts, strict=True)]
    going = [index for index, report in enumerate(reports) if report.refusal is None]
    skipped = {index: plans[index].unreached(firsts[index]["reference"].covered) for index in going}
    limits = {index: calibrated(firsts[index], sandbox.limits) for index in going}
    runs = [plans[index].mutant_runs(skipped[index], limits[index]) for index in going]
    found = _run_all([dict(enumerate(cases for _, cases in part)) for part in runs], sandbox)
    for index, part, outcomes in zip(going, runs, found, strict=True):
        results = [(mutant, outcomes[at]) for at, (mutant, _) in enumerate(part)]
        reports[index] = judge(reports[index], results, skipped[index])
    planted = _run_all([plans[index].planted_runs(limits[index]) for index in going], sandbox)
    for index, wrong in zip(going, planted, strict=True):
        reports[index] = judge_planted(reports[index], wrong)
    suspects = _suspects([(plans[index], reports[index]) for index in going], sandbox)
    for index, suspected in zip(going, suspects, strict=True):
        survived = tuple(one for one in reports[index].survived if one not in suspected)
        reports[index] = replace(reports[index], survived=survived, suspected=suspected)
    return reports


def _run_all(parts: Sequence[Mapping[_Key, Cases]], sandbox: Sandbox) -> list[dict[_Key, Outcome]]:
    outcomes = iter(sandbox.run_many(case for part in parts for case in part.values()))
    return [{key: next(outcomes) for key in part} for part in parts]


def _hindered(outcome: Outcome) -> bool:
    """Whether tracing, which costs time and depth of recursion, may have made the tests fail."""
    results = (outcome.tests or {}).values()
    return outcome.status is Status.TIMEOUT or "error:RecursionError" in results


def calibrated(first: Mapping[str, Outcome], limits: Limits) -> Limits:
    """Limits of a mutant's run, by the CPU time of the same tests over the reference."""
    used = max(outcome.cpu_s for name, outcome in first.items() if name != "reference")
    cpu_s = SPARE_CPU_S + SLOWER * used
    return replace(limits, cpu_s=cpu_s, wall_s=max(limits.wall_s, 2 * cpu_s))


def refusal_of(first: Mapping[str, Outcome]) -> Refusal | None:
    """Decides from the runs so far, by name, whether the tests can be measured."""
    outcome = first["reference"]
    if outcome.status is not Status.PASS or outcome.tests is None:
        return Refusal(outcome.status, f"do not run on the reference: {outcome.detail}")
    results = set(outcome.tests.values())
    if not results:
        return Refusal(Status.WRONG, "no test_* function, test class or assert was found")
    if results == {"skipped"}:
        return Refusal(Status.WRONG, "every test is skipped")
    if failed := _failed(outcome.tests):
        what = f"{len(failed)} of {len(outcome.tests)}: {_listed(failed)}"
        return Refusal(Status.WRONG, f"reject the reference: {what}")
    for name in (name for name in first if name not in ("reference", "stub")):
        if failed := _missed(first[name], outcome.tests):
            where = "in another order" if name == "other order" else "on " + _REWRITTEN
            return Refusal(Status.WRONG, f"end otherwise {where}: {_listed(failed)}")
    if "stub" in first and not _missed(first["stub"], outcome.tests):
        return Refusal(Status.WRONG, "accept functions that do nothing")
    return None


def _failed(tests: Mapping[str, str]) -> dict[str, str]:
    return {name: result for name, result in tests.items() if result not in ("passed", "skipped")}


def _missed(outcome: Outcome, expected: Mapping[str, str]) -> dict[str, str]:
    """The tests that did not end as on the reference."""
    if outcome.tests is None:
        return {"the run": f"{outcome.status} {outcome.detail}".strip()}
    return {
        name: outcome.tests.get(name, "missing")
        for name in expected
        if outcome.tests.get(name) != expected[name]
    }


def _listed(failed: Mapping[str, str]) -> str:
    shown = [f"{name} ({result})" for name, result in list(failed.items())[:3]]
    return ", ".join(shown) + (", ..." if len(failed) > 3 else "")


def _first_report(plan: _Plan, first: Mapping[str, Outcome]) -> Report:
    outcome, refusal = first["reference"], refusal_of(first)
    known = outcome.tests or {}
    return Report(
        refusal,
        known,
        repeatable=not _missed(first["other order"], known) if "other order" in first else None,
        fails_stub=bool(_missed(first["stub"], known)) if "stub" in first else None,
        equivalents=len(plan.program.equivalents),
        branch_coverage=(
            branch_coverage(ast.parse(plan.plain), outcome.covered, plan.trial.within)
            if outcome.covered is not None
            else None
        ),
        cpu_s=sum(one.cpu_s for one in first.values()),
        n_runs=len(first),
    )


def judge(
    report: Report, results: Sequence[tuple[Mutant | None, Outcome]], unreached: set[Mutant]
) -> Report:
    """Completes a report by the runs of mutants and, as None, of the reference among them."""
    report = replace(
        report,
        cpu_s=report.cpu_s + sum(outcome.cpu_s for _, outcome in results),
        n_runs=report.n_runs + len(results),
        unreached=len(unreached),
    )
    killed, survived, timeouts = [], list(unreached), []
    for mutant, outcome in results:
        missed = _missed(outcome, report.verdicts)
        if mutant is None:
            if missed:
                why = f"do not end alike each time: {_listed(missed)}"
                return replace(report, refusal=Refusal(Status.WRONG, why), repeatable=False)
        elif not missed:
            survived.append(mutant)
        elif _ran_out(outcome, missed):
            timeouts.append(mutant)
        else:
            killed.append(mutant)

    def ordered(mutants: list[Mutant]) -> tuple[Mutant, ...]:
        return tuple(sorted(mutants, key=lambda one: (one.line, one.node, one.choice)))

    return replace(
        report, killed=ordered(killed), survived=ordered(survived), timeouts=ordered(timeouts)
    )


def judge_planted(report: Report, outcomes: Mapping[int, Outcome]) -> Report:
    """Adds the runs of the modules that are wrong by hand."""
    missed = {number: _missed(outcome, report.verdicts) for number, outcome in outcomes.items()}
    planted = {
        number: bool(found)
        for number, found in missed.items()
        if not (found and _ran_out(outcomes[number], found))
    }
    return replace(
        report,
        planted=planted,
        cpu_s=report.cpu_s + sum(outcome.cpu_s for outcome in outcomes.values()),
        n_runs=report.n_runs + len(outcomes),
    )


def _ran_out(outcome: Outcome, missed: Mapping[str, str]) -> bool:
    """Whether a limit, not a test, ended it; also where the sandbox itself could not go on."""
    if outcome.status in (Status.TIMEOUT, Status.MEMORY) or outcome.detail.startswith("sandbox: "):
        return True
    return set(missed.values()) == {"error:MemoryError"}


def _suspects(parts: Sequence[tuple[_Plan, Report]], sandbox: Sandbox) -> list[tuple[Mutant, ...]]:
    """The survivors that agree with the reference on all inputs that the task gives."""
    calls: list[Call] = []
    spans: list[range] = []
    for plan, report in parts:
        inputs, name, start = plan.trial.inputs, plan.trial.within, len(calls)
        if len(inputs) >= ENOUGH_INPUTS and name and report.survived and not report.refusal:
            shown = Presentation(plan.program, None)
            texts = [plan.plain, *map(shown.text, report.survived)]
            calls += [Call(text, name, inputs) for text in texts]
        spans.append(range(start, len(calls)))
    outcomes = sandbox.run_many(calls, trusted=True)
    found = []
    for (_, report), span in zip(parts, spans, strict=True):
        values = [outcomes[at] for at in span]
        pairs = zip(report.survived, values[1:], strict=False)
        found.append(tuple(mutant for mutant, other in pairs if _agree(values[0], other)))
    return found


def _agree(one: Outcome, other: Outcome) -> bool:
    if one.values is None or other.values is None or one.errors != other.errors:
        return False
    return all(map(same, one.values, other.values))
