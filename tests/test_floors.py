"""The house keeps its floors: who may import whom (why: docs/decisions/0003-floors.md)."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.support import TestCase

ROOT = Path(__file__).parent.parent

#: Package or module below imconnect -> floor. Imports go down, or stay on the floor.
FLOORS = {
    "errors": 0, "model": 0, "wire": 0, "events": 0, "observe": 0,
    "core": 1,
    "handlers": 2, "business": 2,
    "backends": 3, "rocketmq": 3,
    "edge": 4,
    "service": 5, "config": 5,
    "tap": 6, "cli": 6, "client": 6,
}  # fmt: skip
#: What the floors 0 to 2 know nothing of: drivers, the reactor and threads.
NOT_BELOW_3 = (
    "autobahn", "grpc", "redis", "rocketmq", "sqlalchemy", "pymysql", "sqlite3", "yaml", "alembic",
    "threading", "concurrent", "multiprocessing", "asyncio",
    "twisted.internet.reactor", "twisted.internet.threads",
)  # fmt: skip


class Import(NamedTuple):
    """One imported name and where."""

    path: Path
    line: int
    module: str  # the importing module: imconnect.core.hub
    name: str  # what it imports: imconnect.model, or imconnect.model.Message
    late: bool  # inside a function

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.name}"


def module_of(path: Path) -> str:
    """imconnect/core/__init__.py -> imconnect.core."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_of(module: str) -> int | None:
    """The floor of imconnect.NAME..., where NAME may have a suffix: client_link is on the floor of client."""
    parts = module.split(".")
    if parts[0] != "imconnect" or len(parts) < 2:
        return None
    return FLOORS.get(parts[1], FLOORS.get(parts[1].partition("_")[0]))


def below(name: str, module: str) -> bool:
    """Whether `name` is this module, or something in it."""
    return name == module or name.startswith(f"{module}.")


