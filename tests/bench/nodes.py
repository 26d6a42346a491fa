"""What it costs that two people are on different gateways: `python -m tests.bench.nodes`. About a minute.

Two gateways as real processes with a real Redis and one database. The same people, from this process, chat through one
gateway and through both, in turns, each with the same number of messages in flight: a sender sends the next message when
the receipt for one comes. Printed are messages per second, the gateways' processor time per message, and how many
commands Redis was given per message and per login.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from imconnect.client import Client
from imconnect.core.background import sleep
from tests.bench.overhead import TEXT, used_by
from tests.live.processes import GatewayProcess, free_port, until
from tests.servers import redis

#: Pairs of people in each of the two settings.
PAIRS = 10
#: Cross-node relay must reach this share of the same-node rate (issue D).
LEAST = 1 / 3


class Setting:
    """Pairs of people: senders on one gateway, receivers on the same or on another."""

    def __init__(self, reactor: Any, name: str, here: GatewayProcess, there: GatewayProcess, first: int) -> None:
        self.reactor, self.name = reactor, name
        self.gateways = {here.name: here, there.name: there}
        self.senders = [Client(reactor, here.url, first + 2 * pair) for pair in range(PAIRS)]
        self.receivers = [Client(reactor, there.url, first + 2 * pair + 1) for pair in range(PAIRS)]
        self.messages = 0
        self.seconds = self.cpu = 0.0
        self.commands = 0
        self._running = False
        self._under_way = 0

    async def begin(self) -> None:
        """Everybody signs in."""
        for client in (*self.senders, *self.receivers):
            await client.start()
        for sender in self.senders:
            sender.on_receipt = lambda *_, sender=sender: self._receipt(sender)  # type: ignore[misc]

    async def load(self, seconds: float, window: int, counted: bool = True) -> None:
        """With so many messages in flight per sender."""
        before, sent, begun = self._cpu(), self.messages, time.perf_counter()
        self._running = True
        for sender in self.senders:
            for _ in range(window):
                self._send(sender)
        await sleep(self.reactor, seconds)
        self._running = False
        await until(self.reactor, lambda: not self._under_way, f"every message has its receipt ({self.name})", 30)
        if counted:
            self.seconds += time.perf_counter() - begun
            self.cpu += self._cpu() - before
        else:
            self.messages = sent

    async def end(self) -> None:
        await gatherResults([client.stop() for client in (*self.senders, *self.receivers)])

    def _send(self, sender: Client) -> None:
        self._under_way += 1
        sender.send(sender.user + 1, TEXT)

    def _receipt(self, sender: Client) -> None:
        self._under_way -= 1
        self.messages += 1
        if self._running:
            self._send(sender)

    def _cpu(self) -> float:
        return sum(used_by(gateway.pid).cpu for gateway in self.gateways.values())

    @property
    def rate(self) -> float:
        return self.messages / self.seconds


def commands(url_client: Any) -> int:
    """Commands that Redis was given so far, those inside its scripts not counted."""
    found = url_client.info("commandstats")
    scripts = {"cmdstat_evalsha", "cmdstat_set", "cmdstat_smismember", "cmdstat_sadd", "cmdstat_pexpire"}
    return sum(stats["calls"] for name, stats in found.items() if name in scripts)


def gateway(reactor: Any, folder: Path, number: int, url: str) -> GatewayProcess:
    """Not started."""
    settings = {
        "node.id": number,
        "data_dir": folder / f"var-{number}",
        "business.database": f"sqlite:///{folder}/business.db",
        "redis.url": url,
        "grpc.port": free_port(),
    }
    return GatewayProcess(reactor, folder, settings, name=f"node-{number}")


async def measure(reactor: Any, seconds: float, rounds: int, window: int) -> None:
    """Everything, on one Redis."""
    server = await deferToThread(redis.shared)
    client = server.client()
    with TemporaryDirectory() as name:
        folder = Path(name)
        one, two = (gateway(reactor, folder, number, server.url()) for number in (1, 2))
        try:
            await one.start()
            await two.start()
            settings = [Setting(reactor, "one gateway", one, one, 1001), Setting(reactor, "two gateways", one, two, 5001)]
            logins = 0
            for each in settings:
                before = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
                await each.begin()
                logins += client.info("commandstats")["cmdstat_evalsha"]["calls"] - before
                await each.load(1.0, window, counted=False)
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}", flush=True)
                for each in settings:
                    before = commands(client)
                    await each.load(seconds / rounds, window)
                    each.commands += commands(client) - before
            for each in settings:
                await each.end()
        finally:
            one.end()
            two.end()
    report(settings, logins)


def report(settings: list[Setting], logins: int) -> None:
    """The table, and the ratio."""
    print(f"\n{'':14} {'messages/s':>11} {'CPU per message':>16} {'Redis commands per message':>27}")
    for each in settings:
        per_message = each.cpu / each.messages * 1e6
        print(f"{each.name:14} {each.rate:11,.0f} {per_message:13.0f} us {each.commands / each.messages:27.2f}")
    one, two = settings
    verdict = "reaches" if two.rate / one.rate >= LEAST else "misses"
    print(f"\nAcross gateways: {two.rate / one.rate:.2f} of the rate on one; {verdict} {LEAST:.2f}")
    print(f"Presence: {logins / (4 * PAIRS):.2f} scripts of Redis per login, renewals included")


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """For `react`."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.nodes", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15, help="under load, each (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="in which that is done (default: %(default)s)")
    parser.add_argument("--window", type=int, default=16, help="messages in flight per sender (default: %(default)s)")
    given = parser.parse_args(arguments)
    return Deferred.fromCoroutine(measure(reactor, given.seconds, given.rounds, given.window))


if __name__ == "__main__":
    react(main, sys.argv[1:])
