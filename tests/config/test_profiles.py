"""Which row of the table comes from where, and what makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from imconnect.business.rules import Terms
from imconnect.config.profiles import dialect_of, profile_of, serves_java, terms_of
from imconnect.config.rules import check_rules
from imconnect.config.structure import structure
from imconnect.config.tree import Config, ProfileRows, Rocketmq
from imconnect.core.settings import SEED, XZLL
from imconnect.errors import ConfigError
from imconnect.events import seed, xzll
from imconnect.events.dialect import Dialect
from imconnect.events.values import Acknowledged, Event, Sent, Withdrawn
from imconnect.model import Message
from tests.support import TestCase

PAGE = (Path(__file__).parent.parent.parent / "docs" / "profiles.md").read_text(encoding="utf-8")
EVENTS: tuple[Event, ...] = (
    Sent(Message(77, bytes(16), 1, 2, 1, "hi", 5, 6)), Acknowledged(77, b"", 1, 2, 3, 7), Withdrawn(77, b"", 1, 2, 8),
)  # fmt: skip
#: Row -> what it changes: in the dialect, in the profile; as the seed has it, as xzll has it.
ROWS: dict[str, tuple[str, Any, Any]] = {
    "event_types": ("types", "names", "numbers"),
    "create_time": ("create_time", False, True),
    "tags": ("tags", True, False),
    "keys": ("keys", True, False),
    "offline_status": ("offline_status", 1, 2),
    "queue_by": ("queue_by_chat", "chat", "message"),
    "success_code": ("success", 0, 1),
    "error_codes": ("codes", "seed", "xzll"),
    "id_epoch": ("epoch", 1704067200000, 1288834974657),
    "server_ack": ("stored_by_gateway", "gateway", "business"),
    "client_ack": ("receipts_by_gateway", "gateway", "business"),
    "offline_events": ("offline_always", "every", "java"),
    "java_grpc": ("", False, True),
}


def written(dialect: Dialect) -> list[Any]:
    """What a dialect makes of some events."""
    return [(dialect.encode(event), dialect.queue_key(event)) for event in EVENTS]


class ProfileTests(TestCase):
    def test_the_profiles_as_they_are(self) -> None:
        """Nothing overridden."""
        one, two = Config(), Config(profile="xzll")
        self.assertEqual((dialect_of(one), dialect_of(two)), (seed.SEED, xzll.XZLL))
        self.assertEqual((profile_of(one), profile_of(two)), (SEED, XZLL))
        self.assertEqual((serves_java(one), serves_java(two)), (False, True))
        self.assertEqual((terms_of(one), terms_of(two)), (Terms(), Terms(always_tell=True, tell_stored=True)))

    def test_each_row_by_its_own_key(self) -> None:
        """It takes the other profile's value, and nothing else changes."""
        self.assertEqual([*ROWS], [field.name for field in attrs.fields(ProfileRows)])
        for row, (name, of_seed, of_xzll) in ROWS.items():
            for profile, other, value in (("seed", "xzll", of_xzll), ("xzll", "seed", of_seed)):
                config = structure(Config, {"profile": profile, "profile_rows": {row: value}})
                plain, theirs = structure(Config, {"profile": profile}), structure(Config, {"profile": other})
                changed = [
                    (field.name, getattr(got, field.name))
                    for got, was in ((dialect_of(config), dialect_of(plain)), (profile_of(config), profile_of(plain)))
                    for field in attrs.fields(type(got))
                    if field.init and getattr(got, field.name) != getattr(was, field.name)
                ]
                source: Any = dialect_of(theirs) if hasattr(dialect_of(theirs), name) else profile_of(theirs)
                self.assertEqual(changed, [(name, getattr(source, name))] if name else [], row)
                self.assertEqual(serves_java(config), serves_java(theirs if row == "java_grpc" else plain))

    def test_what_the_profile_says_may_be_said_again(self) -> None:
        """A row with the profile's own value changes nothing."""
        for at, profile in ((1, "seed"), (2, "xzll")):
            rows = {row: values[at] for row, values in ROWS.items()}
            config = structure(Config, {"profile": profile, "profile_rows": rows})
            plain = structure(Config, {"profile": profile})
            self.assertEqual((dialect_of(config), profile_of(config)), (dialect_of(plain), profile_of(plain)))
            self.assertEqual(written(dialect_of(config)), written(dialect_of(plain)))

    def test_one_profile_with_every_row_of_the_other(self) -> None:
        """Is the other one, but for the topic, which has a key of its own, and the order of the members."""
        rows = {row: values[2] for row, values in ROWS.items()}
        config = structure(Config, {"profile_rows": rows, "rocketmq": {"topic": xzll.XZLL.topic}})
        self.assertEqual(attrs.evolve(dialect_of(config), members=xzll.XZLL.members), xzll.XZLL)
        self.assertEqual(profile_of(config), XZLL)

    def test_the_topic_has_a_key_of_its_own(self) -> None:
        """rocketmq.topic."""
        self.assertEqual(dialect_of(Config(profile="xzll", rocketmq=Rocketmq(topic="OWN"))).topic, "OWN")


class NonsenseTests(TestCase):
    """What no row may be, and what two rows may not be together."""

    def refused(self, rows: dict[str, object], key: str, profile: str = "seed") -> str:
        def load() -> None:
            check_rules(structure(Config, {"profile": profile, "profile_rows": rows}))

        error = self.assertRaises(ConfigError, load)
        self.assertEqual(error.key, f"profile_rows.{key}")
        message: str = error.message
        return message

    def test_values(self) -> None:
        """Each row takes the values of the two profiles, or nothing."""
        values: tuple[object, ...] = ("nonsense", 7, [], {})
        for row in ROWS:
            for value in values:
                if row != "id_epoch" or value != 7:
                    self.refused({row: value}, row)
            check_rules(structure(Config, {"profile_rows": {row: None}}))
        self.assertIn("did you mean server_ack", self.refused({"server_akc": "gateway"}, "server_akc"))

    def test_a_success_that_is_a_failure(self) -> None:
        """0 is a failure among Java's codes: whichever of the two keys was given is named."""
        self.assertIn("expected seed", self.refused({"error_codes": "xzll"}, "error_codes"))
        self.assertIn("expected 1", self.refused({"success_code": 0}, "success_code", "xzll"))
        self.refused({"success_code": 0, "error_codes": "xzll"}, "success_code")
        for good in ({"success_code": 1, "error_codes": "xzll"}, {"success_code": 1}):
            check_rules(structure(Config, {"profile_rows": good}))

    def test_an_epoch_that_has_not_come(self) -> None:
        """Nor one in seconds: ids would be over in a moment, or used up."""
        self.refused({"id_epoch": 9_999_999_999_999}, "id_epoch")
        self.refused({"id_epoch": 0}, "id_epoch")
        self.refused({"id_epoch": -5}, "id_epoch")


class PageTests(TestCase):
    """docs/profiles.md."""

    def test_has_every_row_with_both_values(self) -> None:
        """The table says what the code says."""
        for row, (_, of_seed, of_xzll) in ROWS.items():
            words = [{True: "yes", False: "no"}[v] if isinstance(v, bool) else str(v) for v in (of_seed, of_xzll)]
            self.assertIn(f"| `profile_rows.{row}` | {words[0]} | {words[1]} |", PAGE)
        for name, of_seed, of_xzll in (
            ("rocketmq.topic", seed.SEED.topic, xzll.XZLL.topic), ("grpc.port", 9090, 9091),
        ):  # fmt: skip
            self.assertIn(f"| `{name}` | {of_seed} | {of_xzll} |", PAGE)
