"""The transport by its name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prometheus_client.exposition import generate_latest
from twisted.internet.task import Clock

from imconnect.backends.producer_rocketmq import RocketmqProducer
from imconnect.backends.producers import make_producer, tls_of
from imconnect.config.tree import MqTls, Rocketmq
from imconnect.core.ports import Producer
from imconnect.errors import ConfigError, Damaged
from imconnect.events.seed import SEED
from imconnect.observe.metrics import Metrics
from tests.support import TestCase


class FactoryTests(TestCase):
    """make_producer."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.folder = self.mktemp()
        os.mkdir(self.folder)

    def make(self, **options: Any) -> Producer:
        settings = Rocketmq(**{"server_addr": "127.0.0.1:9876", **options})
        return make_producer(self.clock, settings, SEED, node_id=1, data_dir=self.folder, metrics=self.metrics)

    def test_native_is_the_default(self) -> None:
        """`auto` and `native` are our own client; nothing runs and nothing is written before it is opened."""
        for transport in ("auto", "native"):
            self.assertIsInstance(self.make(transport=transport), RocketmqProducer)
        self.assertEqual((self.clock.getDelayedCalls(), os.listdir(self.folder)), ([], []))

    def test_metrics(self) -> None:
        """What the transport counts is what is shown."""
        producer: Any = self.make()
        producer.codes["215"] += 2
        producer.unproven["11"] += 3
        shown = generate_latest(self.metrics.registry).decode()
        self.assertIn('imconnect_mq_retries_total{code="215"} 2.0', shown)
        self.assertIn('imconnect_mq_unproven_total{code="11"} 3.0', shown)
        self.assertIn("imconnect_mq_in_flight 0.0", shown)

    def test_a_damaged_map(self) -> None:
        """Found at the start, before anything is sent."""
        Path(self.folder, "queues.json").write_text("{", "utf-8")
        self.assertRaises(Damaged, self.make)

    def test_what_client_python_cannot_do(self) -> None:
        """TLS and IPv6 literals: one line with the key, whether or not the library is here."""
        with self.assertRaises(ConfigError) as caught:
            self.make(transport="client-python", tls=MqTls(enabled=True))
        self.assertEqual(caught.exception.key, "rocketmq.tls.enabled")
        with self.assertRaises(ConfigError) as caught:
            self.make(transport="client-python", server_addr="[::1]:9876")
        self.assertEqual(caught.exception.key, "rocketmq.server_addr")

    def test_authorities(self) -> None:
        """No TLS, the system's authorities, or a file that must hold a certificate."""
        self.assertIsNone(tls_of(MqTls()))
        self.assertIsNotNone(tls_of(MqTls(enabled=True)))
        missing = os.path.join(self.folder, "missing.pem")
        text = Path(self.folder, "text.pem")
        text.write_text("no certificate", "utf-8")
        for path in (missing, str(text)):
            with self.assertRaises(ConfigError) as caught:
                tls_of(MqTls(enabled=True, ca=path))
            self.assertEqual(caught.exception.key, "rocketmq.tls.ca")
            self.assertIn(path, str(caught.exception))
