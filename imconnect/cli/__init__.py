"""The `imconnect` command."""
