"""`twistd imbusiness`: the reference consumer in a process of its own, wired.

It keeps no files but its copy of what Nacos said: the database is elsewhere, and so it takes no data_dir. Two of them on
one machine need an `http.port` each and nothing else; they share the queues.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from twisted.logger import Logger

from imconnect.backends.pushback_grpc import GrpcPushback
from imconnect.config import Config, unsupported
from imconnect.config.profiles import terms_of
from imconnect.edge.http import make_site
from imconnect.errors import ConfigError
from imconnect.observe import systemd
from imconnect.observe.metrics import Metrics
from imconnect.service import OrderedService
from imconnect.tap.business_state import BusinessState
from imconnect.tap.clock import now_ms
from imconnect.tap.consuming import make_consuming
from imconnect.tap.credentials import credentials_of
from imconnect.tap.database import Database
from imconnect.tap.listening import Listening, bind
from imconnect.tap.logged import make_service
from imconnect.tap.options import Options as GatewayOptions

_log = Logger()

#: Seconds for which a database that is away is waited for at the start: for ever, to all intents and purposes.
FOREVER = 10 * 365 * 86400.0
#: Seconds that Redis may take to say where people are.
REDIS = 0.5


class Options(GatewayOptions):
    """The same as the gateway's; only its HTTP port is another one by default."""

    defaults_of_command: ClassVar[Mapping[str, Any]] = {"http": {"port": 10003}}
    copy_of_command: ClassVar[str] = "nacos-last-imbusiness.yaml"
    defaults_of_instance: ClassVar[Mapping[str, Any]] = {}


def makeService(options: Options, reactor: Any = None) -> OrderedService:
    """For twistd."""
    return make_service(options, reactor, add_parts, _check_all)


def add_parts(service: OrderedService, config: Config, reactor: Any) -> None:
    """Its parts, in the order in which they start. Raises ConfigError."""
    _check(config)
    http = bind(config.http.host, config.http.port, "http.port")
    name = f"{config.node.name or 'imbusiness'}-{http.getsockname()[1]}"

    metrics = Metrics()
    database = Database(reactor, config, config.business.database, now_ms, if_away="wait")
    pushback = _pushback(reactor, config, name)
    consuming = make_consuming(reactor, config, database, pushback, metrics, name)
    state = BusinessState(consuming, pushback)
    state.register(metrics)

    service.add("http", Listening(reactor, http, make_site(reactor, state.ready, metrics, state.stats)))
    service.add("database", database, start_within=FOREVER, stop_within=5.0)
    service.add("pushback", pushback, stop_within=3.0)
    service.add("consumer", consuming.consumer)
    service.add("jobs", consuming.jobs, stop_within=5.0)
    service.add("ready", _Ready(state, consuming.client_id))


def _pushback(reactor: Any, config: Config, name: str) -> GrpcPushback:
    gateways, credentials = config.business.gateways, credentials_of(config)
    if not config.redis.url:
        return GrpcPushback(reactor, gateways, name, credentials=credentials)
    # Late: without redis.url it is not loaded.
    from imconnect.backends.pushback_routed import RoutedPushback
    from imconnect.backends.redis_calls import RedisCalls

    calls = RedisCalls(reactor, config.redis.url, "routes", REDIS)
    return RoutedPushback(reactor, calls, gateways, name, credentials=credentials)


def _check_all(config: Config) -> None:
    unsupported(config)
    _check(config)


def _check(config: Config) -> None:
    if not config.rocketmq.server_addr:
        raise ConfigError(
            "rocketmq.server_addr",
            "expected host:port of a name server: imbusiness reads the events from RocketMQ. "
            "Without one, business runs inside the gateway (business.mode: embedded)",
        )
    if not config.business.database:
        raise ConfigError("business.database", "expected a SQLAlchemy URL: it is what imbusiness writes to")
    if terms_of(config).tell_stored and not config.business.gateways and not config.redis.url:
        raise ConfigError(
            "business.gateways",
            "expected the gRPC addresses of the gateways, or a redis.url: in profile xzll (profile_rows.server_ack: business) it is "
            "imbusiness that tells senders that their messages are stored",
        )


class _Ready:
    """Says to load balancers and to systemd that events are taken, and no longer."""

    def __init__(self, state: BusinessState, client_id: str) -> None:
        self._state = state
        self._client_id = client_id

    def start(self) -> None:
        self._state.phase = "ready"
        _log.info("ready: consuming as {client_id}", client_id=self._client_id)
        systemd.notify("READY=1")

    def stop(self) -> None:
        self._state.phase = "stopping"
        systemd.notify("STOPPING=1")
        _log.info("stopping: what is in hand is finished")
