"""A process that follows the document its configuration came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, globalLogPublisher

from imconnect.backends import nacos as backend
from imconnect.config import COPY, Config, load, unsupported
from imconnect.errors import ConfigError
from imconnect.tap import following, imbusiness
from imconnect.tap.following import Following
from tests.fake_nacos import FakeNacos
from tests.live.processes import until
from tests.support import ReactorTestCase


class FollowingTests(ReactorTestCase):
    """With real threads, against the fake."""

    timeout = 30.0

    async def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.server = FakeNacos().start()
        self.addCleanup(self.server.stop)
        for module, name, seconds in ((backend, "ANSWER", 0.5), (backend, "HOLD", 1.0), (following, "AGAIN", 0.01), (following, "SELDOM", 0.02)):
            self.patch(module, name, seconds)
        self.lines: list[tuple[LogLevel, str]] = []
        globalLogPublisher.addObserver(self._seen)
        self.addCleanup(globalLogPublisher.removeObserver, self._seen)
        self.folder = Path(self.mktemp()).absolute()
        self.taken: list[Config] = []

    def _seen(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "imconnect.tap.following":
            self.lines.append((event["log_level"], event["log_format"].format(**event)))

    def following(self, *sets: tuple[str, str]) -> Following:
        """Started."""
        path = Path(self.mktemp())
        path.write_text(f"nacos: {{server_addr: '{self.server.address}'}}\ndata_dir: {self.folder}")
        loaded = load(str(path), None, sets, {}, keep=True)
        assert loaded.watched is not None
        part = Following(self.reactor, loaded, loaded.watched, unsupported, self.taken.append)
        part.start()
        self.addCleanup(part.stop)
        return part

    async def said(self, words: str) -> LogLevel:
        """Until it is in the log."""
        found: list[LogLevel] = await until(
            self.reactor, lambda: [level for level, line in self.lines if words in line], lambda: f"{words}: {self.lines}"
        )
        return found[0]

    async def changed(self) -> Config:
        """The next configuration that is taken."""
        await until(self.reactor, lambda: self.taken, lambda: f"taken: {self.lines}")
        return self.taken.pop()

    async def test_change(self) -> None:
        """With the layers above it as they were; kept as the last good copy; keys of no use are named once."""
        self.server.publish("limits: {burst: 2}\napp: {name: x}")
        self.following(("http.port", "7"))
        await self.said("of no use here, they are the Go gateway's: app.name")
        self.server.publish("limits: {burst: 3}\nhttp: {port: 8}\nnode: {name: 上海}\napp: {name: y, version: 1}")
        config = await self.changed()
        self.assertEqual((config.limits.burst, config.http.port, config.node.name), (3, 7, "上海"))
        await self.said("of no use here, they are the Go gateway's: app.version")
        self.assertIn("上海", (self.folder / COPY).read_text(encoding="utf-8"))

    async def test_broken(self) -> None:
        """Not YAML, a mistake, or what this version cannot do: one line with the key, nothing taken, the copy stays; a
        good one is taken again."""
        self.server.publish("limits: {burst: 2}")
        self.following()
        copy = (self.folder / COPY).read_text()
        for text, words in (
            ("limits: {burst: 0}", "limits.burst: expected 1 or more, got 0 (nacos im-connect-go.yaml)"),
            ("a: ]", "nacos im-connect-go.yaml: not YAML"),
            ("auth: {enabled: true}", "auth.mode: expected open"),
        ):
            self.server.publish(text)
            self.assertEqual(await self.said(f"a new configuration is refused, the old one stays: {words}"), LogLevel.error)
        self.assertEqual((self.taken, (self.folder / COPY).read_text()), ([], copy))
        self.assertEqual(len([line for _, line in self.lines if "refused" in line]), 3)
        self.server.publish("limits: {burst: 4}")
        self.assertEqual((await self.changed()).limits.burst, 4)

    async def test_deleted(self) -> None:
        """Nothing changes but that it is said, once."""
        self.server.publish("limits: {burst: 2}")
        self.following()
        self.server.publish(None)
        await self.said("the configuration stays as it is: nacos.data_id: ")
        asked = len(self.server.asked)
        await until(self.reactor, lambda: len(self.server.asked) > asked + 6, "asked again")
        self.assertEqual(len([line for _, line in self.lines if "stays as it is" in line]), 1)
        self.server.publish("limits: {burst: 3}")
        self.assertEqual((await self.changed()).limits.burst, 3)
        await self.said("Nacos answers again")

    async def test_away(self) -> None:
        """Said once; what changed meanwhile is seen when it is back."""
        self.server.publish("limits: {burst: 2}")
        self.following()
        self.server.stop()
        await self.said("the configuration stays as it is: Nacos at")
        self.server.publish("limits: {burst: 3}")
        self.server.start()
        self.assertEqual((await self.changed()).limits.burst, 3)

    async def test_started_from_the_copy(self) -> None:
        """What Nacos has is taken when it is back."""
        self.server.publish("limits: {burst: 2}")
        self.following()
        self.server.stop()
        self.following()
        await self.said("the configuration is the last good copy")
        self.server.publish("limits: {burst: 3}")
        self.server.start()
        self.assertEqual((await self.changed()).limits.burst, 3)

    async def test_stop(self) -> None:
        """In the middle of a long wait; nothing is taken after it."""
        self.patch(backend, "HOLD", 30.0)
        self.server.publish("limits: {burst: 2}")
        part = self.following()
        await until(self.reactor, lambda: ("POST", "/nacos/v1/cs/configs/listener") in self.server.asked, "asked")
        before = self.reactor.seconds()
        await part.stop()
        self.assertLess(self.reactor.seconds() - before, 1)
        self.server.publish("limits: {burst: 3}")
        self.assertEqual(self.taken, [])


class ImbusinessTests(ReactorTestCase):
    """The other command that follows."""

    def test_its_own_copy_and_rules(self) -> None:
        """It may share a data_dir with a gateway; a document without what it needs is refused."""
        server = FakeNacos().start()
        self.addCleanup(server.stop)
        folder = Path(self.mktemp()).absolute()
        good = "rocketmq: {server_addr: 'mq:9876'}\nbusiness: {database: 'sqlite:////x/y.db'}\n"
        server.publish(good)
        options = imbusiness.Options()
        options.parseOptions(["--env", "dev", "--set", f"nacos.server_addr={server.address}", "--set", f"data_dir={folder}",
                              "--set", "http.port=0"])  # fmt: skip
        self.assertEqual([path.name for path in folder.iterdir()], ["nacos-last-imbusiness.yaml"])
        service: Any = imbusiness.makeService(options, MemoryReactorClock())
        part = service._children[0].part
        self.addCleanup(service._children[1].part.stop)
        self.assertIsInstance(part, Following)
        watched = part._watched
        part._check(watched.layers.loaded(watched.document).config)
        self.assertRaises(ConfigError, part._check, Config())
