"""Real processes for the live tests: started in a group of their own, waited for with deadlines, ended by their id.

`ServerProcess` is the shape; a subclass says what to run and when that is ready. Nothing here blocks the reactor for
longer than a `fork`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater

#: Seconds between two looks at something that nobody announces.
POLL = 0.02
HOST = "127.0.0.1"
#: Below what the kernel gives to outgoing connections: while a server is down, a client that tries to reach it would
#: otherwise be given its port now and then, and talk to itself. Every other one: `.ci/trial` runs two halves at once.
_PORTS = range(18000 + int(os.environ.get("IMCONNECT_TEST_HALF", "0")), 32000, 2)


class TookTooLong(AssertionError):
    """Something did not happen before its deadline."""


class Died(AssertionError):
    """A process ended that should not have."""


async def until(reactor: Any, check: Callable[[], Any], what: str | Callable[[], str], within: float = 10.0) -> Any:
    """The first true result of `check` (a function or a coroutine function); TookTooLong after `within` seconds.

    `what` is asked at the end where it is a function: it can say how things stand then.
    """
    deadline = reactor.seconds() + within
    while True:
        result = check()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        if reactor.seconds() > deadline:
            raise TookTooLong(f"not within {within:g} s: {what() if callable(what) else what}")
        await deferLater(reactor, POLL)


def free_port() -> int:
    """A port that nobody uses now."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without what would configure a gateway or make it think that systemd had started it."""
    foreign = ("IMCONNECT", "NOTIFY_", "LISTEN_")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(foreign)}, **(extra or {})}


def script(name: str) -> str:
    """An installed command, beside the Python that runs the tests."""
    return str(Path(sys.executable).parent / name)


