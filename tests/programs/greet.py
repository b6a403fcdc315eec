"""A gRPC client without a word of the mesh: asks `greeter.py` everything."""

import sys
import threading

import grpc

address, expected_caller = sys.argv[1:]
channel = grpc.insecure_channel(address)
grpc.channel_ready_future(channel).result(timeout=10)


def name(method):
    return f"/test.Greeter/{method}"


unary = channel.unary_unary(name("Unary"))
metadata = (("asked", "politely"), ("asked-bin", b"\x01\x02"))
answer, call = unary.with_call(b"hello", metadata=metadata, timeout=10, wait_for_ready=True)
assert answer == b"hello politely \x01\x02 " + expected_caller.encode(), answer
first = dict(call.initial_metadata())
assert first["said-first"] == "hello" and first["raw-bin"] == b"\x00\xff", first
assert dict(call.trailing_metadata())["said-last"] == "bye"

try:
    unary(b"fail", metadata=metadata, timeout=10)
    raise AssertionError("it did not fail")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
    assert error.details() == "as asked: 100 % of it", error.details()

try:
    unary(b"sleep", metadata=metadata, timeout=0.5)
    raise AssertionError("it was not late")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error

numbers = list(channel.unary_stream(name("ServerStream"))(b"1000", timeout=10))
assert numbers == [str(number).encode() for number in range(1000)], len(numbers)

chunks = (b"x" * 10_000 for _ in range(200))
assert channel.stream_unary(name("ClientStream"))(chunks, timeout=10) == b"2000000"

# Each answer is waited for before the next question, so nothing may be held back on the way.
turn = threading.Semaphore(1)


def questions():
    for number in range(50):
        turn.acquire()
        yield f"<{number}>".encode()


answers = []
for answer in channel.stream_stream(name("Both"))(questions(), timeout=10):
    answers.append(answer)
    turn.release()
assert answers == [f"<{number}>".encode()[::-1] for number in range(50)], answers

try:
    channel.unary_unary("/test.Greeter/Nothing")(b"", timeout=10)
    raise AssertionError("there is such a method")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error

print("ok")
