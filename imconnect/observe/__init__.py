"""Logs, metrics, and what systemd is told."""