def is_alive(pid: int) -> bool:
    """Whether this process runs; one that only waits for its parent's attention does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


class ServerProcess:
    """One command that is started, stopped, killed and started again; its output is appended to two files.

    `folder` is where it runs. Whoever makes one calls `end` at last, whatever happened.
    """

    #: Seconds until it is ready, and until it has stopped.
    start_within = 30.0
    stop_within = 20.0

    def __init__(
        self, reactor: Any, name: str, folder: Path, command: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> None:
        self.reactor, self.name, self.folder = reactor, name, folder
        self.command = list(command)
        self.env = clean_environment(env)
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        #: Descriptors of ours that it inherits, under their own numbers.
        self.pass_fds: Sequence[int] = ()
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._child is not None, f"{self.name} was never started"
        return self._child.pid

    @property
    def status(self) -> int | None:
        """Its exit status, minus the signal that killed it; None while it runs."""
        return self._child.poll() if self._child is not None else None

    async def is_ready(self) -> bool:
        """Whether it does its work; for subclasses."""
        return True

    def spawn(self, stdin: int | None = subprocess.DEVNULL) -> None:
        """Start it and do not wait."""
        assert self._child is None or self.status is not None, f"{self.name} runs already"
        self._close_stdin()
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self._child = subprocess.Popen(
                self.command, cwd=self.folder, env=self.env, stdin=stdin, stdout=out, stderr=err,
                start_new_session=True, pass_fds=self.pass_fds,
            )  # fmt: skip

    async def start(self) -> None:
        """Start it and wait until it is ready. Died, TookTooLong."""
        self.spawn()
        await until(self.reactor, self._ready_or_died, lambda: f"{self.name} is ready\n{self.tail()}", self.start_within)

    async def _ready_or_died(self) -> bool:
        if self.status is not None:
            raise Died(f"{self.name} ended with status {self.status} before it was ready\n{self.tail()}")
        return await self.is_ready()

    def signal(self, number: int) -> None:
        """Send it a signal: to the process alone, as systemd and people do."""
        os.kill(self.pid, number)

    async def wait(self, within: float | None = None) -> int:
        """Its exit status, once it has ended. TookTooLong."""
        within = within or self.stop_within
        await until(self.reactor, lambda: self.status is not None, f"{self.name} has ended", within)
        assert self.status is not None
        return self.status

    async def stop(self, within: float | None = None) -> int:
        """SIGTERM, and wait."""
        self.signal(signal.SIGTERM)
        return await self.wait(within)

    async def kill9(self) -> None:
        """It dies at once."""
        self.signal(signal.SIGKILL)
        await self.wait(5)

    async def restart(self) -> None:
        """Start it again with everything as it was, after it has stopped or died."""
        if self.status is None:
            await self.stop()
        await self.start()

    def write(self, data: bytes, close: bool = False) -> None:
        """To its standard input, where it was spawned with a pipe."""
        assert self._child is not None and self._child.stdin is not None
        self._child.stdin.write(data)
        self._child.stdin.flush()
        if close:
            self._child.stdin.close()

    def end(self) -> None:
        """Whatever is left of it and its children is gone after this."""
        if self._child is None:
            return
        self._close_stdin()
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait(5)

    def _close_stdin(self) -> None:
        if self._child is not None and self._child.stdin is not None:
            with suppress(BrokenPipeError):
                self._child.stdin.close()

    def output(self) -> str:
        """Everything it wrote to its standard output so far."""
        return self.out.read_text(errors="replace") if self.out.exists() else ""

    def errors(self) -> str:
        """Everything it wrote to its standard error so far."""
        return self.err.read_text(errors="replace") if self.err.exists() else ""

    def tail(self, lines: int = 60) -> str:
        """The end of its output, for a person."""
        shown = [f"--- {self.name}: the end of its output", *self.output().splitlines()[-lines:]]
        if self.errors():
            shown += [f"--- {self.name}: the end of its standard error", *self.errors().splitlines()[-lines:]]
        return "\n".join(shown)


class GatewayProcess(ServerProcess):
    """`twistd imconnect` on ports of its own, which stay the same over restarts. `settings` is what `--set` takes."""

    def __init__(
        self,
        reactor: Any,
        folder: Path,
        settings: Mapping[str, Any] | None = None,
        *,
        name: str = "gateway",
        launcher: Sequence[str] = ("twistd", "-n", "--pidfile="),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = folder.absolute() / "var"
        self.port, self.http_port = free_port(), free_port()
        super().__init__(reactor, name, folder, env=env)
        self.launcher = launcher
        self.settings: dict[str, Any] = {
            "data_dir": self.data_dir, "server.port": self.port, "http.port": self.http_port, **(settings or {}),
        }  # fmt: skip
        self.command = self.command_line()

    def command_line(self, launcher: Sequence[str] = (), **settings: Any) -> list[str]:
        """How it is started; `settings` (with __ for a dot) are other ones for this time."""
        first, *more = launcher or self.launcher
        changed = {**self.settings, **{name.replace("__", "."): value for name, value in settings.items()}}
        options = [option for name, value in changed.items() for option in ("--set", f"{name}={value}")]
        return [script(first), *more, "imconnect", "--env", "test", *options]

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.port}/websocket"

    async def is_ready(self) -> bool:
        return (await self.get("/ready")).code == 200

    async def get(self, path: str) -> Answer:
        """A page of its HTTP port."""
        return await http_get(self.reactor, self.http_port, path)


class BusinessProcess(ServerProcess):
    """`twistd imbusiness` on an HTTP port of its own, which stays the same over restarts, and so does its name."""

    def __init__(
        self,
        reactor: Any,
        folder: Path,
        settings: Mapping[str, Any] | None = None,
        *,
        name: str = "business",
        launcher: Sequence[str] = ("twistd", "-n", "--pidfile="),
    ) -> None:
        self.http_port = free_port()
        self.settings: dict[str, Any] = {"http.port": self.http_port, **(settings or {})}
        options = [option for key, value in self.settings.items() for option in ("--set", f"{key}={value}")]
        command = [script(launcher[0]), *launcher[1:], "imbusiness", "--env", "test", *options]
        super().__init__(reactor, name, folder, command)

    async def is_ready(self) -> bool:
        return (await self.get("/ready")).code == 200

    async def get(self, path: str) -> Answer:
        """A page of its HTTP port."""
        return await http_get(self.reactor, self.http_port, path)

    async def stats(self) -> dict[str, Any]:
        """What `/stats` shows."""
        found: dict[str, Any] = json.loads((await self.get("/stats")).body)
        return found


class Answer(NamedTuple):
    """What an HTTP port said; code 0 where it did not."""

    code: int
    head: str = ""
    body: str = ""


class _Page(Protocol):
    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: object = None) -> None:
        self.gone.callback(None)


async def http_get(reactor: Any, port: int, path: str, headers: str = "") -> Answer:
    """One request on a connection of its own."""
    page = _Page()
    try:
        await connectProtocol(TCP4ClientEndpoint(reactor, HOST, port, timeout=5), page)
    except ConnectError:
        return Answer(0)
    page.transport.write(f"GET {path} HTTP/1.0\r\nHost: {HOST}\r\n{headers}\r\n".encode())
    await page.gone
    head, _, body = page.data.decode(errors="replace").partition("\r\n\r\n")
    words = head.split()
    return Answer(int(words[1]) if len(words) > 1 else 0, head, body)


class Outcome(NamedTuple):
    """What became of a command."""

    status: int
    out: str
    err: str


async def run(process: ServerProcess, stdin: bytes = b"", within: float = 30.0) -> Outcome:
    """Run a command to its end. TookTooLong."""
    process.spawn(subprocess.PIPE)
    with suppress(BrokenPipeError):
        process.write(stdin, close=True)
    status = await process.wait(within)
    return Outcome(status, process.output(), process.errors())
