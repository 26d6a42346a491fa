from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from subprocess import run
from types import ModuleType
from unittest import SkipTest

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

import imconnect.wire
from imconnect.wire import gateway_pb2, im_pb2, peer_pb2, xzll_pb2
from tests.support import TestCase

ROOT = Path(next(iter(imconnect.wire.__path__))).parent.parent
SOURCES = {
    "imconnect/wire/im.proto": im_pb2,
    "imconnect/wire/gateway.proto": gateway_pb2,
    "imconnect/wire/peer.proto": peer_pb2,
    "imconnect/wire/xzll.proto": xzll_pb2,
}


def plain(descriptor: FileDescriptorProto) -> FileDescriptorProto:
    """Without the JSON names, which protoc writes into a descriptor set but not into a Python module."""
    for message in descriptor.message_type:
        for field in message.field:
            field.ClearField("json_name")
    return descriptor


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


class GeneratedModuleTests(TestCase):
    def test_every_source_is_checked(self) -> None:
        """A new .proto file has its place in the table above."""
        found = {path.relative_to(ROOT).as_posix() for path in (ROOT / "imconnect" / "wire").glob("*.proto")}
        self.assertEqual(found, set(SOURCES))

    def test_matches_its_source(self) -> None:
        """The checked-in modules say what the .proto files say."""
        if find_spec("grpc_tools") is None:
            if os.environ.get("CI"):
                self.fail("grpcio-tools is missing, so nobody checks that the generated modules belong to their source")
            raise SkipTest("grpcio-tools is not installed: cannot check that the modules belong to their source")
        for source, module in SOURCES.items():
            self.check_module(source, module)

    def check_module(self, source: str, module: ModuleType) -> None:
        target = Path(self.mktemp()).resolve()
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", f"--descriptor_set_out={target}"]
        run([*command, str(ROOT / source)], check=True)
        made = FileDescriptorSet.FromString(target.read_bytes()).file[0]
        checked_in = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        self.assertEqual(plain(made), plain(checked_in))

    def test_the_oldest_protobuf_that_setup_allows_will_do(self) -> None:
        """A module asks for the protobuf of its generator, or a newer one."""
        wanted = re.search(r"^ +protobuf >= ([\d.]+)$", (ROOT / "setup.cfg").read_text("utf-8"), re.MULTILINE)
        assert wanted is not None
        for module in SOURCES.values():
            made_by = re.search(r"# Protobuf Python Version: ([\d.]+)", Path(str(module.__file__)).read_text("utf-8"))
            assert made_by is not None
            self.assertLessEqual(numbers(made_by[1]), numbers(wanted[1]))

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
        self.assertEqual((im_pb2.MsgType.Value("MSG_STATE_QUERY"), im_pb2.MsgType.Value("MSG_STATE")), (20, 21))
        self.assertEqual(fields("MsgStateRow"), [("clientMsgId", 1), ("msgId", 2), ("state", 3)])
