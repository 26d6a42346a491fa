"""TLS and access control, against the fake."""

from __future__ import annotations

import datetime
import ipaddress
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import ssl
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory

from imconnect.rocketmq.client import Client
from imconnect.rocketmq.codes import Outcome
from imconnect.rocketmq.connection import Credentials
from imconnect.rocketmq.errors import RocketMQError
from imconnect.rocketmq.messages import Message
from imconnect.rocketmq.producer import Producer
from tests.rocketmq.fake_broker import FakeCluster
from tests.rocketmq.support import ClusterTestCase
from tests.support import ReactorTestCase


def real_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def certificate() -> bytes:
    """A fresh key and a certificate for 127.0.0.1, signed by itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rocketmq")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM) + private


class TlsTests(ReactorTestCase):
    """Every connection is a TLS one, over real sockets."""

    timeout = 30

    def setUp(self) -> None:
        self.reactor = real_reactor()
        pem = certificate()
        self.trusted = ssl.Certificate.loadPEM(pem)
        self.cluster = FakeCluster(self.reactor, {"broker-a": ""})
        self.broker = self.cluster.brokers["broker-a"]
        self.cluster.topics["T"] = 1
        options = ssl.PrivateCertificate.loadPEM(pem).options()
        self.ports = [
            self.reactor.listenSSL(0, Factory.forProtocol(made), options, interface="127.0.0.1")
            for made in (self.cluster.name_server, self.broker.peer)
        ]
        self.names, self.broker.address = (f"127.0.0.1:{port.getHost().port}" for port in self.ports)
        for port in self.ports:
            port.factory.noisy = False
        self.clients: list[Client] = []

    async def close(self) -> None:
        for client in self.clients:
            await client.close(1.0)
        await gatherResults([port.stopListening() for port in self.ports])

    def tearDown(self) -> Any:
        return Deferred.fromCoroutine(self.close())

    def producer(self, tls: Any) -> Producer:
        client = Client(self.reactor, self.names, tls=tls)
        self.clients.append(client)
        return Producer(client, "P", timeout=5.0)

    async def test_a_certificate_that_is_trusted(self) -> None:
        """Name server and broker are who they say: messages are stored."""
        producer = self.producer(lambda host: ssl.optionsForClientTLS(host, trustRoot=self.trusted))
        (queue,) = await producer.queues("T")
        (receipt,) = await producer.send(queue, [Message(body=b"x" * 100_000)])
        self.assertEqual(receipt.outcome, Outcome.STORED)

    async def test_a_stranger(self) -> None:
        """A certificate that nobody vouches for: nothing is sent, and it is said so soon."""
        producer = self.producer(lambda host: ssl.optionsForClientTLS(host))
        try:
            await producer.queues("T")
        except RocketMQError:
            self.assertEqual(self.cluster.seen, [])
        else:
            self.fail("a stranger was believed")


class AccessTests(ClusterTestCase):
    """Every request is signed."""

    def test_signed(self) -> None:
        """The fake checks each signature anew; a wrong secret stores nothing."""
        right = Credentials("admin", "s3cret")
        self.cluster.credentials = right
        self.assertTrue(self.send(Producer(self.client(credentials=right), "P"), b"x", b"y")[0].stored)
        open_client = self.client(credentials=Credentials("admin", "wrong"))
        self.cluster.credentials = None
        self.play(open_client.route("T"))
        self.cluster.credentials = right
        (receipt,) = self.send(Producer(open_client, "P"), b"z")
        self.assertEqual((receipt.outcome, receipt.code), (Outcome.RETRY, 16))
        self.assertEqual(self.broker.bodies("T", 0), [b"x", b"y"])
