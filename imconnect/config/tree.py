"""The configuration: one frozen class per section, one field per key. docs/configuration.md is made from it."""

from __future__ import annotations

from typing import Literal

import attrs

from imconnect.config.keys import (
    HOST,
    HOST_PORT_LIST,
    HOST_PORTS,
    HOST_PORTS_BY_COMMA,
    MQ_NAME,
    NOT_EMPTY,
    OPTIONAL_HOST_PORT,
    OPTIONAL_NACOS_NAME,
    OPTIONAL_TOPIC,
    OPTIONAL_URL,
    PORT,
    URL_PATH,
    above,
    at_least,
    between,
    each_above,
    one_of,
    option,
    section,
)


@attrs.frozen(kw_only=True)
class Node:
    id: int = option(1, "snowflake node id, unique among gateways", check=between(0, 1023))
    name: str = option("", "how logs and other nodes call this one; empty: host:port of the WebSocket port")


@attrs.frozen(kw_only=True)
class Tls:
    certificate: str = option("", "PEM file with the certificate chain; empty: no TLS")
    key: str = option("", "PEM file with the private key")


@attrs.frozen(kw_only=True)
class Server:
    host: str = option("127.0.0.1", "address the WebSocket port listens on; 0.0.0.0 or :: for all", check=HOST)
    port: int = option(10001, "WebSocket port; 0: any free one", check=PORT)
    path: str = option("/websocket", "path of the WebSocket; anything else is 404", check=URL_PATH)
    reuse_port: bool = option(False, "let several processes of one user share the port (SO_REUSEPORT); needs redis.url; --instance sets it")
    tls: Tls = section(Tls, "TLS of the WebSocket port (wss)")


@attrs.frozen(kw_only=True)
class Http:
    host: str = option("127.0.0.1", "address of health, readiness, metrics, stats and console", check=HOST)
    port: int = option(10002, "HTTP port; 0: any free one (imbusiness: 10003 by default)", check=PORT)


@attrs.frozen(kw_only=True)
class Auth:
    mode: Literal["open", "jwt"] = option("open", "open: clients say who they are; jwt: a token says it")
    allow_open_on_network: bool = option(False, "allow auth.mode open although server.host is reachable from outside")
    jwt_secret: str = option("", "secret of the HMAC-signed tokens", secret=True)


@attrs.frozen(kw_only=True)
class Retry:
    delays: tuple[float, ...] = option(
        (5, 30, 300),
        "an unacknowledged message is pushed again this long after its last push",
        unit="s",
        check=each_above(0),
    )
    give_up: float = option(30, "this long after the last push: OFFLINE event", unit="s", check=above(0))


@attrs.frozen(kw_only=True)
class Limits:
    frame_bytes: int = option(65536, "largest frame and message a client may send", unit="bytes", check=at_least(1024))
    connections: int = option(50000, "connections of this node; more get HTTP 503", check=at_least(1))
    connections_per_ip: int = option(10000, "connections from one address; more get HTTP 429", check=at_least(1))
    connections_per_user: int = option(10, "connections of one user; the oldest is closed 4001", check=at_least(1))
    handshake_timeout: float = option(10, "an opening handshake may take this long", unit="s", check=above(0))
    ping_interval: float = option(25, "a silent client is pinged this often", unit="s", check=above(0))
    idle_timeout: float = option(90, "a client that says nothing this long is closed 4004", unit="s", check=above(0))
    commands_per_second: float = option(
        2000, "requests of one connection; more get code 429", unit="1/s", check=above(0)
    )
    burst: int = option(10000, "requests a connection may send at once before the rate counts", check=at_least(1))
    pending_commands: int = option(
        1024, "requests of one connection that wait for their commit; then reading pauses", check=at_least(1)
    )
    outgoing_bytes: int = option(
        1048576, "unsent bytes of one connection; over it: closed 4003", unit="bytes", check=at_least(65536)
    )
    unacknowledged: int = option(
        1000, "unacknowledged messages of one session; then it gets no more until half are", check=at_least(2)
    )
    unacknowledged_total: int = option(
        100000, "unacknowledged messages of this node; the oldest are turned offline early", check=at_least(2)
    )
    recent_rows: int = option(500000, "messages whose fate this node remembers", check=at_least(1000))
    dedupe_window: float = option(
        3600, "a repeated clientMsgId gets the same answer this long", unit="s", check=at_least(0)
    )
    business_lag: float = option(
        300, "business may be this far behind without anybody missing a message at login", unit="s", check=at_least(1)
    )
    withdraw_window: float = option(120, "a message may be withdrawn this long", unit="s", check=at_least(0))
    backfill_timeout: float = option(
        5, "the store may take this long at a login; then the session goes live without", unit="s", check=above(0)
    )