def imports_of(source: str, path: Path) -> Iterator[Import]:
    """Every import of a module, also those inside functions."""
    module = module_of(path)
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]

    def walk(node: ast.AST, late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(path, child.lineno, module, alias.name, late) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                above = ".".join(package[: len(package) - child.level + 1]) if child.level else ""
                base = ".".join(part for part in (above, child.module) if part)
                yield Import(path, child.lineno, module, base, late)
                yield from (Import(path, child.lineno, module, f"{base}.{each.name}", late) for each in child.names)
            else:
                function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from walk(child, late or function)

    yield from walk(ast.parse(source), False)


def all_modules() -> list[Path]:
    """Every module of imconnect, relative to the root."""
    return [path.relative_to(ROOT) for path in sorted((ROOT / "imconnect").rglob("*.py"))]


@cache
def all_imports() -> list[Import]:
    """Every import of every module that was written by hand."""
    paths = [path for path in all_modules() if not path.stem.endswith(("_pb2", "_pb2_grpc"))]
    return [each for path in paths for each in imports_of((ROOT / path).read_text(encoding="utf-8"), path)]


def up(each: Import) -> bool:
    """An import of a higher floor, or between backends and edge."""
    mine, other = floor_of(each.module), floor_of(each.name)
    return mine is not None and other is not None and (other > mine or (mine == 4 and other == 3))


def foreign(each: Import) -> bool:
    """A driver, the reactor or threads on the floors that know none."""
    mine = floor_of(each.module)
    return mine is not None and mine <= 2 and any(below(each.name, banned) for banned in NOT_BELOW_3)


def early_reactor(each: Import) -> bool:
    """The global reactor at module level."""
    return not each.late and below(each.name, "twisted.internet.reactor")


def knows_the_tree(each: Import) -> bool:
    """The configuration read below the composition root."""
    mine = floor_of(each.module)
    return mine is not None and mine < 6 and below(each.name, "imconnect.config") and "config" not in each.module


def generated(each: Import) -> bool:
    """A generated protobuf module outside wire."""
    return any(part.endswith("_pb2") for part in each.name.split(".")) and not below(each.module, "imconnect.wire")


def at_home(each: Import) -> bool:
    """The RocketMQ client knowing anything of imconnect but itself."""
    inside = below(each.module, "imconnect.rocketmq")
    return inside and below(each.name, "imconnect") and not below(each.name, "imconnect.rocketmq")


class FloorTests(TestCase):
    """On the real tree."""

    def check_none(self, broken: Callable[[Import], bool]) -> None:
        """No import breaks this rule."""
        self.assertTrue(all_imports())
        self.assertEqual([str(each) for each in all_imports() if broken(each)], [])

    def test_every_module_is_on_a_floor(self) -> None:
        """A new package has to say where it belongs."""
        modules = [module_of(path) for path in all_modules()]
        self.assertEqual([each for each in modules if each != "imconnect" and floor_of(each) is None], [])

    def test_imports_go_down(self) -> None:
        """And backends and edge never know each other."""
        self.check_none(up)

    def test_the_lower_floors_know_no_driver(self) -> None:
        """No socket, thread, database or reactor below the backends."""
        self.check_none(foreign)

    def test_no_reactor_at_module_level(self) -> None:
        """Importing a module must not choose a reactor."""
        self.check_none(early_reactor)

    def test_only_the_root_reads_the_configuration(self) -> None:
        """Everything else takes plain arguments."""
        self.check_none(knows_the_tree)

    def test_generated_classes_stay_in_wire(self) -> None:
        """What protobuf makes is wire's business."""
        self.check_none(generated)

    def test_the_rocketmq_client_stands_alone(self) -> None:
        """It could be a package of its own."""
        self.check_none(at_home)


class RuleTests(TestCase):
    """The rules themselves catch what they are for."""

    def found(self, path: str, source: str) -> set[str]:
        """Names of the rules that some import of this module breaks."""
        rules = (up, foreign, early_reactor, knows_the_tree, generated, at_home)
        imports = list(imports_of(source, Path(path)))
        return {rule.__name__ for rule in rules if any(rule(each) for each in imports)}

    def test_what_is_allowed(self) -> None:
        """Down, sideways on a floor, and late where nothing else is said."""
        self.assertEqual(self.found("imconnect/core/hub.py", "from imconnect.model import Message"), set())
        self.assertEqual(self.found("imconnect/core/hub.py", "from . import ports"), set())
        self.assertEqual(self.found("imconnect/tap.py", "def f():\n  from twisted.internet import reactor"), set())
        self.assertEqual(self.found("imconnect/config/rules.py", "from imconnect.config.tree import Config"), set())
        self.assertEqual(self.found("imconnect/tap_business.py", "from imconnect.config import load"), set())

    def test_what_is_caught(self) -> None:
        """Every form of import, also a late one."""
        for path, source, rule in (
            ("imconnect/core/hub.py", "from imconnect.edge import websocket", "up"),
            ("imconnect/core/hub.py", "from ..edge import websocket", "up"),
            ("imconnect/core/__init__.py", "from .. import tap", "up"),
            ("imconnect/core/hub.py", "def f():\n  import imconnect.backends.memory", "up"),
            ("imconnect/backends/memory.py", "import imconnect.edge", "up"),
            ("imconnect/edge/http.py", "from imconnect import backends", "up"),
            ("imconnect/business/apply.py", "from sqlalchemy import select", "foreign"),
            ("imconnect/core/hub.py", "def f():\n  from twisted.internet import reactor", "foreign"),
            ("imconnect/backends/x.py", "from twisted.internet import reactor", "early_reactor"),
            ("imconnect/backends/x.py", "if True:\n  import twisted.internet.reactor", "early_reactor"),
            ("imconnect/service/x.py", "from imconnect.config import load", "knows_the_tree"),
            ("imconnect/core/hub.py", "from imconnect.wire import im_pb2", "generated"),
            ("imconnect/rocketmq/frames.py", "from imconnect.errors import Unavailable", "at_home"),
        ):
            self.assertIn(rule, self.found(path, source), source)
