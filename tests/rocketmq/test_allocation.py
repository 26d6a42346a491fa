"""Small rules that have to agree with Java's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imconnect.rocketmq.allocation import averagely
from imconnect.rocketmq.codes import Outcome, outcome_of
from imconnect.rocketmq.connection import Credentials
from imconnect.rocketmq.hashing import java_hash, java_index
from imconnect.rocketmq.routes import Queue
from tests.support import TestCase


def queues(count: int) -> list[Queue]:
    return [Queue("T", "b", number) for number in range(count)]


class AveragelyTests(TestCase):
    """AllocateMessageQueueAveragely."""

    def test_known_shares(self) -> None:
        """As Java divides them."""
        members = ["a", "b", "c"]
        shares = [[q.number for q in averagely(queues(8), members, me)] for me in members]
        self.assertEqual(shares, [[0, 1, 2], [3, 4, 5], [6, 7]])
        self.assertEqual([len(averagely(queues(2), members, me)) for me in members], [1, 1, 0])

    def test_a_stranger_gets_nothing(self) -> None:
        """Who is not listed has no share."""
        self.assertEqual(averagely(queues(8), ["a"], "b"), [])

    @given(st.integers(0, 50), st.integers(1, 20))
    def test_all_shares_are_all_queues(self, count: int, people: int) -> None:
        """Every queue has one owner, neighbours stay together, shares differ by one at most."""
        members = [f"m{i:02}" for i in range(people)]
        shares = [averagely(queues(count), members, me) for me in members]
        self.assertEqual([queue for share in shares for queue in share], queues(count))
        self.assertLessEqual(max(map(len, shares)) - min(map(len, shares)), 1)


class HashTests(TestCase):
    """String.hashCode."""

    def test_known_values(self) -> None:
        """As Java computes them; beyond the BMP it hashes UTF-16 units."""
        known = {
            "": 0,
            "a": 97,
            "hello": 99162322,
            "polygenelubricants": -(1 << 31),
            "100-1001-1002": 282658002,
            "😀": 1772899,
        }
        self.assertEqual({text: java_hash(text) for text in known}, known)

    def test_index(self) -> None:
        """The remainder keeps the sign of the hash, then abs."""
        self.assertEqual(java_index("polygenelubricants", 7), (1 << 31) % 7)
        self.assertEqual(java_index("hello", 8), 99162322 % 8)


class OutcomeTests(TestCase):
    """What each answer to a send means."""

    def test_every_code(self) -> None:
        """As rocketmq's own producer reads them; what nobody knows is tried again."""
        told = {
            Outcome.STORED: [0],
            Outcome.UNPROVEN: [10, 11, 12],
            Outcome.RETRY: [1, 2, 3, 14, 16, 17, 204, 205, 215, 999, -1],
            Outcome.PERMANENT: [13],
            Outcome.RECONNECT: [1500],
        }
        for outcome, codes in told.items():
            self.assertEqual([outcome_of(code) for code in codes], [outcome] * len(codes))


class SignatureTests(TestCase):
    """RocketMQ's ACL."""

    def test_golden(self) -> None:
        """HMAC-SHA1 over the values in the order of their keys and the body, computed with openssl."""
        signed = Credentials("RocketMQ", "12345678").sign({"topic": "T", "b": "2", "Signature": "old"}, b"body")
        self.assertEqual(signed["AccessKey"], "RocketMQ")
        self.assertEqual(signed["Signature"], "4HEvNpvyHyyX18moFMHtVTho0t8=")

    def test_the_secret_is_not_shown(self) -> None:
        """Not in a repr, which ends up in logs."""
        self.assertNotIn("12345678", repr(Credentials("RocketMQ", "12345678")))
