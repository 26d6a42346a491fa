from __future__ import annotations

import json

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from imconnect.events.dialect import Dialect, java_hash, java_queue
from imconnect.events.seed import SEED
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.events.xzll import XZLL
from imconnect.model import MAX_ID, Message
from tests.events.strategies import EXAMPLES, events, messages
from tests.support import TestCase

CLIENT_MSG_ID = bytes.fromhex("00112233445566778899aabbccddeeff")
MESSAGE = Message(1988484031183061064, CLIENT_MSG_ID, 10002, 9, 1, '你好 a/b "q"\n😀', 5, 1732500000000)
SENT, OFFLINED = Sent(MESSAGE), Offlined(MESSAGE)
#: 9 has read the message of 10002.
ACKNOWLEDGED = Acknowledged(MESSAGE.msg_id, CLIENT_MSG_ID, 10002, 9, 4, 1732500001000)
WITHDRAWN = Withdrawn(MESSAGE.msg_id, CLIENT_MSG_ID, 10002, 9, 1732500002000)

WHOSE = r"\"clientMsgId\":\"00112233-4455-6677-8899-aabbccddeeff\",\"msgId\":\"1988484031183061064\","
FORTH, BACK = r"\"fromUserId\":\"10002\",\"toUserId\":\"9\",", r"\"fromUserId\":\"9\",\"toUserId\":\"10002\","
CHAT = r"\"chatId\":\"100-1-9-10002\""
CONTENT = r"\"msgContent\":\"你好 a/b \\\"q\\\"\\n😀\""
FORMAT, CREATED = r"\"msgFormat\":1", r"\"msgCreateTime\":1732500000000"
MSG_IDS = r"\"msgIds\":[\"1988484031183061064\"]"
TAKEN_BACK = r"{\"msgId\":\"1988484031183061064\"," + FORTH + r"\"withdrawFlag\":1," + CHAT + "}"


class SeedTests(TestCase):
    """Bodies of the seed dialect, written by hand from the tables."""

    def check(self, event: Event, kind: str, data: str, tag: str) -> None:
        body = SEED.encode(event)
        self.assertEqual(body.body.decode(), '{"clusterEventType":"' + kind + '","data":"' + data + '"}')
        self.assertEqual((body.topic, body.tag, body.keys), ("XZLL_C2CMSG_TOPIC", tag, "1988484031183061064"))
        self.assertEqual(body.properties, {})

    def test_send(self) -> None:
        """Eight members; the time is the server's."""
        data = "{" + ",".join((WHOSE + FORTH + CHAT, CONTENT, FORMAT, CREATED)) + "}"
        self.check(SENT, "C2C_SEND_MSG", data, "C2C_SEND")

    def test_offline(self) -> None:
        """The send and msgStatus 1, as the seed writes it."""
        data = "{" + ",".join((WHOSE + FORTH + CHAT, CONTENT, FORMAT, CREATED, r"\"msgStatus\":1")) + "}"
        self.check(OFFLINED, "C2C_OFF_LINE_MSG", data, "C2C_OFFLINE")

    def test_acknowledged(self) -> None:
        """The union of both columns: msgStatus, msgIds and ackTime; from is who acknowledges."""
        rest = (WHOSE + BACK + CHAT, r"\"msgStatus\":4", MSG_IDS, r"\"ackTime\":1732500001000")
        self.check(ACKNOWLEDGED, "C2C_CLIENT_RECEIVED_ACK", "{" + ",".join(rest) + "}", "C2C_ACK")

    def test_withdrawn(self) -> None:
        """Java's members, since the Go gateway never wrote any."""
        self.check(WITHDRAWN, "C2C_WITHDRAW_MSG", TAKEN_BACK, "C2C_WITHDRAW")

    def test_by_business(self) -> None:
        """Where the gateway did not know the message, the property says so."""
        for event in (ACKNOWLEDGED, WITHDRAWN):
            body = SEED.encode(event._replace(by_business=True))
            self.assertEqual(body.properties, {"RECEIPT": "business"})
            self.assertEqual(body.body, SEED.encode(event).body)

    def test_nobody_known(self) -> None:
        """A withdrawal without a receiver has empty ids, as zero is written, and goes by its msgId."""
        event = WITHDRAWN._replace(receiver=0)
        data = TAKEN_BACK.replace(r"\"toUserId\":\"9\"", r"\"toUserId\":\"\"").replace("100-1-9-10002", "")
        self.check(event, "C2C_WITHDRAW_MSG", data, "C2C_WITHDRAW")
        self.assertEqual(SEED.queue_key(event), "1988484031183061064")

    def test_queue_by_chat(self) -> None:
        """All four events of a chat share a queue, from either side."""
        for event in (SENT, OFFLINED, ACKNOWLEDGED, WITHDRAWN):
            self.assertEqual(SEED.queue_key(event), "100-1-9-10002")


