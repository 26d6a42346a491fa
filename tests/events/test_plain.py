"""Events as plain values."""

from __future__ import annotations

import json

from hypothesis import given, settings

from imconnect.events.decode import MalformedEvent
from imconnect.events.plain import made, plain
from imconnect.events.values import Event, Sent
from imconnect.model import Message
from tests.events.strategies import events
from tests.support import TestCase

MESSAGE = Message(7, bytes(range(16)), 1001, 1002, 1, "hello, 世界", 5, 6)


class PlainTests(TestCase):
    @settings(max_examples=200, deadline=None)
    @given(events)
    def test_round_trip(self, event: Event) -> None:
        """What was written as JSON is read as the same event."""
        self.assertEqual(made(json.loads(json.dumps(plain(event)))), event)

    def test_for_people(self) -> None:
        """The kind, then the fields by their names."""
        self.assertEqual(
            plain(Sent(MESSAGE)),
            {
                "event": "Sent", "msg_id": 7, "client_msg_id": bytes(range(16)).hex(), "sender": 1001, "receiver": 1002,
                "format": 1, "content": "hello, 世界", "time": 5, "created": 6,
            },
        )  # fmt: skip

    def test_malformed(self) -> None:
        """Whatever is missing or of another type is named; no value is quoted."""
        good = plain(Sent(MESSAGE))
        for change, words in (
            ({"event": "secret"}, "event"), ({"event": None}, "event"), ({"content": 5}, "content"),
            ({"msg_id": "secret"}, "msg_id"), ({"msg_id": True}, "msg_id"), ({"client_msg_id": "secret"}, "client_msg_id"),
            ({"client_msg_id": 7}, "client_msg_id"), ({"time": None}, "time"),
        ):  # fmt: skip
            error = self.assertRaises(MalformedEvent, made, {**good, **change})
            self.assertIn(words, error.reason)
            self.assertNotIn("secret", error.reason)
        for nothing in (None, [], "x", 5):
            self.assertRaises(MalformedEvent, made, nothing)
