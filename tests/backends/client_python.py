"""Producers over rocketmq-client-python, where its library could be installed."""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory
from typing import Any, Literal

import attrs

from imconnect.backends import librocketmq
from imconnect.backends.producers import make_producer
from imconnect.config.tree import Rocketmq
from imconnect.core.ports import Producer
from imconnect.errors import ConfigError
from imconnect.events.dialect import Dialect
from imconnect.observe.metrics import Metrics
from tests.support import ReactorTestCase

#: The node whose events are sent.
NODE = 7


def why_not() -> str:
    """Why it cannot run here; "" where it can. In CI a missing library fails the tests instead."""
    try:
        with TemporaryDirectory() as home:
            librocketmq.load("", home)
    except ConfigError as error:
        return "" if "CI" in os.environ else str(error)
    return ""


class ConfiguredCase(ReactorTestCase):
    """Producers as tap makes them."""

    transport: Literal["native", "client-python"] = "native"

    def configured(
        self, name_servers: str, settings: Rocketmq, dialect: Dialect, data_dir: str, metrics: Metrics | None = None
    ) -> Producer:
        """Not open; closed when the test ends."""
        from twisted.internet import reactor

        settings = attrs.evolve(settings, server_addr=name_servers, transport=self.transport)
        producer = make_producer(
            reactor, settings, dialect, node_id=NODE, data_dir=data_dir, metrics=metrics or Metrics()
        )
        self.addCleanup(producer.close)
        return producer

    def play(self, scenario: Any) -> Any:
        """As a Deferred for trial."""
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(scenario)

    async def wait(self, seconds: float) -> None:
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        await deferLater(reactor, seconds)
