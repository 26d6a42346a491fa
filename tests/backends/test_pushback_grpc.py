"""Business tells gateways, over loopback with real gRPC: the server of `edge/grpc_server.py` and peers that misbehave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from imconnect.backends import pushback_grpc
from imconnect.backends.pushback_grpc import WAITING, GrpcPushback
from imconnect.edge.grpc_server import CALLS, MAX_BYTES, GrpcServer
from imconnect.errors import ConfigError
from imconnect.model import Applied, Receipt, Withdrawal
from imconnect.tap.listening import bind
from imconnect.wire import gateway_pb2
from imconnect.wire.gateway_codec import HELLO, SERVICE, TELL, Party, decode_reply, encode_applied, encode_hello
from tests.support import ReactorTestCase

NEWS = Applied((Receipt(5, bytes(16), 1001, 1002, 3),), (Withdrawal(6, 1001, 1002),), (1002, 1003))
PATIENCE = 10.0  # seconds


def receipts(*numbers: int) -> Applied:
    return Applied(tuple(Receipt(number, b"", 1, 2, 4) for number in numbers))


class GrpcTestCase(ReactorTestCase):
    """Servers and clients that are stopped when the test ends, last made first."""

    timeout = 60

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for it, or fail."""
        end = self.reactor.seconds() + PATIENCE
        while not true():
            if self.reactor.seconds() > end:
                self.fail("it did not happen")
            await deferLater(self.reactor, 0.01)

    def serve(self, tell: Callable[[Applied], None], port: int = 0) -> GrpcServer:
        server = GrpcServer(self.reactor, bind("127.0.0.1", port, "grpc.port"), tell, "gateway-1")
        self.addCleanup(server.stop)
        server.start()
        return server

    def pushback(self, *ports: int, deadline: float = 1.0) -> GrpcPushback:
        pushback = GrpcPushback(self.reactor, [f"127.0.0.1:{port}" for port in ports], "business-1", deadline=deadline)
        self.addCleanup(pushback.stop)
        pushback.start()
        return pushback

    def peer(self, **calls: Callable[[bytes, Any], bytes]) -> int:
        """A server of another making, with these calls; its port."""
        server = grpc.server(ThreadPoolExecutor(2))
        handlers = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in calls.items()}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.addCleanup(server.stop, 0)
        return port


