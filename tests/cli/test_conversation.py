"""What a chat does with what is typed and what comes."""

from __future__ import annotations

from typing import Any

from imconnect.cli.chat_lines import Kind, Line
from imconnect.cli.conversation import Conversation
from imconnect.client import Client
from imconnect.model import Receipt, Withdrawal
from imconnect.wire import codec
from tests.test_client import ClientTestCase


class RecordingScreen:
    """A screen to read back."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.changes: list[str] = []

    def show(self, line: Line) -> None:
        """A new line."""
        self.lines.append(line)

    def changed(self, line: Line) -> None:
        """Another mark."""
        self.changes.append(line.change)

    def texts(self, *kinds: Kind) -> list[str]:
        """The lines as they look now."""
        return [line.body for line in self.lines if line.kind in (kinds or tuple(Kind))]


class ChatTestCase(ClientTestCase):
    """Conversations at a gateway in memory; the time is 1,000,000 s after 1970."""

    def setUp(self) -> None:
        super().setUp()
        self.clock.advance(1_000_000)
        self.screen = RecordingScreen()

    def chatter(self, user: int = 1001, **options: Any) -> Client:
        """A client as the chat uses it."""
        return self.client(user, auto_ack=False, retry_unavailable=True, **options)

    def conversation(self, user: int = 1001, peer: int = 1002) -> Conversation:
        """One that is signed in, at an empty screen."""
        client = self.chatter(user)
        conversation = Conversation(client, self.screen, peer, now=self.clock.seconds)
        client.start()
        self.gateway.flush()
        self.screen.lines.clear()
        return conversation

    def enter(self, conversation: Conversation, *lines: str) -> None:
        """Type, and let each line arrive."""
        for line in lines:
            self.assertTrue(conversation.enter(line))
            self.gateway.flush()


class SayTests(ChatTestCase):
    """Own lines."""

    def test_marks(self) -> None:
        """A line is shown at once and gets its marks as they come."""
        conversation = self.conversation()
        self.enter(conversation, "hello")
        reader = self.online(1002)
        self.gateway.flush()
        reader.read(self.messages[0].msg_id)
        self.gateway.flush()
        self.assertEqual(self.screen.changes, ["#1 ✓ sent", "#1 ✓✓ delivered", "#1 ✓✓ read"])
        self.assertTrue(self.screen.texts(Kind.OWN)[0].endswith("#1 to 1002: hello"))

    def test_marks_that_came_while_away(self) -> None:
        """After a reconnect a line gets the mark that it missed, or is shown as withdrawn."""
        conversation = self.conversation()
        self.enter(conversation, "hello", "oops", "waiting")
        self.screen.changes.clear()
        self.gateway.sessions[0].dropConnection(abort=True)
        self.gateway.flush()
        hello, oops, _ = self.gateway.accepted.values()
        self.gateway.ended = {hello.msg_id: 4, oops.msg_id: 5}
        self.pass_time(0.5)
        self.assertEqual(self.screen.changes, ["#1 ✓✓ read", "#2 withdrawn"])

    def test_mark_never_falls(self) -> None:
        """A late "delivered" does not undo "read"."""
        conversation = self.conversation()
        self.enter(conversation, "hello")
        reader = self.online(1002, auto_ack=False)
        self.gateway.flush()
        reader.read(self.messages[0].msg_id)
        self.gateway.flush()
        (message,) = self.gateway.accepted.values()
        late = codec.encode_receipt(Receipt(message.msg_id, message.client_msg_id, 1001, 1002, 3), 0)
        self.gateway.tell(1001, late)
        self.gateway.flush()
        self.assertEqual(self.screen.changes, ["#1 ✓ sent", "#1 ✓✓ read"])

    def test_refused(self) -> None:
        """A refused line says why, and the conversation remembers that something failed."""
        conversation = self.conversation()
        self.gateway.refusal = (413, "too\x1blong")
        self.enter(conversation, "hello")
        self.assertEqual(self.screen.changes, ["#1 ✗ too�long (413)"])
        self.assertTrue(conversation.failed)

    def test_nobody_to_talk_to(self) -> None:
        """Without a peer nothing is sent."""
        conversation = self.conversation(peer=0)
        self.enter(conversation, "hello")
        self.assertEqual(self.gateway.sends(), [])
        self.assertEqual(self.screen.texts(), ["to whom? /to USER says so"])

    def test_typed_while_disconnected(self) -> None:
        """What is typed without a connection is sent after the next sign-in; the trouble is one line that changes."""
        conversation = self.conversation()
        self.gateway.away = True
        self.close(4004, "idle")
        self.enter(conversation, "hello")
        self.pass_time(0.5)
        self.assertEqual(conversation.waiting, 1)
        self.assertEqual(self.screen.texts(Kind.STATE), ["connection lost (connection refused), trying again in 1 s"])
        self.gateway.away = False
        answered = conversation.answered()
        self.assertNoResult(answered)
        self.pass_time(1)
        self.successResultOf(answered)
        self.assertEqual(self.screen.texts(Kind.STATE)[-1], "connected again")
        self.assertEqual(self.screen.changes[-1], "#1 ✓ sent")

    def test_node_leaves(self) -> None:
        """Of a node that leaves people are told the reason, not its parameters."""
        self.conversation()
        self.close(4005, "leaving; retry_after_ms=2000")
        self.assertEqual(self.screen.texts(), ["connection lost (leaving), trying again in 2 s"])


class ComeTests(ChatTestCase):
    """Lines of others."""

    def test_peer_is_read(self) -> None:
        """What the peer writes is read as it is shown, what others write is delivered."""
        self.conversation(1001, peer=1002)
        read = self.gateway.say(1002, 1001, "from the peer")
        seen = self.gateway.say(1003, 1001, "from somebody")
        self.gateway.flush()
        self.assertEqual(self.gateway.acks(), [(read.msg_id, 4), (seen.msg_id, 3)])

    def test_switch(self) -> None:
        """Who is talked to next has been read by then."""
        conversation = self.conversation(1001, peer=1002)
        seen = self.gateway.say(1003, 1001, "from somebody")
        self.gateway.flush()
        self.enter(conversation, "/to 1003", "hello", "/to 1002", "/to 1003")
        self.assertEqual(self.gateway.acks(), [(seen.msg_id, 3), (seen.msg_id, 4)])
        self.assertEqual(self.gateway.sends()[0].receiver, 1003)
        self.assertEqual(conversation.users(), [1003])

    def test_while_you_were_away(self) -> None:
        """What was written before the sign-in comes under a line of its own, once; what comes later does not."""
        for text in ("one", "two"):
            self.gateway.say(1002, 1001, text)
        self.clock.advance(60)
        client = self.chatter()
        Conversation(client, self.screen, 1002, now=self.clock.seconds)
        client.start()
        self.gateway.flush()
        self.pass_time(1)
        self.gateway.say(1002, 1001, "three")
        self.gateway.flush()
        texts = [text.rpartition("1002: ")[2] for text in self.screen.texts()]
        self.assertEqual(texts, ["connected as 1001", "while you were away:", "one", "two", "three"])

    def test_help_and_mistakes(self) -> None:
        """Help is shown, a mistake is explained, and leaving ends it."""
        conversation = self.conversation()
        self.enter(conversation, "/help", "/nonsense", "")
        self.assertIn("/nonsense is not a command; /help lists them", self.screen.texts(Kind.NOTE))
        self.assertFalse(conversation.enter("/quit"))
        self.assertEqual(self.gateway.requests, [])


class WithdrawTests(ChatTestCase):
    """Taking back."""

    def test_last(self) -> None:
        """Without a number the last message that stands is taken back, then the one before."""
        conversation = self.conversation()
        self.enter(conversation, "one", "two", "/withdraw")
        self.assertEqual([line.withdrawn for line in self.screen.lines], [False, True])
        self.enter(conversation, "/withdraw", "/withdraw")
        self.assertEqual([line.withdrawn for line in self.screen.lines[:2]], [True, True])
        self.assertEqual(self.screen.texts(Kind.NOTE), ["there is nothing to take back"])

    def test_by_number(self) -> None:
        """With a number it is that one."""
        conversation = self.conversation()
        self.enter(conversation, "one", "two", "/withdraw 1", "/withdraw 9")
        self.assertEqual([line.withdrawn for line in self.screen.lines[:2]], [True, False])
        self.assertEqual(self.screen.texts(Kind.NOTE), ["there is no message #9 to take back"])

    def test_unanswered(self) -> None:
        """What the gateway has not answered has no id to be taken back by."""
        conversation = self.conversation()
        self.gateway.answers = False
        self.enter(conversation, "one", "/withdraw")
        self.assertIn("#1 is still waiting", self.screen.texts(Kind.NOTE)[0])

    def test_refused(self) -> None:
        """A refusal is told, and the line stays."""
        conversation = self.conversation()
        self.enter(conversation, "one")
        self.gateway.accepted.clear()
        self.enter(conversation, "/withdraw")
        self.assertEqual(self.screen.texts(Kind.NOTE), ["#1 stays: not yours (403)"])
        self.assertFalse(self.screen.lines[0].withdrawn)

    def test_by_the_other_side(self) -> None:
        """What the sender takes back disappears here; an id that was never shown is nothing."""
        self.conversation(1001)
        other = self.online(1002)
        sent = self.result(other.send(1001, "oops"))
        self.result(other.withdraw(sent.msg_id, 1001))
        self.gateway.tell(1001, codec.encode_withdrawal(Withdrawal(12345, 1002, 1001), 0))
        self.gateway.flush()
        self.assertTrue(self.screen.texts()[0].endswith("1002: (withdrawn)"))
        self.assertEqual(len(self.screen.changes), 1)

    def test_note_to_oneself(self) -> None:
        """It was shown twice, as sent and as received, and disappears twice."""
        conversation = self.conversation(1001, peer=1001)
        self.enter(conversation, "remember", "/withdraw")
        self.assertEqual([line.withdrawn for line in self.screen.lines], [True, True])
