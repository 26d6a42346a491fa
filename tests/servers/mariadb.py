"""A private MariaDB on loopback, for development and tests.

`python -m tests.servers.mariadb --help`. Where it is missing and we are root, Debian's package is installed. Blocking
code: in a test with a running reactor call it through `deferToThread`.
"""

from __future__ import annotations

import argparse
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.private import CannotRun, PrivateServer, from_debian, serve, shared_server

START_TIMEOUT = 90.0
USER, DATABASE = "imconnect", "imconnect"
#: Settings that the promises rest on, as an operator should have them, and a small footprint.
SETTINGS = {
    "innodb_flush_log_at_trx_commit": "1",
    "sync_binlog": "1",
    "character_set_server": "utf8mb4",
    "innodb_buffer_pool_size": "64M",
    "skip_name_resolve": "1",
    "performance_schema": "0",
}


def ensure_mariadb() -> str:
    """The server's program, from Debian where it is missing and we are root. Raises CannotRun."""
    return from_debian(_program, "MariaDB", "mariadb-server")


def _program() -> str | None:
    return shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class MariaDb(PrivateServer):
    """One server with one empty database. Its data stays the same over restarts."""

    what = "MariaDB"

    def __init__(self, folder: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, port)
        self.password = secrets.token_hex(8)
        #: Options of the server; what is changed here counts from the next start.
        self.settings = {**SETTINGS, **(settings or {})}

    def url(self, database: str = DATABASE) -> str:
        """For `business.database`."""
        return f"mysql+pymysql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self, timeout: float = START_TIMEOUT) -> MariaDb:
        """Returns once it answers. Raises CannotRun."""
        self.run(timeout)
        return self

    def command(self) -> Sequence[str]:
        program = ensure_mariadb()
        data = self.folder / "data"
        if not data.is_dir():
            self._initialise(data)
        return [
            program,
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={self.socket}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--pid-file={self.folder}/mariadbd.pid",
            f"--init-file={self._init_file()}",
            *self._options(),
            *self._as_user(),
        ]

    def answers(self) -> bool:
        import pymysql

        try:
            self.query("SELECT 1")
        except (pymysql.MySQLError, OSError):
            return False
        return True

    def ended(self) -> None:
        Path(self.socket).unlink(missing_ok=True)  # a killed one leaves it

    @property
    def socket(self) -> str:
        """A short path: those of UNIX sockets end at 107 characters."""
        return f"{tempfile.gettempdir()}/imconnect-mariadb-{self.port}.sock"

    def create_database(self, name: str) -> str:
        """Another empty database; -> its URL."""
        self.query(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        return self.url(name)

    def query(self, statement: str, database: str = DATABASE) -> list[tuple[object, ...]]:
        """One statement, on a connection of its own."""
        import pymysql

        connection = pymysql.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, database=database, autocommit=True
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def _initialise(self, data: Path) -> None:
        options = [*self._options(), *self._as_user()]
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db", *options]
        if os.geteuid() == 0:
            shutil.chown(self.folder, "mysql")
        try:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        except subprocess.CalledProcessError as error:
            raise CannotRun(f"mariadb-install-db failed: {error.stderr.decode(errors='replace')[-300:]}") from error

    def _options(self) -> list[str]:
        return [f"--{name.replace('_', '-')}={value}" for name, value in self.settings.items()]

    def _init_file(self) -> Path:
        """Runs at every start: the account has the password of this object."""
        path = self.folder / "init.sql"
        path.write_text(
            f"CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4;\n"
            f"CREATE OR REPLACE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1';\n"
        )
        path.chmod(0o644)
        return path

    def _as_user(self) -> list[str]:
        """The server refuses to run as root."""
        if os.geteuid() != 0:
            return []
        try:
            pwd.getpwnam("mysql")
        except KeyError:
            raise CannotRun("there is no user mysql: install mariadb-server") from None
        return ["--user=mysql"]


def shared() -> MariaDb:
    """The one server of this test process: started at the first call, ended with the process. Raises CannotRun."""
    return shared_server(MariaDb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one until stdin closes or a signal comes."""
    parser = argparse.ArgumentParser(prog="mariadb", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="the server's data")
    parser.add_argument("--port", type=int, default=3307, help="0: any free one (default: %(default)s)")
    parser.add_argument("--password", default="imconnect", help="of the account imconnect (default: %(default)s)")
    given = parser.parse_args(arguments)
    server = MariaDb(given.dir.resolve(), port=given.port)
    server.password = given.password
    return serve(server, server.url)


if __name__ == "__main__":
    sys.exit(main())
