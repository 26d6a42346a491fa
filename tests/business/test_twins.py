"""The store in memory does what SQLite does, whatever comes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from imconnect.backends.sql.engine import make_engine
from imconnect.backends.sql.migrate import ensure_schema
from imconnect.backends.sql.schema import metadata
from imconnect.backends.store_memory import MemoryStore
from imconnect.backends.store_sql import SqlStore
from imconnect.business.service import DAY_MS, BusinessRules
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.model import Message
from tests.business.made import ANN, BEN, CAT, NOW, T0, client_id, in_database, in_memory
from tests.support import TestCase

_USERS = st.sampled_from((ANN, BEN, CAT))
_IDS = st.integers(0, 6)
_TIMES = st.sampled_from((T0, T0 + 50, T0 + 200_000))

_MESSAGES = st.builds(
    Message,
    msg_id=_IDS,
    client_msg_id=st.integers(0, 4).map(lambda n: client_id(n) if n else b""),
    sender=_USERS,
    receiver=_USERS,
    format=st.sampled_from((1, 1, 1, 300)),
    content=st.sampled_from(("a", "a", "ä😀", "\ud800")),
    time=_TIMES,
    created=_TIMES,
)
_EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Sent, _MESSAGES),
    st.builds(Offlined, _MESSAGES),
    st.builds(
        Acknowledged,
        msg_id=_IDS,
        client_msg_id=st.just(b""),
        sender=_USERS,
        receiver=_USERS,
        status=st.sampled_from((3, 4, 3, 4, 2)),
        time=_TIMES,
        by_business=st.booleans(),
    ),
    st.builds(
        Withdrawn,
        msg_id=_IDS,
        client_msg_id=st.just(b""),
        sender=_USERS,
        receiver=_USERS,
        time=_TIMES,
        by_business=st.booleans(),
    ),
)


#: Batches of any events at all, contradictions and nonsense included.
BATCHES = st.lists(st.lists(_EVENTS, max_size=8), max_size=6)


class TwinCase(TestCase):
    """Same events, same rows, same things to tell; for a store on a database."""

    engine: Engine

    def check_same_rows(self, batches: list[list[Event]]) -> None:
        """These batches, then the jobs."""
        with self.engine.begin() as connection:
            for table in metadata.sorted_tables:
                connection.execute(table.delete())
        memory = MemoryStore()
        clock = [NOW]
        one = BusinessRules(memory, lambda: clock[0])
        two = BusinessRules(SqlStore(self.engine), lambda: clock[0])
        for batch in batches:
            clock[0] += 1
            self.assertEqual(one.apply(batch), two.apply(batch))
            self.assertEqual(in_memory(memory.tables), in_database(self.engine))
        self.assertEqual(one.stock(), two.stock())
        late = T0 + 8 * DAY_MS
        self.assertEqual(one.settle_early(late), two.settle_early(late))
        self.assertEqual(one.purge(late, 7), two.purge(late, 7))
        self.assertEqual(in_memory(memory.tables), in_database(self.engine))
        self.assertEqual(one.counts, two.counts)


class TwinTests(TwinCase):
    def setUp(self) -> None:
        self.engine = make_engine(self.mktemp(), sync="normal")
        self.addCleanup(self.engine.dispose)
        ensure_schema(self.engine)

    @settings(max_examples=60, deadline=None)
    @given(BATCHES)
    def test_same_rows(self, batches: list[list[Event]]) -> None:
        """SQLite does what memory does."""
        self.check_same_rows(batches)
