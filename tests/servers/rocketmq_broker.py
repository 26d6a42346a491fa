"""A real RocketMQ on loopback, for development and tests: name server and broker in one JVM.

`python -m tests.servers.rocketmq_broker --help`. Maven fetches the artifacts once into `.cache/rocketmq`; where Java
or Maven is missing and we are root, Debian's are installed. Blocking code: in a test with a running reactor call it
through `deferToThread`.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from imconnect.rocketmq import frames
from imconnect.rocketmq.codes import Request, Response
from tests.servers.private import CannotRun, ensure_free, from_debian, until_told

HERE = Path(__file__).resolve().parent / "rocketmq"
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "rocketmq"
VERSION = "5.3.3"
START_TIMEOUT = 180.0  # seconds; a loaded machine took 67
JVM = (
    *("-Xms64m", "-Xmx256m", "-XX:MaxDirectMemorySize=256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
    "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    *(
        f"--add-opens=java.base/{name}=ALL-UNNAMED"
        for name in ("java.nio", "java.util", "java.lang", "jdk.internal.ref")
    ),
)


def ensure_java() -> None:
    """Java, its compiler and Maven, from Debian where they are missing and we are root. Raises CannotRun."""
    from_debian(_programs, "a JDK (17 or later) or Maven", "default-jdk-headless", "maven")


def _programs() -> str | None:
    found = [shutil.which(name) for name in ("java", "javac", "mvn")]
    return found[0] if all(found) else None


def install(version: str = VERSION, cache: Path = CACHE) -> str:
    """Fetch this version's jars and compile the launcher, once. Returns the class path."""
    ensure_java()
    home = cache / version
    home.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{version}.lock"):
        if not (home / "lib").is_dir():
            _fetch(version, home)
        if not _fresh(home / "classes" / "DevBroker.class", HERE / "DevBroker.java"):
            command = [
                "javac",
                "-nowarn",
                "-cp",
                f"{home}/lib/*",
                "-d",
                str(home / "classes"),
                str(HERE / "DevBroker.java"),
            ]
            subprocess.run(command, check=True, stdout=sys.stderr)
    return f"{home}/classes:{home}/lib/*"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two test runs that start together fetch once. The descriptor is not inherited by children."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(version: str, home: Path) -> None:
    """Into a folder beside the final one, renamed at the end: a fetch that was cut off leaves nothing behind."""
    print(f"fetching RocketMQ {version} with Maven into {home} (90 MB, once)", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=home) as scratch:
        shutil.copy(HERE / "pom.xml", scratch)
        command = ["mvn", "-B", "-q", f"-Drocketmq.version={version}", "dependency:copy-dependencies"]
        options = ["-DincludeScope=runtime", f"-DoutputDirectory={scratch}/lib"]
        subprocess.run([*command, *options], cwd=scratch, check=True, stdout=sys.stderr)
        (Path(scratch) / "lib").rename(home / "lib")


def _fresh(target: Path, source: Path) -> bool:
    return target.exists() and target.stat().st_mtime >= source.stat().st_mtime