class XzllTests(TestCase):
    """Bodies as the Java services write them, from the tables."""

    def check(self, event: Event, kind: int, data: str, created: int) -> None:
        body = XZLL.encode(event)
        expected = '{"clusterEventType":' + str(kind) + ',"data":"' + data + '","createTime":' + str(created) + "}"
        self.assertEqual(body.body.decode(), expected)
        self.assertEqual((body.topic, body.tag, body.keys), ("XZLL-C2CMSG-TOPIC", "", ""))
        self.assertEqual(XZLL.queue_key(event), "1988484031183061064")

    def test_send(self) -> None:
        """A number for the type, raw UTF-8, a slash as it is, no null members."""
        data = "{" + ",".join((WHOSE + FORTH + FORMAT, CONTENT, CREATED, CHAT)) + "}"
        self.check(SENT, 10, data, 1732500000000)

    def test_offline(self) -> None:
        """msgStatus 2."""
        data = "{" + ",".join((WHOSE + FORTH + r"\"msgStatus\":2", FORMAT, CONTENT, CREATED, CHAT)) + "}"
        self.check(OFFLINED, 20, data, 1732500000000)

    def test_acknowledged(self) -> None:
        """msgIds and msgStatus; the time only in the envelope."""
        data = "{" + ",".join((WHOSE + BACK + MSG_IDS, r"\"msgStatus\":4", CHAT)) + "}"
        self.check(ACKNOWLEDGED, 30, data, 1732500001000)

    def test_withdrawn(self) -> None:
        """No clientMsgId."""
        self.check(WITHDRAWN, 40, TAKEN_BACK, 1732500002000)


    def test_delivered(self) -> None:
        """The other status of an ACK."""
        data = "{" + ",".join((WHOSE + BACK + MSG_IDS, r"\"msgStatus\":3", CHAT)) + "}"
        self.check(ACKNOWLEDGED._replace(status=3), 30, data, 1732500001000)

    def test_by_business(self) -> None:
        """The property is the one thing beside the body; Java passes over it."""
        for event in (ACKNOWLEDGED, WITHDRAWN):
            body = XZLL.encode(event._replace(by_business=True))
            self.assertEqual(body.properties, {"RECEIPT": "business"})
            self.assertEqual((body.body, XZLL.encode(event).properties), (XZLL.encode(event).body, {}))
        self.assertEqual((XZLL.encode(SENT).properties, XZLL.encode(OFFLINED).properties), ({}, {}))

    def test_nobody_known(self) -> None:
        """Zero is the empty string, as Java writes it, and the queue is still the message's."""
        data = TAKEN_BACK.replace(r"\"toUserId\":\"9\"", r"\"toUserId\":\"\"").replace("100-1-9-10002", "")
        self.check(WITHDRAWN._replace(receiver=0), 40, data, 1732500002000)
        data = "{" + ",".join((WHOSE + BACK + MSG_IDS, r"\"msgStatus\":4", CHAT)) + "}"
        data = data.replace("00112233-4455-6677-8899-aabbccddeeff", "")
        self.check(ACKNOWLEDGED._replace(client_msg_id=b""), 30, data, 1732500001000)

    def test_the_chat_by_numbers(self) -> None:
        """The smaller user first, as a number: 9 before 10002 from either side."""
        for sender, receiver in ((9, 10002), (10002, 9)):
            data = json.loads(json.loads(XZLL.encode(Sent(MESSAGE._replace(sender=sender, receiver=receiver))).body)["data"])
            self.assertEqual(data["chatId"], "100-1-9-10002")


class EveryBodyTests(TestCase):
    """What holds for every body of either dialect, whatever people write."""

    IDS = ("msgId", "fromUserId", "toUserId", "clientMsgId", "chatId", "msgContent")
    NUMBERS = ("msgFormat", "msgCreateTime", "msgStatus", "ackTime", "withdrawFlag")

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(events, st.sampled_from([SEED, XZLL]))
    def test_kinds_of_values(self, event: Event, dialect: Dialect) -> None:
        """Ids are strings, the rest whole numbers, nothing is null, and no member is missing or new."""
        envelope = json.loads(dialect.encode(event).body)
        self.assertEqual([*envelope], ["clusterEventType", "data", *(["createTime"] if dialect is XZLL else [])])
        self.assertIs(type(envelope["clusterEventType"]), int if dialect is XZLL else str)
        self.assertIs(type(envelope.get("createTime", 0)), int)
        data = json.loads(envelope["data"])
        for name, value in data.items():
            self.assertIs(type(value), str if name in self.IDS else int if name in self.NUMBERS else list, name)
        count = {Sent: 8, Offlined: 9, Acknowledged: 8 if dialect is SEED else 7, Withdrawn: 5}[type(event)]
        self.assertEqual(len(data), count)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(messages, st.sampled_from([SEED, XZLL]))
    def test_text_is_utf8_as_it_is(self, message: Message, dialect: Dialect) -> None:
        """Nothing is escaped that JSON does not ask to be."""
        text = "".join(char for char in message.content if char >= " " and char not in '"\\')
        body = dialect.encode(Sent(message._replace(content=text))).body
        self.assertIn(text.encode(), body)
        self.assertNotIn(b"\\u", body.replace(text.encode(), b""))


