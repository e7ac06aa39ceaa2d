"""A database as after months of work, made by the database itself: what the admin view is timed on.

Texts are made up and short; counts are what matters. Everything is deterministic but for times,
which are relative to now.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import psycopg

SQL = Path(__file__).with_suffix(".sql")
ROLES = ("coder", "tester", "reviewer", "researcher", "coordinator")


@dataclass(frozen=True)
class Size:
    """How many rows of each kind."""

    calls: int
    examples: int
    few: int
    """Rows of what comes by the hundred: runs, evaluations, tasks of a suite, …"""

    @property
    def versions(self) -> int:
        """Datasets, trainings, models: fewer still."""
        return max(6, self.few // 10)


WHOLE = Size(calls=1_000_000, examples=200_000, few=2_000)
QUICK = Size(calls=50_000, examples=10_000, few=400)
FEW = Size(calls=60, examples=40, few=8)


def seed(url: str, size: Size) -> None:
    """Fill an empty, migrated database.

    Args:
        url: libpq URL of the database.
        size: how much.
    """
    roles = ", ".join(f"'{role}'" for role in ROLES)
    values = {
        **{"calls": size.calls, "examples": size.examples, "few": size.few},
        **{"versions": size.versions, "roles": f"ARRAY[{roles}]"},
    }
    names = "|".join(values)
    statements = re.sub(
        rf"(?<!:):({names})\b", lambda found: str(values[found[1]]), SQL.read_text()
    )
    with psycopg.connect(url, autocommit=True) as database:
        for statement in re.split(r";\n\n", statements):
            database.execute(statement)
