"""The crash matrix: who is killed at which point. The table, and how one cell of it is played."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from twisted.internet.defer import Deferred, gatherResults

from imconnect.tap.fault_points import BUSINESS, GATEWAY, POINTS
from tests.live.accounts import Violation, audit, table
from tests.live.books import Terms
from tests.live.processes import TookTooLong
from tests.live.record import Record
from tests.live.script import Script
from tests.live.settle import note_turns, settle
from tests.live.world import World

#: `retry.delays` and `retry.give_up` of every cell, seconds.
DELAYS, GIVE_UP = (1.5, 3.0), 1.5
SETTINGS = {"retry.delays": list(DELAYS), "retry.give_up": GIVE_UP}
BEGIN, END = "<!-- crash matrix: begin -->", "<!-- crash matrix: end -->"

#: chat: while people talk. start: at the next start, after a kill -9. stop: after a SIGTERM.
During = Literal["chat", "start", "stop"]
#: embedded: one process. rocketmq: gateway, imbusiness, RocketMQ, MariaDB. nodes: two gateways, Redis, one SQLite.
Form = Literal["embedded", "rocketmq", "nodes"]


class Cell(NamedTuple):
    """At the nth time that `point` is reached, these processes are killed (kill -9)."""

    point: str
    killed: tuple[str, ...]
    nth: int = 1
    form: Form = "embedded"
    during: During = "chat"
    #: `outbox.ack_after`.
    ack_after: Literal["disk", "broker"] = "disk"
    #: The process that reaches the point, where it is not the one that one would think.
    at: str = ""

    @property
    def name(self) -> str:
        """For commands."""
        during = "" if self.during == "chat" else f"-{self.during}"
        level = "/ack-after-broker" if self.ack_after == "broker" else ""
        return f"{self.point}{during}/{'+'.join(self.killed)}{'' if self.form == 'embedded' else f'/{self.form}'}{level}"

    @property
    def owner(self) -> str:
        """The process that reaches the point."""
        in_gateway = self.point in GATEWAY or (self.form != "rocketmq" and self.point in BUSINESS)
        return self.at or ("gateway" if in_gateway else "business")

    @property
    def fault(self) -> str:
        """It kills itself, or stands still until the test has killed somebody else."""
        return f"{self.point}@{self.nth}{'' if self.killed == (self.owner,) else '=stop'}"


def _embedded_cells() -> list[Cell]:
    alone = [
        Cell(point, ("gateway",), nth)
        for point, nth in {
            "decoded": 3, "batch-built": 3, "append-begun": 4, "append-durable": 4, "reply-written": 3,
            "push-written": 3, "ack-durable": 2, "receipt-written": 2, "withdraw-durable": 1, "offline-durable": 2,
            "page-asked": 3, "page-read": 1, "page-pushed": 2, "resend-pushed": 1, "relay-sending": 3,
            "relay-answered": 3, "relay-marked": 2, "told": 1, "transaction-begun": 3, "database-committed": 3,
            "early-kept": 1,
        }.items()
    ]  # fmt: skip
    alone += [Cell(point, ("gateway",), during="start") for point in ("append-durable", "recovery-done")]
    alone += [Cell(point, ("gateway",), during="start") for point in ("transaction-begun", "database-committed")]
    return [
        *alone,
        Cell("drain-begun", ("gateway",), during="stop"),
        Cell("drain-told", ("gateway",), 2, during="stop"),
    ]


def _rocketmq_cells() -> list[Cell]:
    cells = {
        ("gateway",): {
            "append-durable": 3, "relay-sending": 3, "relay-sent": 3, "relay-answered": 3, "relay-marked": 2,
            "page-read": 1, "told": 1,
        },
        ("business",): {
            "consumed": 3, "transaction-begun": 3, "database-committed": 3, "offset-sent": 2, "push-back-told": 1,
            "early-kept": 1,
        },
        ("gateway", "business"): {
            "append-durable": 4, "relay-answered": 3, "consumed": 3, "database-committed": 3, "push-back-told": 1,
        },
        ("broker",): {"relay-sending": 3, "relay-sent": 3, "relay-answered": 3, "consumed": 3, "database-committed": 3},
        ("database",): {
            "consumed": 3, "transaction-begun": 3, "database-committed": 3, "page-asked": 3, "page-read": 1,
        },
        ("broker", "gateway"): {"relay-sent": 3},
        ("database", "business"): {"transaction-begun": 3},
    }  # fmt: skip
    both = [Cell(point, killed, nth, "rocketmq") for killed, points in cells.items() for point, nth in points.items()]
    both += [
        Cell(point, killed, nth, "rocketmq", ack_after="broker")
        for point, killed, nth in (
            ("append-durable", ("gateway",), 4), ("relay-sent", ("gateway",), 3), ("relay-answered", ("gateway",), 3),
            ("reply-written", ("gateway",), 3), ("relay-sent", ("broker",), 3), ("relay-answered", ("broker",), 3),
            ("relay-answered", ("gateway", "business"), 3), ("relay-sent", ("broker", "gateway"), 3),
        )
    ]  # fmt: skip
    starts = [Cell(point, ("gateway",), 1, "rocketmq", "start") for point in ("relay-sent", "recovery-done")]
    return [*both, *starts]


def _node_cells() -> list[Cell]:
    return [
        Cell(point, killed, nth, "nodes", at=at)
        for point, killed, nth, at in (
            ("claimed", ("gateway",), 3, ""), ("append-durable", ("gateway",), 4, ""),
            ("claim-settled", ("gateway",), 3, ""), ("reply-written", ("gateway",), 3, ""),
            ("forwarded", ("other",), 2, "other"), ("forwarded", ("gateway",), 2, "other"),
            ("receipt-written", ("gateway",), 2, ""), ("claimed", ("redis",), 3, ""),
            ("claim-settled", ("redis",), 3, ""), ("claimed", ("gateway", "redis"), 3, ""),
            ("claim-settled", ("gateway", "other"), 3, ""),
        )
    ]  # fmt: skip


#: Those that mean something.
CELLS = {cell.name: cell for cell in (*_embedded_cells(), *_rocketmq_cells(), *_node_cells())}


def chosen(wanted: str, seed: str) -> list[Cell]:
    """`wanted` is all, the name of a cell, or empty: then a third of them, by the seed."""
    if wanted == "all":
        return list(CELLS.values())
    if wanted:
        return [CELLS[wanted]]
    names = random.Random(seed).sample(sorted(CELLS), (len(CELLS) + 2) // 3)
    return [cell for name, cell in CELLS.items() if name in names]


class Outcome(NamedTuple):
    """Of one cell."""

    cell: str
    #: Messages in the database.
    messages: int
    violations: list[Violation]


async def play(cell: Cell, world: World) -> Outcome:
    """Start, chat, kill, start again, settle, compare. Raises where the point is not reached or nobody comes back."""
    record = Record()
    turning = note_turns(world.reactor, record)
    script = Script(world.reactor, world.ports, record, int(time.time() * 1000))
    try:
        if cell.during != "start":
            world.arm(cell.owner, cell.fault)
        await world.start()
        chat = Deferred.fromCoroutine(script.play())
        if cell.during == "chat":
            await _while_they_talk(cell, world)
        await chat
        if cell.during != "chat":
            await _around_the_chat(cell, world)
        await script.say_again()
        violations = await settle(world, record, script.people, DELAYS, [script.unknown])
        return Outcome(cell.name, len((await world.rows()).messages), violations)
    except TookTooLong as error:
        accounts = audit(record, await world.rows(), Terms(DELAYS, world.store_away, world.queue_away, len(world.ports), [script.unknown]))
        raise TookTooLong(f"{error}\n{table(accounts)}") from None
    finally:
        for person in script.people:
            await person.leave()
        turning.stop()


async def _while_they_talk(cell: Cell, world: World) -> None:
    if cell.killed == (cell.owner,):
        await world.dies(cell.owner)
    else:
        await world.stands_still(cell.owner)
        for name in cell.killed:
            await world.kill9(name)
        if cell.owner not in cell.killed:
            world.resume(cell.owner)
    world.arm(cell.owner, "")
    await gatherResults([Deferred.fromCoroutine(world.revive(name)) for name in cell.killed], consumeErrors=True)


async def _around_the_chat(cell: Cell, world: World) -> None:
    if cell.during == "stop":
        world.ours[cell.owner].signal(signal.SIGTERM)
    else:
        await world.kill9(cell.owner)
        world.arm(cell.owner, cell.fault)
        world.ours[cell.owner].spawn()
    await world.dies(cell.owner)
    world.arm(cell.owner, "")
    await world.revive(cell.owner)


def rows(outcomes: Sequence[dict[str, Any]]) -> list[str]:
    """The table for docs/reliability.md."""
    lines = ["| at the point | killed | with | result | messages | again with |", "|---|---|---|---|---|---|"]
    for outcome in outcomes:
        cell = CELLS[outcome["cell"]]
        when = {"chat": "", "start": ", at the start after a kill", "stop": ", while stopping"}[cell.during]
        lines.append(
            f"| {POINTS[cell.point].says}{when} | {' and '.join(cell.killed)} "
            f"| {_setting(cell)} | {outcome['result']} "
            f"| {outcome['messages']} | `make crash-matrix CELL={cell.name}` |"
        )
    return lines


def _setting(cell: Cell) -> str:
    if cell.form != "rocketmq":
        return {"embedded": "all embedded", "nodes": "two nodes, Redis"}[cell.form]
    return "RocketMQ, MariaDB" + (", `ack_after: broker`" if cell.ack_after == "broker" else "")


def main(results: str, document: str) -> int:
    """Write what a run of all cells has found, one JSON object per line, into the document."""
    found = {each["cell"]: each for each in map(json.loads, Path(results).read_text().splitlines())}
    missing = [name for name in CELLS if name not in found]
    path = Path(document)
    head, _, rest = path.read_text().partition(BEGIN)
    outcomes = [found[name] for name in CELLS if name in found]
    lines = "\n".join(rows(outcomes))
    path.write_text(f"{head}{BEGIN}\n{lines}\n{END}{rest.partition(END)[2]}")
    bad = [each["cell"] for each in outcomes if each["result"] != "clean"]
    print(f"{len(outcomes)} cells, {len(bad)} with violations {bad}, {len(missing)} not played {missing}")
    return 1 if bad or missing else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
