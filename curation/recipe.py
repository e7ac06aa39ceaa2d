"""All knobs of a curation: what counts as a repeat, as good, as balanced, and how it is split.

A recipe is checked when it is built, so no later step has to doubt it. Two recipes with the same
`fingerprint` judge every interaction alike; a changed one makes `build` judge the log anew.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from foundation.errors import BadInput

DEFAULT, UNVERIFIED, SABOTAGE = "default", "unverified", "sabotage"
VARIANTS: Final = (DEFAULT, UNVERIFIED, SABOTAGE)
"""Kept by outcome; the control, whatever the outcome; the counter-proof, failed attempts only."""

PROFILES: Final = {"default": (16, 8), "high-recall": (18, 7)}
"""Bands and rows of a MinHash signature of 128 values: 95 % of pairs at Jaccard 0.80 are looked at
by 16 x 8, 98.6 % by 18 x 7, which costs an eighth more index and more comparisons."""

NATURAL, SQRT, EQUAL = "natural", "sqrt", "equal"
WEIGHTS: Final = (NATURAL, SQRT, EQUAL)
"""How a group's share of a limited dataset follows its size: as it is, its square root, not."""

RULE_VERSIONS: Final = {
    "normalize": 2,
    "signature": 2,
    "score": 2,
    "balance": 2,
    "split": 2,
    "decontaminate": 1,
    "preferences": 2,
}
"""Raised when a rule changes its mind, so that stored verdicts are recognised as outdated."""

_WITHOUT_EFFECT: Final = ("batch_size",)
_CHOOSING: Final = (
    *("max_per_task_type", "max_task_type_share", "max_examples", "balance_by", "balance_weight"),
    *("diverse", "general_dataset", "general_share", "replay_datasets", "replay_share"),
    *("pairs_per_task", "min_rating_gap", "max_source_share"),
)
"""Knobs of what is chosen among judged examples: changing them judges nothing anew."""
_WITHOUT_EFFECT_UNSET: Final = ("max_source_share",)
"""Knobs that came later: unset, a recipe is the same as before there were any."""


