"""A private Redis on loopback, for development and tests.

`python -m tests.servers.redis --help`. Where it is missing and we are root, Debian's package is installed. Blocking
code: in a test with a running reactor call it through `deferToThread`.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import redis

from tests.servers.mariadb import free_port
from tests.servers.rocketmq_broker import CannotRun

START_TIMEOUT = 20.0


def ensure_redis() -> str:
    """The server's program, from Debian where it is missing and we are root. Raises CannotRun."""
    found = shutil.which("redis-server")
    if found:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise CannotRun("Redis is missing: install redis-server")
    # Debian would start a server of its own; this one is private.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", "redis-server"]):
        subprocess.run(["apt-get", "-qq", *command], check=True, env=environment, stdout=sys.stderr)
    found = shutil.which("redis-server")
    if not found:
        raise CannotRun("redis-server was installed, but it is not there")
    return found


class RedisServer:
    """One server, empty at each start: what it holds may be lost. Its port stays the same over restarts."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._server is None:
            raise CannotRun("Redis is not running")
        return self._server.pid

    @property
    def runs(self) -> bool:
        """It was started, and not stopped or killed here."""
        return self._server is not None

    def url(self, database: int = 0) -> str:
        """For `redis.url`."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def client(self, database: int = 0) -> redis.Redis:
        """A client of the test's own."""
        return redis.Redis.from_url(self.url(database), socket_timeout=5)

    def start(self, timeout: float = START_TIMEOUT) -> RedisServer:
        """Returns once it answers. Raises CannotRun."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [ensure_redis(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        with (self.folder / "redis.log").open("ab") as log:
            self._server = subprocess.Popen(
                [*command, "--save", "", "--appendonly", "no"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait(time.monotonic() + timeout)
        return self

    def stop(self) -> None:
        """SIGTERM, and wait for the clean end."""
        self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """As a machine that dies."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _end(self, number: signal.Signals) -> None:
        if self._server is not None:
            self._server.send_signal(number)
            try:
                self._server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait(timeout=10)
            self._server = None

    def _wait(self, deadline: float) -> None:
        assert self._server is not None
        while True:
            if self._server.poll() is not None:
                self._server = None
                raise CannotRun(f"Redis ended at its start, see {self.folder}/redis.log")
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.RedisError:
                if time.monotonic() > deadline:
                    self.kill9()
                    raise CannotRun("Redis did not start in time") from None
                time.sleep(0.02)


_shared: list[RedisServer] = []


def shared() -> RedisServer:
    """The one server of this test process: started at the first call, ended with the process. Raises CannotRun."""
    if not _shared:
        folder = Path(tempfile.mkdtemp(prefix="imconnect-redis-"))
        server = RedisServer(folder)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        atexit.register(server.kill9)
        server.start()
        _shared.append(server)
    return _shared[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one until stdin closes or a signal comes."""
    parser = argparse.ArgumentParser(prog="redis", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="where its log goes")
    parser.add_argument("--port", type=int, default=6379, help="0: any free one (default: %(default)s)")
    given = parser.parse_args(arguments)

    def interrupt(*_signal: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        with RedisServer(given.dir.resolve(), port=given.port) as server:
            print(f"READY {server.url()} pid={server.pid}", flush=True)
            while os.read(sys.stdin.fileno(), 4096):
                pass
    except CannotRun as error:
        print(f"redis: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
