"""What a ledger or a cell of the crash matrix runs on: the processes of one installation, to be hurt one by one."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from imconnect.rocketmq.client import Client
from imconnect.rocketmq.producer import Producer
from imconnect.tap.logged import FAULT
from tests.live.evidence import Queued, Rows, read_rows, read_topic
from tests.live.processes import HOST, BusinessProcess, GatewayProcess, ServerProcess, free_port, until
from tests.servers.mariadb import MariaDb
from tests.servers.redis import RedisServer
from tests.servers.rocketmq_broker import DevBroker

#: Seconds after which two nodes know each other.
ACQUAINTED = 1.5
#: Seconds for which a server may still seem to be away after it has come back: connections, routes, what has piled up.
COMING_BACK = {"database": 5.0, "broker": 15.0}


class World:
    """One gateway with everything embedded: one process, SQLite."""

    #: The processes, in the order in which they start.
    names: Sequence[str] = ("gateway",)

    def __init__(self, reactor: Any, folder: Path, settings: Mapping[str, Any]) -> None:
        self.reactor, self.folder = reactor, folder
        self.gateway = GatewayProcess(reactor, folder, settings)
        #: Times in which the gateway could not read the store.
        self.store_away: list[tuple[float, float]] = []
        #: Times in which it waited for a broker before it told anybody anything.
        self.queue_away: list[tuple[float, float]] = []

    @property
    def ours(self) -> Mapping[str, ServerProcess]:
        """Those that are Python's."""
        return {"gateway": self.gateway}

    @property
    def ports(self) -> Sequence[int]:
        """Where clients sign in."""
        return [self.gateway.port]

    async def start(self) -> None:
        """All of them are ready."""
        for process in self.ours.values():
            await process.start()

    def arm(self, name: str, fault: str) -> None:
        """From its next start on; "" for no fault."""
        if fault:
            self.ours[name].env[FAULT] = fault
        else:
            self.ours[name].env.pop(FAULT, None)

    async def kill9(self, name: str) -> None:
        """It dies at once, if it has not already."""
        process = self.ours[name]
        if process.status is None:
            process.signal(signal.SIGKILL)
        await process.wait(10)

    async def revive(self, name: str) -> None:
        """It is there again."""
        if self.ours[name].status is not None:
            await self.ours[name].start()

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self.ours[name].signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self.ours[name].signal(signal.SIGCONT)

    async def stands_still(self, name: str, within: float = 60.0) -> None:
        """Until it has stopped itself at its fault."""
        pid = self.ours[name].pid
        stat = Path(f"/proc/{pid}/stat")
        await until(self.reactor, lambda: _state(stat) == "T", f"{name} stands still at its fault", within)

    async def dies(self, name: str, within: float = 60.0) -> None:
        """Until it has died of its fault."""
        status = await self.ours[name].wait(within)
        assert status == -signal.SIGKILL, f"{name} ended with {status}"

    async def rows(self) -> Rows:
        """What business keeps; of a database that is away: nothing."""
        return await deferToThread(_rows, self.database_url)

    @property
    def database_url(self) -> str:
        """For SQLAlchemy, to read."""
        return f"sqlite:///file:{self.gateway.data_dir}/business.db?mode=ro&uri=true"

    async def topic(self) -> list[Queued] | None:
        """What lies in the topic; None where there is none."""
        return None

    def end(self) -> None:
        """Whatever is left of our processes is gone. Servers are their maker's."""
        for process in self.ours.values():
            process.end()

    def tail(self) -> str:
        return "\n".join(process.tail(30) for process in self.ours.values())


