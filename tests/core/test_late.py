"""What was turned offline a moment ago travels ahead of the next message, once."""

from __future__ import annotations

from imconnect.core import late as late_module
from imconnect.core.late import SECONDS, Late
from imconnect.model import Message
from tests.support import TestCase

ALICE, BOB, CAROL = 1001, 1002, 1003


def message(number: int, to: int = BOB, text: str = "x") -> Message:
    return Message(number, b"", ALICE, to, 1, text, 0, 0)


class LateTests(TestCase):
    def test_in_order_and_once(self) -> None:
        """By user, in the order of the ids; what was taken is forgotten."""
        late = Late()
        for number in (2, 1):
            late.add(message(number), 0)
        late.add(message(3, CAROL), 0)
        self.assertEqual([1, 2], [each.msg_id for each in late.take(BOB, 1)])
        self.assertEqual([], late.take(BOB, 1))
        self.assertEqual([3], [each.msg_id for each in late.take(CAROL, 1)])

    def test_a_moment_only(self) -> None:
        """What is older is in the store by now."""
        late = Late()
        late.add(message(1), 0)
        late.add(message(2), 30)
        self.assertEqual([2], [each.msg_id for each in late.take(BOB, SECONDS + 1)])
        self.assertEqual(1, len(late))

    def test_bounded(self) -> None:
        """Over the bound the oldest go."""
        self.patch(late_module, "BYTES", 1000)
        late = Late()
        for number in (1, 2, 3):
            late.add(message(number, text="x" * 50), 0)
        self.assertEqual([2, 3], [each.msg_id for each in late.take(BOB, 0)])
