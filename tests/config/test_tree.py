"""What the keys take, and the rules between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import yaml

from imconnect.config import Config, masked, unsupported
from imconnect.config.doc import page
from imconnect.config.keys import is_loopback
from imconnect.config.rules import check_rules
from imconnect.config.structure import structure
from imconnect.config.tree import Auth, Business, Limits, Outbox, Redis, Rocketmq, Server, Tls
from imconnect.errors import ConfigError
from tests.support import TestCase

ROOT = Path(__file__).parent.parent.parent


class StructureTests(TestCase):
    """A mapping becomes the tree, or the first mistake is named."""

    def check_refused(self, text: str, key: str, expected: str) -> None:
        """This YAML is refused for this key with words that contain `expected`."""
        error = self.assertRaises(ConfigError, structure, Config, yaml.safe_load(text))
        self.assertEqual(error.key, key)
        self.assertIn(expected, error.message)
        self.assertNotIn("\n", str(error))

    def test_nothing_is_the_defaults(self) -> None:
        """Every key has a default, and every default is valid by its own rule."""
        self.assertEqual(structure(Config, {}), Config())
        self.assertEqual(structure(Config, masked(Config())), Config())

    def test_values_arrive(self) -> None:
        """In nested sections, and lists as tuples."""
        config = structure(Config, {"server": {"port": 0, "tls": {"key": "k"}}, "retry": {"delays": [1, 2.5]}})
        self.assertEqual((config.server.port, config.server.tls.key), (0, "k"))
        self.assertEqual(config.retry.delays, (1, 2.5))

    def test_an_empty_section_says_nothing(self) -> None:
        """`server:` with every line below it commented out."""
        self.assertEqual(structure(Config, {"server": None}).server, Server())

    def test_unknown_keys(self) -> None:
        """At every depth, named with their path and the nearest known one."""
        self.check_refused("{sever: {}}", "sever", "did you mean server?")
        self.check_refused("{server: {prot: 1}}", "server.prot", "did you mean port?")
        self.check_refused("{rocketmq: {producer: {zzz: 1}}}", "rocketmq.producer.zzz", "known here: group_name")
        self.check_refused("{1: 2}", "1", "unknown key")
        self.check_refused('{"a\\nb": 2}', r"'a\nb'", "unknown key")

    def test_an_unknown_key_comes_before_other_mistakes(self) -> None:
        """It is most likely the reason for them."""
        self.check_refused("{server: {port: x, prot: 1}}", "server.prot", "unknown key")

    def test_wrong_types(self) -> None:
        """Types are strict: no text for a number, no boolean for a number, no number for a text."""
        for text, key, expected in (
            ("{server: {port: '5'}}", "server.port", "a whole number, got text"),
            ("{server: {port: true}}", "server.port", "a whole number, got true or false"),
            ("{server: {port: 5.0}}", "server.port", "a whole number, got a fraction"),
            ("{server: {port: null}}", "server.port", "a whole number, got nothing"),
            ("{server: {reuse_port: 1}}", "server.reuse_port", "true or false, got a number"),
            ("{drain: {rate: true}}", "drain.rate", "a number, got true or false"),
            ("{drain: {rate: .inf}}", "drain.rate", "a number"),
            ("{drain: {rate: .nan}}", "drain.rate", "a number"),
            ("{data_dir: 5}", "data_dir", "text, got a number; put it in quotes"),
            ("{server: 5}", "server", "a section of keys, got a number"),
            ("{server: [1]}", "server", "a section of keys, got a list"),
            ("{retry: {delays: abc}}", "retry.delays", "a list, got text"),
            ("{retry: {delays: [1, x]}}", "retry.delays", "a number, got text"),
            ("{data_dir: 2026-01-01}", "data_dir", "text, got date"),
        ):
            self.check_refused(text, key, expected)

    def test_out_of_range(self) -> None:
        """Named with the range and the value."""
        for text, key, expected in (
            ("{node: {id: 1024}}", "node.id", "0 to 1023, got 1024"),
            ("{server: {port: -1}}", "server.port", "0 to 65535, got -1"),
            ("{server: {path: websocket}}", "server.path", "a path that starts with /"),
            ("{limits: {unacknowledged: 1}}", "limits.unacknowledged", "2 or more"),
            ("{retry: {delays: [5, 0]}}", "retry.delays", "numbers above 0"),
            ("{drain: {rate: 0}}", "drain.rate", "more than 0"),
            ("{auth: {mode: shut}}", "auth.mode", "one of open, jwt, got 'shut'"),
            ("{rocketmq: {server_addr: '127.0.0.1'}}", "rocketmq.server_addr", "host:port"),
            ("{rocketmq: {server_addr: 'a:1;b:99999'}}", "rocketmq.server_addr", "host:port"),
            ("{business: {gateways: ['a']}}", "business.gateways", "host:port"),
            ("{data_dir: ''}", "data_dir", "not empty"),
            ("{server: {host: ''}}", "server.host", "a host name"),
        ):
            self.check_refused(text, key, expected)

    def test_secrets_are_not_quoted(self) -> None:
        """An error about a secret says what was expected, not what was there."""
        error = self.assertRaises(ConfigError, structure, Config, {"redis": {"url": "hush-hush"}})
        self.assertNotIn("hush", str(error))

    def test_several_name_servers(self) -> None:
        """The seed's list, separated by semicolons."""
        text = "10.0.0.1:9876;mq.example:9876;[::1]:9876"
        self.assertEqual(structure(Config, {"rocketmq": {"server_addr": text}}).rocketmq.server_addr, text)


