"""The disk under the outbox: full, read-only, slow, and one that cannot be trusted any more."""

from __future__ import annotations

import errno
import json
import resource
import shutil
import subprocess
from pathlib import Path

from twisted.internet.task import deferLater

from imconnect.client import Refused, SendResult
from tests.live.case import LiveTestCase
from tests.live.people import Person
from tests.live.processes import GatewayProcess

SHIM = Path(__file__).parent / "disk_shim.c"
#: Bytes that a file may have on a full disk: the logs of the gateway fit, its databases do not.
FULL = 64 * 1024
_no_compiler = shutil.which("cc") is None


class DiskTestCase(LiveTestCase):
    """Somebody writes to somebody while the disk fails."""

    async def people(self, gateway: GatewayProcess) -> tuple[Person, Person]:
        return await self.online(gateway, 1001), await self.online(gateway, 1002)

    async def sent(self, sender: Person, count: int, prefix: str) -> list[SendResult]:
        return [await sender.send(1002, f"{prefix} {number}") for number in range(count)]

    async def until_refused(self, sender: Person) -> list[SendResult]:
        """What was taken until then."""
        taken: list[SendResult] = []
        for number in range(1000):
            try:
                taken.append(await sender.send(1002, f"more {number}", 30))
            except Refused as refused:
                self.assertEqual(refused.code, 503)
                return taken
        raise self.failureException("nothing was refused")

    async def says(self, gateway: GatewayProcess, reason: str) -> None:
        """Until `/ready` is red for this."""

        async def red() -> bool:
            answer = await gateway.get("/ready")
            return answer.code == 503 and reason in json.loads(answer.body)["reason"]

        await self.until(red, f"/ready says {reason!r}", 20)

    async def recovered(self, gateway: GatewayProcess, taken: list[SendResult], ann: Person, ben: Person) -> None:
        """Without a restart: sends are taken, and what was taken before is stored and was shown, each once."""
        pid = gateway.pid
        await self.until(gateway.is_ready, "/ready is green again", 30)
        taken.append(await ann.send(1002, "room again", 30))
        await ben.has("room again")
        await self.until(lambda: len(self.stored(gateway)) >= len(taken), "everything is stored", 30)
        self.assertEqual(sorted(self.stored(gateway)), [result.msg_id for result in taken])
        self.assertEqual([message.msg_id for message in ben.messages], [result.msg_id for result in taken])
        self.assertEqual((gateway.pid, gateway.status), (pid, None))


class FullDiskTests(DiskTestCase):
    async def test_full_and_room_again(self) -> None:
        """No file may grow (RLIMIT_FSIZE): sends are refused, repeats answered; it recovers by itself."""
        gateway = await self.started({"retry.delays": "[600]"})
        ann, ben = await self.people(gateway)
        taken = await self.sent(ann, 60, "before")
        before = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (FULL, before[1]))
        taken += await self.until_refused(ann)
        await self.says(gateway, "the outbox takes no writes")
        repeat = await ann.send(1002, "before 3", client_msg_id=taken[3].client_msg_id)
        self.assertEqual(repeat.msg_id, taken[3].msg_id)
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, before)
        await self.recovered(gateway, taken, ann, ben)

    async def test_killed_while_full(self) -> None:
        """The next process finds everything that was taken, and nothing that was refused."""
        gateway = await self.started({"retry.delays": "[600]"})
        ann, ben = await self.people(gateway)
        taken = await self.sent(ann, 60, "before")
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (FULL, resource.RLIM_INFINITY))
        taken += await self.until_refused(ann)
        await gateway.kill9()
        await gateway.start()
        await self.recovered(gateway, taken, ann, ben)


class FaultyDiskTests(DiskTestCase):
    """Faults of the system calls themselves, by a library that is loaded before libc."""

    if _no_compiler:
        skip = "the faulty disk is a C file, and there is no cc (the same faults: tests.backends.test_outbox_failures)"

    def setUp(self) -> None:
        super().setUp()
        self.fault = self.folder / "fault"
        self.shim = self.folder / "disk_shim.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(self.shim), str(SHIM), "-ldl"], check=True)

    def disk(self, fault: str) -> None:
        self.fault.write_text(fault)

    async def faulty(self, **settings: object) -> GatewayProcess:
        named = {name.replace("__", "."): value for name, value in settings.items()}
        env = {"LD_PRELOAD": str(self.shim), "DISK_FAULT": str(self.fault)}
        return await self.started({"retry.delays": "[600]", **named}, env=env)

    async def test_no_space_and_read_only(self) -> None:
        """ENOSPC itself; and EROFS, as a file system is after an error."""
        gateway = await self.faulty()
        ann, ben = await self.people(gateway)
        taken = await self.sent(ann, 5, "before")
        for number in (errno.ENOSPC, errno.EROFS):
            self.disk(f"errno {number}")
            self.assertEqual((await self.refusal(ann.send(1002, "refused"))).code, 503)
            await self.says(gateway, "the outbox takes no writes")
            self.disk("")
            await self.recovered(gateway, taken, ann, ben)

    async def test_slow(self) -> None:
        """A commit that takes longer than outbox.commit_timeout: new sends are refused meanwhile, at once; the one
        that waits is answered when it is durable."""
        gateway = await self.faulty(outbox__commit_timeout=0.5)
        ann, ben = await self.people(gateway)
        taken = await self.sent(ann, 3, "before")
        self.disk("slow 4000")
        waiting = ann.client.send(1002, "waits")
        await self.says(gateway, "the outbox is too slow")
        self.assertEqual((await self.refusal(ann.send(1002, "refused", 3))).code, 503)
        self.assertFalse(waiting.called)
        self.disk("")
        taken.append(await waiting.addTimeout(20, self.reactor))
        await self.recovered(gateway, taken, ann, ben)

    async def test_fsync_that_fails(self) -> None:
        """The process says so and ends; the next one has everything that was acknowledged, and asked again it has the
        one that was not, once."""
        gateway = await self.faulty()
        ann, ben = await self.people(gateway)
        taken = await self.sent(ann, 5, "before")
        await ben.has("before 4")
        self.disk(f"fsync {errno.EIO}")
        waiting = ann.client.send(1002, "unknown")
        self.assertEqual(await gateway.wait(10), 1)
        self.assertEqual(gateway.output().count("could not be synced to the disk"), 1)
        self.assertFalse(waiting.called)
        self.disk("")
        await gateway.start()
        taken.append(await waiting.addTimeout(30, self.reactor))
        await self.recovered(gateway, taken, ann, ben)
        self.assertNotIn("Traceback", gateway.output())

    async def test_fsync_that_fails_at_the_start(self) -> None:
        """Then there is no start: one line, status 1; the file is as it was."""
        gateway = await self.faulty()
        ann, ben = await self.people(gateway)
        taken = await self.sent(ann, 5, "before")
        await gateway.kill9()
        self.disk(f"fsync {errno.EIO}")
        gateway.spawn()
        self.assertEqual(await gateway.wait(20), 1)
        self.disk("")
        await deferLater(self.reactor, 0)
        await gateway.start()
        await self.recovered(gateway, taken, ann, ben)
