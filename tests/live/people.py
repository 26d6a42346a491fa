"""People in the live tests: the client library, with everything that it sees written down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from imconnect.client import Backoff, Client, ClientMessage, Loss, Phase, SendResult, State
from imconnect.wire.client_codec import Pushed, Response, SendReply
from tests.live.processes import TookTooLong

#: Come back at once: these tests wait for gateways that are being started.
AT_ONCE = Backoff(first=0.02, longest=0.05)


class Person:
    """One user on one device."""

    def __init__(self, reactor: Any, url: str, user: int, **options: Any) -> None:
        self.user = user
        #: What he was shown, each message once; `pushes` is what came, with the number of the connection.
        self.messages: list[ClientMessage] = []
        self.pushes: list[tuple[int, Pushed]] = []
        self.receipts: list[tuple[int, int]] = []
        self.withdrawn: list[tuple[int, int]] = []
        self.replies: list[SendReply] = []
        self.frames: list[Response] = []
        self.states: list[State] = []
        self.closes: list[Loss] = []
        #: How often he has signed in.
        self.connections = 0
        self._reactor = reactor
        self._waiting: list[tuple[Callable[[], Any], Deferred[None]]] = []
        self.client = Client(reactor, url, user, **{"backoff": AT_ONCE, **options})
        self.client.on_message = self.messages.append
        self.client.on_receipt = lambda msg_id, _, status: self.receipts.append((msg_id, int(status)))
        self.client.on_withdrawn = lambda msg_id, by: self.withdrawn.append((msg_id, by))
        self.client.on_frame = self._frame
        self.client.on_state = self._state

    @property
    def texts(self) -> list[str]:
        """What he was shown."""
        return [message.content for message in self.messages]

    @property
    def is_online(self) -> bool:
        return self.client.state.phase is Phase.ONLINE

    async def sign_in(self, within: float = 15.0) -> Person:
        """Connect for the first time."""
        try:
            await self.client.start().addTimeout(within, self._reactor)
        except DeferredTimeout:
            raise TookTooLong(f"{self.user} could not sign in within {within:g} s") from None
        return self

    async def send(self, to: int, text: str, within: float = 10.0, **options: Any) -> SendResult:
        """Send, and wait for the answer."""
        try:
            return await self.client.send(to, text, **options).addTimeout(within, self._reactor)
        except DeferredTimeout:
            raise TookTooLong(f"{self.user} had no answer within {within:g} s") from None

    async def wait_for(self, predicate: Callable[[], Any], what: str, within: float = 10.0) -> None:
        """Until the predicate is true; it is asked after everything that comes. TookTooLong."""
        if predicate():
            return
        waiter: Deferred[None] = Deferred()
        self._waiting.append((predicate, waiter))
        try:
            await waiter.addTimeout(within, self._reactor)
        except DeferredTimeout:
            raise TookTooLong(f"{self.user} waited {within:g} s: {what}; he has {self}") from None
        finally:
            self._waiting = [waiting for waiting in self._waiting if waiting[1] is not waiter]

    async def has(self, *texts: str, within: float = 10.0) -> None:
        """Until he was shown these, in any order."""
        await self.wait_for(lambda: set(texts) <= set(self.texts), f"for {texts}", within)

    async def told(self, msg_id: int, status: int, within: float = 10.0) -> None:
        """Until he has the receipt."""
        await self.wait_for(lambda: (msg_id, status) in self.receipts, f"for receipt {status} of {msg_id}", within)

    async def leave(self) -> None:
        """Sign out; returns when the connection is gone."""
        await self.client.stop()

    def __repr__(self) -> str:
        return (
            f"messages {self.texts[-20:]}, receipts {self.receipts[-20:]}, withdrawn {self.withdrawn[-20:]}, "
            f"closes {self.closes[-5:]}, state {self.client.state}"
        )

    def _frame(self, frame: bytes, response: Response) -> None:
        self.frames.append(response)
        if isinstance(response, Pushed):
            self.pushes.append((self.connections, response))
        elif isinstance(response, SendReply):
            self.replies.append(response)
        # The client acts upon the frame after this.
        self._reactor.callLater(0, self._look)

    def _state(self, state: State) -> None:
        self.states.append(state)
        if state.phase is Phase.ONLINE:
            self.connections += 1
            link = self.client.link
            if link is not None and self.connections == 1:
                told, link.factory.on_close = link.factory.on_close, self._closed
                self._told = told
        self._look()

    def _closed(self, link: Any, loss: Loss) -> None:
        self.closes.append(loss)
        self._told(link, loss)
        self._look()

    def _look(self) -> None:
        for predicate, waiter in list(self._waiting):
            if not waiter.called and predicate():
                waiter.callback(None)
