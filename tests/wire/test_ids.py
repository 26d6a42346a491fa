from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from imconnect.errors import Unavailable
from imconnect.wire.ids import SEED_EPOCH, XZLL_EPOCH, Snowflake, chat_id, time_of, uuid_bytes, uuid_text
from tests.support import TestCase

NOW = SEED_EPOCH + 1_000_000


class SnowflakeTests(TestCase):
    def setUp(self) -> None:
        self.now = NOW

    def ids(self, node: int = 1, floor_ms: int = 0, limit_ms: int = NOW + 10**9) -> Snowflake:
        ids = Snowflake(node, SEED_EPOCH, lambda: self.now, floor_ms)
        ids.limit_ms = limit_ms
        return ids

    def test_layout(self) -> None:
        """41 bits of time, 5 of datacenter, 5 of worker, 12 of sequence."""
        ids = self.ids(node=0b11010_00101)
        first, second = ids.next(), ids.next()
        self.assertEqual(first >> 22, 1_000_000)
        self.assertEqual(first >> 17 & 31, 0b11010)
        self.assertEqual(first >> 12 & 31, 0b00101)
        self.assertEqual((first & 4095, second & 4095), (0, 1))

    def test_golden(self) -> None:
        """1 000 000 ms after the epoch, node 1: 1000000 * 2**22 + 2**12."""
        self.assertEqual(self.ids().next(), 4194304004096)

    def test_time_of(self) -> None:
        """The time of an id is the clock's, whatever the epoch."""
        self.assertEqual(time_of(self.ids().next(), SEED_EPOCH), NOW)
        ids = Snowflake(3, XZLL_EPOCH, lambda: NOW, 0)
        ids.limit_ms = NOW
        self.assertEqual(time_of(ids.next(), XZLL_EPOCH), NOW)

    def test_clock_back(self) -> None:
        """A clock that steps back changes nothing: ids go on ascending in the same logical time."""
        ids = self.ids()
        first = ids.next()
        self.now -= 60_000
        second = ids.next()
        self.assertEqual(second, first + 1)
        self.assertEqual(ids.last_ms, NOW)

    def test_restart_with_a_floor(self) -> None:
        """After a restart with the clock behind, nothing of the reserved milliseconds is used again."""
        before = self.ids()
        old = before.batch(100)
        self.now -= 60_000
        after = self.ids(floor_ms=NOW + 500)
        new = after.next()
        self.assertEqual(time_of(new, SEED_EPOCH), NOW + 501)
        self.assertGreater(new, max(old))

    def test_overflow(self) -> None:
        """The 4097th id of a millisecond is of the next one, without waiting for it."""
        ids = self.ids()
        made = ids.batch(4097)
        self.assertEqual({time_of(msg_id, SEED_EPOCH) for msg_id in made[:4096]}, {NOW})
        self.assertEqual(time_of(made[4096], SEED_EPOCH), NOW + 1)
        self.assertEqual(made[4096] & 4095, 0)
        self.now += 1
        self.assertEqual(ids.next(), made[4096] + 1)

    def test_unique_and_ascending(self) -> None:
        """100 000 ids with a clock that jumps about: none twice, each larger than the last."""
        ids = self.ids()
        made = []
        for turn in range(100):
            self.now += (turn * 7919) % 41 - 20
            made += ids.batch(1000)
        self.assertEqual(len(set(made)), 100_000)
        self.assertEqual(made, sorted(made))

    def test_nodes_do_not_collide(self) -> None:
        """Two nodes at the same instant make different ids."""
        self.assertFalse(set(self.ids(node=1).batch(5000)) & set(self.ids(node=2).batch(5000)))

    def test_limit(self) -> None:
        """Beyond what is reserved nothing is given out; once more is, it goes on."""
        ids = self.ids(limit_ms=NOW)
        ids.batch(4096)
        self.assertRaises(Unavailable, ids.next)
        self.assertRaises(Unavailable, ids.next)
        ids.limit_ms = NOW + 1
        self.assertEqual(time_of(ids.next(), SEED_EPOCH), NOW + 1)

    def test_nothing_before_the_first_reservation(self) -> None:
        """A new generator gives out nothing until somebody has reserved."""
        ids = Snowflake(1, SEED_EPOCH, lambda: self.now, NOW + 5)
        self.assertRaises(Unavailable, ids.next)

    def test_clock_before_the_epoch(self) -> None:
        """A machine that wakes up in 1970 still makes positive ids."""
        self.now = 0
        self.assertGreater(self.ids().next(), 0)

    def test_end_of_the_bits(self) -> None:
        """After 41 bits of milliseconds it refuses instead of wrapping round."""
        self.now = SEED_EPOCH + 2**41
        self.assertRaises(Unavailable, self.ids(limit_ms=self.now).next)
        self.now -= 1
        self.assertLess(self.ids(limit_ms=self.now).next(), 2**63)

    def test_node_out_of_range(self) -> None:
        """A node has ten bits."""
        for node in (-1, 1024):
            self.assertRaises(ValueError, self.ids, node)


class TextTests(TestCase):
    def test_chat_id_is_numeric(self) -> None:
        """9 comes before 10, and both sides name the same chat."""
        self.assertEqual(chat_id(10, 9), "100-1-9-10")
        self.assertEqual(chat_id(9, 10), "100-1-9-10")
        self.assertEqual(chat_id(7, 7), "100-1-7-7")

    def test_uuid(self) -> None:
        """Big-endian, lower case, and nothing of nothing."""
        raw = bytes.fromhex("00112233445566778899aabbccddeeff")
        self.assertEqual(uuid_text(raw), "00112233-4455-6677-8899-aabbccddeeff")
        self.assertEqual(uuid_bytes("00112233-4455-6677-8899-AABBCCDDEEFF"), raw)
        self.assertEqual(uuid_text(b""), "")
        self.assertEqual(uuid_bytes(""), b"")

    def test_not_a_uuid(self) -> None:
        """Other lengths and other spellings are refused."""
        for raw in (b"x", bytes(15), bytes(17)):
            self.assertRaises(ValueError, uuid_text, raw)
        good = "00112233-4455-6677-8899-aabbccddeeff"
        for text in (
            " ",
            "1-2-3-4-5",
            good[:-1],
            good + "0",
            good.replace("-", ""),
            "{" + good + "}",
            good + " ",
            "é" * 36,
        ):
            self.assertRaises(ValueError, uuid_bytes, text)

    @settings(max_examples=100)
    @given(st.binary(min_size=16, max_size=16))
    def test_uuid_round_trip(self, raw: bytes) -> None:
        """Text and bytes are two spellings of one thing."""
        self.assertEqual(uuid_bytes(uuid_text(raw)), raw)