class Nodes(World):
    """Two gateways with Redis between them and one SQLite database; each has its embedded queue."""

    names = ("redis", "gateway", "other")

    def __init__(self, reactor: Any, folder: Path, settings: Mapping[str, Any], redis: RedisServer) -> None:
        self.redis = redis
        shared = {"redis.url": redis.url(), "business.database": f"sqlite:///{folder}/business.db", **settings}
        super().__init__(reactor, folder, {**shared, "node.id": 1, "grpc.port": free_port()})
        second = {**shared, "node.id": 2, "grpc.port": free_port(), "data_dir": folder / "var-2"}
        self.other = GatewayProcess(reactor, folder, second, name="other")

    @property
    def ours(self) -> Mapping[str, ServerProcess]:
        return {"gateway": self.gateway, "other": self.other}

    @property
    def ports(self) -> Sequence[int]:
        return [self.gateway.port, self.other.port]

    async def start(self) -> None:
        await super().start()
        await deferLater(self.reactor, ACQUAINTED)

    async def kill9(self, name: str) -> None:
        if name == "redis":
            await deferToThread(self.redis.kill9)
        else:
            await super().kill9(name)

    async def revive(self, name: str) -> None:
        if name == "redis":
            await deferToThread(self.redis.start)
        else:
            await super().revive(name)

    @property
    def database_url(self) -> str:
        return f"sqlite:///file:{self.folder}/business.db?mode=ro&uri=true"


class Whole(World):
    """Gateway, imbusiness, RocketMQ and MariaDB. Broker and database are given, with a topic and a database of one's
    own in them."""

    names = ("broker", "database", "gateway", "business")

    def __init__(
        self, reactor: Any, folder: Path, settings: Mapping[str, Any], broker: DevBroker, database: MariaDb
    ) -> None:
        self.broker, self.database = broker, database
        self.topic_name = f"T{os.urandom(6).hex()}"
        self.schema = f"d{os.urandom(6).hex()}"
        grpc = free_port()
        shared = {
            "rocketmq.server_addr": broker.namesrv,
            "rocketmq.topic": self.topic_name,
            "business.database": database.url(self.schema),
        }
        super().__init__(reactor, folder, {"business.mode": "off", "grpc.port": grpc, **shared, **settings})
        group = {"rocketmq.consumer.group_name": f"G{self.topic_name}", "business.gateways": f"[{HOST}:{grpc}]"}
        self._windows = {"database": self.store_away}
        if settings.get("outbox.ack_after") == "broker":
            self._windows["broker"] = self.queue_away
        self.business = BusinessProcess(reactor, folder, {**shared, **group})

    @property
    def ours(self) -> Mapping[str, ServerProcess]:
        return {"gateway": self.gateway, "business": self.business}

    async def start(self) -> None:
        await deferToThread(self.broker.create_topic, self.topic_name, 4)
        await deferToThread(self.database.create_database, self.schema)
        for process in self.ours.values():
            process.spawn()
        for process in self.ours.values():
            await until(self.reactor, process.is_ready, lambda: f"{process.name}: {process.tail()}", 60)  # noqa: B023

    async def kill9(self, name: str) -> None:
        if name in self.ours:
            await super().kill9(name)
        else:
            self._away(name)
            await deferToThread(getattr(self, name).kill9)

    async def revive(self, name: str) -> None:
        if name in self.ours:
            await super().revive(name)
            return
        await deferToThread(getattr(self, name).start)
        self._back(name)

    def pause(self, name: str) -> None:
        if name in self.ours:
            super().pause(name)
        else:
            self._away(name)
            getattr(self, name).pause()

    def resume(self, name: str) -> None:
        if name in self.ours:
            super().resume(name)
        else:
            getattr(self, name).resume()
            self._back(name)

    def _away(self, name: str) -> None:
        if name in self._windows:
            self._windows[name].append((self.reactor.seconds(), float("inf")))

    def _back(self, name: str) -> None:
        if name in self._windows:
            windows = self._windows[name]
            windows[-1] = (windows[-1][0], self.reactor.seconds() + COMING_BACK[name])

    @property
    def database_url(self) -> str:
        return self.database.url(self.schema)

    async def topic(self) -> list[Queued] | None:
        client = Client(self.reactor, self.broker.namesrv)
        try:
            return await read_topic(client, self.topic_name, await Producer(client, "ledger").queues(self.topic_name))
        finally:
            await client.close(1.0)


def _rows(url: str) -> Rows:
    engine = create_engine(url, poolclass=NullPool)
    try:
        return read_rows(engine)
    except SQLAlchemyError:
        return Rows()
    finally:
        engine.dispose()


def _state(stat: Path) -> str:
    """The state of a process in /proc; "" where it is gone."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
