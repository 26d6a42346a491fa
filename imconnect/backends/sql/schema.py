"""The tables of interface.md section 5. The migrations make them; a test holds the two together.

Times are milliseconds since 1970. Ids are 1 to 2**63-1. On SQLite a single integer key is the row's own number and a
compound key is the table itself, which saves an index each.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, String, Table, Text
from sqlalchemy.dialects.mysql import MEDIUMBLOB, MEDIUMTEXT

#: The table in which Alembic keeps the revision of this schema.
VERSION_TABLE = "im_schema"

metadata = MetaData()

_BIG = BigInteger().with_variant(Integer, "sqlite")
_TEXT = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")
_BLOB = LargeBinary().with_variant(MEDIUMBLOB(), "mysql", "mariadb")
# Compared byte by byte: an id that differs in case only is another one.
_MYSQL: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def _id(name: str, *, key: bool = False) -> Column[int]:
    return Column(name, _BIG, primary_key=key, autoincrement=False, nullable=False)


message = Table(
    "im_c2c_message",
    metadata,
    _id("msg_id", key=True),
    Column("client_msg_id", String(36)),
    _id("from_id"),
    _id("to_id"),
    Column("chat_id", String(64), nullable=False),
    Column("content", _TEXT, nullable=False),
    Column("msg_format", SmallInteger, nullable=False),
    Column("msg_status", SmallInteger, nullable=False),
    Column("withdraw_flag", SmallInteger, nullable=False),
    _id("msg_create_time"),
    Index("uq_message_send", "from_id", "client_msg_id", unique=True),
    Index("ix_message_chat", "chat_id", "msg_id"),
    Index("ix_message_created", "msg_create_time"),
    **_MYSQL,
)

session = Table(
    "im_session",
    metadata,
    _id("user_id", key=True),
    Column("chat_id", String(64), primary_key=True, nullable=False),
    _id("peer_id"),
    _id("last_msg_id"),
    _id("last_msg_time"),
    Column("unread_count", Integer, nullable=False),
    sqlite_with_rowid=False,
    **_MYSQL,
)

offline = Table(
    "im_offline_message",
    metadata,
    _id("user_id", key=True),
    _id("msg_id", key=True),
    # The message's msg_create_time, so that the watch need not read the messages.
    _id("create_time"),
    sqlite_with_rowid=False,
    **_MYSQL,
)

early = Table(
    "im_event_early",
    metadata,
    _id("msg_id", key=True),
    Column("kind", SmallInteger, primary_key=True, autoincrement=False, nullable=False),
    _id("actor", key=True),
    Column("status", SmallInteger, primary_key=True, autoincrement=False, nullable=False),
    _id("time"),
    _id("kept_time"),
    Column("by_business", SmallInteger, nullable=False),
    Index("ix_early_actor", "actor", "kept_time"),
    Index("ix_early_kept", "kept_time"),
    sqlite_with_rowid=False,
    **_MYSQL,
)

notice = Table(
    "im_withdraw_notice",
    metadata,
    _id("user_id", key=True),
    _id("msg_id", key=True),
    _id("from_id"),
    _id("time"),
    Index("ix_notice_user", "user_id", "time"),
    Index("ix_notice_time", "time"),
    sqlite_with_rowid=False,
    **_MYSQL,
)

parked = Table(
    "im_event_parked",
    metadata,
    Column("topic", String(127), primary_key=True, nullable=False),
    Column("queue", Integer, primary_key=True, autoincrement=False, nullable=False),
    Column("offset", _BIG, primary_key=True, autoincrement=False, nullable=False, quote=True),
    Column("body", _BLOB, nullable=False),
    Column("reason", String(255), nullable=False),
    _id("first_seen"),
    sqlite_with_rowid=False,
    **_MYSQL,
)