class DevBroker:
    """One name server and broker. Its ports stay the same over restarts; so does its store."""

    def __init__(
        self,
        store: Path,
        *,
        version: str = VERSION,
        cache: Path = CACHE,
        namesrv_port: int = 0,
        listen_port: int = 0,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.store = store
        self.namesrv = f"127.0.0.1:{namesrv_port}"
        self.address = f"127.0.0.1:{listen_port}"
        self._version, self._cache = version, cache
        self._properties = dict(properties or {})
        self._jvm: subprocess.Popen[bytes] | None = None

    @property
    def jvm(self) -> subprocess.Popen[bytes]:
        """Raises CannotRun when it does not run."""
        if self._jvm is None:
            raise CannotRun("the broker is not running")
        return self._jvm

    @property
    def pid(self) -> int:
        """Of the JVM. Raises CannotRun when it does not run."""
        return self.jvm.pid

    def start(self, timeout: float = START_TIMEOUT, *, create_topic: bool = True) -> DevBroker:
        """Returns once the route of a created topic answers; a broker that asks for credentials lets us create none.

        Raises CannotRun.
        """
        deadline = time.monotonic() + timeout
        classpath = install(self._version, self._cache)
        self.store.mkdir(parents=True, exist_ok=True)
        arguments = {
            **self._properties,
            "store": str(self.store),
            "namesrvPort": self.namesrv.rsplit(":", 1)[1],
            "listenPort": self.address.rsplit(":", 1)[1],
        }
        logback = f"-Drmq.logback.configurationFile={HERE / 'logback.xml'}"
        command = ["java", *JVM, logback, "-cp", classpath, "DevBroker", *(f"{k}={v}" for k, v in arguments.items())]
        with (self.store / "stderr.log").open("ab") as errors:
            self._jvm = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        try:
            self._read_ready(deadline)
            if create_topic:
                self.create_topic("DevReady", 1, deadline=deadline)
        except BaseException:
            self.kill9()
            raise
        return self

    def _read_ready(self, deadline: float) -> None:
        assert self._jvm is not None and self._jvm.stdout is not None
        output, seen = self._jvm.stdout.fileno(), b""
        while b"\n" not in seen:
            if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise CannotRun("the broker did not start in time")
            data = os.read(output, 4096)
            if not data:
                raise CannotRun(f"the broker ended at its start, see {self.store / 'stderr.log'}")
            seen += data
        words = dict(word.split("=", 1) for word in seen.decode().split() if "=" in word)
        self.namesrv, self.address = words["namesrv"], words["broker"]

    def create_topic(self, topic: str, queues: int = 8, *, deadline: float | None = None) -> None:
        """Create it and wait until the name server routes it."""
        deadline = time.monotonic() + 60 if deadline is None else deadline
        fields = {
            "topic": topic,
            "defaultTopic": "TBW102",
            "readQueueNums": str(queues),
            "writeQueueNums": str(queues),
            "perm": "6",
            "topicFilterType": "SINGLE_TAG",
            "topicSysFlag": "0",
            "order": "false",
        }
        answer = call(self.address, Request.CREATE_TOPIC, fields)
        if answer.code != Response.SUCCESS:
            raise CannotRun(f"topic {topic} is not created: code {answer.code}: {answer.remark}")
        asked = {"topic": topic, "acceptStandardJsonOnly": "true"}
        while call(self.namesrv, Request.ROUTE, asked).code != Response.SUCCESS:
            if time.monotonic() > deadline:
                raise CannotRun(f"topic {topic} got no route in time")
            time.sleep(0.1)

    def stop(self) -> None:
        """Its stdin closes: it halts at once. The store can be started again."""
        if self._jvm is not None:
            self._close_pipes()
            self._jvm.wait(timeout=30)
            self._jvm = None

    def kill9(self) -> None:
        """As a machine that dies: no goodbye to anybody."""
        if self._jvm is not None:
            self._jvm.kill()
            self._jvm.wait(timeout=30)
            self._close_pipes()
            self._jvm = None

    def _close_pipes(self) -> None:
        assert self._jvm is not None
        for pipe in (self._jvm.stdin, self._jvm.stdout):
            if pipe is not None:
                pipe.close()

    def pause(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> DevBroker:
        """Stop (where it still runs) and start on the same store and ports."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def call(address: str, code: int, fields: Mapping[str, str], body: bytes = b"", timeout: float = 10.0) -> frames.Frame:
    """One request on a connection of its own, blocking."""
    host, port = address.rsplit(":", 1)
    data = frames.encode(frames.Frame(code, 1, fields=fields, body=body))
    with socket.create_connection((host, int(port)), timeout) as connection, connection.makefile("rb") as stream:
        connection.sendall(struct.pack(">I", len(data)) + data)
        size = struct.unpack(">I", stream.read(4))[0]
        return frames.decode(stream.read(size))


_shared: dict[str, DevBroker] = {}


def shared(version: str = "") -> DevBroker:
    """The one broker of this test process: started at the first call, ended with the process.

    The version comes from IMCONNECT_ROCKETMQ_VERSION unless given. Raises CannotRun.
    """
    version = version or os.environ.get("IMCONNECT_ROCKETMQ_VERSION", VERSION)
    if version not in _shared:
        store = Path(tempfile.mkdtemp(prefix="imconnect-rocketmq-"))
        broker = DevBroker(store, version=version, properties={"autoCreateTopicEnable": "false"})
        atexit.register(shutil.rmtree, store, ignore_errors=True)
        atexit.register(broker.kill9)
        broker.start()
        _shared[version] = broker
    return _shared[version]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one until stdin closes or a signal comes."""
    parser = argparse.ArgumentParser(prog="rocketmq_broker", description=__doc__)
    parser.add_argument("--dir", type=Path, default=CACHE, help="cache of the artifacts (default: %(default)s)")
    parser.add_argument("--store", type=Path, help="the broker's data (default: store-VERSION in the cache)")
    parser.add_argument("--version", default=VERSION, help="of RocketMQ (default: %(default)s)")
    parser.add_argument("--namesrv-port", type=int, default=9876, help="0: any free one (default: %(default)s)")
    parser.add_argument("--listen-port", type=int, default=10911, help="0: any free one (default: %(default)s)")
    topic = {"type": _topic, "metavar": "NAME[:QUEUES]", "help": "create it at start"}
    parser.add_argument("--topic", action="append", default=[], **topic)
    parser.add_argument("--fetch-only", action="store_true", help="fill the cache and end")
    parser.add_argument("properties", nargs="*", type=_property, metavar="key=value", help="properties of the broker")
    given = parser.parse_args(arguments)
    cache = given.dir.resolve()
    try:
        if given.fetch_only:
            install(given.version, cache)
            return 0
        broker = DevBroker(
            (given.store or cache / f"store-{given.version}").resolve(),
            version=given.version,
            cache=cache,
            namesrv_port=given.namesrv_port,
            listen_port=given.listen_port,
            properties=dict(given.properties),
        )
        return _serve(broker, given.topic)
    except (CannotRun, subprocess.CalledProcessError) as error:
        print(f"rocketmq_broker: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _property(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected key=value, got {text!r}")
    return name, value


def _topic(text: str) -> tuple[str, int]:
    name, _, queues = text.partition(":")
    if not name or not (queues or "8").isdecimal():
        raise argparse.ArgumentTypeError(f"expected NAME[:QUEUES], got {text!r}")
    return name, int(queues or 8)


def _serve(broker: DevBroker, topics: Sequence[tuple[str, int]]) -> int:
    def interrupt(*_signal: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    for address in (broker.namesrv, broker.address):
        ensure_free(int(address.rsplit(":", 1)[1]))
    with broker:
        for name, queues in topics:
            broker.create_topic(name, queues)
        print(f"READY namesrv={broker.namesrv} broker={broker.address} pid={broker.pid}", flush=True)
        until_told("RocketMQ", broker.jvm)
    return 0


if __name__ == "__main__":
    sys.exit(main())
