from __future__ import annotations

from zlib import crc32

from hypothesis import given, settings
from hypothesis import strategies as st

from imconnect.events.records import NewerRecord, RecordError, pack, unpack
from imconnect.events.values import Acknowledged, Event, Sent, Withdrawn
from imconnect.model import Message
from tests.events.strategies import EXAMPLES, events
from tests.support import TestCase

MESSAGE = Message(5, bytes(range(16)), 1001, 1002, 1, "héllo", 7, 8)
BLOB = pack([Sent(MESSAGE), Acknowledged(5, b"", 1001, 1002, 3, 9), Withdrawn(5, b"", 1001, 0, 9, True)])


class RecordTests(TestCase):
    def test_golden(self) -> None:
        """The layout of version 1, byte by byte: what is on people's disks."""
        blob = pack([Withdrawn(5, bytes(range(16)), 1001, 1002, 9, True)])
        self.assertEqual(blob[0], 1)
        body = (
            "04" "10" "000102030405060708090a0b0c0d0e0f"
            "0500000000000000" "e903000000000000" "ea03000000000000" "0900000000000000" "01"
        )  # fmt: skip
        self.assertEqual(blob[5:].hex(), body)
        blob = pack([Sent(MESSAGE._replace(client_msg_id=b"\x07", format=-1))])
        body = (
            "01" "01" "07000000000000000000000000000000"
            "0500000000000000" "e903000000000000" "ea03000000000000" "ffffffff"
            "0700000000000000" "0800000000000000" "06000000" "68c3a96c6c6f"
        )  # fmt: skip
        self.assertEqual(blob[5:].hex(), body)
        blob = pack([Acknowledged(5, b"", 1001, 1002, 4, 9)])
        body = (
            "0300" + "00" * 16 + "0500000000000000e903000000000000ea0300000000000004000000" + "0900000000000000" + "00"
        )
        self.assertEqual(blob[5:].hex(), body)

    def test_golden_checksum(self) -> None:
        """The checksum is the CRC-32 of zlib, little-endian: 0 for nothing."""
        self.assertEqual(pack([]).hex(), "0100000000")
        self.assertEqual(unpack(bytes.fromhex("0100000000")), [])

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.lists(events, max_size=8))
    def test_round_trip(self, batch: list[Event]) -> None:
        """What is packed comes back, in order, with its types."""
        unpacked = unpack(pack(batch))
        self.assertEqual(unpacked, batch)
        self.assertEqual([type(event) for event in unpacked], [type(event) for event in batch])

    def test_every_flipped_byte(self) -> None:
        """A changed byte anywhere is found, whatever it is changed to."""
        for at in range(len(BLOB)):
            for flip in (1, 2, 0x80, 0xFF):
                damaged = bytearray(BLOB)
                damaged[at] ^= flip
                self.assertRaises(RecordError if at else NewerRecord, unpack, bytes(damaged))

    def test_every_truncation(self) -> None:
        """A blob that ends too early is found, also between two records, and so is one with something behind it."""
        for end in range(len(BLOB)):
            self.assertRaises(RecordError, unpack, BLOB[:end])
        self.assertRaises(RecordError, unpack, BLOB + b"\x00")

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.lists(events, min_size=1, max_size=4), st.data())
    def test_damage(self, batch: list[Event], data: st.DataObject) -> None:
        """The same for any batch."""
        blob = pack(batch)
        at = data.draw(st.integers(0, len(blob) - 1))
        other = data.draw(st.integers(0, 255).filter(lambda byte: byte != blob[at]))
        self.assertRaises((RecordError, NewerRecord), unpack, blob[:at] + bytes([other]) + blob[at + 1 :])
        self.assertRaises(RecordError, unpack, blob[:at])

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.binary(max_size=200))
    def test_arbitrary_bytes(self, blob: bytes) -> None:
        """Whatever lies on the disk, only the two declared errors come; with a right checksum too."""
        for candidate in (blob, b"\x01" + crc32(blob).to_bytes(4, "little") + blob):
            try:
                unpack(candidate)
            except (RecordError, NewerRecord) as error:
                self.assertIsInstance(error, ValueError)

    def test_a_writer_that_was_wrong(self) -> None:
        """A right checksum over records that are none: cut content, an unknown kind, no UTF-8."""
        body = pack([Sent(MESSAGE)])[5:]
        for wrong in (body[:-1], b"\x09" + body[1:], body[:-1] + b"\xff", body + b"\x03"):
            self.assertRaises(RecordError, unpack, b"\x01" + crc32(wrong).to_bytes(4, "little") + wrong)

    def test_newer_version(self) -> None:
        """A blob of a later version is told apart from a damaged one."""
        self.assertRaises(NewerRecord, unpack, b"\x02" + BLOB[1:])

    def test_what_does_not_fit(self) -> None:
        """Nothing is cut silently."""
        self.assertRaises(ValueError, pack, [Withdrawn(5, bytes(17), 1, 2, 3)])
