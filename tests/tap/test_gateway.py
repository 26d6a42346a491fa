"""Of what `twistd imconnect` consists in each of its modes, and what it says about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from imconnect.config import Config
from imconnect.config.tree import Business, Grpc, Http, Rocketmq, Server
from imconnect.config.tree import Node as NodeConfig
from imconnect.tap import gateway
from imconnect.tap.gateway import add_parts, listens_on_grpc
from imconnect.tap.live import Live
from imconnect.tap.options import Options
from tests.support import TestCase

QUEUE = Rocketmq(server_addr="127.0.0.1:1")
SERVER = "mysql+pymysql://im:im@127.0.0.1:1/im"


class Recording:
    """As far as an OrderedService is filled."""

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}
        self.live = Live(Config())

    def add(self, name: str, part: Any, *, start_within: float = 30.0, stop_within: float = 10.0) -> None:
        self.parts[name] = part


class GatewayTestCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()

    def config(self, **sections: Any) -> Config:
        ports: dict[str, Any] = {"server": Server(port=0), "http": Http(port=0), "grpc": Grpc(port=0)}
        return Config(data_dir=str(self.folder / "var"), **ports, **sections)

    def parts(self, config: Config) -> dict[str, Any]:
        """Wired, with the lock and the ports let go of at the end."""
        service: Any = Recording()
        add_parts(service, config, Clock())
        self.addCleanup(self.let_go, service.parts)
        return dict(service.parts)

    def let_go(self, parts: dict[str, Any]) -> None:
        for name in ("http", "websocket", "data_dir"):
            parts[name].stop()


class WiringTests(GatewayTestCase):
    """Before anything runs."""

    def test_everything_in_one_process(self) -> None:
        """The database is there before the log is, and the jobs tell people after the recovery."""
        parts = self.parts(self.config())
        self.assertEqual(
            list(parts),
            ["http", "data_dir", "database", "store", "outbox", "relay", "jobs", "clients", "websocket", "ready"],
        )

    def test_business_elsewhere(self) -> None:
        """Only the readers of the database are here, and gRPC listens."""
        parts = self.parts(self.config(rocketmq=QUEUE, business=Business(mode="off", database=SERVER)))
        self.assertEqual(
            list(parts),
            ["http", "data_dir", "producer", "store", "outbox", "relay", "grpc", "clients", "websocket", "ready"],
        )
        self.addCleanup(parts["grpc"].stop)

    def test_consuming_too(self) -> None:
        """What imbusiness consists of is in this process, after the recovery, and gRPC does not listen."""
        parts = self.parts(self.config(rocketmq=QUEUE, business=Business(database=SERVER)))
        before = ["http", "data_dir", "producer", "database", "store", "outbox", "relay"]
        self.assertEqual(list(parts), [*before, "jobs", "consumer", "clients", "websocket", "ready"])

    def test_leaving(self) -> None:
        """The queues are given back while clients are asked to leave, not after it."""
        parts = self.parts(self.config(rocketmq=QUEUE, business=Business(database=SERVER)))
        left: list[bool] = []
        self.patch(parts["consumer"], "_leave", lambda: self.recorded(left))
        parts["ready"].stop()
        self.assertEqual(left, [True])

    async def recorded(self, done: list[bool]) -> None:
        done.append(True)

    def test_two_on_one_machine(self) -> None:
        """Members of the group by different names, the same after a restart."""

        def name(port: int, node: str = "") -> str:
            service: Any = Recording()
            config = self.config(rocketmq=QUEUE, business=Business(database=SERVER), node=NodeConfig(name=node))
            add_parts(service, config, Clock())
            bound = service.parts["http"].port
            self.let_go(service.parts)
            client_id = str(service.parts["ready"].state.stats()["client_id"])
            self.assertTrue(client_id.endswith(f"@{node or 'imconnect'}-{bound}"), client_id)
            return client_id

        self.assertNotEqual(name(0), name(0))
        self.assertIn("@gate-", name(0, "gate"))

    def test_what_is_waited_for(self) -> None:
        """The log is in the database before clients come: of a file always, of a server while it answers."""
        for sections, settles in (
            ({}, "always"),
            ({"business": Business(database=f"sqlite:///{self.folder}/a.db")}, "always"),
            ({"business": Business(database=SERVER)}, "if there"),
            ({"rocketmq": QUEUE, "business": Business(database=SERVER)}, "never"),
        ):
            parts = self.parts(self.config(**sections))
            self.assertEqual(parts["relay"].settles, settles)
            self.let_go(parts)


class StateTests(GatewayTestCase):
    def test_degraded(self) -> None:
        """By name what is away: the embedded queue is the database."""
        for sections, taker in (({}, "database"), ({"rocketmq": QUEUE, "business": Business(database=SERVER)}, "queue")):
            parts = self.parts(self.config(**sections))
            state = parts["ready"].state
            self.assertEqual(state.ready(), (False, {"reason": "starting"}))
            state.phase = "ready"
            # The consumer is not connected to anything yet.
            quiet = [] if taker == "database" else ["queue"]
            self.assertEqual(state.ready(), (True, {"degraded": quiet}))
            state._node.relay.last_error = "no answer"
            self.assertEqual(state.ready(), (True, {"degraded": [taker]}))
            parts["database"].away = "no answer"
            self.assertEqual(state.ready()[1]["degraded"], list(dict.fromkeys([taker, "database"])))
            self.assertEqual(state.stats()["parked_rows"], 0)
            json.dumps(state.stats())
            self.let_go(parts)


class UnusedKeysTests(GatewayTestCase):
    def names(self, *settings: str) -> list[str]:
        """The keys that the start would say something about."""
        options = Options()
        always = [f"data_dir={self.folder}/var", "server.port=0", "http.port=0"]
        words = [word for setting in (*always, *settings) for word in ("--set", setting)]
        options.parseOptions(["--env", "dev", *words])
        service: Any = Recording()

        def recording(options: Options, reactor: Any, add_parts: Any) -> Any:
            return service

        self.patch(gateway, "make_service", recording)
        gateway.makeService(options, Clock())
        found: list[str] = service.parts["settings"].names if "settings" in service.parts else []
        return found

    def test_keys_of_grpc(self) -> None:
        """Given although nothing will listen: they are named. Where it listens, or nobody gave any, nothing is said."""
        self.assertEqual(self.names(), [])
        self.assertEqual(self.names("grpc.port=9090", "business.gateways=[g:1]"), ["grpc.port", "business.gateways"])
        consuming = ("rocketmq.server_addr=mq:9876", f"business.database={SERVER}")
        self.assertEqual(self.names(*consuming, "grpc.host=0.0.0.0"), ["grpc.host"])
        self.assertEqual(self.names(*consuming, "business.mode=off", "grpc.port=5", "business.gateways=[g:1]"), [])
        self.assertEqual(self.names("grpc={port: 9090}"), ["grpc"])

    def test_when_it_listens(self) -> None:
        """When somebody else consumes."""
        self.assertFalse(listens_on_grpc(Config()))
        self.assertFalse(listens_on_grpc(Config(rocketmq=QUEUE)))
        self.assertTrue(listens_on_grpc(Config(rocketmq=QUEUE, business=Business(mode="off"))))