@dataclass(frozen=True)
class CurationRecipe:
    """How a role's log becomes a dataset; shares are in 0-1, scores in 0-1, ratings in 1-5."""

    variant: str = DEFAULT
    """`default` keeps verified answers, `unverified` all of them, `sabotage` only failed ones."""

    # What is a repeat
    strip_templates: bool = True
    """Whether text that many of the role's prompts or answers share is left out of comparisons."""
    near_duplicate_threshold: float = 0.8
    """Exact Jaccard of the shingle sets, of prompt and of answer, from which a text is a repeat."""
    profile: str = "default"
    """Bands and rows of the signature: `default` or `high-recall`."""
    num_perm: int = 128
    """MinHash permutations; at least bands * rows of the profile."""
    long_shingle: int = 5
    """Words per shingle of a text of `short_below` words or more."""
    short_shingle: int = 3
    """Words per shingle below that."""
    short_below: int = 60
    """Words; below, a repeat must also agree in every number, operator and answer word."""
    tiny_below: int = 10
    """Words; below, single words are compared, and the lengths."""
    hot_bucket_cap: int = 200
    """Texts of one band bucket that a new text is compared with (those of the least ids)."""
    embedding_model: str | None = None
    """Model that proposes repeats in meaning for review; None: no proposals. See curation.embed."""
    semantic_threshold: float = 0.95
    """Cosine of prompt and of answer from which a likeness is proposed."""

    # What is good
    min_score: float = 0.5
    """Least score, without calibration, of a kept example (variant `default`)."""
    min_rating: float = 4.0
    """Least mean rating that stands in for a missing outcome."""
    min_feedback: int = 1
    """Statements that an example needs (variant `default`)."""
    trusted_sources: tuple[str, ...] = ("test", "human", "user", "role")
    """Sources whose `success` counts as an outcome; a judge alone does not."""
    keep_corrections: bool = True
    """Whether a human correction replaces the answer (variant `default`)."""
    keep_tool_calls: bool = True
    """Whether an answer of tool calls alone may be an example."""
    max_chars: int = 200_000
    """Characters of prompt and answer together."""
    calibrate: bool = True
    """Whether scores are mapped to the chance of a trusted good outcome, where enough are known."""
    min_calibration: int = 200
    """Trusted outcomes, of both signs, that a calibration needs."""
    judge_model: str | None = None
    """litellm name of the model that judges attempts without a trusted outcome; None: no judge."""
    judge_calls: int = 200
    """Questions to the judge in one build at most; answers are kept and not asked again."""
    ifd_model: str | None = None
    """Base model (folder or hub name) whose losses tell how much a prompt helps; None: none."""
    extra_rules: tuple[str, ...] = ()
    """Your own rules, `module:function`, each from an attempt to a reason to drop it or None."""
    decontaminate: bool = True
    """Whether what repeats a registered benchmark's task is left out."""

    # How much of what
    balance_by: tuple[str, ...] = ("task_type",)
    """What a limited dataset is spread over: task_type, difficulty, project, month."""
    balance_weight: str = NATURAL
    """A group's share of a limited dataset: `natural`, `sqrt` of its size, or `equal`."""
    diverse: bool = True
    """Whether a quota takes unlike examples before alike ones of equal score."""
    max_per_task_type: int | None = None
    """Examples of one task type; None: any number."""
    max_task_type_share: float = 1.0
    """Share of the dataset that one task type may take; 1.0: no limit."""
    max_source_share: float | None = None
    """Share of the dataset that may rest on the word of one key alone; None: no limit."""
    max_examples: int | None = None
    """Examples of the dataset, over all splits, before anything is mixed in; None: all."""
    general_dataset: str | None = None
    """Id of a dataset of general data, mixed into `train` against forgetting; None: none."""
    general_share: float = 0.15
    """Its share of the mixed `train` split."""
    replay_datasets: tuple[str, ...] = ()
    """Ids of earlier datasets, a sample of which is mixed into `train`."""
    replay_share: float = 0.2
    """Their share of the mixed `train` split."""
    pairs_per_task: int = 8
    """Preference pairs of one task at most."""
    min_rating_gap: float = 2.0
    """Stars between two answers from which the better-rated one is preferred."""

    # How it is split
    keep_together: tuple[str, ...] = ("episode",)
    """What no split may tear apart beside like prompts: episode, project."""
    train_share: float = 0.8
    validation_share: float = 0.1
    test_share: float = 0.1
    seed: int = 0
    """Draws the splits, what a quota leaves out, and what is mixed in."""
    batch_size: int = 2000
    """Interactions of one chunk: what one worker takes, holds in memory and stores at once."""

    def __post_init__(self) -> None:
        _require(self.variant in VARIANTS, "variant", self.variant, f"one of {VARIANTS}")
        _require(self.profile in PROFILES, "profile", self.profile, f"one of {tuple(PROFILES)}")
        _require(
            self.balance_weight in WEIGHTS,
            "balance_weight",
            self.balance_weight,
            f"one of {WEIGHTS}",
        )
        for name, allowed in (
            ("balance_by", ("task_type", "difficulty", "project", "month")),
            ("keep_together", ("episode", "project")),
        ):
            given = getattr(self, name)
            _require(set(given) <= set(allowed), name, given, f"some of {allowed}")
        for name in ("near_duplicate_threshold", "max_task_type_share", "semantic_threshold"):
            _require(0 < getattr(self, name) <= 1, name, getattr(self, name), "a share in (0, 1]")
        for name in ("min_score", "train_share", "validation_share", "test_share"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a value in [0, 1]")
        if (most := self.max_source_share) is not None:
            is_share = not isinstance(most, bool) and 0 < most <= 1
            _require(is_share, "max_source_share", most, "a share in (0, 1], or null")
        for name in ("general_share", "replay_share"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a share in [0, 1)")
        for name in ("num_perm", "short_shingle", "long_shingle", "tiny_below"):
            _require_count(name, getattr(self, name), 1)
        for name in (
            "hot_bucket_cap",
            "batch_size",
            "max_chars",
            "min_calibration",
            "pairs_per_task",
        ):
            _require_count(name, getattr(self, name), 1)
        for name in ("max_per_task_type", "max_examples"):
            if getattr(self, name) is not None:
                _require_count(name, getattr(self, name), 1)
        for name in ("min_feedback", "seed", "judge_calls"):
            _require_count(name, getattr(self, name), 0)
        _require(
            self.num_perm >= self.bands * self.rows,
            "num_perm",
            self.num_perm,
            f"at least bands * rows = {self.bands * self.rows}",
        )
        _require(
            self.short_shingle <= self.tiny_below <= self.short_below
            and self.short_shingle <= self.long_shingle <= self.short_below,
            "short_below",
            self.short_below,
            "short_shingle <= tiny_below <= short_below, and long_shingle in between too",
        )
        _require(1 <= self.min_rating <= 5, "min_rating", self.min_rating, "a rating in [1, 5]")
        gap = self.min_rating_gap
        _require(0 < gap <= 4, "min_rating_gap", gap, "stars in (0, 4]")
        shares = self.train_share + self.validation_share + self.test_share
        _require(abs(shares - 1) < 1e-9, "split shares", shares, "shares that sum to 1")
        mixed = self.replay_share * bool(self.replay_datasets)
        mixed += self.general_share * (self.general_dataset is not None)
        _require(mixed < 1, "mixed shares", mixed, "general_share + replay_share below 1")

    @property
    def bands(self) -> int:
        """Bands of a signature."""
        return PROFILES[self.profile][0]

    @property
    def rows(self) -> int:
        """Hashes per band."""
        return PROFILES[self.profile][1]

    @classmethod
    def from_json(cls, values: dict[str, Any] | None) -> Self:
        """Return the recipe of plain JSON values; missing fields keep their defaults.

        Raises:
            BadInput: an unknown field, or a value its field does not accept.
        """
        known = {field.name: field for field in fields(cls)}
        given = dict(values or {})
        for name in given:
            _require(name in known, "field", name, f"one of {', '.join(known)}")
        for name, value in given.items():
            if isinstance(value, list):
                given[name] = tuple(value)
        try:
            return cls(**given)
        except TypeError as error:
            raise BadInput(
                "curation recipe", values, "numbers where the recipe has numbers", str(error)
            ) from error

    def as_json(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that can change a dataset: the knobs and the versions of the rules."""
        return _hash_of(
            {
                k: v
                for k, v in self.as_json().items()
                if k not in _WITHOUT_EFFECT and not (k in _WITHOUT_EFFECT_UNSET and v is None)
            }
        )

    @property
    def judging_fingerprint(self) -> str:
        """SHA-256 of what can change the verdict on an interaction: not what is chosen after."""
        skipped = {*_WITHOUT_EFFECT, *_CHOOSING}
        return _hash_of({k: v for k, v in self.as_json().items() if k not in skipped})

    @property
    def by_outcome(self) -> bool:
        """Whether feedback takes part in choosing among attempts (variant `default` only)."""
        return self.variant == DEFAULT


def _hash_of(knobs: dict[str, Any]) -> str:
    text = json.dumps({"knobs": knobs, "rules": RULE_VERSIONS}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _require_count(name: str, value: Any, least: int) -> None:
    accepted = isinstance(value, int) and not isinstance(value, bool) and value >= least
    _require(accepted, name, value, f"a whole number of at least {least}")


def _require(accepted: bool, name: str, value: Any, expected: str) -> None:
    if not accepted:
        raise BadInput(f"curation recipe {name}", value, expected, "See curation/recipe.py.")
