from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from imconnect.events.decode import MalformedEvent, decode_body
from imconnect.events.dialect import Dialect
from imconnect.events.seed import SEED
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.events.xzll import XZLL
from imconnect.model import Message
from tests.events.strategies import EXAMPLES, events
from tests.support import TestCase

UUID = "00112233-4455-6677-8899-aabbccddeeff"
CID = bytes.fromhex(UUID.replace("-", ""))
DATA: dict[str, object] = {
    "clientMsgId": UUID,
    "msgId": "77",
    "fromUserId": "1001",
    "toUserId": "1002",
    "chatId": "100-1-1001-1002",
    "msgContent": "hi",
    "msgFormat": 2,
    "msgCreateTime": 5,
}
MESSAGE = Message(77, CID, 1001, 1002, 2, "hi", 5, 5)
ACK: dict[str, object] = {"clientMsgId": UUID, "msgId": "77", "fromUserId": "1002", "toUserId": "1001", "msgStatus": 3}


def body(kind: object = 10, data: object = None, **more: object) -> bytes:
    """An envelope; the inner object as a string unless it is one."""
    inner = DATA if data is None else data
    text = inner if isinstance(inner, str) else json.dumps(inner)
    return json.dumps({"clusterEventType": kind, "data": text, **more}, ensure_ascii=False).encode()


def carried(event: Event, dialect: Dialect) -> Event:
    """What a dialect keeps of an event: not the client's clock, and little of a withdrawal."""
    if isinstance(event, Sent | Offlined):
        return event._replace(message=event.message._replace(time=event.message.created))
    if isinstance(event, Withdrawn):
        return event._replace(client_msg_id=b"", time=event.time if dialect is XZLL else 0)
    return event


class RoundTripTests(TestCase):
    @settings(max_examples=2 * EXAMPLES, deadline=None)
    @given(events, st.sampled_from([SEED, XZLL]))
    def test_both_dialects(self, event: Event, dialect: Dialect) -> None:
        """What either dialect carries of an event comes back."""
        written = dialect.encode(event)
        again = decode_body(written.body, written.properties.get("RECEIPT") == "business")
        expected = carried(event, dialect)
        self.assertEqual((type(again), again), (type(expected), expected))


