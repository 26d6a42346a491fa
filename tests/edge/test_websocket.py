"""An open connection: what comes in, what goes out, how it ends."""

from __future__ import annotations

from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from imconnect.core.ports import Link
from imconnect.edge.connection import BYTES_AFTER_CLOSE, FRAGMENTS, Connection
from imconnect.edge.handshake import Handshake
from imconnect.model import Identity
from tests.edge.support import EdgeTestCase, frame, handshake


class SignInTests(EdgeTestCase):
    def test_sign_in_comes_with_the_identity(self):
        """The core is told who it is, once the connection is open."""
        server, client, _ = self.pair("ws://localhost/websocket?userId=7&deviceId=phone")
        (receiver,) = self.core.receivers
        self.assertEqual(receiver.identity, Identity(7, "phone"))
        self.assertIs(receiver.link, server)
        self.assertEqual(client.state, client.STATE_OPEN)

    def test_the_link_may_be_used_while_signing_in(self):
        """What is written then arrives behind the handshake."""
        self.core.on_sign_in = lambda link: self.assertTrue(link.write([b"welcome"]))
        _, client, _ = self.pair()
        self.assertEqual(client.messages, [b"welcome"])

    def test_a_failing_sign_in_ends_only_that_connection(self):
        """Closed 1011, logged once; nothing is handed to nobody."""

        def fail(link: Link) -> None:
            raise ZeroDivisionError

        self.core.on_sign_in = fail
        _, wire = self.connect()
        server = wire.protocol
        server.dataReceived(handshake() + frame(b"early"))
        self.assertEqual(self.closed_with(wire), (1011, "internal error"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        wire.hang_up()
        self.assertEqual(self.metrics.closed, {1011: 1})

    def test_handshake_leftovers_are_forgotten(self):
        """Headers and query may hold a token; nothing keeps them once the connection is open."""
        server, _ = self.connect()
        server.dataReceived(handshake("/websocket?userId=1&token=sesame", ["token: sesame"]))
        self.assertEqual(server.state, server.STATE_OPEN)
        self.assertNotIn("sesame", repr(vars(server)))

    def test_no_name_of_autobahn_is_taken_by_accident(self):
        """What our classes redefine are Autobahn's public callbacks, and none of its attributes."""
        own = {name for kind in (Connection, Handshake) for name in vars(kind) if not name.startswith("__")}
        own.add("_payloads")
        taken = {name for name in own if hasattr(WebSocketServerProtocol(), name)}
        plain = WebSocketServerProtocol()
        plain.factory = self.factory
        self.assertEqual(
            {name for name in taken if name.startswith("_")} | (own & set(vars(plain))),
            set(),
        )


class ReceiveTests(EdgeTestCase):
    def test_one_read_is_one_call(self):
        """All frames of a read are handed over together, in order."""
        server, _, receiver = self.open()
        server.dataReceived(b"".join(frame(b"%d" % i) for i in range(100)))
        server.dataReceived(frame(b"next"))
        self.assertEqual(receiver.reads, [[b"%d" % i for i in range(100)], [b"next"]])

    def test_frames_sent_with_the_handshake(self):
        """They are handed over once the core knows the connection."""
        server, _ = self.connect()
        server.dataReceived(handshake() + frame(b"early") + frame(b"bird"))
        self.assertEqual(self.core.receivers[0].reads, [[b"early", b"bird"]])

    def test_cut_anywhere(self):
        """A frame may come byte by byte."""
        server, _, receiver = self.open()
        for byte in frame(b"x" * 130):
            server.dataReceived(bytes((byte,)))
        self.assertEqual(receiver.reads, [[b"x" * 130]])

    def test_empty_frame(self):
        """A keep-alive is a message like any other to the edge."""
        server, _, receiver = self.open()
        server.dataReceived(frame(b""))
        self.assertEqual(receiver.reads, [[b""]])

    def test_fragments(self):
        """A message in three frames, with a ping between them, is one message."""
        server, wire, receiver = self.open()
        server.dataReceived(
            frame(b"one ", fin=False) + frame(b"two ", 0, fin=False) + frame(b"?", 9) + frame(b"three", 0)
        )
        self.assertEqual(receiver.reads, [[b"one two three"]])
        self.assertEqual(wire.drain(), b"\x8a\x01?")

    def test_text(self):
        """Closed 1003; what came before it counts, what follows does not."""
        server, wire, receiver = self.open()
        server.dataReceived(frame(b"good") + frame(b"text \xff", 1) + frame(b"late"))
        self.assertEqual(receiver.reads, [[b"good"]])
        self.assertEqual(self.closed_with(wire)[0], 1003)

    def test_the_largest_frame(self):
        """`frame_bytes` are taken."""
        self.make_factory(frame_bytes=70000)
        server, _, receiver = self.open()
        server.dataReceived(frame(b"x" * 70000))
        self.assertEqual(len(receiver.reads[0][0]), 70000)

    def test_over_the_largest_frame(self):
        """Closed 1009 as soon as the header says so, and nothing of it is kept."""
        server, wire, receiver = self.open()
        server.dataReceived(frame(b"x" * 65537)[:100])
        self.assertEqual(self.closed_with(wire)[0], 1009)
        server.dataReceived(b"x" * 65000)
        self.assertEqual(receiver.reads, [])
        self.assertEqual(server.frame_data, [])

    def test_over_the_largest_message(self):
        """Fragments add up."""
        server, wire, receiver = self.open()
        server.dataReceived(frame(b"x" * 40000, fin=False) + frame(b"x" * 40000, 0))
        self.assertEqual(self.closed_with(wire)[0], 1009)
        self.assertEqual(receiver.reads, [])

    def test_endless_empty_fragments(self):
        """They hold no bytes, but a place in memory each: closed 1009."""
        server, wire, _ = self.open()
        server.dataReceived(frame(b"", fin=False) + frame(b"", 0, fin=False) * (FRAGMENTS + 10))
        self.assertEqual(self.closed_with(wire)[0], 1009)
        kept = len(server.message_data)
        server.dataReceived(frame(b"", 0, fin=False) * 1000)
        self.assertEqual(len(server.message_data), kept)

    def test_unmasked_frame(self):
        """A violation is answered with 1002, and the frame is not taken."""
        server, wire, receiver = self.open()
        server.dataReceived(frame(b"x", mask=None))
        self.assertEqual(self.closed_with(wire)[0], 1002)
        self.assertEqual(receiver.reads, [])

    def test_reserved_bits_and_opcodes(self):
        """Violations all."""
        for bad in (b"\xc2\x80abcd", frame(b"", 3), frame(b"", 11), frame(b"", 9, fin=False), frame(b"x" * 126, 9)):
            server, wire, _ = self.open()
            server.dataReceived(bad)
            self.assertEqual(self.closed_with(wire)[0], 1002)

    def test_a_failing_receive_ends_only_that_connection(self):
        """Closed 1011 and logged once; others go on, and the session hears that it is over."""

        def fail(receiver: object) -> None:
            raise ZeroDivisionError

        server, wire, receiver = self.open()
        _, other_wire, other = self.open()
        self.core.on_receive = fail
        server.dataReceived(frame(b"one"))
        self.core.on_receive = lambda receiver: None
        server.dataReceived(frame(b"two"))
        self.assertEqual(self.closed_with(wire), (1011, "internal error"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(receiver.reads, [[b"one"]])
        wire.hang_up()
        self.assertEqual(receiver.ended, 1)
        other_wire.protocol.dataReceived(frame(b"fine"))
        self.assertEqual(other.reads, [[b"fine"]])

    def test_pings_are_answered(self):
        """With the payload they came with."""
        _server, client, pump = self.pair()
        client.sendPing(b"are you there")
        pump.flush()
        self.assertEqual(client.pongs, [b"are you there"])

    def test_flood_after_close(self):
        """An endless control frame is closed 1002, and dropped when it goes on: Autobahn keeps its bytes."""
        server, wire, _ = self.open()
        server.dataReceived(b"\x89\xff" + (2**62).to_bytes(8, "big") + b"mask")
        self.assertEqual(self.closed_with(wire)[0], 1002)
        self.assertFalse(wire.aborted)
        for _ in range(BYTES_AFTER_CLOSE // 65536 + 1):
            server.dataReceived(b"x" * 65536)
        self.assertTrue(wire.aborted)


class WriteTests(EdgeTestCase):
    def test_one_call_is_one_write(self):
        """However many messages, and they arrive as they are."""
        server, wire, _ = self.open()
        payloads = [b"", b"a" * 125, b"b" * 126, b"c" * 65535, b"d" * 65536]
        self.assertTrue(server.write(payloads))
        self.assertEqual(len(wire.writes), 1)
        server, client, pump = self.pair()
        server.write(payloads)
        pump.flush()
        self.assertEqual(client.messages, payloads)

    def test_not_open(self):
        """Before, while closing and afterwards nothing is written, and nothing raises."""
        server, wire = self.connect()
        self.assertFalse(server.write([b"x"]))
        server.close(4001, "too early")
        self.assertEqual(wire.drain(), b"")
        server, wire, _ = self.open()
        server.close(4001, "replaced")
        wire.drain()
        self.assertFalse(server.write([b"x"]))
        wire.hang_up()
        self.assertFalse(server.write([b"x"]))
        server.close(4001, "again")
        server.pause()
        server.resume()
        self.assertEqual(wire.drain(), b"")

    def test_a_reader_that_is_behind(self):
        """Up to `outgoing_bytes` wait for him behind a full transport; more is not written."""
        self.make_factory(outgoing_bytes=1000)
        server, wire, _ = self.open(room=500)
        self.assertTrue(server.write([b"x" * 400]))
        self.assertFalse(server.congested())
        self.assertTrue(server.write([b"x" * 400]))
        self.assertTrue(server.congested())
        self.assertTrue(server.write([b"x" * 500]))
        before = len(wire.writes)
        self.assertFalse(server.write([b"x" * 100]))
        self.assertEqual(len(wire.writes), before)
        self.assertTrue(server.write([b"x" * 80]))

    def test_a_reader_that_catches_up(self):
        """The count starts anew when the transport is empty again."""
        self.make_factory(outgoing_bytes=1000)
        server, wire, _ = self.open(room=500)
        self.assertTrue(server.write([b"x" * 900]))
        self.assertFalse(server.write([b"x" * 200]))
        wire.drain()
        self.assertFalse(server.congested())
        self.assertTrue(server.write([b"x" * 400]))
        self.assertTrue(server.write([b"x" * 900]))

    def test_a_large_write_to_a_fast_reader(self):
        """A page that is larger than the bound is no reason to close somebody who reads."""
        self.make_factory(outgoing_bytes=1000)
        server, wire, _ = self.open(room=500)
        self.assertTrue(server.write([b"x" * 5000]))
        wire.drain()
        self.assertTrue(server.write([b"x" * 5000]))

    def test_pings_without_reading(self):
        """The answers count too: closed 4003."""
        self.make_factory(outgoing_bytes=1000)
        server, wire, _ = self.open(room=500)
        server.dataReceived(frame(b"x" * 125, 9) * 20)
        self.assertEqual(self.closed_with(wire), (4003, "slow reader"))

    def test_pause_and_resume(self):
        """They stop and start reading."""
        server, wire, _ = self.open()
        server.pause()
        self.assertFalse(wire.reading)
        server.resume()
        self.assertTrue(wire.reading)


class CloseTests(EdgeTestCase):
    def test_codes_arrive(self):
        """Ours of 4xxx, and those that Autobahn's own `sendClose` refuses."""
        for code in (1003, 1007, 1011, 4001, 4003, 4005):
            server, client, pump = self.pair()
            server.close(code, "why")
            pump.flush()
            self.assertEqual((client.remoteCloseCode, client.remoteCloseReason), (code, "why"))
            self.assertEqual(self.metrics.closed[code], 1)
            self.assertEqual(self.core.receivers[-1].ended, 1)

    def test_a_long_reason_is_cut(self):
        """Between characters, at what a close frame holds."""
        server, wire, _ = self.open()
        server.close(4005, "\u8d70" * 100)
        self.assertEqual(self.closed_with(wire), (4005, "\u8d70" * 41))

    def test_only_the_first_close_counts(self):
        """One close frame is sent."""
        server, wire, _ = self.open()
        server.close(4001, "first")
        server.close(4003, "second")
        self.assertEqual(self.closed_with(wire), (4001, "first"))

    def test_nothing_is_taken_after_close(self):
        """Frames that were on their way are not handed over."""
        server, _, receiver = self.open()
        server.close(4003, "slow reader")
        server.dataReceived(frame(b"late"))
        self.assertEqual(receiver.reads, [])

    def test_close_while_receiving(self):
        """The core may close from within `receive`."""
        server, wire, receiver = self.open()
        self.core.on_receive = lambda receiver: receiver.link.close(1007, "not an ImProtoRequest")
        server.dataReceived(frame(b"garbage") + frame(b"more"))
        self.assertEqual(receiver.reads, [[b"garbage", b"more"]])
        self.assertEqual(self.closed_with(wire)[0], 1007)

    def test_a_paused_connection_reads_the_answer(self):
        """A polite peer gets a clean end also where reading was paused."""
        server, wire, _ = self.open()
        server.pause()
        server.close(4005, "leaving")
        self.assertTrue(wire.reading)

    def test_a_peer_that_never_reads_is_dropped(self):
        """`close_timeout` after our close frame the TCP connection is aborted."""
        self.make_factory(close_timeout=5.0)
        server, wire, receiver = self.open(room=10)
        server.close(4003, "slow reader")
        self.clock.advance(4.9)
        self.assertFalse(wire.aborted)
        self.clock.advance(0.2)
        self.assertTrue(wire.aborted)
        wire.hang_up()
        self.assertEqual(receiver.ended, 1)
        self.assertEqual(self.metrics.closed, {4003: 1})

    def test_the_peer_closes(self):
        """His code is counted; what he sent before it is handed over."""
        server, wire, receiver = self.open()
        server.dataReceived(frame(b"bye") + frame((1001).to_bytes(2, "big") + b"going", 8))
        self.assertEqual(receiver.reads, [[b"bye"]])
        self.assertTrue(wire.disconnecting)
        wire.hang_up()
        self.assertEqual(receiver.ended, 1)
        self.assertEqual(self.metrics.closed, {1001: 1})

    def test_the_peer_closes_without_a_code(self):
        """Counted as 1005."""
        server, wire, _ = self.open()
        server.dataReceived(frame(b"", 8))
        wire.hang_up()
        self.assertEqual(self.metrics.closed, {1005: 1})

    def test_the_connection_is_lost(self):
        """Counted as 1006, and the session hears it once."""
        server, _, receiver = self.open()
        server.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(receiver.ended, 1)
        self.assertEqual(self.metrics.closed, {1006: 1})
        self.assertEqual(self.factory.connection_count, 0)

    def test_a_failing_closed_is_logged(self):
        """It stops nobody else."""
        _, wire, receiver = self.open()
        receiver.ended = 1
        wire.hang_up()
        self.assertEqual(len(self.flushLoggedErrors(AssertionError)), 1)
        self.assertEqual(self.factory.connection_count, 0)

    def test_a_peer_that_closes_and_does_not_let_go(self):
        """A transport that cannot be emptied is aborted by the wheel."""
        self.make_factory(close_timeout=5.0)
        server, wire, receiver = self.open()
        server.dataReceived(frame(b"", 8))
        self.assertEqual(server.state, server.STATE_CLOSED)
        self.advance(4.5)
        self.assertFalse(wire.aborted)
        self.advance(1)
        self.assertTrue(wire.aborted)
        wire.hang_up()
        self.assertEqual(receiver.ended, 1)

    def test_data_after_the_end(self):
        """What still arrives after the closing handshake is neither taken, nor kept, nor a sign of life."""
        self.make_factory(close_timeout=5.0)
        server, wire, receiver = self.open()
        server.dataReceived(frame(b"", 8))
        for _ in range(24):
            self.clock.advance(0.25)
            server.dataReceived(frame(b"more"))
        self.assertEqual((receiver.reads, server.data), ([], b""))
        self.assertTrue(wire.aborted)

    def test_no_timer_is_left(self):
        """When everybody has gone, nothing of them waits in the reactor."""
        server, wire, _ = self.open()
        server.close(4001, "replaced")
        self.assertNotEqual(self.clock.getDelayedCalls(), [])
        wire.hang_up()
        self.assertEqual(self.clock.getDelayedCalls(), [])
