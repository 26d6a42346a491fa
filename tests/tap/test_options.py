"""`--instance` on the command line of both commands."""

from __future__ import annotations

import io
import sys

from imconnect.tap import imbusiness
from imconnect.tap.options import Options
from tests.support import TestCase

#: What several gateways on one machine need.
TOGETHER = ("redis.url=redis://r:6379/0", "business.database=mysql+pymysql://db/im")


class InstanceTests(TestCase):
    def parsed(self, *words: str, kind: type[Options] = Options, settings: tuple[str, ...] = TOGETHER) -> Options:
        options = kind()
        options.parseOptions(["--env", "dev", *(part for text in settings for part in ("--set", text)), *words])
        return options

    def refused(self, *words: str, **more: tuple[str, ...]) -> str:
        """The one line on stderr."""
        self.patch(sys, "stderr", stream := io.StringIO())
        self.assertEqual(self.assertRaises(SystemExit, self.parsed, *words, **more).code, 1)
        self.assertEqual(stream.getvalue().count("\n"), 1)
        return stream.getvalue()

    def test_it_shares_the_port(self) -> None:
        """Unless somebody says that it should not; and the only one of a machine does not."""
        two = self.parsed("--instance", "2").configuration
        self.assertEqual((two.node.id, two.http.port, two.server.reuse_port), (3, 10022, True))
        alone = self.parsed("--instance", "2", "--set", "server.reuse_port=false").configuration
        self.assertFalse(alone.server.reuse_port)
        self.assertFalse(self.parsed().configuration.server.reuse_port)

    def test_mistakes(self) -> None:
        """One line that names the option, or what else is needed."""
        self.assertIn("--instance: expected a whole number", self.refused("--instance", "two"))
        self.assertIn("server.reuse_port: expected a redis.url", self.refused("--instance", "1", settings=()))

    def test_imbusiness(self) -> None:
        """Only its HTTP port matters, and it needs no Redis for it."""
        options = self.parsed("--instance", "1", kind=imbusiness.Options, settings=())
        self.assertEqual((options.configuration.http.port, options.configuration.server.reuse_port), (10013, False))
