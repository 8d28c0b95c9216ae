# ruff: noqa: N802 - the service's names
# Types of hub_pb2_grpc.py; written by hand, grpcio-tools makes none.
from collections.abc import Iterator

import grpc

from facemorph_core.hub.proto import hub_pb2

class ModelHubStub:
    List: grpc.UnaryUnaryMultiCallable[hub_pb2.ListRequest, hub_pb2.ListReply]
    Describe: grpc.UnaryUnaryMultiCallable[hub_pb2.DescribeRequest, hub_pb2.Description]
    Download: grpc.UnaryStreamMultiCallable[hub_pb2.DownloadRequest, hub_pb2.Chunk]
    def __init__(self, channel: grpc.Channel) -> None: ...

class ModelHubServicer:
    def List(
        self, request: hub_pb2.ListRequest, context: grpc.ServicerContext
    ) -> hub_pb2.ListReply: ...
    def Describe(
        self, request: hub_pb2.DescribeRequest, context: grpc.ServicerContext
    ) -> hub_pb2.Description: ...
    def Download(
        self, request: hub_pb2.DownloadRequest, context: grpc.ServicerContext
    ) -> Iterator[hub_pb2.Chunk]: ...

def add_ModelHubServicer_to_server(servicer: ModelHubServicer, server: grpc.Server) -> None: ...
