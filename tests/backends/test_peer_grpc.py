"""Gateways hand things over, over loopback with real gRPC; and peers that hang, lie, or may not call."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from imconnect.backends.grpc_channel import Credentials
from imconnect.backends.peer_grpc import GrpcPeer
from imconnect.edge.grpc_server import GrpcServer
from imconnect.edge.peer_service import PeerService
from imconnect.errors import Unavailable
from imconnect.model import Applied, End, Handed, Kick, Message, Parcel, Receipt, Withdrawal
from imconnect.tap.listening import bind
from imconnect.wire.peer_codec import HAND, SERVICE, decode_parcel, encode_parcel
from tests.backends.test_pushback_grpc import GrpcTestCase
from tests.support import TestCase

TOP = 2**63 - 1
PARCEL = Parcel(
    messages=(
        Handed(Message(7, bytes(16), 1001, 1002, 1, "hello \U0001f600", TOP, 1_800_000_000_000)),
        Handed(Message(TOP, b"", 1001, 1002, 0, "x" * 4000, 1, 1), late=True),
    ),
    ends=(End(5, b"c" * 16, 1001, 1002, 3), End(6, b"", 0, 1002, 5)),
    kicks=(Kick(1002, "phone", 12),),
    applied=Applied((Receipt(8, b"r" * 16, 1001, 1002, 1),), (Withdrawal(9, 1001, 1002),), (1002, TOP)),
)


class PeerCodecTests(TestCase):
    def test_there_and_back(self) -> None:
        """Everything that a parcel has comes out as it went in."""
        self.assertEqual(PARCEL, decode_parcel(encode_parcel(PARCEL, 3)))
        self.assertEqual(Parcel(), decode_parcel(encode_parcel(Parcel(), 3)))


class PeerTestCase(GrpcTestCase):
    def node(self, take: Callable[[Parcel], Sequence[bool]], **door: Any) -> int:
        """A gateway that takes parcels; its port."""
        service = PeerService(self.reactor, take)
        bound = bind("127.0.0.1", 0, "grpc.port")
        server = GrpcServer(self.reactor, bound, lambda _: None, "two", [service.handler()], **door)
        self.addCleanup(server.stop)
        server.start()
        return server.port

    def way(self, *ports: int, credentials: Credentials | None = None) -> GrpcPeer:
        """Towards nodes 1, 2, ... at these ports."""
        addresses = {number: f"127.0.0.1:{port}" for number, port in enumerate(ports, 1)}
        peer = GrpcPeer(self.reactor, 9, addresses.get, credentials)
        self.addCleanup(peer.close)
        return peer

    async def refused(self, peer: GrpcPeer, node: int = 1, parcel: Parcel = PARCEL) -> str:
        """Why a call did not succeed."""
        try:
            await peer.hand(node, parcel)
        except Unavailable as error:
            return str(error)
        self.fail("it was taken")


class HandTests(PeerTestCase):
    async def test_handed_over(self) -> None:
        """The other node has the parcel on its reactor's thread, and says what it took."""
        seen: list[tuple[Parcel, threading.Thread]] = []

        def take(parcel: Parcel) -> Sequence[bool]:
            seen.append((parcel, threading.current_thread()))
            return [True, False]

        self.assertEqual([True, False], await self.way(self.node(take)).hand(1, PARCEL))
        self.assertEqual([(PARCEL, threading.current_thread())], seen)

    async def test_a_big_parcel(self) -> None:
        """As many of the largest messages as a batch can have."""
        message = Handed(Message(7, bytes(16), 1, 2, 1, "中" * 1300, 1, 1))
        peer = self.way(self.node(lambda parcel: [True] * len(parcel.messages)))
        self.assertEqual(500, len(await peer.hand(1, Parcel((message,) * 500))))

    async def test_nobody_there(self) -> None:
        """A node that does not live, one whose port is closed, and after the end."""
        peer = self.way(bind("127.0.0.1", 0, "x").getsockname()[1])
        self.assertEqual("node 2 does not live", await self.refused(peer, 2))
        self.assertEqual("UNAVAILABLE", await self.refused(peer))
        await peer.close()
        self.assertEqual("node 1 does not live", await self.refused(peer))

    async def test_a_node_that_moved(self) -> None:
        """A new address gets a channel of its own."""
        ports = [self.node(lambda parcel: [True]), self.node(lambda parcel: [False])]
        addresses = {1: f"127.0.0.1:{ports[0]}"}
        peer = GrpcPeer(self.reactor, 9, addresses.get)
        self.addCleanup(peer.close)
        one = Parcel(PARCEL.messages[:1])
        self.assertEqual([True], await peer.hand(1, one))
        addresses[1] = f"127.0.0.1:{ports[1]}"
        self.assertEqual([False], await peer.hand(1, one))

    async def test_a_node_that_fails(self) -> None:
        """A bug there is an answer here."""

        def take(parcel: Parcel) -> Sequence[bool]:
            raise ZeroDivisionError

        self.assertEqual("INTERNAL", await self.refused(self.way(self.node(take))))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class StrangersTests(PeerTestCase):
    def stranger(self, call: Callable[[bytes, Any], bytes]) -> int:
        server = grpc.server(ThreadPoolExecutor(2))
        handlers = {HAND: grpc.unary_unary_rpc_method_handler(call)}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.addCleanup(server.stop, 0)
        return port

    async def test_hangs(self) -> None:
        """The deadline ends it."""
        go_on = threading.Event()
        self.addCleanup(go_on.set)

        def hang(request: bytes, context: Any) -> bytes:
            go_on.wait(10)
            return b""

        self.assertEqual("DEADLINE_EXCEEDED", await self.refused(self.way(self.stranger(hang))))

    async def test_lies(self) -> None:
        """What is no answer of this service is none."""
        self.assertIn("not a message", await self.refused(self.way(self.stranger(lambda request, context: b"\xff"))))

    async def test_another_version(self) -> None:
        """Said with both versions."""
        said = await self.refused(self.way(self.stranger(lambda request, context: b"\x08\x02")))
        self.assertIn("version 2", said)
        self.assertIn("speaks 1", said)

    async def test_older_peer(self) -> None:
        """A gateway without this service."""
        bound = bind("127.0.0.1", 0, "grpc.port")
        server = GrpcServer(self.reactor, bound, lambda _: None, "two")
        self.addCleanup(server.stop)
        server.start()
        self.assertIn("UNIMPLEMENTED", await self.refused(self.way(server.port)))

    async def test_wrong_requests(self) -> None:
        """Each is refused with a word, and nothing of it reaches the node."""
        port = self.node(lambda parcel: self.fail("taken"))  # type: ignore[arg-type,return-value]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            hand = channel.unary_unary(f"/{SERVICE}/{HAND}")
            message = PARCEL.messages[0].message
            for request, status in (
                (b"\xff", "INVALID_ARGUMENT"),
                (b"\x08\x07", "FAILED_PRECONDITION"),
                (encode_parcel(Parcel((Handed(message._replace(msg_id=0)),)), 1), "INVALID_ARGUMENT"),
                (encode_parcel(Parcel((Handed(message._replace(content="")),)), 1), "INVALID_ARGUMENT"),
                (encode_parcel(Parcel((Handed(message._replace(client_msg_id=b"x")),)), 1), "INVALID_ARGUMENT"),
                (encode_parcel(Parcel(ends=(End(1, b"", 1, 2, 2),)), 1), "INVALID_ARGUMENT"),
                (encode_parcel(Parcel(kicks=(Kick(0, "", 1),)), 1), "INVALID_ARGUMENT"),
            ):
                call = hand.future(request, timeout=5)
                await self.until(call.done)
                self.assertEqual(status, call.code().name, request)


