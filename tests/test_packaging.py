"""What is installed is what is in the tree: plugin, configurations, generated modules; and CI's last line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from importlib import metadata
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

from tests.support import TestCase

ROOT = Path(__file__).parent.parent


class WheelTests(TestCase):
    """A wheel built from the tree."""

    def build(self) -> zipfile.ZipFile:
        """Build it from a copy, because setuptools writes into the tree."""
        source, target = Path(self.mktemp()), Path(self.mktemp()).absolute()
        for name in ("imconnect", "configs", "twisted"):
            ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
            shutil.copy(ROOT / name, source / name)
        code = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-c", code, target], cwd=source, capture_output=True, text=True, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        wheel = zipfile.ZipFile(next(target.glob("*.whl")))
        self.addCleanup(wheel.close)
        return wheel

    def test_holds_everything_that_runs(self) -> None:
        """Every module, the plugin, the configurations and the protocol; nothing of ours inside Twisted's packages."""
        wheel = self.build()
        names = set(wheel.namelist())
        for path in (ROOT / "imconnect").rglob("*"):
            if path.suffix in (".py", ".proto", ".pyi", ".typed"):
                self.assertIn(str(path.relative_to(ROOT)), names)
        self.assertIn("twisted/plugins/imconnect_plugin.py", names)
        self.assertEqual([name for name in names if re.fullmatch(r"twisted/(plugins/)?__init__\.py", name)], [])
        self.assertEqual([name for name in names if name.startswith("tests")], [])
        for env in ("dev", "test", "prod"):
            self.assertEqual(wheel.read(f"imconnect/configs/{env}.yaml"), (ROOT / f"configs/{env}.yaml").read_bytes())
        [about] = [wheel.read(name).decode() for name in names if name.endswith("/METADATA")]
        self.assertIn("License-Expression: Apache-2.0", about)


