"""Processes that stand or fall together: started in stages, watched, and stopped in reverse, whatever happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.live.processes import clean_environment
from tests.servers.private import CannotRun

ROOT = Path(__file__).parent.parent.parent
#: Seconds for a part to be ready (a database that is made anew, on a busy machine), to stop, and between two looks.
START_WITHIN, STOP_WITHIN, POLL = 180.0, 45.0, 0.1
#: SIGTERM for a part when whoever started it is gone, however that went. By a program: code of ours between fork and exec
#: would run in a process that may have threads.
DIES_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")


class Part:
    """One process with a log of its own. `is_ready` is asked again and again; Ctrl-C at the terminal does not reach it."""

    def __init__(self, name: str, folder: Path, command: Sequence[str], is_ready: Callable[[Part], bool]) -> None:
        self.name, self.command = name, list(command)
        self.log = folder / f"{name}.log"
        self._is_ready = is_ready
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Does not wait."""
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [*DIES_WITH_US, *self.command], cwd=ROOT, env=clean_environment(), stdin=subprocess.PIPE, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip

    def ready(self) -> bool:
        """Whether it does its work. Raises CannotRun when it has ended."""
        self.check()
        return self._is_ready(self)

    def check(self) -> None:
        """Raises CannotRun when it has ended."""
        assert self._child is not None
        if self._child.poll() is not None:
            last = self.lines()[-1:] or [f"status {self._child.returncode}"]
            raise CannotRun(f"{self.name} has ended: {last[0]} (see {self.log})")

    def lines(self) -> list[str]:
        """What it said."""
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []

    def ready_line(self) -> dict[str, str]:
        """The words of its line READY, by name; an URL alone is called url. Empty while there is none."""
        line = next((line for line in self.lines() if line.startswith("READY ")), "")
        words = [word.partition("=") for word in line.split()[1:]]
        return {name if "://" not in name else "url": value or name for name, _, value in words}

    def ask_to_stop(self) -> None:
        """SIGTERM, and the end of its input for those who wait for that."""
        if self._child is not None and self._child.poll() is None:
            assert self._child.stdin is not None
            self._child.stdin.close()
            self._child.terminate()

    def wait(self, deadline: float) -> None:
        """It and its children are gone after this."""
        if self._child is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(max(0.1, deadline - time.monotonic()))
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()


class Cluster:
    """Stages of parts: each stage starts when the one before is ready, and they stop in reverse."""

    def __init__(self) -> None:
        self._stages: list[list[Part]] = []

    @property
    def parts(self) -> list[Part]:
        return [part for stage in self._stages for part in stage]

    def start(self, parts: Sequence[Part], within: float = START_WITHIN) -> None:
        """Another stage; returns when all of it is ready. Raises CannotRun."""
        self._stages.append(list(parts))
        for part in parts:
            part.start()
        deadline, waiting = time.monotonic() + within, list(parts)
        while waiting := [part for part in waiting if not part.ready()]:
            if time.monotonic() > deadline:
                raise CannotRun(f"{waiting[0].name} is not ready after {within:g} s (see {waiting[0].log})")
            time.sleep(POLL)

    def watch(self) -> None:
        """Until a part ends by itself: CannotRun."""
        while True:
            for part in self.parts:
                part.check()
            time.sleep(1)

    def stop(self, within: float = STOP_WITHIN) -> None:
        """Everything that was started is gone after this."""
        while self._stages:
            stage = self._stages.pop()
            for part in stage:
                part.ask_to_stop()
            deadline = time.monotonic() + within
            for part in stage:
                part.wait(deadline)


def served(cluster: Cluster, start: Callable[[Cluster], Sequence[str]]) -> int:
    """Start, say where it is, watch over it, stop it."""

    def interrupt(*_signal: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        print(*start(cluster), sep="\n", flush=True)
        cluster.watch()
    except KeyboardInterrupt:
        status = 0
    except (CannotRun, subprocess.CalledProcessError) as error:
        print(f"cluster: {error}", file=sys.stderr, flush=True)
        status = 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        print("stopping", flush=True)
        cluster.stop()
    return status
