"""Identity as the client claims it."""

from __future__ import annotations

from imconnect.backends.auth_open import OpenAuthenticator
from imconnect.errors import CommandError
from imconnect.model import Identity
from tests.support import TestCase


class OpenAuthenticatorTests(TestCase):
    def ask(self, headers=None, query=None):
        return OpenAuthenticator().authenticate(headers or {}, query or {})

    def refused(self, headers=None, query=None):
        """The reason of the refusal."""
        error = self.failureResultOf(self.ask(headers, query), CommandError).value
        self.assertEqual(error.code, 401)
        return error.message

    def test_header(self):
        """Header `uid`, before the query."""
        identity = self.successResultOf(self.ask({"uid": "1001"}, {"userId": ["7"]}))
        self.assertEqual(identity, Identity(1001, ""))

    def test_query(self):
        """Query `userId` where there is no header, or an empty one."""
        self.assertEqual(self.successResultOf(self.ask({}, {"userId": ["1002"]})).user, 1002)
        self.assertEqual(self.successResultOf(self.ask({"uid": ""}, {"userId": ["1002"]})).user, 1002)

    def test_device(self):
        """From the header (lower-cased by then), else from the query."""
        query = {"deviceId": ["tablet"]}
        self.assertEqual(self.successResultOf(self.ask({"uid": "1", "deviceid": "phone"}, query)).device, "phone")
        self.assertEqual(self.successResultOf(self.ask({"uid": "1"}, query)).device, "tablet")

    def test_bounds_of_the_id(self):
        """1 and 2^63-1 are users, 0 and 2^63 are not."""
        for good in ("1", "9223372036854775807", "01"):
            self.assertEqual(self.successResultOf(self.ask({"uid": good})).user, int(good))
        for bad in ("0", "9223372036854775808", "1" * 5000):
            self.assertIn("2^63-1", self.refused({"uid": bad}))

    def test_what_is_no_decimal_number(self):
        """Signs, blanks, two headers in one, other digits and letters."""
        for bad in ("-1", "+1", " 1", "1 ", "1, 2", "1_0", "0x1", "abc", "\u0661", "\u00b2", "1.0"):
            self.assertIn("decimal", self.refused({"uid": bad}))

    def test_nobody(self):
        """No claim at all."""
        self.assertIn("missing", self.refused())
        self.assertIn("missing", self.refused({}, {"userId": []}))

    def test_length_of_the_device(self):
        """128 characters are a device, 129 are not."""
        self.successResultOf(self.ask({"uid": "1", "deviceid": "d" * 128}))
        self.assertIn("deviceId", self.refused({"uid": "1", "deviceid": "d" * 129}))
