"""The client library and `imconnect chat` against a gateway process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.internet.threads import deferToThread

from imconnect.client import Backoff
from tests.contracts.gateway import GatewayContract, Person

_ROOT = Path(__file__).parent.parent.parent
_TWISTD = ("-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
_IMCONNECT = ("-c", "from imconnect.cli.main import main; main(prog_name='imconnect')")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


class GatewayProcess:
    """`twistd -n imconnect` on free ports and a folder of its own; may be killed and started again."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.port, self._http = free_ports(2)
        self.url = f"ws://127.0.0.1:{self.port}/websocket"
        self.start()

    def start(self) -> None:
        """Begin; clients come when it is ready."""
        settings = {"data_dir": f"{self._folder}/var", "server.port": self.port, "http.port": self._http}
        options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        with open(f"{self._folder}/log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *_TWISTD, "imconnect", *options], cwd=_ROOT, stdout=log, stderr=log, env=_environ()
            )

    def end(self, with_signal: int) -> None:
        """Stop it, with or without a warning."""
        self._process.send_signal(with_signal)
        self._process.wait(30)


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONIOENCODING": "utf-8"}


def _until_the_end() -> GatewayProcess:
    """A process for all tests of this module: trial knows no set-up of a class, but it stops its reactor once."""
    from twisted.internet import reactor

    folder = tempfile.TemporaryDirectory()
    gateway = GatewayProcess(folder.name)

    def clean_up() -> None:
        gateway.end(signal.SIGTERM)
        folder.cleanup()

    reactor.addSystemEventTrigger("after", "shutdown", clean_up)
    return gateway


class LiveGatewayTests(GatewayContract):
    """One process for all of them: the users are new in every test."""

    gateway: GatewayProcess | None = None

    def setUp(self) -> None:
        if LiveGatewayTests.gateway is None:
            LiveGatewayTests.gateway = _until_the_end()
        self.url = LiveGatewayTests.gateway.url

    def chat(self, *arguments: str, typed: str) -> subprocess.CompletedProcess[str]:
        """`imconnect chat` in a pipe."""
        command = [sys.executable, *_IMCONNECT, "chat", self.url, *arguments]
        return subprocess.run(
            command, input=typed, capture_output=True, text=True, timeout=30, cwd=_ROOT, env=_environ(), check=False
        )

    async def test_chat(self) -> None:
        """A line piped into the chat arrives, and its author leaves with 0 when it is safe."""
        bob = await self.person()
        done = await deferToThread(self.chat, "4001", "--to", str(bob.user), typed="hi\nthere\n")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "#1 ✓ sent\n#2 ✓ sent\n", "connected as 4001\n"))
        self.assertEqual([what[2:] for what in bob.heard], [(4001, "hi"), (4001, "there")])

    async def test_chat_wrong_path(self) -> None:
        """A refused sign-in is one line with the gateway's reason, and 1."""
        self.url = self.url.replace("/websocket", "/nowhere")
        done = await deferToThread(self.chat, "4002", typed="")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^imconnect chat: 404 .+\n$")

    async def test_killed(self) -> None:
        """After kill -9 the client comes back by itself; what was answered is there, what was not is sent, none twice."""
        gateway = LiveGatewayTests.gateway
        assert gateway is not None
        alice, bob = await self.person(), await self.person()
        safe = await alice.client.send(bob.user, "safe")
        await bob.has_heard("message", safe.msg_id, alice.user, "safe")
        unanswered = [alice.client.send(bob.user, str(number)) for number in range(20)]
        await deferToThread(gateway.end, signal.SIGKILL)
        unanswered += [alice.client.send(bob.user, str(number)) for number in range(20, 30)]
        gateway.start()
        sent = [(await each).msg_id for each in unanswered]
        await bob.has_heard("message", sent[-1], alice.user, "29")
        self.assertEqual(self.contents(bob), ["safe", *map(str, range(30))])

    async def test_missed_tick(self) -> None:
        """A receipt and an answer that came while he was away: the client asks for both, and sends nothing again."""
        from twisted.internet import reactor

        bob_id = 4102
        alice = Person(reactor, self.url, 4101, backoff=Backoff(first=2.0), chance=lambda: 1.0)
        self.addCleanup(alice.client.stop)
        other_device = await self.person(4101)  # first: the gateway may still be starting
        await alice.client.start()
        sent = await alice.client.send(bob_id, "hello")
        unanswered = alice.client.send(bob_id, "again")
        assert alice.client.link is not None
        alice.client.link.dropConnection()  # what was written arrives, its answer does not
        bob = await self.person(bob_id)
        await other_device.has_heard("receipt", sent.msg_id, 3)
        self.assertNotIn(("receipt", sent.msg_id, 3), alice.heard)
        await alice.has_heard("receipt", sent.msg_id, 3)
        again = await unanswered
        await alice.has_heard("receipt", again.msg_id, 3)
        self.assertIn(("state", again.client_msg_id, again.msg_id, 3), alice.heard)
        self.assertEqual(self.contents(bob), ["hello", "again"])

    def contents(self, person: Person) -> list[str]:
        """What he was shown."""
        return [what[3] for what in person.heard if what[0] == "message"]


del GatewayContract
