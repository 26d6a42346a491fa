"""What a chat client does with what is typed and what comes; knows no terminal."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from imconnect.cli.chat_lines import (
    HELP,
    Kind,
    Leave,
    Line,
    Mistake,
    Say,
    ShowHelp,
    TakeBack,
    TalkTo,
    clean,
    content,
    parse,
    stamp,
)
from imconnect.client import Client, ClientError, ClientMessage, Phase, Refused, SendResult, State
from imconnect.model import Status

_log = Logger()

#: Of so many lines it is remembered what becomes of them.
_REMEMBERED = 2000
#: What was written before the sign-in and comes within this many seconds after it was missed, not late.
_AWAY_SECONDS = 5.0


class Screen(Protocol):
    """Where lines are shown."""

    def show(self, line: Line) -> None:
        """A new line."""

    def changed(self, line: Line) -> None:
        """A line that was shown has another mark, or was withdrawn."""


class _Own:
    __slots__ = ("line", "msg_id")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.msg_id = 0


class Conversation:
    """One user's chat. Takes over the callbacks of a client that must not acknowledge by itself."""

    def __init__(self, client: Client, screen: Screen, peer: int = 0, now: Callable[[], float] = time.time) -> None:
        self.peer = peer
        #: Told why, when the client will not come back by itself.
        self.on_end: Callable[[str], object] | None = None
        #: Whether something could not be sent.
        self.failed = False
        self._client, self._screen, self._now = client, screen, now
        self._own: dict[bytes, _Own] = {}
        self._theirs: dict[int, Line] = {}
        self._unread: dict[int, int] = {}
        self._numbers = 0
        self._open = 0
        self._idle: list[Deferred[None]] = []
        self._was_online = False
        self._trouble: Line | None = None
        self._signed_in = 0.0
        self._away_line = True
        client.on_message, client.on_receipt = self._came, self._receipt
        client.on_withdrawn, client.on_state = self._withdrawn, self._state

    def enter(self, text: str) -> bool:
        """Do what was typed. False: the user wants to leave."""
        entry = parse(text)
        if isinstance(entry, Say):
            self._say(entry.text)
        elif isinstance(entry, TalkTo):
            self._talk_to(entry.user)
        elif isinstance(entry, TakeBack):
            self._take_back(entry.number)
        elif isinstance(entry, ShowHelp):
            for line in HELP:
                self._note(line)
        elif isinstance(entry, Mistake):
            self._note(entry.text)
        return not isinstance(entry, Leave)

    def users(self) -> list[int]:
        """Everybody who wrote or was written to, for completion."""
        return sorted({line.user for line in self._theirs.values()} | {own.line.user for own in self._own.values()})

    @property
    def waiting(self) -> int:
        """How many messages and withdrawals were not answered yet."""
        return self._open

    def answered(self) -> Deferred[None]:
        """Fires when nothing waits for an answer."""
        if not self._open:
            return succeed(None)
        self._idle.append(Deferred())
        return self._idle[-1]

    def _say(self, text: str) -> None:
        if not self.peer:
            self._note("to whom? /to USER says so")
            self.failed = True
            return
        self._numbers += 1
        now_ms = int(self._now() * 1000)
        line = Line(Kind.OWN, clean(text), stamp(now_ms, now_ms), self.peer, self._numbers)
        key = uuid.uuid4().bytes
        own = self._own[key] = _Own(line)
        _forget_oldest(self._own)
        self._screen.show(line)
        sent = self._client.send(self.peer, text, client_msg_id=key)
        self._expect(sent, lambda result: self._sent(own, result), lambda why: self._not_sent(own, why))

    def _sent(self, own: _Own, result: SendResult) -> None:
        own.msg_id = result.msg_id
        self._mark(own.line, Status.STORED)

    def _not_sent(self, own: _Own, why: str) -> None:
        own.line.refused = why
        self._screen.changed(own.line)

    def _talk_to(self, user: int) -> None:
        self.peer = user
        self._note(f"talking to {user}")
        for msg_id in [msg_id for msg_id, sender in self._unread.items() if sender == user]:
            del self._unread[msg_id]
            self._client.read(msg_id)

    def _take_back(self, number: int) -> None:
        mine = [own for own in self._own.values() if not own.line.withdrawn and not own.line.refused]
        own = next((own for own in reversed(mine) if number in (0, own.line.number)), None)
        if own is None:
            self._note(f"there is no message #{number} to take back" if number else "there is nothing to take back")
        elif not own.msg_id:
            self._note(f"#{own.line.number} is still waiting to be sent; take it back when it is")
        else:
            what = f"#{own.line.number}"
            withdrawn = self._client.withdraw(own.msg_id, own.line.user)
            self._expect(withdrawn, lambda _: None, lambda why: self._note(f"{what} stays: {why}"))

    def _expect(self, asked: Deferred[Any], done: Callable[[Any], object], refused: Callable[[str], object]) -> None:
        self._open += 1

        def no(failure: Failure) -> None:
            failure.trap(ClientError)
            self.failed = True
            error = failure.value
            refused(f"{clean(error.msg)} ({error.code})" if isinstance(error, Refused) else f"no answer ({error})")

        def over(result: Any) -> Any:
            self._open -= 1
            if not self._open:
                idle, self._idle = self._idle, []
                for each in idle:
                    each.callback(None)
            return result

        asked.addCallbacks(done, no).addBoth(over)
        asked.addErrback(lambda failure: _log.failure("a line could not be shown", failure))

    def _came(self, message: ClientMessage) -> None:
        now = self._now()
        if not self._away_line and message.time < self._signed_in * 1000 and now - self._signed_in < _AWAY_SECONDS:
            self._away_line = True
            self._note("while you were away:")
        text = content(message.format, message.content)
        line = Line(Kind.THEIRS, text, stamp(message.time, int(now * 1000)), message.sender)
        self._theirs[message.msg_id] = line
        _forget_oldest(self._theirs)
        self._screen.show(line)
        if message.sender == self.peer:
            self._client.read(message.msg_id)
        else:
            self._client.delivered(message.msg_id)
            self._unread[message.msg_id] = message.sender
            _forget_oldest(self._unread)

    def _receipt(self, msg_id: int, client_msg_id: bytes, status: int) -> None:
        own = self._own.get(client_msg_id)
        if own is not None and status in (Status.DELIVERED, Status.READ):
            own.msg_id = msg_id
            self._mark(own.line, status)

    def _mark(self, line: Line, status: int) -> None:
        if status > line.status and not line.withdrawn:
            line.status = status
            self._screen.changed(line)

    def _withdrawn(self, msg_id: int, by: int) -> None:
        # A note to oneself is both an own line and one of "theirs".
        lines = [own.line for own in self._own.values() if own.msg_id == msg_id]
        lines += [self._theirs[msg_id]] if msg_id in self._theirs else []
        for line in lines:
            if not line.withdrawn:
                line.withdrawn = True
                self._screen.changed(line)

    def _state(self, state: State) -> None:
        if state.phase is Phase.ONLINE:
            self._signed_in, self._away_line = self._now(), False
            self._say_state("connected again" if self._was_online else f"connected as {self._client.user}")
            self._was_online, self._trouble = True, None
        elif state.phase is Phase.WAITING:
            what = "connection lost" if self._was_online else "the gateway cannot be reached"
            why = clean(state.reason.split(";")[0]).rstrip(".") or "no reason given"
            text = f"{what} ({why}), trying again in {_seconds(state.retry_in)}"
            if self._trouble is None:
                self._trouble = self._say_state(text)
            else:
                self._trouble.text = text
                self._screen.changed(self._trouble)
        elif state.phase is Phase.STOPPED and self.on_end is not None:
            self.on_end(state.reason)

    def _say_state(self, text: str) -> Line:
        line = Line(Kind.STATE, text)
        self._screen.show(line)
        return line

    def _note(self, text: str) -> None:
        self._screen.show(Line(Kind.NOTE, text))


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"


def _forget_oldest(lines: dict[Any, Any]) -> None:
    if len(lines) > _REMEMBERED:
        del lines[next(iter(lines))]
