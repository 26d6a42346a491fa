"""What lies in the topic against what was sent: the part of the accounts that an embedded queue has not."""

from __future__ import annotations

from collections.abc import Iterator

from imconnect.events.dialect import ABOUT_A_MESSAGE, chat_of, msg_id_of
from imconnect.events.values import Acknowledged, Sent, Withdrawn
from tests.live.books import Books


def out_of_order(books: Books) -> Iterator[str]:
    """By first occurrence: a duplicate is possible after a crash, a gap is not."""
    begun = set(books.terms.early)  # nobody ever sent these
    highest: dict[tuple[int, str], int] = {}
    for each in sorted(books.topic or (), key=lambda each: (each.queue, each.offset)):
        msg_id = msg_id_of(each.event)
        if msg_id in begun:
            continue
        begun.add(msg_id)
        if not isinstance(each.event, Sent):
            yield f"queue {each.queue}: {type(each.event).__name__} of {msg_id} lies before its Sent"
            continue
        chat = (each.queue, chat_of(each.event))
        if msg_id < highest.get(chat, 0):
            yield f"queue {each.queue}: {msg_id} lies behind {highest[chat]}"
        highest[chat] = max(msg_id, highest.get(chat, 0))


def wrong_fields(books: Books) -> Iterator[str]:
    bodies: dict[str, bytes] = {}
    for each in books.topic or ():
        if bodies.setdefault(each.unique, each.body) != each.body:
            yield f"two bodies have the UNIQ_KEY {each.unique}"
        event = each.event
        if isinstance(event, ABOUT_A_MESSAGE):
            message = event.message
            sent = books.sends.get((message.sender, message.client_msg_id))
            if sent is not None and (message.receiver, message.format, message.content) != sent[1:4]:
                yield f"{type(event).__name__} of {message.msg_id} is not what was sent"
        row = books.row.get(msg_id_of(event))
        if row is not None and isinstance(event, Acknowledged) and event.receiver != row.to_id:
            yield f"{event.receiver} acknowledged {event.msg_id}, which is to {row.to_id}"
        if row is not None and isinstance(event, Withdrawn) and event.sender != row.from_id:
            yield f"{event.sender} withdrew {event.msg_id}, which is of {row.from_id}"
