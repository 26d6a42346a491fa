"""`make cluster` from beginning to end; run by `make test-cluster`."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.live.case import LiveTestCase
from tests.live.people import Person
from tests.live.processes import is_alive
from tests.servers.parts import ROOT

ANN, BEN = 1001, 1002


class ClusterTests(LiveTestCase):
    timeout = 400.0

    async def test_two_people_on_two_gateways(self) -> None:
        """It says where everything is; what it prints for two people works; Ctrl-C ends all of it."""
        # Not below the test's folder, which the database's user may be unable to read.
        folder = Path(tempfile.mkdtemp(prefix="imconnect-cluster-"))
        folder.chmod(0o755)
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        command = [sys.executable, "-m", "tests.servers.cluster", "--dir", str(folder), "--free-ports"]
        cluster = self.process(command, "cluster", env={"PYTHONPATH": str(ROOT)})
        cluster.spawn()
        await self.until(lambda: "Ctrl-C stops everything" in cluster.output() or cluster.status, cluster.tail, 300)
        urls = re.findall(r"make chat URL=(\S+) USER=1", cluster.output())
        self.assertEqual(len(set(urls)), 2, cluster.tail())
        ann, ben = [Person(self.reactor, url, user) for url, user in zip(urls, (ANN, BEN), strict=True)]
        for person in (ann, ben):
            self.addCleanup(person.leave)
            await person.sign_in()
        sent = await ann.send(BEN, "hello")
        await ben.has("hello")
        await ann.told(sent.msg_id, 3)
        pids = self.children(cluster.pid)
        self.assertEqual(len(pids), 7)
        cluster.signal(signal.SIGINT)
        self.assertEqual(await cluster.wait(100), 0)
        self.assertEqual((cluster.errors(), [pid for pid in pids if is_alive(pid)]), ("", []))

    def children(self, pid: int) -> list[int]:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
