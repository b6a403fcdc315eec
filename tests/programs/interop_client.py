"""gRPC's interoperability test cases, as far as grpcio can play them. Prints each that went well."""

import sys
import threading

import grpc

messages, services = grpc.protos_and_services("interop.proto")
LIMIT = 20
SIZES = [(31415, 27182), (9, 8), (2653, 1828), (58979, 45904)]
METADATA = (
    ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
    ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"),
)
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


def payload(size):
    return messages.Payload(body=bytes(size))


def large(**more):
    return messages.SimpleRequest(response_size=314159, payload=payload(271828), **more)


def output(size, sent=0, interval_us=0, **more):
    parameters = messages.ResponseParameters(size=size, interval_us=interval_us, **more)
    return messages.StreamingOutputCallRequest(response_parameters=[parameters], payload=payload(sent))


def fails(code, call, details=None):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, error
        assert details is None or error.details() == details, error.details()
    else:
        raise AssertionError("it did not fail")


class Turns:
    """Messages that are sent one by one, each when it is asked for."""

    def __init__(self):
        self.condition = threading.Condition()
        self.waiting, self.over = [], False

    def send(self, message):
        with self.condition:
            self.waiting.append(message)
            self.condition.notify()

    def end(self):
        with self.condition:
            self.over = True
            self.condition.notify()

    def __iter__(self):
        return self

    def __next__(self):
        with self.condition:
            self.condition.wait_for(lambda: self.waiting or self.over)
            if not self.waiting:
                raise StopIteration
            return self.waiting.pop(0)


def empty_unary(stub):
    assert stub.EmptyCall(messages.Empty(), timeout=LIMIT) == messages.Empty()


def large_unary(stub):
    assert stub.UnaryCall(large(), timeout=LIMIT).payload == payload(314159)


def client_compressed_unary(stub):
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate, grpc.Compression.NoCompression):
        answer = stub.UnaryCall(large(), compression=compression, timeout=LIMIT)
        assert answer.payload == payload(314159)


def server_compressed_unary(stub):
    for compressed in (True, False):
        request = large(response_compressed=messages.BoolValue(value=compressed))
        assert stub.UnaryCall(request, timeout=LIMIT).payload == payload(314159)


def client_streaming(stub):
    requests = (messages.StreamingInputCallRequest(payload=payload(sent)) for _, sent in SIZES)
    assert stub.StreamingInputCall(requests, timeout=LIMIT).aggregated_payload_size == 74922


def client_compressed_streaming(stub):
    requests = (messages.StreamingInputCallRequest(payload=payload(sent)) for _, sent in SIZES)
    answer = stub.StreamingInputCall(requests, compression=grpc.Compression.Gzip, timeout=LIMIT)
    assert answer.aggregated_payload_size == 74922


def server_streaming(stub, **more):
    parameters = [messages.ResponseParameters(size=size, **more) for size, _ in SIZES]
    request = messages.StreamingOutputCallRequest(response_parameters=parameters)
    answers = [len(answer.payload.body) for answer in stub.StreamingOutputCall(request, timeout=LIMIT)]
    assert answers == [size for size, _ in SIZES], answers


def server_compressed_streaming(stub):
    server_streaming(stub, compressed=messages.BoolValue(value=True))


def ping_pong(stub):
    turns = Turns()
    answers = stub.FullDuplexCall(turns, timeout=LIMIT)
    for size, sent in SIZES:
        turns.send(output(size, sent))
        assert next(answers).payload == payload(size)
    turns.end()
    assert list(answers) == []


def empty_stream(stub):
    assert list(stub.FullDuplexCall(iter(()), timeout=LIMIT)) == []


def custom_metadata(stub):
    def check(call):
        assert ("x-grpc-test-echo-initial", "test_initial_metadata_value") in call.initial_metadata()
        assert ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab") in call.trailing_metadata()

    _, call = stub.UnaryCall.with_call(large(), metadata=METADATA, timeout=LIMIT)
    check(call)
    call = stub.FullDuplexCall(iter([output(314159, 271828)]), metadata=METADATA, timeout=LIMIT)
    assert [answer.payload for answer in call] == [payload(314159)]
    check(call)


def status_code_and_message(stub):
    status = messages.EchoStatus(code=2, message="test status message")
    request = messages.SimpleRequest(response_status=status)
    fails(grpc.StatusCode.UNKNOWN, lambda: stub.UnaryCall(request, timeout=LIMIT), status.message)
    request = messages.StreamingOutputCallRequest(response_status=status)
    fails(grpc.StatusCode.UNKNOWN, lambda: list(stub.FullDuplexCall(iter([request]), timeout=LIMIT)), status.message)


def special_status_message(stub):
    request = messages.SimpleRequest(response_status=messages.EchoStatus(code=2, message=SPECIAL))
    fails(grpc.StatusCode.UNKNOWN, lambda: stub.UnaryCall(request, timeout=LIMIT), SPECIAL)


def unimplemented_method(stub):
    fails(grpc.StatusCode.UNIMPLEMENTED, lambda: stub.UnimplementedCall(messages.Empty(), timeout=LIMIT))


def unimplemented_service(stub):
    other = services.UnimplementedServiceStub(stub.channel)
    fails(grpc.StatusCode.UNIMPLEMENTED, lambda: other.UnimplementedCall(messages.Empty(), timeout=LIMIT))


def cancel_after_begin(stub):
    turns = Turns()
    call = stub.StreamingInputCall.future(turns, timeout=LIMIT)
    call.cancel()
    turns.end()
    assert call.cancelled() and call.code() == grpc.StatusCode.CANCELLED


def cancel_after_first_response(stub):
    turns = Turns()
    call = stub.FullDuplexCall(turns, timeout=LIMIT)
    turns.send(output(31415, 27182))
    assert next(call).payload == payload(31415)
    call.cancel()
    fails(grpc.StatusCode.CANCELLED, lambda: next(call))
    turns.end()


def timeout_on_sleeping_server(stub):
    turns = Turns()
    turns.send(output(1, 27182, interval_us=2_000_000))
    call = stub.FullDuplexCall(turns, timeout=0.5)
    fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: list(call))
    turns.end()


CASES = [
    empty_unary,
    large_unary,
    client_streaming,
    server_streaming,
    ping_pong,
    empty_stream,
    custom_metadata,
    status_code_and_message,
    special_status_message,
    unimplemented_method,
    unimplemented_service,
    cancel_after_begin,
    cancel_after_first_response,
    timeout_on_sleeping_server,
]
COMPRESSED = [
    client_compressed_unary,
    server_compressed_unary,
    client_compressed_streaming,
    server_compressed_streaming,
]

address, compressed = sys.argv[1:]
with grpc.insecure_channel(address) as channel:
    stub = services.TestServiceStub(channel)
    stub.channel = channel
    for case in CASES + (COMPRESSED if compressed == "compressed" else []):
        case(stub)
        print(case.__name__, flush=True)
