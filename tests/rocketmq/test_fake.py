"""The behaviours of producer and consumer on the fake broker, in fake time."""

from __future__ import annotations

from itertools import count

from imconnect.rocketmq.client import Client
from tests.rocketmq.behaviours import Behaviours
from tests.rocketmq.support import ClusterTestCase


class FakeBehaviourTests(ClusterTestCase, Behaviours):
    """Everything in `Behaviours`."""

    def setUp(self) -> None:
        super().setUp()
        self._topics = count()

    def tearDown(self) -> None:
        """Whatever was sent, no queue ever had two requests under way."""
        self.assertEqual(self.broker.overlaps, 0)

    def new_client(self, client_id: str = "") -> Client:
        return self.client(client_id=client_id)

    def new_topic(self) -> str:
        return f"Topic{next(self._topics)}"
