"""The unit of work: the rows that one batch is about, loaded once, changed in memory, written once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from imconnect.business.rows import (
    Changes,
    EarlyKey,
    EarlyRow,
    MessageRow,
    NoticeRow,
    OwedKey,
    OwedRow,
    SendKey,
    SessionKey,
    SessionRow,
)
from imconnect.business.store import Unit
from imconnect.events.values import Event, Offlined, Sent, Withdrawn
from imconnect.model import Message, Status
from imconnect.wire.ids import chat_id

#: At most this many early rows per person; the oldest go.
EARLY_PER_ACTOR = 1000


class Work:
    """Rows by their keys, and what became of them. The rules change rows only through it."""

    __slots__ = (
        "_by_key", "_changed_messages", "_changed_sessions", "_early", "_early_in", "_early_out", "_gone", "_messages",
        "_new_messages", "_new_sessions", "_notices", "_owed_in", "_owed_out", "_sessions",
    )  # fmt: skip

    def __init__(self) -> None:
        self._messages: dict[int, MessageRow] = {}
        self._by_key: dict[SendKey, MessageRow] = {}
        self._sessions: dict[SessionKey, SessionRow] = {}
        self._early: dict[int, dict[EarlyKey, EarlyRow]] = {}
        self._new_messages: dict[int, MessageRow] = {}
        self._changed_messages: dict[int, MessageRow] = {}
        self._gone: list[int] = []
        self._new_sessions: dict[SessionKey, SessionRow] = {}
        self._changed_sessions: dict[SessionKey, SessionRow] = {}
        self._owed_in: dict[OwedKey, OwedRow] = {}
        self._owed_out: dict[OwedKey, None] = {}
        self._early_in: dict[EarlyKey, EarlyRow] = {}
        self._early_out: dict[EarlyKey, EarlyRow] = {}
        self._notices: list[NoticeRow] = []

    @classmethod
    def load(cls, unit: Unit, events: Sequence[Event]) -> Work:
        """Everything that these events may touch."""
        work = cls()
        ids: set[int] = set()
        keys: set[SendKey] = set()
        for event in events:
            if isinstance(event, Sent | Offlined):
                message = event.message
                ids.add(message.msg_id)
                if message.client_msg_id:
                    keys.add((message.sender, message.client_msg_id))
            else:
                ids.add(event.msg_id)
        work.hold(unit.load_messages(ids, keys))
        unknown = ids - work._messages.keys()
        if unknown:
            for row in unit.load_early(unknown):
                work._early.setdefault(row.msg_id, {})[row.key] = row
        work._hold_sessions(unit, work._wanted(events))
        return work

    @classmethod
    def of(cls, unit: Unit, rows: Sequence[MessageRow]) -> Work:
        """These stored messages, with their receivers' sessions."""
        work = cls()
        work.hold(rows)
        work._hold_sessions(unit, {(row.to_id, row.chat_id) for row in rows})
        return work

    def hold(self, rows: Iterable[MessageRow]) -> None:
        """These messages are stored."""
        for row in rows:
            self._messages[row.msg_id] = row
            if row.client_msg_id:
                self._by_key[row.from_id, row.client_msg_id] = row

    def _hold_sessions(self, unit: Unit, keys: set[SessionKey]) -> None:
        if keys:
            for row in unit.load_sessions(keys):
                self._sessions[row.user_id, row.chat_id] = row

    def _wanted(self, events: Sequence[Event]) -> set[SessionKey]:
        """The sessions that may change: of new messages both, of others where the unread count may fall."""
        wanted: set[SessionKey] = set()
        for event in events:
            if isinstance(event, Sent | Offlined):
                message = event.message
                if message.msg_id not in self._messages:
                    chat = chat_id(message.sender, message.receiver)
                    wanted.add((message.sender, chat))
                    wanted.add((message.receiver, chat))
            elif isinstance(event, Withdrawn) or event.status == Status.READ:
                row = self._messages.get(event.msg_id)
                if row is not None:
                    wanted.add((row.to_id, row.chat_id))
        return wanted

    def message(self, msg_id: int) -> MessageRow | None:
        return self._messages.get(msg_id)

    def same_send(self, message: Message) -> MessageRow | None:
        """The message that this sender stored under the same clientMsgId."""
        return self._by_key.get((message.sender, message.client_msg_id)) if message.client_msg_id else None

    def insert(self, row: MessageRow) -> None:
        """A new message: owed to its receiver, who has one more unread."""
        self._new_messages[row.msg_id] = row
        self.hold((row,))
        key = (row.to_id, row.msg_id)
        self._owed_in[key] = OwedRow(row.to_id, row.msg_id, row.msg_create_time)
        self._seen(row.from_id, row.to_id, row)
        if row.to_id != row.from_id:
            self._seen(row.to_id, row.from_id, row)
        self.unread(row, 1)

    def _seen(self, user: int, peer: int, message: MessageRow) -> None:
        key = (user, message.chat_id)
        row = self._sessions.get(key)
        if row is None:
            row = SessionRow(user, message.chat_id, peer, message.msg_id, message.msg_create_time, 0)
            self._sessions[key] = self._new_sessions[key] = row
        elif message.msg_id > row.last_msg_id or message.msg_create_time > row.last_msg_time:
            row.last_msg_id = max(row.last_msg_id, message.msg_id)
            row.last_msg_time = max(row.last_msg_time, message.msg_create_time)
            self._session_changed(key, row)

    def unread(self, message: MessageRow, change: int) -> None:
        """The receiver has this many more unread messages in the chat, never below 0."""
        key = (message.to_id, message.chat_id)
        row = self._sessions.get(key)
        if row is not None and (change > 0 or row.unread_count > 0):
            row.unread_count = max(0, row.unread_count + change)
            self._session_changed(key, row)

    def _session_changed(self, key: SessionKey, row: SessionRow) -> None:
        if key not in self._new_sessions:
            self._changed_sessions[key] = row

    def changed(self, row: MessageRow) -> None:
        """Its status or its withdrawal changed."""
        if row.msg_id not in self._new_messages:
            self._changed_messages[row.msg_id] = row

    def owed_no_more(self, row: MessageRow) -> None:
        key = (row.to_id, row.msg_id)
        if self._owed_in.pop(key, None) is None:
            self._owed_out[key] = None

    def gone(self, row: MessageRow) -> None:
        """Delete the message."""
        self._gone.append(row.msg_id)

    def notice(self, row: NoticeRow) -> None:
        self._notices.append(row)

    def keep_early(self, row: EarlyRow) -> bool:
        """Remember an event whose message is not here. False: that very event is remembered already."""
        kept = self._early.setdefault(row.msg_id, {})
        if row.key in kept:
            return False
        kept[row.key] = row
        self._early_in[row.key] = row
        return True

    def take_early(self, msg_id: int) -> list[EarlyRow]:
        """What was kept for this message, in the order in which people asked for it; it is no longer kept."""
        kept = self._early.pop(msg_id, None)
        if not kept:
            return []
        for row in kept.values():
            self.early_done(row)
        return sorted(kept.values(), key=lambda row: (row.time, row.kind, row.status, row.actor))

    def early_done(self, row: EarlyRow) -> None:
        if self._early_in.pop(row.key, None) is None:
            self._early_out[row.key] = row

    def trim_early(self, unit: Unit) -> int:
        """Hold everybody to EARLY_PER_ACTOR rows; says how many rows went."""
        if not self._early_in:
            return 0
        added = Counter(row.actor for row in self._early_in.values())
        removed = Counter(row.actor for row in self._early_out.values())
        stored = unit.count_early(added.keys())
        dropped = 0
        for actor, count in added.items():
            excess = stored.get(actor, 0) - removed[actor] + count - EARLY_PER_ACTOR
            if excess > 0:
                rows = [*unit.oldest_early(actor, excess + removed[actor]), *self._early_in.values()]
                mine = [row for row in rows if row.actor == actor and row.key not in self._early_out]
                mine.sort(key=lambda row: (row.kept_time, *row.key))
                for row in mine[:excess]:
                    self.early_done(row)
                dropped += excess
        return dropped

    def changes(self) -> Changes:
        """In the order of the keys: two consumers that write the same rows lock them in the same order."""
        return Changes(
            new_messages=[row for _, row in sorted(self._new_messages.items())],
            changed_messages=[row for _, row in sorted(self._changed_messages.items())],
            gone_messages=sorted(self._gone),
            new_sessions=[row for _, row in sorted(self._new_sessions.items())],
            changed_sessions=[row for _, row in sorted(self._changed_sessions.items())],
            owed_in=sorted(self._owed_in.values()),
            owed_out=sorted(self._owed_out),
            early_in=sorted(self._early_in.values()),
            early_out=sorted(self._early_out),
            notices_in=sorted(self._notices),
        )
