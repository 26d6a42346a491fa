"""Who may call: everybody, whoever has the token, or whoever has a certificate of the same authority."""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import Any

import grpc

#: Under this name a caller sends its token (`authorization: Bearer TOKEN`).
METADATA = "authorization"


class Token(grpc.ServerInterceptor):
    """Refuses a call of our own services without the token. The Java services know of none: theirs is open to them."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    def intercept_service(self, continuation: Callable[[Any], Any], details: grpc.HandlerCallDetails) -> Any:
        given = dict(details.invocation_metadata or ()).get(METADATA, "")
        if not details.method.startswith("/imconnect.") or compare_digest(str(given).encode(), self._expected):
            return continuation(details)
        return grpc.unary_unary_rpc_method_handler(_refuse)


def _refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "grpc.token is missing or another one")
    raise AssertionError("abort raises")


def credentials(ca: bytes, certificate: bytes, key: bytes) -> grpc.ServerCredentials:
    """Mutual TLS: a caller without a certificate of this authority is not let in."""
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=ca, require_client_auth=True)
