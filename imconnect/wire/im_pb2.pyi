from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MsgType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MSG_TYPE_UNKNOWN: _ClassVar[MsgType]
    C2C_SEND: _ClassVar[MsgType]
    C2C_ACK: _ClassVar[MsgType]
    C2C_WITHDRAW: _ClassVar[MsgType]
    GET_BATCH_MSG_IDS: _ClassVar[MsgType]
    C2C_MSG_PUSH: _ClassVar[MsgType]
    PUSH_BATCH_MSG_IDS: _ClassVar[MsgType]
    GROUP_SEND: _ClassVar[MsgType]
    GROUP_MSG_PUSH: _ClassVar[MsgType]
    GROUP_ACK: _ClassVar[MsgType]
    GROUP_WITHDRAW: _ClassVar[MsgType]
    FRIEND_REQUEST: _ClassVar[MsgType]
    FRIEND_RESPONSE: _ClassVar[MsgType]
    CLIENT_RECEIVED_MSG_ACK: _ClassVar[MsgType]
    WITHDRAW_MSG_SEND: _ClassVar[MsgType]
    WITHDRAW_MSG_RESPONSE: _ClassVar[MsgType]
    MSG_DELIVERY_NOTIFICATION: _ClassVar[MsgType]
    MSG_WITHDRAW_NOTIFICATION: _ClassVar[MsgType]
    SERVER_ACK: _ClassVar[MsgType]
    HEARTBEAT: _ClassVar[MsgType]
    MSG_STATE_QUERY: _ClassVar[MsgType]
    MSG_STATE: _ClassVar[MsgType]
MSG_TYPE_UNKNOWN: MsgType
C2C_SEND: MsgType
C2C_ACK: MsgType
C2C_WITHDRAW: MsgType
GET_BATCH_MSG_IDS: MsgType
C2C_MSG_PUSH: MsgType
PUSH_BATCH_MSG_IDS: MsgType
GROUP_SEND: MsgType
GROUP_MSG_PUSH: MsgType
GROUP_ACK: MsgType
GROUP_WITHDRAW: MsgType
FRIEND_REQUEST: MsgType
FRIEND_RESPONSE: MsgType
CLIENT_RECEIVED_MSG_ACK: MsgType
WITHDRAW_MSG_SEND: MsgType
WITHDRAW_MSG_RESPONSE: MsgType
MSG_DELIVERY_NOTIFICATION: MsgType
MSG_WITHDRAW_NOTIFICATION: MsgType
SERVER_ACK: MsgType
HEARTBEAT: MsgType
MSG_STATE_QUERY: MsgType
MSG_STATE: MsgType

