"""What a client asked and was not answered yet: written again, in order, after every reconnect."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import Deferred, fail

#: Codes of refusals after which asking again has a chance: 429 (too fast) and 503 (not now), in both profiles.
NOT_NOW = (429, 503, 0, -2)


class ClientError(Exception):
    """What a client's Deferreds fail with."""


class Refused(ClientError):
    """The gateway's answer is no: `code` as in interface.md section 3, `msg` in plain words."""

    def __init__(self, code: int, msg: str) -> None:
        super().__init__(f"{code} {msg}".strip())
        self.code = code
        self.msg = msg


class Overfull(ClientError):
    """Too much is waiting for an answer already: send again when something was answered."""


class _Request:
    __slots__ = ("answer", "frame", "tried", "written")

    def __init__(self, frame: bytes, answer: Deferred[Any]) -> None:
        self.frame = frame
        self.answer = answer
        #: On the connection of the moment; on any connection so far.
        self.written = False
        self.tried = False


class Requests:
    """An ordered, bounded set of requests by key. Each is written once per connection, or again when told so."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[Hashable, _Request] = {}
        self._write: Callable[[bytes], object] | None = None
        self._held = False

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._waiting

    def ask(self, key: Hashable, frame: bytes) -> Deferred[Any]:
        """Write `frame` now or as soon as there is a connection; fires with what `settle` is given for `key`.

        Cancelling gives up the answer (and the repeats), not the request: the gateway may have it.
        """
        if len(self._waiting) >= self._limit:
            return fail(Overfull(f"{self._limit} requests wait for an answer"))
        if key in self._waiting:
            return fail(ClientError("this was asked already and waits for its answer"))
        answer: Deferred[Any] = Deferred(lambda _: self._forget(key))
        request = self._waiting[key] = _Request(frame, answer)
        if self._write is not None and not self._held:
            request.written = request.tried = True
            self._write(frame)
        return answer

    def settle(self, key: Hashable, value: Any) -> bool:
        """Answer a request (with an Exception: fail it). False if nobody asked, as with the answer to a repeat."""
        request = self._waiting.pop(key, None)
        if request is None:
            return False
        if isinstance(value, Exception):
            request.answer.errback(value)
        else:
            request.answer.callback(value)
        return True

    def oldest(self, kind: type) -> Hashable | None:
        """The key of this type that has waited longest, for answers that do not say what they answer."""
        return next((key for key in self._waiting if isinstance(key, kind)), None)

    def postpone(self, key: Hashable) -> None:
        """Write this one again at the next `resume`, and hold what comes after it until then: order is kept."""
        request = self._waiting.get(key)
        if request is not None:
            request.written = False
            self._held = True

    def resume(self) -> None:
        """Write what was held."""
        self._held = False
        self._flush()

    def connected(self, write: Callable[[bytes], object]) -> None:
        """There is a connection: everything that waits is written, oldest first, at the next `resume`."""
        self._write = write
        self._held = True

    def doubtful(self) -> list[bytes]:
        """The clientMsgIds of sends that the gateway may have: written, on whatever connection, and not answered."""
        return [key for key, request in self._waiting.items() if request.tried and isinstance(key, bytes)]

    def disconnected(self) -> None:
        """Whatever is unanswered must be asked again."""
        self._write = None
        for request in self._waiting.values():
            request.written = False

    def _forget(self, key: Hashable) -> None:
        self._waiting.pop(key, None)

    def fail_all(self, error: Exception) -> None:
        """Nothing will be answered any more."""
        waiting, self._waiting = self._waiting, {}
        for request in waiting.values():
            request.answer.errback(error)

    def _flush(self) -> None:
        if self._write is None:
            return
        for request in list(self._waiting.values()):
            if not request.written:
                request.written = request.tried = True
                self._write(request.frame)
