"""Messages: properties, batches, and what lies in the store."""

from __future__ import annotations

import struct
import zlib

from hypothesis import given
from hypothesis import strategies as st

from imconnect.rocketmq.errors import FrameError, Illegal
from imconnect.rocketmq.messages import (
    MAX_INFLATED,
    Message,
    StoredMessage,
    decode_properties,
    decode_stored,
    encode_batch,
    encode_properties,
    properties_of,
)
from tests.rocketmq.fake_broker import Kept, stored_bytes
from tests.support import TestCase


class PropertyTests(TestCase):
    """`key \\x01 value \\x02 ...`."""

    def test_what_travels(self) -> None:
        """UNIQ_KEY, WAIT, KEYS, TAGS and one's own; empty ones are left out."""
        text = properties_of(Message(body=b"x", keys="k", tags="t", unique_id="u", properties={"RECEIPT": "business"}))
        self.assertEqual(text, "UNIQ_KEY\x01u\x02WAIT\x01true\x02KEYS\x01k\x02TAGS\x01t\x02RECEIPT\x01business\x02")
        self.assertEqual(properties_of(Message(body=b"x")), "WAIT\x01true\x02")

    def test_control_characters_are_refused(self) -> None:
        """They would be read back as something else."""
        for key, value in (("K", "a\x01b"), ("K", "a\x02"), ("K", "\x00"), ("K\x01", "v"), ("", "v"), ("K", "\ud800")):
            self.assertRaises(Illegal, encode_properties, {key: value})

    def test_too_long(self) -> None:
        """32767 bytes fit, counted in UTF-8."""
        fits = "x" * (32767 - 3)
        self.assertEqual(decode_properties(encode_properties({"K": fits})), {"K": fits})
        self.assertRaises(Illegal, encode_properties, {"K": fits + "x"})
        self.assertRaises(Illegal, encode_properties, {"K": "消" * 11000})

    def test_others_may_write_anything(self) -> None:
        """What is not a pair is left out; a value may contain what separates pairs from their value."""
        self.assertEqual(decode_properties("a\x01b\x02nonsense\x02c\x01d\x01e"), {"a": "b", "c": "d\x01e"})


class BatchTests(TestCase):
    """The body of request 320."""

    def test_golden(self) -> None:
        """Total, three words, body, properties."""
        data = encode_batch([(Message(body=b"ab", flag=9), "K\x01v\x02"), (Message(body=b"c"), "")])
        first = struct.pack(">iiiii", 28, 0, 0, 9, 2) + b"ab" + b"\x00\x04K\x01v\x02"
        self.assertEqual(data, first + struct.pack(">iiiii", 23, 0, 0, 0, 1) + b"c" + b"\x00\x00")


class StoredTests(TestCase):
    """What a pull brings."""

    def test_golden(self) -> None:
        """A message written out by hand, field by field."""
        data = bytes.fromhex(
            "00000062 daa320a7 0000002a 00000003 00000007"  # size, magic, crc, queue, flag
            "0000000000000005 0000000000001000 00000000"  # offset, position, system flag
            "0000018bcfe56800 7f000001 00002a9f"  # born, host
            "0000018bcfe56801 7f000001 00002a9f"  # stored, host
            "00000002 0000000000000000"  # attempts, prepared
            "00000002 6869 01 54 0006 4b455901 7602"  # body, topic, properties
        )
        (message,) = decode_stored(struct.pack(">i", len(data)) + data[4:])
        self.assertEqual((message.topic, message.queue, message.offset, message.body), ("T", 3, 5, b"hi"))
        self.assertEqual((message.flag, message.attempts, message.properties), (7, 2, {"KEY": "v"}))
        self.assertEqual((message.born, message.stored), (1_700_000_000_000, 1_700_000_000_001))

    def test_variants(self) -> None:
        """IPv6 hosts on either side, a wide topic, several in a row."""
        kinds = [Kept(b"%d" % flag, "K\x01v\x02", system=flag) for flag in (0, 0x10, 0x20, 0x30)]
        data = b"".join(
            stored_bytes("T" * 100, 1, at, kept, wide=wide) for at, kept in enumerate(kinds) for wide in (False, True)
        )
        found = list(decode_stored(data))
        self.assertEqual([m.body for m in found], [b"0", b"0", b"16", b"16", b"32", b"32", b"48", b"48"])
        self.assertEqual({(m.topic, m.properties["K"]) for m in found}, {("T" * 100, "v")})

    def test_compressed(self) -> None:
        """zlib is inflated, also under its other number; what cannot be is handed over as it is and says so."""
        body = b"hello " * 1000
        plain = {0x1: zlib.compress(body), 0x301: zlib.compress(body)}
        for system, squeezed in plain.items():
            (message,) = decode_stored(stored_bytes("T", 0, 0, Kept(squeezed, "", system=system)))
            self.assertEqual((message.body, message.undecoded), (body, ""))
        bomb = zlib.compress(bytes(MAX_INFLATED + 1))
        odd = {0x101: (b"lz", "lz4"), 0x201: (b"zs", "zstd"), 0x1: (b"not", "zlib"), 0x301: (bomb, "larger")}
        for system, (kept, why) in odd.items():
            (message,) = decode_stored(stored_bytes("T", 0, 0, Kept(kept, "", system=system)))
            self.assertEqual(message.body, kept)
            self.assertIn(why, message.undecoded)

    def test_properties_that_are_not_utf8(self) -> None:
        """Another producer's fault must not stop the queue."""
        data = stored_bytes("T", 0, 0, Kept(b"x", "K\x01??\x02")).replace(b"??", b"\xff\xfe")
        (message,) = decode_stored(data)
        self.assertEqual(message.properties["K"], "\ufffd\ufffd")

    def test_cut_anywhere(self) -> None:
        """Every prefix is a FrameError, and so is an unknown magic."""
        data = stored_bytes("T", 0, 0, Kept(b"body", "K\x01v\x02"))
        for end in range(1, len(data)):
            self.assertRaises(FrameError, list, decode_stored(data[:end]))
        self.assertRaises(FrameError, list, decode_stored(data[:4] + b"\0\0\0\0" + data[8:]))

    @given(st.binary(max_size=150), st.integers(0, 120), st.integers(0, 255))
    def test_any_bytes(self, data: bytes, at: int, value: int) -> None:
        """Messages or a FrameError, whatever comes."""
        damaged = bytearray(stored_bytes("T", 0, 0, Kept(b"body", "K\x01v\x02")))
        damaged[at % len(damaged)] = value
        for sample in (data, bytes(damaged), bytes(damaged) + data):
            try:
                found = [type(message) for message in decode_stored(sample)]
            except FrameError:
                continue
            self.assertEqual(set(found) - {StoredMessage}, set())