class PushbackTests(GrpcTestCase):
    async def test_every_gateway_is_told(self) -> None:
        """What business applied reaches the node of each gateway, on the reactor's thread, once."""
        seen: list[tuple[int, Applied, threading.Thread]] = []
        servers = [
            self.serve(lambda applied, i=i: seen.append((i, applied, threading.current_thread())))  # type: ignore[misc]
            for i in range(2)
        ]
        pushback = self.pushback(*(server.port for server in servers))
        pushback.tell(NEWS)
        await self.until(lambda: len(seen) == 2)
        me = threading.current_thread()
        self.assertEqual(sorted(seen, key=lambda each: each[0]), [(0, NEWS, me), (1, NEWS, me)])
        await self.until(lambda: list(pushback.told.values()) == [1, 1])
        self.assertEqual((list(pushback.failed.values()), pushback.away), ([0, 0], []))

    async def test_nothing_is_not_told(self) -> None:
        """A batch about which nobody has to hear costs no call."""
        seen: list[Applied] = []
        pushback = self.pushback(self.serve(seen.append).port)
        pushback.tell(Applied())
        pushback.tell(receipts(1))
        await self.until(lambda: bool(seen))
        self.assertEqual(seen, [receipts(1)])

    async def test_order_is_kept_and_what_waits_goes_together(self) -> None:
        """However fast things come: in order, none twice, in fewer calls than things."""
        seen: list[Applied] = []
        pushback = self.pushback(self.serve(seen.append).port)
        for number in range(1, 501):
            pushback.tell(receipts(number)._replace(hints=(7,)))
        await self.until(lambda: sum(len(applied.receipts) for applied in seen) == 500)
        self.assertEqual([r.msg_id for applied in seen for r in applied.receipts], list(range(1, 501)))
        self.assertTrue(all(applied.hints == (7,) for applied in seen))
        self.assertLess(len(seen), 100)

    async def test_a_gateway_that_is_away_holds_up_nobody(self) -> None:
        """It is counted and named; the other one is told; when it is there it is told what comes then."""
        seen: list[Applied] = []
        port = bind("127.0.0.1", 0, "x")
        away = port.getsockname()[1]
        port.close()
        pushback = self.pushback(away, self.serve(seen.append).port, deadline=0.3)
        pushback.tell(NEWS)
        await self.until(lambda: seen == [NEWS])
        address = f"127.0.0.1:{away}"
        await self.until(lambda: pushback.failed[address] == 1)
        self.assertEqual(pushback.away, [address])
        late: list[Applied] = []
        self.serve(late.append, away)
        for number in range(1, 200):
            pushback.tell(receipts(number))
            await deferLater(self.reactor, 0.05)
            if late:
                break
        self.assertTrue(late)
        await self.until(lambda: pushback.away == [])

    async def test_a_peer_that_hangs_costs_its_deadline_only(self) -> None:
        """Nothing blocks meanwhile; what waits behind the call is bounded, the rest dropped and counted."""
        gate = threading.Event()
        self.addCleanup(gate.set)

        def hang(request: bytes, context: Any) -> bytes:
            gate.wait(20)
            return b""

        port = self.peer(Hello=hang, Tell=hang)
        pushback = self.pushback(port, deadline=0.5)
        address = f"127.0.0.1:{port}"
        before = self.reactor.seconds()
        for _ in range(3):
            pushback.tell(Applied(hints=tuple(range(1, WAITING + 1))))
        self.assertLess(self.reactor.seconds() - before, 0.4)
        self.assertEqual(pushback.dropped[address], 2 * WAITING)
        await self.until(lambda: pushback.failed[address] == 1)
        self.assertEqual(pushback.away, [address])

    async def test_a_peer_that_answers_nonsense(self) -> None:
        """It counts as not told."""
        port = self.peer(Hello=lambda request, context: b"\xff\xff", Tell=lambda request, context: b"\xff")
        pushback = self.pushback(port)
        pushback.tell(NEWS)
        address = f"127.0.0.1:{port}"
        await self.until(lambda: pushback.failed[address] == 1)
        self.assertEqual((pushback.told[address], pushback.away), (0, [address]))

    async def test_a_peer_of_another_version(self) -> None:
        """One that says so, and one that has not got the call at all."""
        other = gateway_pb2.Reply(version=2).SerializeToString()
        ports = [self.peer(Hello=lambda request, context: other, Tell=lambda request, context: other), self.peer()]
        pushback = self.pushback(*ports)
        pushback.tell(NEWS)
        await self.until(lambda: list(pushback.failed.values()) == [1, 1])
        self.assertEqual(len(pushback.away), 2)

    async def test_what_is_stored_is_told_until_the_gateway_takes_it(self) -> None:
        """The sender has no other way to hear it; what the gateway's watch finds by itself is not told again."""
        port = bind("127.0.0.1", 0, "x")
        away = port.getsockname()[1]
        port.close()
        self.patch(pushback_grpc, "AGAIN", 0.1)
        pushback = self.pushback(away, deadline=0.3)
        first, second = Receipt(1, bytes(16), 1001, 1002, 1), Receipt(2, bytes(16), 1001, 1002, 1)
        for stored in (first, second):
            pushback.tell(NEWS._replace(receipts=(stored, *NEWS.receipts)))
        address = f"127.0.0.1:{away}"
        await self.until(lambda: pushback.failed[address] > 2)
        seen: list[Applied] = []
        self.serve(seen.append, away)
        await self.until(lambda: bool(seen))
        self.assertEqual(seen, [Applied((first, second))])
        await deferLater(self.reactor, 0.3)
        self.assertEqual((len(seen), pushback.dropped[address]), (1, 0))

    async def test_what_is_told_again_is_bounded(self) -> None:
        """The oldest stay, the rest is dropped and counted; so is what nobody took until the stop."""
        port = bind("127.0.0.1", 0, "x")
        away = port.getsockname()[1]
        port.close()
        pushback = self.pushback(away, deadline=0.3)
        stored = tuple(Receipt(number, b"", 1, 2, 1) for number in range(1, WAITING + 8))
        pushback.tell(Applied(receipts(*range(1, 5)).receipts))
        await self.until(lambda: list(pushback.failed.values()) == [1])
        pushback.tell(Applied(stored))
        await self.until(lambda: list(pushback.dropped.values()) == [7])
        await pushback.stop()
        self.assertEqual(list(pushback.dropped.values()), [WAITING + 7])

    async def test_what_a_gateway_cannot_understand_is_not_told_again(self) -> None:
        """It would refuse it for ever."""
        def refuse(request: bytes, context: Any) -> bytes:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
            return b""

        self.patch(pushback_grpc, "AGAIN", 0.05)
        pushback = self.pushback(self.peer(Hello=refuse, Tell=refuse))
        pushback.tell(Applied((Receipt(1, b"", 1, 2, 1),)))
        await self.until(lambda: list(pushback.failed.values()) == [1])
        await deferLater(self.reactor, 0.3)
        self.assertEqual(list(pushback.failed.values()), [1])

    async def test_stopping_lets_what_waits_leave(self) -> None:
        """What was told just before the stop arrives; afterwards nothing is taken."""
        seen: list[Applied] = []
        server = self.serve(seen.append)
        pushback = self.pushback(server.port)
        await self.until(lambda: not pushback.away and server.port > 0)
        pushback.tell(receipts(1))
        pushback.tell(receipts(2))
        await pushback.stop()
        self.assertEqual([r.msg_id for applied in seen for r in applied.receipts], [1, 2])
        pushback.tell(receipts(3))
        self.assertEqual(list(pushback.dropped.values()), [1])
        self.assertEqual(len([r for applied in seen for r in applied.receipts]), 2)

    async def test_stopping_with_a_peer_that_hangs(self) -> None:
        """It takes a deadline's time and no longer."""
        gate = threading.Event()
        self.addCleanup(gate.set)
        port = self.peer(Hello=lambda request, context: bytes(not gate.wait(20)))
        pushback = self.pushback(port, deadline=0.3)
        before = self.reactor.seconds()
        await pushback.stop()
        self.assertLess(self.reactor.seconds() - before, 5.0)

    async def test_it_may_be_stopped_before_it_started(self) -> None:
        """Twice, too."""
        pushback = GrpcPushback(self.reactor, ["127.0.0.1:1"], "b")
        await pushback.stop()
        await pushback.stop()
        pushback.tell(NEWS)
        self.assertEqual(list(pushback.dropped.values()), [4])


