from __future__ import annotations

from itertools import product

from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message as ProtobufMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from imconnect.errors import DecodeError
from imconnect.model import Message, MessageState, Receipt, Withdrawal
from imconnect.wire import client_codec, codec, im_pb2
from imconnect.wire.requests import Ack, KeepAlive, Malformed, MsgIds, Request, Send, StateQuery, Unknown, Withdraw
from tests.support import TestCase
from tests.wire.strategies import EXAMPLES, client_msg_id, content, damaged, int32, msg, u64


def filled(message: ProtobufMessage, /, **fields: object) -> bytes:
    """As protobuf's own runtime writes it; `from_` is the field `from`."""
    for name, value in fields.items():
        setattr(message, name.rstrip("_"), value)
    return message.SerializeToString()


def response(type: int, payload: bytes, code: int, msg: str = "") -> bytes:
    return filled(im_pb2.ImProtoResponse(), type=type, payload=payload, code=code, msg=msg)


def request(type: int, payload: bytes) -> bytes:
    return filled(im_pb2.ImProtoRequest(), type=type, payload=payload)


def reference(data: bytes) -> Request:
    """What `decode` should say, by protobuf's own runtime alone."""
    if not data:
        return KeepAlive()
    outer = im_pb2.ImProtoRequest.FromString(data)
    try:
        if outer.type == 1:
            send = im_pb2.C2CSendReq.FromString(outer.payload)
            return Send(send.clientMsgId, send.to, send.format, send.content, send.time)
        if outer.type == 2:
            ack = im_pb2.C2CAckReq.FromString(outer.payload)
            return Ack(ack.clientMsgId, ack.msgId, ack.to, ack.status)
        if outer.type == 3:
            withdraw = im_pb2.C2CWithdrawReq.FromString(outer.payload)
            return Withdraw(3, withdraw.msgId, b"", withdraw.to)
        if outer.type == 4:
            im_pb2.GetBatchMsgIdsReq.FromString(outer.payload)
            return MsgIds()
        if outer.type == 14:
            taken_back = im_pb2.WithdrawMsgSend.FromString(outer.payload)
            return Withdraw(14, taken_back.msgId, taken_back.clientMsgId, 0)
        if outer.type == 20:
            return StateQuery(tuple(im_pb2.MsgStateQuery.FromString(outer.payload).clientMsgIds))
    except ProtobufError:
        return Malformed(outer.type)
    return Unknown(outer.type)


sends = st.builds(
    lambda **fields: request(1, filled(im_pb2.C2CSendReq(), **fields)),
    clientMsgId=client_msg_id, msgId=u64, from_=u64, to=u64, format=int32, content=content, time=u64,
)  # fmt: skip
acks = st.builds(
    lambda **fields: request(2, filled(im_pb2.C2CAckReq(), **fields)),
    clientMsgId=client_msg_id, msgId=u64, from_=u64, to=u64, status=int32,
)  # fmt: skip
ordinary = st.one_of(
    st.builds(client_codec.encode_send, client_msg_id, u64, content, int32, u64),
    st.builds(client_codec.encode_ack, client_msg_id, u64, u64, int32, u64),
    st.builds(client_codec.encode_withdraw, u64, u64),
    st.builds(client_codec.encode_withdraw_send, u64, client_msg_id, u64),
    st.builds(client_codec.encode_get_msg_ids, u64),
    st.builds(client_codec.encode_state_query, st.lists(client_msg_id, max_size=5)),
)
CID = bytes(range(1, 17))
ORDINARY = (
    client_codec.encode_send(CID, 1002, "hi", time=5),
    client_codec.encode_send(CID, 1002, "hi"),
    request(1, filled(im_pb2.C2CSendReq(), clientMsgId=CID, from_=3, to=4, format=5, content="hi", time=6)),
    client_codec.encode_ack(CID, 77, 1001, 3),
    client_codec.encode_ack(CID, 77, 1001, 3, 1002),
)
frames = st.one_of(sends, acks, ordinary, st.builds(request, int32, st.binary(max_size=20)))


