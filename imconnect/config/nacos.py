"""The layer that comes from Nacos: asked for at the start, and its last good copy for when no Nacos answers."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from imconnect.backends.nacos import Address, NacosDocument, in_time
from imconnect.config import foreign
from imconnect.config.foreign import Document
from imconnect.config.layers import Layers, Loaded, Watched
from imconnect.config.tree import Nacos
from imconnect.errors import ConfigError, Unavailable

#: Seconds that Nacos may take at the start, all its servers together.
START = 10.0
GROUP, DATA_ID = "DEFAULT_GROUP", "im-connect-go.yaml"


def address_of(nacos: Nacos) -> Address:
    """With what an empty key stands for."""
    return Address(
        servers=nacos.server_addr,
        namespace=nacos.namespace,
        group=nacos.group or GROUP,
        data_id=nacos.data_id or DATA_ID,
        username=nacos.username,
        password=nacos.password,
    )


def load(layers: Layers, nacos: Nacos, folder: str, copy: str, keep: bool) -> Loaded:
    """The configuration with the document in it. Raises ConfigError.

    `folder` has, or gets, its last good copy under the name `copy`; without `keep` nothing is written.
    """
    if bool(nacos.username) != bool(nacos.password):
        missing = "password" if nacos.username else "username"
        raise ConfigError(f"nacos.{missing}", "expected a value: username and password go together")
    address = address_of(nacos)
    path = os.path.join(folder, copy)
    notes: list[str] = []
    try:
        document = named(in_time(NacosDocument(address).read, START), address)
    except Unavailable as error:
        text, made = _last(path, address, error)
        document = foreign.read(text, path)
        notes.append(f"{error}: the configuration is the last good copy, {path}, of {made}")
        keep = False
    loaded = layers.loaded(document)
    if keep:
        notes += keep_copy(path, document, address)
    notes += of_no_use(document.ignored, document)
    return loaded._replace(watched=Watched(document, layers, path), notes=tuple(notes))


def named(text: str, address: Address) -> Document:
    """As it was read from there. Raises ConfigError."""
    return foreign.read(text, f"nacos {address.data_id}")


def of_no_use(keys: tuple[str, ...], document: Document) -> list[str]:
    """What to say of them: nothing, or one line."""
    return [f"{document.name}: of no use here, they are the Go gateway's: {', '.join(keys)}"] if keys else []


def keep_copy(path: str, document: Document, address: Address) -> list[str]:
    """Write the last good copy, as a whole or not at all, for this user only. What to say where that fails."""
    draft = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        Path(draft).unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline="") as file:
            file.write(_head(address) + document.text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        return [f"{path}: no copy of the configuration can be kept: {error.strerror or error}"]
    return []


def _head(address: Address) -> str:
    """What it is a copy of: another document's must not be taken for it."""
    return f"# nacos: {address.data_id}, group {address.group}, namespace {address.namespace or 'public'}\n"


def _last(path: str, address: Address, error: Unavailable) -> tuple[str, str]:
    """The copy and its time."""
    try:
        text = Path(path).read_bytes().decode()
        made = datetime.fromtimestamp(os.stat(path).st_mtime, UTC).isoformat(timespec="seconds")
    except (OSError, UnicodeDecodeError) as why:
        reason = "there is no earlier copy" if isinstance(why, FileNotFoundError) else f"the copy cannot be read: {why}"
        raise ConfigError("nacos.server_addr", f"expected a server that answers: {error}; {reason} ({path})") from None
    head = _head(address)
    if not text.startswith(head):
        raise ConfigError("nacos.server_addr", f"expected a server that answers: {error}; {path} is a copy of another document")
    return text[len(head) :], made
