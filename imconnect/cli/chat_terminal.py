"""A chat on a terminal: the last lines stay alive above the prompt, so that their marks can still change.

Everything here runs on asyncio's loop, which is the reactor's too (see `chat.py`): one thread, no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText, StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.output import Output
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.shortcuts import CompleteStyle, print_formatted_text
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

from imconnect.cli.chat_lines import Kind, Line, completions
from imconnect.cli.conversation import Conversation
from imconnect.client import Client, ClientError, Phase

#: So many lines stay above the prompt, fewer on a small terminal.
_ALIVE = 8
#: Leaving waits so long for what was not answered. Seconds.
_PATIENCE = 3.0

_STYLE = Style.from_dict(
    {
        "theirs": "",
        "own": "ansicyan",
        "note": "ansiyellow",
        "state": "ansibrightblack",
        "mark": "ansigreen",
        "peer": "bold",
        "bottom-toolbar": "noreverse ansibrightblack",
    }
)


def fragments(line: Line) -> StyleAndTextTuples:
    """A line with its colours."""
    styled: StyleAndTextTuples = [(f"class:{line.kind.value}", line.body)]
    if line.kind is Kind.OWN and not line.withdrawn:
        styled.append(("class:mark", f"  {line.mark}"))
    return styled


def wrap(styled: StyleAndTextTuples, columns: int) -> StyleAndTextTuples:
    """The same, broken where the terminal ends: above the prompt nobody else does it."""
    wrapped: StyleAndTextTuples = []
    used = 0
    for style, text, *_ in styled:
        row = ""
        for char in text:
            width = get_cwidth(char)
            if used + width > columns:
                row, used = row + "\n", 0
            row, used = row + char, used + width
        wrapped.append((style, row))
    return wrapped


class _Words(Completer):
    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        for word in completions(text, self._conversation.users()):
            yield Completion(word, start_position=-len(text.split(" ")[-1]))


class TerminalScreen:
    """Lines above the prompt. The older ones are printed for good and scroll away as in any terminal."""

    def __init__(self) -> None:
        self.alive: list[Line] = []
        self._session: PromptSession[str] | None = None

    def attach(self, session: PromptSession[str]) -> None:
        """Show what there is on this prompt."""
        self._session = session

    def show(self, line: Line) -> None:
        """A new line, right above the prompt."""
        self.alive.append(line)
        settled: list[Line] = []
        while len(self.alive) > 1 and self._is_crowded():
            settled.append(self.alive.pop(0))
        if settled:
            self._print(settled)
        self._redraw()

    def changed(self, line: Line) -> None:
        """Changes in place while the line is alive, else says so in a new line."""
        if line in self.alive:
            self._redraw()
        elif line.kind is not Kind.STATE:
            self._mention(line)

    def settle(self) -> None:
        """Print what is still alive, at the end."""
        settled, self.alive = self.alive, []
        self._print(settled)

    def rendered(self) -> StyleAndTextTuples:
        """What is alive, each line on lines of its own."""
        columns = self._size()[1]
        parts: StyleAndTextTuples = []
        for line in self.alive:
            parts += [*wrap(fragments(line), columns), ("", "\n")]
        return parts

    def _mention(self, line: Line) -> None:
        # Ten receipts at once are one line, not ten.
        last = self.alive[-1] if self.alive else None
        if line.kind is Kind.OWN and last is not None and last.kind is Kind.NOTE and last.text.endswith(line.mark):
            numbers = last.text.removesuffix(line.mark)
            if len(numbers) < 50:
                last.text = f"{numbers}#{line.number} {line.mark}"
                self._redraw()
                return
        self.show(Line(Kind.NOTE, line.change))

    def _print(self, lines: list[Line]) -> None:
        def write() -> None:
            for line in lines:
                output = None if self._session is None else self._session.app.output
                print_formatted_text(FormattedText(fragments(line)), style=_STYLE, output=output)

        if self._session is not None and self._session.app.is_running:
            run_in_terminal(write)
        else:
            write()

    def _redraw(self) -> None:
        if self._session is not None:
            self._session.app.invalidate()

    def _is_crowded(self) -> bool:
        # The prompt, the completions and the toolbar need their place too.
        rows = sum(text.count("\n") for _, text, *_ in self.rendered())
        return len(self.alive) > _ALIVE or rows > self._size()[0] - 5

    def _size(self) -> tuple[int, int]:
        if self._session is None:
            return 24, 80
        size = self._session.app.output.get_size()
        return size.rows, size.columns


class TerminalTalk:
    """The prompt, until the user leaves or the gateway does not want him any more."""

    def __init__(self, client: Client, conversation: Conversation, screen: TerminalScreen,
                 *, input: Input | None = None, output: Output | None = None) -> None:  # fmt: skip
        self._client, self._conversation, self._screen = client, conversation, screen
        self._gone = ""
        self._session: PromptSession[str] = PromptSession(
            self._prompt, erase_when_done=True, completer=_Words(conversation), complete_style=CompleteStyle.READLINE_LIKE,
            bottom_toolbar=self._toolbar, style=_STYLE, reserve_space_for_menu=0, input=input, output=output,
        )  # fmt: skip
        screen.attach(self._session)
        conversation.on_end = self._end

    async def run(self) -> str:
        """Talk. Returns why it ended, "" if the user left."""
        self._client.start().addErrback(lambda failure: failure.trap(ClientError) and None)
        with patch_stdout(raw=True):
            while not self._gone and await self._one_line():
                pass
            await self._last_answers()
            self._conversation.on_end = None
            await self._client.stop().asFuture(asyncio.get_running_loop())
            self._screen.settle()
        return self._gone

    def interrupt(self) -> None:
        """Leave now."""
        if not self._gone:
            self._end("interrupted")

    async def _one_line(self) -> bool:
        try:
            return self._conversation.enter(await self._session.prompt_async())
        except EOFError:
            return False
        except KeyboardInterrupt:
            # As in a shell: Ctrl-C gives up the line; on an empty one it means leaving.
            return bool(self._session.default_buffer.text)

    async def _last_answers(self) -> None:
        if not self._conversation.waiting or self._gone:
            return
        answered = self._conversation.answered().asFuture(asyncio.get_running_loop())
        await asyncio.wait([answered], timeout=_PATIENCE)
        if self._conversation.waiting:
            self._screen.show(Line(Kind.STATE, f"{self._conversation.waiting} lines were not answered"))

    def _end(self, reason: str) -> None:
        self._gone = reason
        if self._session.app.is_running:
            self._session.app.exit(exception=EOFError())

    def _prompt(self) -> StyleAndTextTuples:
        peer = self._conversation.peer
        return [*self._screen.rendered(), ("class:peer", f"{peer}> " if peer else "/to USER> ")]

    def _toolbar(self) -> str:
        phase = "online" if self._client.state.phase is Phase.ONLINE else "not connected"
        waiting = f" · {self._conversation.waiting} waiting" if self._conversation.waiting else ""
        return f"{self._client.user} · {phase}{waiting} · /help"