class DecodeTests(TestCase):
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(frames)
    def test_says_what_protobuf_says(self, data: bytes) -> None:
        """Reading frames by hand gives what the runtime gives, over the whole range of every field."""
        self.assertEqual(codec.decode(data), reference(data))

    @settings(max_examples=2 * EXAMPLES, deadline=None)
    @given(damaged(frames))
    def test_damaged_frames(self, data: bytes) -> None:
        """Also where bytes are changed, cut or added, `decode` and the runtime agree, refusals included."""
        self.agree(data)

    @settings(max_examples=2 * EXAMPLES, deadline=None)
    @given(st.one_of(st.binary(), st.binary().map(lambda rest: b"\x08\x01\x12" + rest), st.binary(max_size=80)))
    def test_arbitrary_bytes(self, data: bytes) -> None:
        """Whatever arrives, the one error is DecodeError."""
        try:
            codec.decode(data)
        except DecodeError as error:
            self.assertEqual(error.code, 1007)

    def agree(self, data: bytes) -> None:
        try:
            expected = reference(data)
        except ProtobufError:
            self.assertRaises(DecodeError, codec.decode, data)
        else:
            self.assertEqual(codec.decode(data), expected, data.hex())

    def test_every_single_byte(self) -> None:
        """Frames of the ordinary kinds with any one byte changed to anything, or anything behind them."""
        for frame in ORDINARY:
            for at in range(len(frame)):
                changed = bytearray(frame)
                for byte in range(256):
                    changed[at] = byte
                    self.agree(bytes(changed))
            for tail in (b"\x08\x02", b"\x08\x01", b"\x12\x00", b"\x39" + bytes(8), b"\x18\x01", b"\x00"):
                self.agree(frame + tail)

    def test_every_cut_of_a_send(self) -> None:
        """A frame cut anywhere is never taken for a whole one."""
        frame = client_codec.encode_send(bytes(range(16)), 1002, "hello", time=5)
        for end in range(3, len(frame)):
            self.assertRaises(DecodeError, codec.decode, frame[:end])

    def test_inner_garbage(self) -> None:
        """A payload that does not parse is the request's fault, not the connection's."""
        for command in (1, 2, 3, 4, 14, 20):
            self.assertEqual(codec.decode(request(command, b"\x0a\x7f")), Malformed(command))
        self.assertEqual(codec.decode(request(19, b"\x0a\x7f")), Unknown(19))

    def test_text_that_is_not_utf8(self) -> None:
        """Content in another charset is malformed, on the short way and on the long one."""
        for text in ("hello", "h" * 200):
            frame = client_codec.encode_send(bytes(16), 1002, text, time=5).replace(b"hh", b"\xff\xfe")
            frame = frame.replace(b"hello", b"\xffello")
            self.assertEqual(codec.decode(frame), Malformed(1))

    def test_reversed_fields(self) -> None:
        """Fields may come in any order."""
        payload = b"\x39" + bytes([5]) + bytes(7) + b"\x32\x01x" + b"\x21" + bytes([9]) + bytes(7) + b"\x0a\x01c"
        self.assertEqual(codec.decode(request(1, payload)), Send(b"c", 9, 0, "x", 5))

    def test_type_behind_the_payload(self) -> None:
        """Also in the outer message."""
        data = b"\x12\x09\x21" + bytes([9]) + bytes(7) + b"\x08\x01"
        self.assertEqual(codec.decode(data), Send(b"", 9, 0, "", 0))


