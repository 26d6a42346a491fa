"""The layer that comes from Nacos."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from imconnect.backends import nacos as backend
from imconnect.config import COPY, Loaded, load, printed
from imconnect.config import nacos as layer
from imconnect.errors import ConfigError
from tests.fake_nacos import FakeNacos
from tests.support import TestCase


class NacosTests(TestCase):
    """`load` with `nacos.server_addr`."""

    def setUp(self) -> None:
        self.server = FakeNacos().start()
        self.addCleanup(self.server.stop)
        self.patch(backend, "ANSWER", 0.5)
        self.folder = Path(self.mktemp()).absolute()
        self.copy = self.folder / COPY

    def load(self, text: str = "", *sets: str, environ: Mapping[str, str] | None = None, **options: Any) -> Loaded:
        """With a file of this text that knows where Nacos is."""
        path = Path(self.mktemp())
        path.write_text(f"nacos: {{server_addr: '{self.server.address}'}}\ndata_dir: {self.folder}\n{text}")
        given = [tuple(each.split("=", 1)) for each in sets]
        return load(str(path), None, given, environ or {}, **{"keep": True, **options})  # type: ignore[arg-type]

    def refused(self, *args: str, **options: Any) -> str:
        line = str(self.assertRaises(ConfigError, self.load, *args, **options))
        self.assertNotIn("\n", line)
        return line

    def test_between_file_and_environment(self) -> None:
        """And who said what is known."""
        self.server.publish("http: {port: 2}\nlimits: {burst: 2}\ndrain: {rate: 2}\nserver: {max_connections: 2}")
        loaded = self.load(
            "http: {port: 1, host: localhost}\nlimits: {burst: 1}", "limits.burst=4", environ={"IMCONNECT__DRAIN__RATE": "3"}
        )
        config = loaded.config
        self.assertEqual((config.http.port, config.http.host), (2, "localhost"))
        self.assertEqual((config.drain.rate, config.limits.burst, config.limits.connections), (3, 4, 2))
        origins = [loaded.origins[key] for key in ("http.port", "drain.rate", "limits.burst", "limits.connections")]
        said = "nacos im-connect-go.yaml"
        self.assertEqual(origins, [said, "IMCONNECT__DRAIN__RATE", "--set", f"{said}, server.max_connections"])
        page = printed(config, loaded.origins)
        self.assertIn("\n  port: 2  # nacos im-connect-go.yaml\n", page)
        self.assertIn("\n  burst: 4  # --set\n", page)
        self.assertEqual(yaml.safe_load(page), yaml.safe_load(printed(config)))

    def test_its_address_from_anywhere_but_itself(self) -> None:
        """`--set` and the environment too; a document does not say where it is."""
        self.server.publish("nacos: {server_addr: 'x:1'}\nprofile: xzll", "other.yaml", "g", "n")
        loaded = self.load("", "nacos.data_id=other.yaml", environ={"IMCONNECT__NACOS__GROUP": "g", "IMCONNECT__NACOS__NAMESPACE": "n"})
        self.assertEqual((loaded.config.nacos.server_addr, loaded.config.grpc.port), (self.server.address, 9091))
        self.assertEqual(loaded.notes, ("nacos other.yaml: of no use here, they are the Go gateway's: nacos.server_addr",))

    def test_off(self) -> None:
        """Without an address nobody is asked and nothing is kept."""
        path = Path(self.mktemp())
        path.write_text(f"data_dir: {self.folder}")
        self.assertIsNone(load(str(path), None, [], {}, keep=True).watched)
        self.assertFalse(self.folder.exists())

    def test_mistakes_in_it(self) -> None:
        """The key, and that it is in Nacos; no copy is kept of such a document."""
        for text, line in (
            ("server: {prot: 1}", "server.prot: unknown key; did you mean port? (nacos im-connect-go.yaml)"),
            ("server: {max_connections: 0}", "limits.connections: expected 1 or more, got 0 (nacos im-connect-go.yaml, server.max_connections)"),
            ("im: {netty: {nettyPort: 1}}", "im: unknown key"),
            ("limits: {ping_interval: 90}", "limits.ping_interval: expected less than"),
            ("a: [", "nacos im-connect-go.yaml"),
        ):
            self.server.publish(text)
            self.assertIn(line, self.refused())
        self.assertFalse(self.copy.exists())

    def test_mistakes_before_it(self) -> None:
        """An address that is none; half a login; no library is asked for then."""
        self.assertIn("nacos.server_addr: expected host:port", self.refused("", "nacos.server_addr=nacos"))
        self.assertIn("nacos.password: expected a value", self.refused("", "nacos.username=im"))
        self.assertIn("nacos.username: expected a value", self.refused("", "nacos.password=im"))
        self.assertEqual(self.server.asked, [])

    def test_refusals(self) -> None:
        """No such document, or not let in: not a case for the copy."""
        self.server.publish("limits: {burst: 2}")
        self.load()
        self.server.publish(None)
        self.assertIn("nacos.data_id: ", self.refused())
        self.server.users["im"] = "right"
        line = self.refused("", "nacos.username=im", "nacos.password=wr0ng")
        self.assertTrue(line.startswith("nacos.password: "), line)
        self.assertNotIn("wr0ng", line)

    def test_the_last_good_copy(self) -> None:
        """Used while Nacos is away, and said so; for this user's eyes only; unicode survives."""
        self.server.publish("node: {name: 上海}\nrocketmq: {secret_key: k, access_key: a}\napp: {name: x}")
        first = self.load()
        self.assertEqual(stat.S_IMODE(os.stat(self.copy).st_mode), 0o600)
        self.assertEqual(os.listdir(self.folder), [COPY])
        before = self.copy.read_bytes()
        self.server.stop()
        again = self.load()
        self.assertEqual((again.config, self.copy.read_bytes()), (first.config, before))
        self.assertEqual(again.origins["node.name"], str(self.copy))
        self.assertIn("does not answer: the configuration is the last good copy", again.notes[0])
        self.assertNotIn("secret", " ".join(again.notes))

    def test_a_newer_document_replaces_the_copy(self) -> None:
        """As a whole."""
        for text in ("limits: {burst: 2}", "limits: {burst: 3}"):
            self.server.publish(text)
            self.load()
        self.assertEqual(self.copy.read_text().splitlines()[1:], ["limits: {burst: 3}"])

    def test_hanging(self) -> None:
        """Like away, after a time that has an end."""
        self.server.publish("limits: {burst: 2}")
        self.load()
        self.server.trickling = True
        self.patch(layer, "START", 0.3)
        self.assertEqual(self.load().config.limits.burst, 2)

    def test_away_without_a_copy(self) -> None:
        """One line. A copy of another document is none."""
        self.server.publish("limits: {burst: 2}")
        self.server.publish("limits: {burst: 3}", "other.yaml")
        self.load("", "nacos.data_id=other.yaml")
        self.server.stop()
        line = self.refused()
        self.assertIn("nacos.server_addr: expected a server that answers: ", line)
        self.assertIn("is a copy of another document", line)
        self.copy.unlink()
        self.assertIn(f"there is no earlier copy ({self.copy})", self.refused())
        self.copy.write_bytes(b"\xff")
        self.assertIn("the copy cannot be read", self.refused())

    def test_nothing_is_kept_for_a_look(self) -> None:
        """`--check` and the commands beside the gateway."""
        self.server.publish("limits: {burst: 2}")
        self.assertEqual(self.load(keep=False).config.limits.burst, 2)
        self.assertFalse(self.folder.exists())

    def test_a_copy_that_cannot_be_kept(self) -> None:
        """Is said, and no reason not to start."""
        self.server.publish("limits: {burst: 2}")
        self.folder.write_text("in the way")
        self.assertIn("no copy of the configuration can be kept", self.load().notes[0])

    def test_instances(self) -> None:
        """Each has its own copy."""
        self.server.publish("node: {id: 7}")
        loaded = self.load(instance=2)
        self.assertEqual((loaded.config.node.id, os.listdir(self.folder / "2")), (9, [COPY]))
