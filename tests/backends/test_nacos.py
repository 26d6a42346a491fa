"""One document of a Nacos server."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from imconnect.backends import nacos
from imconnect.backends.nacos import Address, NacosDocument, in_time, md5_of
from imconnect.errors import ConfigError, Unavailable
from tests.fake_nacos import FakeNacos, closed_port
from tests.support import TestCase

PASSWORD = "s3cret/&?"


class _Lines(logging.Handler):
    """What is logged by the standard library's way."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class NacosDocumentTests(TestCase):
    """Against the fake, with the real library."""

    def setUp(self) -> None:
        self.server = FakeNacos().start()
        self.addCleanup(self.server.stop)
        self.patch(nacos, "ANSWER", 0.5)
        self.patch(nacos, "HOLD", 1.0)

    def document(self, **more: Any) -> NacosDocument:
        known = {"servers": self.server.address, "namespace": "", "group": "DEFAULT_GROUP", "data_id": "im-connect-go.yaml"}
        return NacosDocument(Address(**{**known, **more}))

    def refused(self, document: NacosDocument) -> ConfigError:
        return self.assertRaises(ConfigError, document.read)

    def test_found(self) -> None:
        """As it was published, whatever the language."""
        self.server.publish("node: {name: 上海网关 €}\n")
        self.assertEqual(self.document().read(), "node: {name: 上海网关 €}\n")

    def test_namespace_and_group(self) -> None:
        """One name may be in several places."""
        self.server.publish("a: 1")
        self.server.publish("a: 2", "x.yaml", "xzll-im", "dev_id")
        self.assertEqual(self.document(namespace="dev_id", group="xzll-im", data_id="x.yaml").read(), "a: 2")

    def test_missing(self) -> None:
        """It is said where it was looked for."""
        error = self.refused(self.document(namespace="dev_id"))
        self.assertEqual(error.key, "nacos.data_id")
        self.assertIn("no im-connect-go.yaml (group DEFAULT_GROUP, namespace dev_id)", error.message)

    def test_user(self) -> None:
        """Let in with a password; refused with a wrong one, or none. The password is in no message."""
        self.server.users["im"] = PASSWORD
        self.server.publish("a: 1")
        self.assertEqual(self.document(username="im", password=PASSWORD).read(), "a: 1")
        error = self.refused(self.document(username="im", password="wr0ng"))
        self.assertEqual(error.key, "nacos.password")
        self.assertNotIn("wr0ng", str(error))
        self.assertEqual(self.refused(self.document()).key, "nacos.username")

    def test_a_token_that_is_no_longer_good(self) -> None:
        """A server that was restarted knows no tokens: log in again, and nobody notices."""
        self.server.users["im"] = PASSWORD
        self.server.publish("a: 1")
        document = self.document(username="im", password=PASSWORD)
        document.read()
        self.server.tokens.clear()
        self.assertEqual(document.read(), "a: 1")

    def test_away(self) -> None:
        """Nobody listens, or it fails by itself."""
        self.assertRaises(Unavailable, self.document(servers=f"127.0.0.1:{closed_port()}").read)
        self.server.failing = 503
        self.assertRaises(Unavailable, self.document().read)
        self.server.failing = 418
        self.assertIn("418", str(self.assertRaises(Unavailable, self.document().read)))

    def test_the_next_server(self) -> None:
        """Of several, one is enough."""
        self.server.publish("a: 1")
        self.assertEqual(self.document(servers=f"127.0.0.1:{closed_port()},{self.server.address}").read(), "a: 1")

    def test_hanging(self) -> None:
        """It takes the question and does not answer; or so slowly that it never ends."""
        self.server.hanging.set()
        self.assertRaises(Unavailable, self.document().read)
        self.server.hanging.clear()
        self.server.trickling = True
        self.assertRaises(Unavailable, in_time, self.document().read, 0.3)

    def test_nonsense(self) -> None:
        """Not a Nacos, not text, too large: an error that says so, not a crash."""
        self.server.publish(b"\xff\xfe")
        self.assertIn("UTF-8", self.refused(self.document()).message)
        self.server.publish(b"x" * (nacos.LARGEST + 1))
        self.assertIn("at most", self.refused(self.document()).message)
        self.server.users["im"] = PASSWORD
        self.patch(FakeNacos, "find", lambda *_: b"")
        for answer in (b"[]", b"<html>"):
            self.patch(sys.modules["tests.fake_nacos"]._Handler, "_login", lambda handler, *_, say=answer: handler._answer(200, say))
            self.assertRaises(Unavailable, self.document(username="im", password=PASSWORD).read)

    def test_changes(self) -> None:
        """No other version for a while: nothing. Another one: its text, at once. Deleted: said."""
        self.server.publish("a: 1")
        document = self.document()
        self.assertIsNone(document.newer(md5_of("a: 1")))
        self.server.publish("a: 二")
        self.assertEqual(document.newer(md5_of("a: 1")), "a: 二")
        self.assertFalse(document.differs(md5_of("a: 二")))
        self.server.publish(None)
        self.assertRaises(ConfigError, document.newer, md5_of("a: 二"))

    def test_no_library(self) -> None:
        """The line says what to type."""
        self.patch(nacos.importlib, "import_module", self._no_module)
        error = self.refused(self.document())
        self.assertEqual(error.key, "nacos.server_addr")
        self.assertIn("pip install 'imconnect[nacos]'", error.message)

    def _no_module(self, name: str) -> None:
        raise ModuleNotFoundError(name)

    def test_quiet(self) -> None:
        """The library's logs, which hold tokens, go nowhere, and it leaves no file, nor a folder in the home."""
        home = Path(self.mktemp()).absolute()
        home.mkdir()
        self.patch(os, "environ", {**os.environ, "HOME": str(home)})
        handler = _Lines()
        for name in ("", "nacos", "nacos.client"):
            logger = logging.getLogger(name)
            # As if no other test had come before.
            for attribute, value in (("level", logging.DEBUG), ("propagate", True), ("handlers", [])):
                self.patch(logger, attribute, value)
            logger.manager._clear_cache()  # type: ignore[attr-defined]
        logging.getLogger().addHandler(handler)
        self.addCleanup(logging.getLogger().removeHandler, handler)
        before = set(Path.cwd().iterdir())
        self.server.users["im"] = PASSWORD
        self.server.publish("a: 1")
        document = self.document(username="im", password=PASSWORD)
        document.read()
        document.differs("")
        self.assertEqual(handler.lines, [])
        self.assertEqual((set(Path.cwd().iterdir()) - before, list(home.iterdir())), (set(), []))
        self.assertNotIn(PASSWORD, repr(document._address))
