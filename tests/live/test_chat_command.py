"""`imconnect chat` as scripts use it, against a real gateway."""

from __future__ import annotations

import subprocess

from tests.live.case import LiveTestCase
from tests.live.processes import GatewayProcess, ServerProcess, script


class ChatCommandTests(LiveTestCase):
    def chat(self, gateway: GatewayProcess, user: int, *options: str) -> ServerProcess:
        """A chat, not started."""
        return self.process([script("imconnect"), "chat", gateway.url, str(user), *options], f"chat-{user}")

    async def says(self, chat: ServerProcess, text: str) -> None:
        """Until it is on the chat's standard output."""
        await self.until(lambda: text in chat.output(), lambda: f"{text!r} in {chat.tail()}", 20)

    async def test_piped(self) -> None:
        """`printf ... | imconnect chat`: every line is sent, the marks are printed, status 0; the other one reads it
        when he comes, answers, and both are told."""
        gateway = await self.started()
        command = [script("imconnect"), "chat", gateway.url, "1001", "--to", "1002"]
        outcome = await self.outcome(command, "hello\nsecond line\n\u4f60\u597d\n".encode())
        self.assertEqual(outcome.status, 0, outcome)
        self.assertEqual([line for line in outcome.out.splitlines() if "sent" in line], [f"#{n} ✓ sent" for n in (1, 2, 3)])
        bob = self.chat(gateway, 1002, "--to", "1001")
        bob.spawn(subprocess.PIPE)
        await self.says(bob, "\u4f60\u597d")
        received = [line.partition(": ")[2] for line in bob.output().splitlines() if "1001: " in line]
        self.assertEqual(received, ["hello", "second line", "\u4f60\u597d"])
        ann = await self.online(gateway, 1001)
        bob.write(b"thanks\n")
        await ann.has("thanks")
        await self.says(bob, "#1 ✓✓ delivered")
        ann.client.read(ann.messages[0].msg_id)
        await self.says(bob, "#1 ✓✓ read")
        bob.write(b"/withdraw\n", close=True)
        self.assertEqual(await bob.wait(), 0)
        await ann.wait_for(lambda: ann.withdrawn, "for the withdrawal")
        self.assertEqual({status for _, _, status in self.stored(gateway).values()}, {4})

    async def test_over_a_kill(self) -> None:
        """The gateway is killed while somebody types: he is told, goes on typing, and everything is sent once."""
        gateway = await self.started()
        bob = self.chat(gateway, 1002, "--to", "1001", "--wait", "30")
        bob.spawn(subprocess.PIPE)
        bob.write(b"before\n")
        await self.says(bob, "#1 ✓ sent")
        await gateway.kill9()
        bob.write(b"meanwhile\n")
        await self.until(lambda: "trying again" in bob.errors(), "he is told")
        await gateway.start()
        bob.write(b"after\n", close=True)
        self.assertEqual(await bob.wait(40), 0)
        self.assertIn("connected again", bob.errors())
        ann = await self.online(gateway, 1001)
        await ann.has("after")
        self.assertEqual(ann.texts, ["before", "meanwhile", "after"])

    async def test_nobody_there(self) -> None:
        """Status 1, and the last line on standard error says what is missing; no line counts as sent."""
        gateway = self.gateway()
        command = [script("imconnect"), "chat", gateway.url, "1001", "--to", "1002", "--wait", "1"]
        outcome = await self.outcome(command, b"hello\n")
        self.assertEqual((outcome.status, "✓" in outcome.out), (1, False))
        self.assertIn("no gateway at", outcome.err.splitlines()[-1])
        self.assertNotIn("Traceback", outcome.err)
