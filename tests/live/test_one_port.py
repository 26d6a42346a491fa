"""Several processes on one port, and one after another restarted while people talk.

Skipped where there is no Redis, except in CI.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from functools import partial
from itertools import pairwise

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.live.instances import InstancesTestCase
from tests.live.people import Person
from tests.live.processes import GatewayProcess

ANN = 1001
#: What comes to somebody who has not acknowledged it must not come again by itself here.
SETTINGS = {"retry__delays": "[600]"}


class OnePortTests(InstancesTestCase):
    async def test_two_processes(self) -> None:
        """Both get clients; people of different ones talk; a third with a port of its own on the same number is refused."""
        one, two = self.instance(1), self.instance(2)
        await gatherResults([Deferred.fromCoroutine(each.start()) for each in (one, two)])
        crowd = {user: await self.online(one, user) for user in range(ANN, ANN + 16)}
        homes = {user: self.node_of(user) for user in crowd}
        self.assertEqual(set(homes.values()), {1, 2})
        ann = crowd[ANN]
        ben = next(crowd[user] for user in crowd if homes[user] != homes[ANN])
        sent = await ann.send(ben.user, "to the other process")
        await ben.has("to the other process")
        await ann.told(sent.msg_id, 3)
        self.assertEqual(1, await self.pushes(one, "forwarded") + await self.pushes(two, "forwarded"))
        stats = [json.loads((await each.get("/stats")).body)["users"] for each in (one, two)]
        self.assertEqual(stats, [list(homes.values()).count(1), list(homes.values()).count(2)])
        stranger = self.node(9, server__port=self.port)
        refused = await self.outcome(stranger.command)
        self.assertEqual((refused.status, refused.out), (1, ""))
        self.assertIn("server.port: ", refused.err)


class LeavingTests(InstancesTestCase):
    async def test_routes_go_one_by_one(self) -> None:
        """Whoever was told to leave is nowhere at once; whoever was not yet is still here; newcomers go elsewhere."""
        one = self.instance(1, drain__rate=4, drain__deadline=10)
        await one.start()
        crowd = {user: await self.raw(one, user) for user in range(ANN, ANN + 12)}
        await self.until(lambda: all(self.node_of(user) == 1 for user in crowd), "everybody has a route")
        two = self.instance(2)
        await two.start()
        one.signal(signal.SIGTERM)
        await self.until(lambda: sum(raw.gone for raw in crowd.values()) >= 3, "three were told")
        told = [user for user, raw in crowd.items() if raw.gone]
        await self.until(lambda: not any(map(self.node_of, told)), "their routes are gone", 1)
        self.assertIn(1, {self.node_of(user) for user in crowd}, "somebody was not told yet")
        self.assertEqual((await one.get("/ready")).code, 503)
        for user in told:
            await self.raw(two, user)
        await self.until(lambda: {self.node_of(user) for user in told} == {2}, "whoever comes back is on the other")
        await one.wait()
        self.assertEqual({raw.close_code for raw in crowd.values()}, {4005})


class RollingRestartTests(InstancesTestCase):
    people = 10

    async def test_three_under_chat(self) -> None:
        """Each is stopped and started while everybody writes to his neighbour and reconnects to whoever is there:
        everything is answered and shown, once on a connection, in order, and nothing is owed in the end."""
        nodes = [self.instance(number, drain__rate=20, drain__deadline=5, **SETTINGS) for number in (1, 2, 3)]
        await gatherResults([Deferred.fromCoroutine(node.start()) for node in nodes])
        users = range(ANN, ANN + self.people)
        crowd = [await self.online(nodes[0], user, retry_unavailable=True) for user in users]
        over: list[bool] = []
        talks = [Deferred.fromCoroutine(self.talk(person, users, over)) for person in crowd]
        await self.until(lambda: all(len(person.messages) > 2 for person in crowd), "everybody talks", 20)
        for node in nodes:
            await self.restarted(node, crowd)
        over.append(True)
        counts = await gatherResults(talks)
        for person in crowd:
            count = counts[(person.user - ANN - 1) % self.people]
            await self.until(partial(self.shown, person, count), f"{person.user} has {count} messages", 20)
            numbers = [int(text) for text in person.texts]
            late = [(after, before) for before, after in pairwise(numbers) if after < before]
            self.assertEqual(late, [], f"{person.user} was shown these behind those")
            self.assertEqual(numbers, list(range(count)))
            self.assertEqual(Counter(Counter((at, push.msg_id) for at, push in person.pushes).values()).keys(), {1})
        self.assertGreater(min(counts), 20)
        # Everybody was told to leave at least once, and nobody was thrown out.
        closes = [loss for person in crowd for loss in person.closes]
        self.assertGreaterEqual(len(closes), self.people)
        self.assertEqual({loss.code for loss in closes if loss.code != 1006}, {4005})
        await self.until(lambda: not self.query("SELECT 1 FROM im_offline_message"), "nobody is owed anything", 20)
        stored = self.query("SELECT count(*), count(DISTINCT client_msg_id), min(msg_status) FROM im_c2c_message")
        self.assertEqual(stored, [(sum(counts), sum(counts), 3)])

    def shown(self, person: Person, count: int) -> bool:
        return len(person.messages) >= count

    async def talk(self, person: Person, users: range, over: list[bool]) -> int:
        """Numbers to his neighbour, each when the one before was answered; -> how many."""
        neighbour = ANN + (person.user - ANN + 1) % len(users)
        number = 0
        while not over:
            await person.send(neighbour, str(number), within=30)
            number += 1
            await deferLater(self.reactor, 0.1)
        return number

    async def restarted(self, node: GatewayProcess, crowd: list[Person]) -> None:
        """In good order; the next one only when everybody is back."""
        self.assertEqual(await node.stop(), -signal.SIGTERM)
        self.assertIn("stopping: clients are asked to leave", node.output())
        await node.start()
        await self.until(lambda: all(person.is_online for person in crowd), "everybody is back", 20)
