"""The tables as SQLAlchemy Core sees them, for statements over thousands of rows at once."""

from typing import Any, Final

from sqlalchemy import Table
from sqlmodel import SQLModel

import curation.tables  # noqa: F401  declares them

EXAMPLES: Final[Table] = SQLModel.metadata.tables["example"]
MEMBERS: Final[Table] = SQLModel.metadata.tables["dataset_example"]
"""A view over the shards of datasets: to read only."""
example: Final[Any] = EXAMPLES.c
"""Columns of `example`: `example.role == role`."""
