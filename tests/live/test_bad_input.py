"""Frames and handshakes that no good client sends, against a real gateway."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from imconnect.model import MAX_ID
from imconnect.wire.client_codec import (
    Other,
    Pushed,
    ReceiptReply,
    SendReply,
    WithdrawReply,
    encode_ack,
    encode_send,
    encode_withdraw,
)
from tests.live.case import LiveTestCase
from tests.live.processes import GatewayProcess
from tests.live.raw import BINARY, CLOSE, TEXT, RawClient, frame, handshake


def a_send(to: int, content: str = "x", format: int = 1, key: bytes | None = None) -> bytes:
    """A C2C_SEND, good unless something else is asked for."""
    return encode_send(uuid.uuid4().bytes if key is None else key, to, content, format, 1)


class FrameTests(LiveTestCase):
    """One gateway for most of it: a bad client must not harm the next one."""

    settings: ClassVar[Mapping[str, Any]] = {"retry.delays": "[600]"}

    async def closed_with(self, gateway: GatewayProcess, data: bytes, code: int) -> None:
        """These bytes end the connection with this code."""
        raw = await self.raw(gateway, 1001)
        raw.transport.write(data)
        self.assertEqual(await raw.until_gone(), code, data[:40])

    async def refused_with(self, raw: RawClient, payload: bytes, code: int) -> SendReply:
        """A send that is answered with type 2, status -1, msgId 0 and this code; the connection stays."""
        before = len(raw.of(SendReply))
        raw.send(payload)
        await raw.wait_for(lambda: len(raw.of(SendReply)) > before, "an answer")
        reply: SendReply = raw.of(SendReply)[-1]
        self.assertEqual((reply.code, reply.status, reply.msg_id), (code, -1, 0), payload[:40])
        self.assertTrue(reply.msg)
        return reply

    async def test_closed(self) -> None:
        """Text 1003; garbage, truncated varints and no protobuf 1007; over the limit 1009, whole or in fragments."""
        gateway = await self.shared()
        await self.closed_with(gateway, frame(b"hello", TEXT), 1003)
        for garbage in (b"\xff", b"\x08", b"\x08\xff", b"\x12\x7f\x01", b"\x0b", bytes(range(256))):
            await self.closed_with(gateway, frame(garbage), 1007)
        await self.closed_with(gateway, frame(b"\x00" * 65537), 1009)
        half = b"\x00" * 40000
        await self.closed_with(gateway, frame(half, BINARY, final=False) + frame(half, 0), 1009)
        # Unmasked, reserved bits, an unknown opcode, a control frame in fragments: RFC 6455's protocol error.
        for broken in (b"\x82\x01x", b"\xf2\x80\x00\x00\x00\x00", frame(b"", 3), frame(b"", 9, final=False)):
            await self.closed_with(gateway, broken, 1002)
        await self.still_works(gateway)

    async def still_works(self, gateway: GatewayProcess) -> None:
        """Somebody else notices nothing."""
        ann = await self.online(gateway, 4001)
        await ann.send(4001, "fine")
        await ann.has("fine")
        self.assertNotIn("Traceback", gateway.output())
        self.assertEqual(gateway.errors(), "")

    async def test_refused_sends(self) -> None:
        """clientMsgId of 0, 15 and 17 bytes, to 0 and from 2^63 on, empty, bad format, too long: answered, stays open."""
        gateway = await self.shared()
        raw = await self.raw(gateway, 1201)
        for size in (0, 1, 15, 17, 1000):
            reply = await self.refused_with(raw, a_send(1202, key=b"k" * size), 400)
            self.assertEqual(reply.client_msg_id, b"k" * size)
        for to in (0, MAX_ID + 1, 2**64 - 1):
            await self.refused_with(raw, a_send(to), 400)
        await self.refused_with(raw, a_send(1202, content=""), 400)
        for number in (-1, 11, 2**31 - 1):
            await self.refused_with(raw, a_send(1202, format=number % 2**64), 400)
        await self.refused_with(raw, a_send(1202, content="x" * 4096), 413)
        await self.refused_with(raw, a_send(1202, content="\u4f60" * 1300), 413)
        raw.send(a_send(1202, content="\u4f60" * 1000))
        raw.send(a_send(MAX_ID))
        await raw.wait_for(lambda: [r.status for r in raw.of(SendReply)][-2:] == [1, 1], "the good ones")
        self.assertFalse(raw.gone)
        await self.until(lambda: len(self.stored(gateway, 1201)) == 2, "only the good ones are stored")

    async def test_other_commands(self) -> None:
        """Unknown types 404 with the same type; an inner payload that does not parse 400; an empty frame nothing."""
        gateway = await self.shared()
        raw = await self.raw(gateway, 1301)
        raw.send(b"")
        for command in (7, 13, 16, 19, 99):
            raw.send(b"\x08" + bytes([command]) + b"\x12\x01x")
        for command in (1, 2, 3, 4, 14, 20):
            raw.send(b"\x08" + bytes([command]) + b"\x12\x02\x0a\x7f")
        await raw.wait_for(lambda: len(raw.responses) >= 11, "eleven answers")
        self.assertEqual(
            [(other.type, other.code) for other in raw.of(Other)[:5]], [(type_, 404) for type_ in (7, 13, 16, 19, 99)]
        )
        self.assertEqual({getattr(r, "code", 0) for r in raw.responses[5:]}, {400})
        self.assertEqual(len(raw.responses), 11)
        self.assertFalse(raw.gone)

    async def test_ids_that_are_none(self) -> None:
        """ACKs and withdrawals with 0, 2^63, somebody else's or an id that never was: no receipt, no notice, no harm."""
        gateway = await self.shared()
        ann, bob = await self.online(gateway, 1401), await self.online(gateway, 1402, auto_ack=False)
        eve = await self.raw(gateway, 1403)
        sent = await ann.send(1402, "hello")
        never = sent.msg_id - (3600 * 1000 << 22)
        for msg_id in (0, MAX_ID + 1, 2**64 - 1, 1, MAX_ID, never, sent.msg_id):
            for status in (0, 1, 3, 4, 5):
                eve.send(encode_ack(sent.client_msg_id, msg_id, 1401, status, 1403))
        ids = (0, MAX_ID + 1, 2**64 - 1, 1, MAX_ID, sent.msg_id)
        for msg_id in ids:
            eve.send(encode_withdraw(msg_id, 1402))
        await eve.wait_for(lambda: len(eve.of(WithdrawReply)) + len(eve.of(Other)) >= len(ids), "answers")
        self.assertEqual([reply.success for reply in eve.of(WithdrawReply)].count(True), 0)
        await ann.send(1402, "barrier")
        await bob.has("barrier")
        self.assertEqual(ann.receipts + ann.withdrawn + bob.withdrawn, [])
        bob.client.delivered(sent.msg_id)
        await ann.told(sent.msg_id, 3)
        # The sender acknowledging his own message is not the receiver either.
        ann.client.send_raw(encode_ack(sent.client_msg_id, sent.msg_id, 1401, 4, 1402))
        await ann.send(1402, "barrier 2")
        await bob.has("barrier 2")
        self.assertEqual(ann.receipts, [(sent.msg_id, 3)])

    async def test_spoofed_sender(self) -> None:
        """The payload's `from` and `msgId` are not believed."""
        gateway = await self.shared()
        bob = await self.online(gateway, 1502)
        eve = await self.raw(gateway, 1503)
        spoofed = a_send(1502, content="I am Ann")
        # Field 3 `from` and field 2 `msgId` of the inner message, in front of the genuine fields.
        inner = b"\x11" + (77).to_bytes(8, "little") + b"\x19" + (1501).to_bytes(8, "little") + spoofed[4:]
        eve.send(b"\x08\x01\x12" + bytes([len(inner)]) + inner)
        await bob.has("I am Ann")
        self.assertEqual(bob.messages[0].sender, 1503)
        self.assertNotEqual(bob.messages[0].msg_id, 77)
        sql = "SELECT from_id FROM im_c2c_message WHERE to_id=1502"
        rows = await self.until(lambda: self.rows(gateway, sql), "it is stored")
        self.assertEqual(rows, [(1503,)])

    async def test_two_copies_in_one_write(self) -> None:
        """One message, two equal answers; the same clientMsgId with another text in the same write is a conflict."""
        gateway = await self.shared()
        bob = await self.online(gateway, 1602)
        raw = await self.raw(gateway, 1601)
        key = uuid.uuid4().bytes
        copy = frame(a_send(1602, content="once", key=key))
        raw.transport.write(copy + copy + frame(a_send(1602, content="other", key=key)))
        await raw.wait_for(lambda: len(raw.of(SendReply)) == 3, "three answers")
        replies = sorted(raw.of(SendReply), key=lambda reply: reply.status)
        self.assertEqual([(reply.status, reply.code) for reply in replies], [(-1, 409), (1, 0), (1, 0)])
        self.assertEqual(replies[1].msg_id, replies[2].msg_id)
        raw.send(a_send(1602, content="barrier"))
        await bob.has("barrier")
        self.assertEqual(bob.texts, ["once", "barrier"])
        self.assertEqual(len(bob.pushes), 2)

    async def test_replayed_frames(self) -> None:
        """Everything that a connection sent, again on the next one: the same answers, and nobody is told twice."""
        gateway = await self.shared()
        ann = await self.raw(gateway, 1701)
        bob = await self.raw(gateway, 1702)
        sends = [a_send(1702, content=f"line {number}") for number in range(20)]
        for payload in sends:
            ann.send(payload)
        await bob.wait_for(lambda: len(bob.of(Pushed)) == 20, "the pushes")
        pushes = bob.of(Pushed)
        acks = [encode_ack(push.client_msg_id, push.msg_id, 1701, status, 1702) for push in pushes for status in (3, 4)]
        for payload in acks:
            bob.send(payload)
        await ann.wait_for(lambda: len(ann.of(ReceiptReply)) == 40, "the receipts")
        first = {reply.client_msg_id: reply.msg_id for reply in ann.of(SendReply)}
        ann.drop()
        bob.drop()
        await ann.until_gone()
        again, bob_again = await self.raw(gateway, 1701), await self.raw(gateway, 1702)
        again.transport.write(b"".join(map(frame, sends)))
        bob_again.transport.write(b"".join(map(frame, acks)))
        await again.wait_for(lambda: len(again.of(SendReply)) == 20, "the same answers")
        self.assertEqual({reply.client_msg_id: reply.msg_id for reply in again.of(SendReply)}, first)
        again.send(a_send(1702, content="barrier"))
        await bob_again.wait_for(lambda: bob_again.of(Pushed), "the barrier")
        self.assertEqual([push.content for push in bob_again.of(Pushed)], ["barrier"])
        self.assertEqual(again.of(ReceiptReply), [])
        await self.until(lambda: "barrier" in str(self.stored(gateway, 1701)), "the barrier is stored")
        self.assertEqual(len(self.stored(gateway, 1701)), 21)

    async def test_flood(self) -> None:
        """10,000 sends in one write are all answered, while somebody else's chat goes on."""
        gateway = await self.started()
        ann, bob = await self.online(gateway, 1001), await self.online(gateway, 1002)
        # Of its own kind: his pushes must not be what the flood's receiver is busy with.
        flood = await self.raw(gateway, 1003)
        await ann.send(1002, "warm")
        frames = b"".join(frame(a_send(1004, f"flood {number}")) for number in range(10_000))
        began = self.reactor.seconds()
        flood.transport.write(frames)
        slowest = 0.0
        rounds = 0
        while len(flood.frames) < 10_000:
            asked = self.reactor.seconds()
            await ann.send(1002, f"chat {rounds}", 30)
            slowest = max(slowest, self.reactor.seconds() - asked)
            rounds += 1
            self.assertLess(self.reactor.seconds() - began, 90, flood)
        took = self.reactor.seconds() - began
        await bob.has(f"chat {rounds - 1}")
        self.assertGreaterEqual(rounds, 2, f"the flood was over after {took:.2f} s, before anybody could chat")
        # Fair: nobody waits for the whole flood. (A second is for machines that do other things, too.)
        self.assertLess(slowest, max(1.0, took / 2), f"of {took:.2f} s in {rounds} rounds")
        replies = flood.of(SendReply)
        self.assertEqual({reply.status for reply in replies}, {1})
        self.assertEqual(len({reply.msg_id for reply in replies}), 10_000)
        await self.until(lambda: len(self.stored(gateway)) == 10_001 + rounds, "all are stored", 60)

    async def test_flood_beyond_the_burst(self) -> None:
        """What is over the burst is refused with 429; ten times over it ends the connection with 4008."""
        gateway = await self.started({"limits.burst": 50, "limits.commands_per_second": 1})
        raw = await self.raw(gateway, 1001)
        raw.transport.write(b"".join(frame(a_send(1002)) for _ in range(80)))
        await raw.wait_for(lambda: len(raw.of(SendReply)) == 80, "80 answers")
        codes = [reply.code for reply in raw.of(SendReply)]
        self.assertEqual((codes.count(0), codes.count(429)), (50, 30))
        raw.transport.write(b"".join(frame(a_send(1002)) for _ in range(600)))
        self.assertEqual(await raw.until_gone(), 4008)
        await self.still_works(gateway)


