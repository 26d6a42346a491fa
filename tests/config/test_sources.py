"""Layers of configuration and what goes wrong in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from imconnect.config import Config, find_config, load, parse_override, printed, unsupported
from imconnect.config.sources import SHIPPED, merge, nested, parse
from imconnect.errors import ConfigError
from tests.support import TestCase


class LoadTests(TestCase):
    """`load`: defaults < file < environment < --set."""

    def write(self, text: str | bytes) -> str:
        """A file with this text."""
        path = Path(self.mktemp())
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def load(self, text: str | bytes, *sets: str, environ: Mapping[str, str] | None = None) -> Config:
        """The configuration of a file with this text."""
        return load(self.write(text), None, [parse_override(each) for each in sets], environ or {}).config

    def refused(self, text: str | bytes, *sets: str, environ: Mapping[str, str] | None = None) -> str:
        """The one line that `load` answers."""
        line = str(self.assertRaises(ConfigError, self.load, text, *sets, environ=environ))
        self.assertNotIn("\n", line)
        return line

    def test_an_empty_file_is_the_defaults(self) -> None:
        """Also one with only comments in it."""
        self.assertEqual(self.load(""), Config())
        self.assertEqual(self.load("# nothing\n"), Config())

    def test_later_layers_win(self) -> None:
        """File over default, environment over file, --set over environment; neighbours are left alone."""
        text = "server: {port: 1, path: /a}\nnode: {id: 2}\nhttp: {port: 4}"
        config = self.load(text, "server.port=3", environ={"IMCONNECT__SERVER__PORT": "2", "IMCONNECT__NODE__ID": "9"})
        self.assertEqual((config.server.port, config.server.path, config.node.id), (3, "/a", 9))
        self.assertEqual((config.http.port, config.drain.rate), (4, 200))

    def test_values_are_yaml(self) -> None:
        """Lists and sections too; the last of several wins."""
        config = self.load("", "retry.delays=[1, 2]", "limits={burst: 5, connections: 6}", "limits.burst=7")
        self.assertEqual((config.retry.delays, config.limits.burst, config.limits.connections), ((1, 2), 7, 6))

    def test_words_are_words(self) -> None:
        """YAML 1.1 would read `off` as false, 010 as 8 and 1:30 as 90."""
        self.assertEqual(
            parse("[off, no, y, 010, 1:30, 2026-01-01]", ""), ["off", "no", "y", "010", "1:30", "2026-01-01"]
        )
        self.assertEqual(parse("[true, -7, 1.5, 1e3, ~, 0]", ""), [True, -7, 1.5, 1000.0, None, 0])
        self.assertIn(
            "business.mode: expected embedded, or a rocketmq.server_addr", self.refused("", "business.mode=off")
        )

    def test_nothing_is_an_empty_text(self) -> None:
        """`REDIS=` in an environment file means no Redis."""
        text = "business: {database: 'sqlite:///x.db'}"
        self.assertEqual(self.load(text, environ={"IMCONNECT__BUSINESS__DATABASE": ""}).business.database, "")
        self.assertEqual(self.load(text, "business.database=").business.database, "")

    def test_defaults_of_the_caller(self) -> None:
        """imbusiness has another http.port by default, which anybody may override."""
        caller = {"http": {"port": 10003}}
        self.assertEqual(load(self.write(""), None, [], {}, caller).config.http.port, 10003)
        self.assertEqual(load(self.write("http: {port: 5}"), None, [], {}, caller).config.http.port, 5)

    def test_defaults_of_the_profile(self) -> None:
        """xzll listens for gRPC on 9091, unless told otherwise."""
        self.assertEqual(self.load("profile: xzll").grpc.port, 9091)
        self.assertEqual(self.load("", "profile=xzll", "grpc.port=1").grpc.port, 1)
        self.assertEqual(self.load("").grpc.port, 9090)

    def test_mistakes_say_where_they_are(self) -> None:
        """The key, what was expected, and which layer said it."""
        path = self.write("server: {prot: 1}")
        error = self.assertRaises(ConfigError, load, path, None, [], {})
        self.assertEqual(str(error), f"server.prot: unknown key; did you mean port? ({path})")
        environ = {"IMCONNECT__SERVER__PORT": "70000"}
        self.assertEqual(
            self.refused("", environ=environ),
            "server.port: expected 0 to 65535, got 70000 (IMCONNECT__SERVER__PORT)",
        )
        self.assertEqual(self.refused("", "server.port=x"), "server.port: expected a whole number, got text (--set)")
        self.assertIn("auth.mode: expected jwt", self.refused("server: {host: 0.0.0.0}"))

    def test_overrides_through_a_value_that_is_no_section(self) -> None:
        """A path that leads through a number is a mistake like any other."""
        self.assertIn("server.port: expected a whole number", self.refused("", "server.port=5", "server.port.x=5"))
        self.assertIn("unknown key", self.refused("", "a..b=5"))

    def test_bad_yaml_names_the_line(self) -> None:
        """And is one line, whatever is in the file."""
        self.assertRegex(self.refused("a: 1\nb: [1,\nc: {"), r":3: not YAML: ")
        self.assertRegex(self.refused("server:\n  port: 1\n  port: 2\n"), r":3: not YAML: port is given twice")
        self.assertIn("not YAML", self.refused(b"a: \xff"))
        self.assertIn("not YAML", self.refused("a: \x00"))
        self.assertIn("not YAML", self.refused("a: !!python/name:os.system"))
        self.assertIn("not YAML", self.refused("[" * 5000))
        self.assertIn("expected keys at the top", self.refused("- 1\n- 2"))
        self.assertIn("IMCONNECT__NODE__ID: not YAML", self.refused("", environ={"IMCONNECT__NODE__ID": "[1"}))
        self.assertIn("--set node.id: not YAML", self.refused("", "node.id={"))

    def test_a_missing_file(self) -> None:
        """Names the file and why; a folder is none."""
        path = self.mktemp()
        error = self.assertRaises(ConfigError, load, path, None, [], {})
        self.assertEqual(str(error), f"{path}: cannot be read: No such file or directory")
        self.assertRaises(ConfigError, load, str(SHIPPED), None, [], {})

    def test_printed_is_read_back(self) -> None:
        """What --check prints is a configuration."""
        config = self.load("server: {port: 5}\nnode: {name: 'no'}")
        self.assertEqual(self.load(printed(config)), config)

    def test_printed_says_who(self) -> None:
        """Behind each key that somebody gave, a section on the command line too; it is read back all the same."""
        path = self.write("node: {name: \"two\\nlines\"}\nhttp: {port: 6}")
        loaded = load(path, None, [("retry", "{delays: [1, 2]}"), ("http.port", "7")], {"IMCONNECT__DRAIN__RATE": "8"})
        page = printed(loaded.config, loaded.origins)
        for line in ("  delays:  # --set", "  port: 7  # --set", "  rate: 8  # IMCONNECT__DRAIN__RATE", f"  # {path}"):
            self.assertIn(f"\n{line}\n", page)
        self.assertEqual(page.count("#"), 5)  # of retry its other key too
        self.assertEqual(self.load(page), loaded.config)

    @given(st.text())
    def test_any_text_is_a_configuration_or_one_line(self, text: str) -> None:
        """Nothing but ConfigError comes out of a value, whatever it is."""
        try:
            value = parse(text, "--set node.name")
        except ConfigError as error:
            self.assertNotIn("\n", str(error))
        else:
            self.assertEqual(merge({"node": {"id": 1}}, nested("node.name", value))["node"]["id"], 1)


class ParseOverrideTests(TestCase):
    """`--set key.path=VALUE`."""

    def test_the_first_equals_sign_divides(self) -> None:
        """Values may hold more of them."""
        self.assertEqual(parse_override("business.database=mysql://h/d?a=b"), ("business.database", "mysql://h/d?a=b"))

    def test_what_is_no_setting(self) -> None:
        """Is refused."""
        for text in ("server.port", "=5", ""):
            self.assertRaises(ConfigError, parse_override, text)


class FindConfigTests(TestCase):
    """`--env NAME`."""

    def test_the_first_folder_wins(self) -> None:
        """./configs before /etc/imconnect before the shipped copy."""
        near, far = Path(self.mktemp()), Path(self.mktemp())
        near.mkdir()
        far.mkdir()
        (far / "dev.yaml").touch()
        self.assertEqual(find_config("dev", [near, far]), str(far / "dev.yaml"))
        (near / "dev.yaml").touch()
        self.assertEqual(find_config("dev", [near, far]), str(near / "dev.yaml"))

    def test_an_unknown_environment(self) -> None:
        """Is one line that says where was looked; a path is not a name."""
        for env in ("staging", "../dev", "", "dev\n"):
            error = self.assertRaises(ConfigError, find_config, env)
            self.assertEqual(error.key, "--env")
            self.assertNotIn("\n", str(error))

    def test_the_environment_names_it(self) -> None:
        """IMCONNECT_ENV, unless --env does; dev without either."""
        self.assertEqual(load(None, None, [], {"IMCONNECT_ENV": "test"}).config.server.port, 0)
        self.assertEqual(load(None, "dev", [], {"IMCONNECT_ENV": "test"}).config.server.port, 10001)
        self.assertEqual(load(None, None, [], {}).config.server.port, 10001)

    def test_what_is_shipped_is_valid(self) -> None:
        """This version can do it, and it opens no door."""
        for env in ("dev", "test", "prod"):
            config = load(str(SHIPPED / f"{env}.yaml"), None, [], {}).config
            unsupported(config)
            self.assertEqual(config.auth, Config().auth)
