"""gRPC's interoperability test service, on grpcio."""

import pathlib
import sys
import time
from concurrent import futures

import grpc

messages, services = grpc.protos_and_services("interop.proto")


def echo_metadata(context):
    sent = dict(context.invocation_metadata())
    if "x-grpc-test-echo-initial" in sent:
        context.send_initial_metadata((("x-grpc-test-echo-initial", sent["x-grpc-test-echo-initial"]),))
    if "x-grpc-test-echo-trailing-bin" in sent:
        context.set_trailing_metadata((("x-grpc-test-echo-trailing-bin", sent["x-grpc-test-echo-trailing-bin"]),))


def echo_status(request, context):
    if request.HasField("response_status") and request.response_status.code:
        code = next(each for each in grpc.StatusCode if each.value[0] == request.response_status.code)
        context.abort(code, request.response_status.message)


def payload(size):
    return messages.Payload(body=bytes(size))


class TestService(services.TestServiceServicer):
    def EmptyCall(self, request, context):
        echo_metadata(context)
        return messages.Empty()

    def UnaryCall(self, request, context):
        echo_metadata(context)
        echo_status(request, context)
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        return messages.SimpleResponse(payload=payload(request.response_size))

    def StreamingOutputCall(self, request, context):
        echo_status(request, context)
        for each in request.response_parameters:
            if each.compressed.value:
                context.set_compression(grpc.Compression.Gzip)
            time.sleep(each.interval_us / 1e6)
            yield messages.StreamingOutputCallResponse(payload=payload(each.size))

    def StreamingInputCall(self, requests, context):
        size = sum(len(request.payload.body) for request in requests)
        return messages.StreamingInputCallResponse(aggregated_payload_size=size)

    def FullDuplexCall(self, requests, context):
        echo_metadata(context)
        for request in requests:
            echo_status(request, context)
            for each in request.response_parameters:
                time.sleep(each.interval_us / 1e6)
                yield messages.StreamingOutputCallResponse(payload=payload(each.size))


server = grpc.server(futures.ThreadPoolExecutor(16))
services.add_TestServiceServicer_to_server(TestService(), server)
assert server.add_insecure_port(f"[::]:{sys.argv[1]}")
server.start()
pathlib.Path(sys.argv[2]).touch()
server.wait_for_termination()
