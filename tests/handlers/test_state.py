"""MSG_STATE_QUERY: what became of one's own messages."""

from __future__ import annotations

from collections.abc import Iterable

from imconnect.core.settings import XZLL
from imconnect.model import Status
from imconnect.wire.client_codec import Other, StatesReply, encode_state_query
from tests.core.rig import ALICE, BOB, CAROL, Client, Rig, client_id, send_frame, text_of
from tests.handlers.test_c2c import request
from tests.support import TestCase


def query(*texts: str) -> bytes:
    """The frame that asks about the messages with these texts."""
    return encode_state_query(map(client_id, texts))


class StateCase(TestCase):
    """Alice asks, Bob is signed in unless a test says otherwise."""

    def begin(self, **options: object) -> None:
        self.rig = Rig(**options)  # type: ignore[arg-type]
        self.alice, self.bob = self.rig.sign_in(ALICE), self.rig.sign_in(BOB)

    def answers(self, client: Client) -> list[StatesReply]:
        return [reply for reply in client.got if isinstance(reply, StatesReply)]

    def states(self, *texts: str, client: Client | None = None) -> dict[str, int]:
        """Text -> state, as answered; the ids are checked on the way."""
        who = client or self.alice
        who.forget()
        who.read(query(*texts))
        self.rig.turn()
        [reply] = self.answers(who)
        return self.told(reply)

    def told(self, reply: StatesReply) -> dict[str, int]:
        for state in reply.states:
            known = self.rig.id_of(text_of(state.client_msg_id)) if state.state else 0
            self.assertEqual(state.msg_id, known)
        return {text_of(state.client_msg_id): state.state for state in reply.states}

    def code(self, frame: bytes) -> int:
        """The code of a refusal, which is of the answer's type."""
        self.alice.forget()
        self.alice.read(frame)
        self.rig.turn()
        [reply] = self.alice.got
        assert isinstance(reply, Other)
        self.assertEqual(reply.type, 21)
        self.assertNotEqual(reply.msg, "")
        self.assertIsNone(self.alice.link.closed)
        return reply.code

    def asked_the_store(self) -> list[int]:
        """Notes how many clientMsgIds each question to the store is about."""
        asked: list[int] = []
        states = self.rig.pending.states

        def noted(user: int, ids: Iterable[bytes]) -> object:
            found = list(ids)
            asked.append(len(found))
            return states(user, found)

        self.patch(self.rig.pending, "states", noted)
        return asked


