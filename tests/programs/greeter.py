"""A gRPC server without a word of the mesh: four kinds of calls, on bytes."""

import pathlib
import sys
import time
from concurrent import futures

import grpc


def caller(context):
    return dict(context.invocation_metadata()).get("x-mesh-peer", "nobody").encode()


def unary(request, context):
    if request == b"fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked: 100 % of it")
    if request == b"sleep":
        while context.is_active():
            time.sleep(0.01)
        return b"late"
    context.send_initial_metadata((("said-first", "hello"), ("raw-bin", b"\x00\xff")))
    context.set_trailing_metadata((("said-last", "bye"),))
    metadata = dict(context.invocation_metadata())
    return b" ".join([request, metadata["asked"].encode(), metadata["asked-bin"], caller(context)])


def server_stream(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def client_stream(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def both(requests, context):
    for request in requests:
        yield request[::-1]


handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Greeter", handlers),))
assert server.add_insecure_port(f"[::]:{sys.argv[1]}")
server.start()
pathlib.Path(sys.argv[2]).touch()
server.wait_for_termination()
