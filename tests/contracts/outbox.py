"""What every outbox does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults

from imconnect.core.ports import Outbox
from imconnect.errors import Unavailable
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.model import Message
from tests.support import ReactorTestCase

if TYPE_CHECKING:
    _Base = ReactorTestCase
else:
    _Base = object


def sent(number: int, content: str = "hello, 世界") -> Sent:
    """A message that says which one it is."""
    client = number.to_bytes(16, "big")
    return Sent(Message(number, client, 1001, 1002, 0, content, 1_700_000_000_000 + number, 1_700_000_000_001 + number))


def batch(first: int, count: int) -> list[Event]:
    """Messages that are numbered like their events in a new log."""
    return [sent(number) for number in range(first, first + count)]


class OutboxContract(_Base):
    """Mix into a ReactorTestCase; `make` gives a new outbox on new ground, not opened."""

    def make(self) -> Outbox:
        raise NotImplementedError

    async def restart(self, outbox: Outbox) -> Outbox:
        """Close it; a new one on the same ground, not opened."""
        raise NotImplementedError

    async def opened(self) -> Outbox:
        outbox = self.make()
        self.addCleanup(outbox.close)
        await outbox.open()
        return outbox

    async def test_new_log_is_empty(self) -> None:
        """A new log has given out no number and no id."""
        outbox = self.make()
        self.addCleanup(outbox.close)
        recovered = await outbox.open()
        self.assertEqual((list(recovered.entries), recovered.last, recovered.reserved_ms), ([], 0, 0))
        self.assertEqual(dict(outbox.positions()), {})
        self.assertEqual(list(await outbox.parked()), [])

    async def test_every_kind_of_event_comes_back(self) -> None:
        """What is read is what was appended, numbered from 1."""
        outbox = await self.opened()
        message = sent(7).message
        events: list[Event] = [
            Sent(message),
            Offlined(message._replace(content="", format=10)),
            Acknowledged(7, b"", 1001, 1002, 4, 5, by_business=True),
            Withdrawn(7, b"c" * 16, 1001, 0, 6),
        ]
        first = await outbox.append(events)
        self.assertEqual(first, 1)
        self.assertEqual(list(await outbox.read(0, 100)), list(enumerate(events, 1)))

    async def test_numbers_follow_each_other(self) -> None:
        """A batch starts right behind the one before, and Deferreds fire in the order of the calls."""
        outbox = await self.opened()
        fired: list[int] = []
        appends = [outbox.append(batch(1, size)) for size in (3, 1, 5, 2)]

        def note(first: int) -> int:
            fired.append(first)
            return first

        for append in appends:
            append.addCallback(note)
        self.assertEqual(await gatherResults(appends), [1, 4, 5, 10])
        self.assertEqual(fired, [1, 4, 5, 10])

    async def test_read_takes_whole_batches(self) -> None:
        """A limit inside a batch brings the batch to its end; the start may be anywhere."""
        outbox = await self.opened()
        for first in (1, 5, 9):
            await outbox.append(batch(first, 4))

        async def numbers(after: int, limit: int) -> list[int]:
            entries = await outbox.read(after, limit)
            self.assertEqual([event for _, event in entries], [sent(number) for number, _ in entries])
            return [number for number, _ in entries]

        self.assertEqual(await numbers(0, 1), [1, 2, 3, 4])
        self.assertEqual(await numbers(0, 5), [1, 2, 3, 4, 5, 6, 7, 8])
        self.assertEqual(await numbers(2, 2), [3, 4])
        self.assertEqual(await numbers(2, 3), [3, 4, 5, 6, 7, 8])
        self.assertEqual(await numbers(4, 1), [5, 6, 7, 8])
        self.assertEqual(await numbers(11, 100), [12])
        self.assertEqual(await numbers(12, 100), [])
        self.assertEqual(await numbers(99, 100), [])

    async def test_empty_batch_is_refused(self) -> None:
        """A batch without events would have no number."""
        outbox = await self.opened()
        with self.assertRaises(ValueError):
            outbox.append([])

    async def test_what_is_reserved_stays_reserved(self) -> None:
        """A smaller reservation takes nothing back."""
        outbox = await self.opened()
        await outbox.reserve(1234)
        await outbox.reserve(0)
        outbox = await self.restart(outbox)
        self.addCleanup(outbox.close)
        self.assertEqual((await outbox.open()).reserved_ms, 1234)

    async def test_restart_finds_everything(self) -> None:
        """Events, numbers, relay positions, reserved ids and parked events are there after a restart."""
        outbox = await self.opened()
        await outbox.append(batch(1, 3))
        await outbox.reserve(1234)
        await outbox.park([(2, sent(2), "too large")])
        outbox.done({0: 2, 7: 3})
        outbox = await self.restart(outbox)
        self.addCleanup(outbox.close)
        recovered = await outbox.open()
        self.assertEqual(list(recovered.entries), [(number, sent(number)) for number in (1, 2, 3)])
        self.assertEqual((recovered.last, recovered.reserved_ms), (3, 1234))
        self.assertEqual(dict(outbox.positions()), {0: 2, 7: 3})
        self.assertEqual(list(await outbox.parked()), [(2, sent(2), "too large")])
        self.assertEqual(await outbox.append(batch(4, 1)), 4)

    async def test_done_keeps_the_last_position_per_lane(self) -> None:
        """A lane moves alone, and `positions` says so at once."""
        outbox = await self.opened()
        outbox.done({1: 10, 2: 20})
        outbox.done({1: 11})
        self.assertEqual(dict(outbox.positions()), {1: 11, 2: 20})

    async def test_parked_events_are_listed_in_order(self) -> None:
        """Events are parked once each, whatever the order in which the lanes refuse them."""
        outbox = await self.opened()
        await outbox.park([])
        await outbox.park([(9, sent(9), "nine")])
        await outbox.park([(3, sent(3), "three"), (9, sent(9), "nine again")])
        self.assertEqual(list(await outbox.parked()), [(3, sent(3), "three"), (9, sent(9), "nine again")])

    async def test_forget_lets_whole_batches_go(self) -> None:
        """A batch stays as long as one of its events is still wanted."""
        outbox = await self.opened()
        for first in (1, 5, 9):
            await outbox.append(batch(first, 4))
        outbox.forget(8)
        outbox = await self.restart(outbox)
        self.addCleanup(outbox.close)
        recovered = await outbox.open()
        self.assertEqual([number for number, _ in recovered.entries], [5, 6, 7, 8, 9, 10, 11, 12])
        self.assertEqual([number for number, _ in await outbox.read(0, 1)], [5, 6, 7, 8])

    async def test_numbers_never_repeat(self) -> None:
        """Also when everything was forgotten before the restart."""
        outbox = await self.opened()
        await outbox.append(batch(1, 4))
        await outbox.append(batch(5, 4))
        outbox.forget(100)
        outbox = await self.restart(outbox)
        self.addCleanup(outbox.close)
        recovered = await outbox.open()
        self.assertEqual((list(recovered.entries), recovered.last), ([], 8))
        self.assertEqual(await outbox.append(batch(9, 1)), 9)
        outbox = await self.restart(outbox)
        self.addCleanup(outbox.close)
        self.assertEqual((await outbox.open()).last, 9)

    async def test_size_follows_the_log(self) -> None:
        """The size covers at least what was appended."""
        outbox = await self.opened()
        before = outbox.size()
        await outbox.append([sent(number, "x" * 1000) for number in range(1, 51)])
        self.assertGreaterEqual(outbox.size() - before, 50_000)

    async def test_close_finishes_what_was_asked_for(self) -> None:
        """Appends that wait are durable when `close` fires; closing again is fine."""
        outbox = await self.opened()
        appends = [outbox.append(batch(number, 1)) for number in range(1, 21)]
        outbox.done({0: 5})
        closed = [outbox.close(), outbox.close()]
        self.assertEqual(await gatherResults(appends), list(range(1, 21)))
        await gatherResults(closed)
        await outbox.close()
        outbox = await self.restart(outbox)
        self.addCleanup(outbox.close)
        self.assertEqual((await outbox.open()).last, 20)
        self.assertEqual(dict(outbox.positions()), {0: 5})

    async def test_closed_outbox_refuses_everything(self) -> None:
        """After `close`, and before `open`, every call is refused and none is forgotten in silence."""
        fresh, closed = self.make(), await self.opened()
        await closed.append(batch(1, 1))
        await closed.close()
        self.addCleanup(fresh.close)
        for outbox in (fresh, closed):
            await self.refused(outbox.append(batch(1, 1)))
            await self.refused(outbox.read(0, 1))
            await self.refused(outbox.park([(1, sent(1), "why")]))
            await self.refused(outbox.parked())
            await self.refused(outbox.reserve(1))
            outbox.done({0: 1})
            outbox.forget(2)
            self.assertEqual(dict(outbox.positions()), {})
        await self.refused(closed.open())

    async def refused(self, deferred: Deferred[Any]) -> None:
        await self.assertFailure(deferred, Unavailable)
