"""The command line around the gateway."""

from __future__ import annotations

import yaml
from click.testing import CliRunner

from imconnect.cli.main import main
from tests.support import TestCase


class CheckConfigTests(TestCase):
    """`imconnect check-config`."""

    def test_prints_the_effective_configuration(self) -> None:
        """What it prints is YAML that says what would be used, without secrets."""
        result = CliRunner().invoke(
            main, ["check-config", "--env", "test", "--set", "node.id=7", "--set", "auth.jwt_secret=hush-hush"]
        )
        self.assertEqual(result.exit_code, 0, result.output)
        values = yaml.safe_load(result.stdout)
        self.assertEqual((values["node"]["id"], values["server"]["port"]), (7, 0))
        self.assertNotIn("hush-hush", result.output)

    def test_a_mistake_is_one_line(self) -> None:
        """On stderr, with status 1 and nothing on stdout."""
        for setting in ("server.prot=1", "nonsense", "rocketmq.server_addr=127.0.0.1:9876"):
            result = CliRunner().invoke(main, ["check-config", "--set", setting])
            self.assertEqual((result.exit_code, result.stdout), (1, ""))
            self.assertEqual(result.stderr.count("\n"), 1)

    def test_an_unknown_command_is_refused(self) -> None:
        """With click's own status 2."""
        self.assertEqual(CliRunner().invoke(main, ["chatt"]).exit_code, 2)
