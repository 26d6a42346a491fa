"""One document of a Nacos server, by the HTTP API that Nacos calls v1. It blocks: give it a thread.

Of nacos-sdk-python only the requests are used (login, tokens, the next server when one is away). Its watcher forks a
process that would outlive ours and keep our locks; its logs hold tokens, its snapshots passwords: all that stays off.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
from collections.abc import Callable, Mapping
from http.client import HTTPException
from threading import Thread
from typing import Any, TypeVar
from urllib.error import HTTPError

import attrs

from imconnect.errors import ConfigError, Unavailable

T = TypeVar("T")

#: Seconds that a server may take to answer. The library has the same for the login.
ANSWER = 3.0
#: Seconds that a server holds a question for changes before it says that there are none.
HOLD = 30.0
#: Bytes of the largest document.
LARGEST = 1 << 20
#: Between the fields of a question for changes, and behind it.
_FIELD, _END = "\x02", "\x01"


@attrs.frozen(kw_only=True)
class Address:
    """Where the document is, and who asks. `servers` are host:port, separated by commas."""

    servers: str
    namespace: str
    group: str
    data_id: str
    username: str = ""
    password: str = attrs.field(default="", repr=False)


def md5_of(text: str) -> str:
    """By which Nacos knows a version of a document."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class NacosDocument:
    """Raises Unavailable where no server answers as it should, ConfigError (keys `nacos.*`) where asking again would
    not help: refused, no such document, no library."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._client: Any = None

    def read(self) -> str:
        """Its text, now."""
        address = self._address
        question = {"dataId": address.data_id, "group": address.group}
        if address.namespace:
            question["tenant"] = address.namespace
        body = self._ask("GET", "/nacos/v1/cs/configs", question, None, ANSWER)
        if len(body) > LARGEST:
            raise ConfigError("nacos.data_id", f"expected a document of at most {LARGEST} bytes, {address.data_id} is larger")
        try:
            return body.decode()
        except UnicodeDecodeError:
            raise ConfigError("nacos.data_id", f"expected a document in UTF-8, {address.data_id} is not") from None

    def differs(self, md5: str) -> bool:
        """Whether it is another version now. Takes up to HOLD seconds to say no."""
        address = self._address
        asked = _FIELD.join((address.data_id, address.group, md5, address.namespace)) + _END
        headers = {"Long-Pulling-Timeout": str(int(HOLD * 1000))}
        data = {"Listening-Configs": asked}
        return bool(self._ask("POST", "/nacos/v1/cs/configs/listener", None, data, HOLD + 10, headers).strip())

    def newer(self, md5: str) -> str | None:
        """Another version's text, as soon as there is one; None where there was none for HOLD seconds."""
        return self.read() if self.differs(md5) else None

    def _ask(
        self, method: str, path: str, query: Any, data: Any, seconds: float, headers: Mapping[str, str] | None = None
    ) -> bytes:
        library = _library()
        known = self._client is not None
        try:
            if self._client is None:
                self._client = self._connect(library)
            answer = self._client._do_sync_req(path, headers, query, data, seconds, method)
            body: bytes = answer.read(LARGEST + 1)
            return body
        except (OSError, HTTPException, library.NacosException, ValueError, TypeError, AttributeError) as error:
            # The last three: the library on an answer that no Nacos gives. The next question logs in afresh.
            self._client = None
            if known and isinstance(error, HTTPError) and error.code in (401, 403):
                return self._ask(method, path, query, data, seconds, headers)
            raise self._meant(error) from None

    def _connect(self, library: Any) -> Any:
        """Logs in where there is a user."""
        address = self._address
        _silence()
        return library.NacosClient(
            address.servers,
            namespace=address.namespace,
            username=address.username,
            password=address.password,
            # Exists, so that no folder is made; nothing is written there.
            logDir=".",
        )

    def _meant(self, error: Exception) -> Exception:
        """In our words. The library's own may have passwords in them."""
        address = self._address
        if not isinstance(error, HTTPError):
            return Unavailable(f"Nacos at {address.servers} does not answer")
        if error.code in (401, 403):
            if address.username:
                expected = f"expected what Nacos at {address.servers} lets in: it refuses user {address.username} or his right to read"
                return ConfigError("nacos.password", f"{expected} {self._where()}")
            return ConfigError("nacos.username", f"expected a user: Nacos at {address.servers} lets nobody in without")
        if error.code == 404:
            return ConfigError("nacos.data_id", f"Nacos at {address.servers} has no {self._where()}")
        return Unavailable(f"Nacos at {address.servers} answers HTTP {error.code}")

    def _where(self) -> str:
        address = self._address
        return f"{address.data_id} (group {address.group}, namespace {address.namespace or 'public'})"


def in_time(call: Callable[[], T], seconds: float) -> T:
    """What it returns or raises; Unavailable where it takes longer. For a start, when there is no reactor yet: the
    library's own deadlines do not see an answer that trickles."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run, name="nacos", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise Unavailable(f"no answer within {seconds:g} s")
    return results[0]


def _library() -> Any:
    try:
        return importlib.import_module("nacos")
    except ImportError:
        raise ConfigError(
            "nacos.server_addr", "needs a library that is not installed: pip install 'imconnect[nacos]'"
        ) from None


def _silence() -> None:
    """It logs tokens, and would open a file in the home directory for that."""
    logger = logging.getLogger("nacos")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.propagate = False