class TolerantTests(TestCase):
    def test_type_codings(self) -> None:
        """A number, a number in quotes, 10.0, and the names of both families."""
        for kind in (10, "10", 10.0, "C2C_SEND_MSG"):
            self.assertEqual(decode_body(body(kind)), Sent(MESSAGE))
        for kind in (20, "20", "C2C_OFF_LINE_MSG"):
            self.assertEqual(decode_body(body(kind)), Offlined(MESSAGE))
        for kind in (30, "C2C_CLIENT_RECEIVED_ACK", "C2C_CLIENT_RECEIVED_ACK_MSG"):
            self.assertEqual(decode_body(body(kind, ACK)), Acknowledged(77, CID, 1001, 1002, 3, 0))
        for kind in (40, "C2C_WITHDRAW_MSG", "C2C_CLIENT_WITHDRAW_MSG"):
            self.assertEqual(decode_body(body(kind)), Withdrawn(77, CID, 1001, 1002, 0))

    def test_data_as_an_object(self) -> None:
        """The inner object need not be a string."""
        self.assertEqual(decode_body(json.dumps({"clusterEventType": 10, "data": DATA}).encode()), Sent(MESSAGE))

    def test_numbers_and_strings(self) -> None:
        """Ids as numbers, numbers as strings, unknown members, null members that are optional."""
        data = {**DATA, "msgId": 77, "fromUserId": 1001, "toUserId": 1002.0, "msgFormat": "2", "msgCreateTime": "5"}
        data |= {"url": None, "chatId": None, "msgIds": "9,10", "somethingNew": [1]}
        self.assertEqual(decode_body(body(10, data, balanceId=None, extra={})), Sent(MESSAGE))

    def test_large_ids_as_numbers(self) -> None:
        """Every digit counts, also where the id is no string."""
        event = decode_body(body(10, {**DATA, "msgId": 2**63 - 1}))
        self.assertEqual(event, Sent(MESSAGE._replace(msg_id=2**63 - 1)))

    def test_optional_members(self) -> None:
        """No clientMsgId, no format, no content, no time."""
        data = {"msgId": "77", "fromUserId": "1001", "toUserId": "1002"}
        self.assertEqual(decode_body(body(10, data)), Sent(Message(77, b"", 1001, 1002, 1, "", 0, 0)))
        self.assertEqual(decode_body(body(10, {**data, "clientMsgId": ""})), decode_body(body(10, data)))

    def test_content_that_is_no_text(self) -> None:
        """Numbers and objects are shown as their JSON."""
        for content, text in ((5, "5"), (True, "true"), ({"a": ["你"]}, '{"a":["你"]}')):
            event = decode_body(body(10, {**DATA, "msgContent": content}))
            self.assertEqual(event, Sent(MESSAGE._replace(content=text)))
        self.assertEqual(decode_body(body(10, {**DATA, "msgContent": "007"})).message.content, "007")  # type: ignore[union-attr]

    def test_snake_case(self) -> None:
        """The other spelling of the members."""
        snake = {"client_msg_id": UUID, "msg_id": 77, "from_user_id": 1001, "to_user_id": 1002}
        snake |= {"msg_content": "hi", "msg_format": 2, "msg_create_time": 5}
        data = json.dumps({"cluster_event_type": "C2C_SEND_MSG", "data": json.dumps(snake)})
        self.assertEqual(decode_body(data.encode()), Sent(MESSAGE))

    def test_byte_order_mark_and_what_follows(self) -> None:
        """A BOM in front and garbage behind do no harm; of two members of one name the last wins."""
        self.assertEqual(decode_body(b"\xef\xbb\xbf" + body() + b" }garbage"), Sent(MESSAGE))
        self.assertEqual(decode_body(b'{"clusterEventType":99,' + body()[1:]), Sent(MESSAGE))
        self.assertEqual(decode_body(body(10, json.dumps(DATA) + "garbage")), Sent(MESSAGE))

    def test_create_time(self) -> None:
        """A number, a string of digits, ISO 8601, and Java's own spelling (read as UTC)."""
        for told in (1732500000000, "1732500000000", "2024-11-25T02:00:00Z", "2024-11-25 02:00:00"):
            event = decode_body(body(30, ACK, createTime=told))
            self.assertEqual(event, Acknowledged(77, CID, 1001, 1002, 3, 1732500000000))
        event = decode_body(body(30, {**ACK, "ackTime": 6}, createTime=5))
        self.assertEqual(event, Acknowledged(77, CID, 1001, 1002, 3, 6))
        data = {**DATA, "msgCreateTime": None}
        self.assertEqual(decode_body(body(10, data, createTime=9)), Sent(MESSAGE._replace(time=9, created=9)))

    def test_by_business(self) -> None:
        """The property is passed in; then the other side may be unknown."""
        event = decode_body(body(30, {**ACK, "toUserId": ""}), by_business=True)
        self.assertEqual(event, Acknowledged(77, CID, 0, 1002, 3, 0, True))
        event = decode_body(body(40, {**DATA, "toUserId": None, "chatId": ""}), by_business=True)
        self.assertEqual(event, Withdrawn(77, CID, 1001, 0, 0, True))


    def test_the_order_of_the_members(self) -> None:
        """Java's older JSON library writes them as its hash table has them."""
        data = json.dumps(dict(reversed(DATA.items())))
        self.assertEqual(decode_body(json.dumps({"createTime": 5, "data": data, "clusterEventType": 10}).encode()), Sent(MESSAGE))

    def test_escapes(self) -> None:
        """A slash with or without a backslash, characters as they are or as \\u: the same text."""
        for text in (r"\u4f60\/\ud83d\ude00", "你/😀"):
            inner = json.dumps(DATA, ensure_ascii=False).replace('"hi"', f'"{text}"')
            raw = json.dumps({"clusterEventType": 10, "data": inner}, ensure_ascii=False).encode()
            self.assertEqual(decode_body(raw), Sent(MESSAGE._replace(content="你/😀")))

    def test_members_that_java_declares_and_leaves_out(self) -> None:
        """url, names and the like may be there, null or not; so may balanceId."""
        names = ("url", "firstUserName", "firstUserType", "secondUserName", "secondUserType", "retryMsgFlag")
        for value in (None, 0, "x"):
            data = {**DATA, **dict.fromkeys(names, value), "withdrawFlag": value, "ackTextDesc": value}
            self.assertEqual(decode_body(body(10, data, balanceId=value)), Sent(MESSAGE))

    def test_msg_ids_of_an_ack(self) -> None:
        """The msgId counts; msgIds may be a list, one id, ids in one text, or missing."""
        lists: tuple[object, ...] = (["77"], [77], 77, "77", "77,78", None)
        for ids in lists:
            self.assertEqual(decode_body(body(30, {**ACK, "msgIds": ids})), Acknowledged(77, CID, 1001, 1002, 3, 0))

    def test_snake_case_of_every_member(self) -> None:
        """Of the envelope and of all four events."""

        def snake(members: dict[str, object]) -> dict[str, object]:
            return {re.sub("([A-Z])", lambda found: "_" + found[1].lower(), name): value for name, value in members.items()}

        for kind, data in (
            (10, DATA),
            (20, {**DATA, "msgStatus": 2}),
            (30, {**ACK, "msgIds": ["77"], "ackTime": 6}),
            (40, {**DATA, "withdrawFlag": 1}),
        ):
            raw = json.dumps(snake({"clusterEventType": kind, "data": json.dumps(snake(data)), "createTime": 9}))
            self.assertEqual(decode_body(raw.encode()), decode_body(body(kind, data, createTime=9)))

    def test_two_members_of_one_name(self) -> None:
        """The last one counts, inside too."""
        inner = json.dumps(DATA)[:-1] + ',"msgId":"78"}'
        self.assertEqual(decode_body(body(10, inner)), Sent(MESSAGE._replace(msg_id=78)))

    def test_status_of_an_offline_event(self) -> None:
        """1, 2, as a text or missing: the event says it."""
        for status in (1, 2, "2", None):
            self.assertEqual(decode_body(body(20, {**DATA, "msgStatus": status})), Offlined(MESSAGE))

    def test_what_the_java_gateway_writes(self) -> None:
        """Its four bodies byte for byte, and no others'."""
        ids = r"\"clientMsgId\":\"" + UUID + r"\",\"msgId\":\"77\","
        forth, chat = r"\"fromUserId\":\"1001\",\"toUserId\":\"1002\"", r"\"chatId\":\"100-1-1001-1002\""
        text = r"\"msgFormat\":2,\"msgContent\":\"hi\",\"msgCreateTime\":5"
        back = r"\"fromUserId\":\"1002\",\"toUserId\":\"1001\""
        for kind, data, event in (
            (10, f"{ids}{forth},{text},{chat}", Sent(MESSAGE)),
            (20, ids + forth + r",\"msgStatus\":2," + f"{text},{chat}", Offlined(MESSAGE)),
            (30, ids + back + r",\"msgIds\":[\"77\"],\"msgStatus\":4," + chat, Acknowledged(77, CID, 1001, 1002, 4, 9)),
            (40, r"\"msgId\":\"77\"," + forth + r",\"withdrawFlag\":1," + chat, Withdrawn(77, b"", 1001, 1002, 9)),
        ):
            raw = '{"clusterEventType":' + str(kind) + ',"data":"{' + data + '}","createTime":9}'
            self.assertEqual(decode_body(raw.encode()), event)
            self.assertEqual(XZLL.encode(event).body, raw.encode() if kind > 20 else raw.replace(":9}", ":5}").encode())


