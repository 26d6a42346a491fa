"""What a client can tell of a gateway, fake or real: interface.md section 3 as `imconnect.client` sees it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred

from imconnect.client import Backoff, Client, ClientMessage, Refused
from imconnect.wire.client_codec import Other, Response, StatesReply, encode_state_query
from tests.support import ReactorTestCase

_users = count(5001)


class Person:
    """A client and what it was told."""

    def __init__(self, reactor: Any, url: str, user: int, **options: Any) -> None:
        self.user = user
        self.client = Client(reactor, url, user, **{"backoff": Backoff(first=0.1, longest=0.5), **options})
        self.heard: list[tuple[Any, ...]] = []
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self.client.on_message = self._message
        self.client.on_receipt = lambda msg_id, _, status: self._hear("receipt", msg_id, status)
        self.client.on_withdrawn = lambda msg_id, by: self._hear("withdrawn", msg_id, by)
        self.client.on_frame = self._frame

    def _message(self, message: ClientMessage) -> None:
        self._hear("message", message.msg_id, message.sender, message.content)

    def _frame(self, frame: bytes, response: Response) -> None:
        if isinstance(response, Other):
            self._hear("code", response.type, response.code)
        elif isinstance(response, StatesReply):
            for state in response.states:
                self._hear("state", *state)

    def _hear(self, *what: Any) -> None:
        self.heard.append(what)
        for waiting in list(self._waiting):
            if waiting[0]():
                self._waiting.remove(waiting)
                waiting[1].callback(None)

    def has_heard(self, *what: Any) -> Deferred[None]:
        """Fires when he was told this."""
        done: Deferred[None] = Deferred()
        self._waiting.append((lambda: what in self.heard, done))
        if what in self.heard:
            self._waiting.pop()
            done.callback(None)
        return done


class GatewayContract(ReactorTestCase):
    """Mixed in by a test case that knows a gateway's `url`. Users are new in every test."""

    timeout = 60
    url: str

    async def person(self, user: int = 0) -> Person:
        """Somebody who has signed in."""
        from twisted.internet import reactor

        person = Person(reactor, self.url, user or next(_users))
        self.addCleanup(person.client.stop)
        await person.client.start()
        return person

    async def test_send(self) -> None:
        """A send is answered, its repeat with the same id, and the receiver gets it once."""
        alice, bob = await self.person(), await self.person()
        first = await alice.client.send(bob.user, "你好")
        again = await alice.client.send(bob.user, "你好", client_msg_id=first.client_msg_id)
        last = await alice.client.send(bob.user, "end")
        self.assertEqual(again.msg_id, first.msg_id)
        await bob.has_heard("message", last.msg_id, alice.user, "end")
        self.assertEqual(
            [what for what in bob.heard if what[0] == "message"],
            [("message", first.msg_id, alice.user, "你好"), ("message", last.msg_id, alice.user, "end")],
        )

    async def test_receipts(self) -> None:
        """The sender hears that a message arrived and that it was read."""
        alice, bob = await self.person(), await self.person()
        sent = await alice.client.send(bob.user, "hello")
        await alice.has_heard("receipt", sent.msg_id, 3)
        bob.client.read(sent.msg_id)
        await alice.has_heard("receipt", sent.msg_id, 4)

    async def test_missed(self) -> None:
        """What somebody missed comes in order when he signs in, and what he acknowledged does not come again."""
        alice, user = await self.person(), next(_users)
        sent = [await alice.client.send(user, text) for text in ("one", "two", "three")]
        bob = await self.person(user)
        for each in sent:
            await alice.has_heard("receipt", each.msg_id, 3)
        self.assertEqual([what[3] for what in bob.heard], ["one", "two", "three"])
        await bob.client.stop()
        bob = await self.person(user)
        last = await alice.client.send(user, "four")
        await bob.has_heard("message", last.msg_id, alice.user, "four")
        self.assertEqual([what[3] for what in bob.heard], ["four"])

    async def test_states(self) -> None:
        """What became of one's own messages: unknown, stored, delivered, read, withdrawn; his own only."""
        alice, bob = await self.person(), await self.person()
        away = await alice.client.send(next(_users), "nobody is there")
        sent = [await alice.client.send(bob.user, text) for text in ("one", "two", "three")]
        for each in sent:
            await alice.has_heard("receipt", each.msg_id, 3)
        bob.client.read(sent[1].msg_id)
        await alice.has_heard("receipt", sent[1].msg_id, 4)
        await alice.client.withdraw(sent[2].msg_id, bob.user)
        await alice.has_heard("withdrawn", sent[2].msg_id, alice.user)
        asked = encode_state_query([bytes(16), *(each.client_msg_id for each in (away, *sent))])
        alice.client.send_raw(asked)
        await alice.has_heard("state", bytes(16), 0, 0)
        for each, state in zip((away, *sent), (1, 3, 4, 5), strict=True):
            await alice.has_heard("state", each.client_msg_id, each.msg_id, state)
        bob.client.send_raw(asked)
        await bob.has_heard("state", sent[0].client_msg_id, 0, 0)

    async def test_withdraw(self) -> None:
        """Both sides are told of a withdrawal."""
        alice, bob = await self.person(), await self.person()
        sent = await alice.client.send(bob.user, "oops")
        await bob.has_heard("message", sent.msg_id, alice.user, "oops")
        await alice.client.withdraw(sent.msg_id, bob.user)
        for person in (alice, bob):
            await person.has_heard("withdrawn", sent.msg_id, alice.user)

    async def test_withdraw_refused(self) -> None:
        """Only the sender withdraws."""
        alice, bob = await self.person(), await self.person()
        sent = await alice.client.send(bob.user, "mine")
        await bob.has_heard("message", sent.msg_id, alice.user, "mine")
        with self.assertRaises(Refused):
            await bob.client.withdraw(sent.msg_id, alice.user)

    async def test_ids(self) -> None:
        """A hundred fresh ids each time."""
        alice = await self.person()
        ids = await alice.client.batch_ids() + await alice.client.batch_ids()
        self.assertEqual(len(set(ids)), 200)

    async def test_unknown_type(self) -> None:
        """A type without a handler is answered 404, and the connection stays."""
        alice = await self.person()
        alice.client.send_raw(b"\x08\x63")
        await alice.has_heard("code", 99, 404)
        await alice.client.batch_ids()