class HandshakeTests(LiveTestCase):
    settings: ClassVar[Mapping[str, Any]] = {"limits.handshake_timeout": 1}

    async def test_refused(self) -> None:
        """Nobody, 0, no number, 2^63: 401 with a JSON reason; another path 404; plain HTTP and garbage are refused."""
        gateway = await self.shared()
        for user in ("", "0", "ann", "-1", str(MAX_ID + 1), "1" * 40):
            raw = await self.raw(gateway)
            raw.transport.write(handshake(user))
            await raw.until_gone()
            self.assertEqual((raw.code, json.loads(raw.body)["code"]), (401, 401), user)
            self.assertTrue(json.loads(raw.body)["reason"])
        other = await (await self.raw(gateway)).sign_in(1001, "/other")
        await other.until_gone()
        self.assertEqual((other.code, json.loads(other.body)["code"]), (404, 404))
        plain = await self.raw(gateway)
        plain.transport.write(b"GET /websocket HTTP/1.1\r\nHost: x\r\nuid: 1001\r\n\r\n")
        await plain.until_gone()
        self.assertIn(plain.code, (400, 426))
        self.assertTrue(json.loads(plain.body)["reason"])
        garbage = await self.raw(gateway)
        garbage.transport.write(bytes(range(256)) + b"\r\n\r\n")
        await garbage.until_gone()
        query = await (await self.raw(gateway)).sign_in("", "/websocket?userId=1001")
        self.assertEqual(query.code, 101)
        largest = await self.raw(gateway, MAX_ID)
        self.assertEqual(largest.code, 101)

    async def test_says_nothing(self) -> None:
        """One that connects and is silent, one in the middle of its request: dropped after the timeout."""
        gateway = await self.shared()
        silent, half = await self.raw(gateway), await self.raw(gateway)
        half.transport.write(handshake(1001)[:40])
        began = self.reactor.seconds()
        await silent.until_gone(6)
        await half.until_gone(6)
        self.assertGreater(self.reactor.seconds() - began, 0.5)
        stats = json.loads((await gateway.get("/stats")).body)
        self.assertEqual((stats["connections"], stats["sessions"]), (0, 0))

    async def test_vanishes_in_the_handshake(self) -> None:
        """A hundred that leave right behind their request: no ghost of them stays, and their user is not online."""
        gateway = await self.shared()
        for _ in range(100):
            raw = await self.raw(gateway)
            raw.transport.write(handshake(1002))
            raw.transport.abortConnection()
        ann = await self.online(gateway, 1001)

        async def alone() -> Any:
            stats = json.loads((await gateway.get("/stats")).body)
            return (stats["connections"], stats["sessions"], stats["users"]) == (1, 1, 1)

        await self.until(alone, "only Ann is there")
        sent = await ann.send(1002, "hello")
        await self.has_status(gateway, sent.msg_id, 2)

    async def test_frames_behind_the_handshake(self) -> None:
        """A client that does not wait for the 101 is served all the same; one that closes at once too."""
        gateway = await self.shared()
        raw = await self.raw(gateway)
        raw.transport.write(handshake(1001) + frame(a_send(1001)))
        await raw.wait_for(lambda: raw.of(SendReply) and raw.of(Pushed), "answer and push")
        hasty = await self.raw(gateway)
        hasty.transport.write(handshake(1003) + frame((1000).to_bytes(2, "big"), CLOSE))
        self.assertEqual(await hasty.until_gone(), 1000)
