from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from imconnect.errors import DecodeError
from imconnect.model import Message, MessageState, Receipt, Withdrawal
from imconnect.wire import client_codec, codec
from imconnect.wire.client_codec import (
    IdsReply,
    Other,
    Pushed,
    ReceiptReply,
    SendReply,
    StatesReply,
    WithdrawNotice,
    WithdrawReply,
    decode_response,
)
from imconnect.wire.requests import Ack, MsgIds, Send, StateQuery, Withdraw
from tests.support import TestCase
from tests.wire.strategies import EXAMPLES, client_msg_id, content, damaged, int32, msg, u64

CID = bytes(range(16))
id_ = st.integers(1, 2**63 - 1)


class RequestTests(TestCase):
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(client_msg_id, u64, content, int32, u64)
    def test_round_trip(self, cid: bytes, to: int, text: str, number: int, time: int) -> None:
        """What the client library writes, the gateway reads."""
        self.assertEqual(
            codec.decode(client_codec.encode_send(cid, to, text, number, time)), Send(cid, to, number, text, time)
        )
        self.assertEqual(codec.decode(client_codec.encode_ack(cid, to, time, number)), Ack(cid, to, time, number))
        self.assertEqual(codec.decode(client_codec.encode_withdraw(to, time)), Withdraw(3, to, b"", time))
        self.assertEqual(codec.decode(client_codec.encode_withdraw_send(to, cid, time)), Withdraw(14, to, cid, 0))
        self.assertEqual(codec.decode(client_codec.encode_get_msg_ids(to)), MsgIds())
        self.assertEqual(codec.decode(client_codec.encode_state_query([cid, CID])), StateQuery((cid, CID)))


class ResponseTests(TestCase):
    def test_send_replies(self) -> None:
        """Stored with its msgId, or refused with a code and words; who is who is not swapped."""
        self.assertEqual(
            decode_response(codec.encode_send_ack(CID, 77, 1002, 1001, 0)), SendReply(CID, 77, 1001, 1002, 1, 0, "")
        )
        self.assertEqual(
            decode_response(codec.encode_send_refusal(CID, 1001, 1002, 413, "too long")),
            SendReply(CID, 0, 1001, 1002, -1, 413, "too long"),
        )

    def test_receipts(self) -> None:
        """Delivered, read, and statuses of other gateways."""
        for status in (2, 3, 4):
            self.assertEqual(
                decode_response(codec.encode_receipt(Receipt(77, CID, 1001, 1002, status), 1)),
                ReceiptReply(CID, 77, 1001, 1002, status, 1),
            )

    def test_withdrawals(self) -> None:
        """Notices and answers."""
        self.assertEqual(
            decode_response(codec.encode_withdrawal(Withdrawal(77, 1001, 1002), 0)), WithdrawNotice(77, 1001, 1002, 0)
        )
        self.assertEqual(
            decode_response(codec.encode_withdraw_reply(77, CID, False, 403, "too late", 9)),
            WithdrawReply(77, CID, False, "too late", 9, 403),
        )

    def test_without_a_payload(self) -> None:
        """Only a code: which type was answered, and why."""
        self.assertEqual(decode_response(codec.encode_reply(9, 404)), Other(9, 404, ""))
        self.assertEqual(decode_response(codec.encode_reply(2, 400, "payload")), Other(2, 400, "payload"))
        self.assertEqual(decode_response(b""), Other(0, 0, ""))

    def test_a_type_nobody_reads(self) -> None:
        """A push of a kind that came later does no harm."""
        self.assertEqual(decode_response(bytes.fromhex("0808120178")), Other(8, 0, ""))

    def test_garbage(self) -> None:
        """Neither a broken frame nor a broken payload is an answer."""
        for data in (b"\xff", b"\x08\x05\x12\x02\x0a\x7f"):
            self.assertRaises(DecodeError, decode_response, data)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.builds(Message, id_, client_msg_id, id_, id_, int32, content, u64, u64), int32)
    def test_push_round_trip(self, message: Message, code: int) -> None:
        """What the gateway pushes, the client library reads."""
        self.assertEqual(decode_response(codec.encode_push(message, code)), Pushed(*message[:7], code))

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.lists(u64, min_size=1, max_size=30), int32)
    def test_ids_round_trip(self, ids: list[int], code: int) -> None:
        """Batches of ids."""
        self.assertEqual(decode_response(codec.encode_msg_ids(ids, code)), IdsReply(tuple(ids), code))

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.lists(st.builds(MessageState, client_msg_id, u64, int32), min_size=1, max_size=30), int32)
    def test_states_round_trip(self, states: list[MessageState], code: int) -> None:
        """What became of messages."""
        self.assertEqual(decode_response(codec.encode_states(states, code)), StatesReply(tuple(states), code))

    @settings(max_examples=2 * EXAMPLES, deadline=None)
    @given(
        st.one_of(
            st.binary(),
            damaged(st.builds(codec.encode_states, st.lists(st.builds(MessageState, client_msg_id, u64, int32)), int32)),
            damaged(st.builds(codec.encode_withdraw_reply, u64, client_msg_id, st.booleans(), int32, msg, u64)),
        )
    )
    def test_arbitrary_bytes(self, data: bytes) -> None:
        """Whatever arrives, the one error is DecodeError."""
        try:
            decode_response(data)
        except DecodeError as error:
            self.assertEqual(error.code, 1007)
