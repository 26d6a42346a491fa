"""Which queue a key goes to, frozen: `queues.json` in data_dir.

RocketMQ chooses a queue by the number of queues that a topic has *now*. A broker that leaves or a topic that grows
would send the second half of a chat elsewhere than the first. So the list is written down once per topic.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from imconnect.errors import Damaged
from imconnect.rocketmq.routes import Queue


class Lanes(NamedTuple):
    """The queues of one topic in their order. Lane `first + i` is queue i.

    Lanes of different topics (and lane 0, the embedded queue) never share a number: the outbox keeps positions by it.
    """

    first: int
    queues: tuple[Queue, ...]


class FrozenQueues:
    """What the file says. Raises Damaged where it is not what we wrote."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._topics = _read(Path(path))

    def get(self, topic: str) -> Lanes | None:
        """None: this topic was never used from here."""
        return self._topics.get(topic)

    def freeze(self, topic: str, queues: Sequence[Queue]) -> Lanes:
        """Write it down, durably, before anything is sent. Raises OSError."""
        first = max((lanes.first + len(lanes.queues) for lanes in self._topics.values()), default=1)
        lanes = Lanes(first, tuple(queues))
        topics = {**self._topics, topic: lanes}
        _write(Path(self.path), topics)
        self._topics = topics
        return lanes


def _read(path: Path) -> dict[str, Lanes]:
    try:
        data = json.loads(path.read_bytes())
        topics = {
            str(topic): Lanes(
                int(entry["first_lane"]),
                tuple(Queue(topic, str(name), int(number)) for name, number in entry["queues"]),
            )
            for topic, entry in data.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Damaged(str(path), "is not a list of queues that imconnect wrote") from None
    if not all(lanes.queues and lanes.first > 0 for lanes in topics.values()):
        raise Damaged(str(path), "names a topic without queues")
    return topics


def _write(path: Path, topics: dict[str, Lanes]) -> None:
    data = {
        topic: {"first_lane": lanes.first, "queues": [[queue.broker, queue.number] for queue in lanes.queues]}
        for topic, lanes in topics.items()
    }
    scratch = path.with_suffix(".new")
    with scratch.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
