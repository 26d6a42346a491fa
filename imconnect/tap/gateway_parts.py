"""The parts of a gateway that are only about its start and its stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from imconnect.backends.datadir import DataDir
from imconnect.core.background import sleep, within
from imconnect.core.node import Node
from imconnect.edge.websocket import Factory
from imconnect.errors import Unavailable
from imconnect.observe import systemd
from imconnect.tap.listening import Listening
from imconnect.tap.state import State

_log = Logger()

#: Seconds in which the queue may take the rest when the process stops.
FLUSH = 2.0
#: Seconds between two looks whether a start still waits for a reason.
LOOK = 0.05


class Folder:
    """The data_dir, taken before the fork and given back last."""

    def __init__(self, folder: DataDir) -> None:
        self._folder = folder

    def start(self) -> None:
        self._folder.write_pid()

    def stop(self) -> None:
        self._folder.release()


class Log:
    """Opens the outbox and ends what an earlier process left open; closes it when everything else has stopped."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._node.recover())

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._node.stop())


class Recovery:
    """Embedded queue: what the log still held is in the database before anybody signs in. A database on another
    machine, and a broker, may be away: then it follows later."""

    def __init__(self, node: Node, clock: Any, settles: Literal["always", "if there", "never"]) -> None:
        self._node = node
        self._clock = clock
        self.settles = settles

    async def start(self) -> None:
        relay = self._node.relay
        if self.settles == "always":
            await relay.caught_up()
        elif self.settles == "if there":
            done = relay.caught_up()
            while not done.called and not relay.last_error:
                await sleep(self._clock, LOOK)
            if not done.called:
                _log.warn("starting with {count} events in the outbox: {why}", count=relay.backlog, why=relay.last_error)

    async def stop(self) -> None:
        """A moment for the queue to take the rest; what it does not take stays in the log."""
        try:
            await within(self._node.relay.caught_up(), FLUSH, self._clock)
        except Unavailable:
            _log.info("{count} events stay in the outbox for the next start", count=self._node.backlog)


class Clients:
    """The timers while clients are here, and the drain when they have to leave."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def start(self) -> None:
        self._node.start()

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._node.drain())


class Ready:
    """Says to load balancers and to systemd that clients are taken, and no longer."""

    def __init__(self, state: State, factory: Factory, listening: Listening, leave: Callable[[], None]) -> None:
        self.state = state
        self._factory = factory
        self._listening = listening
        self._leave = leave

    def start(self) -> None:
        self.state.phase = "ready"
        self._factory.accepting = True
        _log.info("ready: ws://{on.host}:{on.port}", on=self._listening)
        systemd.notify("READY=1")

    def stop(self) -> None:
        self.state.phase = "draining"
        self._factory.accepting = False
        systemd.notify("STOPPING=1")
        _log.info("stopping: clients are asked to leave")
        self._leave()


class Unused:
    """Says at the start which keys somebody gave in vain."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def start(self) -> None:
        _log.warn(
            "no effect here: {names}. Nobody tells this gateway anything over gRPC, and business in it tells nobody else",
            names=", ".join(self.names),
        )

    def stop(self) -> None:
        """Nothing."""
