"""A private Redis on loopback, for development and tests.

`python -m tests.servers.redis --help`. Where it is missing and we are root, Debian's package is installed. Blocking
code: in a test with a running reactor call it through `deferToThread`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import redis

from tests.servers.private import PrivateServer, from_debian, serve, shared_server


def ensure_redis() -> str:
    """The server's program, from Debian where it is missing and we are root. Raises CannotRun."""
    return from_debian(lambda: shutil.which("redis-server"), "Redis", "redis-server")


class RedisServer(PrivateServer):
    """One server, empty at each start: what it holds may be lost."""

    what = "Redis"
    end_within = 10.0

    def url(self, database: int = 0) -> str:
        """For `redis.url`."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def client(self, database: int = 0) -> redis.Redis:
        """A client of the test's own."""
        return redis.Redis.from_url(self.url(database), socket_timeout=5)

    def command(self) -> Sequence[str]:
        listen = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        return [ensure_redis(), *listen, "--save", "", "--appendonly", "no"]

    def answers(self) -> bool:
        try:
            with self.client() as client:
                client.ping()
        except redis.RedisError:
            return False
        return True


def shared() -> RedisServer:
    """The one server of this test process: started at the first call, ended with the process. Raises CannotRun."""
    return shared_server(RedisServer)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one until stdin closes or a signal comes."""
    parser = argparse.ArgumentParser(prog="redis", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="where its log goes")
    parser.add_argument("--port", type=int, default=6379, help="0: any free one (default: %(default)s)")
    given = parser.parse_args(arguments)

    server = RedisServer(given.dir.resolve(), port=given.port)
    return serve(server, server.url)


if __name__ == "__main__":
    sys.exit(main())
