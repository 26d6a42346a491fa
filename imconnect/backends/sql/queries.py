"""What the gateway and business read, as statements. Each one uses an index; tests hold them to it (EXPLAIN)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select, tuple_

from imconnect.backends.sql.schema import early, message, notice, offline, parked
from imconnect.business.rows import ParkedKey

Rows = Select[*tuple[Any, ...]]


def owed(user: int, after: int, limit: int) -> Rows:
    """A page of what a user is owed, in the order of msg_id."""
    return (
        select(*message.c)
        .join_from(offline, message, message.c.msg_id == offline.c.msg_id)
        .where(offline.c.user_id == user, offline.c.msg_id > after, message.c.withdraw_flag == 0)
        .order_by(offline.c.msg_id)
        .limit(limit)
    )


def known(msg_ids: Collection[int]) -> Rows:
    """Which of these messages there are."""
    return select(message.c.msg_id).where(message.c.msg_id.in_(msg_ids))


def overdue(users: Collection[int], before: int, per_user: int) -> Rows:
    """What was created before this time and is still owed, the oldest `per_user` of each."""
    order = (offline.c.create_time, offline.c.msg_id)
    ranked = (
        select(*offline.c, func.row_number().over(partition_by=offline.c.user_id, order_by=order).label("nth"))
        .where(offline.c.user_id.in_(users), offline.c.create_time < before)
        .subquery()
    )
    columns = ranked.c
    return (
        select(columns.user_id, columns.msg_id, columns.create_time)
        .where(columns.nth <= per_user)
        .order_by(columns.create_time, columns.msg_id)
    )


def find(msg_id: int) -> Rows:
    """One message."""
    return select(*message.c).where(message.c.msg_id == msg_id)


def states(user: int, client_msg_ids: Collection[str]) -> Rows:
    """What became of what this user sent under these clientMsgIds."""
    columns = message.c
    return select(
        columns.msg_id, columns.client_msg_id, columns.to_id, columns.msg_status, columns.withdraw_flag
    ).where(columns.from_id == user, columns.client_msg_id.in_(client_msg_ids))


def notices(user: int, since: int, limit: int) -> Rows:
    """The newest withdrawals to tell this user of, the newest first."""
    return (
        select(*notice.c)
        .where(notice.c.user_id == user, notice.c.time >= since)
        .order_by(notice.c.time.desc(), notice.c.msg_id.desc())
        .limit(limit)
    )


def messages(msg_ids: Collection[int]) -> Rows:
    return select(*message.c).where(message.c.msg_id.in_(msg_ids)).order_by(message.c.msg_id).with_for_update()


def early_of(msg_ids: Collection[int]) -> Rows:
    return select(*early.c).where(early.c.msg_id.in_(msg_ids)).order_by(*early.primary_key).with_for_update()


def early_counts(actors: Collection[int]) -> Rows:
    return select(early.c.actor, func.count()).where(early.c.actor.in_(actors)).group_by(early.c.actor)


def oldest_early(actor: int, limit: int) -> Rows:
    order = (early.c.kept_time, early.c.msg_id, early.c.kind, early.c.status)
    return select(*early.c).where(early.c.actor == actor).order_by(*order).limit(limit)


def settleable(limit: int) -> Rows:
    """Early events whose message is here, in the order in which people asked for them."""
    return (
        select(*early.c)
        .join_from(early, message, message.c.msg_id == early.c.msg_id)
        .order_by(early.c.time, early.c.kind, early.c.status, early.c.actor)
        .limit(limit)
    )


def purgeable(before: int, limit: int) -> Rows:
    """The oldest messages created before this time that nobody is owed."""
    # As a join: for NOT EXISTS MariaDB copies all that anybody is owed, every time.
    still_owed = and_(offline.c.user_id == message.c.to_id, offline.c.msg_id == message.c.msg_id)
    return (
        select(*message.c)
        .outerjoin_from(message, offline, still_owed)
        .where(message.c.msg_create_time < before, offline.c.user_id.is_(None))
        .order_by(message.c.msg_create_time, message.c.msg_id)
        .limit(limit)
        .with_for_update()
    )


def parked_rows(limit: int, at: ParkedKey | None, after: ParkedKey | None = None) -> Rows:
    rows = select(*parked.c).order_by(*parked.primary_key).limit(limit)
    if after is not None:
        rows = rows.where(tuple_(*parked.primary_key) > tuple_(*after))
    return rows if at is None else rows.where(parked_at(at))


def parked_at(key: ParkedKey) -> ColumnElement[bool]:
    """The condition for what is parked at one place."""
    topic, queue, offset = key
    return and_(parked.c.topic == topic, parked.c.queue == queue, parked.c["offset"] == offset)
