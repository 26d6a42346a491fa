"""The gateway, wired: configuration in, a service tree out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from imconnect.backends import outbox_drained, outbox_schema
from imconnect.backends.auth_open import OpenAuthenticator
from imconnect.backends.datadir import DataDir
from imconnect.backends.outbox_sqlite import SqliteOutbox
from imconnect.config import Config
from imconnect.config.profiles import dialect_of, profile_of, serves_java
from imconnect.core.node import Node
from imconnect.core.settings import Settings
from imconnect.edge.http import make_site
from imconnect.edge.settings import EdgeSettings
from imconnect.edge.websocket import Factory
from imconnect.handlers import HANDLERS
from imconnect.handlers.refuse import refuse as refusal
from imconnect.model import Message
from imconnect.observe.metrics import Metrics
from imconnect.service import OrderedService, end_now
from imconnect.tap.backside import RECOVERY, make_backside
from imconnect.tap.clock import now_ms
from imconnect.tap.gateway_parts import Clients, Folder, Log, Ready, Recovery, Unused
from imconnect.tap.listening import Listening, bind, passed_by_systemd
from imconnect.tap.live import gateway_takes
from imconnect.tap.logged import AFTER_DRAIN, LoggedService, make_service
from imconnect.tap.options import Options
from imconnect.tap.state import State

#: Seconds whose events go to the queue together: a request costs the same for one and for many.
GATHER = 0.01


def makeService(options: Options, reactor: Any = None) -> OrderedService:
    """For twistd."""
    service = make_service(options, reactor, add_parts)
    unused = in_vain(options.configuration, options.origins)
    if unused:
        service.add("settings", Unused(unused))
    return service


def listens_on_grpc(config: Config) -> bool:
    """Whether anybody may have something to tell this gateway."""
    return (
        bool(config.redis.url) or config.business.mode == "off" or config.profile == "xzll" or serves_java(config)
    )


def in_vain(config: Config, given: Iterable[str]) -> list[str]:
    """Of the keys that somebody gave: those that do nothing here."""
    unused: tuple[str, ...] = () if listens_on_grpc(config) else ("grpc.",)
    if config.business.mode == "embedded":
        # imbusiness tells other processes; business in here tells the clients of this one.
        unused += ("business.gateways",)
    return [name for name in given if f"{name}.".startswith(unused)]


def add_parts(service: LoggedService, config: Config, reactor: Any) -> None:
    """The gateway's parts, in the order in which they start. Raises ConfigError or Damaged."""
    folder = DataDir(config.data_dir)
    outbox_schema.inspect(folder.file("outbox.db"))
    outbox_drained.refuse(folder.file("outbox.db"))
    server = config.server
    websocket = passed_by_systemd("websocket") or bind(server.host, server.port, "server.port", shared=server.reuse_port)
    http = bind(config.http.host, config.http.port, "http.port")
    grpc = bind(config.grpc.host, config.grpc.port, "grpc.port") if listens_on_grpc(config) else None
    node_name = config.node.name or "{}:{}".format(*websocket.getsockname()[:2])

    metrics = Metrics()
    dialect = dialect_of(config)

    def fits(message: Message) -> bool:
        return dialect.fits(message, config.rocketmq.producer.max_message_size)

    behind = make_backside(reactor, config, folder, dialect, metrics, http.getsockname()[1])
    neighbours = None
    if config.redis.url and grpc is not None:
        # Late: a node alone loads neither Redis nor gRPC.
        from imconnect.tap.neighbours import make_neighbours

        neighbours = make_neighbours(
            reactor,
            config,
            folder,
            name=node_name,
            websocket=websocket.getsockname()[:2],
            grpc=grpc.getsockname()[:2],
            abort=service.abort,
        )
    outbox = SqliteOutbox(reactor, folder.file("outbox.db"), config.outbox.sync, end_now)
    node = Node(
        clock=reactor,
        now_ms=now_ms,
        settings=core_settings(config),
        node_id=config.node.id,
        outbox=outbox,
        store=behind.store,
        producer=behind.producer,
        metrics=metrics,
        handlers=HANDLERS,
        refuse=refusal,
        fits=fits,
        between=neighbours.between if neighbours else None,
    )
    behind.telling.node = node
    factory = Factory(reactor, edge_settings(config), node, OpenAuthenticator(), metrics)
    gateway_takes(service.live, node, factory.admission)
    listening = Listening(reactor, websocket, factory)
    state = State(node, outbox, factory, behind, now_ms, neighbours.presence if neighbours else None)
    state.register(metrics)

    service.add("http", Listening(reactor, http, make_site(reactor, state.ready, metrics, state.stats)))
    service.add("data_dir", Folder(folder))
    for name, part, seconds in behind.parts:
        service.add(name, part, start_within=seconds, stop_within=AFTER_DRAIN)
    if neighbours is not None:
        service.add("index", neighbours.sent, stop_within=AFTER_DRAIN)
    service.add("outbox", Log(node), start_within=RECOVERY, stop_within=AFTER_DRAIN)
    service.add("relay", Recovery(node, reactor, behind.settles), start_within=RECOVERY)
    for name, part, seconds in behind.consumers:
        service.add(name, part, start_within=seconds, stop_within=AFTER_DRAIN)
    if grpc is not None:
        # Late: an embedded gateway never loads gRPC.
        from imconnect.tap.grpc_port import make_grpc

        service.add("grpc", make_grpc(reactor, config, grpc, node, node_name), stop_within=AFTER_DRAIN)
    if neighbours is not None:
        service.add("presence", neighbours.routes, stop_within=AFTER_DRAIN)
    service.add("clients", Clients(node), stop_within=config.drain.deadline)
    service.add("websocket", listening)
    service.add("ready", Ready(state, factory, listening, behind.leave))


def core_settings(config: Config) -> Settings:
    """What the core is told."""
    limits = config.limits
    return Settings(
        profile=profile_of(config),
        delays=tuple(config.retry.delays),
        give_up=config.retry.give_up,
        commands_per_second=limits.commands_per_second,
        burst=limits.burst,
        pending_commands=limits.pending_commands,
        outgoing_bytes=limits.outgoing_bytes,
        connections_per_user=limits.connections_per_user,
        unacknowledged=limits.unacknowledged,
        unacknowledged_total=limits.unacknowledged_total,
        recent_rows=limits.recent_rows,
        dedupe_window=limits.dedupe_window,
        business_lag=limits.business_lag,
        withdraw_window=limits.withdraw_window,
        backfill_timeout=limits.backfill_timeout,
        outbox_max_events=config.outbox.max_events,
        commit_timeout=config.outbox.commit_timeout,
        ack_after_broker=config.outbox.ack_after == "broker",
        broker_timeout=config.rocketmq.producer.send_timeout,
        # With `broker` somebody waits for it.
        relay_gather=0.0 if config.outbox.ack_after == "broker" else GATHER,
        drain_rate=config.drain.rate,
        drain_deadline=config.drain.deadline,
    )


def edge_settings(config: Config) -> EdgeSettings:
    """What the edge is told."""
    limits = config.limits
    return EdgeSettings(
        path=config.server.path,
        frame_bytes=limits.frame_bytes,
        connections=limits.connections,
        connections_per_ip=limits.connections_per_ip,
        handshake_timeout=limits.handshake_timeout,
        ping_interval=limits.ping_interval,
        idle_timeout=limits.idle_timeout,
        outgoing_bytes=limits.outgoing_bytes,
    )
