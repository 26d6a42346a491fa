"""The operator's HTTP port, spoken to in bytes."""

from __future__ import annotations

import json

from twisted.internet.testing import MemoryReactorClock, StringTransport

from imconnect.edge.http import make_site
from imconnect.observe.metrics import Metrics
from tests.support import TestCase


class HttpTests(TestCase):
    def setUp(self) -> None:
        self.state = (True, {"degraded": ["broker"]})
        self.stats = {"connections": 3}
        self.metrics = Metrics()
        self.clock = MemoryReactorClock()
        self.site = make_site(self.clock, lambda: self.state, self.metrics, lambda: self.stats)

    def ask(self, path: str, method: str = "GET"):
        """-> (code, headers, body)"""
        channel = self.site.buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        self.assertTrue(transport.disconnecting)
        head, _, body = transport.value().partition(b"\r\n\r\n")
        status, *lines = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.assertEqual(headers["cache-control"], "no-store")
        return int(status.split()[1]), headers, body

    def test_health(self):
        """200 while the process works."""
        code, headers, body = self.ask("/health")
        self.assertEqual((code, headers["content-type"]), (200, "application/json"))
        self.assertEqual(json.loads(body), {"status": "ok"})

    def test_ready(self):
        """200 with what is degraded, 503 with a reason, as the function says at that moment."""
        code, _, body = self.ask("/ready")
        self.assertEqual((code, json.loads(body)), (200, {"ready": True, "degraded": ["broker"]}))
        self.state = (False, {"reason": "draining"})
        code, _, body = self.ask("/ready")
        self.assertEqual((code, json.loads(body)), (503, {"ready": False, "degraded": [], "reason": "draining"}))

    def test_metrics(self):
        """Prometheus' text."""
        self.metrics.sends_accepted = 5
        code, headers, body = self.ask("/metrics")
        self.assertEqual(code, 200)
        self.assertTrue(headers["content-type"].startswith("text/plain; version=0.0.4"))
        self.assertIn(b"\nimconnect_sends_accepted_total 5.0\n", body)

    def test_stats(self):
        """JSON as the function says, non-ASCII text included."""
        self.stats = {"connections": 3, "relay": {"last_error": "\u65ad"}}
        code, _, body = self.ask("/stats?pretty=1")
        self.assertEqual((code, json.loads(body)), (200, self.stats))

    def test_front_page(self):
        """It names the other pages, and they exist."""
        code, headers, body = self.ask("/")
        self.assertEqual((code, headers["content-type"]), (200, "text/html; charset=utf-8"))
        for page in ("/health", "/ready", "/metrics", "/stats"):
            self.assertIn(f'href="{page}"'.encode(), body)
            self.assertEqual(self.ask(page)[0], 200)

    def test_nothing_there(self):
        """404 as JSON, below a page too, whatever the method."""
        for path in ("/other", "/health/more", "/metrics/", "//", "/%2e%2e/etc"):
            code, headers, body = self.ask(path)
            self.assertEqual((code, headers["content-type"]), (404, "application/json"))
            self.assertEqual(json.loads(body)["code"], 404)
        self.assertEqual(self.ask("/other", "DELETE")[0], 404)

    def test_other_methods(self):
        """405, and which ones there are."""
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            code, headers, body = self.ask("/ready", method)
            self.assertEqual((code, headers["allow"]), (405, "GET, HEAD"))
            self.assertEqual(json.loads(body)["code"], 405)

    def test_head(self):
        """The headers of the page, without it."""
        code, headers, body = self.ask("/stats", "HEAD")
        self.assertEqual((code, body), (200, b""))
        self.assertEqual(headers["content-length"], str(len(self.ask("/stats")[2])))

    def test_a_page_that_fails(self):
        """500 as JSON without details; the failure is logged."""
        self.stats = {"secret": object()}
        code, _, body = self.ask("/stats")
        self.assertEqual((code, json.loads(body)), (500, {"code": 500, "reason": "internal error"}))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_an_idle_connection_is_dropped(self):
        """After a minute."""
        channel = self.site.buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        self.clock.advance(61)
        self.assertTrue(transport.disconnecting)