class RecentTests(StateCase):
    """What this node knows itself."""

    def setUp(self) -> None:
        self.begin()

    def test_every_state(self) -> None:
        """Stored, delivered, read, withdrawn: from memory, the store is not asked."""
        for text in ("stored", "delivered", "read", "withdrawn"):
            self.alice.send(BOB, text)
        self.rig.turn()
        self.bob.ack("delivered")
        self.bob.ack("read", Status.READ)
        self.alice.withdraw("withdrawn")
        self.rig.turn()
        asked = self.asked_the_store()
        self.assertEqual(
            self.states("read", "stored", "withdrawn", "delivered"),
            {"read": 4, "stored": 1, "withdrawn": 5, "delivered": 3},
        )
        self.assertEqual(asked, [])

    def test_offline(self) -> None:
        """Offline is stored."""
        self.alice.send(CAROL, "away")
        self.rig.turn()
        self.assertEqual(self.states("away"), {"away": 1})

    def test_not_durable_yet(self) -> None:
        """The answer waits for the fate of the message, and comes behind the answer to the send."""
        self.begin(commit_delay=0.5)
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.alice.read(query("hello"))
        self.rig.advance(0.4)
        self.assertEqual(self.alice.got, [])
        self.rig.advance(0.2)
        self.assertEqual([type(response).__name__ for response in self.alice.got], ["SendReply", "StatesReply"])
        self.assertEqual(self.told(self.answers(self.alice)[0]), {"hello": 1})

    def test_refused(self) -> None:
        """A message whose commit failed is unknown, also where the question came in the same read."""
        self.rig.outbox.fail_appends = True
        self.alice.read(send_frame(BOB, "hello"), query("hello"))
        self.rig.turn()
        self.assertEqual(self.alice.refused, [("hello", 503)])
        self.assertEqual(self.told(self.answers(self.alice)[0]), {"hello": 0})

    def test_somebody_elses(self) -> None:
        """The same clientMsgId of another user says nothing about mine."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual(self.states("hello", client=self.bob), {"hello": 0})

    def test_after_a_crash(self) -> None:
        """What the log holds is known again."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.bob.ack("hello")
        self.rig.turn()
        self.rig.crash()
        self.assertEqual(self.states("hello", client=self.rig.sign_in(ALICE)), {"hello": 3})

    def test_twice_in_one_question(self) -> None:
        """One row for each clientMsgId that was asked about, in that order."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.alice.read(query("x", "hello", "x", "hello"))
        self.rig.turn()
        [reply] = self.answers(self.alice)
        self.assertEqual([state.state for state in reply.states], [0, 1, 0, 1])

    def test_success_in_xzll(self) -> None:
        """The success code of the profile."""
        self.begin(profile=XZLL)
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.alice.forget()
        self.alice.read(query("hello"))
        self.rig.turn()
        self.assertEqual([reply.code for reply in self.answers(self.alice)], [1])


class StoreTests(StateCase):
    """What only the store knows."""

    def setUp(self) -> None:
        self.begin()
        self.carol = self.rig.sign_in(CAROL)

    def test_accepted_elsewhere(self) -> None:
        """A message of another node, and one of nobody; together one question."""
        self.rig.elsewhere("far")
        asked = self.asked_the_store()
        self.assertEqual(self.states("far", "nothing", client=self.carol), {"far": 1, "nothing": 0})
        self.assertEqual(asked, [2])

    def test_the_better_one_wins(self) -> None:
        """Offline here and delivered by another node: delivered."""
        self.bob.leave()
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.rig.turn()
        [row] = [row for row in self.rig.store.tables.messages.values() if row.content == "hello"]
        row.msg_status = Status.READ
        self.assertEqual(self.states("hello"), {"hello": 4})

    def test_handed_over(self) -> None:
        """What another node has taken over may have been acknowledged there."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.rig.turn()
        recent = self.rig.node.recent.repeat_of(ALICE, client_id("hello"))
        assert recent is not None
        recent.passed = True
        self.rig.store.tables.messages[recent.msg_id].msg_status = Status.DELIVERED
        self.assertEqual(self.states("hello"), {"hello": 3})

    def test_store_that_lags(self) -> None:
        """What the store does not have yet and this node does is stored."""
        self.rig.business.held = True
        self.bob.leave()
        self.alice.send(BOB, "hello")
        self.rig.turn()
        self.assertEqual(self.states("hello", "nothing"), {"hello": 1, "nothing": 0})

    def test_store_away(self) -> None:
        """503 where a message is not known here; no reason to refuse where all are."""
        self.alice.send(CAROL, "hello")
        self.carol.leave()
        self.rig.turn()
        self.rig.store.away = "gone"
        self.assertEqual(self.states("hello"), {"hello": 1})
        self.assertEqual(self.code(query("hello", "nothing")), 503)

    def test_store_too_slow(self) -> None:
        """503 after `backfill_timeout`."""
        self.begin(store_delay=9.0, backfill_timeout=2.0)
        self.rig.advance(2.5)
        self.alice.forget()
        self.alice.read(query("nothing"))
        self.rig.advance(1.9)
        self.assertEqual(self.alice.got, [])
        self.rig.advance(0.2)
        self.assertEqual([getattr(reply, "code", 0) for reply in self.alice.got], [503])

    def test_rate(self) -> None:
        """Questions to the store are limited like other look-ups: 429; those answered from memory are not."""
        self.alice.send(BOB, "hello")
        self.rig.turn()
        limit = self.rig.settings.lookups_per_second
        self.alice.forget()
        self.alice.read(*[query("nothing")] * (limit + 2), *[query("hello")] * 20)
        self.rig.turn()
        self.rig.turn()
        refused = [reply.code for reply in self.alice.got if isinstance(reply, Other)]
        self.assertEqual((refused, len(self.answers(self.alice))), ([429, 429], limit + 20))


class BadInputTests(StateCase):
    """What cannot be answered."""

    def setUp(self) -> None:
        self.begin()

    def test_numbers(self) -> None:
        """None, and more than a hundred: 400; a hundred are fine."""
        self.assertEqual(self.code(query()), 400)
        self.assertEqual(self.code(query(*(str(n) for n in range(101)))), 400)
        self.assertEqual(len(self.states(*(str(n) for n in range(100)))), 100)

    def test_length(self) -> None:
        """400 for a clientMsgId that is not 16 bytes."""
        for length in (0, 15, 17):
            self.assertEqual(self.code(encode_state_query([client_id("x"), b"x" * length])), 400)

    def test_payload_that_does_not_parse(self) -> None:
        """400."""
        self.assertEqual(self.code(request(20, b"\xff")), 400)
