"""Before the upgrade: who comes in, and what the others are told."""

from __future__ import annotations

import autobahn.websocket
from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.defer import succeed
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from imconnect.edge.admission import SURPLUS
from imconnect.edge.handshake import HEAD_BYTES
from imconnect.errors import CommandError, Unavailable
from imconnect.model import Identity
from tests.edge.support import EdgeTestCase, SlowAuthenticator, frame, handshake


class RefusalTests(EdgeTestCase):
    def ask(self, request: bytes):
        """How this request is refused."""
        server, wire = self.connect()
        server.dataReceived(request)
        answer = self.refused(wire)
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertEqual(int(answer.headers["content-length"]), len(answer.raw_body))
        self.assertEqual(answer.body["code"], answer.code)
        wire.hang_up()
        self.assertEqual(self.core.receivers, [])
        self.assertEqual(self.factory.connection_count, 0)
        self.assertEqual(self.metrics.closed, {})
        return answer

    def test_who_are_you(self):
        """401 with a reason, and no hint when to come again."""
        answer = self.ask(handshake(headers=["uid: zero"]))
        self.assertEqual(answer.body, {"code": 401, "reason": "the user id must be a decimal number from 1 to 2^63-1"})
        self.assertNotIn("retry-after", answer.headers)

    def test_another_path(self):
        """404, also for a prefix or a longer path; a query does not matter."""
        for path in ("/", "/websocket/", "/websock", "/WebSocket", "/other?userId=1"):
            self.assertEqual(self.ask(handshake(path)).code, 404)
        server, _ = self.connect()
        server.dataReceived(handshake("/websocket?a=b&userId=1"))
        self.assertEqual(server.state, server.STATE_OPEN)

    def test_no_upgrade(self):
        """A browser that wants a page gets a plain refusal, and is redirected nowhere."""
        answer = self.ask(b"GET /websocket?redirect=http://elsewhere/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(answer.code, 426)
        self.assertNotIn("location", answer.headers)

    def test_what_is_no_handshake(self):
        """Other methods, versions, broken keys and garbage: a 4xx or 5xx in the same form."""
        good = handshake().decode()
        for request in (
            good.replace("GET", "POST"),
            good.replace("HTTP/1.1", "HTTP/1.0"),
            good.replace("Version: 13", "Version: 8"),
            good.replace("Version: 13", "Version: x"),
            handshake(key="short").decode(),
            good.replace("Host: localhost\r\n", ""),
            "\x16\x03\x01\x02\r\n\r\n",
            "\r\n\r\n",
        ):
            self.assertGreaterEqual(self.ask(request.encode("latin-1")).code, 400)

    def test_nothing_of_the_request_is_in_the_status_line(self):
        """A request cannot write headers into its answer."""
        server, wire = self.connect()
        server.dataReceived(b"GET /websocket\x85Set-Cookie:x HTTP/1.1\r\n\r\n")
        head = wire.drain().partition(b"\r\n\r\n")[0]
        self.assertEqual(head.split(b"\r\n")[0], b"HTTP/1.1 400 Bad Request")
        self.assertNotIn(b"Cookie", head)

    def test_refusals_are_not_logged(self):
        """Neither what was sent, which may hold a token, nor a line per refused client."""
        events = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.ask(handshake("/websocket?token=sesame", headers=["uid: no"]))
        self.ask(b"GET /websocket?token=sesame\r\n\r\n")
        self.assertEqual([event for event in events if event["log_level"] >= LogLevel.debug], [])

    def test_an_endless_head(self):
        """431 when the head of the request does not end."""
        server, wire = self.connect()
        server.dataReceived(b"GET /websocket HTTP/1.1\r\n")
        server.dataReceived(b"x: y\r\n" * (HEAD_BYTES // 6))
        self.assertEqual(self.refused(wire).code, 431)

    def test_not_accepting(self):
        """503 before the node takes clients, and when it leaves."""
        self.factory.accepting = False
        answer = self.ask(handshake())
        self.assertEqual(answer.code, 503)
        self.assertIn(int(answer.headers["retry-after"]), range(1, 6))

    def test_a_new_factory_does_not_accept(self):
        """The port is bound early, people come in last."""
        factory = type(self.factory)(self.clock, self.factory.settings, self.core, SlowAuthenticator(), self.metrics)
        self.assertFalse(factory.accepting)


class LimitTests(EdgeTestCase):
    def test_connections(self):
        """Over the limit 503; half-open ones take a place; who leaves makes room."""
        self.make_factory(connections=2)
        _, silent = self.connect()
        self.open()
        server, wire = self.connect()
        self.assertEqual(self.factory.connection_count, 2)
        server.dataReceived(handshake())
        answer = self.refused(wire)
        self.assertEqual(answer.code, 503)
        self.assertIn("retry-after", answer.headers)
        wire.hang_up()
        silent.hang_up()
        self.open()

    def test_connections_per_ip(self):
        """Over the limit of one address 429; another address is not concerned."""
        self.make_factory(connections_per_ip=1)
        _, first, _ = self.open(ip="192.0.2.1")
        server, wire = self.connect("192.0.2.1")
        server.dataReceived(handshake())
        self.assertEqual(self.refused(wire).code, 429)
        wire.hang_up()
        self.open(ip="192.0.2.2")
        first.hang_up()
        self.open(ip="192.0.2.1")

    def test_refused_ones_take_no_place(self):
        """Silent connections of one address do not lock others out, and only so many of them are waited for."""
        self.make_factory(connections=10, connections_per_ip=1)
        self.connect("192.0.2.1")
        wires = [self.connect("192.0.2.1")[1] for _ in range(SURPLUS + 1)]
        self.assertEqual([wire.aborted for wire in wires].count(True), 1)
        self.assertTrue(wires[-1].aborted)
        self.assertEqual(self.factory.connection_count, 1)
        self.open(ip="192.0.2.2")
        for wire in wires:
            wire.hang_up()
        self.assertFalse(self.connect("192.0.2.1")[1].aborted)

    def test_says_nothing(self):
        """Dropped at `handshake_timeout`, to the moment."""
        self.make_factory(handshake_timeout=10.0)
        self.clock.advance(0.9)
        _, wire = self.connect()
        self.clock.advance(9.9)
        self.assertFalse(wire.aborted)
        self.clock.advance(0.2)
        self.assertTrue(wire.aborted)
        wire.hang_up()
        self.assertEqual(self.factory.connection_count, 0)

    def test_vanishes_in_the_handshake(self):
        """Half a request, then nothing: dropped as well, byte by byte or not."""
        server, wire = self.connect()
        for byte in handshake()[:9]:
            server.dataReceived(bytes((byte,)))
            self.clock.advance(1)
        self.assertFalse(wire.aborted)
        self.clock.advance(1.1)
        self.assertTrue(wire.aborted)

    def test_an_open_connection_is_not_dropped_by_it(self):
        """The handshake's timer ends with the handshake."""
        _, wire, _ = self.open()
        self.clock.advance(11)
        self.assertFalse(wire.aborted)


class AuthenticatorTests(EdgeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.slow = SlowAuthenticator()
        self.make_factory(self.slow)

    def ask(self):
        """A connection whose authenticator thinks."""
        server, wire = self.connect()
        server.dataReceived(handshake())
        return server, wire, self.slow.asked[-1]

    def test_later(self):
        """The upgrade waits for the answer."""
        _server, wire, asked = self.ask()
        self.assertEqual(wire.drain(), b"")
        asked.callback(Identity(1001))
        self.assertIn(b" 101 ", wire.drain())
        self.assertEqual(self.core.receivers[0].identity, Identity(1001))

    def test_frames_that_come_meanwhile(self):
        """They are handed over when the connection is open; they are not taken for another handshake."""
        server, _wire, asked = self.ask()
        server.dataReceived(frame(b"early"))
        server.dataReceived(handshake()[:4])
        self.assertEqual(len(self.slow.asked), 1)
        asked.callback(Identity(1001))
        self.assertEqual(self.core.receivers[0].reads, [[b"early"]])

    def test_a_second_request_meanwhile(self):
        """Asks nobody again, and is no WebSocket frame."""
        server, wire, asked = self.ask()
        server.dataReceived(handshake())
        self.assertEqual(len(self.slow.asked), 1)
        asked.callback(Identity(1001))
        self.assertEqual(len(self.core.receivers), 1)
        self.assertEqual(self.closed_with(wire)[0], 1002)

    def test_too_much_meanwhile(self):
        """Refused instead of kept."""
        server, wire, asked = self.ask()
        server.dataReceived(frame(b"x" * HEAD_BYTES))
        self.assertEqual(self.refused(wire).code, 400)
        asked.callback(Identity(1001))
        self.assertEqual(self.core.receivers, [])

    def test_no_ghost(self):
        """A client that leaves meanwhile never becomes a session; the authenticator may stop, and answer or not."""
        for answer in (Identity(1001), Failure(CommandError(401, "no"))):
            server, wire, asked = self.ask()
            wire.hang_up()
            self.assertTrue(asked.called)
            asked.callback(answer)
            self.assertEqual(self.core.receivers, [])
            self.assertEqual(server.state, server.STATE_CLOSED)
            self.assertEqual(self.factory.connection_count, 0)
        self.assertEqual(self.metrics.closed, {})

    def test_no_ghost_after_the_timeout(self):
        """An authenticator that answers too late finds nobody."""
        _server, wire, asked = self.ask()
        self.clock.advance(10.1)
        self.assertTrue(wire.aborted)
        asked.callback(Identity(1001))
        self.assertEqual(self.core.receivers, [])
        self.assertEqual(wire.drain(), b"")

    def test_leaving_meanwhile(self):
        """A node that stopped accepting while the authenticator thought refuses."""
        _server, wire, asked = self.ask()
        self.factory.accepting = False
        asked.callback(Identity(1001))
        self.assertEqual(self.refused(wire).code, 503)

    def test_denied(self):
        """The code and reason of the denial; what is no HTTP error becomes 401."""
        for code, told in ((401, 401), (403, 403), (200, 401), (499, 401)):
            _server, wire, asked = self.ask()
            asked.errback(CommandError(code, "token expired"))
            answer = self.refused(wire)
            self.assertEqual(answer.body, {"code": told, "reason": "token expired"})

    def test_away(self):
        """503, and logged once until it is back."""
        events = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for _ in range(3):
            _, wire, asked = self.ask()
            asked.errback(Unavailable("Redis is away"))
            self.assertEqual(self.refused(wire).code, 503)
        _server, wire, asked = self.ask()
        asked.callback(Identity(1001))
        texts = [event["log_format"] for event in events]
        self.assertEqual(len(texts), 2)
        self.assertIn("away", texts[0])
        self.assertIn("back", texts[1])

    def test_broken(self):
        """503 and a logged failure; its text does not reach the client."""
        _server, wire, asked = self.ask()
        asked.errback(ZeroDivisionError("secret"))
        answer = self.refused(wire)
        self.assertEqual(answer.code, 503)
        self.assertNotIn(b"secret", answer.raw_body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_raises(self):
        """The same where it raises at once."""

        class Broken:
            def authenticate(self, headers, query):
                raise ZeroDivisionError

        self.make_factory(Broken())
        server, wire = self.connect()
        server.dataReceived(handshake())
        self.assertEqual(self.refused(wire).code, 503)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_what_it_is_asked(self):
        """Header names in lower case, and the query's values in lists."""
        asked = []

        class Curious:
            def authenticate(self, headers, query):
                asked.append((headers, query))
                return succeed(Identity(1))

        self.make_factory(Curious())
        server, _ = self.connect()
        server.dataReceived(handshake("/websocket?userId=5&deviceId=a%20b", ["Uid: 7", "Authorization: Bearer x"]))
        ((headers, query),) = asked
        self.assertEqual((headers["uid"], headers["authorization"]), ("7", "Bearer x"))
        self.assertEqual(query, {"userId": ["5"], "deviceId": ["a b"]})


class StartTests(EdgeTestCase):
    def warnings(self, fast: bool) -> list[str]:
        """What is logged when the factory starts on an Autobahn with or without its native part."""
        events = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.patch(autobahn.websocket, "USES_NVX", fast)
        self.factory.doStart()
        self.factory.doStop()
        return [event["log_format"] for event in events]

    def test_slow_frames_are_said_at_start(self):
        """Without Autobahn's native part one line says so; with it nothing is said."""
        self.assertEqual(self.warnings(True), [])
        (line,) = self.warnings(False)
        self.assertIn("NVX", line)

    def test_any_origin(self):
        """A page from anywhere may connect, and one from a file."""
        for origin in ("https://example.org", "null"):
            server, wire = self.connect()
            server.dataReceived(handshake(headers=["uid: 1", f"Origin: {origin}"]))
            self.assertIn(b" 101 ", wire.drain())

    def test_no_compression(self):
        """An offer is not taken up."""
        server, wire = self.connect()
        server.dataReceived(handshake(headers=["uid: 1", "Sec-WebSocket-Extensions: permessage-deflate"]))
        answer = wire.drain()
        self.assertIn(b" 101 ", answer)
        self.assertNotIn(b"deflate", answer)

    def test_options_are_shared(self):
        """A connection has the factory's options without a copy of its own."""
        server, _, _ = self.open()
        self.assertEqual(server.maxMessagePayloadSize, 65536)
        copied = [name for name in WebSocketServerProtocol.CONFIG_ATTRS if name in vars(server)]
        self.assertEqual(copied, [])
        self.assertEqual([name for name in WebSocketServerProtocol.CONFIG_ATTRS if not hasattr(server, name)], [])

    def test_a_listener_on_the_clock_alone(self):
        """The server's timers follow its own reactor even where the global one is another."""
        import txaio
        from twisted.internet.task import Clock

        self.patch(txaio.config, "loop", Clock())
        self.make_factory(close_timeout=5.0)
        _, silent = self.connect()
        server, closing, _ = self.open()
        server.close(4001, "replaced")
        self.clock.advance(5)
        self.assertTrue(closing.aborted)
        self.clock.advance(5)
        self.assertTrue(silent.aborted)
