"""A chat without a terminal: lines in, lines out, for scripts and tests."""

from __future__ import annotations

import codecs
import os
import threading
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.threads import blockingCallFromThread

from imconnect.cli.chat_lines import Kind, Line
from imconnect.cli.conversation import Conversation
from imconnect.client import Client, ClientError

#: So many lines may wait for their answer before the next one is read.
_WINDOW = 200


class PlainScreen:
    """What is said goes to `out`; what concerns the connection to `err`."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out, self._err = out, err

    def show(self, line: Line) -> None:
        """An own line is not repeated, its mark comes when it has one."""
        if line.kind is not Kind.OWN:
            self._print(line.kind, line.body)

    def changed(self, line: Line) -> None:
        """Said in a line of its own."""
        self._print(line.kind, line.change)

    def _print(self, kind: Kind, text: str) -> None:
        print(text, file=self._err if kind is Kind.STATE else self._out, flush=True)


class PlainTalk:
    """Sends the lines it is fed, and ends when everything is answered."""

    def __init__(self, reactor: Any, client: Client, conversation: Conversation, url: str, wait: float) -> None:
        """`wait`: seconds that the sign-in, and after the last line the answers, may take."""
        self._reactor, self._client, self._conversation = reactor, client, conversation
        self._url, self._wait = url, wait
        self._ended: Deferred[None] = Deferred()
        self._gone = ""
        conversation.on_end = self._signed_out

    def feed(self, line: str) -> Deferred[None]:
        """One line; fires when there is room for the next."""
        if not self._ended.called and not self._conversation.enter(line):
            self.end()
        return self._conversation.answered() if self._conversation.waiting >= _WINDOW else succeed(None)

    def end(self) -> None:
        """There are no more lines."""
        if not self._ended.called:
            self._ended.callback(None)

    def interrupt(self) -> None:
        """Leave now."""
        self._signed_out("interrupted")
        self._client.stop()

    def _signed_out(self, reason: str) -> None:
        self._gone = self._gone or reason
        self.end()

    async def run(self, complain: Callable[[str], object]) -> int:
        """Talk until the end. Returns the exit status: 0 if everything was sent."""
        wait = f"within {self._wait:g} s"
        late = f"no gateway at {self._url} {wait}"
        try:
            await self._client.start().addTimeout(self._wait, self._reactor)
            await self._ended
            late = f"not everything was answered {wait}"
            if self._gone:
                complain(self._gone)
                return 1
            await self._conversation.answered().addTimeout(self._wait, self._reactor)
        except ClientError as error:
            complain(self._gone or str(error))
            return 1
        except TimeoutError:
            complain(late)
            return 1
        finally:
            await self._client.stop()
        return 1 if self._conversation.failed else 0


class LineReader(Protocol):
    """Who takes lines."""

    def feed(self, line: str) -> Deferred[None]:
        """One line; fires when there is room for the next."""

    def end(self) -> object:
        """There are no more."""


def read_lines(reactor: Any, descriptor: int, reader: LineReader) -> None:
    """Feed `reader` from a file descriptor, on a thread of its own, as fast as it can take the lines.

    A thread, because reactors cannot wait for regular files; a daemon that reads the bare descriptor, because one that
    sits in `sys.stdin` would hold a lock that the interpreter wants at its end.
    """

    # Its annotation in Twisted takes no function that returns a Deferred.
    call: Callable[..., object] = blockingCallFromThread

    def read() -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        rest = ""
        while data := os.read(descriptor, 65536):
            *lines, rest = (rest + decoder.decode(data)).split("\n")
            for line in lines:
                call(reactor, reader.feed, line)
        if rest:
            call(reactor, reader.feed, rest)
        reactor.callFromThread(reader.end)

    threading.Thread(target=read, name="chat-lines", daemon=True).start()
