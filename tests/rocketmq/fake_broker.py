"""A fake of RocketMQ: a name server and brokers over any Twisted transport, with faults on demand.

It answers as 5.3.3 was seen to answer; `behaviours.py` runs on it and on the real one.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

from imconnect.rocketmq.codes import Request, Response
from imconnect.rocketmq.connection import Credentials
from imconnect.rocketmq.frames import ONEWAY, REPLY, Frame, decode, encode
from imconnect.rocketmq.messages import decode_properties

LOCK_EXPIRY = 60.0  # seconds
#: How librocketmq sends: the same as 310, with names instead of letters.
_OLD_SEND = 10
_OLD_FIELDS = {"a": "producerGroup", "b": "topic", "e": "queueId", "f": "sysFlag", "h": "flag", "i": "properties"}
_STORES = {Response.SUCCESS, Response.FLUSH_DISK_TIMEOUT, Response.SLAVE_NOT_AVAILABLE, Response.FLUSH_SLAVE_TIMEOUT}
_HOST = bytes((127, 0, 0, 1)) + struct.pack(">i", 10911)


@attrs.define(kw_only=True)
class Fault:
    """What goes wrong with the next `times` requests of this code (None: any) to this queue (None: any)."""

    code: int | None = None
    queue: int | None = None
    times: int = 1
    answer: int | None = None  # this code instead of doing it (10, 11, 12: beside doing it)
    delay: float = 0.0  # seconds until the reply leaves
    silent: bool = False  # done, but no reply
    cut: int | None = None  # the reply's first bytes, then the connection ends
    nonsense: bytes | None = None  # these bytes instead of the reply

    def hits(self, frame: Frame) -> bool:
        number = frame.fields.get("e", frame.fields.get("queueId"))
        queue_hit = self.queue is None or number == str(self.queue)
        return self.times > 0 and self.code in (None, frame.code) and queue_hit


class Kept(NamedTuple):
    """One message in the fake's store."""

    body: bytes
    properties: str
    flag: int = 0
    system: int = 0
    stored: int = 2  # ms since the epoch


class FakeCluster:
    """Name servers and brokers that share topics. Every address of a broker is "host:port"."""

    def __init__(self, clock: IReactorTime, brokers: Mapping[str, str], credentials: Credentials | None = None) -> None:
        self.clock = clock
        self.brokers = {name: FakeBroker(self, name, address) for name, address in brokers.items()}
        self.slaves: dict[str, str] = {}  # brokers that have a slave only
        self.topics: dict[str, int] = {}
        self.credentials = credentials
        self.seen: list[Frame] = []  # by name servers
        self.faults: list[Fault] = []  # of the name servers

    def name_server(self) -> FakePeer:
        return FakePeer(self, self._serve)

    def route(self, topic: str) -> bytes | None:
        """As a name server of the old kind writes it: numeric keys without quotes."""
        if topic not in self.topics:
            return None
        masters = {name: {"0": broker.address} for name, broker in self.brokers.items() if broker.registered}
        addresses = {**masters, **{name: {"1": address} for name, address in self.slaves.items()}}
        counts = {"readQueueNums": self.topics[topic], "writeQueueNums": self.topics[topic]}
        data = {
            "brokerDatas": [{"brokerName": n, "cluster": "C", "brokerAddrs": found} for n, found in addresses.items()],
            "filterServerTable": {},
            "queueDatas": [{"brokerName": name, "perm": 6, "topicSysFlag": 0, **counts} for name in addresses],
        }
        return re.sub(r'"(\d+)":', r"\1:", json.dumps(data)).encode()

    def _serve(self, peer: FakePeer, frame: Frame) -> None:
        self.seen.append(frame)
        reply = Frame(Response.NOT_SUPPORTED)
        if frame.code == Request.ROUTE:
            body = self.route(frame.fields["topic"])
            reply = Frame(Response.TOPIC_NOT_EXIST) if body is None else Frame(Response.SUCCESS, body=body)
        elif frame.code == Request.CLUSTER:
            table = {n: {"brokerName": n, "brokerAddrs": {"0": b.address}} for n, b in self.brokers.items()}
            reply = Frame(Response.SUCCESS, body=json.dumps({"brokerAddrTable": table}).encode())
        peer.reply(frame, reply, self.faults)


