"""The client could be a package of its own."""

from __future__ import annotations

import ast
from pathlib import Path

import imconnect.rocketmq
from tests.support import TestCase

ALLOWED = ("imconnect.rocketmq", "twisted", "attrs")


class ImportTests(TestCase):
    """What it stands on."""

    def test_nothing_of_the_house(self) -> None:
        """Twisted, attrs and the standard library; no reactor of its own choosing, no asyncio, no threads."""
        for path in sorted(Path(imconnect.rocketmq.__file__).parent.glob("*.py")):
            for name in _imported(ast.parse(path.read_text())):
                with self.subTest(path.name, name=name):
                    self.assertTrue(name.startswith(ALLOWED) or not name.startswith(("imconnect", "tests")), name)
                    for banned in ("twisted.internet.reactor", "twisted.internet.threads", "asyncio", "threading"):
                        self.assertFalse(name.startswith(banned), name)


def _imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found