class ServerTests(GrpcTestCase):
    """Callers of every kind."""

    def call(self, port: int, name: str, request: bytes, timeout: float | None = 5.0) -> Deferred[Any]:
        """The answer's bytes, or the status (code, details) of a call made on a thread."""

        def ask() -> Any:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                try:
                    return channel.unary_unary(f"/{SERVICE}/{name}")(request, timeout=timeout)
                except grpc.RpcError as error:
                    return error.code(), error.details()

        return deferToThread(ask)

    async def test_hello(self) -> None:
        """Says who is there."""
        server = self.serve(lambda applied: None)
        answer = await self.call(server.port, HELLO, encode_hello(Party("b")))
        self.assertEqual(decode_reply(answer), Party("gateway-1"))

    async def test_other_versions_are_told_so(self) -> None:
        """With a status and both versions."""
        server = self.serve(lambda applied: self.fail("told"))
        for name, kind in ((TELL, gateway_pb2.TellRequest), (HELLO, gateway_pb2.HelloRequest)):
            code, details = await self.call(server.port, name, kind(version=2).SerializeToString())
            self.assertEqual(code, grpc.StatusCode.FAILED_PRECONDITION)
            self.assertIn("version 2", details)
            self.assertIn("speaks 1", details)

    async def test_nonsense_is_refused(self) -> None:
        """What does not parse, an unknown call, a request over the limit; the server goes on."""
        seen: list[Applied] = []
        server = self.serve(seen.append)
        code, _ = await self.call(server.port, TELL, b"\xff\xff\xff")
        self.assertEqual(code, grpc.StatusCode.INVALID_ARGUMENT)
        code, _ = await self.call(server.port, "Nothing", b"")
        self.assertEqual(code, grpc.StatusCode.UNIMPLEMENTED)
        code, _ = await self.call(server.port, TELL, bytes(MAX_BYTES + 1))
        self.assertEqual(code, grpc.StatusCode.RESOURCE_EXHAUSTED)
        await self.call(server.port, TELL, encode_applied(NEWS))
        self.assertEqual(seen, [NEWS])

    async def test_a_caller_that_gave_up_is_not_served(self) -> None:
        """While the node is busy a call runs into its deadline, and is not told later by surprise."""
        seen: list[Applied] = []
        server = self.serve(seen.append)
        held: list[Any] = []
        real = self.reactor.callFromThread

        def hold(*call: Any) -> None:
            if getattr(call[0], "__name__", "") == "_hand_over":
                held.append(call)
            else:
                real(*call)

        self.patch(self.reactor, "callFromThread", hold)
        code, _ = await self.call(server.port, TELL, encode_applied(NEWS), timeout=0.3)
        self.assertEqual(code, grpc.StatusCode.DEADLINE_EXCEEDED)
        await deferLater(self.reactor, 0.3)
        self.patch(self.reactor, "callFromThread", real)
        (call,) = held
        call[0](*call[1:])
        self.assertEqual(seen, [])

    async def test_a_node_that_fails(self) -> None:
        """Our bug: logged once, and the caller hears that it was not told."""

        def fail(applied: Applied) -> None:
            raise KeyError("bug")

        server = self.serve(fail)
        code, details = await self.call(server.port, TELL, encode_applied(NEWS))
        self.assertEqual((code, details), (grpc.StatusCode.INTERNAL, "the node failed"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    async def test_more_calls_than_the_bound_are_refused(self) -> None:
        """At once, instead of piling up behind a busy node."""
        server = self.serve(lambda applied: None)
        real = self.reactor.callFromThread
        self.patch(
            self.reactor,
            "callFromThread",
            lambda *call: None if getattr(call[0], "__name__", "") == "_hand_over" else real(*call),
        )

        def flood() -> list[grpc.StatusCode]:
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                tell = channel.unary_unary(f"/{SERVICE}/{TELL}")
                calls = [tell.future(encode_applied(NEWS), timeout=2.0) for _ in range(CALLS + 20)]
                return [call.code() for call in calls]

        codes = await deferToThread(flood)
        self.patch(self.reactor, "callFromThread", real)
        self.assertGreaterEqual(codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED), 20)
        self.assertNotIn(grpc.StatusCode.OK, codes)

    async def test_stopping(self) -> None:
        """The port is free again, and a second stop, or one before the start, does no harm."""
        server = self.serve(lambda applied: None)
        await server.stop()
        await server.stop()
        bind("127.0.0.1", server.port, "grpc.port").close()
        bound = bind("127.0.0.1", 0, "grpc.port")
        unstarted = GrpcServer(self.reactor, bound, lambda applied: None, "n")
        await unstarted.stop()
        bind("127.0.0.1", unstarted.port, "grpc.port").close()

    async def test_a_port_that_is_taken_at_the_last_moment(self) -> None:
        """The start fails with the key and the port in one line."""
        bound = _Stolen(bind("127.0.0.1", 0, "grpc.port"))
        self.addCleanup(bound.thief.close)
        server = GrpcServer(self.reactor, cast("socket.socket", bound), lambda applied: None, "n")
        self.addCleanup(server.stop)
        error = self.assertRaises(ConfigError, server.start)
        self.assertEqual(str(error), f"grpc.port: 127.0.0.1:{server.port} is in use")


class _Stolen:
    """A bound socket; when it is given up, somebody else has the port at once."""

    def __init__(self, bound: socket.socket) -> None:
        self.bound, self.thief = bound, socket.socket()

    def getsockname(self) -> Any:
        return self.bound.getsockname()

    def close(self) -> None:
        address = self.bound.getsockname()
        self.bound.close()
        self.thief.bind(address)
        self.thief.listen()
