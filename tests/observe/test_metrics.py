"""What Prometheus is shown."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

import imconnect
from imconnect.observe.metrics import GAUGES, LABELLED, Histogram, Metrics
from tests.support import TestCase

ROOT = Path(imconnect.__file__).parent
ROW = re.compile(r"^\| `(imconnect_\w+)` \| (\w+) \| (?:`(\w+)`)? *\| (.+) \|$")


def families(metrics):
    """name as a reader of the text sees it -> family."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
    }


def samples(metrics):
    """(name, labels) -> value."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families(metrics).values()
        for sample in family.samples
    }


def complete():
    """Metrics in which every name shows at least one sample."""
    metrics = Metrics()
    for name in GAUGES:
        metrics.gauges[name] = lambda: 1.0
    for name in LABELLED:
        metrics.labelled[name] = lambda: {"one": 1.0}
    metrics.offline["gone"] = metrics.acks_ignored["unknown"] = metrics.closed[1000] = 1
    return metrics


class MetricsTests(TestCase):
    def test_everything_shown_is_documented_and_the_other_way_round(self):
        """docs/metrics.md lists exactly the names, types and labels that a scrape shows."""
        rows = map(ROW.match, (ROOT.parent / "docs" / "metrics.md").read_text("utf-8").splitlines())
        documented = {row[1]: (row[2], row[3] or "") for row in rows if row}
        shown = {}
        for name, family in families(complete()).items():
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            shown[name] = (family.type, "".join(labels))
        self.assertEqual(documented, shown)

    def test_every_gauge_that_is_registered_anywhere_is_known(self):
        """A gauge that some part of the package registers has its help text and its row."""
        used = set()
        for path in ROOT.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.FunctionDef) and node.name in ("gauges", "register"):
                    shown = [part for part in ast.walk(node) if isinstance(part, ast.Dict)]
                    used.update(key.value for part in shown for key in part.keys if isinstance(key, ast.Constant))
        self.assertIn("connections", used)
        self.assertEqual(used - set(GAUGES) - set(LABELLED), set())

    def test_counts(self):
        """Attributes that were added to show under their names."""
        metrics = Metrics()
        metrics.sends_accepted += 3
        metrics.receipts[4] += 1
        metrics.sends_refused["flood"] += 2
        metrics.closed[4003] += 1
        shown = samples(metrics)
        self.assertEqual(shown["imconnect_sends_accepted_total", ()], 3)
        self.assertEqual(shown["imconnect_receipts_total", ("4",)], 1)
        self.assertEqual(shown["imconnect_receipts_total", ("3",)], 0)
        self.assertEqual(shown["imconnect_sends_refused_total", ("flood",)], 2)
        self.assertEqual(shown["imconnect_closed_total", ("4003",)], 1)

    def test_commits_are_histograms(self):
        """Events and seconds of a commit land in the right buckets."""
        metrics = Metrics()
        metrics.observe_commit(1, 0.004)
        metrics.observe_commit(30, 99.0)
        metrics.observe_mq_send(0.0005)
        metrics.observe_business_commit(7, 0.02)
        shown = samples(metrics)
        self.assertEqual(shown["imconnect_commit_events_bucket", ("1.0",)], 1)
        self.assertEqual(shown["imconnect_commit_events_bucket", ("50.0",)], 2)
        self.assertEqual(shown["imconnect_commit_events_sum", ()], 31)
        self.assertEqual(shown["imconnect_commit_seconds_bucket", ("0.002",)], 0)
        self.assertEqual(shown["imconnect_commit_seconds_bucket", ("10.0",)], 1)
        self.assertEqual(shown["imconnect_commit_seconds_count", ()], 2)
        self.assertEqual(shown["imconnect_mq_send_seconds_bucket", ("0.0005",)], 1)
        self.assertEqual(shown["imconnect_business_commit_events_bucket", ("10.0",)], 1)
        self.assertEqual(shown["imconnect_business_commit_seconds_sum", ()], 0.02)

    def test_gauges_are_asked_when_scraped(self):
        """A gauge shows what its function says at that moment."""
        metrics = Metrics()
        values = [1.0]
        metrics.gauges["users"] = lambda: values[0]
        self.assertEqual(samples(metrics)["imconnect_users", ()], 1)
        values[0] = 7.0
        self.assertEqual(samples(metrics)["imconnect_users", ()], 7)

    def test_families_with_a_label_are_asked_when_scraped(self):
        """One value per label; counters under their own name; a broken one hides only itself."""
        metrics = Metrics()
        metrics.labelled["consumer_lag"] = lambda: {"T/a/0": 3, "T/a/1": 0}
        metrics.labelled["pushback_told"] = lambda: {"g:9090": 2}
        metrics.labelled["pushback_failed"] = lambda: 1 / 0
        shown = samples(metrics)
        self.assertEqual(shown["imconnect_consumer_lag", ("T/a/0",)], 3)
        self.assertEqual(shown["imconnect_consumer_lag", ("T/a/1",)], 0)
        self.assertEqual(shown["imconnect_pushback_told_total", ("g:9090",)], 2)
        self.assertNotIn(("imconnect_pushback_failed_total", ("g:9090",)), shown)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_health_is_what_ready_says(self):
        """One series per word of `degraded`, none while all is well."""
        metrics = Metrics()
        said = [(True, {"degraded": ["queue", "redis"]})]
        metrics.show_health(lambda: said[0])
        shown = samples(metrics)
        degraded = {labels for name, labels in shown if name == "imconnect_degraded"}
        self.assertEqual((shown["imconnect_ready", ()], degraded), (1, {("queue",), ("redis",)}))
        said[0] = (False, {"reason": "draining"})
        now = samples(metrics)
        self.assertEqual(
            (now["imconnect_ready", ()], [name for name, _ in now if name == "imconnect_degraded"]), (0, [])
        )
        self.assertEqual(*(each["imconnect_start_time_seconds", ()] for each in (shown, now)))

    def test_a_broken_gauge_hides_only_itself(self):
        """The scrape goes on without it, and the failure is logged."""
        metrics = Metrics()
        metrics.gauges["users"] = lambda: 1 / 0
        metrics.gauges["sessions"] = lambda: 2.0
        shown = samples(metrics)
        self.assertNotIn(("imconnect_users", ()), shown)
        self.assertEqual(shown["imconnect_sessions", ()], 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_two_do_not_share(self):
        """Each has a registry of its own."""
        one, other = Metrics(), Metrics()
        one.sends_accepted = 5
        self.assertEqual(samples(other)["imconnect_sends_accepted_total", ()], 0)


class HistogramTests(TestCase):
    def test_a_bound_belongs_to_its_bucket(self):
        """`le` means less or equal."""
        histogram = Histogram((1.0, 2.0))
        for value in (1.0, 1.5, 2.0, 2.5):
            histogram.observe(value)
        self.assertEqual(histogram.buckets(), [("1.0", 1.0), ("2.0", 3.0), ("+Inf", 4.0)])
        self.assertEqual((histogram.count, histogram.sum), (4, 7.0))
