"""Sends so many bytes, and gets as many back: `much.py http1|http2|tcp ADDRESS BYTES`."""

import socket
import sys
import threading

kind, address, total = sys.argv[1], sys.argv[2], int(sys.argv[3])
host, port = address.rsplit(":", 1)
BLOCK = bytes(256 * 1024)


def send(connection):
    left = total
    while left > 0:
        connection.sendall(BLOCK[: min(left, len(BLOCK))])
        left -= len(BLOCK)


def count(connection, left):
    while left > 0:
        got = len(connection.recv(min(left, len(BLOCK))))
        assert got, f"{left} bytes are missing"
        left -= got


def answer(connection):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert head.startswith(b"HTTP/1.1 200 "), head


if kind == "http2":
    import grpc

    messages, services = grpc.protos_and_services("interop.proto")
    size = len(BLOCK)
    with grpc.insecure_channel(address) as channel:
        stub = services.TestServiceStub(channel)
        payload = messages.Payload(body=BLOCK)
        requests = (messages.StreamingInputCallRequest(payload=payload) for _ in range(total // size))
        assert stub.StreamingInputCall(requests).aggregated_payload_size == total // size * size
        parameters = [messages.ResponseParameters(size=size)] * (total // size)
        request = messages.StreamingOutputCallRequest(response_parameters=parameters)
        got = sum(len(each.payload.body) for each in stub.StreamingOutputCall(request))
        assert got == total // size * size, got
else:
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        if kind == "http1":
            connection.sendall(b"POST /0 HTTP/1.1\r\nhost: much\r\ncontent-length: %d\r\n\r\n" % total)
            send(connection)
            answer(connection)
            connection.sendall(b"GET /%d HTTP/1.1\r\nhost: much\r\n\r\n" % total)
            answer(connection)
            count(connection, total)
        else:
            connection.sendall(b"%d\n" % total)
            sending = threading.Thread(target=send, args=(connection,))
            sending.start()
            count(connection, total)
            sending.join()
print("ok")
