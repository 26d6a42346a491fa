"""Implementations of the ports, `<port>_<technology>`, imported by name and late."""
