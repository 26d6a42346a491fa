"""Every statement on a real MariaDB searches an index, with so many rows that it would not do so by chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, Select, select, text

from imconnect.backends.sql import queries, schema
from imconnect.backends.sql.keys import delete_text, select_text
from tests.business.made import T0
from tests.live.mariadb import engine_for
from tests.support import TestCase

ROWS, SENDERS, RECEIVERS = 30_000, 100, 300
#: One message per number: everybody of the senders writes to many, a third is still owed.
_FILL = (
    (
        "INSERT INTO im_c2c_message SELECT seq, CONCAT('00000000-0000-0000-0000-', LPAD(seq, 12, '0')), "
        f"1 + seq % {SENDERS}, 101 + seq % {RECEIVERS}, CONCAT('100-1-', 1 + seq % {SENDERS}, '-', 101 + seq % {RECEIVERS}), "
        f"'text', 1, 1, 0, {T0} + seq FROM seq_1_to_{ROWS}"
    ),
    "INSERT INTO im_offline_message SELECT to_id, msg_id, msg_create_time FROM im_c2c_message WHERE msg_id % 3 = 0",
    (
        "INSERT INTO im_withdraw_notice SELECT to_id, msg_id, from_id, msg_create_time FROM im_c2c_message "
        "WHERE msg_id % 7 = 0"
    ),
    (
        "INSERT INTO im_event_early SELECT 1000000 + msg_id, 3, to_id, 3, msg_create_time, msg_create_time, 0 "
        "FROM im_c2c_message WHERE msg_id % 5 = 0"
    ),
    (
        "INSERT INTO im_session SELECT from_id, chat_id, to_id, max(msg_id), max(msg_create_time), 0 FROM im_c2c_message "
        "GROUP BY from_id, chat_id, to_id"
    ),
)
IDS = range(1000, 1256)
USER = 150
SOME = range(101, 121)
UUIDS = [f"00000000-0000-0000-0000-{number:012d}" for number in IDS]

#: Statements whose order an index promises: nothing is sorted, so that a page costs what is in it.
ORDERED = {
    "owed": queries.owed(USER, 1000, 100),
    "notices": queries.notices(USER, T0, 200),
    "messages": queries.messages(IDS),
    "early_of": queries.early_of([1_000_000 + number for number in IDS]),
    "oldest_early": queries.oldest_early(USER, 100),
    "purgeable": queries.purgeable(T0 + 1000, 500),
    "purgeable, nearly all": queries.purgeable(T0 + 2 * ROWS, 500),
    # Pages of history go backwards.
    "history of a chat": select(*schema.message.c)
    .where(schema.message.c.chat_id == "100-1-1-101", schema.message.c.msg_id < 20_000)
    .order_by(schema.message.c.msg_id.desc())
    .limit(50),
}
OTHERS = {
    "known": queries.known(IDS),
    "overdue": queries.overdue(SOME, T0 + ROWS, 10),
    "find": queries.find(77),
    "early_counts": queries.early_counts(SOME),
    "states": queries.states(51, UUIDS[:100]),
    "chats of a user": select(*schema.session.c).where(schema.session.c.user_id == 51),
}


class PlanTests(TestCase):
    """EXPLAIN."""

    _filled: Engine | None = None

    def setUp(self) -> None:
        cls = type(self)
        if cls._filled is None:
            engine = engine_for(self, "plans")
            with engine.begin() as connection:
                for statement in _FILL:
                    connection.execute(text(statement))
                for table in schema.metadata.sorted_tables:
                    connection.execute(text(f"ANALYZE TABLE {table.name}")).all()
            cls._filled = engine
        self.engine = cls._filled

    def plan(self, statement: Select[Any] | str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        sql = statement
        if not isinstance(sql, str):
            sql = str(sql.compile(self.engine, compile_kwargs={"literal_binds": True}))
        with self.engine.connect() as connection:
            rows = connection.exec_driver_sql(f"EXPLAIN {sql}", tuple(values)).mappings()
            return [dict(row) for row in rows]

    def check(self, name: str, plan: list[dict[str, Any]], sorted_by_index: bool) -> None:
        tables = [row for row in plan if row["table"].startswith("im_")]
        self.assertTrue(tables, name)
        for row in tables:
            self.assertNotIn(row["type"], ("ALL", "index"), f"{name}: {row}")
            self.assertTrue(row["key"], f"{name}: {row}")
        if sorted_by_index:
            for row in plan:
                self.assertNotIn("filesort", row["Extra"] or "", f"{name}: {row}")
                self.assertNotIn("temporary", row["Extra"] or "", f"{name}: {row}")

    def test_reads(self) -> None:
        """No statement reads a whole table or a whole index, and none sorts what an index has in order."""
        for name, statement in ORDERED.items():
            self.check(name, self.plan(statement), True)
        for name, statement in OTHERS.items():
            self.check(name, self.plan(statement), False)

    def test_the_key_of_a_send(self) -> None:
        """Repeats are found by (sender, clientMsgId), a whole batch in one search."""
        keys = [value for number in IDS for value in (1 + number % SENDERS, f"00000000-0000-0000-0000-{number:012d}")]
        plan = self.plan(select_text("mysql", schema.message, ("from_id", "client_msg_id"), len(IDS)), keys)
        self.check("send key", plan, True)
        self.assertEqual([row["key"] for row in plan], ["uq_message_send"])

    def test_sessions(self) -> None:
        """The sessions of a batch, likewise."""
        keys = [value for number in IDS for value in (1 + number % SENDERS, f"100-1-{1 + number % SENDERS}-{number}")]
        plan = self.plan(select_text("mysql", schema.session, ("user_id", "chat_id"), len(IDS)), keys)
        self.check("sessions", plan, True)

    def test_deletes(self) -> None:
        """What a batch ends is found by its keys."""
        for table, key in (
            (schema.message, lambda number: (number,)),
            (schema.offline, lambda number: (USER, number)),
            (schema.notice, lambda number: (USER, number)),
            (schema.early, lambda number: (1_000_000 + number, 3, 101 + number % RECEIVERS, 3)),
        ):
            values = [value for number in IDS for value in key(number)]
            self.check(table.name, self.plan(delete_text("mysql", table, len(IDS)), values), False)

    def test_it_would_be_seen(self) -> None:
        """A statement without an index is one that this suite refuses."""
        scan = select(schema.message.c.msg_id).where(schema.message.c.content == "x").order_by(schema.message.c.to_id)
        for ordered in (False, True):
            self.assertRaises(self.failureException, self.check, "scan", self.plan(scan), ordered)
