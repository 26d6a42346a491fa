"""The multi-row statements. They are the driver's own text: it halves their cost, and PyMySQL makes one statement of
many rows only where nothing but `ON DUPLICATE KEY` follows `VALUES (...)`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Table

from imconnect.backends.sql import schema


class Writes:
    """Insert statements of one dialect, for rows as tuples in the order of the table's columns."""

    def __init__(self, dialect: str) -> None:
        self._sqlite = dialect == "sqlite"
        self.message = self._insert(schema.message)
        self.new_session = self._insert(schema.session)
        self.session = self._replace(schema.session, ("last_msg_id", "last_msg_time", "unread_count"))
        self.offline = self._leave(schema.offline)
        self.early = self._leave(schema.early)
        self.notice = self._leave(schema.notice)

    def _insert(self, table: Table, then: str = "") -> str:
        names = [column.name for column in table.columns]
        values = ", ".join(["?" if self._sqlite else "%s"] * len(names))
        return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({values}){then}"

    def _replace(self, table: Table, columns: Sequence[str]) -> str:
        """Rows that exist get these columns."""
        if self._sqlite:
            key = ", ".join(table.primary_key.columns.keys())
            changes = ", ".join(f"{name} = excluded.{name}" for name in columns)
            return self._insert(table, f" ON CONFLICT ({key}) DO UPDATE SET {changes}")
        changes = ", ".join(f"{name} = VALUES({name})" for name in columns)
        return self._insert(table, f" ON DUPLICATE KEY UPDATE {changes}")

    def _leave(self, table: Table) -> str:
        """Rows that exist stay as they are."""
        if self._sqlite:
            return self._insert(table, " ON CONFLICT DO NOTHING")
        name = table.primary_key.columns.keys()[0]
        return self._insert(table, f" ON DUPLICATE KEY UPDATE {name} = {table.name}.{name}")


def insert(connection: Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """All rows with one statement, or none."""
    values = list(rows)
    if values:
        connection.exec_driver_sql(statement, values)
