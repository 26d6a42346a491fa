"""Events as plain values, for people and for JSON: what stands in im_event_parked where no queue wrote a body, and in an
export of the outbox. `made` reads what `plain` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imconnect.events.decode import MalformedEvent
from imconnect.events.values import Acknowledged, Event, Offlined, Sent, Withdrawn
from imconnect.model import Message

_ABOUT_A_MESSAGE = (Sent, Offlined)
_KINDS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in (Sent, Offlined, Acknowledged, Withdrawn)}


def plain(event: Event) -> dict[str, object]:
    """The event's kind and its fields; bytes as hex."""
    value = event.message if isinstance(event, _ABOUT_A_MESSAGE) else event
    fields = {name: each.hex() if isinstance(each, bytes) else each for name, each in value._asdict().items()}
    return {"event": type(event).__name__, **fields}


def made(fields: object) -> Event:
    """The event. Raises MalformedEvent, which quotes nothing."""
    if not isinstance(fields, Mapping):
        raise MalformedEvent("not an object")
    kind = _KINDS.get(str(fields.get("event")))
    if kind is None:
        raise MalformedEvent("event is unknown")
    of_a_message = kind in _ABOUT_A_MESSAGE
    template = _MESSAGE if of_a_message else _TEMPLATES[kind]
    values: list[Any] = [_value(fields, name, example) for name, example in template._asdict().items()]
    event: Event = kind(Message(*values)) if of_a_message else kind(*values)
    return event


_MESSAGE = Message(0, b"", 0, 0, 0, "", 0, 0)
_TEMPLATES: Mapping[type[Any], Any] = {
    Acknowledged: Acknowledged(0, b"", 0, 0, 0, 0, False),
    Withdrawn: Withdrawn(0, b"", 0, 0, 0, False),
}


def _value(fields: Mapping[Any, Any], name: str, example: object) -> object:
    """The field, of the same type as in the example."""
    value = fields.get(name)
    if isinstance(example, bytes):
        try:
            return bytes.fromhex(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise MalformedEvent(f"{name} is not hex") from None
    if type(value) is not type(example):
        raise MalformedEvent(f"{name} is missing or of another type")
    return value
