"""Bytes and values: what goes over the socket. No I/O, no Twisted."""
