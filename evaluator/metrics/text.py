"""How like a reference a text is: BLEU and chrF by sacrebleu, ROUGE by rouge-score, CodeBLEU.

All are shares in 0-1 (papers write BLEU and chrF as percentages). They measure likeness, not truth:
a wrong answer in the reference's words beats a right one in its own. With several references the
likest counts. CodeBLEU is a diagnostic only; its traps are listed at `code_bleu`.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from evaluator.graders.exact import normalise

ROUGES: Final = ("rouge1", "rouge2", "rougeL")

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+")
"""A word, or one character of a script that writes no spaces. On ASCII it is rouge-score's own."""


def bleu(answer: str, references: Sequence[str]) -> float:
    """Return the sentence BLEU of Papineni et al. (2002), 0-1, as sacrebleu computes it.

    Tokens by `13a`, smoothing `exp`, and n-grams no longer than the answer (effective order), so
    that a right answer of two words is 1 and not 0. Over a corpus use `corpus_bleu`: the mean of
    sentence scores is not the corpus score.
    """
    return min(1.0, float(_bleu().sentence_score(answer, list(references)).score) / 100)


def chrf(answer: str, references: Sequence[str]) -> float:
    """Return chrF2 of Popović (2015), 0-1: character n-grams, fit for every script."""
    return float(_chrf().sentence_score(answer, list(references)).score) / 100


def corpus_bleu(answers: Sequence[str], references: Sequence[str]) -> float | None:
    """Return the BLEU of a corpus, 0-1, with one reference each; None of an empty one."""
    from sacrebleu.metrics.bleu import BLEU

    if not answers:
        return None
    return min(1.0, float(BLEU().corpus_score(list(answers), [list(references)]).score) / 100)


def corpus_chrf(answers: Sequence[str], references: Sequence[str]) -> float | None:
    """Return the chrF2 of a corpus, 0-1, with one reference each; None of an empty one."""
    if not answers:
        return None
    return float(_chrf().corpus_score(list(answers), [list(references)]).score) / 100


def rouge(answer: str, references: Sequence[str]) -> dict[str, float]:
    """Return F1 of ROUGE-1, -2 and -L (Lin, 2004), each 0-1 and of the reference it is best with.

    Words are those of rouge-score without stemming. Its own tokens know ASCII alone, and call any
    two texts in Greek or Chinese unlike; these know words of every script.
    """
    scorer = _rouge()
    scores = [scorer.score(reference, answer) for reference in references]
    return {name: max(float(score[name].fmeasure) for score in scores) for name in ROUGES}


def exact(answer: str, references: Sequence[str]) -> float:
    """Return 1 if the answer is one of the references but for outer white space, else 0."""
    return float(answer.strip() in {reference.strip() for reference in references})


def normalised(answer: str, references: Sequence[str]) -> float:
    """Return 1 if the answer is a reference but for case, spaces, quotes, fence, full stop."""
    return float(normalise(answer) in set(map(normalise, references)))


METRICS: Final[Mapping[str, Callable[[str, Sequence[str]], float]]] = {
    "exact": exact,
    "normalised": normalised,
    "bleu": bleu,
    "chrf": chrf,
    "rouge1": lambda answer, references: rouge(answer, references)["rouge1"],
    "rouge2": lambda answer, references: rouge(answer, references)["rouge2"],
    "rougeL": lambda answer, references: rouge(answer, references)["rougeL"],
}
"""What a threshold may be set on, by name."""


def likeness(answer: str, references: Sequence[str]) -> dict[str, float]:
    """Return every metric of `METRICS` by name; ROUGE is computed once."""
    single = {name: METRICS[name](answer, references) for name in METRICS if name not in ROUGES}
    return {**single, **rouge(answer, references)}


def code_bleu(answer: str, reference: str, language: str = "python") -> float | None:
    """Return the CodeBLEU of two programs (Ren et al., 2020), or None where it says nothing.

    The mean of four matches: n-grams, n-grams with keywords, syntax trees, data flow. Never a gate.
    Measured with codebleu 0.7.0: a sort with two comparisons reversed 0.95, a truncated one 0.91, a
    right one with other names 0.85. It is None, and not 0 or 1,

    - if the extra `codebleu` is absent, or has no parser for the language;
    - if either program does not parse (the package scores what it can of it);
    - if the reference has no data flow. There the package counts the missing part as a full match:
      any two programs of one token get 0.50.

    A data flow of which nothing matches counts 0 here; the package counts that, too, as a full one.
    """
    try:
        from codebleu import calc_codebleu
        from codebleu.utils import get_tree_sitter_language
    except ImportError:
        return None
    try:
        grammar = get_tree_sitter_language(language)
    except (ImportError, NotImplementedError, ValueError, AssertionError):
        return None
    if not all(_parses(code, language, grammar) for code in (answer, reference)):
        return None
    if not _has_data_flow(reference, language, grammar):
        return None
    parts: dict[str, Any] = calc_codebleu([reference], [answer], language)
    return sum(float(parts[name]) for name in _PARTS) / len(_PARTS)


_PARTS: Final = (
    "ngram_match_score",
    "weighted_ngram_match_score",
    "syntax_match_score",
    "dataflow_match_score",
)


def _parses(code: str, language: str, grammar: Any) -> bool:
    """Return whether a program is one of its language, by Python's own parser or tree-sitter's."""
    if not code.strip():
        return False
    if language == "python":
        try:
            ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
        return True
    return not _parser(grammar).parse(code.encode("utf-8", "replace")).root_node.has_error


def _has_data_flow(code: str, language: str, grammar: Any) -> bool:
    from codebleu.dataflow_match import dfg_function, get_data_flow

    return bool(get_data_flow(code.strip(), [_parser(grammar), dfg_function[language]]))


def _parser(grammar: Any) -> Any:
    from tree_sitter import Parser

    parser = Parser()
    parser.language = grammar
    return parser


class _Words:
    """The tokenizer that rouge-score is given."""

    def tokenize(self, text: str) -> list[str]:
        return _TOKEN.findall(text.lower())


@lru_cache(maxsize=1)
def _bleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True)


@lru_cache(maxsize=1)
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@lru_cache(maxsize=1)
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(ROUGES), tokenizer=_Words())
