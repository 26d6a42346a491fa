"""Frames: the bytes of both header codecs, and what is no frame."""

from __future__ import annotations

import json
import struct

from hypothesis import given
from hypothesis import strategies as st

from imconnect.rocketmq.errors import FrameError
from imconnect.rocketmq.frames import BINARY, JSON, REPLY, Frame, decode, encode
from tests.support import TestCase

_int32 = st.integers(-(1 << 31), (1 << 31) - 1)
_text = st.text(st.characters(codec="utf-8"), max_size=20)
_frames = st.builds(
    Frame,
    code=st.integers(-(1 << 15), (1 << 15) - 1),
    opaque=_int32,
    flag=st.integers(0, 3),
    fields=st.dictionaries(_text, _text, max_size=5),
    remark=st.one_of(st.none(), st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)),
    body=st.binary(max_size=50),
    codec=st.sampled_from([JSON, BINARY]),
)


def raw(header: object, body: bytes = b"") -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack(">I", len(data)) + data + body


class GoldenTests(TestCase):
    """Bytes written out by hand from the protocol's description."""

    def test_json_request(self) -> None:
        """A request as a Java server reads it."""
        header = (
            b'{"code":105,"language":"PYTHON","version":401,"opaque":7,"flag":0,"remark":null,'
            b'"extFields":{"topic":"T"},"serializeTypeCurrentRPC":"JSON"}'
        )
        self.assertEqual(
            encode(Frame(105, 7, fields={"topic": "T"}, body=b"x")), struct.pack(">I", len(header)) + header + b"x"
        )

    def test_java_reply(self) -> None:
        """A reply as a Java server writes it; fields that it leaves out have their defaults."""
        header = b'{"code":0,"extFields":{"offset":"12"},"flag":1,"language":"JAVA","opaque":7,"version":479}'
        frame = decode(raw(header, b"body"))
        self.assertEqual(frame, Frame(0, 7, REPLY, {"offset": "12"}, None, b"body"))
        self.assertTrue(frame.is_reply)
        self.assertFalse(frame.is_oneway)
        self.assertEqual(decode(raw({"code": 3})), Frame(3))
        self.assertEqual(decode(raw({"extFields": None, "remark": "why"})), Frame(0, remark="why"))

    def test_binary_reply(self) -> None:
        """The binary header: fixed part, remark, fields."""
        header = bytes.fromhex(
            "0000 00 01df 00000007 00000001 00000002 6f6b 0000000b 0001 6b 00000004 76616c75".replace(" ", "")
        )
        data = struct.pack(">I", BINARY << 24 | len(header)) + header + b"body"
        self.assertEqual(decode(data), Frame(0, 7, REPLY, {"k": "valu"}, "ok", b"body", BINARY))

    def test_text_stays_utf8(self) -> None:
        """No escapes: what is counted here is what travels."""
        self.assertIn("消息".encode(), encode(Frame(1, fields={"k": "消息"})))


class RefusalTests(TestCase):
    """Everything that is not a frame is a FrameError."""

    def test_nonsense(self) -> None:
        """Each kind of it."""
        short = encode(Frame(1, codec=BINARY))
        samples = {
            "empty": b"",
            "short": b"\0\0\0",
            "header longer than the frame": struct.pack(">I", 10) + b"{}",
            "not JSON": raw(b"hello"),
            "not UTF-8": raw(b'{"code":"\xff"}'),
            "not an object": raw([1]),
            "a code that is a string": raw({"code": "1"}),
            "a code that is true": raw({"code": True}),
            "an opaque beyond int32": raw({"opaque": 1 << 31}),
            "fields that are a list": raw({"extFields": []}),
            "deep": raw(b"[" * 100_000),
            "unknown codec": struct.pack(">I", 2 << 24),
            "binary, cut": struct.pack(">I", BINARY << 24 | 10) + short[4:14],
            "binary, fields beyond": short[:-4] + struct.pack(">i", 5),
            "binary, negative remark": short[:17] + struct.pack(">ii", -1, 0),
        }
        for name, data in samples.items():
            with self.subTest(name):
                self.assertRaises(FrameError, decode, data)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """A frame or a FrameError, nothing else, whatever comes."""
        for start in (b"", b"\0\0\0\x10", b"\x01\0\0\x15"):
            self.assertIn(outcome(start + data), (Frame, FrameError))

    @given(_frames, st.integers(0, 400), st.integers(0, 255))
    def test_a_flipped_byte(self, frame: Frame, at: int, value: int) -> None:
        """A frame with a wrong byte is another frame or a FrameError."""
        data = bytearray(encode(frame))
        data[at % len(data)] = value
        self.assertIn(outcome(bytes(data)), (Frame, FrameError))


def outcome(data: bytes) -> type:
    """What decoding ends in; any other exception leaves it."""
    try:
        return type(decode(data))
    except FrameError:
        return FrameError


class RoundTripTests(TestCase):
    """decode(encode(x)) == x."""

    @given(_frames)
    def test_round_trip(self, frame: Frame) -> None:
        """For both codecs."""
        self.assertEqual(decode(encode(frame)), frame)
