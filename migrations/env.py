"""Alembic environment: every room's tables, and the database of the settings."""

from alembic import context
from sqlmodel import SQLModel

import admin.tables  # noqa: F401  imports the tables of every lower room
from flywheel.schema import include_object
from foundation.database import get_engine


def run() -> None:
    """Run the migrations on the given connection, or on the configured database."""
    if context.is_offline_mode():  # `alembic upgrade A:B --sql`, which the lint reads
        context.configure(dialect_name="postgresql", literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    connection = context.config.attributes.get("connection")
    if connection is not None:
        migrate(connection)
        return
    with get_engine().connect() as own_connection:
        migrate(own_connection)
        own_connection.commit()


def migrate(connection: object) -> None:
    """Run on one connection, each revision in the surrounding transaction."""
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        include_object=include_object,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
