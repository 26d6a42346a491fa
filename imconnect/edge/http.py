"""The operator's HTTP port: health, readiness, metrics, statistics."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import Site

from imconnect.observe.metrics import Metrics

_log = Logger()

#: What a page is asked for when it is rendered: HTTP code, content type, body.
Answer = tuple[int, str, bytes]

_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>imconnect</title></head>
<body><h1>imconnect</h1><ul>
<li><a href="/health">/health</a> 200 while the process works</li>
<li><a href="/ready">/ready</a> 200 while it takes clients, else 503 and why</li>
<li><a href="/metrics">/metrics</a> for Prometheus</li>
<li><a href="/stats">/stats</a> the same at a glance, as JSON</li>
</ul></body></html>
"""


def make_site(
    reactor: IReactorTime,
    ready: Callable[[], tuple[bool, Mapping[str, Any]]],
    metrics: Metrics,
    stats: Callable[[], Mapping[str, Any]],
) -> Site:
    """The whole port. `ready` says whether clients are taken, and more for the JSON (`reason`, `degraded`)."""

    def answer_ready() -> Answer:
        taken, more = ready()
        return _json(200 if taken else 503, {"ready": taken, "degraded": [], **more})

    root = Page(_front)
    root.putChild(b"", Page(_front))
    root.putChild(b"health", Page(lambda: _json(200, {"status": "ok"})))
    root.putChild(b"ready", Page(answer_ready))
    root.putChild(b"metrics", Page(lambda: (200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(metrics.registry))))
    root.putChild(b"stats", Page(lambda: _json(200, stats())))
    site = _Site(root, reactor=reactor, timeout=60)
    site.displayTracebacks = False
    return site


class Page(Resource):
    """Answers GET and HEAD with what its function says; other methods 405, other paths below it 404, as JSON."""

    def __init__(self, answer: Callable[[], Answer], any_method: bool = False) -> None:
        super().__init__()
        self._answer = answer
        self._any_method = any_method

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _NOTHING

    def render(self, request: Request) -> bytes:
        if self._any_method or request.method in (b"GET", b"HEAD"):
            try:
                code, kind, body = self._answer()
            except Exception:
                _log.failure("an HTTP page failed")
                code, kind, body = _json(500, {"code": 500, "reason": "internal error"})
        else:
            request.setHeader(b"Allow", b"GET, HEAD")
            code, kind, body = _json(405, {"code": 405, "reason": "GET or HEAD only"})
        request.setResponseCode(code)
        request.setHeader(b"Content-Type", kind.encode("ascii"))
        request.setHeader(b"Content-Length", str(len(body)).encode("ascii"))
        request.setHeader(b"Cache-Control", b"no-store")
        return b"" if request.method == b"HEAD" else body


class _Site(Site):
    """Keeps no access log: scrapes are not state changes."""

    noisy = False

    def log(self, request: Request) -> None:
        """Not logged."""


def _front() -> Answer:
    return 200, "text/html; charset=utf-8", _HTML.encode("utf-8")


def _json(code: int, value: Mapping[str, Any]) -> Answer:
    return code, "application/json", json.dumps(value, separators=(",", ":")).encode("ascii")


_NOTHING = Page(lambda: _json(404, {"code": 404, "reason": "there is nothing here"}), any_method=True)
