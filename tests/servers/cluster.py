"""A whole installation on this machine: RocketMQ, Redis, MariaDB, imbusiness and three gateways, each with a port of its own.

`make cluster`, or `python -m tests.servers.cluster --help`. Ctrl-C stops all of it in good order; when one part cannot start,
or ends by itself, so does the rest.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.live.processes import HOST, free_port, script
from tests.servers import rocketmq_broker
from tests.servers.mariadb import ensure_mariadb
from tests.servers.parts import ROOT, Cluster, Part, served
from tests.servers.private import CannotRun
from tests.servers.redis import ensure_redis

TOPIC, QUEUES = "XZLL_C2CMSG_TOPIC", 8
GATEWAYS = (1, 2, 3)
#: The usual ports; gateway N's are ten times N further on.
PORTS = {"namesrv": 9876, "broker": 10911, "redis": 6379, "mariadb": 3307, "business": 10003}
GATEWAY_PORTS = {"server": 10001, "http": 10002, "grpc": 9090}


def servers(folder: Path, ports: Mapping[str, int]) -> list[Part]:
    """RocketMQ, Redis and MariaDB."""
    arguments = {
        "rocketmq_broker": [
            *("--store", str(folder / "rocketmq"), "--topic", f"{TOPIC}:{QUEUES}"),
            *("--namesrv-port", str(ports["namesrv"]), "--listen-port", str(ports["broker"])),
        ],
        "redis": ["--dir", str(folder / "redis"), "--port", str(ports["redis"])],
        "mariadb": ["--dir", str(folder / "mariadb"), "--port", str(ports["mariadb"])],
    }
    return [
        Part(
            name, folder, [sys.executable, "-m", f"tests.servers.{name}", *words], lambda part: bool(part.ready_line())
        )
        for name, words in arguments.items()
    ]


def gateway_ports(number: int, *, free: bool) -> dict[str, int]:
    """server, http and grpc."""
    return {name: free_port() if free else base + 10 * number for name, base in GATEWAY_PORTS.items()}


def twistd(name: str, command: str, folder: Path, http_port: int, settings: Mapping[str, object]) -> Part:
    """A gateway or imbusiness, ready when its `/ready` says so."""
    words = [f"{key}={value}" for key, value in {"http.port": http_port, **settings}.items()]
    options = ["--config", str(ROOT / "configs" / "dev.yaml"), *(part for word in words for part in ("--set", word))]
    line = [script("twistd"), "-n", "--pidfile=", command, *options]
    return Part(name, folder, line, lambda _: _answers(http_port))


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def run(cluster: Cluster, folder: Path, *, free: bool) -> list[str]:
    """Start everything; -> the lines that tell a person where it is. Raises CannotRun."""
    ports = {name: free_port() for name in PORTS} if free else PORTS
    each = {number: gateway_ports(number, free=free) for number in GATEWAYS}
    for name, port in [*ports.items(), *((f"gateway {n}", port) for n in each for port in each[n].values())]:
        _check_free(name, port)
    # One after the other: two of them may ask apt.
    ensure_redis()
    ensure_mariadb()
    rocketmq_broker.install(rocketmq_broker.VERSION, rocketmq_broker.CACHE)
    broker, redis, mariadb = servers(folder, ports)
    print("starting RocketMQ, Redis and MariaDB", flush=True)
    cluster.start([broker, redis, mariadb])
    shared = {
        "rocketmq.server_addr": broker.ready_line()["namesrv"],
        "redis.url": redis.ready_line()["url"],
        "business.database": mariadb.ready_line()["url"],
    }
    print("starting imbusiness and three gateways", flush=True)
    # First: it makes the schema.
    cluster.start([twistd("imbusiness", "imbusiness", folder, ports["business"], shared)])
    cluster.start([_gateway(number, folder, each[number], shared) for number in GATEWAYS])
    return list(_addresses(shared, ports["business"], each))


def _check_free(name: str, port: int) -> None:
    """Some servers would take whoever has it already for themselves."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise CannotRun(f"the port of {name}, {port}, is in use") from None


def _gateway(number: int, folder: Path, ports: Mapping[str, int], shared: Mapping[str, object]) -> Part:
    own = {
        "node.id": number,
        "data_dir": folder / "var" / str(number),
        "business.mode": "off",
        "server.port": ports["server"],
        "grpc.port": ports["grpc"],
    }
    return twistd(f"gateway-{number}", "imconnect", folder, ports["http"], {**own, **shared})


def _addresses(shared: Mapping[str, str], business: int, each: Mapping[int, Mapping[str, int]]) -> list[str]:
    urls = {number: f"ws://{HOST}:{ports['server']}/websocket" for number, ports in each.items()}
    return [
        f"RocketMQ    {shared['rocketmq.server_addr']}",
        f"Redis       {shared['redis.url']}",
        f"MariaDB     {shared['business.database']}",
        f"imbusiness  http://{HOST}:{business}/",
        *(f"gateway {n}   {urls[n]}   http://{HOST}:{ports['http']}/" for n, ports in each.items()),
        "Two people on two gateways, in two more terminals:",
        f"  make chat URL={urls[1]} USER=1001 TO=1002",
        f"  make chat URL={urls[2]} USER=1002 TO=1001",
        "Ctrl-C stops everything",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Status 1 where it could not be started, or a part of it ended; 0 after Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    parser.add_argument(
        "--dir", type=Path, default=ROOT / ".cache" / "cluster", help="data and logs (default: %(default)s)"
    )
    parser.add_argument("--free-ports", action="store_true", help="any free ports instead of the usual ones")
    given = parser.parse_args(arguments)
    folder: Path = given.dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return served(Cluster(), lambda cluster: run(cluster, folder, free=given.free_ports))


if __name__ == "__main__":
    sys.exit(main())
