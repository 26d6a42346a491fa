from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from subprocess import run
from unittest import SkipTest

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

import imconnect.wire
from imconnect.wire import im_pb2
from tests.support import TestCase

SOURCE = "imconnect/wire/im.proto"


def plain(descriptor: FileDescriptorProto) -> FileDescriptorProto:
    """Without the JSON names, which protoc writes into a descriptor set but not into a Python module."""
    for message in descriptor.message_type:
        for field in message.field:
            field.ClearField("json_name")
    return descriptor


class GeneratedModuleTests(TestCase):
    def test_matches_its_source(self) -> None:
        """The checked-in module says what im.proto says."""
        if find_spec("grpc_tools") is None:
            if os.environ.get("CI"):
                self.fail("grpcio-tools is missing, so nobody checks that im_pb2.py belongs to im.proto")
            raise SkipTest("grpcio-tools is not installed: cannot check that im_pb2.py belongs to im.proto")
        root = Path(next(iter(imconnect.wire.__path__))).parent.parent
        target = Path(self.mktemp()).resolve()
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", f"--descriptor_set_out={target}"]
        run([*command, str(root / SOURCE)], check=True)
        made = FileDescriptorSet.FromString(target.read_bytes()).file[0]
        checked_in = FileDescriptorProto.FromString(im_pb2.DESCRIPTOR.serialized_pb)
        self.assertEqual(plain(made), plain(checked_in))

    def test_field_numbers_of_the_contract(self) -> None:
        """Spot checks against the tables, written by hand: what no peer may see changed."""

        def fields(name: str) -> list[tuple[str, int]]:
            return [(field.name, field.number) for field in im_pb2.DESCRIPTOR.message_types_by_name[name].fields]

        self.assertEqual(fields("ImProtoRequest"), [("type", 1), ("payload", 2)])
        self.assertEqual(fields("ImProtoResponse"), [("type", 1), ("payload", 2), ("code", 3), ("msg", 4)])
        names = ["clientMsgId", "msgId", "from", "to", "format", "content", "time"]
        self.assertEqual(fields("C2CSendReq"), list(zip(names, range(1, 8), strict=True)))
        self.assertEqual(fields("C2CMsgPush"), fields("C2CSendReq"))
        names = ["msgId", "clientMsgId", "success", "message", "timestamp"]
        self.assertEqual(fields("WithdrawMsgResponse"), list(zip(names, range(1, 6), strict=True)))
        self.assertEqual(im_pb2.MsgType.Value("HEARTBEAT"), 19)
