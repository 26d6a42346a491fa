"""Sees everything that anybody is told and holds it to the promises (interface.md section 3, architecture.md section 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from imconnect.core.settings import Settings
from imconnect.events.values import Acknowledged, Event
from imconnect.model import Applied, Message, Status
from imconnect.wire import client_codec as wire
from imconnect.wire.client_codec import Pushed, ReceiptReply, SendReply, WithdrawNotice, WithdrawReply
from tests.simulation.across import Across
from tests.simulation.model import Model
from tests.simulation.people import Link, Sending
from tests.simulation.record import WITHDRAWN, Record

#: The node that made an id.
NODE_BITS = 0x3FF << 12
CONFLICT, TRY_LATER = 409, 503
#: More messages than are ever open at once in these worlds.
ROOM = 1000


class Judge:
    """Told by every link what is written to it, in the moment in which it is written."""

    def __init__(
        self, record: Record, model: Model, across: Across, now: Callable[[], float], settings: Settings
    ) -> None:
        self.record = record
        self.across = across
        self.model = model
        self.links: list[Link] = []
        #: Whether order is promised at all in this schedule.
        self.in_order = True
        self._now = now
        self._shortest = min(settings.delays)
        self._most_pushes = 1 + len(settings.delays)
        #: Whether a node has room to remember every push until it is acknowledged or given up.
        self._remembered = settings.unacknowledged_total > ROOM
        #: (node, msgId) -> when it was pushed there last, on any connection; and when before that.
        self._pushed_at: dict[tuple[int, int], tuple[float, float]] = {}
        #: What business has told a node: it must not be shown there any more.
        self._told_ended: set[tuple[int, int]] = set()
        #: The node that business is telling something right now.
        self._telling = 0
        #: How often each send was answered, and how.
        self.answers: Counter[tuple[Sending, bool]] = Counter()

    def broken(self, what: str) -> None:
        self.record.broken.append(what)

    def saw(self, link: Link, response: wire.Response) -> None:
        if isinstance(response, Pushed):
            self._push(link, response)
        elif isinstance(response, SendReply):
            self._answer(link, response)
        elif isinstance(response, ReceiptReply):
            self._receipt(link, response)
        elif isinstance(response, WithdrawReply):
            self._withdrawal(link, response)
        elif isinstance(response, WithdrawNotice):
            self._notice(link, response)
        else:
            self.broken(f"{link.user} was told {response}")

    def _safe(self, msg_id: int, status: int, what: str) -> None:
        """Where the broker's word counts, nothing is told before it has it."""
        if self.record.acts_later and (msg_id, status) not in self.record.queued:
            self.broken(f"{what} of {msg_id} was told before the broker had it")

    # -- messages

    def _push(self, link: Link, push: Pushed) -> None:
        msg_id, here = push.msg_id, self.record.of(link.server.number)
        message = self.record.messages.get(msg_id)
        if message is None:
            self.broken(f"{push.content!r} was shown before it was durable")
        elif (push.sender, push.receiver, push.client_msg_id, push.content, push.format) != (
            message.sender, link.user, message.client_msg_id, message.content, message.format,
        ):  # fmt: skip
            self.broken(f"{message} was shown to {link.user} as {push}")
        if self._remembered and link.server.node.resend.get(msg_id) is None:
            self.broken(f"{push.content!r} was shown and nobody remembers that it must be shown again")
        if msg_id in here.known_ends:
            end = "withdrawal" if msg_id in here.withdrawn else "receipt"
            self.broken(f"{push.content!r} was shown after its {end}")
        if (link.server.number, msg_id) in self._told_ended:
            self.broken(f"{push.content!r} was shown after business had told its end")
        self._safe(msg_id, 0, "the text")
        self.across.shown(link, push)
        self._again_or_in_order(link, push)

    def _again_or_in_order(self, link: Link, push: Pushed) -> None:
        msg_id, now = push.msg_id, self._now()
        at = link.server.number, msg_id
        before, last = self._pushed_at.get(at, (0.0, 0.0))
        if last < now:
            before, last = last, now
        self._pushed_at[at] = before, last
        source = push.sender, msg_id & NODE_BITS
        has_place = self.across.has_place(msg_id)
        if msg_id in link.shown:
            since = now - max(before, link.shown[msg_id])
            if since < self._shortest:
                self.broken(f"{push.content!r} was shown again after {since:.2f} s")
            link.times[msg_id] += 1
            if link.times[msg_id] > self._most_pushes:
                self.broken(f"{push.content!r} was shown {link.times[msg_id]} times on one connection")
        else:
            fact = self.model.facts.get(msg_id)
            # Acknowledged through another node: this one's retry clock may not know yet.
            owed = fact is None or fact.owed
            promised = self.in_order and link.in_order and owed and has_place
            if promised and msg_id < link.newest.get(source, 0):
                self.broken(f"{push.content!r} was shown after a later message of its sender")
            for other in self.links:
                if other.server is link.server and msg_id in other.times:
                    # A new connection: the retry clock counts from the start again, for everybody.
                    other.times[msg_id] = 0
            link.times[msg_id] = 1
        link.shown[msg_id] = now
        if has_place:
            link.newest[source] = max(msg_id, link.newest.get(source, 0))

    # -- answers

    def _answer(self, link: Link, reply: SendReply) -> None:
        good = reply.status == Status.STORED
        here = self.record.of(link.server.number)
        key = link.user, reply.client_msg_id
        durable = self.record.sends[key].get(reply.msg_id) if good else here.sends.get(key)
        asked = self._asked(link, reply, durable)
        if asked is None:
            return
        self.answers[asked, good] += 1
        if good:
            if durable is None:
                self.broken(f"{asked.text!r} was acknowledged and is not durable")
            elif (durable.content, durable.receiver) != (asked.text, asked.receiver):
                self.broken(f"{asked.text!r} was acknowledged and {durable.content!r} is durable")
            self._safe(reply.msg_id, 0, "the storing")
            if asked.msg_id not in (0, reply.msg_id) and key not in self.across.doubled:
                self.broken(f"{asked.text!r} was acknowledged under two ids")
            asked.msg_id = reply.msg_id
        elif reply.code == CONFLICT:
            others = [one for one in link.person.sent if one.client_msg_id == asked.client_msg_id and one is not asked]
            mine = durable is not None and durable.content == asked.text and key not in self.across.doubled
            if not others or mine:
                self.broken(f"{asked.text!r} was called another message")
        elif reply.code != TRY_LATER:
            self.broken(f"{asked.text!r} was refused with {reply.code}")
        elif durable is not None and durable.content == asked.text and asked.msg_id:
            self.broken(f"the repeat of {asked.text!r} was refused after it had been acknowledged")

    def _asked(self, link: Link, reply: SendReply, durable: Message | None) -> Sending | None:
        """Which of his sends is answered: the oldest. But a refusal does not wait where the broker is waited for."""
        waiting = [asked for asked in link.asked if asked.client_msg_id == reply.client_msg_id]
        if not waiting or (link.asked[0] is not waiting[0] and not self.record.acts_later):
            self.broken(f"{link.user} was answered out of order")
            return None
        if self.record.acts_later and durable is not None:
            conflict = reply.code == CONFLICT
            waiting = [asked for asked in waiting if (asked.text != durable.content) is conflict] or waiting
        link.asked.remove(waiting[0])
        return waiting[0]

    def _withdrawal(self, link: Link, reply: WithdrawReply) -> None:
        msg_id, fact = reply.msg_id, self.model.facts.get(reply.msg_id)
        durable = any(
            msg_id in node.withdrawn or (msg_id, link.user, 0) in node.claimed
            for node in self.record.known_to(link.server.number)
        )
        if reply.success and not (durable or (fact and fact.withdrawn)):
            self.broken(f"the withdrawal of {reply.msg_id} was acknowledged and is not durable")

    # -- receipts and notices

    def durable(self, node: int, events: Sequence[Event]) -> None:
        if self.record.linked:
            self.across.accepted(node, events)

    def acts_soon(self, node: int, events: Sequence[Event], news: Sequence[Acknowledged]) -> Callable[[], None]:
        return self.across.acts_soon(node, events, news)

    def receipts_due(self, node: int, events: Sequence[Acknowledged]) -> Callable[[], None]:
        """These ACKs are news to this node: it owes the senders who are here a receipt each, in this very turn."""
        due = [
            (link, event)
            for event in events
            for link in self.links
            if link.user == event.sender and link.server.number == node and link.closed is None
        ]

        def check() -> None:
            for link, event in due:
                if link.closed is None and (event.msg_id, event.status, False) not in link.receipts:
                    self.broken(f"{link.user} was not told that {event.msg_id} has status {event.status}")

        return check

    def _receipt(self, link: Link, receipt: ReceiptReply) -> None:
        msg_id, status = receipt.msg_id, receipt.status
        message, fact = self.record.messages.get(msg_id), self.model.facts.get(msg_id)
        by_business = self._telling == link.server.number
        if (msg_id, status, by_business) in link.receipts:
            self.broken(f"the receipt {status} of {msg_id} was told twice")
        link.receipts.add((msg_id, status, by_business))
        if message is None or (link.user, receipt.sender, receipt.receiver) != (
            message.sender,
            message.sender,
            message.receiver,
        ):
            self.broken(f"{link.user} was told about {msg_id}: {receipt}")
        elif by_business:
            if fact is None or fact.status < status:
                self.broken(f"business told the receipt {status} of {message.content!r} before it had it")
        else:
            here = self.record.of(link.server.number)
            here.known_ends.add(msg_id)
            known = self.record.known_to(link.server.number)
            if max(node.acked.get(msg_id, 0) for node in known) < status:
                self.broken(f"the receipt {status} of {message.content!r} was told before it was durable")
            self._safe(msg_id, status, "the receipt")

    def _notice(self, link: Link, notice: WithdrawNotice) -> None:
        link.notices.add(notice.msg_id)
        fact = self.model.facts.get(notice.msg_id)
        if fact is None or not fact.withdrawn:
            self.broken(f"{link.user} was told that {notice.msg_id} is withdrawn, and business does not say so")

    def tell(self, node: int, applied: Applied, tell: Callable[[Applied], None]) -> None:
        """Business tells a node: both sides of a withdrawal who are here hear of it at once."""
        ended = {receipt.msg_id: receipt.status for receipt in applied.receipts if receipt.status >= Status.DELIVERED}
        ended.update((withdrawal.msg_id, WITHDRAWN) for withdrawal in applied.withdrawals)
        self.record.of(node).heard(ended)
        self._told_ended.update((node, msg_id) for msg_id in ended)
        self._telling = node
        tell(applied)
        self._telling = 0
        for withdrawal in applied.withdrawals:
            for link in self.links:
                here = link.server.number == node and link.closed is None
                if (
                    here
                    and link.user in (withdrawal.sender, withdrawal.receiver)
                    and withdrawal.msg_id not in link.notices
                ):
                    self.broken(f"{link.user} was not told that {withdrawal.msg_id} is withdrawn")
