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

RULE_VERSIONS: Final = {"normalize": 1, "signature": 1, "score": 1, "balance": 1, "split": 1}
"""Raised when a rule changes its mind, so that stored verdicts are recognised as outdated."""

_WITHOUT_EFFECT: Final = ("overlap_s", "batch_size")


@dataclass(frozen=True)
class CurationRecipe:
    """How a role's log becomes a dataset; shares are in 0-1, scores in 0-1, ratings in 1-5."""

    variant: str = DEFAULT
    """`default` keeps verified answers, `unverified` all of them, `sabotage` only failed ones."""
    near_duplicate_threshold: float = 0.8
    """Exact Jaccard of the shingle sets, of prompt and of answer, from which a text is a repeat."""
    num_perm: int = 128
    """MinHash permutations; must be bands * rows."""
    bands: int = 16
    rows: int = 8
    """Hashes per band: 16 x 8 finds 95 % of pairs at Jaccard 0.80 and 99.9 % at 0.88."""
    long_shingle: int = 5
    """Words per shingle of a text of `short_below` words or more."""
    short_shingle: int = 3
    """Words per shingle below that."""
    short_below: int = 60
    """Words; below, a repeat must also agree in every number, operator and answer word."""
    tiny_below: int = 10
    """Words; below, single words are compared, and the lengths."""
    hot_bucket_cap: int = 200
    """Kept texts of one band bucket that a new text is compared with (the oldest ones)."""
    min_score: float = 0.5
    """Least score of a kept example (variant `default`)."""
    min_rating: float = 4.0
    """Least mean rating that stands in for a missing outcome."""
    min_feedback: int = 1
    """Statements that an example needs (variant `default`)."""
    trusted_sources: tuple[str, ...] = ("test", "human", "user", "role")
    """Sources whose `success` counts as an outcome; a judge alone does not."""
    keep_corrections: bool = True
    """Whether a human correction replaces the answer (variant `default`)."""
    max_chars: int = 200_000
    """Characters of prompt and answer together."""
    max_per_task_type: int | None = None
    """Examples of one task type; None: any number."""
    max_task_type_share: float = 1.0
    """Share of the dataset that one task type may take; 1.0: no limit."""
    max_examples: int | None = None
    """Examples of the dataset, over all splits; None: all."""
    train_share: float = 0.8
    validation_share: float = 0.1
    test_share: float = 0.1
    seed: int = 0
    """Draws the splits, and which examples a quota leaves out."""
    overlap_s: float = 3600.0
    """Seconds that a build looks back behind its watermark, for records committed late."""
    batch_size: int = 2000
    """Interactions held in memory at once."""

    def __post_init__(self) -> None:
        _require(self.variant in VARIANTS, "variant", self.variant, f"one of {VARIANTS}")
        for name in ("near_duplicate_threshold", "max_task_type_share"):
            _require(0 < getattr(self, name) <= 1, name, getattr(self, name), "a share in (0, 1]")
        for name in ("min_score", "train_share", "validation_share", "test_share"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a value in [0, 1]")
        for name in ("num_perm", "bands", "rows", "short_shingle", "long_shingle", "tiny_below"):
            _require_count(name, getattr(self, name), 1)
        for name in ("hot_bucket_cap", "batch_size", "max_chars"):
            _require_count(name, getattr(self, name), 1)
        for name in ("max_per_task_type", "max_examples"):
            if getattr(self, name) is not None:
                _require_count(name, getattr(self, name), 1)
        _require_count("min_feedback", self.min_feedback, 0)
        _require_count("seed", self.seed, 0)
        _require(
            self.num_perm == self.bands * self.rows,
            "num_perm",
            self.num_perm,
            f"bands * rows = {self.bands * self.rows}",
        )
        _require(self.bands <= 16, "bands", self.bands, "at most 16 (4 bits of a band key)")
        _require(
            self.short_shingle <= self.tiny_below <= self.short_below
            and self.short_shingle <= self.long_shingle <= self.short_below,
            "short_below",
            self.short_below,
            "short_shingle <= tiny_below <= short_below, and long_shingle in between too",
        )
        _require(1 <= self.min_rating <= 5, "min_rating", self.min_rating, "a rating in [1, 5]")
        _require(self.overlap_s >= 0, "overlap_s", self.overlap_s, "zero or more seconds")
        shares = self.train_share + self.validation_share + self.test_share
        _require(abs(shares - 1) < 1e-9, "split shares", shares, "shares that sum to 1")

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
        if "trusted_sources" in given:
            given["trusted_sources"] = tuple(given["trusted_sources"])
        try:
            return cls(**given)
        except TypeError as error:
            raise BadInput(
                "curation recipe", values, "numbers where the recipe has numbers", str(error)
            ) from error

    def as_json(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values."""
        return {**asdict(self), "trusted_sources": list(self.trusted_sources)}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that can change a verdict: the knobs and the versions of the rules."""
        knobs = {k: v for k, v in self.as_json().items() if k not in _WITHOUT_EFFECT}
        text = json.dumps({"knobs": knobs, "rules": RULE_VERSIONS}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def by_outcome(self) -> bool:
        """Whether feedback takes part in choosing among attempts (variant `default` only)."""
        return self.variant == DEFAULT


def _require_count(name: str, value: Any, least: int) -> None:
    accepted = isinstance(value, int) and not isinstance(value, bool) and value >= least
    _require(accepted, name, value, f"a whole number of at least {least}")


def _require(accepted: bool, name: str, value: Any, expected: str) -> None:
    if not accepted:
        raise BadInput(f"curation recipe {name}", value, expected, "See curation/recipe.py.")
