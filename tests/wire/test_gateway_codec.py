"""What business and gateways say to each other."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from imconnect.model import MAX_ID, Applied, Receipt, Withdrawal
from imconnect.wire import gateway_codec as codec
from imconnect.wire import gateway_pb2
from tests.support import TestCase

ids = st.integers(1, MAX_ID)
receipts = st.builds(
    Receipt, ids, st.one_of(st.just(b""), st.binary(min_size=16, max_size=16)), ids, ids, st.sampled_from((1, 3, 4))
)
withdrawals = st.builds(Withdrawal, ids, ids, ids)
everything = st.builds(
    Applied,
    st.lists(receipts, max_size=5).map(tuple),
    st.lists(withdrawals, max_size=5).map(tuple),
    st.lists(ids, max_size=5).map(tuple),
)

RECEIPT = Receipt(5, bytes(range(16)), 1001, 1002, 3)


class TellTests(TestCase):
    @given(everything)
    def test_comes_back(self, applied: Applied) -> None:
        """What is encoded is what is decoded."""
        self.assertEqual(codec.decode_applied(codec.encode_applied(applied)), applied)

    def test_bytes(self) -> None:
        """The very bytes: gateways of this version are out there."""
        told = Applied((Receipt(1, b"", 2, 3, 4),), (Withdrawal(5, 6, 7),), (8,))
        self.assertEqual(
            codec.encode_applied(told).hex(),
            "0801"
            "121d" + "09" + "0100000000000000" + "19" + "0200000000000000" + "21" + "0300000000000000" + "2804"
            "1a1b" + "09" + "0500000000000000" + "11" + "0600000000000000" + "19" + "0700000000000000"
            "2208" + "0800000000000000",
        )

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """Nonsense is Unreadable or of another version, and nothing else."""
        for decode in (codec.decode_applied, codec.decode_hello, codec.decode_reply):
            with contextlib.suppress(codec.Unreadable, codec.OtherVersion):
                decode(data)

    def test_what_is_out_of_range_is_unreadable(self) -> None:
        """Ids, status and clientMsgId that no gateway could show."""
        for bad in (
            RECEIPT._replace(msg_id=0),
            RECEIPT._replace(sender=2**63),
            RECEIPT._replace(receiver=0),
            RECEIPT._replace(status=2),
            RECEIPT._replace(client_msg_id=b"short"),
        ):
            self.assertRaises(codec.Unreadable, codec.decode_applied, codec.encode_applied(Applied((bad,))))
        for applied in (Applied(withdrawals=(Withdrawal(1, 0, 2),)), Applied(hints=(7, 0))):
            self.assertRaises(codec.Unreadable, codec.decode_applied, codec.encode_applied(applied))

    def test_another_version_is_named(self) -> None:
        """Older, newer or none: the error says which and which one we speak."""
        for version in (0, 2):
            data = gateway_pb2.TellRequest(version=version).SerializeToString()
            error = self.assertRaises(codec.OtherVersion, codec.decode_applied, data)
            self.assertIn(f"version {version} of imconnect.gateway.v1.Gateway", str(error))
            self.assertIn("speaks 1", str(error))

    def test_members_that_nobody_knows_are_passed_over(self) -> None:
        """A newer peer of the same version may say more."""
        data = codec.encode_applied(Applied(hints=(7,))) + bytes.fromhex("ba3e03616263")
        self.assertEqual(codec.decode_applied(data), Applied(hints=(7,)))


class PartyTests(TestCase):
    def test_comes_back(self) -> None:
        """Names of both ends."""
        party = codec.Party("gateway-1")
        self.assertEqual(codec.decode_hello(codec.encode_hello(party)), party)
        self.assertEqual(codec.decode_reply(codec.encode_reply(party)), party)

    def test_a_name_is_cut(self) -> None:
        """It goes into log lines."""
        self.assertEqual(codec.decode_reply(codec.encode_reply(codec.Party("x" * 5000))).node, "x" * 100)

    def test_another_version_is_named(self) -> None:
        """In both directions."""
        for decode, kind in (
            (codec.decode_hello, gateway_pb2.HelloRequest),
            (codec.decode_reply, gateway_pb2.Reply),
        ):
            self.assertRaises(codec.OtherVersion, decode, kind(version=7).SerializeToString())
