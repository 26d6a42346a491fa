from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HelloRequest(_message.Message):
    __slots__ = ("version", "node")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    version: int
    node: str
    def __init__(self, version: _Optional[int] = ..., node: _Optional[str] = ...) -> None: ...

class TellRequest(_message.Message):
    __slots__ = ("version", "receipts", "withdrawals", "hints")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWALS_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    version: int
    receipts: _containers.RepeatedCompositeFieldContainer[Receipt]
    withdrawals: _containers.RepeatedCompositeFieldContainer[Withdrawal]
    hints: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, version: _Optional[int] = ..., receipts: _Optional[_Iterable[_Union[Receipt, _Mapping]]] = ..., withdrawals: _Optional[_Iterable[_Union[Withdrawal, _Mapping]]] = ..., hints: _Optional[_Iterable[int]] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("version", "node")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    version: int
    node: str
    def __init__(self, version: _Optional[int] = ..., node: _Optional[str] = ...) -> None: ...

class Receipt(_message.Message):
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

class Withdrawal(_message.Message):
    __slots__ = ("msg_id", "sender", "receiver")
    MSG_ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    msg_id: int
    sender: int
    receiver: int
    def __init__(self, msg_id: _Optional[int] = ..., sender: _Optional[int] = ..., receiver: _Optional[int] = ...) -> None: ...
