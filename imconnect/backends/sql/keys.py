"""Rows by many compound keys at once.

MariaDB and MySQL search an index for `(a, b) IN ((1, 2), ...)`; SQLite reads the whole table for it, and searches the
index only for a join with the keys, or for one key at a time. Tests hold each statement to its index (EXPLAIN).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Table

_T = TypeVar("_T")

#: Keys per statement: SQLite and the optimizer of MariaDB take several times that.
CHUNK = 500


def pieces(keys: Collection[_T]) -> Iterator[Sequence[_T]]:
    """In the order of the keys, at most CHUNK at a time."""
    rows = sorted(keys)  # type: ignore[type-var]
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def select_text(dialect: str, table: Table, columns: Sequence[str], count: int) -> str:
    """Driver's text for the rows that have one of `count` values of these columns, locked where the dialect can."""
    names = ", ".join(f"{table.name}.{column.name}" for column in table.columns)
    wanted = ", ".join(columns)
    if dialect == "sqlite":
        values = ", ".join([_marks("?", columns)] * count)
        same = " AND ".join(f"{table.name}.{name} = k.{name}" for name in columns)
        return f"WITH k({wanted}) AS (VALUES {values}) SELECT {names} FROM k CROSS JOIN {table.name} ON {same}"
    values = ", ".join([_marks("%s", columns)] * count)
    return f"SELECT {names} FROM {table.name} WHERE ({wanted}) IN ({values}) ORDER BY {wanted} FOR UPDATE"


def delete_text(dialect: str, table: Table, count: int) -> str:
    """Driver's text that deletes `count` rows by primary key; on SQLite one row, to be run with many keys."""
    columns = [column.name for column in table.primary_key.columns]
    if dialect == "sqlite":
        return f"DELETE FROM {table.name} WHERE " + " AND ".join(f"{name} = ?" for name in columns)
    values = ", ".join([_marks("%s", columns)] * count)
    return f"DELETE FROM {table.name} WHERE ({', '.join(columns)}) IN ({values})"


def select_keys(
    connection: Connection, table: Table, columns: Sequence[str], keys: Collection[tuple[Any, ...]]
) -> Iterator[Row[Any]]:
    """The rows with these values of these columns."""
    for piece in pieces(keys):
        text = select_text(connection.dialect.name, table, columns, len(piece))
        yield from connection.exec_driver_sql(text, tuple(value for key in piece for value in key))


def delete_keys(connection: Connection, table: Table, keys: Collection[tuple[Any, ...]]) -> None:
    """Delete the rows with these primary keys."""
    dialect = connection.dialect.name
    for piece in pieces(keys):
        text = delete_text(dialect, table, len(piece))
        if dialect == "sqlite":
            connection.exec_driver_sql(text, list(piece))
        else:
            connection.exec_driver_sql(text, tuple(value for key in piece for value in key))


def _marks(mark: str, columns: Sequence[str]) -> str:
    return f"({', '.join([mark] * len(columns))})"
