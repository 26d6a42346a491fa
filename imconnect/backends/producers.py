"""The transport to RocketMQ by its name. It is chosen once, at the start: two would choose queues side by side."""

from __future__ import annotations

import os
from typing import Any, Protocol

from twisted.internet import ssl
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

from imconnect.backends.mq_queues import FrozenQueues
from imconnect.backends.mq_topic import Topic
from imconnect.backends.producer_rocketmq import RocketmqProducer
from imconnect.backends.threads import Pool
from imconnect.core.ports import Producer
from imconnect.errors import ConfigError
from imconnect.events.dialect import Dialect
from imconnect.observe.metrics import Metrics
from imconnect.rocketmq.client import Client, Tls
from imconnect.rocketmq.connection import Credentials


class Sending(Protocol):
    """`rocketmq.producer` of the configuration."""

    @property
    def group_name(self) -> str: ...
    @property
    def max_message_size(self) -> int: ...
    @property
    def send_timeout(self) -> float: ...
    @property
    def retry_times(self) -> int: ...


class Encryption(Protocol):
    """`rocketmq.tls` of the configuration."""

    @property
    def enabled(self) -> bool: ...
    @property
    def ca(self) -> str: ...


class Rocketmq(Protocol):
    """`rocketmq` of the configuration, as far as sending needs it. `topic` is the dialect's where it is empty."""

    @property
    def server_addr(self) -> str: ...
    @property
    def transport(self) -> str: ...
    @property
    def library(self) -> str: ...
    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def create_topic(self) -> bool: ...
    @property
    def queues(self) -> int: ...
    @property
    def accept_unproven(self) -> bool: ...
    @property
    def tls(self) -> Encryption: ...
    @property
    def producer(self) -> Sending: ...


def make_producer(
    reactor: Any, settings: Rocketmq, dialect: Dialect, *, node_id: int, data_dir: str, metrics: Metrics
) -> Producer:
    """The producer that the settings name; nothing is connected, and no thread started, before its `open`.

    Its counters and gauges are shown in `metrics`. Raises ConfigError, and Damaged where queues.json is not ours.
    """
    topic = Topic(
        settings.topic or dialect.topic,
        FrozenQueues(os.path.join(data_dir, "queues.json")),
        create=settings.create_topic,
        queues=settings.queues,
    )
    common: dict[str, Any] = {
        "node_id": node_id,
        "max_bytes": settings.producer.max_message_size,
        "attempts": settings.producer.retry_times,
        "accept_unproven": settings.accept_unproven,
    }
    connect = connector(reactor, settings)
    producer: Any
    if settings.transport == "client-python":
        producer = _client_python(reactor, settings, connect, topic, dialect, common, data_dir)
    else:
        group, timeout = settings.producer.group_name, settings.producer.send_timeout
        producer = RocketmqProducer(reactor, connect, topic, dialect, group=group, timeout=timeout, **common)
    metrics.mq_retries, metrics.mq_unproven = producer.codes, producer.unproven
    metrics.gauges.update(producer.gauges())
    chosen: Producer = producer
    return chosen


def connector(reactor: Any, settings: Rocketmq, client_id: str = "") -> Any:
    """Makes a client as configured: name servers, account, TLS. Raises ConfigError."""
    credentials = credentials_of(settings)
    tls = tls_of(settings.tls)

    def connect() -> Client:
        return Client(reactor, settings.server_addr, client_id=client_id, credentials=credentials, tls=tls)

    return connect


def credentials_of(settings: Rocketmq) -> Credentials | None:
    """None: no ACL."""
    return Credentials(settings.access_key, settings.secret_key) if settings.access_key else None


def tls_of(settings: Encryption) -> Tls | None:
    """None: no TLS. Raises ConfigError where the CA's file is no certificate."""
    if not settings.enabled:
        return None
    trusted = None
    if settings.ca:
        try:
            with open(settings.ca, "rb") as file:
                trusted = ssl.Certificate.loadPEM(file.read())
        except OSError as error:
            raise ConfigError("rocketmq.tls.ca", f"expected a PEM file, {settings.ca}: {error.strerror}") from None
        except Exception:  # pyOpenSSL's and cryptography's, of no common kind
            raise ConfigError("rocketmq.tls.ca", f"expected a PEM certificate in {settings.ca}") from None

    def options(host: str) -> IOpenSSLClientConnectionCreator:
        if trusted is None:
            return ssl.optionsForClientTLS(host)
        return ssl.optionsForClientTLS(host, trustRoot=trusted)

    return options


def _client_python(
    reactor: Any,
    settings: Rocketmq,
    connect: Any,
    topic: Topic,
    dialect: Dialect,
    common: dict[str, Any],
    data_dir: str,
) -> Any:
    # Late: without this transport neither the package nor its library is needed.
    from imconnect.backends import librocketmq
    from imconnect.backends.librocketmq_sender import Sender
    from imconnect.backends.producer_client_python import ClientPythonProducer

    if settings.tls.enabled:
        raise ConfigError("rocketmq.tls.enabled", "expected false with rocketmq.transport client-python")
    if "[" in settings.server_addr:
        raise ConfigError("rocketmq.server_addr", "expected no IPv6 literal with rocketmq.transport client-python")
    home = os.path.abspath(os.path.join(data_dir, "librocketmq"))
    sender = Sender(
        librocketmq.load(settings.library, home),
        home,
        settings.server_addr,
        settings.producer.group_name,
        timeout=settings.producer.send_timeout,
        max_bytes=settings.producer.max_message_size,
        credentials=credentials_of(settings),
    )
    pool = Pool(reactor, "client-python", 1)
    return ClientPythonProducer(reactor, connect, topic, dialect, sender, pool, **common)
