"""What `twistd imbusiness` refuses, of what it consists, and what it says about itself."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from imconnect.config import Config
from imconnect.config.tree import Business, Http, Rocketmq
from imconnect.config.tree import Node as NodeConfig
from imconnect.errors import ConfigError
from imconnect.service import OrderedService
from imconnect.tap.imbusiness import Options, add_parts
from imconnect.tap.listening import bind
from tests.support import TestCase


class Recording:
    """As far as an OrderedService is filled."""

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}

    def add(self, name: str, part: Any, *, start_within: float = 30.0, stop_within: float = 10.0) -> None:
        self.parts[name] = part


class OptionsTests(TestCase):
    """The command line."""

    def test_defaults(self) -> None:
        """Its HTTP port is its own; what only imbusiness can do is not refused."""
        options = Options()
        options.parseOptions(
            ["--env", "dev", "--set", "rocketmq.server_addr=mq:9876", "--set", "business.database=sqlite:////x/y.db",
             "--set", "business.gateways=[g:9090]"]
        )  # fmt: skip
        self.assertEqual(options.configuration.http.port, 10003)
        self.assertEqual(options.configuration.business.gateways, ("g:9090",))

    def test_mistakes(self) -> None:
        """One line that names the key."""
        for settings, key in (
            (["rocketmq.server_addr=mq"], "rocketmq.server_addr"),
            (["rocketmq.server_addr=mq:9876"], "business.database"),
            (["business.gateways=[g]"], "business.gateways"),
        ):
            stderr = io.StringIO()
            self.patch(sys, "stderr", stderr)
            words = [word for setting in settings for word in ("--set", setting)]
            self.assertRaises(SystemExit, Options().parseOptions, ["--env", "dev", *words])
            self.assertTrue(stderr.getvalue().startswith(f"{key}: "), stderr.getvalue())
            self.assertEqual(stderr.getvalue().count("\n"), 1)


class WiringTests(TestCase):
    """Before anything runs."""

    def setUp(self) -> None:
        self.database = Path(self.mktemp()).absolute()

    def config(self, **more: Any) -> Config:
        sections: dict[str, Any] = {
            "rocketmq": Rocketmq(server_addr="127.0.0.1:1"),
            "business": Business(database=f"sqlite:///{self.database}", gateways=("127.0.0.1:2",)),
            "http": Http(port=0),
            **more,
        }
        return Config(data_dir="never-made", **sections)

    def parts(self, config: Config) -> dict[str, Any]:
        service: Any = Recording()
        add_parts(service, config, Clock())
        self.addCleanup(service.parts["http"].stop)
        return dict(service.parts)

    def test_parts_in_their_order(self) -> None:
        """Who is asked first is there first; the consumer comes when what it needs is there. No file is made."""
        parts = self.parts(self.config())
        self.assertEqual(list(parts), ["http", "database", "pushback", "consumer", "jobs", "ready"])
        self.assertFalse(self.database.exists())
        self.assertFalse(Path("never-made").exists())

    def test_what_is_missing(self) -> None:
        """Without a queue, without a database, or with a port that is taken: the key is named."""
        taken = bind("127.0.0.1", 0, "x")
        self.addCleanup(taken.close)
        for config, key in (
            (self.config(rocketmq=Rocketmq()), "rocketmq.server_addr"),
            (self.config(business=Business()), "business.database"),
            (self.config(profile="xzll", business=Business(database="sqlite:///x.db")), "business.gateways"),
            (self.config(http=Http(port=taken.getsockname()[1])), "http.port"),
        ):
            service: Any = OrderedService(Clock(), lambda part, failure: None)  # type: ignore[arg-type]
            error = self.assertRaises(ConfigError, add_parts, service, config, Clock())
            self.assertEqual(error.key, key)

    def test_two_on_one_machine(self) -> None:
        """With the same settings but for the port: members of the group by different names, the same after a restart."""

        def name(config: Config) -> str:
            parts = self.parts(config)
            state = parts["ready"]._state
            parts["http"].stop()
            return str(state.stats()["client_id"])

        free = bind("127.0.0.1", 0, "x")
        port = free.getsockname()[1]
        free.close()
        one, again = (name(self.config(http=Http(port=port))) for _ in range(2))
        other = name(self.config())
        self.assertEqual(one, again)
        self.assertNotEqual(one, other)
        self.assertTrue(one.endswith(f"@imbusiness-{port}"), one)
        named = name(self.config(http=Http(port=port), node=NodeConfig(name="b7")))
        self.assertTrue(named.endswith(f"@b7-{port}"), named)

    def test_ready(self) -> None:
        """503 while starting or stopping, and why; then 200, with what is away."""
        parts = self.parts(self.config())
        ready, state = parts["ready"], parts["ready"]._state
        self.assertEqual(state.ready(), (False, {"reason": "starting"}))
        parts["database"].away = "no answer"
        self.assertEqual(state.ready(), (False, {"reason": "waiting for the database"}))
        parts["database"].away = ""
        ready.start()
        self.assertEqual(state.ready(), (True, {"degraded": ["queue"]}))
        ready.stop()
        self.assertEqual(state.ready(), (False, {"reason": "stopping"}))
        json.dumps(state.stats())
