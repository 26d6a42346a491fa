"""Where the consumption of a queue stands."""

from __future__ import annotations

from imconnect.rocketmq.admin import Pulled
from imconnect.rocketmq.messages import StoredMessage
from imconnect.rocketmq.window import UNKNOWN, Window
from tests.support import TestCase


def pulled(*offsets: int, next_offset: int, end: int = 100, tags: str = "A") -> Pulled:
    messages = [
        StoredMessage(
            topic="T",
            queue=0,
            offset=at,
            body=b"12345",
            properties={"TAGS": tags},
            flag=0,
            attempts=0,
            born=0,
            stored=0,
        )
        for at in offsets
    ]
    return Pulled(0, messages, next_offset, 0, end)


class WindowTests(TestCase):
    """fetch, done, committed."""

    def setUp(self) -> None:
        self.window = Window("*", max_messages=4, max_bytes=1000)

    def test_a_group_without_an_offset(self) -> None:
        """It begins where it is told to, and the broker does not know it yet."""
        self.window.found(None, 7)
        self.assertEqual((self.window.fetch, self.window.done, self.window.committed), (7, 7, UNKNOWN))

    def test_in_hand_is_not_done(self) -> None:
        """Done is what was handled, whatever was fetched ahead."""
        self.window.found(10, UNKNOWN)
        self.window.add(pulled(10, 11, 12, next_offset=13))
        batch = self.window.take(2)
        self.assertEqual((self.window.fetch, self.window.done, self.window.in_hand), (13, 10, True))
        self.window.finish(batch)
        self.assertEqual((self.window.done, self.window.lag), (12, 88))
        self.window.finish(self.window.take(2))
        self.assertEqual(self.window.done, 13)

    def test_filtered_messages_are_done(self) -> None:
        """Also those behind the last one that was handled, but not before it was."""
        window = Window("B || C", 4, 1000)
        window.found(0, UNKNOWN)
        window.add(pulled(0, 1, next_offset=2, tags="A"))
        self.assertEqual((window.empty, window.done), (True, 2))
        window.add(pulled(2, next_offset=3, tags="C"))
        batch = window.take(9)
        window.add(pulled(3, next_offset=4, tags="A"))
        self.assertEqual(window.done, 2)
        window.finish(batch)
        self.assertEqual(window.done, 4)

    def test_bounds(self) -> None:
        """Messages and bytes; taking makes room."""
        self.window.found(0, UNKNOWN)
        self.window.add(pulled(0, 1, 2, 3, next_offset=4))
        self.assertFalse(self.window.has_room)
        self.window.take(1)
        self.assertTrue(self.window.has_room)
        small = Window("*", 100, 10)
        small.found(0, UNKNOWN)
        small.add(pulled(0, 1, next_offset=2))
        self.assertFalse(small.has_room)
        small.take(1)
        self.assertTrue(small.has_room)

    def test_somebody_else_was_ahead(self) -> None:
        """The stored offset counts where it is ahead of ours: what he handled is dropped."""
        self.window.found(0, UNKNOWN)
        self.window.add(pulled(0, 1, 2, next_offset=3))
        self.window.found(2, UNKNOWN)
        self.assertEqual([m.offset for m in self.window.take(9)], [2])
        self.window.found(1, UNKNOWN)
        self.window.found(None, UNKNOWN)
        self.assertEqual((self.window.fetch, self.window.done), (3, 2))

    def test_what_was_seen_is_not_taken_again(self) -> None:
        """An answer that begins before what was asked for."""
        self.window.found(2, UNKNOWN)
        self.window.add(pulled(0, 1, 2, next_offset=3))
        self.assertEqual([m.offset for m in self.window.take(9)], [2])

    def test_moved_back(self) -> None:
        """A broker that lost its end: go where it points. What it says of us is old until it has our new place."""
        self.window.found(50, UNKNOWN)
        self.window.move(40)
        self.window.found(50, UNKNOWN)
        self.assertEqual((self.window.fetch, self.window.done, self.window.committed), (40, 40, UNKNOWN))
        self.window.committed = 40
        self.window.found(45, UNKNOWN)
        self.assertEqual(self.window.fetch, 45)
