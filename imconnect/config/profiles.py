"""The two profiles as one table, row by row; `profile_rows` in the configuration overrides each (docs/profiles.md).

What a row means is said where it is used: `events.dialect.Dialect`, `core.settings.Profile`, `business.rules.Terms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import attrs

from imconnect.business.rules import Terms
from imconnect.config.tree import Config
from imconnect.core.settings import SEED, XZLL, Profile
from imconnect.events import seed, xzll
from imconnect.events.dialect import Dialect

_T = TypeVar("_T")

_PROFILES: Mapping[str, Profile] = {"seed": SEED, "xzll": XZLL}
_DIALECTS: Mapping[str, Dialect] = {"seed": seed.SEED, "xzll": xzll.XZLL}
_TYPES = {"names": seed.SEED.types, "numbers": xzll.XZLL.types}


def dialect_of(config: Config) -> Dialect:
    """How events are written: topic, types, createTime, TAGS, KEYS, offline status, queue."""
    own, rows = _DIALECTS[config.profile], config.profile_rows
    tags = bool(own.tags) if rows.tags is None else rows.tags
    return attrs.evolve(
        own,
        topic=config.rocketmq.topic or own.topic,
        types=_TYPES[rows.event_types] if rows.event_types else own.types,
        tags=seed.SEED.tags if tags else {},
        keys=_chosen(rows.keys, own.keys),
        create_time=_chosen(rows.create_time, own.create_time),
        offline_status=_chosen(rows.offline_status, own.offline_status),
        queue_by_chat=rows.queue_by == "chat" if rows.queue_by else own.queue_by_chat,
    )


def profile_of(config: Config) -> Profile:
    """How the gateway answers: codes, ids, who acknowledges, when OFFLINE is written."""
    own, rows = _PROFILES[config.profile], config.profile_rows
    return attrs.evolve(
        own,
        success=_chosen(rows.success_code, own.success),
        codes=_PROFILES[rows.error_codes].codes if rows.error_codes else own.codes,
        epoch=_chosen(rows.id_epoch, own.epoch),
        stored_by_gateway=rows.server_ack == "gateway" if rows.server_ack else own.stored_by_gateway,
        receipts_by_gateway=rows.client_ack == "gateway" if rows.client_ack else own.receipts_by_gateway,
        offline_always=rows.offline_events == "every" if rows.offline_events else own.offline_always,
    )


def terms_of(config: Config) -> Terms:
    """What business has to tell."""
    profile = profile_of(config)
    return Terms(
        withdraw_window=int(config.limits.withdraw_window * 1000),
        always_tell=not profile.receipts_by_gateway,
        tell_stored=not profile.stored_by_gateway,
    )


def serves_java(config: Config) -> bool:
    """Whether the gRPC port serves com.xzll.grpc.MessageService."""
    return _chosen(config.profile_rows.java_grpc, config.profile == "xzll")


def _chosen(row: _T | None, profiles: _T) -> _T:
    return profiles if row is None else row