@attrs.frozen(kw_only=True)
class Log:
    format: Literal["text", "json"] = option("text", "format of the log lines")
    level: Literal["debug", "info", "warn", "error", "critical"] = option("info", "lowest level that is written")


@attrs.frozen(kw_only=True)
class Outbox:
    sync: Literal["full", "normal"] = option(
        "full", "full: survives power loss; normal: survives kill -9 only (SQLite's synchronous)"
    )
    max_events: int = option(1000000, "events that may wait for the queue; then sends get code 503", check=at_least(1))
    ack_after: Literal["disk", "broker"] = option(
        "disk", "a message is acknowledged when it is on this disk, or when the broker has it"
    )
    commit_timeout: float = option(
        5, "a commit may take this long; meanwhile sends get code 503", unit="s", check=above(0)
    )


@attrs.frozen(kw_only=True)
class Producer:
    group_name: str = option("ImConnectProducerGroup", "producer group", check=MQ_NAME)
    max_message_size: int = option(
        4096, "largest MQ body; a text that needs more gets code 413", unit="bytes", check=at_least(512)
    )
    send_timeout: float = option(10, "the broker may take this long to answer a send", unit="s", check=above(0))
    retry_times: int = option(3, "attempts before the event goes back to the relay's backoff", check=between(1, 100))


@attrs.frozen(kw_only=True)
class Consumer:
    group_name: str = option("ImBusinessConsumerGroup", "consumer group", check=MQ_NAME)
    max_attempts: int = option(16, "attempts before an event that always fails is parked", check=at_least(1))


@attrs.frozen(kw_only=True)
class MqTls:
    enabled: bool = option(False, "TLS to name servers and brokers; their certificates are verified (native only)")
    ca: str = option("", "PEM file of the authority that signed them; empty: the system's")


@attrs.frozen(kw_only=True)
class Rocketmq:
    server_addr: str = option("", "name servers, host:port[;host:port...]; empty: the embedded queue", check=HOST_PORTS)
    transport: Literal["auto", "native", "client-python"] = option(
        "auto", "producer: native (also auto) or client-python"
    )
    library: str = option("", "path of librocketmq.so, for client-python; empty: where `make librocketmq` puts it")
    topic: str = option("", "topic of the events; empty: the profile's", check=OPTIONAL_TOPIC)
    create_topic: bool = option(True, "create the topic where it is missing")
    queues: int = option(8, "queues of a topic that is created, on each broker", check=between(1, 1024))
    accept_unproven: bool = option(
        False, "a broker that did not prove in time that an event is on its disk or replica (10, 12) is believed"
    )
    access_key: str = option("", "ACL access key; empty: no ACL")
    secret_key: str = option("", "ACL secret key", secret=True)
    tls: MqTls = section(MqTls, "encryption to the queue")
    producer: Producer = section(Producer, "sending")
    consumer: Consumer = section(Consumer, "receiving (business)")


@attrs.frozen(kw_only=True)
class Business:
    mode: Literal["embedded", "off"] = option(
        "embedded", "embedded: this process also consumes; off: imbusiness or the Java im-business does"
    )
    database: str = option("", "SQLAlchemy URL; empty: SQLite in data_dir", check=OPTIONAL_URL, secret=True)
    gateways: tuple[str, ...] = option(
        (), "imbusiness without Redis: gRPC addresses of the gateways", check=HOST_PORT_LIST
    )
    keep_days: int = option(
        0, "delivered messages older than this are deleted; 0: kept for ever", unit="days", check=at_least(0)
    )


@attrs.frozen(kw_only=True)
class Redis:
    url: str = option(
        "", "redis://[user:password@]host:port/db; empty: one node, presence in memory", check=OPTIONAL_URL, secret=True
    )


@attrs.frozen(kw_only=True)
class GrpcTls:
    ca: str = option("", "PEM file of the authority of all processes; empty: no TLS")
    certificate: str = option("", "PEM file with this process's certificate")
    key: str = option("", "PEM file with its private key")


@attrs.frozen(kw_only=True)
class Grpc:
    host: str = option("127.0.0.1", "address of the gRPC port", check=HOST)
    port: int = option(9090, "gRPC port (profile xzll: 9091 by default)", check=PORT)
    advertise: str = option("", "host:port at which others reach it; empty: host and port", check=OPTIONAL_HOST_PORT)
    token: str = option("", "shared by all processes; calls without it are refused; empty: none", secret=True)
    tls: GrpcTls = section(GrpcTls, "mutual TLS between gateways, and from business")


