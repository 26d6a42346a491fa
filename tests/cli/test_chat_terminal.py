"""A chat at a prompt: keys come through a pipe, the terminal is an 80 by 24 one in memory."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Callable

from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import Output
from prompt_toolkit.output.vt100 import Vt100_Output

from imconnect.cli.chat_lines import Kind, Line
from imconnect.cli.chat_terminal import TerminalScreen, TerminalTalk, fragments, wrap
from imconnect.cli.conversation import Conversation
from tests.cli.test_conversation import ChatTestCase
from tests.support import TestCase
from tests.test_client import TAKEN_OVER


def own(number: int, status: int = 0) -> Line:
    """A line of one's own."""
    return Line(Kind.OWN, "hello", "12:03", 1002, number, status)


def plain(out: io.StringIO) -> str:
    """What was written, without colours and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


class WrapTests(TestCase):
    """`wrap`: lines above the prompt are broken where the terminal ends."""

    def test_wide_characters(self) -> None:
        """A Chinese character takes two columns, and the colour goes on behind the break."""
        self.assertEqual(wrap([("a", "ab"), ("b", "你好")], 4), [("a", "ab"), ("b", "你\n好")])

    def test_short(self) -> None:
        """What fits stays as it is."""
        self.assertEqual(wrap([("a", "abcd")], 4), [("a", "abcd")])


class TerminalScreenTests(TestCase):
    """`TerminalScreen`: the last lines can change."""

    def setUp(self) -> None:
        self.out = io.StringIO()
        size = Size(rows=24, columns=80)
        self.session = create_app_session(output=Vt100_Output(self.out, lambda: size, term="dumb"))
        self.session.__enter__()
        self.addCleanup(self.session.__exit__, None, None, None)
        self.screen = TerminalScreen()

    def test_in_place(self) -> None:
        """A mark changes where the line is; nothing new is shown."""
        line = own(1)
        self.screen.show(line)
        line.status = 3
        self.screen.changed(line)
        self.assertEqual(self.screen.rendered()[1][1], "  ✓✓ delivered")
        self.assertEqual(self.screen.alive, [line])

    def test_scrolls_away(self) -> None:
        """Only so many lines stay; the older ones are printed for good, oldest first, once."""
        lines = [own(number) for number in range(1, 12)]
        for line in lines:
            self.screen.show(line)
        self.assertEqual(self.screen.alive, lines[3:])
        printed = self.out.getvalue()
        self.assertEqual([printed.count(f"#{number} to") for number in (1, 2, 3, 4)], [1, 1, 1, 0])

    def test_long_lines(self) -> None:
        """The prompt keeps its place however long the lines are."""
        for _ in range(8):
            self.screen.show(Line(Kind.NOTE, "x" * 400))
        self.assertEqual(len(self.screen.alive), 3)

    def test_late_receipts(self) -> None:
        """Receipts of lines that have scrolled away are told, many of them in one line."""
        lines = [own(number, 1) for number in range(1, 20)]
        for line in lines:
            self.screen.show(line)
        for line in lines[:3]:
            line.status = 3
            self.screen.changed(line)
        self.assertEqual(self.screen.alive[-1].body, "#1 #2 #3 ✓✓ delivered")
        lines[0].status = 4
        self.screen.changed(lines[0])
        self.assertEqual(self.screen.alive[-1].body, "#1 ✓✓ read")

    def test_withdrawn(self) -> None:
        """A withdrawn line has no mark any more."""
        line = own(1, 3)
        line.withdrawn = True
        self.assertEqual([text for _, text, *_ in fragments(line)], ["[12:03] #1 to 1002: (withdrawn)"])

    def test_settle(self) -> None:
        """At the end everything is on paper."""
        self.screen.show(own(1, 4))
        self.screen.settle()
        self.assertIn("#1 to 1002: hello  ✓✓ read", plain(self.out))


class TerminalTalkTests(ChatTestCase):
    """`TerminalTalk`: the prompt."""

    def talk(self, script: Callable[[PipeInput], object]) -> str:
        """Run a talk in which `script` types; returns why it ended. What was shown is `shown`."""
        size = Size(rows=24, columns=80)
        out = io.StringIO()
        output: Output = Vt100_Output(out, lambda: size, term="xterm", enable_cpr=False)
        client = self.chatter()
        screen = TerminalScreen()
        conversation = Conversation(client, screen, 1002, now=self.clock.seconds)

        async def run(keys: PipeInput) -> str:
            talk = self.running = TerminalTalk(client, conversation, screen, input=keys, output=output)
            asyncio.get_running_loop().call_soon(script, keys)
            wires = asyncio.ensure_future(self.keep_moving())
            try:
                return await asyncio.wait_for(talk.run(), 20)
            finally:
                wires.cancel()

        with create_pipe_input() as keys, create_app_session(input=keys, output=output):
            reason = asyncio.run(run(keys))
        self.shown = plain(out)
        return reason

    async def keep_moving(self) -> None:
        """Let what is on the wires arrive."""
        while True:
            self.gateway.flush()
            await asyncio.sleep(0)

    def test_send_and_quit(self) -> None:
        """What is typed is sent, what comes is shown, and leaving waits for the answer."""
        self.gateway.say(1002, 1001, "good morning")
        self.assertEqual(self.talk(lambda keys: keys.send_text("hello\r/quit\r")), "")
        self.assertEqual([send.content for send in self.gateway.sends()], ["hello"])
        self.assertIn("1002: good morning", self.shown)
        self.assertIn("#1 to 1002: hello  ✓ sent", self.shown)
        self.assertEqual(self.gateway.closes, [(True, 1000)])

    def test_keys(self) -> None:
        """Ctrl-C gives up a line; on an empty one it leaves."""
        self.assertEqual(self.talk(lambda keys: keys.send_text("not this\x03\x03")), "")
        self.assertEqual(self.gateway.sends(), [])

    def test_end_of_input(self) -> None:
        """Ctrl-D leaves."""
        self.assertEqual(self.talk(lambda keys: keys.send_text("\x04")), "")

    def test_completion(self) -> None:
        """Tab completes commands."""
        self.talk(lambda keys: keys.send_text("/wi\t\r\x04"))
        self.assertIn("there is nothing to take back", self.shown)

    def test_refused(self) -> None:
        """A sign-in that is refused ends the prompt and says why."""
        self.gateway.http = (b"HTTP/1.1 401 Unauthorized\r\n\r\n",)
        self.assertEqual(self.talk(lambda keys: None), "401 Unauthorized")

    def test_interrupted(self) -> None:
        """A signal ends the prompt, whatever stands in it."""

        def script(keys: PipeInput) -> None:
            keys.send_text("half a li")
            asyncio.get_running_loop().call_later(0.2, self.running.interrupt)

        self.assertEqual(self.talk(script), "interrupted")
        self.assertEqual(self.gateway.closes, [(True, 1000)])

    def test_replaced(self) -> None:
        """Being replaced ends the prompt, whatever stands in it."""

        def script(keys: PipeInput) -> None:
            keys.send_text("half a li")
            asyncio.get_running_loop().call_later(0.2, self.close, 4001, "replaced")

        self.assertEqual(self.talk(script), TAKEN_OVER)
