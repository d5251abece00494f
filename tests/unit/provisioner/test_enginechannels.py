"""A new engine at the port of one that is gone is reached, whatever became of the earlier one's channels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]
from pulumi.runtime import settings
from pulumi.runtime.proto import engine_pb2_grpc
from pulumi.runtime.proto.engine_pb2 import LogRequest

import bot.provisioner.engine  # noqa: F401 - sets how Pulumi's channels are made


class _Engine(engine_pb2_grpc.EngineServicer):
    def Log(self, request: Any, context: Any) -> Empty:
        return Empty()


def _engine_at(port: int) -> tuple[grpc.Server, int]:
    server = grpc.server(ThreadPoolExecutor(1))
    engine_pb2_grpc.add_EngineServicer_to_server(_Engine(), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound


def _channel_to(port: int) -> engine_pb2_grpc.EngineStub:
    """A channel as Pulumi itself makes it for a program."""
    engine = settings.Settings("zaki", "u-anybody", engine=f"127.0.0.1:{port}").engine
    assert isinstance(engine, engine_pb2_grpc.EngineStub)
    return engine


def _is_reached(engine: engine_pb2_grpc.EngineStub) -> bool:
    try:
        engine.Log(LogRequest(message="hello"))
    except grpc.RpcError:
        return False
    return True


def test_a_new_engine_is_reached_while_an_old_channel_waits() -> None:
    first, port = _engine_at(0)
    old = _channel_to(port)
    assert _is_reached(old)
    first.stop(None).wait()
    assert not any(_is_reached(old) for _ in range(3))
    second, _ = _engine_at(port)
    try:
        assert _is_reached(_channel_to(port))
    finally:
        second.stop(None).wait()
