"""The accounts of a run: what people did and saw against what the database and the topic hold. Pure.

`audit` compares when all is quiet and everybody has been online, has acknowledged what he was shown and has signed in
once more. Each kind of violation is found by a test of its own (tests/live/test_accounts.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from imconnect.events.dialect import ABOUT_A_MESSAGE, msg_id_of
from imconnect.model import Status
from imconnect.wire.client_codec import Pushed, WithdrawNotice
from imconnect.wire.ids import chat_id
from tests.live import accounts_topic
from tests.live.books import Books, Key, Terms
from tests.live.evidence import Queued, Rows
from tests.live.record import Came, Record

#: Two frames of one instant on two connections may be read in either order; seconds.
INSTANT = 0.05
#: A clock of ours and the gateway's wheel; seconds.
EARLY = 0.3
#: A backfill that begins this long before the store goes away may not have ended (`limits.backfill_timeout`); seconds.
BACKFILL = 6.0
#: A receipt is asked for where the sender stayed online this long after the ACK; seconds.
STAYED = 3.0


class Violation(NamedTuple):
    kind: str
    says: str


def audit(record: Record, rows: Rows, terms: Terms, topic: Sequence[Queued] | None = None) -> list[Violation]:
    """Everything that should not be. `topic` is None where there is none (embedded queue)."""
    books = Books(record, rows, terms, topic)
    return [Violation(kind, says) for kind, check in _CHECKS.items() for says in check(books)]


def table(violations: Sequence[Violation]) -> str:
    """For people: every kind with its number, then the first few of each."""
    counts = Counter(violation.kind for violation in violations)
    lines = [f"{kind:<22} {counts[kind]:>6}" for kind in _CHECKS]
    for kind in _CHECKS:
        mine = [violation.says for violation in violations if violation.kind == kind]
        lines += [f"  {kind}: {says}" for says in mine[:5]]
        lines += [f"  {kind}: and {len(mine) - 5} more"] if len(mine) > 5 else []
    return "\n".join(lines)


def _lost(books: Books) -> Iterator[str]:
    """Somebody was told that it is safe, and it is not there."""
    in_topic = {msg_id_of(each.event) for each in books.topic or () if isinstance(each.event, ABOUT_A_MESSAGE)}
    for (user, _), answers in books.answers.items():
        for msg_id in {answer.msg_id for answer in answers}:
            if msg_id not in books.row:
                yield f"{msg_id} of {user} was acknowledged and is not in the database"
            if books.topic is not None and msg_id not in in_topic:
                yield f"{msg_id} of {user} was acknowledged and is not in the topic"
    for msg_id, receipts in books.receipts.items():
        told = max(receipt.status for _, receipt in receipts)
        row = books.row.get(msg_id)
        if row is not None and row.msg_status < told:
            yield f"the sender of {msg_id} has receipt {told}, the database says {row.msg_status}"
    for msg_id in books.withdrawn:
        row = books.row.get(msg_id)
        if row is not None and not row.withdrawn:
            yield f"the withdrawal of {msg_id} was accepted and is not in the database"


def _doubled(books: Books) -> Iterator[str]:
    """One clientMsgId, two messages; or a message that nobody sent."""
    ids: dict[Key, set[int]] = defaultdict(set)
    for whose, answers in books.answers.items():
        ids[whose] |= {answer.msg_id for answer in answers}
    for msg_id, pushes in books.pushes.items():
        for _, push in pushes:
            ids[push.sender, push.client_msg_id].add(msg_id)
    for row in books.rows.messages:
        ids[row.from_id, row.client_msg_id].add(row.msg_id)
    for (user, key), found in ids.items():
        if len(found) > 1:
            yield f"a send of {user} ({key.hex()}) became {sorted(found)}"
        if (user, key) not in books.sends:
            yield f"{user} never sent {sorted(found)} ({key.hex()})"
    for msg_id, times in Counter(row.msg_id for row in books.rows.messages).items():
        if times > 1:
            yield f"{msg_id} has {times} rows"


def _shown_twice(books: Books) -> Iterator[str]:
    """As interface.md section 3 says: on one connection before a retry is due, or after the sender had the receipt."""
    delays, earliest = books.terms.delays, books.record.earliest
    for msg_id, pushes in books.pushes.items():
        told = min((came.at for came, _ in books.receipts.get(msg_id, ())), default=float("inf"))
        last, here = -float("inf"), Counter[int]()
        for came, _ in pushes:
            again = here[came.connection]
            here[came.connection] += 1
            if again > len(delays):
                yield f"{msg_id} came {again + 1} times on connection {came.connection}, {len(delays)} retries are set"
            elif again and came.at - earliest(last) < delays[again - 1] - EARLY:
                yield f"{msg_id} came again on connection {came.connection} after {came.at - last:.3f} s"
            if earliest(came.at) > told + INSTANT:
                yield f"{msg_id} came to {came.user} {came.at - told:.3f} s after its sender had the receipt"
            last = came.at


def _shown_after_withdrawal(books: Books) -> Iterator[str]:
    for msg_id, at in books.withdrawn.items():
        for came, _ in books.pushes.get(msg_id, ()):
            if books.record.earliest(came.at) > at + INSTANT:
                yield f"{msg_id} came to {came.user} {came.at - at:.3f} s after its withdrawal was accepted"


def _out_of_order(books: Books) -> Iterator[str]:
    """msgId is the order of acceptance: a sender's own order, that of each chat at its receiver and in its queue."""
    highest: dict[tuple[int, int], tuple[int, Came]] = {}
    seen: set[int] = set()
    for came, push in books.record.told(Pushed):
        if push.msg_id in seen:
            continue
        seen.add(push.msg_id)
        chat = (came.user, push.sender)
        later, there = highest.get(chat, (0, came))
        if push.msg_id > later:
            highest[chat] = (push.msg_id, came)
        elif not _excused(books, there) and not _excused(books, came):
            yield f"{came.user} was shown {push.msg_id} of {push.sender} after {later}"
    last: dict[int, int] = {}
    for user, key in books.sends:
        row = books.row_of.get((user, key))
        if row is not None and (user, key) not in books.refused:
            if row.msg_id < last.get(user, 0):
                yield f"{user} sent {row.msg_id} after {last[user]}"
            last[user] = row.msg_id
    yield from accounts_topic.out_of_order(books)


