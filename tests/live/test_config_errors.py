"""Mistakes of whoever starts it: one line on standard error that names the key, status 1, and nothing started."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import yaml
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults

from tests.live.case import LiveTestCase
from tests.live.processes import HOST, GatewayProcess, Outcome, free_port

_PUBLIC = ("--set", "auth.allow_open_on_network=true")


class RefusalTestCase(LiveTestCase):
    """What a refusal looks like."""

    async def outcomes(self, commands: Sequence[tuple[Sequence[str], dict[str, str]]]) -> list[Outcome]:
        """Commands run to their ends, two at a time."""
        turn = DeferredSemaphore(2)
        return list(await gatherResults([turn.run(self.begun, command, env) for command, env in commands]))

    def begun(self, command: Sequence[str], env: dict[str, str]) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(self.outcome(command, env=env, name=f"command-{uuid.uuid4().hex}"))

    def is_one_line(self, outcome: Outcome, named: str, *more: str) -> None:
        """Status 1, nothing on standard output, a line that begins with what it names."""
        self.assertEqual((outcome.status, outcome.out), (1, ""), outcome)
        self.assertEqual(outcome.err.count("\n"), 1, outcome.err)
        self.assertTrue(outcome.err.startswith(f"{named}: "), outcome.err)
        for words in more:
            self.assertIn(words, outcome.err)


class RefusedTests(RefusalTestCase):
    async def together(self, cases: Sequence[tuple[Sequence[str], str, dict[str, str]]]) -> None:
        """Each command fails as it should."""
        outcomes = await self.outcomes([(command, env) for command, _, env in cases])
        for outcome, (_, named, _) in zip(outcomes, cases, strict=True):
            self.is_one_line(outcome, named)

    async def test_values(self) -> None:
        """Unknown keys, wrong types, values out of range, and rules between keys; from --set and the environment."""
        line = self.gateway().command
        cases: list[tuple[list[str], str, dict[str, str]]] = [
            ([*line, "--set", f"{key}={value}"], key, {})
            for key, value in (
                ("server.prt", "1"),
                ("server.port", "ten"),
                ("server.port", "65536"),
                ("business.mode", "off"),
            )
        ]
        cases.append((line, "limits.burst", {"IMCONNECT__LIMITS__BURST": "many"}))
        cases.append(([*line, "--set", "server.host=0.0.0.0"], "auth.mode", {}))
        cases.append(([*line, "--set", "server.host=no.such.invalid", *_PUBLIC], "server.host", {}))
        cases.append(([*line, "--set", "nonsense"], "--set", {}))
        cases.append(([*line, "--nonsense"], "command line", {}))
        await self.together(cases)
        self.assertFalse((self.folder / "var" / "outbox.db").exists())

    async def test_files(self) -> None:
        """A file that is missing, no YAML, no mapping, or has a wrong key; and an environment that has none."""
        line = self.gateway().command
        texts = {"bad.yaml": "server: [\n", "list.yaml": "- 1\n", "key.yaml": "server: {prot: 1}\n"}
        for name, text in texts.items():
            (self.folder / name).write_text(text)
        cases: list[tuple[list[str], str, dict[str, str]]] = [
            ([*line, "--config", "missing.yaml"], "missing.yaml", {}),
            ([*line, "--config", "bad.yaml"], "bad.yaml:2", {}),
            ([*line, "--config", "list.yaml"], "list.yaml", {}),
            ([*line, "--config", "key.yaml"], "server.prot", {}),
            ([*line, "--env", "moon"], "--env", {}),
        ]
        await self.together(cases)

    async def test_ports_in_use(self) -> None:
        """The line names key, host and port; of either port."""
        gateway = self.gateway()
        taken = {"server.port": free_port(), "http.port": free_port()}
        with socket.create_server((HOST, taken["server.port"])), socket.create_server((HOST, taken["http.port"])):
            commands = [
                [*gateway.command, "--set", f"{key}={port}", "--set", f"data_dir=other-{key}"]
                for key, port in taken.items()
            ]
            outcomes = await self.outcomes([(command, {}) for command in commands])
        for outcome, (key, port) in zip(outcomes, taken.items(), strict=True):
            self.is_one_line(outcome, key, f"{HOST}:{port}", "in use")

    async def test_data_dir(self) -> None:
        """It cannot be made, or another gateway has it: that one goes on undisturbed."""
        gateway = await self.started()
        (self.folder / "file").write_text("")
        below, taken = await self.outcomes(
            [
                (gateway.command_line(data_dir="file/below", server__port=0, http__port=0), {}),
                (gateway.command_line(server__port=0, http__port=0), {}),
            ]
        )
        self.is_one_line(below, "data_dir", str(self.folder / "file" / "below"))
        self.is_one_line(taken, "data_dir", str(gateway.data_dir), f"pid {gateway.pid}")
        ann = await self.online(gateway, 1001)
        await ann.send(1001, "undisturbed")
        await gateway.kill9()
        # A lock that died with its owner is nobody's.
        await gateway.start()

    async def test_imbusiness_without_a_queue(self) -> None:
        """It says what it needs."""
        twistd, *more = self.gateway().launcher
        command = [*self.gateway().command_line((twistd, *more))]
        command[command.index("imconnect")] = "imbusiness"
        self.is_one_line(await self.outcome(command), "rocketmq.server_addr", "RocketMQ")
        self.assertFalse((self.folder / "var").exists())

    async def test_check(self) -> None:
        """Prints what would be used, secrets masked, starts nothing; a mistake is the same one line."""
        gateway = self.gateway()
        secrets = ("--set", "business.database=mysql+pymysql://im:hunter2@db/im", "--set", "auth.jwt_secret=hunter2")
        outcome = await self.outcome([*gateway.command, *secrets, "--check"])
        self.assertEqual((outcome.status, outcome.err), (0, ""))
        self.assertNotIn("hunter2", outcome.out)
        printed = yaml.safe_load(outcome.out)
        self.assertEqual(printed["server"]["port"], gateway.port)
        self.assertIn("********@db/im", printed["business"]["database"])
        self.assertFalse((self.folder / "var").exists())
        wrong = await self.outcome([*gateway.command, "--check", "--set", "server.port=x"])
        self.is_one_line(wrong, "server.port")


class FileTests(RefusalTestCase):
    """Files of ours that are damaged, somebody else's, or of a newer version: named, and left byte by byte."""

    async def made(self) -> GatewayProcess:
        """A gateway that has stopped, with a message in its files."""
        gateway = await self.started()
        ann = await self.online(gateway, 1001)
        await ann.send(1002, "precious")
        await ann.leave()
        await gateway.stop()
        return gateway

    async def check_spoiled(self, name: str, spoilers: Sequence[Callable[[Path], None]]) -> None:
        gateway = await self.made()
        spoiled: list[tuple[Path, bytes]] = []
        for spoil in spoilers:
            folder = self.folder / spoil.__name__
            shutil.copytree(gateway.data_dir, folder)
            spoil(folder / name)
            spoiled.append((folder / name, (folder / name).read_bytes()))
            self.assertNotEqual(spoiled[-1][1], (gateway.data_dir / name).read_bytes())
        commands: list[tuple[list[str], dict[str, str]]] = [
            (gateway.command_line(data_dir=path.parent, server__port=0, http__port=0), {}) for path, _ in spoiled
        ]
        for outcome, (path, content) in zip(await self.outcomes(commands), spoiled, strict=True):
            self.is_one_line(outcome, str(path))
            self.assertEqual(path.read_bytes(), content, path)

    async def test_outbox(self) -> None:
        """outbox.db."""
        await self.check_spoiled("outbox.db", [garbage, foreign, newer_outbox])

    async def test_business(self) -> None:
        """business.db."""
        await self.check_spoiled("business.db", [foreign, newer_business, torn_page])

    async def test_damaged_batch(self) -> None:
        """One wrong byte inside a message of the log: found before anybody is let in, said once with the file's name;
        the process ends with status 1 and leaves the file."""
        gateway = await self.made()
        path = gateway.data_dir / "outbox.db"
        good = path.read_bytes()
        path.write_bytes(good.replace(b"precious", b"preciouz"))
        spoiled = path.read_bytes()
        self.assertNotEqual(spoiled, good)
        outcome = await self.outcome(gateway.command)
        self.assertEqual((outcome.status, outcome.err), (1, ""))
        said = [line for line in outcome.out.splitlines() if str(path) in line]
        self.assertEqual(len(said), 1, outcome.out)
        self.assertNotIn("Traceback", outcome.out)
        self.assertNotIn("preciou", outcome.out)
        self.assertNotIn("ready:", outcome.out)
        self.assertEqual(path.read_bytes(), spoiled)


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 40)


def torn_page(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:8192] + b"\xa5" * 4096 + data[12288:])


def _changed(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def foreign(path: Path) -> None:
    path.unlink()
    _changed(path, "CREATE TABLE recipes (name TEXT)")


def newer_outbox(path: Path) -> None:
    _changed(path, "PRAGMA user_version = 99")


def newer_business(path: Path) -> None:
    _changed(path, "UPDATE im_schema SET version_num = 'r9999'")
