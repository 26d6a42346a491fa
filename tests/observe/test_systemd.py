"""What systemd hears."""

from __future__ import annotations

import os
import socket

from imconnect.observe.systemd import notify
from tests.support import TestCase


class NotifyTests(TestCase):
    def listen(self, address):
        """A manager's socket at this address."""
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.bind(address)
        manager.settimeout(5)
        return manager

    def test_a_path(self):
        """The state arrives as one datagram."""
        path = os.path.relpath(self.mktemp())
        manager = self.listen(path)
        self.patch(os, "environ", {"NOTIFY_SOCKET": path})
        self.assertTrue(notify("READY=1\nSTATUS=taking clients"))
        self.assertEqual(manager.recv(100), b"READY=1\nSTATUS=taking clients")

    def test_an_abstract_socket(self):
        """A name that begins with @ is no file."""
        name = f"imconnect-test-{os.getpid()}"
        manager = self.listen("\0" + name)
        self.patch(os, "environ", {"NOTIFY_SOCKET": "@" + name})
        self.assertTrue(notify("STOPPING=1"))
        self.assertEqual(manager.recv(100), b"STOPPING=1")

    def test_without_systemd(self):
        """Nothing happens where the variable is not set."""
        self.patch(os, "environ", {})
        self.assertFalse(notify("READY=1"))

    def test_nobody_listens(self):
        """A manager that is gone stops nobody."""
        self.patch(os, "environ", {"NOTIFY_SOCKET": self.mktemp()})
        self.assertFalse(notify("READY=1"))
