"""What people type and see in a chat: pure functions and values."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple
from urllib.parse import urlsplit

import attrs

from imconnect.model import MAX_ID, Status

HELP = (
    "/to USER           talk to somebody else (and mark as read what he wrote)",
    "/withdraw [NUMBER] take back your last message, or the one with this number",
    "/help              this",
    "/quit              leave (Ctrl-D too)",
    "anything else is sent; //text sends /text",
)
_COMMANDS = ("/to", "/withdraw", "/help", "/quit")
_DEFAULT_PATH = "/websocket"
#: Contract 2.3; what is not text is named before its content.
_FORMATS = {
    2: "voice", 3: "location", 4: "image", 5: "video", 6: "file", 7: "emoji", 8: "link", 9: "system", 10: "recall",
}  # fmt: skip


class Say(NamedTuple):
    """Send this."""

    text: str


class TalkTo(NamedTuple):
    """Talk to this user from now on."""

    user: int


class TakeBack(NamedTuple):
    """Withdraw an own message, the last one if `number` is 0."""

    number: int


class Leave(NamedTuple):
    """Quit."""


class ShowHelp(NamedTuple):
    """Say what can be typed."""


class Nothing(NamedTuple):
    """An empty line."""


class Mistake(NamedTuple):
    """What was typed makes no sense; `text` says why."""

    text: str


Entry = Say | TalkTo | TakeBack | Leave | ShowHelp | Nothing | Mistake


def parse(line: str) -> Entry:
    """What a typed line means."""
    line = line.strip()
    if not line:
        return Nothing()
    if line.startswith("//"):
        return Say(line[1:])
    if not line.startswith("/"):
        return Say(line)
    command, *words = line.split()
    if command == "/to":
        return _talk_to(words)
    if command == "/withdraw":
        return _take_back(words)
    if command in ("/quit", "/help") and not words:
        return Leave() if command == "/quit" else ShowHelp()
    return Mistake(f"{command} is not a command; /help lists them")


def _talk_to(words: list[str]) -> Entry:
    if len(words) != 1:
        return Mistake("/to needs one user, as in /to 1002")
    try:
        return TalkTo(user_id(words[0]))
    except ValueError as error:
        return Mistake(str(error))


def _take_back(words: list[str]) -> Entry:
    if not words:
        return TakeBack(0)
    number = words[0].lstrip("#")
    if len(words) > 1 or not _is_number(number) or int(number) == 0:
        return Mistake("/withdraw needs no number or one, as in /withdraw 3")
    return TakeBack(int(number))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def user_id(text: str) -> int:
    """A user's number. ValueError says what was expected."""
    if not _is_number(text) or not 1 <= int(text) <= MAX_ID:
        raise ValueError(f"{text!r} is not a user: a number from 1 to 2^63-1 is expected")
    return int(text)


def gateway_url(text: str) -> str:
    """A gateway's address; the path is completed. ValueError says what was expected."""
    expected = f"{text!r} is not a gateway: an address such as ws://127.0.0.1:10001/websocket is expected"
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0 and not parts.fragment
    except ValueError:
        valid = False
    if not valid or re.search(r"[^\x21-\x7e]", text):
        raise ValueError(expected)
    return text if parts.path not in ("", "/") else parts._replace(path=_DEFAULT_PATH).geturl()


def completions(text: str, users: Iterable[int]) -> list[str]:
    """What the last word of this input may become."""
    words = text.split(" ")
    if len(words) == 1:
        return [command for command in _COMMANDS if text and command.startswith(text)]
    if len(words) == 2 and words[0] == "/to":
        return [str(user) for user in users if str(user).startswith(words[1])]
    return []


def clean(text: str) -> str:
    """Somebody's text, harmless on a terminal: one line, and nothing that moves the cursor or turns text around."""
    text = text.replace("\r\n", "\n").replace("\n", " ⏎ ").replace("\t", " ")
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_harmful(char) else char for char in text)


def _is_harmful(char: str) -> bool:
    # Cf holds the joiners that emoji and several scripts need besides the bidirectional overrides, which can lie.
    return unicodedata.category(char) in ("Cc", "Cs") or char in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def stamp(ms: int, now_ms: int) -> str:
    """The time of a message, local; with its day unless that is today."""
    if not 0 < ms < 2**42:
        ms = now_ms
    then, today = time.localtime(ms / 1000), time.localtime(now_ms / 1000)
    return time.strftime("%H:%M" if then[:3] == today[:3] else "%Y-%m-%d %H:%M", then)


def content(format: int, text: str) -> str:
    """A message's content as it is shown."""
    return clean(text) if format in (0, 1) else f"({_FORMATS.get(format, f'format {format}')}) {clean(text)}"


class Kind(Enum):
    """What a line is."""

    THEIRS = "theirs"
    OWN = "own"
    NOTE = "note"
    #: About the connection, not about anybody's words.
    STATE = "state"


_MARKS = {Status.STORED: "✓ sent", Status.DELIVERED: "✓✓ delivered", Status.READ: "✓✓ read"}


@attrs.define(eq=False)
class Line:
    """One line on the screen. Own lines change their mark, both kinds may be withdrawn."""

    kind: Kind
    text: str
    time: str = ""
    #: Who wrote it, or to whom it goes.
    user: int = 0
    #: Of an own line; for `/withdraw NUMBER`.
    number: int = 0
    #: Of an own line: 0 waiting, 1 sent, 3 delivered, 4 read.
    status: int = 0
    withdrawn: bool = False
    #: Why an own line was not taken, or that nobody knows.
    refused: str = ""

    @property
    def mark(self) -> str:
        """What became of an own line."""
        if self.withdrawn:
            return "withdrawn"
        if self.refused:
            return f"✗ {self.refused}"
        return _MARKS.get(Status(self.status), "…") if self.status else "…"

    @property
    def body(self) -> str:
        """The line without its mark."""
        text = "(withdrawn)" if self.withdrawn else self.text
        if self.kind is Kind.OWN:
            return f"[{self.time}] #{self.number} to {self.user}: {text}"
        if self.kind is Kind.THEIRS:
            return f"[{self.time}] {self.user}: {text}"
        return self.text

    @property
    def change(self) -> str:
        """What to say about a line that cannot be shown again."""
        if self.kind is Kind.OWN:
            return f"#{self.number} {self.mark}"
        if self.kind is Kind.THEIRS:
            return f"{self.user} took back his message of {self.time}"
        return self.text
