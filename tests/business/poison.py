"""Bodies of the queue that are no event, of every kind that contract/business.md 1.3 and 1.4 know."""

from __future__ import annotations

import json
from collections.abc import Mapping

DATA: Mapping[str, object] = {
    "clientMsgId": "00000000-0000-0000-0000-000000000001",
    "msgId": "9001",
    "fromUserId": "1001",
    "toUserId": "1002",
    "chatId": "100-1-1001-1002",
    "msgFormat": 1,
    "msgContent": "poison",
    "msgCreateTime": 1764000000000,
}
_ACK = {**DATA, "fromUserId": "1002", "toUserId": "1001", "msgStatus": 3}


def _body(kind: object = 10, data: object = DATA, **more: object) -> bytes:
    inner = data if isinstance(data, str) else json.dumps(data)
    return json.dumps({"clusterEventType": kind, "data": inner, **more}).encode()


#: name -> body
POISON: Mapping[str, bytes] = {
    "not JSON": b"hello",
    "not UTF-8": b"\xff\xfe{",
    "cut": _body()[:-5],
    "an array": b"[]",
    "null": b"null",
    "no type": json.dumps({"data": json.dumps(DATA)}).encode(),
    "type null": _body(None),
    "type in another case": json.dumps({"ClusterEventType": 10, "data": json.dumps(DATA)}).encode(),
    "type true": _body(True),
    "type name nobody knows": _body("C2C_SOMETHING"),
    "type number nobody knows": _body(60),
    "no data": b'{"clusterEventType":10}',
    "data null": b'{"clusterEventType":10,"data":null}',
    "data empty": _body(10, ""),
    "data not JSON": _body(10, "hello"),
    "data an array": _body(10, "[1]"),
    "createTime in words": _body(10, createTime="yesterday"),
    "id not a number": _body(10, {**DATA, "msgId": "abc"}),
    "id too large": _body(10, {**DATA, "msgId": str(2**63)}),
    "id missing": _body(10, {**DATA, "toUserId": None}),
    "clientMsgId not a UUID": _body(10, {**DATA, "clientMsgId": "x"}),
    "format in words": _body(10, {**DATA, "msgFormat": "text"}),
    "format out of range": _body(10, {**DATA, "msgFormat": 1000}),
    "half a character": _body(10, {**DATA, "msgContent": "\ud800"}),
    "ACK without status": _body(30, {**_ACK, "msgStatus": None}),
    "ACK of status 2": _body(30, {**_ACK, "msgStatus": 2}),
    "withdrawal without msgId": _body(40, {**DATA, "msgId": ""}),
}


def good(msg_id: int, content: str = "hello, 世界 😀") -> bytes:
    """A SEND as the seed writes it."""
    client = f"00000000-0000-0000-0000-{msg_id:012x}"
    return json.dumps(
        {
            "clusterEventType": "C2C_SEND_MSG",
            "data": json.dumps({**DATA, "clientMsgId": client, "msgId": str(msg_id), "msgContent": content}),
        }
    ).encode()
