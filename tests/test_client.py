"""The client library against a gateway in memory."""

from __future__ import annotations

import sys
from typing import Any

import txaio
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from imconnect.client import (
    Client,
    ClientError,
    ClientMessage,
    Overfull,
    Phase,
    Refused,
    Replaced,
    SendResult,
    SignInRefused,
    State,
    Stopped,
)
from imconnect.wire import client_codec, codec
from imconnect.wire.requests import KeepAlive
from tests.fake_gateway import FakeGateway
from tests.support import TestCase

URL = "ws://127.0.0.1:10001/websocket"
TAKEN_OVER = "signed out, because a newer connection of this user took over"


class ClientTestCase(TestCase):
    """A clock, a gateway, and what its clients were told."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.patch(txaio.config, "loop", self.clock)  # type: ignore[attr-defined]
        self.gateway = FakeGateway(self.clock)
        self.messages: list[ClientMessage] = []
        self.receipts: list[tuple[int, bytes, int]] = []
        self.withdrawn: list[tuple[int, int]] = []
        self.states: list[State] = []

    def client(self, user: int = 1001, **options: Any) -> Client:
        """A client that is not started; `chance` 1 makes every wait the longest it can be."""
        options = {"chance": lambda: 1.0, "now": self.clock.seconds, **options}
        client = Client(self.clock, URL, user, endpoint=self.gateway, **options)
        client.on_message = self.messages.append
        client.on_receipt = lambda *told: self.receipts.append(told)
        client.on_withdrawn = lambda *told: self.withdrawn.append(told)
        client.on_state = self.states.append
        return client

    def online(self, user: int = 1001, **options: Any) -> Client:
        """A client that has signed in."""
        client = self.client(user, **options)
        started = client.start()
        self.gateway.flush()
        self.successResultOf(started)
        return client

    def result(self, deferred: Deferred[Any]) -> Any:
        """What the gateway's answer makes of it."""
        self.gateway.flush()
        return self.successResultOf(deferred)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and what is written meanwhile arrive."""
        self.clock.advance(seconds)
        self.gateway.flush()

    def close(self, code: int, reason: str) -> None:
        """The gateway closes every connection."""
        for session in list(self.gateway.sessions):
            session.sendClose(code, reason)
        self.gateway.flush()

    def phases(self) -> list[Phase]:
        """What `on_state` was told, without the details."""
        return [state.phase for state in self.states]


class SignInTests(ClientTestCase):
    """The first sign-in."""

    def test_tells_who_he_is(self) -> None:
        """User, device and the caller's own headers go into the handshake."""
        self.online(1001, device="phone", headers={"token": "secret"})
        signs = self.gateway.sessions[0].signs
        self.assertEqual((signs["uid"], signs["deviceid"], signs["token"]), ("1001", "phone", "secret"))
        self.assertEqual(self.phases(), [Phase.CONNECTING, Phase.ONLINE])

    def test_gateway_away(self) -> None:
        """A gateway that is away is tried again, ever more slowly, until it is there."""
        self.gateway.away = True
        started = self.client().start()
        for wait in (0.5, 1, 2, 4, 8, 16, 30, 30):
            self.assertEqual(self.states[-1].phase, Phase.WAITING)
            self.assertEqual(self.states[-1].retry_in, wait)
            self.clock.advance(wait)
        self.assertNoResult(started)
        self.gateway.away = False
        self.pass_time(30)
        self.successResultOf(started)

    def test_jitter(self) -> None:
        """Clients that lost the same gateway do not come back in the same moment."""
        self.gateway.away = True
        self.client(chance=lambda: 0.0).start()
        self.assertEqual(self.states[-1].retry_in, 0.25)

    def test_refused(self) -> None:
        """A 401 is final; the reason in its body is told, though it comes in a later read than the head."""
        body = b'{"reason": "the token has expired"}'
        head = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.gateway.http = (head, body)
        started = self.client().start()
        self.gateway.flush()
        self.assertNoResult(started)
        assert self.gateway.last_http is not None
        self.gateway.last_http.more()
        self.gateway.flush()
        error = self.failureResultOf(started, SignInRefused).value
        self.assertEqual((error.status, error.reason), (401, "the token has expired"))
        self.assertEqual(self.states[-1], State(Phase.STOPPED, "401 the token has expired"))
        self.pass_time(3600)
        self.assertEqual(self.gateway.attempts, 1)

    def test_wrong_path(self) -> None:
        """A 404 is final too; without a body the status line says why."""
        self.gateway.http = (b"HTTP/1.1 404 Not Found\r\n\r\n",)
        started = self.client().start()
        self.gateway.flush()
        self.assertEqual(self.failureResultOf(started, SignInRefused).value.reason, "Not Found")

    def test_overload(self) -> None:
        """A 503 is tried again, no earlier than the gateway asked for."""
        self.gateway.http = (b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 8\r\n\r\n",)
        started = self.client(chance=lambda: 0.0).start()
        self.gateway.flush()
        self.assertEqual(self.states[-1], State(Phase.WAITING, "Service Unavailable", 8))
        self.gateway.http = ()
        self.pass_time(7.9)
        self.assertNoResult(started)
        self.pass_time(0.1)
        self.successResultOf(started)

    def test_no_answer_in_the_handshake(self) -> None:
        """A peer that says nothing is given up after ten seconds, and tried again."""
        self.gateway.http = (b"",)
        self.client().start()
        self.pass_time(9)
        self.assertEqual(self.states[-1].phase, Phase.CONNECTING)
        self.pass_time(2)
        self.assertEqual(self.states[-1].phase, Phase.WAITING)


class SendTests(ClientTestCase):
    """Sending."""

    def test_send(self) -> None:
        """A send fires with the id that the gateway gave it, and what arrives is what was sent."""
        client = self.online(1001)
        self.online(1002)
        result = self.result(client.send(1002, "你好"))
        self.assertIsInstance(result, SendResult)
        self.assertEqual(len(result.client_msg_id), 16)
        (message,) = self.messages
        self.assertEqual(
            (message.msg_id, message.sender, message.receiver, message.format, message.content),
            (result.msg_id, 1001, 1002, 1, "你好"),
        )
        self.assertEqual(client.outstanding, 0)

    def test_refused(self) -> None:
        """A refusal fails the send with its code and words, and is not tried again."""
        client = self.online()
        self.gateway.refusal = (413, "too long")
        sent = client.send(1002, "x")
        self.gateway.flush()
        error = self.failureResultOf(sent, Refused).value
        self.assertEqual((error.code, error.msg), (413, "too long"))
        self.assertEqual(client.outstanding, 0)

    def test_too_long_for_a_frame(self) -> None:
        """What the gateway would close the connection for is refused here."""
        client = self.online()
        self.assertEqual(self.failureResultOf(client.send(1002, "x" * 65536), Refused).value.code, 413)
        self.gateway.flush()
        self.assertEqual(self.gateway.requests, [])

    def test_sent_again_after_reconnect(self) -> None:
        """What was not answered is sent again, in order, under the same clientMsgId; nobody sees it twice. Here the
        gateway is one that cannot say what became of it."""
        client = self.online(1001)
        self.online(1002)
        self.gateway.answers, self.gateway.states_refused = False, 404
        sent = [client.send(1002, text) for text in ("a", "b", "c")]
        self.gateway.flush()
        first = [send.client_msg_id for send in self.gateway.sends()]
        client.link.dropConnection(abort=True)  # type: ignore[union-attr]
        self.gateway.flush()
        self.gateway.answers = True
        self.gateway.requests.clear()
        self.pass_time(0.5)
        self.assertEqual([send.client_msg_id for send in self.gateway.sends()], first)
        ids = [self.successResultOf(each).msg_id for each in sent]
        self.assertEqual([message.msg_id for message in self.messages], ids)

    def test_answered_is_not_sent_again(self) -> None:
        """After a reconnect only the unanswered goes out."""
        client = self.online()
        self.result(client.send(1002, "a"))
        client.link.dropConnection(abort=True)  # type: ignore[union-attr]
        self.gateway.flush()
        self.pass_time(0.5)
        self.assertEqual(len(self.gateway.sends()), 1)

    def test_sent_while_away(self) -> None:
        """What is sent without a connection waits for one."""
        client = self.client()
        sent = client.send(1002, "early")
        client.start()
        self.gateway.flush()
        self.successResultOf(sent)

    def test_bound(self) -> None:
        """Only so much may wait for an answer; the next is possible when one has come."""
        client = self.online(max_outstanding=2)
        sent = [client.send(1002, "a"), client.send(1002, "b")]
        self.failureResultOf(client.send(1002, "c"), Overfull)
        self.gateway.flush()
        for each in sent:
            self.successResultOf(each)
        self.result(client.send(1002, "c"))

    def test_unavailable_is_the_callers_business(self) -> None:
        """A 503 fails the send unless the caller wished otherwise."""
        client = self.online()
        self.gateway.refusal = (503, "the outbox is full")
        sent = client.send(1002, "x")
        self.gateway.flush()
        self.assertEqual(self.failureResultOf(sent, Refused).value.code, 503)

    def test_retry_unavailable(self) -> None:
        """With `retry_unavailable` a 503 is tried again, and what was sent meanwhile stays behind it."""
        client = self.online(retry_unavailable=True)
        self.gateway.refusal = (503, "the outbox is full")
        first = client.send(1002, "a")
        self.gateway.flush()
        second = client.send(1002, "b")
        self.gateway.flush()
        self.assertNoResult(first)
        self.gateway.refusal = None
        self.pass_time(1)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual([send.content for send in self.gateway.sends()], ["a", "a", "b"])

    def test_retry_in_profile_xzll(self) -> None:
        """There -2 is "not now" and 0 "too fast"; -1 is for good."""
        client = self.online(retry_unavailable=True)
        for code in (-2, 0):
            self.gateway.refusal = (code, "try again later")
            sent = client.send(1002, "a")
            self.gateway.flush()
            self.assertNoResult(sent)
            self.gateway.refusal = None
            self.pass_time(1)
            self.successResultOf(sent)
        self.gateway.refusal = (-1, "content is empty")
        sent = client.send(1002, "")
        self.gateway.flush()
        self.assertEqual(self.failureResultOf(sent, Refused).value.code, -1)

    def test_given_up(self) -> None:
        """A cancelled send is forgotten: not repeated, and its late answer is nobody's."""
        client = self.online()
        self.gateway.answers = False
        sent = client.send(1002, "a")
        self.gateway.flush()
        sent.addErrback(lambda _: None)
        sent.cancel()
        (send,) = self.gateway.sends()
        self.gateway.tell(1001, codec.encode_send_ack(send.client_msg_id, 7, 1002, 1001, 0))
        self.gateway.flush()
        self.assertEqual(client.outstanding, 0)


class ReceiveTests(ClientTestCase):
    """What comes."""

    def test_acknowledged_as_delivered(self) -> None:
        """A message that was handed over is acknowledged, and its sender told."""
        sender = self.online(1001)
        self.online(1002)
        sent = self.result(sender.send(1002, "hello"))
        self.assertEqual(self.gateway.acks(), [(sent.msg_id, 3)])
        self.assertEqual(self.receipts, [(sent.msg_id, sent.client_msg_id, 3)])

    def test_read(self) -> None:
        """`read` tells the sender so."""
        sender = self.online(1001)
        reader = self.online(1002)
        sent = self.result(sender.send(1002, "hello"))
        reader.read(sent.msg_id)
        self.gateway.flush()
        self.assertEqual(self.receipts[-1], (sent.msg_id, sent.client_msg_id, 4))

    def test_read_inside_on_message(self) -> None:
        """Who reads a message as it comes needs no delivered receipt before it."""
        client = self.client(1002)
        client.on_message = lambda message: client.read(message.msg_id)
        client.start()
        self.gateway.flush()
        message = self.gateway.say(1001, 1002, "hello")
        self.gateway.flush()
        self.assertEqual(self.gateway.acks(), [(message.msg_id, 4)])

    def test_repeat(self) -> None:
        """A repeated push is acknowledged again, with what it was acknowledged with last, but not shown again."""
        client = self.online(1002)
        message = self.gateway.say(1001, 1002, "hello")
        self.gateway.flush()
        client.read(message.msg_id)
        self.gateway.tell(1002, codec.encode_push(message, 0))
        self.gateway.flush()
        self.assertEqual(len(self.messages), 1)
        self.assertEqual([status for _, status in self.gateway.acks()], [3, 4, 4])

    def test_memory_is_bounded(self) -> None:
        """Only the last `remember` messages are known; an older one is shown again."""
        self.online(1002, remember=2)
        first = self.gateway.say(1001, 1002, "1")
        for text in ("2", "3"):
            self.gateway.say(1001, 1002, text)
        self.gateway.tell(1002, codec.encode_push(first, 0))
        self.gateway.flush()
        self.assertEqual([message.content for message in self.messages], ["1", "2", "3", "1"])

    def test_without_auto_ack(self) -> None:
        """Without `auto_ack` nothing is acknowledged, also not a repeat, until the owner does."""
        client = self.online(1002, auto_ack=False)
        message = self.gateway.say(1001, 1002, "hello")
        self.gateway.tell(1002, codec.encode_push(message, 0))
        self.gateway.flush()
        self.assertEqual(self.gateway.acks(), [])
        client.delivered(message.msg_id)
        self.gateway.flush()
        self.assertEqual(self.gateway.acks(), [(message.msg_id, 3)])

    def test_owner_fails(self) -> None:
        """A message that could not be shown is not acknowledged, and is shown when it comes again."""
        client = self.client(1002)
        client.on_message = lambda message: dict[int, int]()[message.msg_id]
        client.start()
        self.gateway.flush()
        message = self.gateway.say(1001, 1002, "hello")
        self.gateway.flush()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(self.gateway.acks(), [])
        client.on_message = self.messages.append
        self.gateway.tell(1002, codec.encode_push(message, 0))
        self.gateway.flush()
        self.assertEqual(self.gateway.acks(), [(message.msg_id, 3)])

    def test_missed_messages(self) -> None:
        """What was sent while he was away comes at the sign-in."""
        self.gateway.say(1001, 1002, "a")
        self.gateway.say(1001, 1002, "b")
        self.online(1002)
        self.gateway.flush()
        self.assertEqual([message.content for message in self.messages], ["a", "b"])

    def test_acknowledged_while_away(self) -> None:
        """An acknowledgement without a connection is made up for at the next one."""
        client = self.online(1002)
        message = self.gateway.say(1001, 1002, "hello")
        self.gateway.flush()
        self.close(4004, "idle")
        client.read(message.msg_id)
        self.pass_time(0.5)
        self.assertEqual(self.gateway.acks(), [(message.msg_id, 3), (message.msg_id, 4)])

    def test_unknown_message(self) -> None:
        """Only a message that came can be acknowledged."""
        self.assertRaises(KeyError, self.online().read, 77)

    def test_frame_hook(self) -> None:
        """`on_frame` sees everything, repeats included, raw and decoded."""
        client = self.online(1002)
        seen: list[tuple[bytes, client_codec.Response]] = []
        client.on_frame = lambda frame, response: seen.append((frame, response))
        frame = codec.encode_push(self.gateway.say(1001, 1002, "hello"), 0)
        self.gateway.tell(1002, frame)
        self.gateway.flush()
        self.assertEqual([raw for raw, _ in seen], [frame, frame])
        self.assertIsInstance(seen[0][1], client_codec.Pushed)

    def test_garbage(self) -> None:
        """A frame that is nothing, and one of a type that we do not know, change nothing."""
        client = self.online()
        self.gateway.tell(1001, b"\xff\xff")
        self.gateway.tell(1001, codec.encode_reply(99, 404, "unknown type"))
        self.assertIsInstance(self.result(client.send(1002, "still here")), SendResult)


class OtherRequestTests(ClientTestCase):
    """Withdrawals, ids, raw frames."""

    def test_withdraw(self) -> None:
        """Both sides are told who took it back."""
        client = self.online(1001)
        self.online(1002)
        sent = self.result(client.send(1002, "oops"))
        self.result(client.withdraw(sent.msg_id, 1002))
        self.assertEqual(self.withdrawn, [(sent.msg_id, 1001), (sent.msg_id, 1001)])

    def test_withdraw_refused(self) -> None:
        """Somebody else's message stays."""
        client = self.online(1001)
        other = self.online(1002)
        sent = self.result(client.send(1002, "mine"))
        withdrawal = other.withdraw(sent.msg_id, 1001)
        self.gateway.flush()
        self.assertEqual(self.failureResultOf(withdrawal, Refused).value.msg, "not yours")

    def test_ids(self) -> None:
        """Each request gets ids of its own."""
        client = self.online()
        first, second = client.batch_ids(), client.batch_ids()
        ids = self.result(first) + self.result(second)
        self.assertEqual(len(set(ids)), 200)

    def test_ids_refused(self) -> None:
        """A bare code is the answer to the oldest request for ids."""
        client = self.online()
        asked = client.batch_ids()
        self.gateway.tell(1001, codec.encode_reply(6, 429, "slow down"))
        self.gateway.flush()
        self.assertEqual(self.failureResultOf(asked, Refused).value.code, 429)

    def test_raw(self) -> None:
        """Any frame can be written."""
        client = self.online()
        client.send_raw(b"\x08\x63")
        self.gateway.flush()
        self.assertEqual([request.command for request in self.gateway.requests], [99])  # type: ignore[union-attr]


class ConnectionTests(ClientTestCase):
    """What happens when the connection ends."""

    def test_node_leaves(self) -> None:
        """A node that leaves says when to come back."""
        self.online()
        self.close(4005, "leaving; retry_after_ms=1250")
        self.assertEqual(self.states[-1], State(Phase.WAITING, "leaving; retry_after_ms=1250", 1.25))
        self.pass_time(1.24)
        self.assertEqual(self.gateway.attempts, 1)
        self.pass_time(0.01)
        self.assertEqual(self.states[-1].phase, Phase.ONLINE)

    def test_replaced(self) -> None:
        """Who was replaced stays away, and what he had not been answered fails with it."""
        client = self.online()
        self.gateway.answers = False
        sent = client.send(1002, "x")
        self.gateway.flush()
        self.close(4001, "replaced")
        self.failureResultOf(sent, Replaced)
        self.failureResultOf(client.send(1002, "y"), Replaced)
        self.assertEqual(self.states[-1], State(Phase.STOPPED, TAKEN_OVER))
        self.pass_time(3600)
        self.assertEqual(self.gateway.attempts, 1)
        self.successResultOf(client.stop())

    def test_backoff_starts_anew(self) -> None:
        """Failures count until a connection has proved itself."""
        self.online()
        for wait in (0.5, 1.0):
            self.close(4004, "idle")
            self.assertEqual(self.states[-1].retry_in, wait)
            self.pass_time(wait)
        self.pass_time(5)
        self.close(4004, "idle")
        self.assertEqual(self.states[-1].retry_in, 0.5)

    def test_dead_link(self) -> None:
        """A gateway that has fallen silent is noticed after two signs of life went unanswered."""
        self.online(keep_alive=20)
        self.clock.advance(20)  # and nothing moves on the wire
        self.assertEqual(self.states[-1].phase, Phase.ONLINE)
        self.pass_time(20)
        self.assertEqual(self.states[-1][:2], (Phase.WAITING, "the gateway does not answer"))

    def test_living_link(self) -> None:
        """As long as pings are answered an idle connection stays, and the gateway sees that we are there."""
        self.online(keep_alive=20)
        for _ in range(10):
            self.pass_time(20)
        self.assertEqual(self.gateway.attempts, 1)
        self.assertEqual(self.gateway.requests, [KeepAlive()] * 10)

    def test_no_sign_of_life_while_closing(self) -> None:
        """When it would fall due between the two close frames, none is sent."""
        client = self.online(keep_alive=20)
        self.clock.advance(19.9)
        stopped = client.stop()
        self.clock.advance(0.2)
        self.gateway.flush()
        self.successResultOf(stopped)
        self.assertEqual((self.gateway.requests, self.gateway.closes), ([], [(True, 1000)]))

    def test_stop(self) -> None:
        """A stop closes with 1000, and fires when the connection is gone."""
        client = self.online()
        self.gateway.answers = False
        sent = client.send(1002, "x")
        self.gateway.flush()
        stopped = client.stop()
        self.assertNoResult(stopped)
        self.gateway.flush()
        self.successResultOf(stopped)
        self.assertEqual(self.gateway.closes, [(True, 1000)])
        self.failureResultOf(sent, Stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_while_waiting(self) -> None:
        """A stop between two attempts ends it at once; the start fails."""
        self.gateway.away = True
        client = self.client()
        started = client.start()
        self.successResultOf(client.stop())
        self.failureResultOf(started, Stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(client.stop())

    def test_stop_in_the_handshake(self) -> None:
        """A stop before the gateway has answered drops the connection."""
        client = self.client()
        started = client.start()
        stopped = client.stop()
        self.gateway.flush()
        self.successResultOf(stopped)
        self.failureResultOf(started, Stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_tls_not_installed(self) -> None:
        """A wss address without the packages for TLS is an error that names them, not a traceback later."""
        name = "twisted.internet.ssl"
        before = sys.modules.get(name)
        self.addCleanup(lambda: sys.modules.pop(name) if before is None else sys.modules.__setitem__(name, before))
        sys.modules[name] = None  # type: ignore[assignment]
        error = self.assertRaises(ClientError, Client, self.clock, "wss://127.0.0.1:10001/websocket", 1001)
        self.assertIn("pyOpenSSL", str(error))

    def test_started_once(self) -> None:
        """A client is used once."""
        client = self.online()
        self.assertRaises(RuntimeError, client.start)
