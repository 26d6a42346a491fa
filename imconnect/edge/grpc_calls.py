"""From gRPC's threads to the reactor's and back: what a call does with the node happens there, and the call waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Protocol, TypeVar

import grpc
from twisted.logger import Logger

from imconnect.wire.checks import OtherVersion, Unreadable

_log = Logger()
_T = TypeVar("_T")

LONGEST = 5.0  # seconds that a call may wait for the node, where its own deadline is not shorter


class Reactor(Protocol):
    """What is needed of a reactor here."""

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> Any: ...


class NotDone(Exception):
    """The node did not do it. `status` is gRPC's word for it, `str()` ours."""

    def __init__(self, status: grpc.StatusCode, why: str) -> None:
        super().__init__(why)
        self.status = status


class NodeCalls:
    """Made once per server."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor

    def run(self, context: grpc.ServicerContext, work: Callable[[], _T]) -> _T:
        """The result of `work`, which is called on the reactor thread. Blocks this one; raises NotDone.

        What nobody waits for any more is not begun: not done rather than done by surprise.
        """
        remaining = context.time_remaining()
        done: Future[_T] = Future()
        self._reactor.callFromThread(self._hand_over, work, done)
        try:
            return done.result(LONGEST if remaining is None else min(remaining, LONGEST))
        except FutureTimeout:
            done.cancel()
            raise NotDone(grpc.StatusCode.DEADLINE_EXCEEDED, "the node is too busy") from None
        except CancelledError:
            raise NotDone(grpc.StatusCode.ABORTED, "the node is stopping") from None
        except Exception:
            raise NotDone(grpc.StatusCode.INTERNAL, "the node failed") from None

    # -- on the reactor thread

    def _hand_over(self, work: Callable[[], _T], done: Future[_T]) -> None:
        if not done.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except Exception as error:
            _log.failure("a call of gRPC failed")
            done.set_exception(error)
        else:
            done.set_result(result)


def decoded(decode: Callable[[bytes], _T], request: bytes, context: grpc.ServicerContext) -> _T:
    """The request, or the end of the call with a status that says what is wrong with it."""
    try:
        return decode(request)
    except OtherVersion as error:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
    except Unreadable as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    raise AssertionError("abort raises")
