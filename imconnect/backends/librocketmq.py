"""Loads rocketmq-client-python 2.0.0 on the one librocketmq that a registry has: PyPI's rocketmq 0.4.4, of 2019.

That library lacks four functions which the Python package looks up when it is imported. We use none of them, so they
are supplied as ones that say what they are.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import imconnect
from imconnect.errors import ConfigError

DISTRIBUTION, VERSION = "rocketmq-client-python", "2.0.0"
REMEDY = "run `make librocketmq` (x86_64 only), or set rocketmq.transport: native"
_KEY = "rocketmq.library"

#: Where `make librocketmq` puts it, below the checkout or the working directory.
_PLACE = Path(".cache", "native", "rocketmq", "librocketmq.so")
_LATER = (
    "CreateOrderlyProducer",
    "SendMessageOrderlyByShardingKey",
    "CreateTransactionProducer",
    "SendMessageTransaction",
)
_NEEDED = (
    "CreateProducer", "StartProducer", "ShutdownProducer", "SetProducerInstanceName", "SetProducerLogLevel",
    "SetProducerCompressMsgBodyOverHowmuch", "CreateMessage", "DestroyMessage", "SetByteMessageBody",
    "SendMessageOrderly", "GetLatestErrorMessage",
)  # fmt: skip

#: (how many queues there are, message, what the sender passed) -> index of the queue
SELECTOR = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class Native(NamedTuple):
    """The package's modules, on a library that works."""

    path: str
    client: Any  # rocketmq.client
    ffi: Any  # rocketmq.ffi
    exceptions: Any  # rocketmq.exceptions

    @property
    def functions(self) -> Any:
        """The library itself."""
        return self.ffi.dll


def find(configured: str) -> str:
    """The path that is configured, else where `make librocketmq` or the system has it. Raises ConfigError."""
    if configured:
        if not Path(configured).is_file():
            raise ConfigError(_KEY, f"expected a file, got {configured!r}: {REMEDY}")
        return str(Path(configured).resolve())
    for folder in (Path(imconnect.__file__).parents[1], Path.cwd()):
        if (folder / _PLACE).is_file():
            return str(folder / _PLACE)
    found = ctypes.util.find_library("rocketmq")
    if found is None:
        raise ConfigError(_KEY, f"expected the path of librocketmq.so, found none: {REMEDY}")
    return found


def load(configured: str, home: str) -> Native:
    """Find, load and try it. Raises ConfigError, in one line with the remedy.

    `home`: a folder for the library's own log files (it takes `$HOME/logs`, and does not start where that is not
    writable); those of dead processes are removed.
    """
    try:
        version = importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    if version != VERSION:
        got = f"found {version}" if version else "found none"
        raise ConfigError("rocketmq.transport", f"client-python needs {DISTRIBUTION} {VERSION}, {got}: {REMEDY}")
    path = find(configured)
    os.makedirs(home, exist_ok=True)
    _sweep(Path(home, "logs", "rocketmq-cpp"))
    try:
        library = _Library(path)
        missing = [name for name in _NEEDED if not hasattr(library, name)]
        if missing:
            raise ConfigError(_KEY, f"{path} lacks {', '.join(missing)}: {REMEDY}")
        with _instead_of_its_own(library):
            modules = [importlib.import_module(f"rocketmq.{name}") for name in ("client", "ffi", "exceptions")]
    except (OSError, ImportError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(_KEY, f"{path} cannot be used ({reason}): {REMEDY}") from None
    native = Native(path, *modules)
    _try(native)
    return native


@contextmanager
def at_home(home: str) -> Iterator[None]:
    """While the library reads it, HOME is this folder."""
    before = os.environ.get("HOME")
    os.environ["HOME"] = home
    try:
        yield
    finally:
        if before is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = before


class _Library(ctypes.CDLL):
    """The functions of a library, those it lacks included."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name not in _LATER:
                raise
        lacking = _Lacking(name)
        setattr(self, name, lacking)
        return lacking


class _Lacking:
    """Stands for a function that this library is too old for."""

    argtypes: Any = None
    restype: Any = None

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_: object) -> Any:
        raise NotImplementedError(f"this librocketmq has no {self._name}")


class _Loader:
    """What the package finds in place of `ctypes.cdll`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def LoadLibrary(self, _name: str) -> ctypes.CDLL:
        return self._library


@contextmanager
def _instead_of_its_own(library: _Library) -> Iterator[None]:
    """The package looks for its library while it is imported: it finds this one."""
    find_library, loader = ctypes.util.find_library, ctypes.cdll
    ctypes.util.find_library = lambda name: name
    ctypes.cdll = _Loader(library)  # type: ignore[assignment]
    try:
        yield
    finally:
        ctypes.util.find_library, ctypes.cdll = find_library, loader


def _try(native: Native) -> None:
    """A library that loads may still be of another kind."""
    functions = native.functions
    functions.SendMessageOrderly.argtypes = [
        ctypes.c_void_p, ctypes.c_void_p, SELECTOR, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p,
    ]  # fmt: skip
    functions.SendMessageOrderly.restype = ctypes.c_int
    functions.SetProducerCompressMsgBodyOverHowmuch.argtypes = [ctypes.c_void_p, ctypes.c_int]
    handle = functions.CreateMessage(b"imconnect")
    if not handle or functions.GetMessageTopic(handle) != b"imconnect":
        raise ConfigError(_KEY, f"{native.path} is no librocketmq that works: {REMEDY}")
    functions.DestroyMessage(handle)


def _sweep(folder: Path) -> None:
    """One log file per process, and nobody else removes them."""
    if not folder.is_dir():
        return
    for file in folder.iterdir():
        pid = file.name.partition("_")[0].partition(".")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            file.unlink(missing_ok=True)
