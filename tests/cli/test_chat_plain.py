"""A chat in a pipe."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from imconnect.cli.chat_plain import PlainScreen, PlainTalk, read_lines
from imconnect.cli.conversation import Conversation
from tests.cli.test_conversation import ChatTestCase
from tests.support import ReactorTestCase
from tests.test_client import TAKEN_OVER, URL


class PlainTestCase(ChatTestCase):
    """One talk, from start to exit status."""

    def setUp(self) -> None:
        super().setUp()
        self.out, self.err = io.StringIO(), io.StringIO()
        self.complaints: list[str] = []

    def talk(self, peer: int = 1002) -> tuple[PlainTalk, Deferred[int]]:
        """A talk that has begun, and its exit status to be."""
        client = self.chatter()
        conversation = Conversation(client, PlainScreen(self.out, self.err), peer, now=self.clock.seconds)
        talk = PlainTalk(self.clock, client, conversation, URL, 10)
        status = Deferred.fromCoroutine(talk.run(self.complaints.append))
        return talk, status


class PlainTalkTests(PlainTestCase):
    """`PlainTalk`: lines in, exit status out."""

    def test_sends_and_leaves(self) -> None:
        """Lines fed before the sign-in are sent, and 0 comes when they are answered and the connection is closed."""
        talk, status = self.talk()
        talk.feed("hi")
        talk.end()
        self.gateway.flush()
        self.assertEqual(self.successResultOf(status), 0)
        self.assertEqual(self.out.getvalue(), "#1 ✓ sent\n")
        self.assertEqual(self.err.getvalue(), "connected as 1001\n")
        self.assertEqual(self.gateway.closes, [(True, 1000)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_prints_what_comes(self) -> None:
        """What others write is printed, one line each, also what was missed."""
        self.gateway.say(1002, 1001, "one\ntwo")
        self.clock.advance(60)
        talk, status = self.talk()
        self.gateway.flush()
        talk.end()
        self.gateway.flush()
        self.assertEqual(self.successResultOf(status), 0)
        lines = self.out.getvalue().splitlines()
        self.assertEqual(lines[0], "while you were away:")
        self.assertTrue(lines[1].endswith("1002: one ⏎ two"))

    def test_refused(self) -> None:
        """Something refused is status 1."""
        self.gateway.refusal = (413, "too long")
        talk, status = self.talk()
        talk.feed("hi")
        talk.end()
        self.gateway.flush()
        self.assertEqual(self.successResultOf(status), 1)
        self.assertEqual(self.out.getvalue(), "#1 ✗ too long (413)\n")

    def test_gateway_away(self) -> None:
        """It says so, goes on trying, and gives up after the deadline."""
        self.gateway.away = True
        talk, status = self.talk()
        talk.end()
        for _ in range(9):
            self.clock.advance(1)
        self.assertNoResult(status)
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(status), 1)
        self.assertEqual(self.complaints, [f"no gateway at {URL} within 10 s"])
        self.assertIn("the gateway cannot be reached (connection refused), trying again", self.err.getvalue())

    def test_not_answered(self) -> None:
        """Answers that do not come are waited for only so long."""
        self.gateway.answers = False
        talk, status = self.talk()
        talk.feed("hi")
        talk.end()
        self.gateway.flush()
        self.pass_time(10)
        self.assertEqual(self.successResultOf(status), 1)
        self.assertEqual(self.complaints, ["not everything was answered within 10 s"])
        self.assertEqual(self.out.getvalue(), "#1 ✗ no answer (stopped)\n")

    def test_sign_in_refused(self) -> None:
        """The gateway's reason is shown."""
        self.gateway.http = (b'HTTP/1.1 401 No\r\nContent-Length: 25\r\n\r\n{"reason": "who is that"}',)
        _, status = self.talk()
        self.gateway.flush()
        self.assertEqual(self.successResultOf(status), 1)
        self.assertEqual(self.complaints, ["401 who is that"])

    def test_replaced(self) -> None:
        """Who is replaced while he waits for input leaves with 1."""
        _, status = self.talk()
        self.gateway.flush()
        self.close(4001, "replaced")
        self.assertEqual(self.successResultOf(status), 1)
        self.assertEqual(self.complaints, [TAKEN_OVER])

    def test_interrupted(self) -> None:
        """A signal ends it, cleanly, whatever it is waiting for."""
        for prepare in (lambda: None, self.gateway.flush):
            talk, status = self.talk()
            prepare()
            talk.interrupt()
            self.gateway.flush()
            self.assertEqual(self.successResultOf(status), 1)
        self.assertEqual(self.complaints, ["interrupted", "interrupted"])

    def test_quit(self) -> None:
        """`/quit` is the end of the input; what follows is not read."""
        talk, status = self.talk()
        self.gateway.flush()
        talk.feed("/quit")
        talk.feed("not sent")
        self.gateway.flush()
        self.assertEqual(self.successResultOf(status), 0)
        self.assertEqual(self.gateway.sends(), [])

    def test_room(self) -> None:
        """Whoever feeds faster than the gateway answers has to wait."""
        talk, status = self.talk()
        fed = [talk.feed(str(n)) for n in range(200)]
        for each in fed[:199]:
            self.successResultOf(each)
        self.assertNoResult(fed[199])
        self.gateway.flush()
        self.successResultOf(fed[199])
        talk.end()
        self.gateway.flush()
        self.assertEqual(self.successResultOf(status), 0)


class _Fed:
    """Takes lines, one at a time."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.lines: list[str] = []
        self.ended: Deferred[None] = Deferred()

    def feed(self, line: str) -> Deferred[None]:
        """One line."""
        self.lines.append(line)
        done: Deferred[None] = Deferred()
        self.reactor.callLater(0, done.callback, None)
        return done

    def end(self) -> None:
        """No more."""
        self.ended.callback(None)


class ReadLinesTests(ReactorTestCase):
    """`read_lines`: a file descriptor, read on a thread."""

    async def read(self, write: Callable[[int], object]) -> list[str]:
        """What arrives of what `write` puts into a pipe."""
        from twisted.internet import reactor

        fed = _Fed(reactor)
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        read_lines(reactor, reading, fed)
        write(writing)
        os.close(writing)
        await fed.ended
        return fed.lines

    async def test_lines(self) -> None:
        """Lines are fed in order; the last one needs no newline, and bytes that are no UTF-8 are marked as such."""
        lines = await self.read(lambda pipe: os.write(pipe, "你好\nb\n\n".encode() + b"\xff\nlast"))
        self.assertEqual(lines, ["你好", "b", "", "�", "last"])

    async def test_character_in_two_reads(self) -> None:
        """A character may come in two pieces."""

        def write(pipe: int) -> None:
            for byte in "é".encode():
                os.write(pipe, bytes([byte]))

        self.assertEqual(await self.read(write), ["é"])

    async def test_nothing(self) -> None:
        """An empty input is an end, not a line."""
        self.assertEqual(await self.read(lambda pipe: None), [])
