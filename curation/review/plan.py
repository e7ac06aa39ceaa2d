"""How much of what a queue is filled with: the guaranteed share, and those that a model picks."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from curation.recipe import DEFAULT, VARIANTS
from foundation.errors import BadInput

_SHARES: Final = (
    *("random_share", "uncertainty_share", "disagreement_share", "diversity_share"),
    *("pair_share", "double_share", "boundary"),
)
_COUNTS: Final = ("at_most", "max_waiting", "pool", "min_labels")


@dataclass(frozen=True)
class ReviewPlan:
    """What people are to look at after a build; shares are in 0-1."""

    variant: str = DEFAULT
    random_share: float = 0.1
    """Least share of a dataset's rows that is drawn for review, by hash of the interaction's id."""
    uncertainty_share: float = 0.03
    """Of the rows that are new: how many that the model, or else the score, is least sure of."""
    disagreement_share: float = 0.02
    """Likewise: whose signals lie furthest apart."""
    diversity_share: float = 0.02
    """Likewise: that are least like anything in the queue."""
    pair_share: float = 0.1
    """Of the new preference pairs, by hash: which are compared by a person too."""
    double_share: float = 0.1
    """Of the items, by hash: which need the labels of two reviewers."""
    boundary: float = 0.5
    """Score at which examples are kept: `CurationRecipe.min_score`."""
    at_most: int = 200
    """Items of one reason, other than random, that one filling adds."""
    max_waiting: int = 2000
    """Open items of a role, beside the guaranteed share, from which on only that is added."""
    pool: int = 2000
    """Newest kept examples (and as many dropped ones, and pairs) among which is chosen."""
    min_labels: int = 50
    """Verdicts that the small model needs; below, uncertainty goes by the score alone."""

    def __post_init__(self) -> None:
        _require(self.variant in VARIANTS, "variant", self.variant, f"one of {VARIANTS}")
        for name in _SHARES:
            value = getattr(self, name)
            _require(_is_number(value) and 0 <= value <= 1, name, value, "a share in [0, 1]")
        for name in _COUNTS:
            value = getattr(self, name)
            _require(type(value) is int and value >= 1, name, value, "a whole number from 1 on")

    @classmethod
    def from_json(cls, values: dict[str, Any] | None) -> Self:
        """Return the plan of plain JSON values; missing fields keep their defaults.

        Raises:
            BadInput: an unknown field, or a value its field does not accept.
        """
        known = {field.name for field in fields(cls)}
        for name in values or {}:
            _require(name in known, "field", name, f"one of {', '.join(sorted(known))}")
        return cls(**(values or {}))

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return asdict(self)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(accepted: bool, name: str, value: Any, expected: str) -> None:
    if not accepted:
        raise BadInput(f"review plan {name}", value, expected, "See docs/reviewing.md.")
