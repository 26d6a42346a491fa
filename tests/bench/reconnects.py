"""How evenly people come back when a gateway leaves: `python -m tests.bench.reconnects`. Under a minute.

Two gateways; everybody is on the first, which is told to leave (SIGTERM) with `drain.rate` set. Each client does what its
close reason says: it waits so long and signs in at the second gateway. Printed is who was told and who came back in each
second. Issue D wants the middle of it within 25 % of the rate.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from imconnect.core.background import sleep
from tests.live.processes import GatewayProcess
from tests.live.raw import RawClient

MOST = 0.25
REASON = "leaving; retry_after_ms="


async def move(
    reactor: Any, client: RawClient, user: int, to: GatewayProcess, told: list[float], back: list[float]
) -> None:
    """Waits to be told, then comes back elsewhere."""
    code = await client.until_gone(60)
    if code != 4005:
        raise RuntimeError(f"closed with {code}")
    told.append(reactor.seconds())
    await sleep(reactor, int(client.close_reason.removeprefix(REASON)) / 1000)
    again = await RawClient(reactor).connect(to.port)
    await again.sign_in(user)
    back.append(reactor.seconds())
    again.drop()


async def measure(reactor: Any, people: int, rate: float) -> None:
    """Everything."""
    with TemporaryDirectory() as name:
        settings = {"drain.rate": rate, "drain.deadline": 2 * people / rate}
        gateways = []
        for each in ("first", "second"):
            folder = Path(name) / each
            folder.mkdir()
            gateways.append(GatewayProcess(reactor, folder, settings, name=each))
        first, second = gateways
        try:
            await first.start()
            await second.start()
            clients = []
            for user in range(1001, 1001 + people):
                client = await RawClient(reactor).connect(first.port)
                clients.append((await client.sign_in(user), user))
            told: list[float] = []
            back: list[float] = []
            moving = [
                Deferred.fromCoroutine(move(reactor, client, user, second, told, back)) for client, user in clients
            ]
            began = reactor.seconds()
            first.signal(signal.SIGTERM)
            await gatherResults(moving)
        finally:
            for gateway in gateways:
                gateway.end()
    report(Counter(int(at - began) for at in told), Counter(int(at - began) for at in back), rate)


def report(told: Counter[int], back: Counter[int], rate: float) -> None:
    """The table, and how far its middle is from the rate."""
    print(f"\n{'second':>6} {'told':>6} {'back':>6}")
    for second in range(max(back) + 1):
        print(f"{second:6} {told[second]:6} {back[second]:6}")
    # Without the ends: in the first seconds the waits begin, in the last ones they run out.
    middle = [back[second] for second in range(3, max(told))]
    if middle:
        worst = max(abs(count / rate - 1) for count in middle)
        verdict = "within" if worst <= MOST else "misses"
        print(f"\nseconds 3 to {max(told) - 1}: at most {worst:.0%} from {rate:g} per second; {verdict} {MOST:.0%}")


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """For `react`."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.reconnects", description=__doc__)
    parser.add_argument("--people", type=int, default=800, help="on the gateway that leaves (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=60, help="drain.rate (default: %(default)s)")
    given = parser.parse_args(arguments)
    return Deferred.fromCoroutine(measure(reactor, given.people, given.rate))


if __name__ == "__main__":
    react(main, sys.argv[1:])
