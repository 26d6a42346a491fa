"""Blocking sends through librocketmq, in order and each to the queue it is meant for. Everything on one thread."""

from __future__ import annotations

import atexit
import ctypes
import os
import uuid
from collections.abc import Sequence
from typing import Any

from twisted.logger import Logger

from imconnect.backends.librocketmq import SELECTOR, Native, at_home
from imconnect.errors import Unavailable
from imconnect.rocketmq.codes import Outcome, Response
from imconnect.rocketmq.connection import Credentials
from imconnect.rocketmq.messages import Message
from imconnect.rocketmq.producer import Receipt

_log = Logger()

#: User property with what UNIQ_KEY is elsewhere: this library overwrites UNIQ_KEY at each send.
EVENT_ID = "EVENT_ID"

_WARN = 3
_CODES = {1: Response.FLUSH_DISK_TIMEOUT, 2: Response.FLUSH_SLAVE_TIMEOUT, 3: Response.SLAVE_NOT_AVAILABLE}
#: All that is known to be for good. Anything else that it says may be wrong.
_PERMANENT = ("size over max", "body is empty")
_FORBIDDEN = frozenset("\x00\x01\x02")


class _Choice(ctypes.Structure):
    """What the selector is told and what it tells."""

    _fields_ = (("index", ctypes.c_int), ("count", ctypes.c_int))


def _choose(count: int, _message: int, choice: int) -> int:
    """The index that was asked for. An exception here would be swallowed and mean index 0."""
    told = _Choice.from_address(choice)
    told.count = count
    return int(told.index) if told.index < count else int(told.index) % count


_select = SELECTOR(_choose)


class Sender:
    """One producer for the life of the process; every method blocks.

    `home` is a folder for the library's log files, `timeout` in seconds per send, `max_bytes` of a body.
    """

    def __init__(
        self,
        native: Native,
        home: str,
        name_servers: str,
        group: str,
        *,
        timeout: float,
        max_bytes: int,
        credentials: Credentials | None = None,
    ) -> None:
        self._native = native
        self._home = home
        self._name_servers = name_servers
        self._group = group
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._credentials = credentials
        self._producer: Any = None
        self._running = self._busy = False
        self.stopping = False  # set from the reactor thread: what has not been sent stays in the outbox

    def start(self) -> None:
        """Raises Unavailable. May be tried again until it works once."""
        if self._running:
            return
        with at_home(self._home):
            try:
                if self._producer is None:
                    self._producer = self._make()
                self._producer.start()
            except self._native.exceptions.RocketMQException as error:
                raise Unavailable(f"librocketmq does not start: {error}") from None
        self._running = True
        # The library's threads keep a process from ending that forgets the shutdown.
        atexit.register(self.shutdown)
        _log.info("sending with {path}", path=self._native.path)

    def _make(self) -> Any:
        functions = self._native.functions
        producer = self._native.client.Producer(
            self._group, timeout=int(self._timeout * 1000), max_message_size=self._max_bytes
        )
        producer.set_name_server_address(self._name_servers)
        if self._credentials is not None:
            producer.set_session_credentials(self._credentials.access_key, self._credentials.secret_key, "imconnect")
        handle = producer._handle
        functions.SetProducerInstanceName(handle, f"{os.getpid()}-{uuid.uuid4().hex}".encode())
        functions.SetProducerLogLevel(handle, _WARN)
        functions.SetProducerCompressMsgBodyOverHowmuch(handle, self._max_bytes + 1)
        return producer

    def send(self, topic: str, place: int, messages: Sequence[Message]) -> tuple[list[Receipt], int]:
        """A receipt for each, and how many queues the library saw (0: it did not look)."""
        receipts: list[Receipt] = []
        count = 0
        self._busy = True
        try:
            for message in messages:
                choice = _Choice(place, 0)
                receipts.append(self._send_one(topic, message, choice))
                count = choice.count or count
                if receipts[-1].outcome is not Outcome.STORED and receipts[-1].outcome is not Outcome.PERMANENT:
                    break
        finally:
            self._busy = False
        skipped = Receipt(Outcome.RETRY, reason="not sent: one before it was not stored")
        return receipts + [skipped] * (len(messages) - len(receipts)), count

    def _send_one(self, topic: str, message: Message, choice: _Choice) -> Receipt:
        if self.stopping or not self._running:
            return Receipt(Outcome.RETRY, reason="the queue is closed")
        if not message.body:
            return Receipt(Outcome.PERMANENT, reason="an empty body")
        if not _FORBIDDEN.isdisjoint(message.keys + message.tags):
            return Receipt(Outcome.PERMANENT, reason="a control character in keys or tags")
        exceptions, functions = self._native.exceptions, self._native.functions
        handle = self._native.client.Message(topic)
        result = self._native.ffi._CSendResult()
        try:
            self._fill(handle, message)
            status = functions.SendMessageOrderly(
                self._producer._handle, handle._handle, _select, ctypes.addressof(choice), 0, ctypes.addressof(result)
            )
            exceptions.ffi_check(status)
        except exceptions.RocketMQException as error:
            outcome = Outcome.PERMANENT if any(text in str(error) for text in _PERMANENT) else Outcome.RETRY
            return Receipt(outcome, reason=str(error).partition(",error:")[0])
        finally:
            functions.DestroyMessage(handle._handle)
        code = _CODES.get(result.sendStatus)
        if code is not None:
            return Receipt(Outcome.UNPROVEN, code, result.offset)
        return Receipt(Outcome.STORED, Response.SUCCESS, result.offset, result.msgId.decode("ascii", "replace"))

    def _fill(self, handle: Any, message: Message) -> None:
        if message.keys:
            handle.set_keys(message.keys)
        if message.tags:
            handle.set_tags(message.tags)
        for name, value in {**message.properties, EVENT_ID: message.unique_id}.items():
            handle.set_property(name, value)
        # set_body would end at the first NUL.
        self._native.functions.SetByteMessageBody(handle._handle, message.body, len(message.body))

    def shutdown(self) -> None:
        """Idempotent. Never beside a send: that crashes the process."""
        self.stopping = True
        if not self._running or self._busy:
            return
        self._running = False
        atexit.unregister(self.shutdown)
        self._producer.shutdown()
