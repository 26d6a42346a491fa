from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HandRequest(_message.Message):
    __slots__ = ("version", "node", "messages", "ends", "kicks", "withdrawals", "receipts", "hints")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    KICKS_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWALS_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    version: int
    node: int
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    ends: _containers.RepeatedCompositeFieldContainer[End]
    kicks: _containers.RepeatedCompositeFieldContainer[Kick]
    withdrawals: _containers.RepeatedCompositeFieldContainer[Withdrawal]
    receipts: _containers.RepeatedCompositeFieldContainer[End]
    hints: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, version: _Optional[int] = ..., node: _Optional[int] = ..., messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., ends: _Optional[_Iterable[_Union[End, _Mapping]]] = ..., kicks: _Optional[_Iterable[_Union[Kick, _Mapping]]] = ..., withdrawals: _Optional[_Iterable[_Union[Withdrawal, _Mapping]]] = ..., receipts: _Optional[_Iterable[_Union[End, _Mapping]]] = ..., hints: _Optional[_Iterable[int]] = ...) -> None: ...

class Withdrawal(_message.Message):
    __slots__ = ("msg_id", "sender", "receiver")
    MSG_ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    msg_id: int
    sender: int
    receiver: int
    def __init__(self, msg_id: _Optional[int] = ..., sender: _Optional[int] = ..., receiver: _Optional[int] = ...) -> None: ...

class HandReply(_message.Message):
    __slots__ = ("version", "taken")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    version: int
    taken: bytes
    def __init__(self, version: _Optional[int] = ..., taken: _Optional[bytes] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("msg_id", "client_msg_id", "sender", "receiver", "format", "content", "time", "created", "late")
    MSG_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_MSG_ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    msg_id: int
    client_msg_id: bytes
    sender: int
    receiver: int
    format: int
    content: str
    time: int
    created: int
    late: bool
    def __init__(self, msg_id: _Optional[int] = ..., client_msg_id: _Optional[bytes] = ..., sender: _Optional[int] = ..., receiver: _Optional[int] = ..., format: _Optional[int] = ..., content: _Optional[str] = ..., time: _Optional[int] = ..., created: _Optional[int] = ..., late: bool = ...) -> None: ...

class End(_message.Message):
    __slots__ = ("msg_id", "client_msg_id", "sender", "receiver", "status")
    MSG_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_MSG_ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    msg_id: int
    client_msg_id: bytes
    sender: int
    receiver: int
    status: int
    def __init__(self, msg_id: _Optional[int] = ..., client_msg_id: _Optional[bytes] = ..., sender: _Optional[int] = ..., receiver: _Optional[int] = ..., status: _Optional[int] = ...) -> None: ...

class Kick(_message.Message):
    __slots__ = ("user", "device", "turn")
    USER_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    user: int
    device: str
    turn: int
    def __init__(self, user: _Optional[int] = ..., device: _Optional[str] = ..., turn: _Optional[int] = ...) -> None: ...
