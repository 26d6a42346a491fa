"""What this process shows to others of ours, and asks of them, on gRPC."""

from __future__ import annotations

from pathlib import Path

from imconnect.backends.grpc_channel import Credentials
from imconnect.config import Config
from imconnect.errors import ConfigError


def credentials_of(config: Config) -> Credentials:
    """What this process shows when it calls others. Raises ConfigError for a file that cannot be read."""
    return Credentials(token=config.grpc.token, tls=tls_of(config))


def tls_of(config: Config) -> tuple[bytes, bytes, bytes] | None:
    """Authority, certificate and key; None where they are not configured. Raises ConfigError."""
    tls = config.grpc.tls
    if not tls.ca:
        return None
    return _read("ca", tls.ca), _read("certificate", tls.certificate), _read("key", tls.key)


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"grpc.tls.{name}", f"expected a PEM file, {path}: {error.strerror}") from None