class TreeTests(TestCase):
    """The checkout itself."""

    def test_twisted_folders_are_no_packages(self) -> None:
        """An __init__.py there would hide Twisted."""
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])

    def test_the_plugins_are_listed_without_the_application(self) -> None:
        """twistd lists what it may run at every start: nothing of imconnect is imported for that."""
        code = (
            "import sys; from twisted.plugin import getPlugins;"
            "from twisted.application.service import IServiceMaker;"
            "names = {p.tapname: p.module for p in getPlugins(IServiceMaker)};"
            "print(names['imconnect'], names['imbusiness'], 'imconnect' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertEqual(done.stdout, "imconnect.tap imconnect.tap.imbusiness False\n", done.stderr)

    def test_requirements_are_met_here(self) -> None:
        """The lower bounds of setup.cfg are versions that the tests run on."""
        parser = ConfigParser()
        parser.read(ROOT / "setup.cfg")
        lines = parser["options"]["install_requires"].split("\n")
        for name, bound in (line.split(" >= ") for line in lines if line):
            have = [int(part) for part in re.findall(r"\d+", metadata.version(name.partition("[")[0]))]
            self.assertGreaterEqual(have, [int(part) for part in bound.split(".")], name)


class UnitFileTests(TestCase):
    """systemd's patience and ours."""

    def test_systemd_waits_longer_than_the_drain(self) -> None:
        """TimeoutStopSec is more than drain.deadline and its 5 s; the gateway may open a file per connection."""
        from imconnect.config import Config

        for name in ("imconnect", "imconnect@", "imbusiness"):
            self.assertGreater(float(self.unit(name)["TimeoutStopSec"]), Config().drain.deadline + 5)
        self.assertGreater(int(self.unit("imconnect")["LimitNOFILE"]), Config().limits.connections)

    def test_both_units(self) -> None:
        """Each runs its own command, tells systemd when it works, and is shut in as tightly as the other."""
        for name in ("imconnect", "imbusiness"):
            unit = self.unit(name)
            self.assertEqual(unit["ExecStart"], f"/opt/imconnect/venv/bin/twistd -n --pidfile= {name} --env prod")
            self.assertEqual((unit["Type"], unit["KillMode"]), ("notify", "mixed"))
        gateway, business = self.unit("imconnect"), self.unit("imbusiness")
        # One waits for its log, the other for the database.
        self.assertEqual((gateway["TimeoutStartSec"], business["TimeoutStartSec"]), ("300", "infinity"))
        own = (
            "ExecStart",
            "TimeoutStartSec",
            "LimitNOFILE",
            "StateDirectory",
            "StateDirectoryMode",
            "WorkingDirectory",
        )
        alike = [{name: text for name, text in unit.items() if name not in own} for unit in (gateway, business)]
        self.assertEqual(*alike)

    def test_several_on_one_machine(self) -> None:
        """The template is the unit of the only one but for what the number changes, and all instances are one user's."""
        one, template = self.unit("imconnect"), self.unit("imconnect@")
        own = {"User": "imconnect", "ExecStart": f"{one['ExecStart']} --instance %i"}
        folders = {name: f"{one[name]}/%i" for name in ("StateDirectory", "WorkingDirectory")}
        self.assertEqual(template, {**one, **own, **folders})

    def unit(self, name: str) -> dict[str, str]:
        """The [Service] section of a unit file."""
        parser = ConfigParser(interpolation=None)
        parser.optionxform = str  # type: ignore[assignment]
        parser.read(ROOT / "configs" / f"{name}.service")
        return dict(parser["Service"])


class ClosingLineTests(TestCase):
    """`.ci/trial` says in the end what trial said, in the words that CI reads."""

    def setUp(self) -> None:
        loader = SourceFileLoader("ci_trial", str(ROOT / ".ci" / "trial"))
        spec = spec_from_loader("ci_trial", loader)
        assert spec is not None
        self.module: Any = module_from_spec(spec)
        before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        self.addCleanup(setattr, sys, "dont_write_bytecode", before)
        loader.exec_module(self.module)

    def test_counts(self) -> None:
        """Every word of trial's summary is counted once."""
        for summary, line in (
            ("PASSED (successes=22)", (22, 0, 0)),
            ("PASSED (skips=2, expectedFailures=1, successes=3)", (4, 0, 2)),
            ("FAILED (skips=1, failures=1, errors=2, unexpectedSuccesses=1, successes=3)", (3, 4, 1)),
            ("FAILED (errors=1)", (0, 1, 0)),
        ):
            self.assertEqual(self.module.counts_of(summary), line)

    def test_no_test_is_no_success(self) -> None:
        """trial that ran nothing, or died, has no closing line."""
        for summary in ("PASSED", "", "Ran 0 tests in 0.000s"):
            self.assertIsNone(self.module.counts_of(summary))

    def test_halves_are_everything(self) -> None:
        """No test module is in both halves of `make test`, or in none."""
        first, second = self.module.halves()
        names = [name for name in (*first, *second) if not name.startswith("tests.live.")]
        live = [name for name in (*first, *second) if name.startswith("tests.live.")]
        packages = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")} - {"live"}
        modules = {path.stem for path in (ROOT / "tests").glob("test_*.py")}
        self.assertEqual(sorted(names), sorted(f"tests.{name}" for name in packages | modules))
        self.assertEqual(
            sorted(live), sorted(f"tests.live.{path.stem}" for path in (ROOT / "tests" / "live").glob("test_*.py"))
        )

    def run_it(self, source: str) -> tuple[int, str]:
        """(exit status, last line) of .ci/trial on a test module with this text."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "test_it.py").write_text(source)
        done = subprocess.run(
            [sys.executable, ROOT / ".ci" / "trial", "test_it"], cwd=folder, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout.rstrip().split("\n")[-1]

    def test_the_status_is_trials(self) -> None:
        """Also where trial dies in the middle: there is no closing line then, and no status 0."""
        head = (
            "import os\nfrom twisted.trial.unittest import SynchronousTestCase as T\nclass X(T):\n  def test_a(self): "
        )
        self.assertEqual(self.run_it(head + "pass"), (0, "1 passed, 0 failed, 0 skipped"))
        self.assertEqual(self.run_it(head + "self.fail()"), (1, "0 passed, 1 failed, 0 skipped"))
        status, last = self.run_it(head + "os._exit(0)")
        self.assertEqual((status, "passed" in last), (1, False))
        status, last = self.run_it(head + "os.kill(os.getpid(), 9)")
        self.assertEqual((status, "passed" in last), (137, False))
