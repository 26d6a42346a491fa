from imconnect.wire import im_pb2 as _im_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ServerAckPush(_message.Message):
    __slots__ = ("toUserId", "clientMsgId", "msgId", "msgReceivedStatus", "receiveTime")
    TOUSERID_FIELD_NUMBER: _ClassVar[int]
    CLIENTMSGID_FIELD_NUMBER: _ClassVar[int]
    MSGID_FIELD_NUMBER: _ClassVar[int]
    MSGRECEIVEDSTATUS_FIELD_NUMBER: _ClassVar[int]
    RECEIVETIME_FIELD_NUMBER: _ClassVar[int]
    toUserId: int
    clientMsgId: bytes
    msgId: int
    msgReceivedStatus: int
    receiveTime: int
    def __init__(self, toUserId: _Optional[int] = ..., clientMsgId: _Optional[bytes] = ..., msgId: _Optional[int] = ..., msgReceivedStatus: _Optional[int] = ..., receiveTime: _Optional[int] = ...) -> None: ...

class ClientAckPush(_message.Message):
    __slots__ = ("toUserId", "clientMsgId", "msgId", "msgReceivedStatus", "receiveTime")
    TOUSERID_FIELD_NUMBER: _ClassVar[int]
    CLIENTMSGID_FIELD_NUMBER: _ClassVar[int]
    MSGID_FIELD_NUMBER: _ClassVar[int]
    MSGRECEIVEDSTATUS_FIELD_NUMBER: _ClassVar[int]
    RECEIVETIME_FIELD_NUMBER: _ClassVar[int]
    toUserId: int
    clientMsgId: bytes
    msgId: int
    msgReceivedStatus: int
    receiveTime: int
    def __init__(self, toUserId: _Optional[int] = ..., clientMsgId: _Optional[bytes] = ..., msgId: _Optional[int] = ..., msgReceivedStatus: _Optional[int] = ..., receiveTime: _Optional[int] = ...) -> None: ...

class WithdrawPush(_message.Message):
    __slots__ = ("toUserId", "msgId", "fromUserId")
    TOUSERID_FIELD_NUMBER: _ClassVar[int]
    MSGID_FIELD_NUMBER: _ClassVar[int]
    FROMUSERID_FIELD_NUMBER: _ClassVar[int]
    toUserId: int
    msgId: int
    fromUserId: int
    def __init__(self, toUserId: _Optional[int] = ..., msgId: _Optional[int] = ..., fromUserId: _Optional[int] = ...) -> None: ...

class WebBaseResponse(_message.Message):
    __slots__ = ("code", "message", "data", "success")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    data: str
    success: bool
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., data: _Optional[str] = ..., success: bool = ...) -> None: ...
