"""What a private server on loopback is made of, whichever program it runs: installed where it may be, ended by its id."""

from __future__ import annotations

import atexit
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Self, TypeVar, cast


class CannotRun(Exception):
    """This machine has not what a server needs and we may not install it, or the server does not come up."""


def from_debian(find: Callable[[], str | None], what: str, *packages: str) -> str:
    """What `find` finds, after these packages were installed where it is missing and we are root. Raises CannotRun."""
    found = find()
    if found:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise CannotRun(f"{what} is missing: install {' and '.join(packages)}")
    # Debian would start a server of its own; ours is private.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", "-qq", *command], check=True, env=environment, stdout=sys.stderr)
    found = find()
    if not found:
        raise CannotRun(f"{' and '.join(packages)} installed, but {what} is not there")
    return found


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ensure_free(port: int) -> None:
    """Raises CannotRun where somebody listens there: a server's own words for that are in its log only. 0 is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise CannotRun(f"port {port}: {error}") from None


def until_told(what: str, process: subprocess.Popen[bytes]) -> None:
    """Returns when stdin closes. Raises CannotRun when the process ends before."""
    while process.poll() is None:
        if select.select([sys.stdin], [], [], 0.5)[0] and not os.read(sys.stdin.fileno(), 4096):
            return
    raise CannotRun(f"{what} has ended, status {process.returncode}")


class PrivateServer:
    """One program that listens on one port of loopback, which stays the same over restarts. Blocking."""

    #: How people call it; seconds that a clean end may take.
    what: ClassVar[str]
    end_within: ClassVar[float] = 30.0

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Raises CannotRun when it does not run."""
        if self._server is None:
            raise CannotRun(f"{self.what} is not running")
        return self._server

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def runs(self) -> bool:
        """It was started, and not stopped or killed here."""
        return self._server is not None

    def command(self) -> Sequence[str]:
        """What is run. Raises CannotRun."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it can be used."""
        raise NotImplementedError

    def run(self, timeout: float) -> None:
        """Returns once it answers. Raises CannotRun."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self.command()
        log_file = self.folder / "server.log"
        with log_file.open("ab") as log:
            self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + timeout
        while not self.answers():
            if self._server.poll() is not None:
                self._server = None
                raise CannotRun(f"{self.what} ended at its start, see {log_file}")
            if time.monotonic() > deadline:
                self.kill9()
                raise CannotRun(f"{self.what} did not start in time")
            time.sleep(0.05)

    def start(self) -> Self:
        """Returns once it answers. Raises CannotRun."""
        self.run(60.0)
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

    def ended(self) -> None:
        """It is gone: for what a subclass has to clear away."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _end(self, number: signal.Signals) -> None:
        if self._server is not None:
            self._server.send_signal(number)
            try:
                self._server.wait(timeout=self.end_within)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait(timeout=self.end_within)
            self._server = None
            self.ended()


_P = TypeVar("_P", bound=PrivateServer)
_shared: dict[type[PrivateServer], PrivateServer] = {}


def shared_server(kind: type[_P]) -> _P:
    """The one server of this kind in this test process: started at the first call, ended with the process. Raises
    CannotRun."""
    found = _shared.get(kind)
    if found is None:
        folder = Path(tempfile.mkdtemp(prefix=f"imconnect-{kind.what.lower()}-"))
        # MariaDB runs as a user of its own.
        folder.chmod(0o755)
        server = kind(folder)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        atexit.register(server.kill9)
        server.start()
        found = _shared[kind] = server
    return cast(_P, found)


def serve(server: PrivateServer, url: Callable[[], str]) -> int:
    """Run it until stdin closes or a signal comes; for a command of its own. -> its exit status."""

    def interrupt(*_signal: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        ensure_free(server.port)
        with server:
            print(f"READY {url()} pid={server.pid}", flush=True)
            until_told(server.what, server.process)
    except CannotRun as error:
        print(f"{server.what}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0
