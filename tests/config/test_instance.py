"""Which values differ between the gateways of one machine."""

from __future__ import annotations

import socket

from imconnect.config import Config
from imconnect.config.instance import instance_of, number_of
from imconnect.config.tree import Grpc, Http, Node
from imconnect.errors import ConfigError
from tests.support import TestCase


class InstanceTests(TestCase):
    def refused(self, config: Config, number: int) -> str:
        error = self.assertRaises(ConfigError, instance_of, config, number)
        self.assertEqual(error.key, "--instance")
        return error.message

    def test_what_is_derived(self) -> None:
        """Node id, name, folder, and the ports that only one process can have; the WebSocket port is everybody's."""
        two = instance_of(Config(data_dir="/srv/im", grpc=Grpc(advertise="[2001:db8::1]:9090")), 2)
        self.assertEqual((two.node.id, two.node.name), (3, f"{socket.gethostname()}-2"))
        self.assertEqual(two.data_dir, "/srv/im/2")
        self.assertEqual((two.http.port, two.grpc.port), (10022, 9110))
        self.assertEqual(two.grpc.advertise, "[2001:db8::1]:9110")
        self.assertEqual(two.server, Config().server)

    def test_what_was_said_is_kept(self) -> None:
        """A name is a name's beginning, a free port stays free, nothing advertised is nothing advertised."""
        seven = instance_of(Config(node=Node(id=0, name="gate"), http=Http(port=0), grpc=Grpc(port=0)), 7)
        self.assertEqual((seven.node.id, seven.node.name, seven.http.port, seven.grpc.port), (7, "gate-7", 0, 0))
        self.assertEqual(seven.grpc.advertise, "")

    def test_instances_differ(self) -> None:
        """In everything that two of them cannot have."""
        several = [instance_of(Config(), number) for number in range(1, 20)]
        own = [(config.node.id, config.node.name, config.data_dir) for config in several]
        for values in zip(*own, strict=True):
            self.assertEqual(len(set(values)), len(several))
        ports = {port for config in several for port in (config.http.port, config.grpc.port)}
        self.assertEqual(len(ports), 2 * len(several))

    def test_what_does_not_fit(self) -> None:
        """A node id or a port beyond the end; the Java services, which know one port for all."""
        self.assertIn("at most 1022", self.refused(Config(), 1023))
        self.assertIn("http.port would be 65540", self.refused(Config(http=Http(port=65530)), 1))
        self.assertIn("grpc.advertise", self.refused(Config(grpc=Grpc(advertise="h:65530")), 1))
        self.assertIn("profile_rows.java_grpc", self.refused(Config(profile="xzll"), 1))

    def test_numbers(self) -> None:
        """From 1 on: the first is not the one without the option."""
        self.assertEqual(number_of("12"), 12)
        for text in ("0", "-1", "1.5", "x", "", "²"):
            self.assertEqual(self.assertRaises(ConfigError, number_of, text).key, "--instance")
