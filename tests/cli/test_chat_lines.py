"""What is typed, and how lines look."""

from __future__ import annotations

import time

from imconnect.cli.chat_lines import (
    Entry,
    Kind,
    Leave,
    Line,
    Mistake,
    Nothing,
    Say,
    ShowHelp,
    TakeBack,
    TalkTo,
    clean,
    completions,
    content,
    gateway_url,
    parse,
    stamp,
    user_id,
)
from tests.support import TestCase


class ParseTests(TestCase):
    """`parse`: a typed line."""

    def test_meaning(self) -> None:
        """Text is sent, commands do what they say."""
        cases: list[tuple[str, Entry]] = [
            ("hello there ", Say("hello there")),
            ("//etc is a folder", Say("/etc is a folder")),
            ("   ", Nothing()),
            ("/to 1002", TalkTo(1002)),
            ("/withdraw", TakeBack(0)),
            ("/withdraw 3", TakeBack(3)),
            ("/withdraw #3", TakeBack(3)),
            ("/quit", Leave()),
            ("/help", ShowHelp()),
        ]
        for text, meaning in cases:
            self.assertEqual(parse(text), meaning, text)

    def test_mistakes(self) -> None:
        """A command that makes no sense is never sent as a message."""
        for text in ("/to", "/to bob", "/to 0", "/to 1 2", "/withdraw x", "/withdraw 0", "/withdraw 1 2", "/quit now",
                     "/foo", "/"):  # fmt: skip
            self.assertIsInstance(parse(text), Mistake, text)

    def test_completion(self) -> None:
        """Commands, and for `/to` the users one knows."""
        self.assertEqual(completions("/w", [7]), ["/withdraw"])
        self.assertEqual(completions("/to 10", [1001, 1002, 7]), ["1001", "1002"])
        self.assertEqual(completions("hello", [7]), [])
        self.assertEqual(completions("", [7]), [])
        self.assertEqual(completions("/to 1 1", [1]), [])


class ArgumentTests(TestCase):
    """Users and gateways as typed on the command line."""

    def test_user(self) -> None:
        """A user is a number that fits."""
        self.assertEqual(user_id("9223372036854775807"), 2**63 - 1)
        for text in ("", "0", "-1", "x", "1.5", "9223372036854775808", "１２", "9" * 5000):
            self.assertRaises(ValueError, user_id, text)

    def test_gateway(self) -> None:
        """The path may be left out."""
        self.assertEqual(gateway_url("ws://h:1"), "ws://h:1/websocket")
        self.assertEqual(gateway_url("wss://h/"), "wss://h/websocket")
        self.assertEqual(gateway_url("ws://h:1/im?token=x"), "ws://h:1/im?token=x")
        for text in ("", "h:1", "http://h", "ws://", "ws://h:port", "ws://h:99999", "ws://h#x", "ws://h/a b"):
            self.assertRaises(ValueError, gateway_url, text)


class LineTests(TestCase):
    """How lines look."""

    def test_clean(self) -> None:
        """What would move the cursor, ring, or turn the text around is not printed."""
        self.assertEqual(clean("a\x1b[2Jb\x07"), "a�[2Jb�")
        self.assertEqual(clean("one\r\ntwo\tthree"), "one ⏎ two three")
        self.assertEqual(clean("abc\u202edef"), "abc�def")
        self.assertEqual(clean("你好 👩‍👧 é"), "你好 👩‍👧 é")

    def test_stamp(self) -> None:
        """The time of day; another day is named; a time that cannot be is taken as now."""
        now = int(time.mktime((2026, 11, 25, 12, 3, 0, 0, 0, -1))) * 1000
        self.assertEqual(stamp(now, now), "12:03")
        self.assertEqual(stamp(now - 86_400_000, now), "2026-11-24 12:03")
        self.assertEqual(stamp(0, now), "12:03")
        self.assertEqual(stamp(2**63, now), "12:03")

    def test_content(self) -> None:
        """What is not text says what it is."""
        self.assertEqual(content(1, "hello"), "hello")
        self.assertEqual(content(4, "http://x/cat.png"), "(image) http://x/cat.png")
        self.assertEqual(content(99, "x"), "(format 99) x")

    def test_own(self) -> None:
        """An own line has its number, and a mark that climbs."""
        line = Line(Kind.OWN, "hello", "12:03", 1002, 3)
        self.assertEqual((line.body, line.mark), ("[12:03] #3 to 1002: hello", "…"))
        marks = []
        for status in (1, 3, 4):
            line.status = status
            marks.append(line.mark)
        self.assertEqual(marks, ["✓ sent", "✓✓ delivered", "✓✓ read"])
        self.assertEqual(line.change, "#3 ✓✓ read")

    def test_refused(self) -> None:
        """A refused line says why."""
        self.assertEqual(Line(Kind.OWN, "x", "12:03", 1, 3, refused="too long (413)").change, "#3 ✗ too long (413)")

    def test_theirs(self) -> None:
        """Somebody's line; once withdrawn its text is gone."""
        line = Line(Kind.THEIRS, "hello", "12:03", 1002)
        self.assertEqual(line.body, "[12:03] 1002: hello")
        line.withdrawn = True
        self.assertEqual(line.body, "[12:03] 1002: (withdrawn)")
        self.assertNotIn("hello", line.change)