class TableTests(TestCase):
    def test_one_row_overridden(self) -> None:
        """Each row of the table of differences can be set by itself."""
        own = attrs.evolve(SEED, topic="OWN", tags={}, offline_status=2, queue_by_chat=False)
        body = own.encode(OFFLINED)
        self.assertEqual((body.topic, body.tag), ("OWN", ""))
        self.assertIn(r"\"msgStatus\":2", body.body.decode())
        self.assertEqual(own.queue_key(OFFLINED), "1988484031183061064")

    def test_types_and_create_time(self) -> None:
        """The envelope alone changes; the members stay the dialect's."""
        own = attrs.evolve(SEED, types=XZLL.types, create_time=True)
        inner = json.loads(SEED.encode(SENT).body)["data"]
        self.assertEqual(
            json.loads(own.encode(SENT).body), {"clusterEventType": 10, "data": inner, "createTime": MESSAGE.created}
        )
        own = attrs.evolve(XZLL, types=SEED.types, create_time=False, keys=True, tags=SEED.tags, offline_status=1)
        body = own.encode(OFFLINED)
        self.assertEqual([*json.loads(body.body)], ["clusterEventType", "data"])
        self.assertEqual((body.keys, body.tag), ("1988484031183061064", "C2C_OFFLINE"))
        self.assertIn(rb"\"msgStatus\":1", body.body)

    def test_client_msg_id_of_another_length(self) -> None:
        """What is no UUID is not written as one."""
        self.assertRaises(ValueError, SEED.encode, Sent(MESSAGE._replace(client_msg_id=b"x")))


class SizeTests(TestCase):
    def test_largest_body(self) -> None:
        """The exact size of the OFFLINE body."""
        for dialect in (SEED, XZLL):
            self.assertEqual(dialect.largest_body(MESSAGE), len(dialect.encode(OFFLINED).body))

    def test_a_thousand_chinese_characters(self) -> None:
        """They fit into the default of 4096 bytes, and 1300 do not."""
        for dialect in (SEED, XZLL):
            self.assertTrue(dialect.fits(MESSAGE._replace(content="你" * 1000), 4096))
            self.assertFalse(dialect.fits(MESSAGE._replace(content="你" * 1300), 4096))

    def test_the_very_byte(self) -> None:
        """At the limit it fits, one byte less and it does not, however the text is escaped."""
        for text in ("x" * 900, '"' * 900, "\x01" * 900, "\n\\" * 450, "😀" * 900, ""):
            message = MESSAGE._replace(content=text)
            for dialect in (SEED, XZLL):
                size = dialect.largest_body(message)
                self.assertTrue(dialect.fits(message, size))
                self.assertFalse(dialect.fits(message, size - 1))

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(messages, st.integers(1, 1500), st.sampled_from([SEED, XZLL]))
    def test_the_quick_answer_is_never_wrong(self, message: Message, limit: int, dialect: Dialect) -> None:
        """Whatever the ids, times and characters are, it is the exact answer."""
        message = message._replace(time=0)
        self.assertEqual(dialect.fits(message, limit), dialect.largest_body(message) <= limit)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(messages, st.sampled_from([SEED, XZLL]))
    def test_the_largest_of_a_message(self, message: Message, dialect: Dialect) -> None:
        """The OFFLINE body is never smaller than the send's."""
        self.assertGreaterEqual(dialect.largest_body(message), len(dialect.encode(Sent(message)).body))


class JavaQueueTests(TestCase):
    def test_vectors(self) -> None:
        """Computed with a JVM: key, hash, queue of 4, 8 and 16."""
        for key, value, queues in (
            ("1", 49, (1, 1, 1)),
            ("7318732866797568", -1369708441, (1, 1, 9)),
            ("2001234567890123776", -1617525263, (3, 7, 15)),
            ("1999999999999999999", 1254544913, (1, 1, 1)),
            ("123729024000", 2030074570, (2, 2, 10)),
            ("1988484031183061064", 284877129, (1, 1, 9)),
            ("1988484031183061065", 284877130, (2, 2, 10)),
            ("polygenelubricants", -2147483648, (0, 0, 0)),
        ):
            self.assertEqual(java_hash(key), value)
            self.assertEqual(tuple(java_queue(key, count) for count in (4, 8, 16)), queues)

    def test_utf16_units(self) -> None:
        """Characters outside the first plane are two units: 0xD83D * 31 + 0xDE00."""
        self.assertEqual(java_hash("😀"), 0xD83D * 31 + 0xDE00)
        self.assertEqual(java_hash(""), 0)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(events, st.integers(1, 64))
    def test_in_range(self, event: Event, count: int) -> None:
        """Every event has a queue."""
        for dialect in (SEED, XZLL):
            self.assertIn(java_queue(dialect.queue_key(event), count), range(count))


class EdgeTests(TestCase):
    def test_largest_ids(self) -> None:
        """Ids up to 2**63-1 are decimal strings, so no reader loses digits."""
        body = SEED.encode(Sent(MESSAGE._replace(msg_id=MAX_ID))).body
        self.assertIn(rb"\"msgId\":\"9223372036854775807\"", body)