class ImProtoRequest(_message.Message):
    __slots__ = ("type", "payload")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    type: MsgType
    payload: bytes
    def __init__(self, type: _Optional[_Union[MsgType, str]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class ImProtoResponse(_message.Message):
    __slots__ = ("type", "payload", "code", "msg")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MSG_FIELD_NUMBER: _ClassVar[int]
    type: MsgType
    payload: bytes
    code: int
    msg: str
    def __init__(self, type: _Optional[_Union[MsgType, str]] = ..., payload: _Optional[bytes] = ..., code: _Optional[int] = ..., msg: _Optional[str] = ...) -> None: ...

class C2CSendReq(_message.Message):
    __slots__ = ("clientMsgId", "msgId", "to", "format", "content", "time")
    CLIENTMSGID_FIELD_NUMBER: _ClassVar[int]
    MSGID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    clientMsgId: bytes
    msgId: int
    to: int
    format: int
    content: str
    time: int
    def __init__(self, clientMsgId: _Optional[bytes] = ..., msgId: _Optional[int] = ..., to: _Optional[int] = ..., format: _Optional[int] = ..., content: _Optional[str] = ..., time: _Optional[int] = ..., **kwargs) -> None: ...

class C2CMsgPush(_message.Message):
    __slots__ = ("clientMsgId", "msgId", "to", "format", "content", "time")
    CLIENTMSGID_FIELD_NUMBER: _ClassVar[int]
    MSGID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    clientMsgId: bytes
    msgId: int
    to: int
    format: int
    content: str
    time: int
    def __init__(self, clientMsgId: _Optional[bytes] = ..., msgId: _Optional[int] = ..., to: _Optional[int] = ..., format: _Optional[int] = ..., content: _Optional[str] = ..., time: _Optional[int] = ..., **kwargs) -> None: ...

class C2CAckReq(_message.Message):
    __slots__ = ("clientMsgId", "msgId", "to", "status")
    CLIENTMSGID_FIELD_NUMBER: _ClassVar[int]
    MSGID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    clientMsgId: bytes
    msgId: int
    to: int
    status: int
    def __init__(self, clientMsgId: _Optional[bytes] = ..., msgId: _Optional[int] = ..., to: _Optional[int] = ..., status: _Optional[int] = ..., **kwargs) -> None: ...

class C2CWithdrawReq(_message.Message):
    __slots__ = ("msgId", "to")
    MSGID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    msgId: int
    to: int
    def __init__(self, msgId: _Optional[int] = ..., to: _Optional[int] = ..., **kwargs) -> None: ...

class GetBatchMsgIdsReq(_message.Message):
    __slots__ = ("userId",)
    USERID_FIELD_NUMBER: _ClassVar[int]
    userId: int
    def __init__(self, userId: _Optional[int] = ...) -> None: ...

class BatchMsgIdsPush(_message.Message):
    __slots__ = ("msgIds",)
    MSGIDS_FIELD_NUMBER: _ClassVar[int]
    msgIds: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, msgIds: _Optional[_Iterable[int]] = ...) -> None: ...

class MsgStateQuery(_message.Message):
    __slots__ = ("clientMsgIds",)
    CLIENTMSGIDS_FIELD_NUMBER: _ClassVar[int]
    clientMsgIds: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, clientMsgIds: _Optional[_Iterable[bytes]] = ...) -> None: ...