class RuleTests(TestCase):
    """Rules between keys."""

    def check_broken(self, key: str, config: Config) -> None:
        """This configuration is refused, for this key."""
        self.assertEqual(self.assertRaises(ConfigError, check_rules, config).key, key)

    def test_the_defaults_hold(self) -> None:
        """And this version can do all they say."""
        check_rules(Config())
        unsupported(Config())

    def test_open_on_the_network_is_refused(self) -> None:
        """Unless somebody says that it is meant."""
        for host in ("0.0.0.0", "::", "192.0.2.1", "chat.example"):
            self.check_broken("auth.mode", Config(server=Server(host=host)))
            check_rules(Config(server=Server(host=host), auth=Auth(allow_open_on_network=True)))
            check_rules(Config(server=Server(host=host), auth=Auth(mode="jwt")))
        for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
            check_rules(Config(server=Server(host=host)))
            self.assertTrue(is_loopback(host))

    def test_somebody_must_read_the_events(self) -> None:
        """business.mode off needs a queue."""
        self.check_broken("business.mode", Config(business=Business(mode="off")))

    def test_one_database_for_several_processes(self) -> None:
        """SQLite of one's own is for the embedded queue alone."""
        self.check_broken("business.database", Config(rocketmq=Rocketmq(server_addr="mq:9876")))
        self.check_broken("business.database", Config(redis=Redis(url="redis://r:6379/0")))
        queue = Rocketmq(server_addr="mq:9876")
        check_rules(Config(rocketmq=queue, business=Business(database="mysql+pymysql://u:p@db/im")))

    def test_waiting_for_a_broker_needs_one(self) -> None:
        """The embedded queue is on this machine, like the outbox."""
        self.check_broken("outbox.ack_after", Config(outbox=Outbox(ack_after="broker")))
        queue = Rocketmq(server_addr="mq:9876")
        check_rules(Config(outbox=Outbox(ack_after="broker"), rocketmq=queue, business=Business(database="mysql://db/im")))

    def test_xzll_with_the_java_business_needs_no_database(self) -> None:
        """Only profile xzll with mode off may go without."""
        queue = Rocketmq(server_addr="mq:9876")
        check_rules(Config(profile="xzll", rocketmq=queue, business=Business(mode="off")))
        self.check_broken("business.database", Config(rocketmq=queue, business=Business(mode="off")))
        self.check_broken("business.database", Config(profile="xzll", rocketmq=queue))

    def test_what_goes_together(self) -> None:
        """Halves of pairs are refused, naming the missing half."""
        self.check_broken("server.tls.key", Config(server=Server(tls=Tls(certificate="c.pem"))))
        self.check_broken("rocketmq.secret_key", Config(rocketmq=Rocketmq(access_key="a")))
        self.check_broken("limits.ping_interval", Config(limits=Limits(ping_interval=90)))

    def test_a_shared_port_needs_redis(self) -> None:
        """Else people behind one port could not find each other."""
        shared = Server(reuse_port=True)
        self.check_broken("server.reuse_port", Config(server=shared))
        check_rules(Config(server=shared, redis=Redis(url="redis://r:6379/0"), business=Business(database="mysql://db/im")))

    def test_what_this_version_cannot_do(self) -> None:
        """Is refused by name rather than ignored."""
        for key, config in (
            ("auth.mode", Config(auth=Auth(mode="jwt"))),
            ("server.tls.certificate", Config(server=Server(tls=Tls(certificate="c", key="k")))),
        ):
            self.assertEqual(self.assertRaises(ConfigError, unsupported, config).key, key)


class MaskedTests(TestCase):
    """What `--check` prints."""

    def test_secrets_are_masked(self) -> None:
        """Whole secrets, and of URLs the password alone."""
        config = Config(
            auth=Auth(jwt_secret="hush-1"),
            rocketmq=Rocketmq(secret_key="hush-2"),
            business=Business(
                database="mysql+pymysql://im:hush-3@x@db:3306/im?charset=utf8mb4&ssl_key_password=hush-4"
            ),
            redis=Redis(url="redis://:hush-5@r:6379/0"),
        )
        plain = masked(config)
        self.assertNotIn("hush", str(plain))
        self.assertEqual(
            plain["business"]["database"],
            "mysql+pymysql://im:********@db:3306/im?charset=utf8mb4&ssl_key_password=********",
        )
        self.assertEqual(plain["redis"]["url"], "redis://:********@r:6379/0")

    def test_the_rest_is_as_it_is(self) -> None:
        """Empty secrets are seen to be empty; lists are lists."""
        plain = masked(Config(business=Business(database="sqlite:///x.db")))
        self.assertEqual(plain["auth"]["jwt_secret"], "")
        self.assertEqual(plain["retry"]["delays"], [5, 30, 300])
        self.assertEqual(plain["business"]["database"], "sqlite:///x.db")


class DocumentTests(TestCase):
    """docs/configuration.md."""

    def test_is_up_to_date(self) -> None:
        """`make docs` would change nothing."""
        self.assertEqual((ROOT / "docs" / "configuration.md").read_text(encoding="utf-8"), page())

    def test_every_key_is_documented(self) -> None:
        """With its path and a sentence; none is forgotten."""

        def paths(kind: Any, above: str) -> list[str]:
            found = []
            for field in attrs.fields(kind):
                self.assertTrue(field.metadata["doc"], field.name)
                section = attrs.has(type(getattr(kind(), field.name)))
                name = f"{above}{field.name}"
                found += paths(type(getattr(kind(), field.name)), f"{name}.") if section else [name]
            return found

        for path in paths(Config, ""):
            self.assertIn(f"| `{path}` |", page())
