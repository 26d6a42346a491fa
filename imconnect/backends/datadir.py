"""The folder that holds what must not be lost: made, checked, and locked for one process."""

from __future__ import annotations

import errno
import fcntl
import os

from imconnect.errors import ConfigError

LOCK_NAME = "imconnect.lock"


class DataDir:
    """Takes the folder for this process, until `release()` or the end of the process and its forked children.

    The lock is a `flock`: it belongs to the open file, not to the process, so it survives the forks of `twistd`.
    Raises ConfigError (key `data_dir`) where the folder cannot be made, written, or is taken.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._lock: int | None = None
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            lock = os.open(self.file(LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        try:
            self._take(lock)
            self._lock = lock
            self.write_pid()
        except OSError as error:
            os.close(lock)
            raise _unwritable(self.path, error) from error
        except ConfigError:
            os.close(lock)
            raise

    def _take(self, lock: int) -> None:
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise ConfigError("data_dir", f"{self.path} is in use by another process (pid {pid})") from error

    def file(self, name: str) -> str:
        """The full path of a file in the folder."""
        return os.path.join(self.path, name)

    def write_pid(self) -> None:
        """Write this process's id into the lock file, for people. Again after a fork: the id is another one then."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Give the folder back. The lock file stays: removing it would let two processes in. May be called twice."""
        if self._lock is not None:
            lock, self._lock = self._lock, None
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)


def _unwritable(path: str, error: OSError) -> ConfigError:
    return ConfigError("data_dir", f"expected a folder that can be written and locked, {path}: {error.strerror or error}")