def _excused(books: Books, came: Came) -> bool:
    """Who signed in while the store was away went live without what he is owed, and has it later; with several nodes,
    a repeat that found the first one's claim comes by the store too."""
    if books.terms.nodes > 1:
        return True
    opened = books.record.link(came.connection).opened
    return any(begin - BACKFILL <= opened <= end for begin, end in books.terms.store_away)


def _never(books: Books) -> Iterator[str]:
    """What somebody still waits for."""
    for (user, key), send in books.sends.items():
        if (user, key) not in books.answers:
            yield f"{user} has no answer to what he sent to {send.to} ({key.hex()})"
    for row in books.rows.messages:
        if row.withdrawn:
            continue
        if not any(came.user == row.to_id for came, _ in books.pushes.get(row.msg_id, ())):
            yield f"{row.msg_id} of {row.from_id} never came to {row.to_id}"
        elif row.msg_status < Status.DELIVERED:
            yield f"{row.to_id} has acknowledged {row.msg_id}, the database says {row.msg_status}"


def _wrong_fields(books: Books) -> Iterator[str]:
    """Everything that was told or kept is what its sender gave."""
    for (user, key), answers in books.answers.items():
        sent = books.sends.get((user, key))
        for answer in answers:
            if sent is not None and (answer.sender, answer.receiver) != (user, sent.to):
                yield f"the answer about {answer.msg_id} says {answer.sender} -> {answer.receiver}"
    for msg_id, pushes in books.pushes.items():
        for came, push in pushes:
            sent = books.sends.get((push.sender, push.client_msg_id))
            row = books.row.get(msg_id)
            shown = (push.receiver, push.format, push.content, push.time)
            # What comes from the store has the server's time: the table does not keep the sender's.
            times = {sent.time if sent else 0, row.msg_create_time if row else 0}
            if sent is not None and (shown[:3] != sent[1:4] or push.time not in times or came.user != sent.to):
                yield f"{msg_id} came to {came.user} as {shown}, sent was {sent[1:]}"
    for row in books.rows.messages:
        sent = books.sends.get((row.from_id, row.client_msg_id))
        kept = (row.to_id, row.msg_format, row.content)
        if sent is not None and (kept != sent[1:4] or row.chat_id != chat_id(row.from_id, row.to_id)):
            yield f"{row.msg_id} is kept as {kept}, sent was {sent[1:4]}"
    yield from accounts_topic.wrong_fields(books)