class EncodeTests(TestCase):
    """Every encoder is byte for byte what protobuf's runtime writes."""

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(client_msg_id, u64, u64, u64, int32, msg)
    def test_send_answers(self, cid: bytes, msg_id: int, receiver: int, sender: int, code: int, text: str) -> None:
        """Acks and refusals of sends."""
        ack = filled(im_pb2.C2CAckReq(), clientMsgId=cid, msgId=msg_id, from_=receiver, to=sender, status=1)
        self.assertEqual(codec.encode_send_ack(cid, msg_id, receiver, sender, code), response(2, ack, code))
        refusal = filled(im_pb2.C2CAckReq(), clientMsgId=cid, from_=receiver, to=sender, status=-1)
        answer = codec.encode_send_refusal(cid, sender, receiver, code, text)
        self.assertEqual(answer, response(2, refusal, code, text))

    def test_any_fields_left_out(self) -> None:
        """Pushes and receipts in every combination of fields that are set and fields that are not."""
        whole = Message(77, CID, 1001, 1002, 1, "hi", 5, 6)
        names = ("msg_id", "client_msg_id", "sender", "receiver", "format", "content", "time")
        for chosen in product((False, True), repeat=len(names)):
            empty = {name: type(getattr(whole, name))() for name, leave in zip(names, chosen, strict=True) if leave}
            message = whole._replace(**empty)
            self.same_push(message, 0)
            self.same_receipt(Receipt(*message[:4], message.format), 1)

    @settings(max_examples=2 * EXAMPLES, deadline=None)
    @given(st.builds(Message, u64, client_msg_id, u64, u64, int32, content, u64, u64), int32)
    def test_push(self, message: Message, code: int) -> None:
        """Pushes."""
        self.same_push(message, code)

    def same_push(self, message: Message, code: int) -> None:
        payload = filled(
            im_pb2.C2CMsgPush(),
            clientMsgId=message.client_msg_id,
            msgId=message.msg_id,
            from_=message.sender,
            to=message.receiver,
            format=message.format,
            content=message.content,
            time=message.time,
        )
        self.assertEqual(codec.encode_push(message, code), response(5, payload, code))

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.builds(Receipt, u64, client_msg_id, u64, u64, int32), int32)
    def test_receipt(self, receipt: Receipt, code: int) -> None:
        """Receipts."""
        self.same_receipt(receipt, code)

    def same_receipt(self, receipt: Receipt, code: int) -> None:
        payload = filled(
            im_pb2.C2CAckReq(),
            clientMsgId=receipt.client_msg_id,
            msgId=receipt.msg_id,
            from_=receipt.receiver,
            to=receipt.sender,
            status=receipt.status,
        )
        self.assertEqual(codec.encode_receipt(receipt, code), response(2, payload, code))

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(u64, u64, u64, client_msg_id, st.booleans(), int32, msg)
    def test_withdrawals(
        self, msg_id: int, sender: int, receiver: int, cid: bytes, success: bool, code: int, text: str
    ) -> None:
        """Notices of withdrawals and answers to them."""
        payload = filled(im_pb2.C2CWithdrawReq(), msgId=msg_id, from_=sender, to=receiver)
        notice = codec.encode_withdrawal(Withdrawal(msg_id, sender, receiver), code)
        self.assertEqual(notice, response(3, payload, code))
        payload = filled(
            im_pb2.WithdrawMsgResponse(), msgId=msg_id, clientMsgId=cid, success=success, message=text, timestamp=sender
        )
        reply = codec.encode_withdraw_reply(msg_id, cid, success, code, text, sender)
        self.assertEqual(reply, response(15, payload, code, text))

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.lists(u64, max_size=30), int32, int32, msg)
    def test_ids_and_replies(self, ids: list[int], command: int, code: int, text: str) -> None:
        """Batches of ids, and answers without a payload."""
        payload = im_pb2.BatchMsgIdsPush(msgIds=ids).SerializeToString()
        self.assertEqual(codec.encode_msg_ids(ids, code), response(6, payload, code))
        self.assertEqual(codec.encode_reply(command, code, text), response(command, b"", code, text))

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.lists(st.builds(MessageState, client_msg_id, u64, int32), max_size=10), int32)
    def test_states(self, states: list[MessageState], code: int) -> None:
        """Rows of states, also those in which nothing is set."""
        rows = [im_pb2.MsgStateRow(clientMsgId=cid, msgId=msg_id, state=state) for cid, msg_id, state in states]
        payload = im_pb2.MsgState(rows=rows).SerializeToString()
        self.assertEqual(codec.encode_states(states, code), response(21, payload, code))
