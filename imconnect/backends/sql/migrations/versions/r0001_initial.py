"""The first tables. Written out, not taken from `schema`: a migration says what was, the schema what is."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import MEDIUMBLOB, MEDIUMTEXT

revision = "0001"
down_revision = None

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_TEXT = sa.Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")
_BLOB = sa.LargeBinary().with_variant(MEDIUMBLOB(), "mysql", "mariadb")
_MYSQL: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
_KEYED: dict[str, Any] = {"sqlite_with_rowid": False, **_MYSQL}


def _column(name: str, kind: sa.types.TypeEngine[Any] = _BIG) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, autoincrement=False)


def upgrade() -> None:
    _messages()
    op.create_table(
        "im_session",
        _column("user_id"),
        _column("chat_id", sa.String(64)),
        _column("peer_id"),
        _column("last_msg_id"),
        _column("last_msg_time"),
        _column("unread_count", sa.Integer()),
        sa.PrimaryKeyConstraint("user_id", "chat_id"),
        **_KEYED,
    )
    op.create_table(
        "im_offline_message",
        _column("user_id"),
        _column("msg_id"),
        _column("create_time"),
        sa.PrimaryKeyConstraint("user_id", "msg_id"),
        **_KEYED,
    )
    _early()
    _notices()
    op.create_table(
        "im_event_parked",
        _column("topic", sa.String(127)),
        _column("queue", sa.Integer()),
        sa.Column("offset", _BIG, nullable=False, quote=True),
        _column("body", _BLOB),
        _column("reason", sa.String(255)),
        _column("first_seen"),
        sa.PrimaryKeyConstraint("topic", "queue", "offset"),
        **_KEYED,
    )


def _messages() -> None:
    op.create_table(
        "im_c2c_message",
        _column("msg_id"),
        sa.Column("client_msg_id", sa.String(36)),
        _column("from_id"),
        _column("to_id"),
        _column("chat_id", sa.String(64)),
        _column("content", _TEXT),
        _column("msg_format", sa.SmallInteger()),
        _column("msg_status", sa.SmallInteger()),
        _column("withdraw_flag", sa.SmallInteger()),
        _column("msg_create_time"),
        sa.PrimaryKeyConstraint("msg_id"),
        **_MYSQL,
    )
    op.create_index("uq_message_send", "im_c2c_message", ["from_id", "client_msg_id"], unique=True)
    op.create_index("ix_message_chat", "im_c2c_message", ["chat_id", "msg_id"])
    op.create_index("ix_message_created", "im_c2c_message", ["msg_create_time"])


def _early() -> None:
    op.create_table(
        "im_event_early",
        _column("msg_id"),
        _column("kind", sa.SmallInteger()),
        _column("actor"),
        _column("status", sa.SmallInteger()),
        _column("time"),
        _column("kept_time"),
        _column("by_business", sa.SmallInteger()),
        sa.PrimaryKeyConstraint("msg_id", "kind", "actor", "status"),
        **_KEYED,
    )
    op.create_index("ix_early_actor", "im_event_early", ["actor", "kept_time"])
    op.create_index("ix_early_kept", "im_event_early", ["kept_time"])


def _notices() -> None:
    op.create_table(
        "im_withdraw_notice",
        _column("user_id"),
        _column("msg_id"),
        _column("from_id"),
        _column("time"),
        sa.PrimaryKeyConstraint("user_id", "msg_id"),
        **_KEYED,
    )
    op.create_index("ix_notice_user", "im_withdraw_notice", ["user_id", "time"])
    op.create_index("ix_notice_time", "im_withdraw_notice", ["time"])
