"""Migrations of a database, the ledger of those applied, and the runner of both.

A migration has a number, adds a table when it goes up and drops it when it goes down. It breaks
when its table is already there (up) or not there (down). The ledger is written once a migration
is through. The runner goes up in the order of the numbers and down in that of the ledger, from its
end.
"""

from dataclasses import dataclass

UNDO = True
LATE = True


class Broken(Exception):
    """A migration does not work, or may not run."""


@dataclass(frozen=True)
class Migration:
    """One change of a database."""

    number: int
    table: str


class Database:
    """Its tables."""

    def __init__(self, tables: list[str]) -> None:
        self.tables = set(tables)

    def create(self, table: str) -> None:
        """Adds a table."""
        if table in self.tables:
            raise Broken(table)
        self.tables.add(table)

    def drop(self, table: str) -> None:
        """Takes a table away."""
        if table not in self.tables:
            raise Broken(table)
        self.tables.remove(table)


class Runner:
    """Applies migrations; the ledger is the list of those that were."""

    def __init__(self, database: Database, ledger: list[Migration]) -> None:
        self.database = database
        self.ledger = ledger

    def pending(self, migrations: list[Migration]) -> list[Migration]:
        """Those that are not in the ledger."""
        waiting = [one for one in migrations if one not in self.ledger]
        return sorted(waiting, key=lambda one: one.number)

    def up(self, migrations: list[Migration]) -> int:
        """Applies what is pending; returns how many. Raises Broken where one fails."""
        waiting = self.pending(migrations)
        if not LATE:
            last = max((one.number for one in self.ledger), default=0)
            if waiting and waiting[0].number < last:
                raise Broken(waiting[0].table)
        for done, migration in enumerate(waiting):
            try:
                self.database.create(migration.table)
            except Broken:
                if UNDO:
                    self.down(done)
                raise
            self.ledger.append(migration)
        return len(waiting)

    def down(self, count: int) -> None:
        """Takes back that many migrations, the last one first; no more than there are."""
        for _ in range(min(count, len(self.ledger))):
            self.database.drop(self.ledger[-1].table)
            self.ledger.pop()
