"""Every way to start it: in the foreground, as a daemon, with twist, under systemd; and what it says of itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

from tests.live.case import LiveTestCase, missing
from tests.live.notified import Notified
from tests.live.processes import HOST, GatewayProcess, is_alive
from tests.live.raw import handshake

#: Hands a socket over as systemd does: N is its descriptor here, the rest the command.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="websocket")
os.execv(sys.argv[2], sys.argv[2:])
"""


class LaunchTests(LiveTestCase):
    async def test_daemon(self) -> None:
        """`twistd` without -n: the launcher ends with 0, the daemon serves, has the lock, logs, and stops by its pid."""
        pidfile, logfile = self.folder / "run.pid", self.folder / "run.log"
        gateway = self.gateway(launcher=("twistd", f"--pidfile={pidfile}", f"--logfile={logfile}"))
        gateway.spawn()
        self.assertEqual(await gateway.wait(30), 0)
        pid = await self.until(lambda: self.pid_in(pidfile), "the pid file is written")
        self.addCleanup(self.end_daemon, pid, gateway)
        await self.until(gateway.is_ready, "the daemon is ready", 20)
        self.assertNotEqual(pid, gateway.pid)
        self.assertIn("ready: ws://", logfile.read_text())
        self.assertEqual((gateway.output(), gateway.errors()), ("", ""))
        ann, bob = await self.online(gateway, 1001), await self.online(gateway, 1002)
        sent = await ann.send(1002, "hello")
        await ann.told(sent.msg_id, 3)
        second = await self.outcome(gateway.command_line(("twistd", "-n", "--pidfile="), server__port=0, http__port=0))
        self.assertEqual((second.status, second.out), (1, ""))
        self.assertEqual(second.err.count("\n"), 1)
        self.assertIn(f"(pid {pid})", second.err)
        os.kill(pid, signal.SIGTERM)
        await bob.wait_for(lambda: bob.closes and bob.closes[0].code == 4005, "told to leave")
        await self.until(lambda: not is_alive(pid), "the daemon has ended")
        self.assertFalse(pidfile.exists())
        self.assertNotIn("Traceback", logfile.read_text())
        again = self.gateway()
        again.data_dir = gateway.data_dir
        await again.start()
        self.assertEqual({status for _, _, status in self.stored(again).values()}, {3})

    def pid_in(self, path: Path) -> int:
        return int(path.read_text() or 0) if path.exists() else 0

    def end_daemon(self, pid: int, gateway: GatewayProcess) -> None:
        """It has left the group of the process that started it, so it is ended by its own id, if it is still it."""
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and str(gateway.data_dir).encode() in command.read_bytes():
            os.kill(pid, signal.SIGKILL)

    async def test_daemon_on_a_taken_port(self) -> None:
        """A mistake is one line and status 1 here as well: it is found before the fork."""
        gateway = self.gateway(launcher=("twistd", f"--pidfile={self.folder / 'p'}", f"--logfile={self.folder / 'l'}"))
        with socket.create_server((HOST, gateway.port)):
            outcome = await self.outcome(gateway.command)
        self.assertEqual((outcome.status, outcome.out, outcome.err.count("\n")), (1, "", 1))
        self.assertFalse((self.folder / "p").exists())

    async def test_twist(self) -> None:
        """The newer command runs the same."""
        gateway = await self.started(launcher=("twist",))
        ann, bob = await self.online(gateway, 1001), await self.online(gateway, 1002)
        await ann.send(1002, "hello")
        await bob.has("hello")
        await gateway.stop()
        self.assertEqual(bob.closes[0].code, 4005)
        self.assertIn("ready: ws://", gateway.output() + gateway.errors())

    async def test_systemd(self) -> None:
        """Type=notify: READY=1 when clients are taken, STOPPING=1 when they are asked to leave."""
        if not hasattr(socket, "AF_UNIX") or not Path("/proc/net/unix").exists():
            missing("abstract UNIX sockets")
        gateway = self.gateway()
        systemd = Notified(gateway)
        self.addCleanup(systemd.close)
        gateway.spawn()
        await self.until(lambda: systemd.says("READY=1"), "READY=1", 30)
        await self.online(gateway, 1001)
        self.assertFalse(systemd.says("STOPPING=1"))
        await gateway.stop()
        self.assertTrue(systemd.says("STOPPING=1"))

    async def test_socket_activation(self) -> None:
        """A socket that systemd has bound is used instead of server.port: who connects while the process is down or
        starting waits in its queue, over a kill -9 too, and is not refused."""
        waiting = socket.create_server((HOST, 0))
        self.addCleanup(waiting.close)
        gateway = self.gateway()
        number = waiting.fileno()
        # Not a shell: Debian's knows descriptors of one digit only.
        gateway.command = [sys.executable, "-c", AS_SYSTEMD, str(number), *gateway.command]
        gateway.port, gateway.pass_fds = waiting.getsockname()[1], (number,)
        for _ in range(2):
            early = await self.raw(gateway)
            early.transport.write(handshake(1001))
            await gateway.start()
            await early.wait_for(lambda: early.code == 101, "served")  # noqa: B023
            await gateway.kill9()
        self.assertIn(f"ready: ws://{HOST}:{gateway.port}", gateway.output())

    async def test_pages(self) -> None:
        """/health, /ready, /stats and /metrics of a gateway at work agree with what was done; each line of its log is
        JSON, twistd's own included, without a body or anybody's name."""
        gateway = await self.started({"log.format": "json"})
        ann, bob = await self.online(gateway, 7654321), await self.online(gateway, 1002)
        sent = await ann.send(1002, "confidential")
        await ann.send(1003, "away")
        await ann.told(sent.msg_id, 3)
        self.assertTrue(bob.is_online)
        ready = await gateway.get("/ready")
        self.assertEqual((ready.code, json.loads(ready.body)), (200, {"ready": True, "degraded": []}))
        self.assertEqual((await gateway.get("/health")).code, 200)
        stats = json.loads((await gateway.get("/stats")).body)
        self.assertEqual((stats["connections"], stats["sessions"], stats["users"]), (2, 2, 2))
        self.assertEqual((await gateway.get("/nothing")).code, 404)
        metrics = (await gateway.get("/metrics")).body
        for line in (
            "imconnect_connections 2.0",
            "imconnect_sends_accepted_total 2.0",
            'imconnect_receipts_total{status="3"} 1.0',
            'imconnect_offline_total{reason="absent"} 1.0',
        ):
            self.assertIn(line, metrics)
        # Which of the two depends on whether Bob's backfill had ended when it came.
        kinds = ("live", "backfill")
        pushes = [line for line in metrics.splitlines() if line.startswith("imconnect_pushes_total{")]
        self.assertEqual(sum(f'imconnect_pushes_total{{kind="{kind}"}} 1.0' in pushes for kind in kinds), 1, pushes)
        await gateway.stop()
        lines = [json.loads(line) for line in gateway.output().splitlines()]
        self.assertGreater(len(lines), 4)
        self.assertTrue(all({"time", "level", "message"} <= set(line) for line in lines))
        self.assertNotIn("confidential", gateway.output())
        self.assertNotIn("7654321", gateway.output())
        self.assertEqual(gateway.errors(), "")
