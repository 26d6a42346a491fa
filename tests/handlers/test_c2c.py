"""What a sender is told: every code of interface.md section 3."""

from __future__ import annotations

from typing import Any, cast

from imconnect.model import MAX_ID
from imconnect.wire import im_pb2
from imconnect.wire.client_codec import IdsReply, Other, SendReply, WithdrawReply, encode_get_msg_ids
from tests.core.rig import ALICE, BOB, CAROL, Rig, client_id, send_frame
from tests.support import TestCase


def request(command: int, payload: bytes) -> bytes:
    """Any frame at all."""
    return im_pb2.ImProtoRequest(type=cast(Any, command), payload=payload).SerializeToString()


class SendTests(TestCase):
    """C2C_SEND."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def refusal(self, frame: bytes) -> SendReply:
        self.alice.forget()
        self.alice.read(frame)
        self.rig.turn()
        [reply] = self.alice.got
        assert isinstance(reply, SendReply)
        self.assertEqual((reply.msg_id, reply.status, self.bob.got, self.rig.log), (0, -1, [], []))
        self.assertNotEqual(reply.msg, "")
        self.assertIsNone(self.alice.link.closed)
        return reply

    def test_answer(self) -> None:
        """Type 2: clientMsgId as sent, a fresh id, from = to, to = the sender, status 1, success."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual(self.alice.got, [SendReply(client_id("hello"), self.rig.id_of("hello"), ALICE, BOB, 1, 0, "")])

    def test_client_msg_id_of_another_length(self) -> None:
        """400 for 0, 15 and 17 bytes; it comes back as it was sent."""
        for length in (0, 15, 17):
            reply = self.refusal(send_frame(BOB, "hello", b"x" * length))
            self.assertEqual((reply.code, reply.client_msg_id), (400, b"x" * length))

    def test_receiver_that_is_no_user(self) -> None:
        """400 for 0 and for ids that no user can have."""
        for receiver in (0, MAX_ID + 1, 2**64 - 1):
            self.assertEqual(self.refusal(send_frame(receiver, "hello")).code, 400)

    def test_largest_ids_are_fine(self) -> None:
        """2^63-1 is a user."""
        self.alice.send(MAX_ID, "hello")
        self.rig.turn()
        self.assertEqual(self.alice.accepted, ["hello"])

    def test_empty_content(self) -> None:
        """400."""
        self.assertEqual(self.refusal(send_frame(BOB, "")).code, 400)

    def test_format_out_of_range(self) -> None:
        """400 but for 0 to 10."""
        for format_ in (-1, 11, 2**31 - 1):
            self.assertEqual(self.refusal(send_frame(BOB, "hello", format=format_)).code, 400)
        self.alice.read(*(send_frame(BOB, f"{format_}", format=format_) for format_ in range(11)))
        self.rig.turn()
        self.assertEqual(len(self.alice.accepted), 11)

    def test_content_that_does_not_fit_the_queue(self) -> None:
        """413, never cut; a thousand Chinese characters fit."""
        self.assertEqual(self.refusal(send_frame(BOB, "x" * 4096)).code, 413)
        self.alice.send(BOB, "字" * 1000)
        self.rig.turn()
        self.assertEqual(self.bob.shown, ["字" * 1000])

    def test_payload_that_does_not_parse(self) -> None:
        """400 in the shape of a refused send."""
        self.assertEqual(self.refusal(request(1, b"\x0a\xff")).code, 400)

    def test_sender_is_the_session_whatever_the_payload_says(self) -> None:
        """A spoofed `from` and a msgId of one's own choice are not even read."""
        send = im_pb2.C2CSendReq(clientMsgId=client_id("hello"), msgId=77, to=BOB, format=1, content="hello")
        setattr(send, "from", CAROL)
        self.alice.read(request(1, send.SerializeToString()))
        self.rig.turn()
        [push] = self.bob.got
        self.assertEqual((push.sender, push.msg_id == 77), (ALICE, False))  # type: ignore[union-attr]

    def test_time_beyond_every_calendar(self) -> None:
        """A client's clock may say anything; it is passed on."""
        self.alice.read(send_frame(BOB, "hello", time=2**64 - 1))
        self.rig.turn()
        [push] = self.bob.got
        self.assertEqual(push.time, 2**64 - 1)  # type: ignore[union-attr]
        self.rig.crash()
        self.assertEqual(self.rig.log, ["sent hello", "offline hello"])

    def test_refusals_are_counted_by_reason(self) -> None:
        """What the operator sees."""
        self.alice.read(send_frame(0, "a"), send_frame(BOB, "b"), send_frame(BOB, "x" * 5000))
        self.alice.read(send_frame(BOB, "c", client_id("b")))
        self.rig.turn()
        self.assertEqual(dict(self.rig.metrics.sends_refused), {"bad_request": 1, "too_large": 1, "conflict": 1})


class OtherRequestTests(TestCase):
    """What is no chat message."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.alice = self.rig.sign_in(ALICE)

    def answer(self, frame: bytes) -> object:
        self.alice.forget()
        self.alice.read(frame)
        self.rig.turn()
        self.assertIsNone(self.alice.link.closed)
        [answer] = self.alice.got
        return answer

    def test_unknown_type(self) -> None:
        """Answered with the same type and 404; also those of the contract that nobody serves, and negative ones."""
        for command in (5, 6, 7, 13, 15, 16, 19, 21, 99, 2**31 - 1, -1):
            answer = self.answer(request(command, b"whatever"))
            assert isinstance(answer, Other)
            self.assertEqual((answer.type, answer.code), (command, 404))

    def test_payloads_that_do_not_parse(self) -> None:
        """400, in the shape in which the client waits for the answer."""
        self.assertIsInstance(self.answer(request(3, b"\xff")), WithdrawReply)
        self.assertIsInstance(self.answer(request(14, b"\xff")), WithdrawReply)
        for command, type_ in ((2, 2), (4, 6)):
            answer = self.answer(request(command, b"\xff"))
            assert isinstance(answer, Other)
            self.assertEqual((answer.type, answer.code), (type_, 400))

    def test_empty_frame_is_a_keep_alive(self) -> None:
        """No answer, no harm."""
        self.alice.read(b"")
        self.rig.turn()
        self.assertEqual((self.alice.got, self.alice.session.pending), ([], 0))

    def test_batch_ids_are_never_given_out_twice(self) -> None:
        """A hundred each, fresh for everybody, for messages too, and after a crash."""
        bob = self.rig.sign_in(BOB)
        seen: set[int] = set()
        for _ in range(3):
            for client in (self.alice, bob):
                client.read(encode_get_msg_ids(), encode_get_msg_ids())
                client.send(CAROL, f"{len(seen)}")
            self.rig.turn()
            fresh = [one for client in (self.alice, bob) for one in client.got]
            ids = [i for one in fresh if isinstance(one, IdsReply) for i in one.ids]
            ids += [one.msg_id for one in fresh if isinstance(one, SendReply)]
            self.assertEqual((len(ids), len(set(ids) - seen)), (402, 402))
            seen.update(ids)
            self.rig.crash()
            self.alice, bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def test_batch_ids_over_the_rate(self) -> None:
        """429 in the shape of the answer."""
        rig = Rig(commands_per_second=1, burst=1)
        alice = rig.sign_in(ALICE)
        alice.read(encode_get_msg_ids(), encode_get_msg_ids())
        rig.turn()
        self.assertEqual([(type(one), getattr(one, "code", None)) for one in alice.got], [(IdsReply, 0), (Other, 429)])
