"""What other nodes publish about their users, read on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

import redis

from imconnect.backends.presence_store import CHANNEL
from imconnect.backends.redis_calls import make_client
from imconnect.backends.threads import Reactor

#: Seconds between two looks whether to stop, and before a lost connection is made again.
POLL = 0.5


class Feed:
    """Calls `changed(user, node)` and `lost()` on the reactor thread."""

    def __init__(self, reactor: Reactor, url: str) -> None:
        self._reactor = reactor
        self._client = make_client(url, 10 * POLL)
        self._stop = Event()
        self._changed: Callable[[int, int], None] = lambda user, node: None
        self._lost: Callable[[], None] = lambda: None

    def start(self, changed: Callable[[int, int], None], lost: Callable[[], None]) -> None:
        self._changed, self._lost = changed, lost
        Thread(target=self._run, name="redis-feed", daemon=True).start()

    def stop(self) -> None:
        """It ends soon; nothing is called any more."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except (redis.RedisError, OSError):
                self._tell(self._lost)
                self._stop.wait(POLL)
        self._client.close()

    def _listen(self) -> None:
        with self._client.pubsub(ignore_subscribe_messages=False) as subscription:
            subscription.subscribe(CHANNEL)
            while not self._stop.is_set():
                message = subscription.get_message(timeout=POLL)
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    # What was published before is not heard.
                    self._tell(self._lost)
                elif message["type"] == "message":
                    self._heard(message["data"])

    def _heard(self, data: bytes) -> None:
        user, _, node = data.decode("ascii", "replace").partition(" ")
        if user.isdigit() and node.isdigit():
            self._tell(self._changed, int(user), int(node))
        else:
            self._tell(self._lost)

    def _tell(self, call: Callable[..., None], *arguments: int) -> None:
        self._reactor.callFromThread(self._unless_stopped, call, *arguments)

    def _unless_stopped(self, call: Callable[..., None], *arguments: int) -> None:
        if not self._stop.is_set():
            call(*arguments)