class StrictTests(TestCase):
    def refused(self, raw: bytes, reason: str) -> None:
        error = self.assertRaises(MalformedEvent, decode_body, raw)
        self.assertEqual(error.reason, reason)

    def test_no_json(self) -> None:
        """Bodies that are no object at all."""
        for raw in (b"", b"\xff", b"hello", b"{", b'{"clusterEventType":10', b"[" * 100_000):
            self.refused(raw, "body is not JSON")
        self.assertRaises(MalformedEvent, decode_body, b"9" * 5000)
        for raw in (b"[]", b"5", b'"x"', b"null"):
            self.refused(raw, "body is not an object")

    def test_types(self) -> None:
        """Missing and unknown ones: nothing is dropped silently."""
        self.refused(body(None), "clusterEventType is missing")
        self.refused(b'{"ClusterEventType":10,"data":"{}"}', "clusterEventType is missing")
        kinds: tuple[object, ...] = (True, False, 0, -10, 50, 60, 70, 80, 90, 100, 99, "C2C", 10.5, [10], {})
        for kind in kinds:
            self.refused(body(kind), "clusterEventType is unknown")

    def test_data(self) -> None:
        """Missing, empty, no JSON, no object."""
        self.refused(b'{"clusterEventType":10}', "data is missing")
        self.refused(b'{"clusterEventType":10,"data":null}', "data is missing")
        self.refused(body(10, " "), "data is not JSON")
        self.refused(body(10, "hello"), "data is not JSON")
        self.refused(body(10, ""), "data is not JSON")
        self.refused(body(10, "[1]"), "data is not an object")
        for data in ("[]", "5", "true", '[{"msgId":"77"}]'):
            self.refused(b'{"clusterEventType":10,"data":' + data.encode() + b"}", "data is not an object")

    def test_ids(self) -> None:
        """Every id that an event cannot do without: missing, blank, no number, out of range, not exact."""
        for kind, names in ((10, ("msgId", "fromUserId", "toUserId")), (20, ("msgId", "fromUserId", "toUserId"))):
            for name in names:
                for missing in (None, "", "  "):
                    self.refused(body(kind, {**DATA, name: missing}), f"{name} is missing")
        values: tuple[object, ...] = ("abc", "1.5", 1.5, True, [], "1" * 30, "+-5", "\u0665", 1e18)
        for value in values:
            self.refused(body(10, {**DATA, "msgId": value}), "msgId is not a whole number")
        for value in (0, -1, 2**63, str(2**63)):
            self.refused(body(10, {**DATA, "fromUserId": value}), "fromUserId is not an id")
        self.refused(body(30, {**ACK, "fromUserId": ""}), "fromUserId is missing")
        self.refused(body(30, {**ACK, "toUserId": "-5"}), "toUserId is not an id")
        self.refused(body(40, {**DATA, "msgId": None}), "msgId is missing")

    def test_client_msg_id(self) -> None:
        """A UUID, nothing, or a poison."""
        for value in ("x", " ", UUID[:-1], 5, [UUID]):
            self.refused(body(10, {**DATA, "clientMsgId": value}), "clientMsgId is not a UUID")

    def test_status_of_an_ack(self) -> None:
        """3 or 4, and never null."""
        self.refused(body(30, {**ACK, "msgStatus": None}), "msgStatus is missing")
        for status in (0, 1, 2, 5, -1):
            self.refused(body(30, {**ACK, "msgStatus": status}), "msgStatus of an ACK is neither 3 nor 4")

    def test_format_and_times(self) -> None:
        """Numbers that are none, or too large."""
        self.refused(body(10, {**DATA, "msgFormat": "text"}), "msgFormat is not a whole number")
        self.refused(body(10, {**DATA, "msgFormat": 2**31}), "msgFormat is out of range")
        for told in ("yesterday", -5, "-5", [1]):
            error = self.assertRaises(MalformedEvent, decode_body, body(10, createTime=told))
            self.assertIn("createTime", error.reason)

    def test_half_a_surrogate_pair(self) -> None:
        """It is no text and could not be stored."""
        self.refused(body(10, json.dumps({**DATA, "msgContent": "\ud800"})), "data is not JSON")

    def test_reasons_are_quiet(self) -> None:
        """A reason never repeats what people wrote."""
        error = self.assertRaises(MalformedEvent, decode_body, body(10, {**DATA, "msgFormat": "secret words"}))
        self.assertNotIn("secret", str(error))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([UUID, "77"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
inner_objects = st.fixed_dictionaries({}, optional=dict.fromkeys((*DATA, "msgStatus", "ackTime"), json_values))


class FuzzTests(TestCase):
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.binary())
    def test_arbitrary_bytes(self, raw: bytes) -> None:
        """Whatever arrives, the one error is MalformedEvent."""
        self.assertRaises(MalformedEvent, decode_body, raw)

    @settings(max_examples=3 * EXAMPLES, deadline=None)
    @given(st.sampled_from([10, 20, 30, 40]), inner_objects, json_values, st.booleans())
    def test_arbitrary_members(self, kind: int, members: dict[str, object], told: object, whole: bool) -> None:
        """Members of any kind: an event with ids in range, or MalformedEvent."""
        data = {**DATA, "msgStatus": 3, **members} if whole else members
        try:
            event = decode_body(body(kind, json.dumps(data), createTime=told))
        except MalformedEvent:
            return
        about = event.message if isinstance(event, Sent | Offlined) else event
        self.assertIn(about.msg_id, range(1, 2**63))
        SEED.encode(event)
