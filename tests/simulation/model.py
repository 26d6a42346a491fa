"""What the database must say, worked out the slow and obvious way from the events that business has applied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from imconnect.backends.memory_unit import Tables
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.model import Message, Status
from imconnect.wire.ids import chat_id


class Fact:
    """One message and everything that is known to have happened to it, in whatever order it was heard of."""

    __slots__ = ("message", "status", "withdrawn")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.status = int(Status.STORED)
        self.withdrawn = False

    @property
    def owed(self) -> bool:
        return self.status < Status.DELIVERED and not self.withdrawn

    @property
    def unread(self) -> bool:
        return self.status < Status.READ and not self.withdrawn

    def hear(self, event: Acknowledged | Withdrawn) -> None:
        """Only the receiver may acknowledge, only the sender take back."""
        if isinstance(event, Acknowledged):
            if event.receiver == self.message.receiver:
                self.status = max(self.status, int(event.status))
        elif event.sender == self.message.sender:
            self.withdrawn = True


class Model:
    """The facts, and the comparison with the tables."""

    def __init__(self) -> None:
        self.facts: dict[int, Fact] = {}
        self._early: dict[int, list[Acknowledged | Withdrawn]] = {}
        self._chats: dict[str, list[Fact]] = {}
        self._firsts: dict[tuple[int, bytes], Message] = {}
        #: Second messages of a clientMsgId: of the same content they are no messages at all, of another one parked.
        self.doubles: set[int] = set()
        self._parked = False

    def apply(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Sent | Offlined) and self._is_double(event.message):
                continue
            if isinstance(event, Sent | Offlined):
                fact = self._fact(event.message)
                if isinstance(event, Offlined):
                    fact.status = max(fact.status, int(Status.OFFLINE))
            elif event.msg_id in self.facts:
                self.facts[event.msg_id].hear(event)
            else:
                self._early.setdefault(event.msg_id, []).append(event)

    def _is_double(self, message: Message) -> bool:
        first = self._firsts.setdefault((message.sender, message.client_msg_id), message)
        if first.msg_id == message.msg_id:
            return False
        self.doubles.add(message.msg_id)
        same = (first.receiver, first.format, first.content) == (message.receiver, message.format, message.content)
        self._parked = self._parked or not same
        return True

    def _fact(self, message: Message) -> Fact:
        fact = self.facts.get(message.msg_id)
        if fact is None:
            fact = self.facts[message.msg_id] = Fact(message)
            self._chats.setdefault(chat_id(message.sender, message.receiver), []).append(fact)
            for event in self._early.pop(message.msg_id, ()):
                fact.hear(event)
        return fact

    def differences(self, tables: Tables, events: Sequence[Event]) -> list[str]:
        """What the tables say otherwise about the messages of these events, and about their chats."""
        ids = {event.message.msg_id if isinstance(event, Sent | Offlined) else event.msg_id for event in events}
        found: list[str] = []
        chats: set[str] = set()
        for msg_id in sorted(ids & self.facts.keys()):
            fact = self.facts[msg_id]
            found += self._of_message(tables, fact)
            chats.add(chat_id(fact.message.sender, fact.message.receiver))
        for chat in sorted(chats):
            found += self._of_chat(tables, chat)
        if bool(tables.parked) != self._parked:
            found.append("an event was parked that should not be, or the other way round")
        return found

    def _of_message(self, tables: Tables, fact: Fact) -> list[str]:
        message = fact.message
        row = tables.messages.get(message.msg_id)
        if row is None:
            return [f"{message.content!r} is not in the store"]
        found = []
        there = (row.from_id, row.to_id, row.client_msg_id, row.content, row.msg_format, row.msg_create_time)
        sent = (
            message.sender,
            message.receiver,
            message.client_msg_id,
            message.content,
            message.format,
            message.created,
        )
        if there != sent:
            found.append(f"{message.content!r} is stored as {there}, not {sent}")
        if (row.msg_status, row.withdrawn) != (fact.status, fact.withdrawn):
            found.append(
                f"{message.content!r} has status {row.msg_status} {row.withdrawn}, not {fact.status} {fact.withdrawn}"
            )
        if ((message.receiver, message.msg_id) in tables.owed) != fact.owed:
            found.append(f"{message.content!r} is {'not ' if fact.owed else ''}owed to {message.receiver}")
        if any(key.msg_id == message.msg_id for key in tables.early):
            found.append(f"{message.content!r} is here, and something early still waits for it")
        return found

    def _of_chat(self, tables: Tables, chat: str) -> list[str]:
        facts = self._chats[chat]
        users = {user for fact in facts for user in (fact.message.sender, fact.message.receiver)}
        found = []
        for user in sorted(users):
            row = tables.sessions.get((user, chat))
            unread = sum(fact.unread for fact in facts if fact.message.receiver == user)
            newest = max(fact.message.msg_id for fact in facts), max(fact.message.created for fact in facts)
            if row is None or (row.last_msg_id, row.last_msg_time) != newest:
                found.append(f"the session of {user} in {chat} is not about the newest message")
            elif row.unread_count != unread:
                found.append(f"{user} has {row.unread_count} unread in {chat}, not {unread}")
        return found