@attrs.frozen(kw_only=True)
class Drain:
    rate: float = option(200, "clients told to leave per second", unit="1/s", check=above(0))
    deadline: float = option(30, "a stop takes no longer (plus 5 s)", unit="s", check=above(0))


@attrs.frozen(kw_only=True)
class Nacos:
    server_addr: str = option(
        "", "Nacos servers, host:port[,host:port...]; empty: nothing from Nacos", check=HOST_PORTS_BY_COMMA
    )
    namespace: str = option("", "id of the namespace; empty: public", check=OPTIONAL_NACOS_NAME)
    group: str = option("", "group of the document; empty: DEFAULT_GROUP", check=OPTIONAL_NACOS_NAME)
    data_id: str = option("", "name of the document; empty: im-connect-go.yaml", check=OPTIONAL_NACOS_NAME)
    username: str = option("", "user who may read it; empty: Nacos asks for none")
    password: str = option("", "his password", secret=True)


@attrs.frozen(kw_only=True)
class ProfileRows:
    """What differs between the profiles, row by row; `config.profiles` has the values of both."""

    event_types: Literal["names", "numbers"] | None = option(
        None, "clusterEventType: C2C_SEND_MSG and the like (seed), or 10 and the like (xzll)"
    )
    create_time: bool | None = option(None, "whether the envelope has createTime: no (seed), yes (xzll)")
    tags: bool | None = option(None, "whether events have TAGS: yes (seed), no (xzll)")
    keys: bool | None = option(None, "whether events have KEYS, the msgId: yes (seed), no (xzll)")
    offline_status: int | None = option(
        None, "msgStatus of an OFFLINE event: 1 (seed), 2 (xzll)", check=one_of(1, 2)
    )
    queue_by: Literal["chat", "message"] | None = option(
        None, "what shares a queue and so keeps its order: a chat (seed), or a message (xzll)"
    )
    success_code: int | None = option(None, "code of an answer that says yes: 0 (seed), 1 (xzll)", check=one_of(0, 1))
    error_codes: Literal["seed", "xzll"] | None = option(
        None, "codes of refusals: 400, 503 and the like (seed), or -1, -2 and 0 (xzll)"
    )
    id_epoch: int | None = option(
        None, "ms since 1970 at which message ids begin: 1704067200000 (seed), 1288834974657 (xzll)", check=at_least(1)
    )
    server_ack: Literal["gateway", "business"] | None = option(
        None, "who tells a sender that his message is stored: the gateway (seed), or business (xzll)"
    )
    client_ack: Literal["gateway", "business"] | None = option(
        None, "who tells a sender that it was delivered or read: the gateway (seed), or business (xzll)"
    )
    offline_events: Literal["every", "java"] | None = option(
        None, "OFFLINE at every turning offline (seed); or as Java: receiver absent, retries exhausted, restart (xzll)"
    )
    java_grpc: bool | None = option(
        None, "whether the gRPC port also serves com.xzll.grpc.MessageService: no (seed), yes (xzll)"
    )


@attrs.frozen(kw_only=True)
class Config:
    """The whole tree, validated. `load` makes one; tests write `Config(limits=Limits(burst=5))`."""

    profile: Literal["seed", "xzll"] = option("seed", "dialect of events and answers (docs/profiles.md)")
    profile_rows: ProfileRows = section(
        ProfileRows, "what differs between the profiles; nothing: as the profile says (docs/profiles.md)"
    )
    node: Node = section(Node, "this gateway among others")
    data_dir: str = option("./var", "folder of outbox.db, business.db and run files", check=NOT_EMPTY)
    server: Server = section(Server, "the WebSocket port")
    http: Http = section(Http, "the HTTP port for people and machines that look after the gateway")
    auth: Auth = section(Auth, "who may sign in")
    retry: Retry = section(Retry, "pushing again what nobody acknowledged")
    limits: Limits = section(Limits, "a bound for everything")
    log: Log = section(Log, "log lines")
    outbox: Outbox = section(Outbox, "the durable log in front of the queue")
    rocketmq: Rocketmq = section(Rocketmq, "the queue")
    business: Business = section(Business, "the consumer and its database")
    redis: Redis = section(Redis, "several nodes")
    grpc: Grpc = section(Grpc, "node to node, and business to gateway; listens only with redis.url, business.mode off or profile xzll")
    drain: Drain = section(Drain, "leaving")
    nacos: Nacos = section(
        Nacos, "a document with keys of this page, above the file and below environment and --set (docs/operations.md)"
    )