class DoorTests(PeerTestCase):
    async def test_token(self) -> None:
        """Whoever has it may call; others hear what is missing, and the node hears nothing."""
        port = self.node(lambda parcel: [True, True], token="secret")
        self.assertEqual([True, True], await self.way(port, credentials=Credentials(token="secret")).hand(1, PARCEL))
        for credentials in (Credentials(token="other"), None):
            said = await self.refused(self.way(port, credentials=credentials))
            self.assertIn("UNAUTHENTICATED", said)
            self.assertNotIn("secret", said)

    async def test_certificates(self) -> None:
        """Both sides show one of the same authority."""
        ours, theirs = Authority(), Authority()
        port = self.node(lambda parcel: [True, True], tls=ours.issue())
        self.assertEqual([True, True], await self.way(port, credentials=Credentials(tls=ours.issue())).hand(1, PARCEL))
        for credentials in (Credentials(tls=theirs.issue()), None):
            self.assertEqual("UNAVAILABLE", await self.refused(self.way(port, credentials=credentials)))

    def test_not_shown(self) -> None:
        """Credentials do not show up where somebody prints them."""
        self.assertNotIn("secret", repr(Credentials(token="secret", tls=(b"secret", b"secret", b"secret"))))


class Authority:
    """Issues certificates for loopback."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self.certificate = self._sign(self.name, self.key, ca=True)

    def issue(self) -> tuple[bytes, bytes, bytes]:
        """Authority, certificate and key in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")]), key, ca=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        pem = serialization.Encoding.PEM
        return self.certificate.public_bytes(pem), certificate.public_bytes(pem), private

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, ca: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if not ca:
            loopback = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
            builder = builder.add_extension(loopback, critical=False)
        return builder.sign(self.key, hashes.SHA256())
