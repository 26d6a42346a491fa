"""A Nacos server for tests: the part of its HTTP API v1 that is about configurations, as it is published
(/nacos/v1/auth/login, /nacos/v1/cs/configs, /nacos/v1/cs/configs/listener). It runs on threads of this process."""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Event, Thread
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

HOST = "127.0.0.1"
KIND = "text/plain;charset=UTF-8"


class FakeNacos:
    """`start()` it, `publish` documents, `stop()` it; it may be started again on the same port.

    With `users` nobody is let in without a token. `hanging` set: it takes questions and answers none.
    """

    def __init__(self, users: dict[str, str] | None = None) -> None:
        self.users = users or {}
        self.tokens: set[str] = set()
        self.port = 0
        #: (method, path) of what it was asked.
        self.asked: list[tuple[str, str]] = []
        self.hanging = Event()
        #: Answer with this HTTP code, if it is one.
        self.failing = 0
        #: Send nothing but a byte now and then.
        self.trickling = False
        self.changed = Condition()
        self.stopping = Event()
        self._documents: dict[tuple[str, str, str], bytes] = {}
        self._server: ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def start(self) -> FakeNacos:
        self.stopping.clear()
        self._server = _Server((HOST, self.port), _Handler)
        self._server.nacos = self  # type: ignore[attr-defined]
        self.port = self._server.server_address[1]
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """It is away. May be called twice."""
        self.stopping.set()
        self.hanging.clear()
        with self.changed:
            self.changed.notify_all()
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def publish(
        self, content: str | bytes | None, data_id: str = "im-connect-go.yaml", group: str = "DEFAULT_GROUP", namespace: str = ""
    ) -> None:
        """A new version; None: it is deleted."""
        key = (namespace, group, data_id)
        with self.changed:
            self._documents.pop(key, None)
            if content is not None:
                self._documents[key] = content if isinstance(content, bytes) else content.encode()
            self.changed.notify_all()

    def find(self, namespace: str, group: str, data_id: str) -> bytes | None:
        return self._documents.get((namespace, group, data_id))

    def md5(self, namespace: str, group: str, data_id: str) -> str:
        """Empty where there is none."""
        found = self.find(namespace, group, data_id)
        return "" if found is None else hashlib.md5(found, usedforsecurity=False).hexdigest()

    def wait_for_change(self, asked: list[list[str]], seconds: float) -> list[tuple[str, str, str]]:
        """(namespace, group, data_id) of what is not as the client has it, as soon as there is any."""

        def different() -> list[tuple[str, str, str]]:
            keys = [((more[0] if more else ""), group, data_id, md5) for data_id, group, md5, *more in asked]
            return [(tenant, group, name) for tenant, group, name, md5 in keys if self.md5(tenant, group, name) != md5]

        with self.changed:
            self.changed.wait_for(lambda: different() or self.stopping.is_set(), seconds)
            return different()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not wait for its answer."""


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        nacos: FakeNacos = self.server.nacos  # type: ignore[attr-defined]
        split = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        given = {name: values[-1] for name, values in parse_qs(f"{split.query}&{body}", keep_blank_values=True).items()}
        nacos.asked.append((method, split.path))
        while nacos.hanging.is_set():
            nacos.stopping.wait(0.02)
        if nacos.trickling:
            return self._trickle(nacos)
        if nacos.failing:
            return self._answer(nacos.failing, "no")
        if (method, split.path) == ("POST", "/nacos/v1/auth/login"):
            return self._login(nacos, given)
        if nacos.users and given.get("accessToken") not in nacos.tokens:
            return self._answer(403, "user not found!" if "accessToken" in given else "unknown user!")
        if (method, split.path) == ("GET", "/nacos/v1/cs/configs"):
            found = nacos.find(given.get("tenant", ""), given["group"], given["dataId"])
            return self._answer(404, "config data not exist") if found is None else self._answer(200, found)
        if (method, split.path) == ("POST", "/nacos/v1/cs/configs/listener"):
            return self._listen(nacos, given["Listening-Configs"])
        return self._answer(404, "not found")

    def _login(self, nacos: FakeNacos, given: dict[str, str]) -> None:
        if not nacos.users or nacos.users.get(given.get("username", "")) != given.get("password"):
            return self._answer(403, "unknown user!")
        nacos.tokens.add(token := secrets.token_hex(8))
        answer = {"accessToken": token, "tokenTtl": 18000, "globalAdmin": False, "username": given["username"]}
        return self._answer(200, json.dumps(answer), "application/json")

    def _listen(self, nacos: FakeNacos, asked: str) -> None:
        """The real one holds the question for half a second less than the client says."""
        seconds = int(self.headers["Long-Pulling-Timeout"]) / 1000 - 0.5
        lines = [line.split("\x02") for line in asked.split("\x01") if line]
        changed = nacos.wait_for_change(lines, seconds)
        told = "".join(
            "\x02".join([data_id, group, *([tenant] if tenant else [])]) + "\x01" for tenant, group, data_id in changed
        )
        self._answer(200, quote(told) + "\n" if told else "")

    def _trickle(self, nacos: FakeNacos) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            self.wfile.write(b"x")
            if nacos.stopping.wait(0.02):
                return

    def _answer(self, code: int, body: str | bytes, kind: str = KIND) -> None:
        data = body if isinstance(body, bytes) else body.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def closed_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
