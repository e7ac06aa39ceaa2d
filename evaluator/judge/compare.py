"""Judges on pairs of answers: asked in both orders, measured, and fit to gate or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from curation.review.agreement import krippendorffs_alpha
from evaluator.judge.ask import Answers, Progress, ask
from evaluator.judge.gate import GateThresholds, objections
from evaluator.judge.health import calibrate, health_of
from evaluator.judge.judges import Judge, are_akin
from evaluator.judge.length import length_controlled
from evaluator.judge.pairs import BASELINE, CANDIDATE, TIE, Pair, chosen
from evaluator.judge.people import SHARE, agreed, ask_people, drawn, people_on
from evaluator.judge.report import JudgeReport, JudgeResult, Panel
from evaluator.judge.settle import Rate, Settled, majority, questions_on, score_of, settle
from foundation.errors import BadInput


@dataclass(frozen=True)
class _Heard:
    """One judge and what it settled."""

    judge: Judge
    answers: Answers
    settled: list[Settled]
    calibrated: list[Settled]
    """Of other pairs with executable truth, that say nothing of this candidate."""

    @property
    def winners(self) -> dict[str, str]:
        """Who won, by the key of the pair."""
        return {one.pair.key: one.winner for one in self.settled}


def compare_answers(
    session: Session,
    judges: Sequence[Judge],
    pairs: Sequence[Pair],
    *,
    baseline_base: str | None = None,
    candidate_base: str | None = None,
    calibration: Sequence[Pair] = (),
    role: str | None = None,
    share_for_people: float = SHARE,
    at_most: int | None = None,
    limits: GateThresholds | None = None,
    progress: Progress | None = None,
) -> JudgeReport:
    """Return what judges say of the candidate, and how far each is to be trusted.

    Each answer of a judge is committed as it comes, in connections of its own. Asked again, the
    report costs nothing and takes in what people have said in the meantime.

    Args:
        session: reads what people said, and puts the sample into their queue; the caller commits.
        judges: at least one; several are a panel.
        pairs: answers side by side, as `pairs.pairs_of` returns them; with `truth` where known.
        baseline_base: base model of the baseline, to see a judge that prefers its own.
        candidate_base: likewise; a judge of the same family may not gate.
        calibration: further pairs with executable truth, to hold the judges against.
        role: whose review queue the sample for people goes into; None: it is not put there.
        share_for_people: of the pairs, drawn by hash, 0-1.
        at_most: pairs to be judged, drawn by hash; None: all.
        limits: what a judge must show before its number may gate.
        progress: told of each judge's answers.

    Raises:
        BadInput: no judges, or no pairs.
    """
    _require(judges, pairs)
    compared = chosen(pairs, at_most)
    if role is not None:
        ask_people(session, role, compared, share_for_people)
    people = people_on(session, compared)
    heard = [_hear(session, judge, compared, calibration, progress) for judge in judges]
    bases = (baseline_base, candidate_base)
    results = tuple(
        _result(one, compared, bases, people, limits or GateThresholds()) for one in heard
    )
    return JudgeReport(
        n_pairs=len(compared),
        n_identical=sum(pair.is_identical for pair in compared),
        n_left_out=len(pairs) - len(compared),
        n_drawn=len(drawn(compared, share_for_people)),
        n_rated=len(people),
        results=results,
        panel=_panel(heard, results, compared, people),
        notes=_notes(candidate_base),
    )


def _hear(
    session: Session,
    judge: Judge,
    pairs: Sequence[Pair],
    calibration: Sequence[Pair],
    progress: Progress | None,
) -> _Heard:
    asked = [pair for pair in pairs if not pair.is_identical]
    known = {pair.key for pair in asked if pair.truth is not None}
    others = [pair for pair in calibration if not pair.is_identical and pair.key not in known]
    questions = [one for pair in (*asked, *others) for one in questions_on(judge.model, pair)]
    answers = ask(session.get_bind().engine, judge, questions, progress)
    return _Heard(
        judge,
        answers,
        settle(judge.model, asked, answers.said),
        settle(judge.model, others, answers.said),
    )


def _result(
    heard: _Heard,
    pairs: Sequence[Pair],
    bases: tuple[str | None, str | None],
    people: Mapping[str, str],
    limits: GateThresholds,
) -> JudgeResult:
    families, (baseline_base, candidate_base) = heard.judge.families, bases
    akin = {
        BASELINE: are_akin(families, baseline_base),
        CANDIDATE: are_akin(families, candidate_base),
    }
    own = [side for side, is_own in akin.items() if is_own]
    n_asked = sum(not pair.is_identical for pair in pairs)
    n_identical = len(pairs) - n_asked
    health = health_of(heard.settled, own[0] if len(own) == 1 else None)
    calibration = calibrate([*heard.settled, *heard.calibrated])
    return JudgeResult(
        judge=heard.judge,
        answers=heard.answers,
        n_pairs=n_asked,
        score=score_of([*(one.winner for one in heard.settled), *[TIE] * n_identical]),
        length=length_controlled(heard.settled),
        health=health,
        calibration=calibration,
        people=agreed(heard.winners, people),
        objections=tuple(objections(health, calibration, n_asked, akin[CANDIDATE], limits)),
    )


def _panel(
    heard: Sequence[_Heard],
    results: Sequence[JudgeResult],
    pairs: Sequence[Pair],
    people: Mapping[str, str],
) -> Panel:
    fit = [one for one, result in zip(heard, results, strict=True) if result.may_gate]
    voters = fit or list(heard)
    settled = [_agreed_on(pair, majority(votes)) for pair, votes in _votes(voters, pairs)]
    opinions = [votes for _, votes in _votes(heard, pairs)]
    shared = [votes for votes in opinions if len(votes) > 1]
    n_identical = sum(pair.is_identical for pair in pairs)
    return Panel(
        voters=tuple(one.judge.model for one in voters),
        score=score_of([*(one.winner for one in settled), *[TIE] * n_identical]),
        length=length_controlled(settled),
        unanimous=Rate(sum(len(set(votes)) == 1 for votes in shared), len(shared)),
        alpha=krippendorffs_alpha(opinions),
        people=agreed({one.pair.key: one.winner for one in settled}, people),
    )


def _agreed_on(pair: Pair, winner: str) -> Settled:
    return Settled(pair, winner, winner)


def _votes(heard: Sequence[_Heard], pairs: Sequence[Pair]) -> list[tuple[Pair, list[str]]]:
    """Return each pair that a judge settled, with the winner of each judge that did."""
    winners = [one.winners for one in heard]
    votes = [(pair, [known[pair.key] for known in winners if pair.key in known]) for pair in pairs]
    return [(pair, said) for pair, said in votes if said]


def _notes(candidate_base: str | None) -> tuple[str, ...]:
    if candidate_base is not None:
        return ()
    return ("The candidate's base is not known: that a judge is of its family cannot be seen.",)


def _require(judges: Sequence[Judge], pairs: Sequence[Pair]) -> None:
    if not judges:
        remedy = "Set FLYWHEEL_JUDGE_MODELS, as in docs/judging.md."
        raise BadInput("judges", [], "at least one", remedy)
    if not pairs:
        remedy = "Evaluate baseline and candidate on the same tasks."
        raise BadInput("pairs to be judged", [], "at least one", remedy)
