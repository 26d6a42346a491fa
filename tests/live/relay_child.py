"""A process with an outbox, a relay and a producer, for the tests that kill it. One line per thing that happened.

`python -m tests.live.relay_child TRANSPORT NAMESRV TOPIC DATA_DIR FIRST COUNT`: makes COUNT events from msgId FIRST
durable, in many chats, and relays what the log holds. `durable N`: everything up to msgId N is; `drained`: relayed.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from imconnect.backends.outbox_sqlite import SqliteOutbox
from imconnect.backends.producers import make_producer
from imconnect.config.tree import Producer as Sending
from imconnect.config.tree import Rocketmq
from imconnect.core.background import Background, sleep
from imconnect.core.relay import Relay
from imconnect.events.seed import SEED
from imconnect.observe.metrics import Metrics
from tests.business.made import sent

#: Events per durable batch, and how many chats they belong to.
PIECE, CHATS = 20, 50
#: Events that may wait for the queue.
AHEAD = 200


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def event(number: int) -> Any:
    """Of the chat of user 1001 with one of many others."""
    return sent(number, receiver=5000 + number % CHATS)


async def work(reactor: Any, transport: Any, names: str, topic: str, folder: str, first: int, count: int) -> None:
    outbox = SqliteOutbox(reactor, os.path.join(folder, "outbox.db"))
    recovered = await outbox.open()
    sending = Sending(group_name=f"P{topic}", send_timeout=3.0)
    settings = attrs.evolve(Rocketmq(topic=topic, producer=sending), server_addr=names, transport=transport)
    metrics = Metrics()
    producer = make_producer(reactor, settings, SEED, node_id=1, data_dir=folder, metrics=metrics)
    relay = Relay(clock=reactor, outbox=outbox, producer=producer, background=Background(reactor), metrics=metrics)
    relay.start(recovered.last, 0)
    for number in range(first, first + count, PIECE):
        while relay.backlog > AHEAD:  # always in the middle of sending, never far ahead of it
            await sleep(reactor, 0.005)
        events = [event(each) for each in range(number, min(number + PIECE, first + count))]
        relay.durable(await outbox.append(events) + len(events) - 1)
        say(f"durable {number + len(events) - 1}")
    await relay.caught_up()
    relay.stop()
    await producer.close()
    await outbox.close()
    say("drained")


def main() -> None:
    from twisted.internet import reactor

    transport, names, topic, folder, first, count = sys.argv[1:]
    done = Deferred.fromCoroutine(work(reactor, transport, names, topic, folder, int(first), int(count)))
    done.addErrback(lambda failure: (failure.printTraceback(), os._exit(1)))
    # The library's threads have no say in whether the process ends.
    done.addCallback(lambda _: os._exit(0))
    reactor.run()


if __name__ == "__main__":
    main()