def _receipts_missing(books: Books) -> Iterator[str]:
    """The sender was there from before the first ACK until well after the last one, and was told nothing; a receiver
    was not told at his last login what was taken back."""
    if books.terms.nodes == 1:
        yield from _acks_not_told(books)
    for msg_id in books.withdrawn:
        row = books.row.get(msg_id)
        last = books.last_link(row.to_id) if row is not None else None
        if last is not None and (last.connection, msg_id) not in books.notices:
            yield f"{last.user} was not told at his last login that {msg_id} is withdrawn"


def _acks_not_told(books: Books) -> Iterator[str]:
    for msg_id, acks in books.acks.items():
        row = books.row.get(msg_id)
        highest = max(ack.status for _, ack in acks)
        # What is taken back meanwhile is over: who acknowledged it in that moment, nobody needs to know.
        if row is None or row.msg_status < highest or row.withdrawn:
            continue
        said = [went for went, ack in acks if ack.status == highest]
        told = {(came.connection, receipt.status) for came, receipt in books.receipts.get(msg_id, ())}
        for link in books.record.links:
            stayed = link.opened < said[0].at and link.closed > said[-1].at + STAYED
            if any(begin <= link.closed and said[0].at <= end for begin, end in books.terms.queue_away):
                continue
            if link.user == row.from_id and stayed and (link.connection, highest) not in told:
                yield f"{link.user} was not told on connection {link.connection} that {msg_id} has status {highest}"


def _receipts_wrong(books: Books) -> Iterator[str]:
    """A receipt of what nobody said, to the wrong person, or told twice on one connection."""
    for msg_id, receipts in books.receipts.items():
        row = books.row.get(msg_id)
        for (connection, status), times in Counter((came.connection, it.status) for came, it in receipts).items():
            if times > 1:
                yield f"receipt {status} of {msg_id} came {times} times on connection {connection}"
        for came, receipt in receipts:
            acks = books.acks.get(msg_id, ())
            if not any(went.at <= came.at and ack.status == receipt.status for went, ack in acks):
                yield f"{came.user} was told status {receipt.status} of {msg_id}, which nobody said"
            if row is not None:
                right = (row.client_msg_id, row.from_id, row.to_id, row.from_id)
                if (receipt.client_msg_id, receipt.sender, receipt.receiver, came.user) != right:
                    yield f"the receipt of {msg_id} that came to {came.user} is not about {right}"
    for came, notice in books.record.told(WithdrawNotice):
        row = books.row.get(notice.msg_id)
        if row is None or not row.withdrawn or came.user not in (row.from_id, row.to_id):
            yield f"{came.user} was told that {notice.msg_id} is withdrawn"


def _counts(books: Books) -> Iterator[str]:
    """Unread counts, what is owed, what lies aside."""
    unread: Counter[tuple[int, str]] = Counter()
    newest: dict[tuple[int, str], int] = {}
    for row in books.rows.messages:
        unread[row.to_id, row.chat_id] += not row.withdrawn and row.msg_status < Status.READ
        for user in (row.from_id, row.to_id):
            newest[user, row.chat_id] = max(row.msg_id, newest.get((user, row.chat_id), 0))
    for key in newest.keys() | books.rows.sessions.keys():
        wanted = (newest.get(key, 0), unread[key])
        if books.rows.sessions.get(key) != wanted:
            yield f"session {key} is {books.rows.sessions.get(key)}, should be {wanted} (last_msg_id, unread_count)"
    yield from (f"{user} is still owed {msg_id}" for user, msg_id in books.rows.owed)
    yield from (f"parked: {reason}" for reason in books.rows.parked)
    if sorted(books.rows.early) != sorted(books.terms.early):
        yield f"early events are kept for {sorted(books.rows.early)}, should be {sorted(books.terms.early)}"


_CHECKS: dict[str, Callable[[Books], Iterator[str]]] = {
    "lost": _lost,
    "doubled": _doubled,
    "shown twice": _shown_twice,
    "shown, withdrawn": _shown_after_withdrawal,
    "out of order": _out_of_order,
    "never delivered": _never,
    "wrong fields": _wrong_fields,
    "receipt missing": _receipts_missing,
    "receipt wrong": _receipts_wrong,
    "counts": _counts,
}
