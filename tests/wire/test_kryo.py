"""The vectors of contract/gateway.md 6.1."""

from __future__ import annotations

from imconnect.wire.kryo import encode
from tests.support import TestCase


class KryoTests(TestCase):
    def test_vectors(self) -> None:
        """Each form of a string: empty, one character, short ASCII, long, not ASCII."""
        vectors = {
            "": "0381",
            "5": "038235",
            "10001": "0331303030b1",
            "123729024000": "033132333732393032343030b0",
            "a" * 33: "03a2" + "61" * 33,
            "b" * 100: "03e501" + "62" * 100,
            "é": "0382c3a9",
            "中文": "0383e4b8ade69687",
        }
        self.assertEqual(vectors, {text: encode(text).hex() for text in vectors})

    def test_beyond_the_first_plane(self) -> None:
        """A character of two UTF-16 units is written as both of them."""
        self.assertEqual("0383eda0bdedb880", encode("\U0001f600").hex())