class MsgState(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[MsgStateRow]
    def __init__(self, rows: _Optional[_Iterable[_Union[MsgStateRow, _Mapping]]] = ...) -> None: ...

class MsgStateRow(_message.Message):
    __slots__ = ("clientMsgId", "msgId", "state")
    CLIENTMSGID_FIELD_NUMBER: _ClassVar[int]
    MSGID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    clientMsgId: bytes
    msgId: int
    state: int
    def __init__(self, clientMsgId: _Optional[bytes] = ..., msgId: _Optional[int] = ..., state: _Optional[int] = ...) -> None: ...

class FriendRequestPush(_message.Message):
    __slots__ = ("toUserId", "requestId", "fromUserId", "fromUserName", "fromUserAvatar", "requestMessage", "status", "createTime", "pushTitle", "pushContent")
    TOUSERID_FIELD_NUMBER: _ClassVar[int]
    REQUESTID_FIELD_NUMBER: _ClassVar[int]
    FROMUSERID_FIELD_NUMBER: _ClassVar[int]
    FROMUSERNAME_FIELD_NUMBER: _ClassVar[int]
    FROMUSERAVATAR_FIELD_NUMBER: _ClassVar[int]
    REQUESTMESSAGE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATETIME_FIELD_NUMBER: _ClassVar[int]
    PUSHTITLE_FIELD_NUMBER: _ClassVar[int]
    PUSHCONTENT_FIELD_NUMBER: _ClassVar[int]
    toUserId: int
    requestId: bytes
    fromUserId: int
    fromUserName: str
    fromUserAvatar: str
    requestMessage: str
    status: int
    createTime: int
    pushTitle: str
    pushContent: str
    def __init__(self, toUserId: _Optional[int] = ..., requestId: _Optional[bytes] = ..., fromUserId: _Optional[int] = ..., fromUserName: _Optional[str] = ..., fromUserAvatar: _Optional[str] = ..., requestMessage: _Optional[str] = ..., status: _Optional[int] = ..., createTime: _Optional[int] = ..., pushTitle: _Optional[str] = ..., pushContent: _Optional[str] = ...) -> None: ...

class FriendResponsePush(_message.Message):
    __slots__ = ("toUserId", "requestId", "fromUserId", "fromUserName", "fromUserAvatar", "status", "responseTime", "pushTitle", "pushContent")
    TOUSERID_FIELD_NUMBER: _ClassVar[int]
    REQUESTID_FIELD_NUMBER: _ClassVar[int]
    FROMUSERID_FIELD_NUMBER: _ClassVar[int]
    FROMUSERNAME_FIELD_NUMBER: _ClassVar[int]
    FROMUSERAVATAR_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESPONSETIME_FIELD_NUMBER: _ClassVar[int]
    PUSHTITLE_FIELD_NUMBER: _ClassVar[int]
    PUSHCONTENT_FIELD_NUMBER: _ClassVar[int]
    toUserId: int
    requestId: bytes
    fromUserId: int
    fromUserName: str
    fromUserAvatar: str
    status: int
    responseTime: int
    pushTitle: str
    pushContent: str
    def __init__(self, toUserId: _Optional[int] = ..., requestId: _Optional[bytes] = ..., fromUserId: _Optional[int] = ..., fromUserName: _Optional[str] = ..., fromUserAvatar: _Optional[str] = ..., status: _Optional[int] = ..., responseTime: _Optional[int] = ..., pushTitle: _Optional[str] = ..., pushContent: _Optional[str] = ...) -> None: ...

class GroupSendReq(_message.Message):
    __slots__ = ("msgId", "groupId", "format", "content", "time")
    MSGID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    GROUPID_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    msgId: int
    groupId: int
    format: int
    content: str
    time: int
    def __init__(self, msgId: _Optional[int] = ..., groupId: _Optional[int] = ..., format: _Optional[int] = ..., content: _Optional[str] = ..., time: _Optional[int] = ..., **kwargs) -> None: ...

class GroupMsgPush(_message.Message):
    __slots__ = ("msgId", "fromNickname", "fromAvatar", "groupId", "groupName", "format", "content", "time", "memberCount")
    MSGID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    FROMNICKNAME_FIELD_NUMBER: _ClassVar[int]
    FROMAVATAR_FIELD_NUMBER: _ClassVar[int]
    GROUPID_FIELD_NUMBER: _ClassVar[int]
    GROUPNAME_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    MEMBERCOUNT_FIELD_NUMBER: _ClassVar[int]
    msgId: int
    fromNickname: str
    fromAvatar: str
    groupId: int
    groupName: str
    format: int
    content: str
    time: int
    memberCount: int
    def __init__(self, msgId: _Optional[int] = ..., fromNickname: _Optional[str] = ..., fromAvatar: _Optional[str] = ..., groupId: _Optional[int] = ..., groupName: _Optional[str] = ..., format: _Optional[int] = ..., content: _Optional[str] = ..., time: _Optional[int] = ..., memberCount: _Optional[int] = ..., **kwargs) -> None: ...

class GroupAckReq(_message.Message):
    __slots__ = ("msgId", "userId", "groupId", "status")
    MSGID_FIELD_NUMBER: _ClassVar[int]
    USERID_FIELD_NUMBER: _ClassVar[int]
    GROUPID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    msgId: int
    userId: int
    groupId: int
    status: int
    def __init__(self, msgId: _Optional[int] = ..., userId: _Optional[int] = ..., groupId: _Optional[int] = ..., status: _Optional[int] = ...) -> None: ...

class GroupWithdrawReq(_message.Message):
    __slots__ = ("msgId", "groupId", "withdrawTime")
    MSGID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    GROUPID_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWTIME_FIELD_NUMBER: _ClassVar[int]
    msgId: int
    groupId: int
    withdrawTime: int
    def __init__(self, msgId: _Optional[int] = ..., groupId: _Optional[int] = ..., withdrawTime: _Optional[int] = ..., **kwargs) -> None: ...

class GroupWithdrawPush(_message.Message):
    __slots__ = ("msgId", "groupId", "operatorNickname", "withdrawTime", "isAdmin")
    MSGID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    GROUPID_FIELD_NUMBER: _ClassVar[int]
    OPERATORNICKNAME_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWTIME_FIELD_NUMBER: _ClassVar[int]
    ISADMIN_FIELD_NUMBER: _ClassVar[int]
    msgId: int
    groupId: int
    operatorNickname: str
    withdrawTime: int
    isAdmin: bool
    def __init__(self, msgId: _Optional[int] = ..., groupId: _Optional[int] = ..., operatorNickname: _Optional[str] = ..., withdrawTime: _Optional[int] = ..., isAdmin: bool = ..., **kwargs) -> None: ...

class ClientReceivedMsgAck(_message.Message):
    __slots__ = ("clientMsgId", "msgId", "time")
    CLIENTMSGID_FIELD_NUMBER: _ClassVar[int]
    MSGID_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    clientMsgId: bytes
    msgId: int
    time: int
    def __init__(self, clientMsgId: _Optional[bytes] = ..., msgId: _Optional[int] = ..., time: _Optional[int] = ...) -> None: ...

class WithdrawMsgSend(_message.Message):
    __slots__ = ("msgId", "clientMsgId", "time")
    MSGID_FIELD_NUMBER: _ClassVar[int]
    CLIENTMSGID_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    msgId: int
    clientMsgId: bytes
    time: int
    def __init__(self, msgId: _Optional[int] = ..., clientMsgId: _Optional[bytes] = ..., time: _Optional[int] = ...) -> None: ...

class WithdrawMsgResponse(_message.Message):
    __slots__ = ("msgId", "clientMsgId", "success", "message", "timestamp")
    MSGID_FIELD_NUMBER: _ClassVar[int]
    CLIENTMSGID_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    msgId: int
    clientMsgId: bytes
    success: bool
    message: str
    timestamp: int
    def __init__(self, msgId: _Optional[int] = ..., clientMsgId: _Optional[bytes] = ..., success: bool = ..., message: _Optional[str] = ..., timestamp: _Optional[int] = ...) -> None: ...

class C2CMessage(_message.Message):
    __slots__ = ("msgId", "to", "content", "format", "sendTime", "isWithdrawn")
    MSGID_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SENDTIME_FIELD_NUMBER: _ClassVar[int]
    ISWITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    msgId: int
    to: int
    content: str
    format: int
    sendTime: int
    isWithdrawn: bool
    def __init__(self, msgId: _Optional[int] = ..., to: _Optional[int] = ..., content: _Optional[str] = ..., format: _Optional[int] = ..., sendTime: _Optional[int] = ..., isWithdrawn: bool = ..., **kwargs) -> None: ...

class ServerAck(_message.Message):
    __slots__ = ("clientMsgId", "msgId", "success", "timestamp")
    CLIENTMSGID_FIELD_NUMBER: _ClassVar[int]
    MSGID_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    clientMsgId: bytes
    msgId: int
    success: bool
    timestamp: int
    def __init__(self, clientMsgId: _Optional[bytes] = ..., msgId: _Optional[int] = ..., success: bool = ..., timestamp: _Optional[int] = ...) -> None: ...

class MessageDeliveryNotification(_message.Message):
    __slots__ = ("msgId", "clientMsgId", "deliveredAt", "receiverAck")
    MSGID_FIELD_NUMBER: _ClassVar[int]
    CLIENTMSGID_FIELD_NUMBER: _ClassVar[int]
    DELIVEREDAT_FIELD_NUMBER: _ClassVar[int]
    RECEIVERACK_FIELD_NUMBER: _ClassVar[int]
    msgId: int
    clientMsgId: bytes
    deliveredAt: int
    receiverAck: bool
    def __init__(self, msgId: _Optional[int] = ..., clientMsgId: _Optional[bytes] = ..., deliveredAt: _Optional[int] = ..., receiverAck: bool = ...) -> None: ...

class MessageWithdrawNotification(_message.Message):
    __slots__ = ("msgId", "clientMsgId", "withdrawnAt", "withdrawnBy", "originalContent")
    MSGID_FIELD_NUMBER: _ClassVar[int]
    CLIENTMSGID_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWNAT_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWNBY_FIELD_NUMBER: _ClassVar[int]
    ORIGINALCONTENT_FIELD_NUMBER: _ClassVar[int]
    msgId: int
    clientMsgId: bytes
    withdrawnAt: int
    withdrawnBy: int
    originalContent: str
    def __init__(self, msgId: _Optional[int] = ..., clientMsgId: _Optional[bytes] = ..., withdrawnAt: _Optional[int] = ..., withdrawnBy: _Optional[int] = ..., originalContent: _Optional[str] = ...) -> None: ...
