"""The client library asks what became of its messages, against a gateway in memory."""

from __future__ import annotations

import uuid

from imconnect.client import Client, Stopped
from imconnect.model import Receipt, Withdrawal
from imconnect.wire import codec
from tests.test_client import ClientTestCase


class AskingTests(ClientTestCase):
    """After a reconnect."""

    def lose(self, client: Client) -> None:
        """His connection breaks; half a second later he tries again."""
        assert client.link is not None
        client.link.dropConnection(abort=True)
        self.gateway.flush()
        self.gateway.requests.clear()

    def acknowledge(self, msg_id: int, status: int) -> None:
        """Somebody has it, and there is nobody to be told."""
        self.gateway.ended[msg_id] = status

    def asked(self) -> list[int]:
        """How many messages each question was about."""
        return [len(query.client_msg_ids) for query in self.gateway.queries()]

    def test_nothing_to_ask(self) -> None:
        """No question at the first sign-in, nor without own messages."""
        client = self.online()
        self.lose(client)
        self.pass_time(0.5)
        self.assertEqual(self.asked(), [])

    def test_missed_receipts(self) -> None:
        """Delivered and read while he was away: told after all, each once; what has its tick is not asked about."""
        client = self.online()
        sent = [self.result(client.send(1002, text)) for text in ("a", "b", "c")]
        self.lose(client)
        self.acknowledge(sent[0].msg_id, 3)
        self.acknowledge(sent[1].msg_id, 4)
        self.pass_time(0.5)
        self.assertEqual(
            self.receipts, [(sent[0].msg_id, sent[0].client_msg_id, 3), (sent[1].msg_id, sent[1].client_msg_id, 4)]
        )
        self.lose(client)
        self.pass_time(1)
        self.assertEqual((self.asked(), len(self.receipts)), ([1], 2))

    def test_missed_withdrawal(self) -> None:
        """Taken back by another device of his."""
        client = self.online()
        sent = self.result(client.send(1002, "oops"))
        self.lose(client)
        self.acknowledge(sent.msg_id, 5)
        self.pass_time(0.5)
        self.assertEqual(self.withdrawn, [(sent.msg_id, 1001)])
        self.lose(client)
        self.pass_time(1)
        self.assertEqual(self.asked(), [])

    def test_unanswered(self) -> None:
        """What the gateway has is settled without being sent again; what it does not know is sent, in order."""
        client = self.online()
        self.gateway.answers = False
        first = client.send(1002, "a")
        self.gateway.flush()
        lost = [client.send(1002, text) for text in ("b", "c")]
        self.lose(client)
        self.gateway.answers = True
        message, *forgotten = self.gateway.accepted.values()
        for each in forgotten:  # it died before they were on its disk
            del self.gateway.accepted[1001, each.client_msg_id]
        self.acknowledge(message.msg_id, 3)
        last = client.send(1002, "d")
        self.pass_time(0.5)
        self.assertEqual(self.successResultOf(first).msg_id, message.msg_id)
        self.assertEqual(self.receipts, [(message.msg_id, message.client_msg_id, 3)])
        for each in (*lost, last):
            self.successResultOf(each)
        self.assertEqual([send.content for send in self.gateway.sends()], ["b", "c", "d"])
        # What was never written is in no doubt, and nothing is sent before the answer.
        kinds = [type(request).__name__ for request in self.gateway.requests]
        self.assertEqual((self.asked(), kinds), ([3], ["StateQuery", "Send", "Send", "Send"]))

    def test_old_gateway(self) -> None:
        """404, or not a word for five seconds: sent again as ever. So too where the store is away (503)."""
        for code, wait in ((404, 0.0), (503, 0.0), (0, 5.0)):
            client = self.online()
            self.gateway.answers, self.gateway.states_refused = False, code
            sent = client.send(1002, "hello")
            self.gateway.flush()
            self.lose(client)
            self.gateway.answers = True
            self.pass_time(0.5)
            if wait:
                self.pass_time(wait - 0.1)
                self.assertNoResult(sent)
                self.pass_time(0.1)
            self.successResultOf(sent)
            self.pass_time(60)
            self.assertEqual(len(self.asked()), 1)
            self.result(client.stop())

    def test_store_away(self) -> None:
        """503 to a question about ticks: asked again, ever more slowly, until it is answered."""
        client = self.online()
        sent = self.result(client.send(1002, "hello"))
        self.lose(client)
        self.acknowledge(sent.msg_id, 3)
        self.gateway.states_refused = 503
        self.pass_time(0.5)
        for wait in (1, 2, 4):
            self.pass_time(wait - 0.1)
            self.pass_time(0.1)
        self.assertEqual((len(self.asked()), self.receipts), (4, []))
        self.gateway.states_refused = None
        self.pass_time(8)
        self.assertEqual(self.receipts, [(sent.msg_id, sent.client_msg_id, 3)])
        self.pass_time(600)
        self.assertEqual(len(self.asked()), 5)

    def test_pages(self) -> None:
        """A hundred per question, one question at a time; what is unanswered comes first."""
        client = self.online()
        for _ in range(150):
            self.result(client.send(1002, "x"))
        self.gateway.answers = False
        for _ in range(120):
            client.send(1002, "y")
        self.gateway.flush()
        self.lose(client)
        self.pass_time(0.5)
        self.assertEqual(self.asked(), [100, 20, 100, 50])
        self.assertEqual(client.outstanding, 0)

    def test_memory_is_bounded(self) -> None:
        """Of a thousand messages without a tick it is asked what became of them."""
        client = self.online()
        for _ in range(1003):
            self.result(client.send(1002, "x"))
        self.lose(client)
        self.pass_time(0.5)
        self.assertEqual((len(self.asked()), sum(self.asked())), (10, 1000))

    def test_told_meanwhile(self) -> None:
        """Receipts and withdrawals that came are the end of it."""
        client = self.online()
        read, gone = (self.result(client.send(1002, text)) for text in ("a", "b"))
        self.gateway.tell(1001, codec.encode_receipt(Receipt(read.msg_id, read.client_msg_id, 1001, 1002, 3), 0))
        self.gateway.tell(1001, codec.encode_withdrawal(Withdrawal(gone.msg_id, 1001, 1002), 0))
        self.gateway.flush()
        self.lose(client)
        self.pass_time(0.5)
        self.assertEqual(self.asked(), [])

    def test_lost_again(self) -> None:
        """A connection that breaks before the answer: asked again on the next."""
        client = self.online()
        self.gateway.answers, self.gateway.states_refused = False, 0
        sent = client.send(1002, "hello")
        self.gateway.flush()
        self.lose(client)
        self.pass_time(0.5)
        self.lose(client)
        self.gateway.states_refused = None
        self.pass_time(1)
        self.assertEqual((self.asked(), self.gateway.sends()), ([1], []))
        self.successResultOf(sent)

    def test_postponed(self) -> None:
        """A send that waits for a second chance does not break out of the questions."""
        client = self.online(retry_unavailable=True)
        self.gateway.refusal = (503, "later")
        sent = client.send(1002, "hello")
        self.gateway.flush()
        self.gateway.states_refused = 0
        self.lose(client)
        self.gateway.refusal = None
        self.pass_time(0.5)
        self.pass_time(1)
        self.assertEqual(self.gateway.sends(), [])
        self.pass_time(5)
        self.successResultOf(sent)

    def test_stopped_by_an_answer(self) -> None:
        """Who stops his client when he hears of a tick is asked nothing more, and no timer is left."""
        client = self.online()
        sent = self.result(client.send(1002, "hello"))
        client.send(1002, "x", client_msg_id=uuid.uuid4().bytes).addErrback(lambda failure: failure.trap(Stopped))
        client.on_receipt = lambda *_: client.stop()
        self.lose(client)
        self.acknowledge(sent.msg_id, 3)
        self.pass_time(0.5)
        self.assertEqual(self.clock.getDelayedCalls(), [])
