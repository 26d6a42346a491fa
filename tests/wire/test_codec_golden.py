"""Frames as hex, put together by hand from the field tables of the contract (never by running an encoder)."""

from __future__ import annotations

from imconnect.model import Message, MessageState, Receipt, Withdrawal
from imconnect.wire import client_codec, codec
from imconnect.wire.requests import Ack, KeepAlive, MsgIds, Send, StateQuery, Unknown, Withdraw
from tests.support import TestCase

UUID = "00112233445566778899aabbccddeeff"
CLIENT_MSG_ID = bytes.fromhex(UUID)
SENDER, SENDER_HEX = 1001, "e903000000000000"
RECEIVER, RECEIVER_HEX = 1002, "ea03000000000000"
MSG_ID, MSG_ID_HEX = 0x3D090001000, "00100090d0030000"
TIME, TIME_HEX = 0x19300000000, "0000000093010000"
HELLO = "3205" + "68656c6c6f"
MINUS_ONE = "ffffffffffffffffff01"

MESSAGE = Message(MSG_ID, CLIENT_MSG_ID, SENDER, RECEIVER, 1, "hello", TIME, TIME + 7)


class ServerFrameTests(TestCase):
    def same(self, frame: bytes, *parts: str) -> None:
        self.assertEqual(frame.hex(), "".join(parts))

    def test_send_ack(self) -> None:
        """Type 2, from = receiver, to = sender, status 1; code 0 is not on the wire, code 1 is."""
        payload = ("0a10", UUID, "11", MSG_ID_HEX, "19", RECEIVER_HEX, "21", SENDER_HEX, "2801")
        frame = codec.encode_send_ack(CLIENT_MSG_ID, MSG_ID, RECEIVER, SENDER, 0)
        self.same(frame, "0802", "122f", *payload)
        frame = codec.encode_send_ack(CLIENT_MSG_ID, MSG_ID, RECEIVER, SENDER, 1)
        self.same(frame, "0802", "122f", *payload, "1801")

    def test_send_refusal(self) -> None:
        """Type 2, no msgId, status -1, the code and the words."""
        frame = codec.encode_send_refusal(CLIENT_MSG_ID, SENDER, RECEIVER, 400, "bad to")
        payload = ("0a10", UUID, "19", RECEIVER_HEX, "21", SENDER_HEX, "28", MINUS_ONE)
        self.same(frame, "0802", "122f", *payload, "189003", "2206", "62616420746f")

    def test_send_refusal_with_a_short_client_msg_id(self) -> None:
        """The clientMsgId goes back as it came, whatever its length; code -1 is the bad parameter of xzll."""
        frame = codec.encode_send_refusal(b"\x07", SENDER, 0, -1, "no")
        self.same(frame, "0802", "1217", "0a0107", "21", SENDER_HEX, "28", MINUS_ONE, "18", MINUS_ONE, "2202", "6e6f")

    def test_push(self) -> None:
        """Type 5, the server's ids, the client's time."""
        payload = ("0a10", UUID, "11", MSG_ID_HEX, "19", SENDER_HEX, "21", RECEIVER_HEX, "2801", HELLO, "39", TIME_HEX)
        self.same(codec.encode_push(MESSAGE, 0), "0805", "123f", *payload)
        self.same(codec.encode_push(MESSAGE, 1), "0805", "123f", *payload, "1801")

    def test_push_of_a_longer_text(self) -> None:
        """200 bytes of content: both lengths take two bytes."""
        frame = codec.encode_push(MESSAGE._replace(content="x" * 200), 0)
        head = ("0a10", UUID, "11", MSG_ID_HEX, "19", SENDER_HEX, "21", RECEIVER_HEX, "2801")
        self.same(frame, "0805", "128302", *head, "32c801", "78" * 200, "39", TIME_HEX)

    def test_push_leaves_defaults_out(self) -> None:
        """Format 0, time 0 and no clientMsgId are not on the wire."""
        frame = codec.encode_push(Message(MSG_ID, b"", SENDER, RECEIVER, 0, "hello", 0, 0), 0)
        self.same(frame, "0805", "1222", "11", MSG_ID_HEX, "19", SENDER_HEX, "21", RECEIVER_HEX, HELLO)

    def test_receipt(self) -> None:
        """Type 2, from = who acknowledged, to = the original sender."""
        frame = codec.encode_receipt(Receipt(MSG_ID, CLIENT_MSG_ID, SENDER, RECEIVER, 4), 0)
        payload = ("0a10", UUID, "11", MSG_ID_HEX, "19", RECEIVER_HEX, "21", SENDER_HEX, "2804")
        self.same(frame, "0802", "122f", *payload)

    def test_withdrawal(self) -> None:
        """Type 3: msgId, from, to."""
        frame = codec.encode_withdrawal(Withdrawal(MSG_ID, SENDER, RECEIVER), 1)
        self.same(frame, "0803", "121b", "09", MSG_ID_HEX, "11", SENDER_HEX, "19", RECEIVER_HEX, "1801")

    def test_withdraw_reply(self) -> None:
        """Type 15, success and refusal."""
        frame = codec.encode_withdraw_reply(MSG_ID, CLIENT_MSG_ID, True, 0, "", TIME)
        self.same(frame, "080f", "1226", "09", MSG_ID_HEX, "1210", UUID, "1801", "29", TIME_HEX)
        frame = codec.encode_withdraw_reply(MSG_ID, b"", False, 403, "too late", TIME)
        words = "2208" + "746f6f206c617465"
        self.same(frame, "080f", "121c", "09", MSG_ID_HEX, words, "29", TIME_HEX, "189303", words)

    def test_msg_ids(self) -> None:
        """Type 6, packed."""
        frame = codec.encode_msg_ids([1, MSG_ID], 0)
        self.same(frame, "0806", "1212", "0a10", "0100000000000000", MSG_ID_HEX)

    def test_states(self) -> None:
        """Type 21, a row per clientMsgId; what nobody knows has neither msgId nor state."""
        states = [MessageState(CLIENT_MSG_ID, MSG_ID, 3), MessageState(b"\x07", 0, 0)]
        row = "0a1d" + "0a10" + UUID + "11" + MSG_ID_HEX + "1803"
        self.same(codec.encode_states(states, 0), "0815", "1224", row, "0a03" + "0a0107")

    def test_reply(self) -> None:
        """Only a type and a code, perhaps words; a type below 0 takes ten bytes."""
        self.same(codec.encode_reply(9, 404), "0809", "189403")
        self.same(codec.encode_reply(1, 429, "slow"), "0801", "18ad03", "2204", "736c6f77")
        self.same(codec.encode_reply(-1, 404), "08", MINUS_ONE, "189403")


