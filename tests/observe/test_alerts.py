"""configs/alerts.yml: rules that Prometheus takes, about metrics that there are, each with its line in the manual."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.observe.test_metrics import complete, families
from tests.support import TestCase

ROOT = Path(__file__).parents[2]
FILE = ROOT / "configs" / "alerts.yml"
#: A metric's name, and the labels that are asked for.
SELECTOR = re.compile(r"\b(imconnect_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
DURATION = re.compile(r"[1-9][0-9]*[smhd]")


def rules() -> list[dict[str, Any]]:
    """Of all groups."""
    return [rule for group in yaml.safe_load(FILE.read_text("utf-8"))["groups"] for rule in group["rules"]]


def labels_by_metric() -> dict[str, set[str]]:
    """What a scrape shows: a histogram under the names of its parts."""
    shown: dict[str, set[str]] = {}
    for name, family in families(complete()).items():
        for sample in family.samples:
            shown.setdefault(sample.name, set()).update(sample.labels)
        shown.setdefault(name, set())
    return shown


class AlertTests(TestCase):
    def test_are_rule_groups(self) -> None:
        """Names are unique; every rule has an expression, how bad it is and one sentence."""
        document = yaml.safe_load(FILE.read_text("utf-8"))
        self.assertEqual(set(document), {"groups"})
        groups = document["groups"]
        self.assertEqual(len({group["name"] for group in groups}), len(groups))
        self.assertEqual(len({rule["alert"] for rule in rules()}), len(rules()))
        for group in groups:
            self.assertEqual(set(group), {"name", "rules"})
        for rule in rules():
            self.assertEqual(set(rule) - {"for"}, {"alert", "expr", "labels", "annotations"}, rule["alert"])
            self.assertTrue(DURATION.fullmatch(rule.get("for", "1s")), rule["alert"])
            self.assertIn(rule["labels"]["severity"], ("warning", "critical"))
            self.assertTrue(rule["annotations"]["summary"])
            self.assertEqual(rule["expr"].count("("), rule["expr"].count(")"), rule["alert"])

    def test_name_what_is_there(self) -> None:
        """Every metric and label of an expression is shown by a scrape; the words of `degraded` are explained."""
        shown = labels_by_metric()
        manual = (ROOT / "docs" / "operations.md").read_text("utf-8")
        asked = 0
        for rule in rules():
            for name, selector in SELECTOR.findall(rule["expr"]):
                asked += 1
                self.assertIn(name, shown, rule["alert"])
                self.assertEqual(set(LABEL.findall(selector)) - shown[name], set(), rule["alert"])
                if name == "imconnect_degraded":
                    for what in re.findall(r"\w+", selector.partition('"')[2]):
                        self.assertIn(f"| `{what}` |", manual)
        self.assertGreater(asked, 10)

    def test_reasons_are_known(self) -> None:
        """A value that no code counts under would never fire."""
        reasons = {
            sample.labels["reason"]
            for sample in families(complete())["imconnect_sends_refused_total"].samples
            if "reason" in sample.labels
        }
        for rule in rules():
            self.assertLessEqual(set(re.findall(r'\breason="(\w+)"', rule["expr"])), reasons)

    def test_what_to_do(self) -> None:
        """docs/operations.md has one line for each, and for no other."""
        manual = (ROOT / "docs" / "operations.md").read_text("utf-8")
        lines = re.findall(r"^\| `(Imconnect\w+)` \| .+ \|$", manual, re.MULTILINE)
        self.assertEqual(lines, [rule["alert"] for rule in rules()])

    def test_promtool(self) -> None:
        """Prometheus' own judgement, where it is installed."""
        promtool = shutil.which("promtool")
        if promtool is not None:
            checked = subprocess.run(
                [promtool, "check", "rules", str(FILE)], check=False, capture_output=True, text=True, timeout=30
            )
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
