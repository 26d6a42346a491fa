"""The file that freezes which queue a key goes to."""

from __future__ import annotations

import json
from pathlib import Path

from imconnect.backends.mq_queues import FrozenQueues, Lanes
from imconnect.errors import Damaged
from imconnect.rocketmq.routes import Queue
from tests.support import TestCase


def queues(topic: str, count: int) -> tuple[Queue, ...]:
    return tuple(Queue(topic, "broker-a", number) for number in range(count))


class FrozenQueuesTests(TestCase):
    """queues.json."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = str(self.folder / "queues.json")

    def test_nothing_yet(self) -> None:
        """Without a file no topic is known, and looking makes none."""
        self.assertIsNone(FrozenQueues(self.path).get("T"))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_it_lasts(self) -> None:
        """What was frozen is what the next process reads; the first lane is 1, and topics follow each other."""
        frozen = FrozenQueues(self.path)
        self.assertEqual(frozen.freeze("T", queues("T", 4)), Lanes(1, queues("T", 4)))
        self.assertEqual(frozen.freeze("U", queues("U", 2)).first, 5)
        again = FrozenQueues(self.path)
        self.assertEqual(again.get("T"), Lanes(1, queues("T", 4)))
        self.assertEqual(again.get("U"), Lanes(5, queues("U", 2)))
        self.assertEqual([file.name for file in self.folder.iterdir()], ["queues.json"])

    def test_not_ours(self) -> None:
        """Anything else is Damaged, names the file, and stays as it is."""
        good = {"T": {"first_lane": 1, "queues": [["broker-a", 0]]}}
        for text in (
            "",
            "{",
            "[]",
            '{"T": 1}',
            json.dumps({"T": {**good["T"], "queues": []}}),
            json.dumps({"T": {**good["T"], "first_lane": 0}}),
            json.dumps({"T": {**good["T"], "queues": [["broker-a"]]}}),
        ):
            Path(self.path).write_text(text, "utf-8")
            with self.assertRaises(Damaged) as caught:
                FrozenQueues(self.path)
            self.assertEqual(caught.exception.path, self.path)
            self.assertEqual(Path(self.path).read_text("utf-8"), text)

    def test_a_full_disk(self) -> None:
        """What could not be written is not used either."""
        frozen = FrozenQueues(str(self.folder / "missing" / "queues.json"))
        with self.assertRaises(OSError):
            frozen.freeze("T", queues("T", 4))
        self.assertIsNone(frozen.get("T"))