class ClientFrameTests(TestCase):
    def test_send(self) -> None:
        """C2C_SEND as our client writes it, and with `from` and `msgId` as the others do."""
        ours = "08011" + "22d" + "0a10" + UUID + "21" + RECEIVER_HEX + "2801" + HELLO + "39" + TIME_HEX
        self.assertEqual(client_codec.encode_send(CLIENT_MSG_ID, RECEIVER, "hello", time=TIME).hex(), ours)
        send = Send(CLIENT_MSG_ID, RECEIVER, 1, "hello", TIME)
        self.assertEqual(codec.decode(bytes.fromhex(ours)), send)
        body = "21" + RECEIVER_HEX + "2801" + HELLO + "39" + TIME_HEX
        from_ = "08011236" + "0a10" + UUID + "19" + SENDER_HEX + body
        self.assertEqual(codec.decode(bytes.fromhex(from_)), send)
        both = "0801123f" + "0a10" + UUID + "11" + MSG_ID_HEX + "19" + SENDER_HEX + body
        self.assertEqual(codec.decode(bytes.fromhex(both)), send)

    def test_ack(self) -> None:
        """C2C_ACK: from = oneself (may be left out), to = the original sender."""
        ours = "08021226" + "0a10" + UUID + "11" + MSG_ID_HEX + "21" + SENDER_HEX + "2803"
        self.assertEqual(client_codec.encode_ack(CLIENT_MSG_ID, MSG_ID, SENDER, 3).hex(), ours)
        theirs = "0802122f" + "0a10" + UUID + "11" + MSG_ID_HEX + "19" + RECEIVER_HEX + "21" + SENDER_HEX + "2803"
        self.assertEqual(client_codec.encode_ack(CLIENT_MSG_ID, MSG_ID, SENDER, 3, RECEIVER).hex(), theirs)
        for frame in (ours, theirs):
            self.assertEqual(codec.decode(bytes.fromhex(frame)), Ack(CLIENT_MSG_ID, MSG_ID, SENDER, 3))

    def test_withdraw(self) -> None:
        """C2C_WITHDRAW names the receiver, WITHDRAW_MSG_SEND the clientMsgId."""
        frame = "08031212" + "09" + MSG_ID_HEX + "19" + RECEIVER_HEX
        self.assertEqual(client_codec.encode_withdraw(MSG_ID, RECEIVER).hex(), frame)
        self.assertEqual(codec.decode(bytes.fromhex(frame)), Withdraw(3, MSG_ID, b"", RECEIVER))
        frame = "080e1224" + "09" + MSG_ID_HEX + "1210" + UUID + "19" + TIME_HEX
        self.assertEqual(client_codec.encode_withdraw_send(MSG_ID, CLIENT_MSG_ID, TIME).hex(), frame)
        self.assertEqual(codec.decode(bytes.fromhex(frame)), Withdraw(14, MSG_ID, CLIENT_MSG_ID, 0))

    def test_msg_ids(self) -> None:
        """GET_BATCH_MSG_IDS with and without a user."""
        self.assertEqual(client_codec.encode_get_msg_ids().hex(), "0804")
        frame = "08041209" + "09" + SENDER_HEX
        self.assertEqual(client_codec.encode_get_msg_ids(SENDER).hex(), frame)
        for data in ("0804", frame):
            self.assertEqual(codec.decode(bytes.fromhex(data)), MsgIds())

    def test_state_query(self) -> None:
        """MSG_STATE_QUERY: clientMsgIds, as many as there are."""
        frame = "08141215" + "0a10" + UUID + "0a0107"
        self.assertEqual(client_codec.encode_state_query([CLIENT_MSG_ID, b"\x07"]).hex(), frame)
        self.assertEqual(codec.decode(bytes.fromhex(frame)), StateQuery((CLIENT_MSG_ID, b"\x07")))

    def test_keep_alive_and_unknown(self) -> None:
        """Nothing at all is a keep-alive; types that only a server sends are unknown like those of nobody."""
        self.assertEqual(codec.decode(b""), KeepAlive())
        self.assertEqual(codec.decode(bytes.fromhex("0813")), Unknown(19))
        self.assertEqual(codec.decode(bytes.fromhex("0805")), Unknown(5))
        self.assertEqual(codec.decode(bytes.fromhex("1200")), Unknown(0))
        self.assertEqual(codec.decode(bytes.fromhex("08" + MINUS_ONE)), Unknown(-1))