class FakePeer(Int32StringReceiver):
    """The server's side of one connection."""

    MAX_LENGTH = 32 << 20

    def __init__(self, cluster: FakeCluster, serve: Callable[[FakePeer, Frame], None]) -> None:
        self._cluster, self._serve = cluster, serve
        self._held: list[bytes] | None = None
        self._opaque = 0
        self.gone: list[Callable[[FakePeer], None]] = []
        self.answers: list[Frame] = []  # replies to our own requests

    def dataReceived(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
        else:
            super().dataReceived(data)

    def hold(self) -> None:
        """As a stopped process: bytes pile up."""
        self._held = self._held or []

    def go_on(self) -> None:
        held, self._held = self._held or [], None
        for data in held:
            self.dataReceived(data)

    def stringReceived(self, string: bytes) -> None:
        frame = decode(string)
        if frame.is_reply:
            self.answers.append(frame)
            return
        credentials = self._cluster.credentials
        if credentials is not None:
            plain = {key: value for key, value in frame.fields.items() if key not in ("AccessKey", "Signature")}
            if credentials.sign(plain, frame.body) != dict(frame.fields):
                self.send(Frame(Response.NO_PERMISSION, frame.opaque, REPLY, codec=frame.codec))
                return
        self._serve(self, frame)

    def reply(self, request: Frame, reply: Frame, faults: list[Fault]) -> None:
        """Answer, unless a fault says otherwise."""
        reply = reply._replace(opaque=request.opaque, flag=REPLY, codec=request.codec)
        fault = next((fault for fault in faults if fault.hits(request)), None)
        if fault is None:
            self.send(reply)
            return
        fault.times -= 1
        if fault.answer is not None:
            reply = reply._replace(code=fault.answer, remark="as told", body=b"")
        if fault.nonsense is not None:
            self._raw(fault.nonsense)
        elif fault.cut is not None:
            data = encode(reply)
            self._raw((struct.pack(">I", len(data)) + data)[: fault.cut])
            self.transport.loseConnection()  # type: ignore[union-attr]
        elif fault.delay:
            self._cluster.clock.callLater(fault.delay, self.send, reply)
        elif not fault.silent:
            self.send(reply)

    def ask(self, code: int, fields: Mapping[str, str], *, oneway: bool = False, opaque: int = 0) -> None:
        """A request of the broker's own. Its opaque may well be one that the client uses too."""
        self._opaque += 1
        self.send(Frame(code, opaque or self._opaque, ONEWAY if oneway else 0, fields))

    def send(self, frame: Frame) -> None:
        if self.connected:
            self.sendString(encode(frame))

    def _raw(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.connected = 0
        for callback in self.gone:
            callback(self)


class FakeBroker:
    """One master: its store and groups survive `kill`, its locks and connections do not."""

    def __init__(self, cluster: FakeCluster, name: str, address: str) -> None:
        self.cluster, self.name, self.address = cluster, name, address
        self.registered = True  # with the name servers
        self.max_message = 4 << 20
        self.faults: list[Fault] = []
        self.seen: list[Frame] = []
        self.peers: list[FakePeer] = []
        self.store: dict[tuple[str, int], list[Kept]] = defaultdict(list)
        self.begin: Counter[tuple[str, int]] = Counter()  # offset of the first message that still exists
        self.offsets: dict[tuple[str, str, int], int] = {}
        self.locks: dict[tuple[str, str, int], tuple[str, float]] = {}
        self.members: dict[str, dict[str, FakePeer]] = defaultdict(dict)
        self.history: list[tuple[str, str]] = []  # (what, whose or where) of the group protocol, in order
        self.overlaps = 0  # sends that met another one of the same queue on its way
        self._sending: Counter[tuple[str, int]] = Counter()
        self._waiting: dict[tuple[str, int], list[Callable[[], None]]] = defaultdict(list)

    def peer(self) -> FakePeer:
        """A new connection."""
        peer = FakePeer(self.cluster, self._serve)
        self.peers.append(peer)
        peer.gone.append(self._gone)
        return peer

    def kill(self) -> None:
        """As kill -9: every connection ends, locks and members are forgotten. The listener is the network's."""
        self.locks.clear()
        self._waiting.clear()
        for peer in list(self.peers):
            peer.transport.loseConnection()  # type: ignore[union-attr]

    def freeze(self) -> None:
        for peer in self.peers:
            peer.hold()

    def thaw(self) -> None:
        for peer in list(self.peers):
            peer.go_on()

    def count(self, code: int) -> int:
        """Requests of this code that came."""
        return sum(frame.code == code for frame in self.seen)

    def keep(self, topic: str, queue: int, *messages: Kept) -> None:
        """Store these and wake who waits for them."""
        self.store[topic, queue] += messages
        for retry in self._waiting.pop((topic, queue), []):
            retry()

    def bodies(self, topic: str, queue: int) -> list[bytes]:
        return [kept.body for kept in self.store[topic, queue]]

    def _gone(self, peer: FakePeer) -> None:
        self.peers.remove(peer)
        for group, members in self.members.items():
            for client in [client for client, its in members.items() if its is peer]:
                del members[client]
                self._notify(group)

    def _notify(self, group: str) -> None:
        for peer in self.members[group].values():
            peer.ask(Request.NOTIFY_CONSUMERS, {"consumerGroup": group}, oneway=True)

    def _serve(self, peer: FakePeer, frame: Frame) -> None:
        if frame.code == _OLD_SEND:
            fields = {short: frame.fields[name] for short, name in _OLD_FIELDS.items()}
            frame = frame._replace(code=Request.SEND, fields=fields)
        self.seen.append(frame)
        if frame.code in (Request.SEND, Request.SEND_BATCH):
            self._send(peer, frame)
        elif frame.code == Request.PULL:
            self._pull(peer, frame)
        else:
            serve = self._table().get(frame.code)
            reply = Frame(Response.NOT_SUPPORTED) if serve is None else serve(peer, frame)
            peer.reply(frame, reply, self.faults)

    def _table(self) -> dict[int, Callable[[FakePeer, Frame], Frame]]:
        return {
            Request.CREATE_TOPIC: self._create_topic,
            Request.QUERY_OFFSET: self._query_offset,
            Request.UPDATE_OFFSET: self._update_offset,
            Request.OFFSET_AT: self._offset_at,
            Request.MAX_OFFSET: lambda _, frame: self._offset(self._end(self._where(frame))),
            Request.MIN_OFFSET: lambda _, frame: self._offset(self.begin[self._where(frame)]),
            Request.HEARTBEAT: self._heartbeat,
            Request.UNREGISTER: self._unregister,
            Request.CONSUMER_LIST: self._consumer_list,
            Request.LOCK: self._lock,
            Request.UNLOCK: self._unlock,
        }

    @staticmethod
    def _offset(value: int) -> Frame:
        return Frame(Response.SUCCESS, fields={"offset": str(value)})

    def _offset_at(self, _peer: FakePeer, frame: Frame) -> Frame:
        where, when = self._where(frame), int(frame.fields["timestamp"])
        later = (at for at, kept in enumerate(self.store[where]) if kept.stored >= when)
        return self._offset(next(later, self._end(where)))

    @staticmethod
    def _where(frame: Frame) -> tuple[str, int]:
        return frame.fields["topic"], int(frame.fields["queueId"])

    def _end(self, where: tuple[str, int]) -> int:
        return len(self.store[where])

    # -- sends

    def _send(self, peer: FakePeer, frame: Frame) -> None:
        where = (frame.fields["b"], int(frame.fields["e"]))
        self.overlaps += self._sending[where] > 0
        fault = next((fault for fault in self.faults if fault.hits(frame)), None)
        if fault is not None and fault.delay:
            self._sending[where] += 1
            self.cluster.clock.callLater(fault.delay, self._sending.subtract, [where])
        told = None if fault is None else fault.answer
        reply = self._stored(where, frame) if told is None or told in _STORES else Frame(told)
        peer.reply(frame, reply, self.faults)

    def _stored(self, where: tuple[str, int], frame: Frame) -> Frame:
        topic, queue = where
        if queue >= self.cluster.topics.get(topic, 0):
            return Frame(Response.TOPIC_NOT_EXIST, remark="topic does not exist")
        if len(frame.body) > self.max_message:
            if frame.code == Request.SEND_BATCH:
                return Frame(Response.SYSTEM_ERROR, remark="message body size exceeded")
            return Frame(Response.MESSAGE_ILLEGAL, remark="the message is illegal")
        first = self._end(where)
        if frame.code == Request.SEND:
            self.keep(topic, queue, Kept(frame.body, frame.fields["i"], int(frame.fields["h"])))
        else:
            self.keep(topic, queue, *_unbatch(frame.body, frame.fields["i"]))
        ids = ",".join(f"{queue:04X}{offset:012X}" for offset in range(first, self._end(where)))
        return Frame(Response.SUCCESS, fields={"msgId": ids, "queueId": str(queue), "queueOffset": str(first)})

    # -- pulls

    def _pull(self, peer: FakePeer, frame: Frame) -> None:
        found = self._found(frame)
        may_wait = int(frame.fields["sysFlag"]) & 2
        if found.code != Response.PULL_NOT_FOUND or not may_wait or any(f.hits(frame) for f in self.faults):
            peer.reply(frame, found, self.faults)
            return
        where = self._where(frame)
        answered: list[bool] = []

        def answer() -> None:
            if not answered and peer.connected:
                answered.append(True)
                peer.reply(frame, self._found(frame), self.faults)

        self._waiting[where].append(answer)
        self.cluster.clock.callLater(int(frame.fields["suspendTimeoutMillis"]) / 1000, answer)

    def _found(self, frame: Frame) -> Frame:
        where = self._where(frame)
        offset, begin, end = int(frame.fields["queueOffset"]), self.begin[where], self._end(where)
        fields = {"suggestWhichBrokerId": "0", "minOffset": str(begin), "maxOffset": str(end)}
        if offset < begin or offset > end:
            goto = begin if offset < begin else end
            return Frame(Response.PULL_OFFSET_MOVED, fields={**fields, "nextBeginOffset": str(goto)})
        upto = min(end, offset + int(frame.fields["maxMsgNums"]))
        fields["nextBeginOffset"] = str(upto)
        if offset == end:
            return Frame(Response.PULL_NOT_FOUND, fields=fields)
        wanted = {tag.strip() for tag in frame.fields["subscription"].split("||")}
        body = b""
        for at in range(offset, upto):
            kept = self.store[where][at]
            if "*" in wanted or decode_properties(kept.properties).get("TAGS") in wanted:
                body += stored_bytes(where[0], where[1], at, kept)
        return Frame(Response.SUCCESS if body else Response.PULL_RETRY_IMMEDIATELY, fields=fields, body=body)

    # -- groups

    def _heartbeat(self, peer: FakePeer, frame: Frame) -> Frame:
        data = json.loads(frame.body)
        for consumer in data.get("consumerDataSet", ()):  # librocketmq leaves it out
            group = consumer["groupName"]
            if self.members[group].get(data["clientID"]) is not peer:
                self.members[group][data["clientID"]] = peer
                self._notify(group)
        return Frame(Response.SUCCESS)

    def _unregister(self, peer: FakePeer, frame: Frame) -> Frame:
        group = frame.fields.get("consumerGroup", "")
        self.history.append(("goodbye", frame.fields["clientID"]))
        if self.members[group].pop(frame.fields["clientID"], None) is not None:
            self._notify(group)
        return Frame(Response.SUCCESS)

    def _consumer_list(self, peer: FakePeer, frame: Frame) -> Frame:
        members = sorted(self.members[frame.fields["consumerGroup"]])
        if not members:
            return Frame(Response.SYSTEM_ERROR, remark="no consumer for this group")
        return Frame(Response.SUCCESS, body=json.dumps({"consumerIdList": members}).encode())

    def _lock(self, peer: FakePeer, frame: Frame) -> Frame:
        data, now, granted = json.loads(frame.body), self.cluster.clock.seconds(), []
        for item in data["mqSet"]:
            key = (data["consumerGroup"], item["topic"], item["queueId"])
            holder, until = self.locks.get(key, ("", 0.0))
            if holder in ("", data["clientId"]) or until <= now:
                self.locks[key] = (data["clientId"], now + LOCK_EXPIRY)
                granted.append(item)
        return Frame(Response.SUCCESS, body=json.dumps({"lockOKMQSet": granted}).encode())

    def _unlock(self, peer: FakePeer, frame: Frame) -> Frame:
        data = json.loads(frame.body)
        for item in data["mqSet"]:
            key = (data["consumerGroup"], item["topic"], item["queueId"])
            self.history.append(("unlock", str(item["queueId"])))
            if self.locks.get(key, ("",))[0] == data["clientId"]:
                del self.locks[key]
        return Frame(Response.SUCCESS)

    def _query_offset(self, peer: FakePeer, frame: Frame) -> Frame:
        offset = self.offsets.get((frame.fields["consumerGroup"], *self._where(frame)))
        return Frame(Response.QUERY_NOT_FOUND) if offset is None else self._offset(offset)

    def _update_offset(self, peer: FakePeer, frame: Frame) -> Frame:
        told = next((f.answer for f in self.faults if f.hits(frame) and f.answer), None)
        if told is None:
            self.offsets[(frame.fields["consumerGroup"], *self._where(frame))] = int(frame.fields["commitOffset"])
            self.history.append(("commit", frame.fields["queueId"]))
        return Frame(Response.SUCCESS)

    def _create_topic(self, peer: FakePeer, frame: Frame) -> Frame:
        self.cluster.topics[frame.fields["topic"]] = int(frame.fields["writeQueueNums"])
        return Frame(Response.SUCCESS, remark="not set any response code")


def _unbatch(body: bytes, outer: str) -> list[Kept]:
    """As the broker does: the properties of the batch are appended to those of each message."""
    kept, at = [], 0
    while at < len(body):
        total, _, _, flag, length = struct.unpack_from(">iiiii", body, at)
        text = at + 20 + length
        (width,) = struct.unpack_from(">h", body, text)
        kept.append(Kept(body[at + 20 : text], body[text + 2 : text + 2 + width].decode() + outer, flag))
        at += total
    return kept


def stored_bytes(topic: str, queue: int, offset: int, kept: Kept, *, wide: bool = False) -> bytes:
    """A message as it lies in the commit log. `wide`: the version for topics longer than 127."""
    name, properties = topic.encode(), kept.properties.encode()
    magic = 0xDAA320AB if wide else 0xDAA320A7
    host = bytes(12) + _HOST
    born = host if kept.system & 0x10 else _HOST
    stored = host if kept.system & 0x20 else _HOST
    head = struct.pack(
        ">Iiiiqqiq", magic, zlib.crc32(kept.body) & 0x7FFFFFFF, queue, kept.flag, offset, offset * 999, kept.system, 1
    )
    parts: list[Any] = [
        head,
        born,
        struct.pack(">q", kept.stored),
        stored,
        struct.pack(">iqi", 0, 0, len(kept.body)),
        kept.body,
    ]
    parts += [struct.pack(">h" if wide else ">B", len(name)), name, struct.pack(">H", len(properties)), properties]
    data = b"".join(parts)
    return struct.pack(">i", len(data) + 4) + data
