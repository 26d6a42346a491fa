"""Channels to other processes of ours, over gRPC: options, credentials, and how a call ended in words."""

from __future__ import annotations

from typing import Any

import attrs
import grpc

_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 65_536),
    # A proxy of the environment is meant for the web.
    ("grpc.enable_http_proxy", 0),
)
#: Only these say something that does not differ from call to call.
_TELLING = ("FAILED_PRECONDITION", "INVALID_ARGUMENT", "UNIMPLEMENTED", "UNAUTHENTICATED")


@attrs.frozen(kw_only=True)
class Credentials:
    """What we show when we call. Nothing: plain text."""

    token: str = attrs.field(default="", repr=False)
    #: Authority, certificate and key in PEM.
    tls: tuple[bytes, bytes, bytes] | None = attrs.field(default=None, repr=False)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """To be sent with each call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()


def make_channel(address: str, credentials: Credentials) -> grpc.Channel:
    """Connects when it is first used, and again by itself."""
    if credentials.tls is None:
        return grpc.insecure_channel(address, options=_OPTIONS)
    ca, certificate, key = credentials.tls
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate), options=_OPTIONS)


def why(error: Any) -> str:
    """A call that failed, in words that do not differ from time to time."""
    if isinstance(error, grpc.FutureCancelledError):
        return "CANCELLED"
    code, details = str(error.code().name), str(error.details() or "")
    return f"{code}: {details[:200]!r}" if code in _TELLING else code
