"""Run by Alembic for every command. The connection comes from `sql.migrate`; without a database (`--sql`) only the
dialect does."""

from __future__ import annotations

from alembic import context

from imconnect.backends.sql.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes.get("connection"),
    dialect_name=context.config.attributes.get("dialect"),
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
